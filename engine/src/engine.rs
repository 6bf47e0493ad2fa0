//! The engine: append, snapshot, flush, restart. What the other crates see.

mod flush;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_channel::mpsc;
use streamgauge_schemas::stream::{Catalog, CatalogChange, Stream};
use streamgauge_schemas::{
    Epoch, EventBatch, EventTime, Key, Reject, Rows, SeriesId, StreamDefinition, StreamId, View, ViewDefinition, ViewId,
};

use crate::config::EngineConfig;
use crate::dataflow::feeders;
use crate::decode::Decoded;
use crate::error::EngineError;
use crate::gaps::Gaps;
use crate::log::{Committer, CommitterOptions, Log, LogOptions, Request, Submission};
use crate::pending::Pending;
use crate::program::Failed;
use crate::recovery::{self, Recovered};
use crate::registry::SeriesRegistry;
use crate::rejects::{self, Origin};
use crate::requests::{self, Begun, Claim, Claimed, NotBegun, RequestName, Requests};
use crate::sequencer::{OnCommit, Ordered, Sequencer};
use crate::snapshot::{Snapshot, SnapshotRequest, ViewSnapshot};
use crate::workers::{Command, Workers};

/// A running engine; clones share it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    // Dropped in this order: the log commits what waits, then the workers finish what they were given.
    committer: Committer,
    sequencer: Arc<Sequencer>,
    registry: Arc<SeriesRegistry>,
    flush_rows_max: usize,
}

/// The rows of a view to flush: all that changed in `(flushed, upto]`, each whole.
#[derive(Clone, Debug)]
pub struct ViewFlush {
    /// The flushed epoch that the write makes true.
    pub upto: Epoch,
    /// The rows.
    pub rows: Rows,
    /// The dimension values of each group in `rows`.
    pub keys: HashMap<SeriesId, Key>,
    /// All events from the view's creation to `upto` that it could not be computed of.
    pub failed: Failed,
}

/// The changes of the catalogue to flush.
#[derive(Clone, Debug)]
pub struct CatalogFlush {
    /// The flushed epoch that the write makes true.
    pub upto: Epoch,
    /// The changes, in order.
    pub changes: Vec<(Epoch, CatalogChange)>,
}

/// The flushed epoch `F` of each item.
#[derive(Clone, Debug)]
pub struct Flushed {
    /// Of the catalogue.
    pub catalog: Epoch,
    /// Of each stream.
    pub streams: HashMap<StreamId, Epoch>,
    /// Of each view.
    pub views: HashMap<ViewId, Epoch>,
}

/// A decoded request on its way into the log.
pub struct Ingest<'a> {
    /// Which stream it is for.
    pub stream: &'a str,
    /// When it arrived.
    pub at: EventTime,
    /// Its body, which holds the texts of rejects.
    pub body: &'a [u8],
    /// What the body held.
    pub decoded: Decoded,
    /// Who sent it, if the body does not say; for its rejects.
    pub source: &'a str,
    /// Whether rejects are kept in the stream `rejects`.
    pub keep_rejects: bool,
    /// The claim on its name, if it has one.
    pub claim: Option<Claim>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingested {
    /// The epoch of all that it brought; `None` when that was nothing.
    pub epoch: Option<Epoch>,
    /// How many events were accepted.
    pub accepted: u64,
    /// The others.
    pub rejected: Arc<[Reject]>,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// `F`.
    pub flushed: Epoch,
    /// Events in memory that ClickHouse does not have yet.
    pub rows: usize,
    /// Bytes that they take, about.
    pub bytes: usize,
}

/// Where a view stands.
#[derive(Clone, Debug)]
pub struct ViewStatus {
    /// `F`.
    pub flushed: Epoch,
    /// `H`: what memory has no more.
    pub horizon: Epoch,
    /// Rows in memory, about.
    pub rows: usize,
    /// Bytes that they and their keys take, about.
    pub bytes: usize,
    /// Events that its expressions could not be computed of, all that it should count; it does not count them.
    pub failed_events: u64,
    /// Why, of one of the newest of them; or why it is not maintained at all.
    pub failure: Option<String>,
}

/// Where the engine stands.
#[derive(Clone, Debug)]
pub struct EngineStatus {
    /// The newest epoch.
    pub epoch: Epoch,
    /// Events appended since start, replayed ones included.
    pub events_total: u64,
    /// Bytes of events in memory that ClickHouse or the dataflow still needs.
    pub pending_bytes: usize,
    /// Bytes that the rows of the views take, about.
    pub state_bytes: usize,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// Requests that named themselves and are known.
    pub requests_known: usize,
    /// How many wait for an epoch to come.
    pub epoch_waits: usize,
    /// Workers that run.
    pub workers: usize,
    /// Series known.
    pub series: usize,
}

/// Does something when it is dropped.
struct Defer<F: Fn()>(F);

impl<F: Fn()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Engine {
    /// Opens the log, loads what ClickHouse had, and replays the rest. Returns when the engine can serve.
    ///
    /// # Errors
    /// [`EngineError::Log`] when the log cannot be opened or read; nothing is changed then.
    pub fn open(config: &EngineConfig, recovered: Recovered) -> Result<Self, EngineError> {
        let options = LogOptions { segment_bytes_max: config.log_segment_bytes_max, sync: config.log_sync };
        let log = Log::open(&config.log_dir, options)?;
        let registry = Arc::new(SeriesRegistry::new(config.series_max));
        let pending = Pending::new(config.pending_bytes_max, config.state_bytes_max, config.recent_bytes_max);
        let state_bytes = pending.state_counter();
        let workers = Workers::start(config.workers.max(1), state_bytes);
        let workers = workers.map_err(|source| EngineError::Workers(Arc::new(source)))?;
        let requests = Requests::new(config.idempotency_window, config.idempotency_keys_max);
        let sequencer = Arc::new(Sequencer::new(workers, registry.clone(), config.planner.clone(), requests, pending));
        let mut gaps = Gaps::open(&config.log_dir)?;
        sequencer.with(|ordered| ordered.gaps = gaps.missing(log.truncated_epoch()).collect());
        let floor = recovery::replay(&log, recovered, config.built_in_views, &sequencer, &registry)?;
        gaps.keep(sequencer.with(|ordered| ordered.unmaintained().collect::<Vec<_>>()).into_iter())?;
        let options = CommitterOptions {
            clock: config.clock.clone(),
            epoch_floor: floor,
            log_bytes_max: config.log_bytes_max.max(4 * config.log_segment_bytes_max),
            ..CommitterOptions::default()
        };
        let committer = Committer::start(log, options, Box::new(OnCommit(sequencer.clone())))?;
        let flush_rows_max = config.flush_rows_max;
        Ok(Engine { inner: Arc::new(Inner { committer, sequencer, registry, flush_rows_max }) })
    }

    /// Makes events durable and gives them to the dataflow; answers their epoch once they are both durable and
    /// visible to every later snapshot.
    ///
    /// # Errors
    /// [`EngineError::Busy`] and a full [`EngineError::Submit`] are to be retried later; nothing was taken then.
    pub async fn append(&self, batch: EventBatch) -> Result<Epoch, EngineError> {
        self.append_request(Request { batches: vec![batch], claim: None }).await
    }

    /// Whether events would be taken now; asked before the work of reading and decoding them.
    ///
    /// # Errors
    /// The bound that is reached, as [`Engine::append`] would answer.
    pub fn admits(&self) -> Result<(), EngineError> {
        self.inner.sequencer.pending.check()?;
        Ok(self.inner.committer.admits()?)
    }

    async fn append_request(&self, request: Request) -> Result<Epoch, EngineError> {
        self.inner.sequencer.pending.check()?;
        for batch in &request.batches {
            self.inner.sequencer.pending.check_stream(batch.stream())?;
            if let EventBatch::Metrics(batch) = batch {
                let known = self.inner.registry.register(batch);
                known.map_err(|too_many| EngineError::TooManySeries { max: too_many.max })?;
            }
        }
        self.submit(Submission::Events(request)).await
    }

    /// Whether a request of that name and body is new; waits for one that is being worked on.
    ///
    /// # Errors
    /// [`EngineError::NameReused`] when another request has the name, [`EngineError::SequenceTooOld`] when it is not known
    /// any more whether this one was taken.
    pub async fn claim(&self, name: &RequestName, body_hash: u128) -> Result<Claimed, EngineError> {
        loop {
            let now = self.inner.sequencer.with(|ordered| ordered.last);
            match self.inner.sequencer.requests.begin(name, body_hash, now) {
                Ok(Begun::New(claim)) => return Ok(Claimed::New(claim)),
                Ok(Begun::Repeat(known)) => return Ok(Claimed::Repeat(known)),
                Ok(Begun::Running(ended)) => drop(ended.await), // however it ended, look again
                Err(NotBegun::Reused) => return Err(EngineError::NameReused),
                Err(NotBegun::TooOld { forgotten }) => return Err(EngineError::SequenceTooOld { forgotten }),
            }
        }
    }

    /// Makes what a request brought durable: its events, its rejects, and itself if it has a name; all of it or nothing.
    ///
    /// A request that brings nothing is not in the log, and a name that it has is free again.
    ///
    /// # Errors
    /// As [`Engine::append`].
    pub async fn ingest(&self, ingest: Ingest<'_>) -> Result<Ingested, EngineError> {
        let Ingest { stream, at, body, decoded, source, keep_rejects, claim } = ingest;
        let accepted = decoded.batch.as_ref().map_or(0, |batch| batch.len() as u64);
        let rejected: Arc<[Reject]> = decoded.rejected.into();
        let mut batches: Vec<EventBatch> = decoded.batch.into_iter().collect();
        if keep_rejects && !rejected.is_empty() {
            let source = if decoded.source.is_empty() { source } else { &decoded.source };
            batches.push(rejects::rows(&Origin { at, stream, source, body }, &rejected, &decoded.places));
        }
        if batches.is_empty() {
            return Ok(Ingested { epoch: None, accepted, rejected });
        }
        if let Some(claim) = &claim {
            batches.push(requests::row(claim, stream, at, accepted, &rejected));
        }
        let epoch = self.append_request(Request { batches, claim }).await?;
        Ok(Ingested { epoch: Some(epoch), accepted, rejected })
    }

    /// Waits until every snapshot that is taken from then on includes `epoch`; the caller bounds the time.
    ///
    /// May be dropped at any time.
    pub async fn reached(&self, epoch: Epoch) {
        let sequencer = &self.inner.sequencer;
        let waits = |ordered: &mut Ordered| (ordered.last < epoch).then(|| ordered.waits.begin(epoch));
        let Some((place, told)) = sequencer.with(waits) else { return };
        let _end = Defer(|| sequencer.with(|ordered| ordered.waits.end(place)));
        let _ = told.await; // only an engine that is gone tells nobody
    }

    /// Waits until the dataflow has processed all that was appended so far, so that a read does not have to; answers the
    /// epoch that this is. Followers have then been sent every change up to it.
    ///
    /// # Errors
    /// [`EngineError::Stopped`] while the engine stops.
    pub async fn settled(&self) -> Result<Epoch, EngineError> {
        let (reply, parts) = mpsc::unbounded();
        let epoch = self.inner.sequencer.with(|ordered| {
            ordered.broadcast(&Command::Settle { reply });
            ordered.last
        });
        self.gather(parts).await?;
        Ok(epoch)
    }

    async fn submit(&self, submission: Submission) -> Result<Epoch, EngineError> {
        let receipt = self.inner.committer.submit(submission)?;
        Ok(receipt.await.map_err(|_| EngineError::Stopped)??)
    }

    /// Makes a stream. A stream of the same definition that is there already is answered as it is.
    ///
    /// # Errors
    /// [`EngineError::Schema`] for a definition that does not make sense, [`EngineError::StreamExists`] for another one,
    /// [`EngineError::NameTaken`] by a view.
    pub async fn create_stream(&self, definition: StreamDefinition) -> Result<(Arc<Stream>, bool), EngineError> {
        let definition = definition.validate()?;
        if let Some(stream) = self.catalog().by_name(&definition.name) {
            let same = stream.definition == definition;
            return if same { Ok((stream.clone(), false)) } else { Err(EngineError::StreamExists(definition.name)) };
        }
        if self.view(&definition.name).is_some() {
            return Err(EngineError::NameTaken(definition.name));
        }
        let epoch = self.submit(Submission::Catalog(CatalogChange::CreateStream(definition.clone()))).await?;
        match self.catalog().by_name(&definition.name) {
            Some(stream) if stream.id == StreamId(epoch.0) => Ok((stream.clone(), true)),
            Some(stream) if stream.definition == definition => Ok((stream.clone(), false)),
            Some(_) => Err(EngineError::StreamExists(definition.name)),
            None if self.view(&definition.name).is_some() => Err(EngineError::NameTaken(definition.name)),
            None => Ok((Arc::new(Stream { id: StreamId(epoch.0), definition }), true)), // it was dropped since
        }
    }

    /// Deletes a stream, with all its events.
    ///
    /// # Errors
    /// [`EngineError::UnknownStream`] when it is not there, [`EngineError::StreamInUse`] while views are over it.
    pub async fn drop_stream(&self, name: &str) -> Result<(), EngineError> {
        let stream = self.stream(name).filter(|stream| !stream.id.is_built_in());
        let stream = stream.ok_or_else(|| EngineError::UnknownStream(name.to_owned()))?;
        let in_use = || {
            let views =
                self.catalog().views_over(stream.id).map(|view| view.definition.name.clone()).collect::<Vec<_>>();
            if views.is_empty() { Ok(()) } else { Err(EngineError::StreamInUse { stream: name.to_owned(), views }) }
        };
        in_use()?;
        self.submit(Submission::Catalog(CatalogChange::DropStream(stream.id))).await?;
        if self.catalog().by_id(stream.id).is_some() { in_use() } else { Ok(()) }
    }

    /// Makes a view, in place of the one of that name if `replace`. It counts the events after its creation; those before
    /// are for a back-fill to bring.
    ///
    /// # Errors
    /// [`EngineError::NameTaken`], [`EngineError::UnknownStream`], [`EngineError::BuiltInView`]; [`EngineError::Schema`] for
    /// folds that cannot be kept.
    pub async fn create_view(&self, definition: ViewDefinition, replace: bool) -> Result<Arc<View>, EngineError> {
        definition.check()?;
        let (name, stream) = (definition.name.clone(), definition.stream);
        let catalog = self.catalog();
        let old = catalog.view_by_name(&name).filter(|_| replace);
        if let Some(old) = old.filter(|old| old.id.is_built_in()) {
            return Err(EngineError::BuiltInView(old.definition.name.clone()));
        }
        let free = catalog.by_name(&name).is_none() && (old.is_some() || catalog.view_by_name(&name).is_none());
        if !free {
            return Err(EngineError::NameTaken(name));
        }
        if stream != StreamId::METRICS && catalog.by_id(stream).is_none() {
            return Err(EngineError::UnknownStream(stream.0.to_string()));
        }
        let change = CatalogChange::CreateView { definition: Box::new(definition), replaces: old.map(|old| old.id) };
        let epoch = self.submit(Submission::Catalog(change)).await?;
        let made = self.catalog().view_by_id(ViewId(epoch.0)).cloned();
        made.filter(|view| view.definition.name == name).ok_or(EngineError::NameTaken(name))
    }

    /// Deletes a view, with all its rows.
    ///
    /// # Errors
    /// [`EngineError::UnknownView`] when it is not there, [`EngineError::BuiltInView`] when it stays.
    pub async fn drop_view(&self, name: &str) -> Result<(), EngineError> {
        let view = self.view(name).ok_or_else(|| EngineError::UnknownView(name.to_owned()))?;
        if view.id.is_built_in() {
            return Err(EngineError::BuiltInView(name.to_owned()));
        }
        self.submit(Submission::Catalog(CatalogChange::DropView(view.id))).await?;
        Ok(())
    }

    /// All streams but `metrics`, and all views.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.inner.sequencer.with(|ordered| ordered.catalog.clone())
    }

    /// The stream of that name, unless it is `metrics`.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<Arc<Stream>> {
        self.catalog().by_name(name).cloned()
    }

    /// The view of that name.
    #[must_use]
    pub fn view(&self, name: &str) -> Option<Arc<View>> {
        self.catalog().view_by_name(name).cloned()
    }

    /// The maintained views: the built-in rollups, finest first, then the user's own in order of creation.
    #[must_use]
    pub fn views(&self) -> Vec<Arc<View>> {
        self.catalog().views.clone()
    }

    /// The view that this one is fed from; `None` when it reads events.
    #[must_use]
    pub fn fed_from(&self, id: ViewId) -> Option<ViewId> {
        self.inner.sequencer.with(|ordered| {
            let maintained = |view: &&Arc<View>| ordered.views.get(&view.id).is_some_and(|view| view.keys.is_ok());
            let views = ordered.catalog.views.iter().filter(maintained).map(|view| &**view);
            feeders(views).get(&id).copied()
        })
    }

    /// What is counted of a stream.
    #[must_use]
    pub fn stream_status(&self, id: StreamId) -> Option<StreamStatus> {
        self.inner.sequencer.with(|ordered| {
            let tail = ordered.tails.get(&id)?;
            Some(StreamStatus { flushed: tail.flushed(), rows: tail.rows(), bytes: tail.bytes() })
        })
    }

    /// What is counted of a view.
    #[must_use]
    pub fn view_status(&self, id: ViewId) -> Option<ViewStatus> {
        self.inner.sequencer.with(|ordered| {
            let view = ordered.views.get(&id)?;
            Some(ViewStatus {
                flushed: view.flushed,
                horizon: view.horizon,
                rows: view.counters.rows.load(Ordering::Relaxed),
                bytes: view.counters.bytes.load(Ordering::Relaxed),
                failed_events: view.counters.failed_events.load(Ordering::Relaxed)
                    + view.counters.failed_before.load(Ordering::Relaxed),
                failure: view.keys.as_ref().err().cloned().or_else(|| view.counters.failure.lock().clone()),
            })
        })
    }

    /// What is known of series and metrics.
    #[must_use]
    pub fn series(&self) -> &Arc<SeriesRegistry> {
        &self.inner.registry
    }

    /// Where the engine stands.
    #[must_use]
    pub fn status(&self) -> EngineStatus {
        let pending_bytes = self.inner.sequencer.pending.bytes();
        let state_bytes = self.inner.sequencer.pending.state_bytes();
        let log_bytes = self.inner.committer.log_bytes();
        let requests_known = self.inner.sequencer.requests.len();
        let series = self.inner.registry.len();
        self.inner.sequencer.with(|ordered| EngineStatus {
            epoch: ordered.last,
            events_total: ordered.events_total,
            pending_bytes,
            state_bytes,
            log_bytes,
            requests_known,
            epoch_waits: ordered.waits.len(),
            workers: ordered.workers(),
            series,
        })
    }

    /// Takes a consistent snapshot of what memory holds of several views and streams.
    ///
    /// It includes every event acknowledged before the call.
    ///
    /// # Errors
    /// [`EngineError::UnknownStream`] when a stream was deleted, [`EngineError::Stopped`] while the engine stops.
    pub async fn snapshot(&self, request: SnapshotRequest) -> Result<Snapshot, EngineError> {
        let reading = self.inner.sequencer.read(&request)?;
        let mut views = vec![ViewSnapshot::default(); request.views.len()];
        let mut newest = vec![None; request.views.len()];
        if !request.views.is_empty() {
            for (worker, parts) in self.gather(reading.parts).await?.into_iter().enumerate() {
                for ((view, newest), mut part) in views.iter_mut().zip(&mut newest).zip(parts) {
                    let agree = worker == 0 || view.horizon == part.horizon;
                    assert!(agree, "sequencer, invariant 3: horizons {} and {}", view.horizon, part.horizon);
                    view.horizon = part.horizon;
                    *newest = part.newest.max(*newest);
                    view.rows.append(&mut part.rows);
                    view.keys.extend(part.keys);
                }
            }
        }
        for ((view, read), newest) in views.iter_mut().zip(&request.views).zip(newest) {
            if newest.is_none_or(|newest| read.filter.lower.is_some_and(|lower| lower > newest)) {
                view.horizon = Epoch::ZERO;
            }
        }
        Ok(Snapshot { epoch: reading.epoch, views, streams: reading.streams })
    }

    async fn gather<T>(&self, parts: mpsc::UnboundedReceiver<T>) -> Result<Vec<T>, EngineError> {
        let workers = self.inner.sequencer.with(|ordered| ordered.workers());
        let mut parts = parts;
        let mut all = Vec::with_capacity(workers);
        while let Ok(part) = parts.recv().await {
            all.push(part);
        }
        if all.len() == workers && workers > 0 { Ok(all) } else { Err(EngineError::Stopped) }
    }
}
