//! `coarsen`: partial states of fine buckets to those of coarse ones, without another look at an event.

use std::sync::Arc;

use streamgauge_schemas::state::States;
use streamgauge_schemas::{Duration, EventTime, GroupKey, Layout, ViewDefinition};

use super::partials::Merged;

/// Makes the groups of one view from those of a finer one.
pub(super) struct Coarsen {
    bucket: CoarseBucket,
    layout: Arc<Layout>,
    /// How this view's folds are taken from the finer one's; `None` when they are the same.
    pick: Option<Pick>,
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
        Coarsen { bucket, layout, pick }
    }

    /// What is kept of a group of this view.
    pub(super) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The bucket that a fine one lies in.
    #[inline]
    pub(super) fn bucket(&self, fine: EventTime) -> EventTime {
        match self.bucket {
            CoarseBucket::Same => fine,
            CoarseBucket::Floor(width) => fine.floor(width),
            CoarseBucket::One => GroupKey::NO_BUCKET,
        }
    }

    /// This view's folds of fine states, when they are not the same.
    pub(super) fn pick(&self, fine: &States) -> Option<States> {
        self.pick.as_ref().map(|pick| pick.from.pick_all(&pick.folds, fine))
    }

    /// The same partial states for this view. Those that become of one group stay apart, in their order, so that what a row
    /// becomes does not depend on what was brought together with it.
    pub(super) fn run(&self, fine: &Merged) -> Merged {
        let states = self.pick(&fine.states).map_or_else(|| fine.states.clone(), Arc::new);
        let coarse = |key: &GroupKey| GroupKey { series: key.series, bucket: self.bucket(key.bucket) };
        let (keys, spans, numbers) = (fine.keys.iter().map(coarse).collect(), fine.spans.clone(), fine.numbers.clone());
        Merged { keys, spans, numbers, states }
    }
}
