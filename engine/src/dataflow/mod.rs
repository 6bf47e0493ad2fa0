//! The dataflow: from batches of events to maintained group states, on timely workers.
//!
//! ```text
//!  events ─▶ aggregate (1s) ─┬─────────────▶ accumulate ─▶ arrangement of metrics_1s
//!           (once per event) │
//!                            └▶ coarsen (1m) ─┬──▶ accumulate ─▶ arrangement of metrics_1m
//!                                             └▶ coarsen (1h) ─┬▶ accumulate ─▶ …
//!                                                              └▶ coarsen (1d) …
//!            each stage's partial states also pass a tap ─▶ live followers
//! ```
//!
//! Each worker owns the series whose identity falls to it ([`SeriesId::owner`]), so a series is summed in the
//! order of the log by one thread, and any number of workers gives the same states, bit for bit.
//!
//! Nothing here reads a clock, does I/O or spawns. Only this folder and `workers.rs` name timely or differential.
//!
//! # Layout
//!
//! - [`aggregate`]: events to partial states of the finest buckets.
//! - [`coarsen`]: partial states of fine buckets to those of coarse ones.
//! - [`accumulate`]: partial states into rows of an arrangement, by the rules of generations.
//! - [`tap`]: partial states to those who follow a view live.
//! - [`arrangement`]: reading an arrangement: filtered, or what a flush needs.
//!
//! # Time
//!
//! The timely timestamp is the epoch. The input is advanced past an epoch when all of its events are in.
//!
//! [`SeriesId::owner`]: streamgauge_schemas::SeriesId::owner

mod accumulate;
mod aggregate;
mod arrangement;
mod coarsen;
mod tap;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use streamgauge_schemas::{Epoch, GroupKey, MetricsBatch, State, ViewDefinition};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::dataflow::operators::{Input, Probe};
use timely::dataflow::{InputHandle, Scope};

pub(crate) use arrangement::{Arrangement, Scan};
pub(crate) use tap::Followers;

/// All events of one epoch, shared by all workers.
#[derive(Clone)]
pub(crate) struct Arrived {
    pub(crate) epoch: Epoch,
    pub(crate) batches: Arc<[Arc<MetricsBatch>]>,
}

/// The partial states of one epoch and one view, each group once, ordered by group.
#[derive(Clone)]
struct Partials {
    epoch: Epoch,
    groups: Rc<Vec<(GroupKey, State)>>,
}

/// Which worker of how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) index: usize,
    pub(crate) workers: usize,
}

/// A view as a worker holds it.
pub(crate) struct View {
    pub(crate) definition: Arc<ViewDefinition>,
    /// Its rows in memory.
    pub(crate) arrangement: Arrangement,
    /// Who follows its partial states.
    pub(crate) followers: Rc<RefCell<Followers>>,
}

/// One worker's dataflow: where events go in, how far it is, and its views.
pub(crate) struct Dataflow {
    pub(crate) input: InputHandle<u64, CapacityContainerBuilder<Vec<Arrived>>>,
    pub(crate) probe: ProbeHandle<u64>,
    pub(crate) views: Vec<View>,
}

/// Builds the dataflow of one worker; `views` are ordered finest first, each bucket a multiple of the one before.
pub(crate) fn build(scope: Scope<'_, u64>, share: Share, views: &[Arc<ViewDefinition>]) -> Dataflow {
    let (input, events) = scope.new_input::<Vec<Arrived>>();
    let probe = ProbeHandle::new();
    let mut built = Vec::with_capacity(views.len());
    let mut finer = None;
    let mut events = Some(events);
    for definition in views {
        let partials = match (events.take(), finer.take()) {
            (Some(events), _) => aggregate::aggregate(events, definition.bucket, share),
            (None, Some(finer)) => coarsen::coarsen(finer, definition.bucket),
            (None, None) => unreachable!("the first view takes the events, each other one the view before"),
        };
        let followers = Rc::new(RefCell::new(Followers::default()));
        let partials = tap::tap(partials, followers.clone());
        let (changes, arrangement) = accumulate::accumulate(partials.clone(), definition);
        changes.probe_with(&probe);
        built.push(View { definition: definition.clone(), arrangement, followers });
        finer = Some(partials);
    }
    Dataflow { input, probe, views: built }
}
