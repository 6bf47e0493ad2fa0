//! Who waits for an epoch: told by the thread that gives it, so that nobody has to look again and again.
//!
//! # Invariants
//!
//! 1. Whoever waits, waits for an epoch above the newest; it is told, once, in the same hold of the lock that makes the
//!    epoch the newest.
//! 2. A wait that is given up leaves nothing behind. So there are as many as there are open requests, which are bounded.

use std::collections::BTreeMap;

use futures_channel::oneshot;
use streamgauge_schemas::Epoch;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct EpochWaits {
    waiting: BTreeMap<Place, oneshot::Sender<()>>,
    begun: u64,
}

/// A wait among all: its epoch, and its number.
pub(crate) type Place = (Epoch, u64);

impl EpochWaits {
    /// Begins to wait for an epoch to come.
    pub(crate) fn begin(&mut self, epoch: Epoch) -> (Place, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        self.begun += 1;
        let place = (epoch, self.begun);
        self.waiting.insert(place, sender);
        (place, receiver)
    }

    /// Ends a wait.
    pub(crate) fn end(&mut self, place: Place) {
        self.waiting.remove(&place);
    }

    /// Tells all who wait for `epoch`, or for an earlier one.
    pub(crate) fn reach(&mut self, epoch: Epoch) {
        while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= epoch) {
            let _ = first.remove().send(()); // who gave up meanwhile is about to end it
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_are_told_whose_epoch_is_reached() {
        let mut waits = EpochWaits::default();
        let (_, mut early) = waits.begin(Epoch(5));
        let (_, mut same) = waits.begin(Epoch(7));
        let (_, mut twin) = waits.begin(Epoch(7));
        let (place, mut late) = waits.begin(Epoch(8));
        waits.reach(Epoch(4));
        assert!([&mut early, &mut same, &mut twin, &mut late].into_iter().all(|wait| wait.try_recv() == Ok(None)));
        waits.reach(Epoch(7));
        assert!([&mut early, &mut same, &mut twin].into_iter().all(|wait| wait.try_recv() == Ok(Some(()))));
        assert_eq!((late.try_recv(), waits.len()), (Ok(None), 1));
        waits.end(place);
        assert_eq!(waits.len(), 0);
    }
}
