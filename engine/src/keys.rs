//! The dimension values of a view's groups, by identity.
//!
//! # Invariants
//!
//! 1. A key is registered before a group of it reaches its owner, with the epoch of the events that brought it.
//! 2. A key is forgotten only when the newest epoch that brought it lies at or below the horizon: then no row of it is in
//!    memory, and none is on its way.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use streamgauge_schemas::{Epoch, Key, SeriesId};

use crate::program::Keys;
use crate::registry::SeriesRegistry;

/// Where the keys of a view are known.
#[derive(Clone)]
pub(crate) enum ViewKeys {
    /// With all series.
    Series(Arc<SeriesRegistry>),
    /// By the view itself.
    Values(Arc<KeyRegistry>),
}

/// The keys of one view, apart by the worker that owns them.
pub(crate) struct KeyRegistry {
    shards: Box<[Mutex<Shard>]>,
}

/// The keys that one worker owns.
#[derive(Default)]
struct Shard {
    keys: HashMap<SeriesId, Known, FixedState>,
    /// Of all their texts.
    bytes: usize,
}

struct Known {
    bytes: Arc<[u8]>,
    last: Epoch,
}

impl ViewKeys {
    /// Makes the keys of a batch known (invariant 1).
    pub(crate) fn register(&self, keys: &Keys, epoch: Epoch) {
        if let ViewKeys::Values(registry) = self {
            for (index, id) in keys.ids.iter().enumerate() {
                if let Some(bytes) = keys.get(index) {
                    registry.insert(*id, epoch, || bytes.into());
                }
            }
        }
    }

    /// The key of that identity.
    pub(crate) fn get(&self, id: SeriesId) -> Option<Key> {
        match self {
            ViewKeys::Series(registry) => registry.get(id).map(Key::Series),
            ViewKeys::Values(registry) => {
                registry.shard(id).lock().keys.get(&id).map(|known| Key::Values(known.bytes.clone()))
            }
        }
    }

    /// Puts a key in that history had at start.
    pub(crate) fn restore(&self, id: SeriesId, key: &Key, version: Epoch) {
        match (self, key) {
            (ViewKeys::Values(registry), Key::Values(bytes)) => registry.insert(id, version, || bytes.clone()),
            (ViewKeys::Series(registry), Key::Series(series)) => registry.restore(series.clone()),
            _ => tracing::error!(%id, "a key of another kind than the view's was recovered"),
        }
    }

    /// Forgets the keys of a worker that no row in memory can have (invariant 2).
    pub(crate) fn forget(&self, worker: usize, horizon: Epoch) {
        if let ViewKeys::Values(registry) = self {
            let shard = &mut *registry.shards[worker].lock();
            shard.keys.retain(|_, known| known.last > horizon);
            shard.bytes = shard.keys.values().map(|known| known.bytes.len()).sum();
        }
    }

    /// About how many bytes a worker's keys take.
    pub(crate) fn bytes(&self, worker: usize) -> usize {
        match self {
            ViewKeys::Series(_) => 0, // counted by the bound on series
            ViewKeys::Values(registry) => {
                let shard = registry.shards[worker].lock();
                shard.bytes + shard.keys.len() * (size_of::<(SeriesId, Known)>() + 24)
            }
        }
    }
}

impl KeyRegistry {
    pub(crate) fn new(workers: usize) -> Self {
        KeyRegistry { shards: (0..workers).map(|_| Mutex::default()).collect() }
    }

    fn shard(&self, id: SeriesId) -> &Mutex<Shard> {
        &self.shards[id.owner(self.shards.len())]
    }

    fn insert(&self, id: SeriesId, epoch: Epoch, bytes: impl FnOnce() -> Arc<[u8]>) {
        let Shard { keys, bytes: all_bytes } = &mut *self.shard(id).lock();
        let known = keys.entry(id).or_insert_with(|| {
            let bytes = bytes();
            *all_bytes += bytes.len();
            Known { bytes, last: epoch }
        });
        known.last = known.last.max(epoch);
    }
}
