//! The plan: how the views over a stream are made of its batches.
//!
//! ```text
//!  metrics ─▶ aggregate metrics_1s ─▶ coarsen metrics_1m ─▶ coarsen metrics_1h ─▶ coarsen metrics_1d
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
use super::coarsen::Coarsen;
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

/// The stages of all streams of one worker.
#[derive(Default)]
pub(crate) struct Plan {
    roots: HashMap<StreamId, Vec<Stage>>,
}

/// One view, and those that are fed from it.
struct Stage {
    feeding: Feeding,
    make: Make,
    fed: Vec<Stage>,
}

/// How a view's groups are made.
enum Make {
    /// From events.
    Aggregate(Box<Aggregate>),
    /// From the groups of the stage above.
    Coarsen(Box<Coarsen>),
}

impl Plan {
    /// Plans views for so many workers; `views` in the order in which they were made.
    pub(crate) fn new(views: &[Feeding], workers: usize) -> Self {
        let feeder = feeders(views.iter().map(|feeding| &*feeding.view));
        let ordered: Vec<&Feeding> = views.iter().collect();
        let mut plan = Plan::default();
        for feeding in ordered.iter().filter(|feeding| !feeder.contains_key(&feeding.view.id)) {
            let aggregate = Aggregate::of(&feeding.view, feeding.program.clone(), feeding.layout.clone());
            let feeds = feeder.values().any(|finer| *finer == feeding.view.id);
            let aggregate = if feeds { aggregate.of_family(feeding.view.id, workers) } else { aggregate };
            let stage = Stage::new(feeding, Make::Aggregate(Box::new(aggregate)), &ordered, &feeder);
            plan.roots.entry(feeding.view.definition.stream).or_default().push(stage);
        }
        plan
    }

    /// The views of each family, in which one is fed by no other, and comes first.
    pub(crate) fn families(&self) -> impl Iterator<Item = Vec<ViewId>> + '_ {
        self.roots.values().flatten().filter(|stage| !stage.fed.is_empty()).map(|stage| {
            let mut views = Vec::new();
            stage.each(&mut |feeding| views.push(feeding.view.id));
            views
        })
    }

    /// Makes the groups of every view over the stream of a batch, but of those that have the epoch already.
    pub(crate) fn run(
        &mut self,
        epoch: Epoch,
        events: &Prepared,
        give: &mut impl FnMut(ViewId, Groups),
        failed: &mut impl FnMut(ViewId, Failed),
    ) {
        for stage in self.roots.get_mut(&events.batch().stream()).into_iter().flatten() {
            if !stage.wants(epoch) {
                continue;
            }
            let Make::Aggregate(aggregate) = &mut stage.make else { continue };
            let (groups, keys, failure) = aggregate.run(events);
            stage.each(&mut |feeding| {
                if epoch > feeding.skip {
                    feeding.keys.register(&keys, epoch);
                    if let Some(failure) = &failure {
                        failed(feeding.view.id, failure.clone());
                    }
                }
            });
            stage.give(epoch, groups, give);
        }
    }
}

impl Stage {
    fn new(feeding: &Feeding, make: Make, all: &[&Feeding], feeder: &HashMap<ViewId, ViewId>) -> Self {
        let fed = all.iter().filter(|other| feeder.get(&other.view.id) == Some(&feeding.view.id)).map(|coarser| {
            let (finer, finer_layout) = (&feeding.view.definition, feeding.layout.clone());
            let coarsen = Coarsen::new(&coarser.view.definition, coarser.layout.clone(), finer, finer_layout);
            Stage::new(coarser, Make::Coarsen(Box::new(coarsen)), all, feeder)
        });
        Stage { feeding: feeding.clone(), make, fed: fed.collect() }
    }

    fn wants(&self, epoch: Epoch) -> bool {
        epoch > self.feeding.skip || self.fed.iter().any(|stage| stage.wants(epoch))
    }

    fn each(&self, visit: &mut impl FnMut(&Feeding)) {
        visit(&self.feeding);
        self.fed.iter().for_each(|stage| stage.each(visit));
    }

    /// Gives this view its groups, and those that are fed from it theirs.
    fn give(&mut self, epoch: Epoch, groups: Groups, give: &mut impl FnMut(ViewId, Groups)) {
        for stage in self.fed.iter_mut().filter(|stage| stage.wants(epoch)) {
            if let Make::Coarsen(coarsen) = &mut stage.make {
                let coarse = coarsen.run(&groups);
                stage.give(epoch, coarse, give);
            }
        }
        if epoch > self.feeding.skip {
            give(self.feeding.view.id, groups);
        }
    }
}

/// The length of a view's buckets in µs; without one, or with buckets of several lengths, it is the coarsest.
fn width(view: &View) -> i64 {
    let width = view.definition.bucket.as_ref().and_then(|bucket| bucket.width);
    width.map_or(i64::MAX, Duration::as_micros)
}
