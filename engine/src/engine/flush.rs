//! What a flush reads of the engine, and what it tells it afterwards.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use futures_channel::mpsc;
use streamgauge_schemas::{Epoch, EventTime, Rows, StreamId, ViewId};

use super::{CatalogFlush, Engine, Flushed, ViewFlush};
use crate::error::EngineError;
use crate::program::Failed;
use crate::tail::StreamFlush;
use crate::workers::{Command, Part};

impl Engine {
    /// Begins a flush of a view; `None` when nothing changed, and then its flushed epoch has moved on by itself. An event that
    /// the view could not be computed of is a change too.
    ///
    /// One flush of an item at a time.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] while the engine stops.
    pub async fn begin_view_flush(&self, view: ViewId) -> Result<Option<ViewFlush>, EngineError> {
        let (reply, parts) = mpsc::unbounded();
        let upto = self.inner.sequencer.with(|ordered| {
            ordered.check_view(view)?;
            ordered.broadcast(&Command::Flush { view, reply });
            Ok::<_, EngineError>(ordered.last)
        })?;
        let (mut rows, mut keys, mut later) = (Rows::default(), HashMap::new(), Failed::default());
        for mut part in self.gather::<Part>(parts).await? {
            rows.append(&mut part.rows);
            keys.extend(part.keys);
            later.add(&part.failed);
        }
        let begun = self.inner.sequencer.with(|ordered| {
            let known = ordered.views.get_mut(&view)?;
            let mut failed = known.failed_at_start.clone();
            failed.add(&later);
            known.failed_begun = failed.clone();
            Some((failed.events == known.failed_flushed.events, failed))
        });
        let (same, failed) = begun.unwrap_or_default(); // it was dropped meanwhile
        if rows.is_empty() && same {
            self.confirm_view_flush(view, upto);
            return Ok(None);
        }
        Ok(Some(ViewFlush { upto, rows, keys, failed }))
    }

    /// ClickHouse has the view up to `upto`.
    pub fn confirm_view_flush(&self, view: ViewId, upto: Epoch) {
        self.inner.sequencer.with(|ordered| {
            let Some(definition) = ordered.catalog.view_by_id(view).cloned() else { return };
            let all = ordered.views.values().map(|view| view.counters.bytes.load(Ordering::Relaxed)).collect();
            let Some(known) = ordered.views.get_mut(&view) else { return }; // it was dropped meanwhile
            let pressure = self.inner.sequencer.pending.recent_pressure(&definition, &known.counters, all);
            known.confirm(&definition, upto, pressure);
            known.failed_flushed = known.failed_begun.clone();
            let (epoch, horizon) = (upto, known.horizon);
            ordered.broadcast(&Command::Flushed { view, epoch, horizon });
        });
        self.truncate_log();
    }

    /// What the back-fill of a view made has no newer bucket than this; `None` when it made nothing.
    pub fn note_backfill_newest(&self, view: ViewId, newest: Option<EventTime>) {
        self.inner.sequencer.with(|ordered| ordered.broadcast(&Command::History { view, newest }));
    }

    /// Says how many events in all a back-fill of a view could not compute; they are counted with those that the flow could not.
    pub fn note_backfill_failed(&self, view: ViewId, failed: &Failed) {
        self.inner.sequencer.with(|ordered| {
            if let Some(view) = ordered.views.get(&view) {
                view.counters.set_before(failed);
            }
        });
    }

    /// The flushed epoch of a view, with the events up to it that the view could not be computed of.
    #[must_use]
    pub fn view_flushed(&self, view: ViewId) -> Option<(Epoch, Failed)> {
        self.inner.sequencer.with(|ordered| {
            let known = ordered.views.get(&view)?;
            Some((known.flushed, known.failed_flushed.clone()))
        })
    }

    /// Begins a flush of a stream; `None` when there is nothing to write.
    #[must_use]
    pub fn begin_stream_flush(&self, stream: StreamId) -> Option<StreamFlush> {
        let rows_max = self.inner.flush_rows_max;
        self.inner.sequencer.with(|ordered| {
            let now = ordered.last;
            ordered.tails.get_mut(&stream)?.begin_flush(now, rows_max)
        })
    }

    /// ClickHouse has the stream up to `upto`.
    pub fn confirm_stream_flush(&self, stream: StreamId, upto: Epoch) {
        let confirmed = self.inner.sequencer.with(|ordered| Some(ordered.tails.get_mut(&stream)?.confirm(upto)));
        drop(confirmed); // not while everybody waits for the sequencer
        self.truncate_log();
    }

    /// Events of a stream that wait for ClickHouse.
    #[must_use]
    pub fn stream_rows_pending(&self, stream: StreamId) -> usize {
        self.inner.sequencer.with(|ordered| ordered.tails.get(&stream).map_or(0, |tail| tail.rows()))
    }

    /// Begins a flush of the catalogue; `None` when nothing changed.
    #[must_use]
    pub fn begin_catalog_flush(&self) -> Option<CatalogFlush> {
        self.inner.sequencer.with(|ordered| {
            if ordered.catalog_changes.is_empty() {
                ordered.catalog_flushed = ordered.last;
                return None;
            }
            Some(CatalogFlush { upto: ordered.last, changes: ordered.catalog_changes.clone() })
        })
    }

    /// ClickHouse has the catalogue up to `upto`.
    pub fn confirm_catalog_flush(&self, upto: Epoch) {
        self.inner.sequencer.with(|ordered| {
            ordered.catalog_changes.retain(|(epoch, _)| *epoch > upto);
            ordered.catalog_flushed = ordered.catalog_flushed.max(upto);
        });
    }

    /// How far the catalogue, each stream and each view are flushed.
    #[must_use]
    pub fn flushed(&self) -> Flushed {
        self.inner.sequencer.with(|ordered| Flushed {
            catalog: ordered.catalog_flushed,
            streams: ordered.tails.iter().map(|(id, tail)| (*id, tail.flushed())).collect(),
            views: ordered.views.iter().map(|(id, view)| (*id, view.flushed)).collect(),
        })
    }

    fn truncate_log(&self) {
        let flushed = self.inner.sequencer.with(|ordered| ordered.flushed_everywhere());
        self.inner.committer.truncate_below(flushed);
    }
}
