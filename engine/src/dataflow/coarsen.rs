//! `coarsen`: partial states of fine buckets to those of coarse ones, without another look at an event.

use std::borrow::Cow;
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
    /// Cost: a look-up and a merge for each fine group, or a copy when the buckets are the same.
    pub(super) fn run(&mut self, fine: &Groups) -> Groups {
        let states = match &self.pick {
            None => Cow::Borrowed(&fine.states),
            Some(pick) => Cow::Owned(pick.from.pick_all(&pick.folds, &fine.states)),
        };
        let buckets: Vec<i64> = match self.bucket {
            CoarseBucket::Same => return Groups { states: states.into_owned(), ..fine.clone() },
            CoarseBucket::Floor(width) => fine.keys.iter().map(|key| key.bucket.floor(width).0).collect(),
            CoarseBucket::One => vec![GroupKey::NO_BUCKET.0; fine.keys.len()],
        };
        let width = match self.bucket {
            CoarseBucket::Floor(width) => width.as_micros(),
            _ => 1,
        };
        let (numbers, groups) = self.numbers.number(fine.places_len, &fine.places, &buckets, Some(width));
        let mut coarse = Groups {
            keys: Vec::with_capacity(groups.len()),
            places: groups.iter().map(|(place, _)| *place).collect(),
            places_len: fine.places_len,
            states: States::like(&states, groups.len()),
        };
        for (at, number) in numbers.into_iter().enumerate() {
            let number = number as usize;
            if number == coarse.states.len() {
                coarse.keys.push(GroupKey { series: fine.keys[at].series, bucket: EventTime(buckets[at]) });
                coarse.states.push(&states, at);
            } else {
                self.layout.merge_at(&mut coarse.states, number, &states, at);
            }
        }
        coarse
    }
}
