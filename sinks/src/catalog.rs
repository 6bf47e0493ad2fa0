//! Makes and drops the tables of the user's streams and views, as the changes of the catalog say.
//!
//! A stream's table has the stream's name, its columns (all but the time nullable) and the hidden `_epoch`; the
//! stream's row in `streamgauge_streams` keeps its definition. A view has a table of states and a finished view
//! (`view_table`), and a row in `streamgauge_views`. Every step may be repeated.
//!
//! The tables of built-in streams and views have the same shape, are made by a migration, and are never touched here.
//!
//! # Invariants
//!
//! 1. Events of a stream, and rows of a view, are written only after the change that made it is flushed. So a table that
//!    a repeated change finds and drops, or makes anew, holds no event or row that counts.
//! 2. A thing is marked as dropped after its tables are gone, and before those of another of the same name are made. So
//!    one that is marked by a change which is not flushed yet has no table any more, whatever has its name.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use streamgauge_schemas::stream::{Catalog, CatalogChange, EPOCH_COLUMN, METRICS, Stream};
use streamgauge_schemas::{Epoch, StreamDefinition, StreamId, View, ViewDefinition, ViewId};

use crate::client::EXECUTE_TIMEOUT;
use crate::sql::{sql_name, sql_text};
use crate::view_table::{create_finished, create_states};
use crate::{ClickHouse, SinkError};

const STREAMS: &str = "streamgauge_streams";
const VIEWS: &str = "streamgauge_views";
/// Beyond this a time-to-live would pass the end of ClickHouse's calendar (2106) and delete at once.
pub(crate) const RETENTION_SECS_MAX: i64 = 50 * 365 * 86_400;

/// Applies changes in order.
///
/// # Errors
/// Any error of a statement, after which the changes may be applied again from the first.
pub async fn apply_changes(clickhouse: &ClickHouse, changes: &[(Epoch, CatalogChange)]) -> Result<(), SinkError> {
    for (epoch, change) in changes {
        SinkError::fault("catalog.apply")?;
        match change {
            CatalogChange::CreateStream(definition) => create_stream(clickhouse, *epoch, definition).await?,
            CatalogChange::DropStream(id) => drop_stream(clickhouse, *epoch, *id).await?,
            CatalogChange::CreateView { definition, replaces } => {
                if let Some(old) = replaces {
                    drop_view(clickhouse, *epoch, *old).await?;
                }
                create_view(clickhouse, *epoch, definition).await?;
            }
            CatalogChange::DropView(id) => drop_view(clickhouse, *epoch, *id).await?,
        }
        SinkError::fault("catalog.applied")?;
    }
    Ok(())
}

async fn create_stream(clickhouse: &ClickHouse, epoch: Epoch, definition: &StreamDefinition) -> Result<(), SinkError> {
    if is_built_in(&definition.name) {
        return Ok(()); // the catalog did not take it either
    }
    let sql = create_table(&clickhouse.table(&definition.name), definition);
    clickhouse.change(&definition.name, &sql, EXECUTE_TIMEOUT).await?;
    let json = serde_json::to_string(definition).map_err(|e| SinkError::data("writing a stream's definition", e))?;
    write_row(clickhouse, STREAMS, epoch.0, &StoredRow::new(&definition.name, json, epoch)).await
}

async fn drop_stream(clickhouse: &ClickHouse, epoch: Epoch, id: StreamId) -> Result<(), SinkError> {
    let Some(row) = read_for_drop(clickhouse, STREAMS, epoch, id.0).await? else { return Ok(()) };
    drop_table(clickhouse, &row.name).await?;
    write_row(clickhouse, STREAMS, id.0, &row).await
}

async fn create_view(clickhouse: &ClickHouse, epoch: Epoch, definition: &ViewDefinition) -> Result<(), SinkError> {
    if is_built_in(&definition.name) {
        return Ok(()); // as of a stream
    }
    let view = View { id: ViewId(epoch.0), definition: definition.clone() };
    let (name, states) = (&definition.name, view.states_table());
    let sql = create_states(&clickhouse.table(&states), &view);
    clickhouse.change(&states, &sql, EXECUTE_TIMEOUT).await?;
    if let Some(sql) = create_finished(&clickhouse.table(name), &clickhouse.table(&states), &view) {
        clickhouse.change(name, &sql, EXECUTE_TIMEOUT).await?;
    }
    let json = serde_json::to_string(definition).map_err(|e| SinkError::data("writing a view's definition", e))?;
    write_row(clickhouse, VIEWS, epoch.0, &StoredRow::new(name, json, epoch)).await
}

async fn drop_view(clickhouse: &ClickHouse, epoch: Epoch, id: ViewId) -> Result<(), SinkError> {
    let Some(row) = read_for_drop(clickhouse, VIEWS, epoch, id.0).await? else { return Ok(()) };
    let sql = format!("DROP VIEW IF EXISTS {}", clickhouse.table(&row.name));
    clickhouse.change(&row.name, &sql, EXECUTE_TIMEOUT).await?;
    drop_table(clickhouse, &format!("{}_states", row.name)).await?;
    write_row(clickhouse, VIEWS, id.0, &row).await // invariant 2
}

async fn drop_table(clickhouse: &ClickHouse, name: &str) -> Result<(), SinkError> {
    let sql = format!("DROP TABLE IF EXISTS {} SETTINGS max_table_size_to_drop = 0", clickhouse.table(name));
    clickhouse.change(name, &sql, EXECUTE_TIMEOUT).await
}

/// Whether a table of that name belongs to a built-in stream or view, which was not made by a change and stays.
fn is_built_in(name: &str) -> bool {
    let built_in = Catalog::default();
    name == METRICS || built_in.by_name(name).is_some() || built_in.view_by_name(name).is_some()
}

/// The statement that makes the table of a stream.
fn create_table(table: &str, definition: &StreamDefinition) -> String {
    let column = |column: &streamgauge_schemas::Column| {
        let kind = column.kind.clickhouse();
        let kind = if column.name == definition.time_column { kind.to_owned() } else { format!("Nullable({kind})") };
        format!("    {} {kind},\n", sql_name(&column.name))
    };
    let columns: String = definition.columns.iter().map(column).collect();
    let order: Vec<String> = definition.order_by.iter().map(|name| sql_name(name)).collect();
    let epoch = sql_name(EPOCH_COLUMN);
    let retention = definition.retention().as_secs().clamp(1, RETENTION_SECS_MAX);
    format!(
        "CREATE TABLE IF NOT EXISTS {table}\n(\n{columns}    {epoch} UInt64 CODEC(Delta(8), LZ4),\n    \
         INDEX epoch_range {epoch} TYPE minmax GRANULARITY 1\n)\nENGINE = MergeTree\n\
         PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(toInt64({epoch}), 'UTC'))\nORDER BY ({order})\n\
         TTL toDateTime(intDiv({epoch}, 1000000), 'UTC') + INTERVAL {retention} SECOND\n\
         SETTINGS allow_nullable_key = 1, non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1, \
         vertical_merge_algorithm_min_columns_to_activate = 1, vertical_merge_algorithm_min_rows_to_activate = 1, \
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1",
        order = order.join(", "),
    )
}

/// A row of `streamgauge_streams` or `streamgauge_views`.
struct StoredRow {
    name: String,
    definition: String,
    version: Epoch,
    dropped: bool,
}

impl StoredRow {
    fn new(name: &str, definition: String, version: Epoch) -> Self {
        StoredRow { name: name.to_owned(), definition, version, dropped: false }
    }

    /// Whether what an identity names stood at `flushed`: a change after that will be said again by the log.
    fn stood(&self, id: u64, flushed: Epoch) -> bool {
        id <= flushed.0 && (!self.dropped || self.version > flushed)
    }
}

async fn write_row(clickhouse: &ClickHouse, table: &str, id: u64, row: &StoredRow) -> Result<(), SinkError> {
    let sql = format!(
        "INSERT INTO {} (id, name, definition, version, dropped) VALUES ({id}, {}, {}, {}, {})",
        clickhouse.table(table),
        sql_text(&row.name),
        sql_text(&row.definition),
        row.version,
        row.dropped,
    );
    clickhouse.change(table, &sql, EXECUTE_TIMEOUT).await
}

async fn read_rows(clickhouse: &ClickHouse, table: &str) -> Result<HashMap<u64, StoredRow>, SinkError> {
    let table = clickhouse.table(table);
    let sql = format!("SELECT id, name, definition, version, toUInt64(dropped) AS dropped FROM {table} FINAL");
    let mut rows = HashMap::new();
    for batch in clickhouse.query_batches(&sql).await? {
        let wrong = || SinkError::data(&sql, "a column of another type");
        let number = |at: usize| batch.column(at).as_primitive_opt::<UInt64Type>().ok_or_else(wrong);
        let text = |at: usize| batch.column(at).as_string_opt::<i32>().ok_or_else(wrong);
        let (ids, names, definitions, versions, dropped) = (number(0)?, text(1)?, text(2)?, number(3)?, number(4)?);
        for at in 0..batch.num_rows() {
            let row = StoredRow::new(names.value(at), definitions.value(at).to_owned(), Epoch(versions.value(at)));
            rows.insert(ids.value(at), StoredRow { dropped: dropped.value(at) == 1, ..row });
        }
    }
    Ok(rows)
}

/// The row to be written when what `id` names is dropped at `epoch`; `None` when it has no table: it is built in, was
/// made and dropped before anything was flushed, or was dropped before `epoch`, so that its name may be another's.
async fn read_for_drop(
    clickhouse: &ClickHouse,
    table: &str,
    epoch: Epoch,
    id: u64,
) -> Result<Option<StoredRow>, SinkError> {
    let row = read_rows(clickhouse, table).await?.remove(&id);
    let row = row.filter(|row| !(is_built_in(&row.name) || row.dropped && row.version < epoch));
    Ok(row.map(|row| StoredRow { version: epoch, dropped: true, ..row }))
}

/// What ClickHouse knows of the catalog.
pub(crate) struct StoredCatalog {
    /// The catalog as of the flushed epoch.
    pub(crate) catalog: Catalog,
    /// The views of it that a change after that has dropped already (invariant 2).
    pub(crate) gone: HashSet<ViewId>,
}

/// The catalog as of `flushed`: what a change after that did is left out, since the log will say it again.
///
/// # Errors
/// Any error of the query; [`SinkError::Data`] for a definition that cannot be read.
pub async fn read_catalog(clickhouse: &ClickHouse, flushed: Epoch) -> Result<Catalog, SinkError> {
    Ok(read_stored(clickhouse, flushed).await?.catalog)
}

/// The catalog as [`read_catalog`] reads it, and what of it has no tables any more.
pub(crate) async fn read_stored(clickhouse: &ClickHouse, flushed: Epoch) -> Result<StoredCatalog, SinkError> {
    let wrong = |row: &StoredRow, e| SinkError::data(&format!("reading the definition of {}", row.name), e);
    let (mut streams, mut views, mut gone) = (Vec::new(), Vec::new(), HashSet::new());
    for (id, row) in read_rows(clickhouse, STREAMS).await?.iter().filter(|(id, row)| row.stood(**id, flushed)) {
        let definition = serde_json::from_str(&row.definition).map_err(|e| wrong(row, e))?;
        streams.push(Arc::new(Stream { id: StreamId(*id), definition }));
    }
    for (id, row) in read_rows(clickhouse, VIEWS).await?.iter().filter(|(id, row)| row.stood(**id, flushed)) {
        let definition = serde_json::from_str(&row.definition).map_err(|e| wrong(row, e))?;
        views.push(Arc::new(View { id: ViewId(*id), definition }));
        gone.extend(row.dropped.then_some(ViewId(*id)));
    }
    streams.sort_by_key(|stream| stream.id);
    views.sort_by_key(|view| view.id);
    Ok(StoredCatalog { catalog: Catalog::new(flushed, streams, views), gone })
}

#[cfg(test)]
mod tests {
    use streamgauge_schemas::ddl::MIGRATIONS;

    use super::*;

    /// A statement without quotes of names, and with one space wherever there is any.
    fn plain(statement: &str) -> String {
        statement.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_migration_makes_the_tables_of_built_in_streams_as_their_definitions_say() {
        let migrated: Vec<String> = MIGRATIONS[1].statements("d").iter().map(|statement| plain(statement)).collect();
        let built_in = Catalog::default().streams;
        let defined: Vec<String> = (built_in.iter())
            .map(|stream| plain(&create_table(&format!("d.{}", stream.definition.name), &stream.definition)))
            .collect();
        assert_eq!(migrated, defined);
    }
}
