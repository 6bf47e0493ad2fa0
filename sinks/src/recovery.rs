//! Recovery: what is done once at start, before anything is read or written.
//!
//! ```text
//!   end inserts that still run ─▶ read F of every item ─▶ streams: delete rows with _epoch > F ─▶ views: load version > H
//! ```
//!
//! # Failure
//!
//! A crash between the insert of events and its commit leaves rows above the flushed epoch `F`. The log still has them
//! and will flush them again, under other tokens, so they are deleted here. An insert of the former process that the
//! server still works on would come after the deletion, so it is ended first. States need no repair: the same rows are
//! written again, or newer ones. Recovery itself may be cut off anywhere and repeated.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use streamgauge_schemas::stream::{Catalog, EPOCH_COLUMN, METRICS};
use streamgauge_schemas::{Epoch, Rows, Series, SeriesId, StreamId, ViewDefinition};

use crate::catalog::read_catalog;
use crate::flushed::read_flushed;
use crate::flusher::{CATALOG_ITEM, stream_item, view_item};
use crate::sql::{sql_name, sql_text};
use crate::states::read_states;
use crate::{ClickHouse, SinkError};

/// A deletion rewrites the parts that hold the rows, at most a flush's worth; a slow disk may take its time.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(600);

/// What ClickHouse holds that memory must know to go on from the log.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The flushed epoch `F` of each item that has one.
    pub flushed: HashMap<String, Epoch>,
    /// The streams as of the flushed epoch of the catalog, built-in ones first.
    pub catalog: Catalog,
    /// Per view, in the order asked: its name, its rows with `version > F − K`, and their series.
    pub rows: Vec<(String, Rows, HashMap<SeriesId, Arc<Series>>)>,
}

impl Recovered {
    /// The flushed epoch of an item; zero if it has none.
    #[must_use]
    pub fn flushed(&self, item: &str) -> Epoch {
        self.flushed.get(item).copied().unwrap_or_default()
    }
}

/// Repairs what a crash left half-done and loads what memory must hold. The schema must be migrated.
///
/// # Errors
/// Any error of a statement; then nothing is lost, and it may be called again.
pub async fn recover(clickhouse: &ClickHouse, views: &[ViewDefinition]) -> Result<Recovered, SinkError> {
    end_inserts(clickhouse).await?;
    let mut recovered = Recovered { flushed: read_flushed(clickhouse).await?, ..Recovered::default() };
    recovered.catalog = read_catalog(clickhouse, recovered.flushed(CATALOG_ITEM)).await?;
    let streams = recovered.catalog.streams.iter().map(|stream| (stream.id, stream.definition.name.as_str()));
    for (id, name) in std::iter::once((StreamId::METRICS, METRICS)).chain(streams) {
        repair_stream(clickhouse, name, recovered.flushed(&stream_item(id))).await?;
    }
    for view in views {
        let horizon = view.horizon(recovered.flushed(&view_item(view)));
        let (rows, series) = read_states(clickhouse, view, horizon).await?;
        tracing::info!(view = view.name, rows = rows.len(), %horizon, "loaded rows from ClickHouse");
        recovered.rows.push((view.name.clone(), rows, series));
    }
    Ok(recovered)
}

/// Ends inserts into this database that a former process began; waits until they are gone.
async fn end_inserts(clickhouse: &ClickHouse) -> Result<(), SinkError> {
    let prefix = sql_text(&clickhouse.insert_id_prefix());
    let ours = format!("user = currentUser() AND startsWith(query_id, {prefix})");
    let sql = format!("SELECT count() AS inserts FROM system.processes WHERE {ours}");
    if count(clickhouse, &sql).await? > 0 {
        tracing::warn!("ending inserts that a former process left behind");
        clickhouse.execute(&format!("KILL QUERY WHERE {ours} SYNC")).await?;
    }
    Ok(())
}

/// Deletes the rows of a stream's table above its flushed epoch, if there are any.
async fn repair_stream(clickhouse: &ClickHouse, name: &str, flushed: Epoch) -> Result<(), SinkError> {
    let (database, table) = (sql_text(clickhouse.database()), sql_text(name));
    let there = format!("SELECT count() AS tables FROM system.tables WHERE database = {database} AND name = {table}");
    if count(clickhouse, &there).await? == 0 {
        return Ok(()); // dropped by a change whose flush was cut off; the log will say it again
    }
    let (table, epoch) = (clickhouse.table(name), sql_name(EPOCH_COLUMN));
    let above = format!("{epoch} > {flushed}");
    let rows = count(clickhouse, &format!("SELECT count() AS events FROM {table} WHERE {above}")).await?;
    if rows > 0 {
        tracing::warn!(stream = name, rows, %flushed, "deleting events of a flush that was cut off");
        let sql =
            format!("DELETE FROM {table} WHERE {above} SETTINGS lightweight_deletes_sync = 2, mutations_sync = 2");
        clickhouse.execute_within(&sql, REPAIR_TIMEOUT).await?;
    }
    Ok(())
}

async fn count(clickhouse: &ClickHouse, sql: &str) -> Result<u64, SinkError> {
    let batches = clickhouse.query_batches(sql).await?;
    let first = batches.iter().find(|batch| batch.num_rows() == 1);
    let column = first.and_then(|batch| batch.column(0).as_primitive_opt::<UInt64Type>());
    column.map(|column| column.value(0)).ok_or_else(|| SinkError::data(sql, "no count"))
}
