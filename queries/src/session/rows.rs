//! The rows of an answer as they come, for as long as it may take, and as many as it may have.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::overdue;
use crate::activity::{Record, Tracked};
use crate::asker::OwnLimits;
use crate::error::QueryError;
use crate::limits::QueryLimits;
use crate::threads::Task;

/// The rows still to come.
pub(super) struct Rows {
    batches: mpsc::Receiver<Result<RecordBatch, QueryError>>,
    deadline: Pin<Box<Sleep>>,
    cancelled: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    /// The work; gone once the answer has ended.
    task: Option<Task<()>>,
    /// Whether the work said that all its rows are there.
    is_whole: bool,
    record: Arc<Record>,
    /// Gone once the answer has ended.
    pub(super) tracked: Option<Tracked>,
    pub(super) limits: QueryLimits,
    own: OwnLimits,
}

impl Rows {
    pub(super) fn new(
        batches: mpsc::Receiver<Result<RecordBatch, QueryError>>,
        deadline: Instant,
        task: Task<()>,
        record: &Arc<Record>,
        limits: QueryLimits,
        own: OwnLimits,
    ) -> Self {
        let deadline = Box::pin(tokio::time::sleep_until(deadline));
        let (cancelled, record) = (Box::pin(record.cancelled()), record.clone());
        Rows { batches, deadline, cancelled, task: Some(task), is_whole: false, record, tracked: None, limits, own }
    }

    /// The rows of work that said that all of them are there: nothing of it is waited for.
    pub(super) fn whole(self) -> Self {
        Rows { is_whole: true, ..self }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch, QueryError>>> {
        if self.task.is_none() {
            return Poll::Ready(None);
        }
        let item = ready!(self.next(context)).map(|item| item.and_then(|batch| self.count(batch)));
        match &item {
            Some(Ok(_)) => return Poll::Ready(item),
            Some(Err(error)) => self.record.fail(error),
            None => self.record.finish(),
        }
        self.task = None;
        self.tracked = None;
        Poll::Ready(item)
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch, QueryError>>> {
        if self.cancelled.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(QueryError::Cancelled { id: self.record.id })));
        }
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(overdue(&self.record.waits, &self.limits, self.own))));
        }
        match (ready!(self.batches.poll_recv(context)), &mut self.task) {
            (None, Some(task)) if !self.is_whole => Pin::new(task).poll(context).map(|ended| ended.err().map(Err)), // invariant 3: it has not panicked
            (item, _) => Poll::Ready(item),
        }
    }

    fn count(&self, batch: RecordBatch) -> Result<RecordBatch, QueryError> {
        let more = batch.num_rows() as u64;
        let rows = self.record.rows.fetch_add(more, Ordering::Relaxed) + more;
        match self.limits.rows_max {
            Some(max) if rows > max as u64 => Err(QueryError::Rows { max, own: self.own.rows_max == Some(max) }),
            _ => Ok(batch),
        }
    }
}
