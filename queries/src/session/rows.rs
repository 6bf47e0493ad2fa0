//! The rows of an answer as they come, for as long as it may take.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::overdue;
use crate::error::QueryError;
use crate::history::Waits;
use crate::limits::QueryLimits;
use crate::threads::Task;

/// The rows still to come.
pub(super) struct Rows {
    pub(super) batches: mpsc::Receiver<Result<RecordBatch, QueryError>>,
    pub(super) deadline: Pin<Box<Sleep>>,
    /// The work; gone once the answer has ended.
    pub(super) task: Option<Task<()>>,
    pub(super) waits: Waits,
    pub(super) limits: QueryLimits,
}

impl Rows {
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch, QueryError>>> {
        let Some(task) = &mut self.task else { return Poll::Ready(None) };
        let item = if self.deadline.as_mut().poll(context).is_ready() {
            Some(Err(overdue(&self.waits, &self.limits)))
        } else {
            match ready!(self.batches.poll_recv(context)) {
                Some(item) => Some(item),
                None => ready!(Pin::new(task).poll(context)).err().map(Err), // invariant 3: it has not panicked
            }
        };
        if !matches!(item, Some(Ok(_))) {
            self.task = None;
        }
        Poll::Ready(item)
    }
}
