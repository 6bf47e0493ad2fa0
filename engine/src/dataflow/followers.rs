//! Followers: partial states to those who follow a view live.
//!
//! A follower gets *partial* states, not group totals: they merge into what it already has, also when the group's
//! older pieces have long left memory for ClickHouse.
//!
//! # Invariants
//!
//! 1. A follower gets every partial state of its groups, or its channel is closed: by the worker that could not send, for
//!    all workers, so that none goes on without the others.
//! 2. What waits for a follower is bounded: in deltas by its channel, and in bytes by the worker that sends them.
//! 3. What is kept of keys for a follower is bounded by the series that there are: only a view by series is tested by key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use streamgauge_schemas::state::States;
use streamgauge_schemas::{Epoch, EventTime, GroupKey, Key, SeriesId, State};

use crate::keys::ViewKeys;
use crate::snapshot::{Delta, DeltaSender, KeyFilter, RowFilter, Waiting};

/// So many bytes of deltas may wait for a follower on each worker, beyond a single one.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Those who follow one view on one worker.
pub(crate) struct Followers {
    all: Vec<Follower>,
    waiting_bytes_max: usize,
}

struct Follower {
    filter: RowFilter,
    sender: DeltaSender,
    keys: ViewKeys,
    /// Bytes that this worker has sent, and that are not let go yet.
    waiting: Arc<AtomicUsize>,
    /// Whether a key passes the filter, and the key; asked once a key, if there is something to ask.
    passes: hashbrown::HashMap<SeriesId, Option<Key>, foldhash::fast::FixedState>,
}

impl Default for Followers {
    fn default() -> Self {
        Followers { all: Vec::new(), waiting_bytes_max: WAITING_BYTES_MAX }
    }
}

impl Followers {
    /// Adds a follower; it sees each epoch that is processed from now on.
    pub(crate) fn add(&mut self, filter: RowFilter, sender: DeltaSender, keys: ViewKeys) {
        self.all.push(Follower { filter, sender, keys, waiting: Arc::default(), passes: Default::default() });
    }

    /// Ends them all, as the view is no more.
    pub(crate) fn end(&mut self) {
        self.all.drain(..).for_each(|mut follower| follower.sender.close_channel());
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Sends them the partial states of a batch, by its place in the epoch, as far as they want them.
    pub(super) fn send(&mut self, (epoch, batch): (Epoch, u32), keys: &[GroupKey], states: &States) {
        let waiting_bytes_max = self.waiting_bytes_max;
        self.all.retain_mut(|follower| {
            let changes = follower.select(keys, states);
            if changes.is_empty() {
                return !follower.sender.is_closed();
            }
            let before = follower.waiting.load(Ordering::Relaxed);
            let waiting = Waiting::new(bytes(&changes), &follower.waiting);
            let delta = Delta { epoch, batch, changes, _waiting: waiting };
            let has_room = before == 0 || follower.waiting.load(Ordering::Relaxed) <= waiting_bytes_max; // invariant 2
            let sent = has_room && follower.sender.try_send(delta).is_ok();
            if !sent {
                follower.sender.close_channel(); // invariant 1; it follows again, unless it is gone
            }
            sent
        });
    }
}

impl Follower {
    fn select(&mut self, groups: &[GroupKey], states: &States) -> Vec<(Key, EventTime, State)> {
        let Follower { filter, keys, passes, .. } = self;
        let mut selected = Vec::new();
        for (at, group) in groups.iter().enumerate() {
            if !filter.holds_bucket(group.bucket) {
                continue;
            }
            let key = match filter.keys {
                KeyFilter::All => keys.get(group.series), // invariant 3
                _ => (passes.entry(group.series))
                    .or_insert_with(|| keys.get(group.series).filter(|key| filter.keys.matches(key)))
                    .clone(),
            };
            selected.extend(key.map(|key| (key, group.bucket, states.get(at))));
        }
        selected
    }
}

fn bytes(changes: &[(Key, EventTime, State)]) -> usize {
    changes.iter().map(|change| size_of_val(change) + change.2.heap_bytes()).sum()
}

#[cfg(test)]
mod tests {
    use futures_channel::mpsc::{self, TryRecvError};
    use streamgauge_schemas::Layout;
    use streamgauge_schemas::value::key_id;

    use super::*;
    use crate::keys::KeyRegistry;

    #[test]
    fn what_waits_for_a_follower_is_bounded_in_bytes() {
        let keys = ViewKeys::Values(Arc::new(KeyRegistry::new(1)));
        keys.restore(key_id(b"a"), &Key::Values(b"a"[..].into()), Epoch(1));
        let send = |followers: &mut Followers, epoch, groups| {
            let key = |bucket| GroupKey { series: key_id(b"a"), bucket: EventTime(bucket) };
            let mut states = States::new(&Layout::new(&[]).unwrap());
            (0..groups).for_each(|_| states.push_state(&State::empty()));
            followers.send((Epoch(epoch), 0), &(0..groups).map(key).collect::<Vec<_>>(), &states);
        };
        let change = size_of::<(Key, EventTime, State)>();
        let mut followers = Followers { all: Vec::new(), waiting_bytes_max: 10 * change };
        let (sender, mut deltas) = mpsc::channel(100);
        followers.add(RowFilter::default(), sender, keys);
        send(&mut followers, 1, 20); // a single one passes, however large
        let first = deltas.try_recv().unwrap();
        assert_eq!(first.changes.len(), 20);
        drop(first); // let go
        send(&mut followers, 2, 4);
        send(&mut followers, 3, 6);
        assert_eq!(followers.all.len(), 1, "as much as may wait");
        let second = deltas.try_recv().unwrap(); // received, and held
        send(&mut followers, 4, 1);
        assert!(followers.all.is_empty(), "more than may wait");
        assert_eq!((second.epoch, deltas.try_recv().unwrap().epoch), (Epoch(2), Epoch(3)), "what was sent arrives");
        assert_eq!(deltas.try_recv().err(), Some(TryRecvError::Closed), "and then the end");
    }
}
