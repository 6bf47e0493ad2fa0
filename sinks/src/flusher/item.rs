//! The loop of one item: wait, begin, write, commit, confirm.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamgauge_schemas::stream::CatalogChange;
use streamgauge_schemas::{Epoch, Rows, Series, SeriesId, ViewDefinition};

use super::source::{FlushItem, FlushKind, FlushUnit, StreamTable};
use super::{FlushStatus, Shared};
use crate::backoff::Backoff;
use crate::raw::RawFlush;
use crate::states::write_states;
use crate::{SinkError, catalog};

/// How often the flushed epoch of an item moves when nothing changed.
const IDLE_COMMIT: Duration = Duration::from_secs(60);

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
    Stream { flush: RawFlush, made_at: Option<Epoch> },
    View { definition: ViewDefinition, rows: Arc<Rows>, series: Arc<HashMap<SeriesId, Arc<Series>>> },
    Nothing,
}

struct ItemLoop {
    shared: Arc<Shared>,
    item: FlushItem,
    committed: Option<Instant>,
}

impl ItemLoop {
    /// Flushes once, for as long as it takes. `last`: also when nothing but the epoch would be written.
    async fn flush(&mut self, last: bool) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));
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
        let mut work = self.prepare(unit);
        backoff.reset();
        while let Err(error) = self.attempt(&mut work, rows, upto).await {
            let healing = error.is_retryable();
            self.failed(&error);
            tokio::time::sleep(if healing { backoff.next() } else { backoff.next().max(Duration::from_secs(1)) }).await;
        }
        self.succeeded(rows, upto, began.elapsed());
    }

    fn prepare(&self, unit: FlushUnit) -> Work {
        match unit {
            FlushUnit::Catalog { changes, .. } => Work::Catalog(changes),
            FlushUnit::Nothing { .. } => Work::Nothing,
            FlushUnit::Stream { stream, after, upto, batches } => {
                let token = format!("{}/{}/{after}/{upto}", self.shared.boot, self.item.name);
                let made_at = match &stream {
                    StreamTable::Metrics => None,
                    StreamTable::User(stream) => (!stream.id.is_built_in()).then_some(Epoch(stream.id.0)),
                };
                Work::Stream { flush: RawFlush::new(stream, batches, token), made_at }
            }
            FlushUnit::View { definition, rows, series, .. } => {
                Work::View { definition, rows: Arc::new(rows), series: Arc::new(series) }
            }
        }
    }

    /// Writes and commits (invariant 1 of the flusher).
    async fn attempt(&self, work: &mut Work, rows: u64, upto: Epoch) -> Result<(), Arc<SinkError>> {
        if rows > 0 {
            self.write(work).await?;
        }
        self.shared.committer.commit(&self.item.name, upto).await
    }

    async fn write(&self, work: &mut Work) -> Result<(), SinkError> {
        if let Work::Stream { made_at: Some(made_at), .. } = work {
            self.wait_for_catalog(*made_at).await;
        }
        let _permit = self.shared.writes.acquire().await.expect("the semaphore is never closed");
        let clickhouse = &self.shared.clickhouse;
        match work {
            Work::Catalog(changes) => catalog::apply_changes(clickhouse, changes).await,
            Work::Stream { flush, .. } => flush.write(clickhouse).await,
            Work::View { definition, rows, series } => write_states(clickhouse, definition, rows, series).await,
            Work::Nothing => Ok(()),
        }
    }

    /// Invariant 2 of the flusher.
    async fn wait_for_catalog(&self, made_at: Epoch) {
        let mut catalog = self.shared.catalog.subscribe();
        if *catalog.borrow() < made_at {
            self.shared.catalog_wanted.notify_one();
            let _ = catalog.wait_for(|flushed| *flushed >= made_at).await; // the sender lives in `shared`
        }
    }

    fn failed(&self, error: &SinkError) {
        tracing::warn!(item = self.item.name, %error, kind = ?error.kind(), "a flush failed and will be tried again");
        metrics::counter!("streamgauge_flush_errors_total", "item" => self.item.name.clone()).increment(1);
        self.status(|status| status.last_error = Some(error.to_string()));
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
