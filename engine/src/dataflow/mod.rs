//! The dataflow: from batches of events to maintained group states, on timely workers.
//!
//! ```text
//!  batch ─▶ program ─▶ aggregate ─▶ exchange ─▶ accumulate ─┬─▶ rows and their arrangement
//!           (once per event)        by group                ├─▶ live followers
//!                                                           └─▶ feed ─┬────────────▶ rows of a coarser view
//!                                                                     └▶ coarsen ──▶ rows of a still coarser one
//! ```
//!
//! A batch is aggregated by one worker. Partial states then go to the worker that owns their group ([`SeriesId::owner`]), which
//! merges them in the order of the log: epoch by epoch, and batch by batch in it. So any number of workers gives the same
//! states. Views are fed from finer ones where they can be, by the owner of their groups: partial states wait in a feed, merged, until somebody
//! wants to see such a view.
//!
//! Nothing here reads a clock, does I/O or spawns. Only this folder and `workers.rs` name timely or differential.
//!
//! # Layout
//!
//! - [`plan`]: which view is fed from which.
//! - [`aggregate`]: a batch of events to partial states; `number`: which of its events are of one group.
//! - [`parcel`]: partial states on their way to their owner.
//! - [`accumulate`]: partial states into rows.
//! - [`followers`]: partial states to those who follow a view live.
//! - [`family`]: views that are fed from one another; [`series`]: the dimension values that they have in common.
//! - [`feed`]: what waits for a view that is fed; [`coarsen`]: partial states of fine buckets to those of coarse ones;
//!   [`partials`]: such as are of several epochs.
//! - [`held`]: what a worker has of a view; [`table`]: the rows, changed in place by the rules of generations; of a view that is fed
//!   those of the buckets that last lie in `table/current.rs`, by series.
//! - [`young`]: which rows are not in their index yet.
//! - [`arrangement`]: the index, and reading them: filtered, or what a flush needs.
//!
//! # Time
//!
//! The timely timestamp is the epoch. The input of a view is advanced past an epoch when all of its events are in; epochs
//! that bring no event of its stream leave it where it is.
//!
//! [`SeriesId::owner`]: streamgauge_schemas::SeriesId::owner

mod accumulate;
mod aggregate;
mod arrangement;
mod coarsen;
mod family;
mod feed;
mod followers;
mod held;
mod number;
mod parcel;
mod partials;
mod plan;
mod series;
mod table;
mod young;

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;

use streamgauge_schemas::{Epoch, Layout, View};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::dataflow::operators::{Input, Probe};
use timely::worker::Worker;

pub(crate) use aggregate::{Aggregate, Groups};
pub(crate) use arrangement::{Arrangement, Scan};
pub(crate) use family::Family;
pub(crate) use held::Held;
pub(crate) use plan::{Feeding, Plan, feeders};

use parcel::Parcel;
use table::Table;

/// One worker's dataflow of a view: where partial states go in, how far it is, and what it holds.
pub(crate) struct ViewFlow {
    input: InputHandle<u64, CapacityContainerBuilder<Vec<Parcel>>>,
    probe: ProbeHandle<u64>,
    /// Its rows in memory.
    pub(crate) arrangement: Arrangement,
    /// What waits for views that are fed from this one.
    family: Rc<RefCell<Option<Family>>>,
}

impl ViewFlow {
    /// Builds the dataflow of a view; every worker must build those of all views in the same order.
    pub(crate) fn build(worker: &mut Worker, view: &View, layout: Arc<Layout>) -> Self {
        let workers = worker.peers();
        let probe = ProbeHandle::new();
        let family = Rc::default();
        let (input, arrangement) = worker.dataflow(|scope| {
            let (input, parcels) = scope.new_input::<Vec<Parcel>>();
            let mine = parcel::exchange(parcels, workers);
            let table = Table::new(layout, view.definition.options.idle.as_micros() as u64);
            let (changes, arrangement) = accumulate::accumulate(mine, table, Rc::clone(&family));
            changes.probe_with(&probe);
            (input, arrangement)
        });
        ViewFlow { input, probe, arrangement, family }
    }

    /// What waits for views that are fed from this one, if any are.
    pub(crate) fn family(&self) -> RefMut<'_, Option<Family>> {
        self.family.borrow_mut()
    }

    /// The same, to be looked at while views change.
    pub(crate) fn shared_family(&self) -> Rc<RefCell<Option<Family>>> {
        Rc::clone(&self.family)
    }

    /// Puts in the partial states of a batch.
    pub(crate) fn send(&mut self, epoch: Epoch, batch: u32, groups: Groups, workers: usize) {
        self.input.advance_to(epoch.0.max(*self.input.time()));
        parcel::parcels(epoch, batch, groups, workers).into_iter().for_each(|parcel| self.input.send(parcel));
    }

    /// Says that nothing at or below `epoch` comes any more.
    pub(crate) fn advance(&mut self, epoch: Epoch) {
        self.input.advance_to((epoch.0 + 1).max(*self.input.time()));
    }

    /// Whether all that was put in is in the arrangement.
    pub(crate) fn is_caught_up(&self) -> bool {
        !self.probe.less_than(self.input.time())
    }
}
