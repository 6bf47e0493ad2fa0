//! The cache of history: answers of ClickHouse that it would give again.
//!
//! What ClickHouse has at or below a horizon, or of a stream up to its last flushed event, never changes. A query says in its text up to
//! where it reads, so an answer may be given again as long as the text is the same, and needs no invalidation: a dropped
//! view's or stream's successor of the same name has other epochs.
//!
//! # Invariants
//!
//! 1. Only answers are kept that came whole.
//! 2. Nothing is kept of a query that began while ClickHouse lacked rows up to where it reads: some were set aside
//!    ([`History::is_whole`]), or a back-fill was not done (its callers do not ask here then).
//! 3. What is kept takes no more than its bound; what was not asked for longest goes first.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use futures::{StreamExt, stream};
use lru::LruCache;
use parking_lot::Mutex;
use streamgauge_schemas::Epoch;

use crate::history::{self, History, HistoryError, HistoryStream, Waits};

/// An answer that takes more than this part of the bound is not kept: it would push out too much.
const SHARE: usize = 8;

/// See the module.
pub(crate) struct Cache {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    answers: LruCache<String, Answer>,
    bytes: usize,
}

#[derive(Clone)]
struct Answer {
    batches: Arc<[RecordBatch]>,
    bytes: usize,
}

impl Cache {
    /// One that keeps up to so many bytes; of none it keeps nothing.
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        let kept = Kept { answers: LruCache::unbounded(), bytes: 0 };
        Arc::new(Cache { bytes_max, kept: Mutex::new(kept) })
    }

    /// Runs a query for what ClickHouse has up to an epoch, as [`history::read`] does; its text must say up to where it reads.
    pub(crate) async fn read(
        self: &Arc<Self>,
        history: Arc<dyn History>,
        sql: String,
        upto: Epoch,
        waits: Waits,
    ) -> Result<HistoryStream, HistoryError> {
        if self.bytes_max == 0 {
            return history::read(history, sql, upto, waits).await;
        }
        let known = self.kept.lock().answers.get(&sql).cloned();
        ::metrics::counter!("streamgauge_history_cache_total", "found" => if known.is_some() { "yes" } else { "no" })
            .increment(1);
        if let Some(known) = known {
            let batches = (0..known.batches.len()).map(move |at| Ok(known.batches[at].clone()));
            return Ok(stream::iter(batches).boxed());
        }
        let is_whole = history.is_whole(); // invariant 2
        let batches = history::read(history, sql.clone(), upto, waits).await?;
        if !is_whole {
            return Ok(batches);
        }
        let reading = Some(Reading { cache: self.clone(), sql, batches: Vec::new(), bytes: 0 });
        let rest = stream::unfold((batches, reading), |(mut batches, reading)| async move {
            match batches.next().await {
                Some(Ok(batch)) => {
                    let reading = reading.and_then(|reading| reading.with(&batch));
                    Some((Ok(batch), (batches, reading)))
                }
                Some(Err(error)) => Some((Err(error), (batches, None))),
                None => {
                    reading.into_iter().for_each(Reading::keep); // invariant 1
                    None
                }
            }
        });
        Ok(rest.boxed())
    }

    fn keep(&self, sql: String, answer: Answer) {
        let Kept { answers, bytes } = &mut *self.kept.lock();
        *bytes += answer.bytes;
        if let Some(before) = answers.put(sql, answer) {
            *bytes -= before.bytes;
        }
        while *bytes > self.bytes_max {
            let Some((_, oldest)) = answers.pop_lru() else { break };
            *bytes -= oldest.bytes;
        }
        ::metrics::gauge!("streamgauge_history_cache_bytes").set(*bytes as f64);
    }
}

/// An answer that is coming.
struct Reading {
    cache: Arc<Cache>,
    sql: String,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl Reading {
    /// With another batch; `None` when it is too much by now.
    ///
    /// A copy, since a batch as it comes is a part of what was received, and would hold all of that.
    fn with(mut self, batch: &RecordBatch) -> Option<Self> {
        let sliced = batch.columns().iter().filter_map(|column| column.to_data().get_slice_memory_size().ok());
        if self.bytes + sliced.sum::<usize>() > self.cache.bytes_max / SHARE {
            return None;
        }
        let all = UInt32Array::from_iter_values(0..batch.num_rows() as u32);
        let copy = take_record_batch(batch, &all).ok()?;
        self.bytes += copy.get_array_memory_size();
        self.batches.push(copy);
        (self.bytes + self.sql.len() <= self.cache.bytes_max / SHARE).then_some(self)
    }

    fn keep(self) {
        let bytes = self.bytes + 2 * self.sql.len() + size_of::<Answer>();
        self.cache.keep(self.sql, Answer { batches: self.batches.into(), bytes });
    }
}

#[cfg(test)]
mod tests;
