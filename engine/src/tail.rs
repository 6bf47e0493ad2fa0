//! The tail of a stream: its acknowledged events that ClickHouse does not have yet.
//!
//! # Invariants
//!
//! 1. The batches are ordered by epoch, and all lie above the flushed epoch.
//! 2. A batch leaves only when ClickHouse has confirmed its whole epoch.

use std::collections::VecDeque;
use std::sync::Arc;

use streamgauge_schemas::{Epoch, EventBatch};

use crate::pending::Ticket;
use crate::snapshot::StreamSnapshot;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    flushed: Epoch,
    /// The flushed epoch as of the last flush that had events: history is the same up to either.
    last_flushed: Epoch,
    batches: VecDeque<(Epoch, EventBatch, Arc<Ticket>)>,
    rows: usize,
    bytes: usize,
}

/// The events to flush: exactly those of `(after, upto]`.
#[derive(Clone, Debug)]
pub struct StreamFlush {
    /// The stream's flushed epoch.
    pub after: Epoch,
    /// The flushed epoch that the write makes true.
    pub upto: Epoch,
    /// The events, in order.
    pub batches: Vec<(Epoch, EventBatch)>,
}

impl Tail {
    pub(crate) fn new(flushed: Epoch) -> Self {
        Tail { flushed, last_flushed: flushed, ..Tail::default() }
    }

    pub(crate) fn flushed(&self) -> Epoch {
        self.flushed
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, epoch: Epoch, batch: EventBatch, ticket: Arc<Ticket>) {
        let last = self.batches.back().map_or(self.flushed, |(last, ..)| *last);
        assert!(epoch > self.flushed && epoch >= last, "invariant 1: {epoch} after {last}, flushed {}", self.flushed);
        self.rows += batch.len();
        self.bytes += batch.size_bytes();
        self.batches.push_back((epoch, batch, ticket));
    }

    /// The memory part of a query as of `epoch`.
    pub(crate) fn snapshot(&self, epoch: Epoch) -> StreamSnapshot {
        let seen = self.batches.iter().take_while(|(at, ..)| *at <= epoch);
        StreamSnapshot {
            flushed: self.last_flushed.min(epoch),
            batches: seen.map(|(at, batch, _)| (*at, batch.clone())).collect(),
        }
    }

    /// The next events to flush, whole epochs, about `rows_max` at most; `None` when there are none, and then
    /// everything up to `now` counts as flushed.
    pub(crate) fn begin_flush(&mut self, now: Epoch, rows_max: usize) -> Option<StreamFlush> {
        if self.batches.is_empty() {
            self.flushed = self.flushed.max(now);
            return None;
        }
        let mut rows = 0;
        let mut taken = Vec::new();
        let mut upto = now;
        for (epoch, batch, _) in &self.batches {
            if rows >= rows_max && taken.last().is_some_and(|(last, _)| last < epoch) {
                upto = taken.last().map_or(now, |(last, _)| *last);
                break;
            }
            rows += batch.len();
            taken.push((*epoch, batch.clone()));
        }
        Some(StreamFlush { after: self.flushed, upto, batches: taken })
    }

    /// ClickHouse has everything up to `upto`. Gives out what is not needed any more: to free it takes long.
    #[must_use]
    pub(crate) fn confirm(&mut self, upto: Epoch) -> VecDeque<(Epoch, EventBatch, Arc<Ticket>)> {
        let first = self.batches.front().map(|(first, ..)| *first);
        assert!(
            first.is_none_or(|first| first > self.flushed),
            "invariant 2: {first:?} was confirmed, and is still here"
        );
        self.flushed = self.flushed.max(upto);
        if first.is_some_and(|first| first <= upto) {
            self.last_flushed = self.flushed;
        }
        let rest = self.batches.split_off(self.batches.partition_point(|(epoch, ..)| *epoch <= upto));
        let confirmed = std::mem::replace(&mut self.batches, rest);
        self.rows -= confirmed.iter().map(|(_, batch, _)| batch.len()).sum::<usize>();
        self.bytes -= confirmed.iter().map(|(_, batch, _)| batch.size_bytes()).sum::<usize>();
        confirmed
    }
}
