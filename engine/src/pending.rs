//! What memory must hold because ClickHouse does not have it yet: counted, so that it has a bound.
//!
//! Events are counted from their acknowledgement until they are both processed and flushed; rows of views as the workers
//! hold them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use streamgauge_schemas::{StreamId, View};

use crate::error::EngineError;
use crate::workers::ViewCounters;

/// Beyond this part of the bound of all rows those go that are there for recent time alone, whatever share their views have.
const FULL: f64 = 0.75;

/// The bytes of events that memory holds because the dataflow or ClickHouse still needs them.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    bytes: Arc<AtomicUsize>,
    bound: usize,
    state_bytes: Arc<AtomicUsize>,
    state_bound: usize,
    recent_bound: usize,
    /// Views with a bound of their own.
    bounded: Arc<RwLock<Vec<Bounded>>>,
}

/// A view with a bound of its own.
#[derive(Debug)]
struct Bounded {
    view: Arc<View>,
    bound: u64,
    counters: Arc<ViewCounters>,
}

/// A claim on pending bytes; given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    bytes: usize,
    pending: Arc<AtomicUsize>,
}

impl Pending {
    /// Of which `recent_bound` bytes of rows may be there for recent time alone.
    pub(crate) fn new(bound: usize, state_bound: usize, recent_bound: usize) -> Self {
        let recent_bound = recent_bound.min(state_bound / 2);
        let (bytes, state_bytes, bounded) = (Arc::default(), Arc::default(), Arc::default());
        Pending { bytes, bound, state_bytes, state_bound, recent_bound, bounded }
    }

    /// What rows of a view take, as a share of what they may while some are there for recent time alone; `all` is what each view takes.
    pub(crate) fn recent_pressure(&self, view: &View, counters: &ViewCounters, all: Vec<usize>) -> f64 {
        if self.recent_bound == 0 {
            return f64::INFINITY;
        }
        let bytes = counters.bytes.load(Ordering::Relaxed) as f64;
        let own = view.definition.options.memory_bytes_max.map_or(u64::MAX, |bound| (bound / 2).max(1));
        let shared = bytes / (fair_share(all, self.recent_bound) as f64).min(own as f64);
        // Before anything is pushed back, all give way.
        shared.max(self.state_bytes() as f64 / (self.state_bound as f64 * FULL))
    }

    /// Bytes that the rows of all views take, about.
    pub(crate) fn state_bytes(&self) -> usize {
        self.state_bytes.load(Ordering::Relaxed)
    }

    /// Where the workers count them.
    pub(crate) fn state_counter(&self) -> Arc<AtomicUsize> {
        self.state_bytes.clone()
    }

    /// Whether new events must wait, and for what.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        if self.bytes() > self.bound {
            return Err(EngineError::Busy { pending_bytes: self.bytes(), bound_bytes: self.bound });
        }
        let state_bytes = self.state_bytes();
        if state_bytes > self.state_bound {
            return Err(EngineError::StateFull { state_bytes, bound_bytes: self.state_bound });
        }
        Ok(())
    }

    /// Whether new events of a stream must wait because a view over it is full.
    pub(crate) fn check_stream(&self, stream: StreamId) -> Result<(), EngineError> {
        for Bounded { view, bound, counters } in self.bounded.read().iter() {
            let bytes = counters.bytes.load(Ordering::Relaxed);
            if view.definition.stream == stream && bytes as u64 > *bound {
                let view = view.definition.name.clone();
                return Err(EngineError::ViewFull { view, bytes, bound_bytes: *bound });
            }
        }
        Ok(())
    }

    /// Keeps to the bound of a view, if it has one.
    pub(crate) fn watch(&self, view: &Arc<View>, counters: &Arc<ViewCounters>) {
        if let Some(bound) = view.definition.options.memory_bytes_max {
            self.bounded.write().push(Bounded { view: view.clone(), bound, counters: counters.clone() });
        }
    }

    /// Forgets the bound of a view.
    pub(crate) fn unwatch(&self, view: &View) {
        self.bounded.write().retain(|bounded| bounded.view.id != view.id);
    }

    /// Bytes now pending.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Claims bytes; never refused, since the events are acknowledged by then.
    pub(crate) fn claim(&self, bytes: usize) -> Ticket {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ticket { bytes, pending: self.bytes.clone() }
    }
}

/// How much each may take so that together they take no more than `bound`: what some leave of an equal share, others may take.
/// So one that would take all takes nothing from those that take little.
fn fair_share(mut sizes: Vec<usize>, bound: usize) -> usize {
    sizes.sort_unstable();
    let mut left = bound;
    for (place, size) in sizes.iter().enumerate() {
        let share = left / (sizes.len() - place);
        if *size > share {
            return share.max(1);
        }
        left -= size;
    }
    bound // all of them fit
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pending.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use streamgauge_schemas::view::built_in_rollups;

    use super::{Pending, fair_share};
    use crate::workers::ViewCounters;

    #[test]
    fn all_give_way_before_anything_is_pushed_back() {
        let (view, counters) = (built_in_rollups().remove(0), ViewCounters::default());
        let pending = Pending::new(100, 1_000, 500);
        counters.bytes.store(10, Ordering::Relaxed);
        let pressure = |all: usize| {
            pending.state_counter().store(all, Ordering::Relaxed);
            pending.recent_pressure(&view, &counters, vec![10, all - 10])
        };
        assert!(pressure(740) < 1.0, "it takes little, and there is room");
        assert!(pressure(800) > 1.0 && pending.check().is_ok());
    }

    #[test]
    fn who_takes_little_loses_nothing_to_who_takes_much() {
        assert_eq!(fair_share(vec![], 100), 100);
        assert_eq!(fair_share(vec![40, 60], 100), 100, "they fit");
        assert_eq!(fair_share(vec![5_000, 10, 20], 100), 70, "what the small ones leave");
        assert_eq!(fair_share(vec![90, 90, 10], 100), 45);
        assert_eq!(fair_share(vec![200, 300], 100), 50);
        assert_eq!(fair_share(vec![1; 1_000], 100), 1, "never nothing, which would be a share without an end");
    }
}
