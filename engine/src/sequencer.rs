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

use std::collections::HashMap;
use std::sync::Arc;

use futures_channel::mpsc;
use parking_lot::Mutex;
use streamgauge_schemas::stream::{Catalog, CatalogChange};
use streamgauge_schemas::{Epoch, EventBatch, MetricsBatch, StreamId};

use crate::log::{Sequence, Submission};
use crate::pending::Pending;
use crate::registry::SeriesRegistry;
use crate::requests::Requests;
use crate::snapshot::{SnapshotRequest, StreamSnapshot};
use crate::tail::Tail;
use crate::waits::EpochWaits;
use crate::workers::{Command, Part, Workers};

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
    pub(crate) view_flushed: Vec<Epoch>,
    pub(crate) events_total: u64,
    /// `F` of each stream as ClickHouse had it at start, also of streams that the log is yet to make.
    pub(crate) streams_flushed_at_start: HashMap<StreamId, Epoch>,
    workers: Workers,
}

/// See the module.
pub(crate) struct Sequencer {
    ordered: Mutex<Ordered>,
    registry: Arc<SeriesRegistry>,
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
        views: usize,
        registry: Arc<SeriesRegistry>,
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
            view_flushed: vec![Epoch::ZERO; views],
            events_total: 0,
            streams_flushed_at_start: HashMap::new(),
            workers,
        };
        Sequencer { ordered: Mutex::new(ordered), registry, requests, pending }
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
        let mut metrics: Vec<Arc<MetricsBatch>> = Vec::new();
        let mut batches = Vec::with_capacity(group.len());
        let mut claims = Vec::new();
        for submission in group {
            match submission {
                Submission::Catalog(change) => ordered.change_catalog(epoch, change),
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
                metrics.push(batch.clone());
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
        if metrics.is_empty() {
            ordered.broadcast(&Command::Advance { epoch });
        } else {
            ordered.broadcast(&Command::Events { epoch, batches: metrics.into(), ticket });
        }
        ordered.waits.reach(epoch);
    }

    /// Takes the memory part of a snapshot.
    pub(crate) fn read(&self, request: &SnapshotRequest) -> Result<Reading, StreamId> {
        let ordered = &*self.ordered.lock();
        let epoch = ordered.last;
        let stream = |id: &StreamId| ordered.tails.get(id).map(|tail| tail.snapshot(epoch)).ok_or(*id);
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

    fn change_catalog(&mut self, epoch: Epoch, change: CatalogChange) {
        if epoch <= self.catalog_flushed || !Arc::make_mut(&mut self.catalog).apply(epoch, &change) {
            return; // replayed, and in the catalogue that ClickHouse had; or refused, as the name is taken
        }
        match &change {
            CatalogChange::CreateStream(_) => {
                let id = StreamId(epoch.0);
                let flushed = self.streams_flushed_at_start.get(&id).copied().unwrap_or_default();
                self.tails.insert(id, Tail::new(flushed));
            }
            CatalogChange::DropStream(id) => {
                self.tails.remove(id);
            }
        }
        self.catalog_changes.push((epoch, change));
    }

    /// Everything at or below is in ClickHouse, whatever it is: the log may forget it.
    pub(crate) fn flushed_everywhere(&self) -> Epoch {
        let tails = self.tails.values().map(Tail::flushed);
        tails.chain(self.view_flushed.iter().copied()).chain([self.catalog_flushed]).min().unwrap_or_default()
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
                ordered.broadcast(&Command::Advance { epoch });
                ordered.waits.reach(epoch);
            }
        });
    }
}
