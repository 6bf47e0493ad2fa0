//! What is acknowledged and not yet both processed and flushed: counted, so that memory has a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes of events that memory holds because the dataflow or ClickHouse still needs them.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    bytes: Arc<AtomicUsize>,
    bound: usize,
}

/// A claim on pending bytes; given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    bytes: usize,
    pending: Arc<AtomicUsize>,
}

impl Pending {
    pub(crate) fn new(bound: usize) -> Self {
        Pending { bytes: Arc::default(), bound }
    }

    /// Bytes now pending.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The configured bound.
    pub(crate) fn bound(&self) -> usize {
        self.bound
    }

    /// Whether new events must wait.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() > self.bound
    }

    /// Claims bytes; never refused, since the events are acknowledged by then.
    pub(crate) fn claim(&self, bytes: usize) -> Ticket {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ticket { bytes, pending: self.bytes.clone() }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pending.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
