//! Parcels: partial states on their way to the worker that owns their groups.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use streamgauge_schemas::Epoch;
use streamgauge_schemas::state::States;
use timely::dataflow::Stream;
use timely::dataflow::operators::Exchange as _;

use super::aggregate::Groups;

/// Partial states of one batch whose groups one worker owns.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(super) owner: usize,
    pub(super) epoch: Epoch,
    /// The place of the batch in its epoch.
    pub(super) batch: u32,
    pub(super) groups: Groups,
}

/// Parts groups by owner.
pub(super) fn parcels(epoch: Epoch, batch: u32, groups: Groups, workers: usize) -> Vec<Parcel> {
    if workers == 1 {
        return vec![Parcel { owner: 0, epoch, batch, groups }];
    }
    let mut owned: Vec<Vec<usize>> = vec![Vec::new(); workers];
    groups.keys.iter().enumerate().for_each(|(at, key)| owned[key.series.owner(workers)].push(at));
    let part = |places: Vec<usize>| {
        let mut states = States::like(&groups.states, places.len());
        places.iter().for_each(|at| states.push(&groups.states, *at));
        let keys = places.iter().map(|at| groups.keys[*at]).collect();
        let of_keys = places.iter().map(|at| groups.places[*at]).collect();
        Groups { keys, places: of_keys, places_len: groups.places_len, states }
    };
    let parcels = owned.into_iter().enumerate().filter(|(_, places)| !places.is_empty());
    parcels.map(|(owner, places)| Parcel { owner, epoch, batch, groups: part(places) }).collect()
}

/// Moves each parcel to its owner.
pub(super) fn exchange<'scope>(
    parcels: Stream<'scope, u64, Vec<Parcel>>,
    workers: usize,
) -> Stream<'scope, u64, Vec<Parcel>> {
    if workers == 1 { parcels } else { parcels.exchange(|parcel| parcel.owner as u64) }
}

// Timely asks for a form in bytes, for workers in other processes; ours are threads of one, and a parcel is handed over.

impl Serialize for Parcel {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a parcel stays in its process"))
    }
}

impl<'de> Deserialize<'de> for Parcel {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("a parcel stays in its process"))
    }
}
