//! Recovery: what is done once at start, before anything is read or written.
//!
//! ```text
//!   end writes that still run ─▶ read F of every item ─▶ streams: delete rows with _epoch > F ─▶ views: load version > H
//!                                                                                             ─▶ requests: load the window
//! ```
//!
//! # Failure
//!
//! A crash between the insert of events and its commit leaves rows above the flushed epoch `F`. The log still has them
//! and will flush them again, under other tokens, so they are deleted here. A write of the former process that the
//! server still works on would come after the deletion, so it is ended first. States need no repair: the same rows are
//! written again, or newer ones. Recovery itself may be cut off anywhere and repeated.
//!
//! A view of the catalog whose tables are gone was dropped by a change that is not flushed yet. It is loaded without rows;
//! the log will say that change again.
//!
//! What is [set aside](crate::aside) counts as flushed, so states and requests among it are loaded like the others.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use streamgauge_schemas::stream::{Catalog, EPOCH_COLUMN, METRICS};
use streamgauge_schemas::view::Failed;
use streamgauge_schemas::{Epoch, EventTime, Key, Rows, SeriesId, StreamId, View, ViewId};

use crate::catalog::read_stored;
use crate::flushed::read_flushed;
use crate::flusher::{CATALOG_ITEM, stream_item, view_item};
use crate::repair::{delete_rows, end_writes, table_exists};
use crate::requests::{RecoveredRequest, RecoveredSequence, RequestWindow, read_requests};
use crate::states::{newest_bucket, read_states_and, recent_horizon};
use crate::{Aside, ClickHouse, SinkError, backfill};

/// What ClickHouse holds that memory must know to go on from the log.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The flushed epoch `F` of each item that has one.
    pub flushed: HashMap<String, Epoch>,
    /// Of the items of views and of their back-fills: the events up to `F` that the view could not be computed of.
    pub failed: HashMap<String, Failed>,
    /// The streams and views as of the flushed epoch of the catalog, built-in ones first.
    pub catalog: Catalog,
    /// The views of the catalog, in its order.
    pub views: Vec<RecoveredView>,
    /// The requests of the window, as of the flushed epoch of their stream, in order of epoch.
    pub requests: Vec<RecoveredRequest>,
    /// Of each producer, what is known of its requests that are not in the window.
    pub sequences: Vec<RecoveredSequence>,
}

/// What memory takes of a view, and what it leaves to ClickHouse.
#[derive(Debug)]
pub struct RecoveredView {
    /// The view.
    pub id: ViewId,
    /// Its rows above the horizon.
    pub rows: Rows,
    /// Their dimensions.
    pub keys: HashMap<SeriesId, Key>,
    /// Memory has no row at or below it.
    pub horizon: Epoch,
    /// No row at or below the horizon has a newer bucket; `None` when there is none at all.
    pub newest: Option<EventTime>,
}

impl Recovered {
    /// The flushed epoch of an item; zero if it has none.
    #[must_use]
    pub fn flushed(&self, item: &str) -> Epoch {
        self.flushed.get(item).copied().unwrap_or_default()
    }

    /// The flushed epoch of a view; its creation if it has none, since nothing before that is its flow's to count.
    #[must_use]
    pub fn view_flushed(&self, view: &View) -> Epoch {
        self.flushed(&view_item(view)).max(view.id.created())
    }
}

/// Repairs what a crash left half-done and loads what memory must hold. The schema must be migrated.
///
/// Of final rows of views, which memory need not hold, the most recent are loaded too, up to about `recent_rows_max`.
///
/// # Errors
/// Any error of a statement; then nothing is lost, and it may be called again.
pub async fn recover(
    clickhouse: &ClickHouse,
    window: RequestWindow,
    recent_rows_max: usize,
    aside: &Arc<Aside>,
) -> Result<Recovered, SinkError> {
    end_writes(clickhouse, None).await?;
    let mut recovered = Recovered::default();
    for (item, commit) in read_flushed(clickhouse).await? {
        recovered.failed.extend((commit.failed.events > 0).then(|| (item.clone(), commit.failed)));
        recovered.flushed.insert(item, commit.epoch);
    }
    let stored = read_stored(clickhouse, recovered.flushed(CATALOG_ITEM)).await?;
    recovered.catalog = stored.catalog;
    let streams = recovered.catalog.streams.iter().map(|stream| (stream.id, stream.definition.name.as_str()));
    for (id, name) in std::iter::once((StreamId::METRICS, METRICS)).chain(streams) {
        repair_stream(clickhouse, name, recovered.flushed(&stream_item(id))).await?;
    }
    let recent_rows_max = recent_rows_max / recovered.catalog.views.len().max(1);
    for view in recovered.catalog.views.clone() {
        let flushed = recovered.view_flushed(&view);
        let is_there = !stored.gone.contains(&view.id) // its name may be another's by now
            && table_exists(clickhouse, &view.states_table()).await?; // dropped by a change that the log will say again
        recovered.views.push(match is_there {
            true => {
                let is_filled = view.is_filled(recovered.flushed(&backfill::item(&view)));
                load_view(clickhouse, &view, (flushed, is_filled), recent_rows_max, aside).await?
            }
            false => RecoveredView::empty(&view, flushed),
        });
    }
    let (item, flushed) = (stream_item(StreamId::REQUESTS), recovered.flushed(&stream_item(StreamId::REQUESTS)));
    let aside = read_aside(aside, item, flushed).await?;
    let read = read_requests(clickhouse, flushed, &window, &aside).await?;
    tracing::info!(requests = read.requests.len(), producers = read.sequences.len(), "loaded requests from ClickHouse");
    (recovered.requests, recovered.sequences) = (read.requests, read.sequences);
    Ok(recovered)
}

impl RecoveredView {
    fn empty(view: &View, flushed: Epoch) -> Self {
        let (rows, keys, horizon) = (Rows::default(), HashMap::new(), view.horizon(flushed));
        RecoveredView { id: view.id, rows, keys, horizon, newest: Some(EventTime(i64::MAX)) }
    }
}

/// Loads the rows of a view above its horizon, and of the final ones below as many as there is room for.
async fn load_view(
    clickhouse: &ClickHouse,
    view: &View,
    (flushed, is_filled): (Epoch, bool),
    recent_rows_max: usize,
    aside: &Arc<Aside>,
) -> Result<RecoveredView, SinkError> {
    let horizon = match recent_rows_max {
        0 => view.horizon(flushed),
        rows_max => recent_horizon(clickhouse, view, flushed, rows_max).await?,
    };
    let aside = read_aside(aside, view_item(view), flushed).await?;
    // What is set aside may come to ClickHouse at any time; so may what a back-fill makes.
    let newest = match aside.is_empty() && is_filled {
        true => newest_bucket(clickhouse, view, horizon).await?,
        false => Some(EventTime(i64::MAX)),
    };
    let (rows, keys) = read_states_and(clickhouse, view, horizon, &aside).await?;
    tracing::info!(view = view.definition.name, rows = rows.len(), %horizon, "loaded rows from ClickHouse");
    Ok(RecoveredView { id: view.id, rows, keys, horizon, newest })
}

/// The rows of an item that are set aside, as far as that was committed.
async fn read_aside(aside: &Arc<Aside>, item: String, flushed: Epoch) -> Result<Vec<RecordBatch>, SinkError> {
    let aside = aside.clone();
    let read = move || {
        let mut batches = Vec::new();
        for file in aside.files().iter().filter(|file| file.item == item && file.upto <= flushed) {
            batches.extend(aside.read(file)?);
        }
        Ok(batches)
    };
    tokio::task::spawn_blocking(read).await.map_err(|e| SinkError::data("reading rows set aside", e))?
}

/// Deletes the rows of a stream's table above its flushed epoch, if there are any.
async fn repair_stream(clickhouse: &ClickHouse, name: &str, flushed: Epoch) -> Result<(), SinkError> {
    if !table_exists(clickhouse, name).await? {
        return Ok(()); // dropped by a change whose flush was cut off; the log will say it again
    }
    SinkError::fault("recovery.repair")?;
    let rows = delete_rows(clickhouse, name, &format!("{EPOCH_COLUMN} > {flushed}")).await?;
    if rows > 0 {
        tracing::warn!(stream = name, rows, %flushed, "deleted events of a flush that was cut off");
    }
    SinkError::fault("recovery.repaired")
}
