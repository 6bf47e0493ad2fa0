//! Restart: what ClickHouse had, then the log from there.
//!
//! # Invariants
//!
//! 1. Each item (view, stream, catalogue) has its own flushed epoch `F`; an event is applied to an item only above it.
//! 2. What the log has given away was confirmed; so the newest `F` lies at or above the last epoch that was removed.
//!    (The `F` of an item that had no event for long may lie below: it moved on in memory only.)
//! 3. New epochs begin above everything that was ever given out: above the log's last and above every `F`.

use std::collections::HashMap;
use std::sync::Arc;

use streamgauge_schemas::stream::Catalog;
use streamgauge_schemas::{Epoch, EventBatch, EventTime, Key, Rows, Series, SeriesId, StreamId, View, ViewId};

use crate::error::EngineError;
use crate::log::{Log, Record, Request, Submission};
use crate::program::Failed;
use crate::registry::SeriesRegistry;
use crate::requests::{ForgottenSequence, KnownRequest};
use crate::sequencer::{Sequencer, ViewAtStart};
use crate::tail::Tail;
use crate::workers::Command;

/// What ClickHouse had when the program started.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// `F` of each view; that of its creation when missing.
    pub views_flushed: HashMap<ViewId, Epoch>,
    /// Per view, the events up to `F` that it could not be computed of,
    pub views_failed: HashMap<ViewId, Failed>,
    /// and those of its back-fill.
    pub backfills_failed: HashMap<ViewId, Failed>,
    /// Per view, its rows with a version above the horizon, and their dimension values.
    pub rows: HashMap<ViewId, (Rows, HashMap<SeriesId, Key>)>,
    /// Per view, what memory has not; anything up to the horizon of `F` when missing.
    pub history: HashMap<ViewId, ViewHistory>,
    /// Series that history knows of,
    pub series: Vec<Arc<Series>>,
    /// and whether these are all.
    pub series_are_all: bool,
    /// `F` of each stream; 0 when missing.
    pub streams_flushed: HashMap<StreamId, Epoch>,
    /// The streams and views, as of the catalogue's own `F`.
    pub catalog: Catalog,
    /// `F` of the catalogue.
    pub catalog_flushed: Epoch,
    /// The requests of the window up to `F` of the stream `requests`, oldest first.
    pub requests: Vec<KnownRequest>,
    /// Per producer the largest sequence number of older requests.
    pub sequences: Vec<ForgottenSequence>,
}

/// What only ClickHouse has of a view when its flow begins.
#[derive(Clone, Copy, Debug)]
pub struct ViewHistory {
    /// Memory has all rows with a version above it, and ClickHouse all others.
    pub horizon: Epoch,
    /// No row of these others has a newer bucket; `None` when there are none.
    pub newest: Option<EventTime>,
}

impl ViewHistory {
    /// Any rows up to a horizon.
    #[must_use]
    pub fn unknown(horizon: Epoch) -> Self {
        ViewHistory { horizon, newest: Some(EventTime(i64::MAX)) }
    }

    /// What there is of a view when it is made: what its back-fill will bring.
    pub(crate) fn of_new(view: &View) -> Self {
        let history = ViewHistory::unknown(view.id.created());
        if view.definition.options.backfill { history } else { ViewHistory { newest: None, ..history } }
    }
}

/// Brings the engine to where it was; returns the epoch above which new ones begin.
pub(crate) fn replay(
    log: &Log,
    recovered: Recovered,
    built_in_views: bool,
    sequencer: &Sequencer,
    registry: &SeriesRegistry,
) -> Result<Epoch, EngineError> {
    let newest = newest(&recovered); // also of streams that are no more
    if newest < log.truncated_epoch() {
        return Err(EngineError::HistoryLost { truncated: log.truncated_epoch(), flushed: newest }); // invariant 2
    }
    let Recovered { views_flushed, mut rows, series, streams_flushed, mut catalog, catalog_flushed, .. } = recovered;
    let mut history = recovered.history;
    let (mut views_failed, mut backfills_failed) = (recovered.views_failed, recovered.backfills_failed);
    recovered.sequences.iter().for_each(|forgotten| sequencer.requests.restore_forgotten(forgotten));
    recovered.requests.into_iter().for_each(|known| sequencer.requests.restore(known));
    series.into_iter().for_each(|series| registry.restore(series));
    if recovered.series_are_all {
        registry.restored_all();
    }
    catalog.epoch = catalog.epoch.max(catalog_flushed);
    let from = sequencer.with(|ordered| {
        let catalog = Arc::new(catalog);
        ordered.catalog = catalog.clone();
        for view in catalog.views.iter().filter(|view| built_in_views || !view.id.is_built_in()) {
            let flushed = views_flushed.get(&view.id).copied().unwrap_or_default();
            let (rows, keys) = rows.remove(&view.id).unwrap_or_default();
            let failed = views_failed.remove(&view.id).unwrap_or_default();
            let failed_before = backfills_failed.remove(&view.id).unwrap_or_default();
            let unknown = || ViewHistory::unknown(view.horizon(flushed.max(view.id.created())));
            let history = Some(history.remove(&view.id).unwrap_or_else(unknown));
            sequencer.add_view(ordered, view, ViewAtStart { flushed, rows, keys, failed, failed_before, history });
        }
        let ids = catalog.streams.iter().map(|stream| stream.id).chain([StreamId::METRICS]);
        let flushed = |id: StreamId| streams_flushed.get(&id).copied().unwrap_or_default();
        ordered.tails = ids.map(|id| (id, Tail::new(flushed(id)))).collect();
        ordered.catalog_flushed = catalog_flushed;
        ordered.streams_flushed_at_start = streams_flushed;
        ordered.flushed_everywhere()
    });
    let mut group: Vec<Submission> = Vec::new();
    let mut at = Epoch::ZERO;
    for record in log.read_after(from) {
        let record = record?;
        if record.epoch != at && !group.is_empty() {
            sequencer.add(at, std::mem::take(&mut group));
        }
        at = record.epoch;
        group.push(decode(&record, registry)?);
    }
    if !group.is_empty() {
        sequencer.add(at, group);
    }
    let floor = sequencer.with(|ordered| {
        let views = ordered.views.values().map(|view| view.flushed);
        let flushed = ordered.tails.values().map(Tail::flushed).chain(views);
        let floor =
            flushed.chain([ordered.catalog_flushed, ordered.last, log.last_epoch(), newest]).max().unwrap_or_default();
        ordered.last = floor;
        ordered.broadcast(&Command::Advance { epoch: floor });
        floor
    });
    Ok(floor) // invariant 3
}

/// The newest `F` of any item.
fn newest(recovered: &Recovered) -> Epoch {
    let items = recovered.views_flushed.values().chain(recovered.streams_flushed.values());
    items.copied().chain([recovered.catalog_flushed]).max().unwrap_or_default()
}

fn decode(record: &Record, registry: &SeriesRegistry) -> Result<Submission, EngineError> {
    let submission = Submission::decode(record)?;
    if let Submission::Events(Request { batches, .. }) = &submission {
        let metrics = batches.iter().filter_map(|batch| match batch {
            EventBatch::Metrics(batch) => Some(batch),
            EventBatch::Table(_) => None,
        });
        metrics.flat_map(|batch| &batch.series).for_each(|entry| registry.restore(entry.series.clone()));
    }
    Ok(submission)
}
