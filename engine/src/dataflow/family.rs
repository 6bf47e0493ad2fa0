//! A family: a view, and those that are fed from it, as the owner of their groups knows them.
//!
//! ```text
//!  view ─┬─▶ feed ─▶ view fed from it ─┬─▶ coarsen ─▶ view fed from that
//!        │                             └─▶ coarsen ─▶ …
//!        └─▶ feed ─▶ …
//! ```
//!
//! What waits in a feed goes on to all views below it at once: when one of them is read or flushed, when it has become much,
//! and with every batch as long as one of them is followed or replays what ClickHouse may have.
//!
//! # Invariants
//!
//! 1. Who looks at the rows of a fed view has had its family bring what waits for it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use streamgauge_schemas::{Epoch, SeriesId, ViewId};

use super::coarsen::Coarsen;
use super::feed::Feed;
use super::held::Held;
use super::parcel::Parcel;
use super::partials::{Merged, Partials, Spans};
use super::plan::Feeding;
use super::series::{Numbers, Series};

/// So many series have numbers before it is asked whether they still have rows.
const SERIES_MIN: usize = 1_024;

/// See the module.
pub(crate) struct Family {
    series: Series,
    branches: Vec<Branch>,
    /// The numbers of a batch's groups, kept for its room.
    numbers: Vec<u32>,
}

/// The views that one feed is for.
struct Branch {
    feed: Feed,
    first: Fed,
}

/// A view that is fed, and those that are fed from it.
struct Fed {
    view: ViewId,
    held: Rc<RefCell<Held>>,
    fed: Vec<(Coarsen, Fed)>,
}

/// A batch, by its epoch and its place in that.
type Batch = (Epoch, u32);

impl Family {
    /// That of the view `first`, which is fed by no other, when views are fed from it. `feeders` says from which each one is;
    /// `before` is the family of the view until now, for which nothing waits.
    pub(crate) fn new(
        before: Option<Family>,
        first: &Feeding,
        all: &[&Feeding],
        feeders: &HashMap<ViewId, ViewId>,
        held: &impl Fn(ViewId) -> Rc<RefCell<Held>>,
    ) -> Option<Self> {
        let branches: Vec<Branch> = fed_by(first, all, feeders, held)
            .into_iter()
            .map(|(coarsen, first)| {
                let idle_us = first.each().map(|fed| fed.held.borrow().table.idle_us()).min().unwrap_or_default();
                Branch { feed: Feed::new(coarsen, first.each().count(), idle_us), first }
            })
            .collect();
        let series = before.map_or_else(Series::new, |before| before.series);
        (!branches.is_empty()).then(|| {
            let mut family = Family { series, branches, numbers: Vec::new() };
            family.number_rows();
            family
        })
    }

    /// Rows lie by the numbers that there are now; series that have rows and no number get one.
    fn number_rows(&mut self) {
        let all = self.branches.iter().flat_map(|branch| branch.first.each());
        all.for_each(|fed| fed.held.borrow_mut().number_rows(&mut self.series));
    }

    /// Numbers the series of a batch.
    pub(super) fn number(&mut self, parcel: &Parcel) -> Numbers<'_> {
        let groups = &parcel.groups;
        self.series.number(&groups.keys, &groups.places, groups.places_len, &mut self.numbers);
        self.series.numbers(&self.numbers)
    }

    /// Takes the groups of the view that is fed by no other, of a batch whose series were numbered just now.
    pub(super) fn feed(&mut self, parcel: &Parcel) {
        let Parcel { epoch, batch, groups, .. } = parcel;
        for branch in &mut self.branches {
            let alone = branch.wants_batches(*epoch);
            if alone || branch.feed.is_due(*epoch) {
                branch.bring(&self.series, None);
            }
            branch.feed.add(*epoch, &groups.keys, &groups.states, &self.numbers, self.series.len());
            if alone {
                branch.bring(&self.series, Some((*epoch, *batch)));
            } else if let Some(excess) = branch.feed.take_excess(&self.series) {
                branch.first.take(&excess, &self.series, None);
            }
        }
    }

    /// No epoch at or below this one comes any more.
    pub(super) fn passed(&mut self, epoch: Epoch) {
        let all = self.branches.iter().flat_map(|branch| branch.first.each());
        all.for_each(|fed| fed.held.borrow_mut().table.passed(epoch));
    }

    /// Brings what waits for a view, of these series or of all; answers whether anything did.
    pub(crate) fn bring(&mut self, view: ViewId, series: Option<&[SeriesId]>) -> bool {
        let mut brought = false;
        for branch in self.branches.iter_mut().filter(|branch| branch.first.each().any(|fed| fed.view == view)) {
            brought |= match series {
                None => branch.bring(&self.series, None),
                Some(ids) => {
                    let numbers = ids.iter().filter_map(|id| self.series.find(*id));
                    let merged = branch.feed.take_of(numbers, &self.series);
                    branch.first.take(&merged, &self.series, None)
                }
            };
        }
        brought
    }

    /// Brings all that waits; answers whether anything did.
    pub(crate) fn bring_all(&mut self) -> bool {
        self.branches.iter_mut().fold(false, |brought, branch| brought | branch.bring(&self.series, None))
    }

    /// Begins to number anew when most of the series that have a number have no row, where no view of the family has more
    /// than `rows` rows.
    pub(crate) fn trim(&mut self, rows: usize) {
        if self.series.len() > 2 * rows.max(SERIES_MIN) {
            self.bring_all();
            self.series = Series::new();
            self.branches.iter_mut().for_each(|branch| branch.feed.let_go());
            self.number_rows();
        }
    }

    /// The number of a series, if it has one.
    pub(super) fn number_of(&self, series: SeriesId) -> Option<u32> {
        self.series.find(series)
    }

    /// About how many bytes it takes, besides the rows.
    pub(crate) fn bytes(&self) -> usize {
        self.series.bytes() + self.branches.iter().map(|branch| branch.feed.bytes()).sum::<usize>()
    }
}

impl Branch {
    /// Whether the views want every batch by itself: the same on all workers, but for a while after a follower has gone.
    fn wants_batches(&self, epoch: Epoch) -> bool {
        self.first.each().any(|fed| {
            let held = fed.held.borrow();
            epoch <= held.known || !held.followers.is_empty()
        })
    }

    /// Brings all that waits, which is of one batch if one is given; answers whether anything did.
    fn bring(&mut self, series: &Series, batch: Option<Batch>) -> bool {
        if self.feed.is_empty() {
            return false;
        }
        let merged = self.feed.take(series);
        self.first.take(&merged, series, batch)
    }
}

impl Fed {
    /// This view and all below.
    fn each(&self) -> Box<dyn Iterator<Item = &Fed> + '_> {
        Box::new(std::iter::once(self).chain(self.fed.iter().flat_map(|(_, fed)| fed.each())))
    }

    /// Takes what was merged for this view, and for those below, if anything was; it is of one batch if one is given.
    fn take(&self, merged: &Merged, series: &Series, batch: Option<Batch>) -> bool {
        if merged.keys.is_empty() {
            return false;
        }
        self.held.borrow_mut().take(
            &Partials {
                keys: &merged.keys,
                spans: Spans::Each(&merged.spans),
                states: &merged.states,
                numbers: Some(series.numbers(&merged.numbers)),
            },
            batch,
        );
        for (coarsen, fed) in &self.fed {
            fed.take(&coarsen.run(merged), series, batch);
        }
        true
    }
}

/// The views that are fed from `finer`, with those below them.
fn fed_by(
    finer: &Feeding,
    all: &[&Feeding],
    feeders: &HashMap<ViewId, ViewId>,
    held: &impl Fn(ViewId) -> Rc<RefCell<Held>>,
) -> Vec<(Coarsen, Fed)> {
    let is_fed = |view: &&&Feeding| feeders.get(&view.view.id) == Some(&finer.view.id);
    let fed = |view: &&Feeding| {
        let (definition, layout) = (&view.view.definition, view.layout.clone());
        let coarsen = Coarsen::new(definition, layout, &finer.view.definition, finer.layout.clone());
        let id = view.view.id;
        (coarsen, Fed { view: id, held: held(id), fed: fed_by(view, all, feeders, held) })
    };
    all.iter().filter(is_fed).map(fed).collect()
}

#[cfg(test)]
mod tests;
