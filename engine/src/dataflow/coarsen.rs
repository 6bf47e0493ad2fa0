//! `coarsen`: partial states of fine buckets to those of coarse ones, without another look at an event.

use std::sync::Arc;

use streamgauge_schemas::{Duration, GroupKey, Layout, ViewDefinition};

use super::aggregate::Groups;

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

    /// Merges the groups of a batch.
    ///
    /// # Contract
    ///
    /// Groups are ordered by (series, bucket), and every fine bucket lies in one coarse bucket; so equal coarse groups
    /// are neighbours, and the output is ordered again. Cost: linear in the fine groups, no hashing.
    pub(super) fn run(&self, fine: &Groups) -> Groups {
        let mut coarse: Groups = Vec::new();
        let mut picked;
        for (key, state) in fine {
            let bucket = match self.bucket {
                CoarseBucket::Same => key.bucket,
                CoarseBucket::Floor(width) => key.bucket.floor(width),
                CoarseBucket::One => GroupKey::NO_BUCKET,
            };
            let key = GroupKey { series: key.series, bucket };
            let state = match &self.pick {
                None => state,
                Some(pick) => {
                    picked = pick.from.pick(&pick.folds, state);
                    &picked
                }
            };
            match coarse.last_mut() {
                Some((last, merged)) if *last == key => self.layout.merge(merged, state),
                _ => coarse.push((key, state.clone())),
            }
        }
        coarse
    }
}
