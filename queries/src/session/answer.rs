//! The work on a question, on the threads for questions: how it begins, then its rows.
//!
//! # Partial answers
//!
//! A question that may do without history is held back until all its rows are there, or so many bytes of them (`HELD_BYTES_MAX`).
//! When ClickHouse fails meanwhile, or has not sent everything at half of the question's time, what is held is dropped
//! and the statement is asked once more, of memory alone. Rows beyond that bound are on their way to the client when
//! ClickHouse fails; then the answer ends with an error, as every other.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Access, Answer, Asking, Begun, QueryEngine};
use crate::error::QueryError;
use crate::turns::Turn;

/// So many bytes of an answer that may become partial are held back.
const HELD_BYTES_MAX: usize = 64 << 20;

impl QueryEngine {
    /// The work on a statement: says how it begins, then gives its rows until nobody wants more.
    pub(super) async fn answer(
        self,
        asking: Asking,
        turn: Turn,
        begun: oneshot::Sender<Result<Begun, QueryError>>,
        rows: mpsc::Sender<Result<RecordBatch, QueryError>>,
    ) {
        let half = turn.deadline - asking.limits.time_max / 2;
        let _turn = turn; // invariant 2 of the session
        let answer = match asking.question.options.partial {
            true => self.begin_held(&asking, half).await,
            false => self.begin(&asking, asking.access.clone()).await,
        };
        let memory = &asking.record.memory;
        let mut batches = match answer {
            Ok((beginning, batches)) => {
                let _ = begun.send(Ok(beginning)); // nobody may wait any more; then the first row is not wanted either
                batches
            }
            Err(error) => {
                let _ = begun.send(Err(memory.explain(error)));
                return;
            }
        };
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| QueryError::from_datafusion(error, self.inner.limits.memory_bytes_max));
            let batch = batch.map_err(|error| memory.explain(error));
            let failed = batch.is_err();
            if rows.send(batch).await.is_err() || failed {
                return;
            }
        }
    }

    /// Begins an answer that may be partial; see the module.
    async fn begin_held(&self, asking: &Asking, half: Instant) -> Result<Answer, QueryError> {
        let whole = async {
            let (begun, batches) = self.begin(asking, asking.access.clone()).await?;
            Ok::<Answer, QueryError>((begun, self.hold(asking, batches).await?))
        };
        let whole = tokio::select! {
            biased;
            answer = whole => answer,
            error = asking.record.waits.late(half, asking.limits.time_max / 2) => Err(QueryError::History(error)),
        };
        match whole {
            Err(QueryError::History(error)) => {
                self.begin(asking, Access::Away(error)).await // invariant 4 of the session: a snapshot and rows of its own
            }
            answer => answer,
        }
    }

    /// Waits for the rows of an answer, as far as they may be held back.
    async fn hold(
        &self,
        asking: &Asking,
        mut batches: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let fail = |error| QueryError::from_datafusion(error, self.inner.limits.memory_bytes_max);
        let pool: Arc<dyn MemoryPool> = asking.record.memory.clone();
        let reservation = MemoryConsumer::new("an answer that may become partial").register(&pool);
        let (schema, mut held, mut bytes) = (batches.schema(), Vec::new(), 0);
        while let Some(batch) = batches.next().await.transpose().map_err(fail)? {
            let more = batch.get_array_memory_size();
            bytes += more;
            held.push(batch);
            if bytes > HELD_BYTES_MAX || reservation.try_grow(more).is_err() {
                break;
            }
        }
        let rows = futures::stream::iter(held).map(Ok).chain(batches).inspect_ok(move |_| {
            let _held = &reservation; // until the answer is sent, or given up
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
