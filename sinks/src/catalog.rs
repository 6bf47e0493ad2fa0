//! Makes and drops the tables of the user's streams, as the changes of the catalog say.
//!
//! A stream's table has the stream's name, its columns (all but the time nullable) and the hidden `_epoch`; the
//! stream's row in `streamgauge_streams` keeps its definition. Every step may be repeated.
//!
//! The tables of built-in streams have the same shape, are made by a migration, and are never touched here.
//!
//! # Invariants
//!
//! 1. Events of a stream are written only after the change that made it is flushed. So a table that a repeated change
//!    finds and drops, or makes anew, holds no event that counts.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use streamgauge_schemas::stream::{Catalog, CatalogChange, EPOCH_COLUMN, METRICS, Stream};
use streamgauge_schemas::{Epoch, StreamDefinition, StreamId};

use crate::client::EXECUTE_TIMEOUT;
use crate::sql::{sql_name, sql_text};
use crate::{ClickHouse, SinkError};

const TABLE: &str = "streamgauge_streams";
/// Beyond this a time-to-live would pass the end of ClickHouse's calendar (2106) and delete at once.
const RETENTION_SECS_MAX: i64 = 50 * 365 * 86_400;

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
    write_row(clickhouse, StreamId(epoch.0), epoch, definition, false).await
}

async fn drop_stream(clickhouse: &ClickHouse, epoch: Epoch, id: StreamId) -> Result<(), SinkError> {
    let rows = read_rows(clickhouse).await?;
    let Some(row) = rows.get(&id) else { return Ok(()) }; // it was made and dropped before anything was flushed
    let name = &row.stream.definition.name;
    if !is_built_in(name) {
        let sql = format!("DROP TABLE IF EXISTS {} SETTINGS max_table_size_to_drop = 0", clickhouse.table(name));
        clickhouse.change(name, &sql, EXECUTE_TIMEOUT).await?;
    }
    write_row(clickhouse, id, epoch, &row.stream.definition, true).await
}

/// Whether a table of that name belongs to a built-in stream, which was not made by a change and stays.
fn is_built_in(name: &str) -> bool {
    name == METRICS || Catalog::default().by_name(name).is_some()
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

async fn write_row(
    clickhouse: &ClickHouse,
    id: StreamId,
    version: Epoch,
    definition: &StreamDefinition,
    dropped: bool,
) -> Result<(), SinkError> {
    let json = serde_json::to_string(definition).map_err(|e| SinkError::data("writing a stream's definition", e))?;
    let (table, name, json) = (clickhouse.table(TABLE), sql_text(&definition.name), sql_text(&json));
    let sql = format!(
        "INSERT INTO {table} (id, name, definition, version, dropped) VALUES ({}, {name}, {json}, {version}, {dropped})",
        id.0
    );
    clickhouse.change(TABLE, &sql, EXECUTE_TIMEOUT).await
}

/// A stream as ClickHouse knows it.
struct StoredStream {
    stream: Arc<Stream>,
    version: Epoch,
    dropped: bool,
}

async fn read_rows(clickhouse: &ClickHouse) -> Result<HashMap<StreamId, StoredStream>, SinkError> {
    let table = clickhouse.table(TABLE);
    let sql = format!("SELECT id, definition, version, toUInt64(dropped) AS dropped FROM {table} FINAL");
    let mut rows = HashMap::new();
    for batch in clickhouse.query_batches(&sql).await? {
        let wrong = || SinkError::data(&sql, "a column of another type");
        let number = |at: usize| batch.column(at).as_primitive_opt::<UInt64Type>().ok_or_else(wrong);
        let definitions = batch.column(1).as_string_opt::<i32>().ok_or_else(wrong)?;
        let (ids, versions, dropped) = (number(0)?, number(2)?, number(3)?);
        for at in 0..batch.num_rows() {
            let definition = serde_json::from_str(definitions.value(at)).map_err(|e| SinkError::data(&sql, e))?;
            let stream = Arc::new(Stream { id: StreamId(ids.value(at)), definition });
            let stored = StoredStream { version: Epoch(versions.value(at)), dropped: dropped.value(at) == 1, stream };
            rows.insert(stored.stream.id, stored);
        }
    }
    Ok(rows)
}

/// The catalog as of `flushed`: what a change after that did is left out, since the log will say it again.
///
/// # Errors
/// Any error of the query; [`SinkError::Data`] for a definition that cannot be read.
pub async fn read_catalog(clickhouse: &ClickHouse, flushed: Epoch) -> Result<Catalog, SinkError> {
    let rows = read_rows(clickhouse).await?;
    let stood = |row: &StoredStream| row.stream.id.0 <= flushed.0 && (!row.dropped || row.version > flushed);
    let mut own: Vec<Arc<Stream>> = rows.into_values().filter(stood).map(|row| row.stream).collect();
    own.sort_by_key(|stream| stream.id);
    Ok(Catalog::new(flushed, own))
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
