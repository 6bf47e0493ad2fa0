//! `coarsen`: partial states of fine buckets to those of coarse ones, without another look at an event.

use std::sync::Arc;

use streamgauge_schemas::state::States;
use streamgauge_schemas::{Duration, EventTime, GroupKey, Layout, ViewDefinition};

use super::aggregate::Groups;
use super::number::Numbers;

/// Makes the groups of one view from those of a finer one.
pub(super) struct Coarsen {
    bucket: CoarseBucket,
    layout: Arc<Layout>,
    /// How this view's folds are taken from the finer one's; `None` when they are the same.
    pick: Option<Pick>,
    numbers: Numbers,
}

/// What becomes of a fine bucket.
#[derive(Clone, Copy)]
enum CoarseBucket {
    Same,
    Floor(Duration),
    One,
}

/// Takes some folds of another layout.
struct Pick {
    from: Arc<Layout>,
    folds: Vec<usize>,
}

impl Coarsen {
    /// `view` is fed by `finer` ([`ViewDefinition::is_fed_by`]).
    pub(super) fn new(
        view: &ViewDefinition,
        layout: Arc<Layout>,
        finer: &ViewDefinition,
        finer_layout: Arc<Layout>,
    ) -> Self {
        let bucket = match (&view.bucket, &finer.bucket) {
            (None, _) => CoarseBucket::One,
            (Some(bucket), Some(finer)) if bucket.expression == finer.expression => CoarseBucket::Same,
            (Some(bucket), _) => bucket.width.map_or(CoarseBucket::Same, CoarseBucket::Floor),
        };
        let folds = view.folds_of(finer).expect("a view is fed by one that has its folds");
        let same = folds.iter().copied().eq(0..finer.folds.len());
        let pick = (!same).then_some(Pick { from: finer_layout, folds });
        Coarsen { bucket, layout, pick, numbers: Numbers::default() }
    }

    /// Merges the groups of a batch, in their order.
    ///
    /// Cost: a look-up and a merge for each fine group, or nearly nothing when they lie in one bucket already.
    pub(super) fn run(&mut self, fine: &Groups) -> Groups {
        let states = match &self.pick {
            None => fine.states.clone(),
            Some(pick) => Arc::new(pick.from.pick_all(&pick.folds, &fine.states)),
        };
        let coarse = |key: &GroupKey| match self.bucket {
            CoarseBucket::Same => key.bucket,
            CoarseBucket::Floor(width) => key.bucket.floor(width),
            CoarseBucket::One => GroupKey::NO_BUCKET,
        };
        let first = fine.keys.first().map(|key| key.bucket);
        let is_one = fine.keys.iter().all(|key| Some(key.bucket) == first);
        if is_one || matches!(self.bucket, CoarseBucket::Same) {
            // No two of these groups become one.
            let bucket = fine.keys.first().map_or(GroupKey::NO_BUCKET, coarse);
            let key =
                |key: &GroupKey| GroupKey { series: key.series, bucket: if is_one { bucket } else { key.bucket } };
            let keys = fine.keys.iter().map(key).collect();
            return Groups { keys, places: fine.places.clone(), batch: fine.batch.clone(), states };
        }
        let buckets: Vec<i64> = fine.keys.iter().map(|key| coarse(key).0).collect();
        let width = match self.bucket {
            CoarseBucket::Floor(width) => width.as_micros(),
            _ => 1,
        };
        let (numbers, groups) = self.numbers.number(fine.batch.len, &fine.places, &buckets, Some(width));
        let (mut keys, mut merged) = (Vec::with_capacity(groups.len()), States::like(&states, groups.len()));
        for (at, number) in numbers.into_iter().enumerate() {
            let number = number as usize;
            if number == merged.len() {
                keys.push(GroupKey { series: fine.keys[at].series, bucket: EventTime(buckets[at]) });
                merged.push(&states, at);
            } else {
                self.layout.merge_at(&mut merged, number, &states, at);
            }
        }
        let places = groups.iter().map(|(place, _)| *place).collect();
        Groups { keys, places, batch: fine.batch.clone(), states: Arc::new(merged) }
    }
}
