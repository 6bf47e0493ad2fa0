//! `tap`: partial states to those who follow a view live.
//!
//! A follower gets *partial* states, not group totals: they merge into what it already has, also when the group's
//! older pieces have long left memory for ClickHouse.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use streamgauge_schemas::{EventTime, Series, SeriesId, State};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::Partials;
use crate::registry::SeriesRegistry;
use crate::snapshot::{Delta, DeltaSender, RowFilter};

/// Those who follow one view on one worker.
#[derive(Default)]
pub(crate) struct Followers(Vec<Follower>);

struct Follower {
    filter: RowFilter,
    sender: DeltaSender,
    registry: Arc<SeriesRegistry>,
    /// Whether a series passes the filter, and its name; asked once a series.
    passes: hashbrown::HashMap<SeriesId, Option<Arc<Series>>, foldhash::fast::FixedState>,
}

impl Followers {
    /// Adds a follower; it sees each epoch that is processed from now on.
    pub(crate) fn add(&mut self, filter: RowFilter, sender: DeltaSender, registry: Arc<SeriesRegistry>) {
        self.0.push(Follower { filter, sender, registry, passes: Default::default() });
    }

    fn send(&mut self, partials: &Partials) {
        // A follower that does not keep up, or is gone, is dropped; its channel closes and it asks again.
        self.0.retain_mut(|follower| {
            let changes = follower.select(partials);
            let delta = Delta { epoch: partials.epoch, changes };
            if delta.changes.is_empty() {
                !follower.sender.is_closed()
            } else {
                follower.sender.try_send(delta).is_ok()
            }
        });
    }
}

impl Follower {
    fn select(&mut self, partials: &Partials) -> Vec<(Arc<Series>, EventTime, State)> {
        let Follower { filter, registry, passes, .. } = self;
        let mut selected = Vec::new();
        for (key, state) in partials.groups.iter() {
            if !filter.holds_bucket(key.bucket) {
                continue;
            }
            let series = passes
                .entry(key.series)
                .or_insert_with(|| registry.get(key.series).filter(|series| filter.series.matches(series)));
            if let Some(series) = series {
                selected.push((series.clone(), key.bucket, *state));
            }
        }
        selected
    }
}

/// Passes partial states on unchanged, and hands each epoch's to the followers.
pub(super) fn tap<'scope>(
    partials: Stream<'scope, u64, Vec<Partials>>,
    followers: Rc<RefCell<Followers>>,
) -> Stream<'scope, u64, Vec<Partials>> {
    partials.unary(Pipeline, "tap", move |_capability, _info| {
        move |input, output| {
            input.for_each(|capability, data| {
                let mut followers = followers.borrow_mut();
                if !followers.0.is_empty() {
                    data.iter().for_each(|partials| followers.send(partials));
                }
                output.session(&capability).give_container(data);
            });
        }
    })
}
