//! The plan: how the views over a stream are made of its batches.
//!
//! ```text
//!  metrics ─▶ aggregate metrics_1s ─▶ feed metrics_1m ─▶ coarsen metrics_1h ─▶ coarsen metrics_1d
//!          └▶ aggregate by_host
//! ```
//!
//! It is made anew when a view comes or goes. A view is fed from the coarsest one that it can be fed from, so that the
//! fewest groups are merged again; of equal ones from the one made first.
//!
//! # Invariants
//!
//! 1. A view is fed from one that comes before it in the order of the plan, so there are no circles.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use streamgauge_schemas::{Duration, Epoch, Layout, StreamId, View, ViewId};

use super::aggregate::{Aggregate, Groups};
use crate::keys::ViewKeys;
use crate::program::{Failed, Prepared, Program};

/// From which view each of these is fed that does not read events itself.
pub(crate) fn feeders<'a>(views: impl Iterator<Item = &'a View>) -> HashMap<ViewId, ViewId> {
    let mut ordered: Vec<&View> = views.collect();
    ordered.sort_by_key(|view| (width(view), view.id)); // finest first (invariant 1)
    let mut feeders = HashMap::new();
    for (index, view) in ordered.iter().enumerate() {
        let finer = ordered[..index].iter().filter(|finer| view.definition.is_fed_by(&finer.definition));
        if let Some(best) = finer.max_by_key(|finer| (width(finer), Reverse(finer.id))) {
            feeders.insert(view.id, best.id);
        }
    }
    feeders
}

/// A view as the plan knows it.
#[derive(Clone)]
pub(crate) struct Feeding {
    pub(crate) view: Arc<View>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) program: Arc<dyn Program>,
    pub(crate) keys: ViewKeys,
    /// Events at or below are in ClickHouse, or were before the view.
    pub(crate) skip: Epoch,
}

/// What one worker does with the batches of each stream.
#[derive(Default)]
pub(crate) struct Plan {
    roots: HashMap<StreamId, Vec<Root>>,
    /// Of each view that is fed, the one of its family that is not.
    root_of: HashMap<ViewId, ViewId>,
}

/// A view that is made of events.
struct Root {
    aggregate: Aggregate,
    /// It, and those that are fed from it.
    family: Vec<Feeding>,
}

impl Plan {
    /// Plans views; `views` in the order in which they were made, and `feeders` as [`feeders`] has them.
    pub(crate) fn new(views: &[&Feeding], feeders: &HashMap<ViewId, ViewId>) -> Self {
        let root = |view: ViewId| {
            let mut root = view;
            while let Some(finer) = feeders.get(&root) {
                root = *finer; // invariant 1
            }
            root
        };
        let mut plan = Plan::default();
        for feeding in views {
            let id = feeding.view.id;
            if feeders.contains_key(&id) {
                plan.root_of.insert(id, root(id));
                continue;
            }
            let aggregate = Aggregate::of(&feeding.view, feeding.program.clone(), feeding.layout.clone());
            let fed = views.iter().filter(|other| other.view.id != id && root(other.view.id) == id);
            let family = std::iter::once(feeding).chain(fed).map(|feeding| (*feeding).clone()).collect();
            plan.roots.entry(feeding.view.definition.stream).or_default().push(Root { aggregate, family });
        }
        plan
    }

    /// The view that a fed one is made of in the end.
    pub(crate) fn root_of(&self, view: ViewId) -> Option<ViewId> {
        self.root_of.get(&view).copied()
    }

    /// The views of the family of a view, of which the first is fed by no other.
    pub(crate) fn family_of(&self, view: ViewId) -> impl Iterator<Item = ViewId> + '_ {
        let root = self.root_of(view).unwrap_or(view);
        let mine = self.roots.values().flatten().filter(move |other| other.family[0].view.id == root);
        mine.flat_map(|root| root.family.iter().map(|feeding| feeding.view.id))
    }

    /// Makes the groups of every view that is made of the events of a batch, unless it and all that are fed from it have the
    /// epoch already.
    pub(crate) fn run(
        &mut self,
        epoch: Epoch,
        events: &Prepared,
        give: &mut impl FnMut(ViewId, Groups),
        failed: &mut impl FnMut(ViewId, Failed),
    ) {
        for Root { aggregate, family } in self.roots.get_mut(&events.batch().stream()).into_iter().flatten() {
            if family.iter().all(|feeding| epoch <= feeding.skip) {
                continue;
            }
            let (groups, keys, failure) = aggregate.run(events);
            for feeding in family.iter().filter(|feeding| epoch > feeding.skip) {
                feeding.keys.register(&keys, epoch);
                if let Some(failure) = &failure {
                    failed(feeding.view.id, failure.clone());
                }
            }
            give(family[0].view.id, groups);
        }
    }
}

/// The length of a view's buckets in µs; without one, or with buckets of several lengths, it is the coarsest.
fn width(view: &View) -> i64 {
    let width = view.definition.bucket.as_ref().and_then(|bucket| bucket.width);
    width.map_or(i64::MAX, Duration::as_micros)
}
