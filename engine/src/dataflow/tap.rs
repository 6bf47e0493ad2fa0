//! `tap`: partial states to those who follow a view live.
//!
//! A follower gets *partial* states, not group totals: they merge into what it already has, also when the group's
//! older pieces have long left memory for ClickHouse.
//!
//! # Invariants
//!
//! 1. A follower gets every partial state of its groups, or its channel is closed: by the worker that could not send, for
//!    all workers, so that none goes on without the others.
//! 2. What is kept of keys for a follower is bounded by the series that there are: only a view by series is tested by key.

use std::cell::RefCell;
use std::rc::Rc;

use streamgauge_schemas::{EventTime, Key, SeriesId, State};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::Parcel;
use crate::keys::ViewKeys;
use crate::snapshot::{Delta, DeltaSender, KeyFilter, RowFilter};

/// Those who follow one view on one worker.
#[derive(Default)]
pub(crate) struct Followers(Vec<Follower>);

struct Follower {
    filter: RowFilter,
    sender: DeltaSender,
    keys: ViewKeys,
    /// Whether a key passes the filter, and the key; asked once a key, if there is something to ask.
    passes: hashbrown::HashMap<SeriesId, Option<Key>, foldhash::fast::FixedState>,
}

impl Followers {
    /// Adds a follower; it sees each epoch that is processed from now on.
    pub(crate) fn add(&mut self, filter: RowFilter, sender: DeltaSender, keys: ViewKeys) {
        self.0.push(Follower { filter, sender, keys, passes: Default::default() });
    }

    /// Ends them all, as the view is no more.
    pub(crate) fn end(&mut self) {
        self.0.drain(..).for_each(|mut follower| follower.sender.close_channel());
    }

    fn send(&mut self, parcel: &Parcel) {
        self.0.retain_mut(|follower| {
            let changes = follower.select(parcel);
            if changes.is_empty() {
                return !follower.sender.is_closed();
            }
            let sent = follower.sender.try_send(Delta { epoch: parcel.epoch, batch: parcel.batch, changes }).is_ok();
            if !sent {
                follower.sender.close_channel(); // invariant 1; it follows again, unless it is gone
            }
            sent
        });
    }
}

impl Follower {
    fn select(&mut self, parcel: &Parcel) -> Vec<(Key, EventTime, State)> {
        let Follower { filter, keys, passes, .. } = self;
        let mut selected = Vec::new();
        for (group, state) in &parcel.groups {
            if !filter.holds_bucket(group.bucket) {
                continue;
            }
            let key = match filter.keys {
                KeyFilter::All => keys.get(group.series), // invariant 2
                _ => (passes.entry(group.series))
                    .or_insert_with(|| keys.get(group.series).filter(|key| filter.keys.matches(key)))
                    .clone(),
            };
            selected.extend(key.map(|key| (key, group.bucket, state.clone())));
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
