//! `aggregate`: a batch of events to the partial states of its groups.
//!
//! # Invariants
//!
//! 1. A batch is aggregated by one worker, and its partial states are made in the order of its events; so they are the
//!    same for any number of workers, to the last bit of a sum.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use streamgauge_schemas::state::{Accumulator, accumulator::Events};
use streamgauge_schemas::{Duration, EventTime, GroupKey, Layout, State, View};

use crate::program::{Computed, Failed, Keys, Prepared, Program};

/// Slots of a table without hashing: so many for each event, or this many at least.
const SLOTS_PER_EVENT: usize = 4;
const SLOTS_MIN: usize = 1_024;
const FREE: u32 = u32::MAX;

/// The partial states of one batch, ordered by group, each group once.
pub(crate) type Groups = Vec<(GroupKey, State)>;

/// Aggregates the batches of a view's stream.
pub(crate) struct Aggregate {
    program: Arc<dyn Program>,
    layout: Arc<Layout>,
    /// The length of a bucket, if all have one.
    width_us: Option<i64>,
    accumulator: Accumulator,
    table: HashMap<(u32, i64), u32, FixedState>,
    slots: Vec<u32>,
}

impl Aggregate {
    /// Makes one for a view.
    pub(crate) fn of(view: &View, program: Arc<dyn Program>, layout: Arc<Layout>) -> Self {
        let width = view.definition.bucket.as_ref().and_then(|bucket| bucket.width);
        let width_us = width.map(Duration::as_micros);
        let accumulator = Accumulator::new(layout.clone());
        Aggregate { program, layout, width_us, accumulator, table: HashMap::default(), slots: Vec::new() }
    }

    /// Aggregates a batch; its keys and failures come along.
    ///
    /// Cost: what the program costs, then a look-up and a few instructions a fold for each event, and a sort of the groups.
    pub(crate) fn run(&mut self, events: &Prepared) -> (Groups, Keys, Option<Failed>) {
        let Computed { keys, buckets, times, arguments, failed } = self.program.run(events);
        debug_assert_eq!(keys.of_row.len(), buckets.len(), "all columns have one length: programs, invariant 1");
        let (of_row, groups) = self.number(&keys, &buckets);
        self.accumulator.add(groups.len(), &Events { groups: &of_row, times: &times, arguments: &arguments });
        let states = self.accumulator.take();
        let key = |(key, bucket): (u32, i64)| GroupKey { series: keys.ids[key as usize], bucket: EventTime(bucket) };
        let mut groups: Groups = groups.into_iter().map(key).zip(states).collect();
        groups.sort_by_key(|(key, _)| *key); // stable: equal groups, of a series from two sources, stay in order
        merge_equal(&self.layout, &mut groups);
        (groups, keys, failed)
    }

    /// Numbers the groups of a batch: per event the number of its group, and per group its key's place and its bucket.
    fn number(&mut self, keys: &Keys, buckets: &[i64]) -> (Vec<u32>, Vec<(u32, i64)>) {
        let mut groups: Vec<(u32, i64)> = Vec::new();
        if let Some((lower, width, count)) = self.range(keys.ids.len(), buckets) {
            self.slots.clear();
            self.slots.resize(keys.ids.len() * count, FREE);
            let number = |(key, bucket): (&u32, &i64)| {
                let slot = &mut self.slots[*key as usize * count + ((bucket - lower) / width) as usize];
                if *slot == FREE {
                    *slot = groups.len() as u32;
                    groups.push((*key, *bucket));
                }
                *slot
            };
            return (keys.of_row.iter().zip(buckets).map(number).collect(), groups);
        }
        self.table.clear();
        let number = |(key, bucket): (&u32, &i64)| {
            *self.table.entry((*key, *bucket)).or_insert_with(|| {
                groups.push((*key, *bucket));
                groups.len() as u32 - 1
            })
        };
        (keys.of_row.iter().zip(buckets).map(number).collect(), groups)
    }

    /// The first bucket, their length and how many there are, when a slot for each key and bucket is little to hold.
    fn range(&self, keys: usize, buckets: &[i64]) -> Option<(i64, i64, usize)> {
        let lower = *buckets.iter().min()?;
        let upper = *buckets.iter().max()?;
        let width = match self.width_us {
            Some(width) => width,
            None if lower == upper => 1,
            None => return None,
        };
        let count = usize::try_from(upper.checked_sub(lower)? / width).ok()?.checked_add(1)?;
        let slots = keys.checked_mul(count)?;
        (slots <= SLOTS_MIN.max(buckets.len() * SLOTS_PER_EVENT)).then_some((lower, width, count))
    }
}

/// Merges neighbours of one group.
fn merge_equal(layout: &Layout, groups: &mut Groups) {
    groups.dedup_by(|(key, state), (kept, merged)| {
        let equal = key == kept;
        if equal {
            layout.merge(merged, state);
        }
        equal
    });
}
