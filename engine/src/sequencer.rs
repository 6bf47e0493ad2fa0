//! The sequencer: the one order in which epochs, reads and flushes happen.
//!
//! ```text
//!  log thread ── committed(epoch) ──▶ ┌───────────┐ ── commands, in order ──▶ workers
//!  queries ───── snapshot ──────────▶ │ sequencer │
//!  flusher ───── begin, confirm ────▶ └───────────┘ ── tails of the streams
//! ```
//!
//! # Invariants
//!
//! 1. An epoch is added to the tails and given to the workers under one lock; so a snapshot, taken under the same
//!    lock, has for every table all events up to its epoch and none after.
//! 2. `last` grows. No event will come at or below it.
//! 3. A flushed epoch reaches the workers through the same queue, so a read finds one horizon on all of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_channel::mpsc;
use parking_lot::Mutex;
use streamgauge_schemas::stream::{Catalog, CatalogChange};
use streamgauge_schemas::{Duration, Epoch, EventBatch, Rows, StreamId, View, ViewId};

use crate::error::EngineError;
use crate::keys::{KeyRegistry, ViewKeys};
use crate::log::{Sequence, Submission};
use crate::pending::Pending;
use crate::program::{Failed, Planner, Prepared, Program, Rollup};
use crate::recovery::ViewHistory;
use crate::registry::SeriesRegistry;
use crate::requests::Requests;
use crate::snapshot::{SnapshotRequest, StreamSnapshot};
use crate::tail::Tail;
use crate::waits::EpochWaits;
use crate::workers::{AddView, Command, Part, ViewCounters, Workers};

/// The state that the order protects.
pub(crate) struct Ordered {
    pub(crate) last: Epoch,
    /// Who waits for a later one.
    pub(crate) waits: EpochWaits,
    pub(crate) tails: HashMap<StreamId, Tail>,
    pub(crate) catalog: Arc<Catalog>,
    /// Changes of the catalogue that ClickHouse does not have.
    pub(crate) catalog_changes: Vec<(Epoch, CatalogChange)>,
    pub(crate) catalog_flushed: Epoch,
    pub(crate) views: HashMap<ViewId, OrderedView>,
    pub(crate) events_total: u64,
    /// `F` of each stream as ClickHouse had it at start, also of streams that the log is yet to make.
    pub(crate) streams_flushed_at_start: HashMap<StreamId, Epoch>,
    /// Views that miss events, since the log was cut while they were not maintained.
    pub(crate) gaps: HashSet<ViewId>,
    /// Up to where all views were advanced.
    advanced: Epoch,
    workers: Workers,
}

/// How often the views of quiet streams are advanced.
const ADVANCE_US: u64 = 1_000_000;

/// When rows take more bytes than they may, those of so much of the time that fits are kept.
const SHRUNK: f64 = 0.8;
/// While there is room, the horizon moves on by this part of the full time at once, so that in between what ClickHouse answers up to it can be
/// given again.
const STEPS: f64 = 8.0;

/// A view as the order knows it.
pub(crate) struct OrderedView {
    /// `F`.
    pub(crate) flushed: Epoch,
    /// `H`, from the next flush on.
    pub(crate) horizon: Epoch,
    pub(crate) counters: Arc<ViewCounters>,
    /// Events that it could not be computed of, which belong to epochs as its rows do: up to what ClickHouse had at start;
    pub(crate) failed_at_start: Failed,
    /// up to `F`;
    pub(crate) failed_flushed: Failed,
    /// up to where its last flush was begun.
    pub(crate) failed_begun: Failed,
    /// Its keys; `Err` with the reason why it is not maintained.
    pub(crate) keys: Result<ViewKeys, String>,
}

/// What ClickHouse had of a view at start.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViewAtStart {
    pub(crate) flushed: Epoch,
    pub(crate) rows: Rows,
    pub(crate) keys: HashMap<streamgauge_schemas::SeriesId, streamgauge_schemas::Key>,
    /// Events up to `flushed` that it could not be computed of,
    pub(crate) failed: Failed,
    /// and those of its back-fill.
    pub(crate) failed_before: Failed,
    /// What memory has not; `None` of a view that was just made.
    pub(crate) history: Option<ViewHistory>,
}

impl OrderedView {
    fn new(
        flushed: Epoch,
        horizon: Epoch,
        failed: Failed,
        counters: Arc<ViewCounters>,
        keys: Result<ViewKeys, String>,
    ) -> Self {
        let (failed_at_start, failed_flushed, failed_begun) = (failed.clone(), failed.clone(), failed);
        OrderedView { flushed, horizon, counters, failed_at_start, failed_flushed, failed_begun, keys }
    }

    /// ClickHouse has the view up to `upto`. Moves the horizon on; `pressure` is what rows take, as a share of the bytes that they may.
    pub(crate) fn confirm(&mut self, view: &View, upto: Epoch, pressure: f64) {
        let full = view.recent().as_micros() as f64;
        let kept = (view.horizon(self.flushed).0.saturating_sub(self.horizon.0) as f64).min(full);
        self.flushed = self.flushed.max(upto);
        let (recent, step) = if pressure <= 1.0 { (full, full / STEPS) } else { (kept * SHRUNK / pressure, 1.0) };
        let horizon = view.horizon_keeping(self.flushed, Duration::from_micros(recent as i64));
        if horizon.0.saturating_sub(self.horizon.0) as f64 >= step {
            self.horizon = horizon;
        }
    }
}

/// See the module.
pub(crate) struct Sequencer {
    ordered: Mutex<Ordered>,
    registry: Arc<SeriesRegistry>,
    planner: Option<Arc<dyn Planner>>,
    pub(crate) requests: Requests,
    pub(crate) pending: Pending,
}

/// The memory part of a snapshot while the workers still answer.
pub(crate) struct Reading {
    pub(crate) epoch: Epoch,
    pub(crate) streams: Vec<StreamSnapshot>,
    pub(crate) parts: mpsc::UnboundedReceiver<Vec<Part>>,
}

impl Sequencer {
    pub(crate) fn new(
        workers: Workers,
        registry: Arc<SeriesRegistry>,
        planner: Option<Arc<dyn Planner>>,
        requests: Requests,
        pending: Pending,
    ) -> Self {
        let ordered = Ordered {
            last: Epoch::ZERO,
            waits: EpochWaits::default(),
            tails: HashMap::new(), // the restart makes them
            catalog: Arc::default(),
            catalog_changes: Vec::new(),
            catalog_flushed: Epoch::ZERO,
            views: HashMap::new(),
            events_total: 0,
            streams_flushed_at_start: HashMap::new(),
            gaps: HashSet::new(),
            advanced: Epoch::ZERO,
            workers,
        };
        Sequencer { ordered: Mutex::new(ordered), registry, planner, requests, pending }
    }

    /// Looks at, or changes, the ordered state.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Ordered) -> R) -> R {
        f(&mut self.ordered.lock())
    }

    /// Appends what an epoch brought.
    pub(crate) fn add(&self, epoch: Epoch, group: Vec<Submission>) {
        let ordered = &mut *self.ordered.lock();
        assert!(epoch > ordered.last, "invariant 2: {epoch} follows {}", ordered.last);
        ordered.last = epoch;
        let mut viewed: Vec<Arc<Prepared>> = Vec::new();
        let mut batches = Vec::with_capacity(group.len());
        let mut claims = Vec::new();
        for submission in group {
            match submission {
                Submission::Catalog(change) => self.change_catalog(ordered, epoch, change),
                Submission::Events(request) => {
                    batches.extend(request.batches);
                    claims.extend(request.claim);
                }
            }
        }
        let ticket = Arc::new(self.pending.claim(batches.iter().map(EventBatch::size_bytes).sum()));
        for batch in batches {
            if !matches!(batch.stream(), StreamId::REJECTS | StreamId::REQUESTS) {
                ordered.events_total += batch.len() as u64;
            }
            if let EventBatch::Metrics(batch) = &batch {
                self.registry.observe(batch);
            }
            if ordered.catalog.views_over(batch.stream()).any(|view| ordered.views.contains_key(&view.id)) {
                viewed.push(Arc::new(Prepared::new(batch.clone())));
            }
            // Events of a stream that was deleted meanwhile go with it; events flushed before a restart are there.
            if let Some(tail) = ordered.tails.get_mut(&batch.stream()).filter(|tail| epoch > tail.flushed()) {
                if let (StreamId::REQUESTS, EventBatch::Table(rows)) = (batch.stream(), &batch)
                    && let Err(reason) = self.requests.settle(epoch, rows)
                {
                    tracing::error!(%epoch, reason, "a request cannot be known again");
                }
                tail.push(epoch, batch, ticket.clone());
            }
        }
        drop(claims); // those of settled requests; a claim that is given up frees its name
        if !viewed.is_empty() {
            ordered.broadcast(&Command::Events { epoch, batches: viewed.into(), ticket });
        }
        ordered.advance_now_and_then(epoch);
        ordered.waits.reach(epoch);
    }

    /// Maintains a view from now on, beginning with what ClickHouse had of it.
    pub(crate) fn add_view(&self, ordered: &mut Ordered, view: &Arc<View>, at_start: ViewAtStart) {
        let ViewAtStart { flushed, rows, keys, failed, failed_before, history } = at_start;
        let flushed = flushed.max(view.id.created());
        let history = history.unwrap_or_else(|| ViewHistory::of_new(view));
        let horizon = history.horizon;
        let counters: Arc<ViewCounters> = Arc::default();
        counters.set_before(&failed_before);
        counters.fail(&failed);
        let program: Result<Arc<dyn Program>, String> = match (Rollup::of(view), &self.planner) {
            (Some(rollup), _) => Ok(Arc::new(rollup)),
            _ if ordered.gaps.contains(&view.id) => {
                Err("it was not maintained for a time, and lacks the events that came since; CREATE OR REPLACE makes it again".to_owned())
            }
            (None, Some(planner)) => planner.program(view, &ordered.catalog).map_err(|error| error.to_string()),
            (None, None) => Err("there is no planner for its statement".to_owned()),
        };
        let program = match program {
            Ok(program) => program,
            Err(reason) => {
                let name = &view.definition.name;
                tracing::error!(view = name, reason, "a view is not maintained; drop it and make it again");
                ordered.views.insert(view.id, OrderedView::new(flushed, horizon, failed, counters, Err(reason)));
                return;
            }
        };
        let view_keys = if view.definition.by_series {
            ViewKeys::Series(self.registry.clone())
        } else {
            ViewKeys::Values(Arc::new(KeyRegistry::new(ordered.workers())))
        };
        for (id, version) in rows.series.iter().zip(&rows.version) {
            if let Some(key) = keys.get(id) {
                view_keys.restore(*id, key, *version);
            }
        }
        self.pending.watch(view, &counters);
        let (view, rows, keys) = (view.clone(), Arc::new(rows), view_keys.clone());
        let known = OrderedView::new(flushed, horizon, failed, counters.clone(), Ok(view_keys));
        ordered.views.insert(view.id, known);
        ordered.broadcast(&Command::AddView(AddView { view, program, keys, counters, rows, flushed, history }));
    }

    fn drop_view(&self, ordered: &mut Ordered, view: &Arc<View>) {
        self.pending.unwatch(view);
        if ordered.views.remove(&view.id).is_some_and(|dropped| dropped.keys.is_ok()) {
            ordered.broadcast(&Command::DropView { view: view.id });
        }
    }

    fn change_catalog(&self, ordered: &mut Ordered, epoch: Epoch, change: CatalogChange) {
        let before = ordered.catalog.clone();
        if epoch <= ordered.catalog_flushed || !Arc::make_mut(&mut ordered.catalog).apply(epoch, &change) {
            return; // replayed, and in the catalogue that ClickHouse had; or refused, as the name is taken
        }
        match &change {
            CatalogChange::CreateStream(_) => {
                let id = StreamId(epoch.0);
                let flushed = ordered.streams_flushed_at_start.get(&id).copied().unwrap_or_default();
                ordered.tails.insert(id, Tail::new(flushed));
            }
            CatalogChange::DropStream(id) => {
                ordered.tails.remove(id);
            }
            CatalogChange::CreateView { .. } | CatalogChange::DropView(_) => {
                let after = ordered.catalog.clone();
                for gone in before.views.iter().filter(|view| after.view_by_id(view.id).is_none()) {
                    self.drop_view(ordered, gone);
                }
                for new in after.views.iter().filter(|view| before.view_by_id(view.id).is_none()) {
                    self.add_view(ordered, new, ViewAtStart::default());
                }
            }
        }
        ordered.catalog_changes.push((epoch, change));
    }

    /// Takes the memory part of a snapshot.
    pub(crate) fn read(&self, request: &SnapshotRequest) -> Result<Reading, EngineError> {
        let ordered = &*self.ordered.lock();
        let epoch = ordered.last;
        let missing = |id: &StreamId| EngineError::UnknownStream(id.0.to_string());
        let stream = |id: &StreamId| ordered.tails.get(id).map(|tail| tail.snapshot(epoch)).ok_or_else(|| missing(id));
        request.views.iter().try_for_each(|read| ordered.check_view(read.view))?;
        let streams = request.streams.iter().map(stream).collect::<Result<Vec<_>, _>>()?;
        let (reply, parts) = mpsc::unbounded();
        if !request.views.is_empty() {
            ordered.broadcast(&Command::Read { views: request.views.clone().into(), reply });
        }
        Ok(Reading { epoch, streams, parts })
    }
}

impl Ordered {
    /// Gives a command to all workers.
    pub(crate) fn broadcast(&self, command: &Command) {
        if !self.workers.broadcast(command) {
            tracing::error!("a worker is gone; restart the program, nothing acknowledged is lost");
        }
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Advances the views of streams that are quiet, so that dropped rows leave them; not with each epoch, since that
    /// costs each view something.
    fn advance_now_and_then(&mut self, epoch: Epoch) {
        if epoch.0 - self.advanced.0.min(epoch.0) >= ADVANCE_US {
            self.advanced = epoch;
            self.broadcast(&Command::Advance { epoch });
        }
    }

    /// Whether the view is there and maintained.
    pub(crate) fn check_view(&self, id: ViewId) -> Result<(), EngineError> {
        let name = || self.catalog.view_by_id(id).map_or_else(|| id.0.to_string(), |view| view.definition.name.clone());
        match self.views.get(&id) {
            None => Err(EngineError::UnknownView(name())),
            Some(OrderedView { keys: Err(reason), .. }) => {
                Err(EngineError::BrokenView { view: name(), reason: reason.clone() })
            }
            Some(_) => Ok(()),
        }
    }

    /// The views that are not maintained, and where they stand.
    pub(crate) fn unmaintained(&self) -> impl Iterator<Item = (ViewId, Epoch)> {
        self.views.iter().filter(|(_, view)| view.keys.is_err()).map(|(id, view)| (*id, view.flushed))
    }

    /// Everything at or below is in ClickHouse, whatever it is: the log may forget it.
    pub(crate) fn flushed_everywhere(&self) -> Epoch {
        let tails = self.tails.values().map(Tail::flushed);
        // A view that is not maintained would hold the log for ever; that it misses events is kept in `Gaps`.
        let views = self.views.values().filter(|view| view.keys.is_ok()).map(|view| view.flushed);
        tails.chain(views).chain([self.catalog_flushed]).min().unwrap_or_default()
    }
}

/// What the log thread calls.
pub(crate) struct OnCommit(pub(crate) Arc<Sequencer>);

impl Sequence for OnCommit {
    fn committed(&mut self, epoch: Epoch, group: Vec<Submission>) {
        self.0.add(epoch, group);
    }

    fn idle(&mut self, epoch: Epoch) {
        self.0.with(|ordered| {
            if epoch > ordered.last {
                ordered.last = epoch;
                ordered.advance_now_and_then(epoch);
                ordered.waits.reach(epoch);
            }
        });
    }
}

#[cfg(test)]
mod tests;
