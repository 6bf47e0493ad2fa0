//! `aggregate`: a batch of events to the partial states of its groups.
//!
//! # Invariants
//!
//! 1. A batch is aggregated by one worker, and its partial states are made in the order of its events; so they are the
//!    same for any number of workers, to the last bit of a sum.

use std::sync::Arc;

use streamgauge_schemas::state::{Accumulator, States, accumulator::Events};
use streamgauge_schemas::{Duration, EventTime, GroupKey, Layout, State, View};

use super::number::Numbers;
use crate::program::{Computed, Failed, Keys, Prepared, Program};

/// The partial states of one batch, in the order of their first events. A group may be there twice, when a program has its
/// dimension values twice.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    /// The groups.
    pub(crate) keys: Vec<GroupKey>,
    /// Per group the place of its dimension values among those of the batch.
    pub(super) places: Vec<u32>,
    /// How many dimension values the batch has.
    pub(super) places_len: usize,
    /// Per group its state.
    pub(crate) states: States,
}

impl Groups {
    /// The groups with their states.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (GroupKey, State)> + '_ {
        self.keys.iter().copied().zip(self.states.iter())
    }
}

/// Aggregates the batches of a view's stream.
pub(crate) struct Aggregate {
    program: Arc<dyn Program>,
    /// The length of a bucket, if all have one.
    width_us: Option<i64>,
    accumulator: Accumulator,
    numbers: Numbers,
}

impl Aggregate {
    /// Makes one for a view.
    pub(crate) fn of(view: &View, program: Arc<dyn Program>, layout: Arc<Layout>) -> Self {
        let width = view.definition.bucket.as_ref().and_then(|bucket| bucket.width);
        let accumulator = Accumulator::new(layout);
        Aggregate { program, width_us: width.map(Duration::as_micros), accumulator, numbers: Numbers::default() }
    }

    /// Aggregates a batch; its keys and failures come along.
    ///
    /// Cost: what the program costs, then a look-up and a few instructions a fold for each event.
    pub(crate) fn run(&mut self, events: &Prepared) -> (Groups, Keys, Option<Failed>) {
        let Computed { keys, buckets, times, arguments, failed } = self.program.run(events);
        debug_assert_eq!(keys.of_row.len(), buckets.len(), "all columns have one length: programs, invariant 1");
        let (of_row, groups) = self.numbers.number(keys.ids.len(), &keys.of_row, &buckets, self.width_us);
        self.accumulator.add(groups.len(), &Events { groups: &of_row, times: &times, arguments: &arguments });
        let key =
            |(place, bucket): &(u32, i64)| GroupKey { series: keys.ids[*place as usize], bucket: EventTime(*bucket) };
        let groups = Groups {
            keys: groups.iter().map(key).collect(),
            places: groups.iter().map(|(place, _)| *place).collect(),
            places_len: keys.ids.len(),
            states: self.accumulator.take(),
        };
        (groups, keys, failed)
    }
}
