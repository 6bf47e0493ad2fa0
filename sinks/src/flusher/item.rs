//! The loop of one item: wait, begin, write, commit, confirm.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamgauge_schemas::stream::CatalogChange;
use streamgauge_schemas::{Epoch, Key, Rows, SeriesId, View, time};

use super::narrow::{Narrowing, Whole};
use super::source::{FlushItem, FlushKind, FlushUnit, StreamTable};
use super::{ASIDE_AFTER, FlushStatus, LastFlush, Shared};
use crate::backoff::Backoff;
use crate::raw::RawFlush;
use crate::states::write_states;
use crate::{SinkError, catalog};

/// How often the flushed epoch of an item moves when nothing changed.
const IDLE_COMMIT: Duration = Duration::from_secs(60);
/// The longest wait before the next attempt.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// Flushes an item at its pace until the flusher stops; then once more.
pub(super) async fn run(shared: Arc<Shared>, item: FlushItem) {
    let mut item_loop = ItemLoop { shared, item, committed: None };
    let mut stopping = item_loop.shared.stopping.subscribe();
    while !*stopping.borrow_and_update() {
        tokio::select! {
            () = tokio::time::sleep(item_loop.item.interval) => {}
            () = item_loop.shared.source.due(&item_loop.item) => {}
            () = item_loop.shared.catalog_wanted.notified(), if item_loop.item.kind == FlushKind::Catalog => {}
            _ = stopping.changed() => break,
        }
        item_loop.flush(false).await;
    }
    item_loop.flush(true).await;
}

/// A unit on its way, in the form in which an attempt can be repeated.
enum Work {
    Catalog(Vec<(Epoch, CatalogChange)>),
    Stream { flush: RawFlush, token: String, after: Epoch, made_at: Option<Epoch> },
    View { view: Arc<View>, rows: Arc<Rows>, keys: Arc<HashMap<SeriesId, Key>> },
    Narrowed(Narrowing),
    Written,
}

/// How an attempt went that did not fail.
enum Outcome {
    Committed,
    /// The item is no more, so its unit is owed to nobody.
    Gone,
}

struct ItemLoop {
    shared: Arc<Shared>,
    item: FlushItem,
    committed: Option<Instant>,
}

impl ItemLoop {
    /// Flushes once, for as long as it takes. `last`: also when nothing but the epoch would be written.
    async fn flush(&mut self, last: bool) {
        let mut backoff = Backoff::new(Duration::from_millis(100), WAIT_MAX);
        let unit = loop {
            match self.shared.source.begin(&self.item).await {
                Ok(Some(unit)) => break unit,
                Ok(None) => return,
                Err(source) => self.failed(&SinkError::Source { item: self.item.name.clone(), source }),
            }
            tokio::time::sleep(backoff.next()).await;
        };
        let (rows, upto) = (unit.rows(), unit.upto());
        let idle = rows == 0 && self.committed.is_some_and(|at| at.elapsed() < IDLE_COMMIT);
        if idle && !last {
            return;
        }
        let began = Instant::now();
        match self.persist(unit, upto).await {
            Outcome::Committed => self.succeeded(rows, upto, began.elapsed()),
            Outcome::Gone => {}
        }
    }

    /// Attempts a unit until it is committed. Each wait has jitter, so that items do not come back in step.
    async fn persist(&self, unit: FlushUnit, upto: Epoch) -> Outcome {
        let mut work = self.prepare(unit);
        let mut healing = Backoff::new(Duration::from_millis(100), WAIT_MAX);
        let mut lasting = Backoff::new(Duration::from_millis(500), WAIT_MAX);
        let mut refused = 0;
        loop {
            let error = match self.attempt(&mut work, upto).await {
                Ok(outcome) => return outcome,
                Err(error) => error,
            };
            self.failed(&error);
            if error.refuses_rows() && work.can_be_cut() {
                refused += 1;
                if refused >= ASIDE_AFTER && !self.shared.aside.is_full() {
                    work = self.narrow(work, upto, &error);
                    continue;
                }
                if refused == ASIDE_AFTER {
                    let folder = self.shared.aside.folder().display();
                    tracing::error!(item = self.item.name, %folder, "no more is set aside, and this item waits: the folder is full");
                }
            }
            tokio::time::sleep(if error.is_retryable() { healing.next() } else { lasting.next() }).await;
        }
    }

    fn prepare(&self, unit: FlushUnit) -> Work {
        if unit.rows() == 0 {
            return Work::Written;
        }
        match unit {
            FlushUnit::Catalog { changes, .. } => Work::Catalog(changes),
            FlushUnit::Nothing { .. } => Work::Written,
            FlushUnit::Stream { stream, after, upto, batches } => {
                let token = format!("{}/{}/{after}/{upto}", self.shared.boot, self.item.name);
                let made_at = match &stream {
                    StreamTable::Metrics => None,
                    StreamTable::User(stream) => (!stream.id.is_built_in()).then_some(Epoch(stream.id.0)),
                };
                Work::Stream { flush: RawFlush::new(stream, batches, token.clone()), token, after, made_at }
            }
            FlushUnit::View { view, rows, keys, .. } => Work::View { view, rows: Arc::new(rows), keys: Arc::new(keys) },
        }
    }

    /// Writes and commits (invariant 1 of the flusher).
    async fn attempt(&self, work: &mut Work, upto: Epoch) -> Result<Outcome, Arc<SinkError>> {
        if !self.write(work).await? {
            return Ok(Outcome::Gone);
        }
        *work = Work::Written;
        self.shared.committer.commit(&self.item.name, upto).await?;
        Ok(Outcome::Committed)
    }

    /// Writes; returns false when the item is no more.
    async fn write(&self, work: &mut Work) -> Result<bool, SinkError> {
        let shared = &self.shared;
        match work {
            Work::Written => return Ok(true),
            Work::Narrowed(narrowing) => return narrowing.advance(shared).await,
            Work::Catalog(changes) => {
                let _permit = shared.permit().await;
                let _tables = shared.tables.write().await; // invariant 4 of the flusher
                catalog::apply_changes(&shared.clickhouse, changes).await?;
                return Ok(true);
            }
            Work::Stream { made_at: Some(made_at), .. } => shared.wait_for_catalog(*made_at).await,
            Work::View { view, .. } => shared.wait_for_catalog(view.id.created()).await,
            _ => {}
        }
        let Some(_turn) = shared.turn(&self.item.name).await else { return Ok(false) };
        match work {
            Work::Stream { flush, .. } => flush.write(&shared.clickhouse).await?,
            Work::View { view, rows, keys } => write_states(&shared.clickhouse, view, rows, keys).await?,
            _ => {}
        }
        Ok(true)
    }

    /// Begins to look for what ClickHouse refuses.
    fn narrow(&self, work: Work, upto: Epoch, error: &SinkError) -> Work {
        tracing::error!(item = self.item.name, %error, "ClickHouse refuses a flush; looking for the rows that it refuses");
        let (whole, after) = match work {
            Work::Stream { flush, token, after, .. } => {
                (Whole::stream(flush.table().clone(), flush.batches().clone(), token), after)
            }
            Work::View { view, rows, keys } => (Whole::View { view, rows, keys }, self.shared.flushed(&self.item.name)),
            other => return other,
        };
        Work::Narrowed(Narrowing::new(whole, &self.item.name, after, upto, error.to_string()))
    }

    fn failed(&self, error: &SinkError) {
        tracing::warn!(item = self.item.name, %error, kind = ?error.kind(), "a flush failed and will be tried again");
        metrics::counter!("streamgauge_flush_errors_total", "item" => self.item.name.clone()).increment(1);
        self.status(|status| {
            status.last_error = Some(error.to_string());
            status.failures_total += 1;
            status.failed_at = Some(time::wall_clock());
        });
    }

    fn succeeded(&mut self, rows: u64, upto: Epoch, took: Duration) {
        self.committed = Some(Instant::now());
        if self.item.kind == FlushKind::Catalog {
            self.shared.catalog.send_replace(upto);
        }
        self.status(|status| {
            status.flushed_epoch = upto;
            status.last_error = None;
            status.rows_total += rows;
            status.flushes_total += 1;
            if rows > 0 {
                status.last = Some(LastFlush { at: time::wall_clock(), rows, took });
            }
        });
        self.shared.source.confirm(&self.item, upto);
        let labels = [("item", self.item.name.clone())];
        metrics::counter!("streamgauge_flush_rows_total", &labels).increment(rows);
        metrics::histogram!("streamgauge_flush_seconds", &labels).record(took.as_secs_f64());
        metrics::gauge!("streamgauge_flushed_epoch", &labels).set(upto.0 as f64);
        tracing::debug!(item = self.item.name, rows, %upto, ?took, "flushed");
    }

    fn status(&self, change: impl FnOnce(&mut FlushStatus)) {
        let mut status = self.shared.status.lock();
        let name = &self.item.name;
        change(
            status.entry(name.clone()).or_insert_with(|| FlushStatus { item: name.clone(), ..FlushStatus::default() }),
        );
    }
}

impl Work {
    /// Whether a part of it may be accepted where the whole is refused. The catalog is never set aside.
    fn can_be_cut(&self) -> bool {
        matches!(self, Work::Stream { .. } | Work::View { .. })
    }
}
