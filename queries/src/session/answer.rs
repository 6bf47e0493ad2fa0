//! The work on a question, on the threads for questions: it is read, waits for its turn, begins, and then has rows.
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
use futures::{FutureExt, StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::clock::Clock;
use super::{Access, Answer, Asked, Asking, BATCHES_WAITING_MAX, Begun, QueryEngine, of_bounds};
use crate::activity::Record;
use crate::asker::OwnLimits;
use crate::command::Command;
use crate::error::QueryError;
use crate::limits::QueryLimits;
use crate::options::AskOptions;
use crate::question::{Parameters, Question};
use crate::turns::{Turn, User};

/// So many bytes of an answer that may become partial are held back.
const HELD_BYTES_MAX: usize = 64 << 20;

/// A text that is asked, by whom and how.
pub(super) struct AskedText {
    pub(super) sql: String,
    pub(super) parameters: Parameters,
    pub(super) options: AskOptions,
    pub(super) user: Arc<User>,
    pub(super) record: Arc<Record>,
}

/// What the work on a text says first.
pub(super) enum Beginning {
    /// It is a command, which is carried out elsewhere.
    Command(Command),
    /// The rows come over the channel, until the deadline; or all of them are there.
    Rows { begun: Begun, deadline: Instant, limits: QueryLimits, own: OwnLimits, is_whole: bool },
}

type Said = oneshot::Sender<Result<Beginning, QueryError>>;
type Sent = mpsc::Sender<Result<RecordBatch, QueryError>>;

impl QueryEngine {
    /// The work on a text: says how its answer begins, then gives its rows until nobody wants more.
    pub(super) async fn answer(self, asked: AskedText, clock: Arc<Clock>, begun: Said, rows: Sent) {
        let record = asked.record.clone();
        match self.asking(asked, &clock).await {
            Ok(Ok((asking, turn))) => self.answer_in_turn(asking, turn, begun, rows).await,
            Ok(Err(command)) => drop(begun.send(Ok(Beginning::Command(command)))),
            Err(error) => drop(begun.send(Err(record.memory.explain(error)))),
        }
    }

    /// Reads a text, and waits for its turn and its epoch; or it is a command.
    async fn asking(&self, asked: AskedText, clock: &Clock) -> Result<Result<(Asking, Turn), Command>, QueryError> {
        let AskedText { sql, parameters, options, user, record } = asked;
        let question = match self.read(&sql, options)? {
            Asked::Question(question) => Question { parameters, ..*question },
            Asked::Command(command) => return Ok(Err(command)),
        };
        let own = question.limits.or(self.asker.limits);
        let limits = own.lower(&self.inner.limits);
        clock.waits(&limits, own);
        if let Some(bytes_max) = own.memory_bytes_max {
            record.memory.bound(bytes_max);
        }
        let access = self.prepare(question.options).await?;
        let turn = self.turn(&question, &user, limits.time_max).await?;
        clock.runs(turn.deadline);
        record.run();
        Ok(Ok((Asking { question, access, limits, own, record }, turn)))
    }

    async fn answer_in_turn(&self, asking: Asking, turn: Turn, begun: Said, rows: Sent) {
        let deadline = turn.deadline;
        let half = deadline - asking.limits.time_max / 2;
        let _turn = turn; // invariant 2 of the session
        let answer = match asking.question.options.partial {
            true => self.begin_held(&asking, half).await,
            false => self.begin(&asking, asking.access.clone()).await,
        };
        let Asking { limits, own, record, .. } = &asking;
        let explained = |error| of_bounds(record.memory.explain(error), limits, *own);
        let failed = |error| explained(QueryError::from_datafusion(error, self.inner.limits.memory_bytes_max));
        let (beginning, mut batches) = match answer {
            Ok(answer) => answer,
            Err(error) => return drop(begun.send(Err(explained(error)))),
        };
        // What is there at once is sent before anybody is woken, who then finds it.
        let mut is_whole = false;
        for _ in 0..BATCHES_WAITING_MAX {
            match batches.next().now_or_never() {
                None => break,
                Some(Some(Ok(batch))) => drop(rows.try_send(Ok(batch))), // there is room
                Some(Some(Err(error))) => return drop(begun.send(Err(failed(error)))),
                Some(None) => {
                    is_whole = true;
                    break;
                }
            }
        }
        let beginning = Beginning::Rows { begun: beginning, deadline, limits: limits.clone(), own: *own, is_whole };
        if is_whole {
            drop((batches, rows));
            return drop(begun.send(Ok(beginning)));
        }
        let _ = begun.send(Ok(beginning)); // nobody may wait any more; then the next row is not wanted either
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(failed);
            let is_last = batch.is_err();
            if rows.send(batch).await.is_err() || is_last {
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
