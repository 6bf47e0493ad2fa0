//! `tap`: partial states to those who follow a view live.
//!
//! A follower gets *partial* states, not group totals: they merge into what it already has, also when the group's
//! older pieces have long left memory for ClickHouse.

use std::cell::RefCell;
use std::rc::Rc;

use streamgauge_schemas::{EventTime, Key, SeriesId, State};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::Parcel;
use crate::keys::ViewKeys;
use crate::snapshot::{Delta, DeltaSender, RowFilter};

/// Those who follow one view on one worker.
#[derive(Default)]
pub(crate) struct Followers(Vec<Follower>);

struct Follower {
    filter: RowFilter,
    sender: DeltaSender,
    keys: ViewKeys,
    /// Whether a key passes the filter, and the key; asked once a key.
    passes: hashbrown::HashMap<SeriesId, Option<Key>, foldhash::fast::FixedState>,
}

impl Followers {
    /// Adds a follower; it sees each epoch that is processed from now on.
    pub(crate) fn add(&mut self, filter: RowFilter, sender: DeltaSender, keys: ViewKeys) {
        self.0.push(Follower { filter, sender, keys, passes: Default::default() });
    }

    fn send(&mut self, parcel: &Parcel) {
        // A follower that does not keep up, or is gone, is dropped; its channel closes and it asks again.
        self.0.retain_mut(|follower| {
            let changes = follower.select(parcel);
            let delta = Delta { epoch: parcel.epoch, changes };
            if delta.changes.is_empty() {
                !follower.sender.is_closed()
            } else {
                follower.sender.try_send(delta).is_ok()
            }
        });
    }
}

impl Follower {
    fn select(&mut self, parcel: &Parcel) -> Vec<(Key, EventTime, State)> {
        let Follower { filter, keys, passes, .. } = self;
        let mut selected = Vec::new();
        for (at, group) in parcel.groups.keys.iter().enumerate() {
            if !filter.holds_bucket(group.bucket) {
                continue;
            }
            let key = passes
                .entry(group.series)
                .or_insert_with(|| keys.get(group.series).filter(|key| filter.keys.matches(key)));
            if let Some(key) = key {
                selected.push((key.clone(), group.bucket, parcel.groups.states.get(at)));
            }
        }
        selected
    }
}

/// Passes partial states on unchanged, and hands each batch's to the followers.
pub(super) fn tap<'scope>(
    parcels: Stream<'scope, u64, Vec<Parcel>>,
    followers: Rc<RefCell<Followers>>,
) -> Stream<'scope, u64, Vec<Parcel>> {
    parcels.unary(Pipeline, "tap", move |_capability, _info| {
        move |input, output| {
            input.for_each(|capability, data| {
                let mut followers = followers.borrow_mut();
                if !followers.0.is_empty() {
                    data.iter().for_each(|parcel| followers.send(parcel));
                }
                output.session(&capability).give_container(data);
            });
        }
    })
}
