//! From a text to the beginning of its answer: listed, and then read and computed on the threads for questions.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use streamgauge_engine::EngineError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::answer::{AskedText, Beginning};
use super::clock::Clock;
use super::rows::Rows;
use super::{BATCHES_WAITING_MAX, Begun, Inner, QueryEngine, QueryStream};
use crate::activity::Record;
use crate::asker::OwnLimits;
use crate::command::Command;
use crate::error::QueryError;
use crate::history::Waits;
use crate::options::AskOptions;
use crate::postgres::catalog::PG_CATALOG;
use crate::postgres::information::INFORMATION_SCHEMA;
use crate::question::{Parameters, Question};
use crate::system::{self, SYSTEM};
use crate::turns::{Turn, User};
use crate::views::Management;

impl QueryEngine {
    /// Plans a statement, captures memory as of now, and begins to answer. Settings in its text go before `options`.
    ///
    /// # Errors
    /// Any [`QueryError`]; those of the first rows may come as items of the stream.
    pub async fn sql(&self, sql: &str, options: AskOptions) -> Result<QueryStream, QueryError> {
        self.sql_with(sql, Parameters::default(), options).await
    }

    /// As [`sql`](Self::sql), with values for the statement's parameters.
    ///
    /// # Errors
    /// Any [`QueryError`]; those of the first rows may come as items of the stream.
    pub async fn sql_with(
        &self,
        sql: &str,
        parameters: Parameters,
        options: AskOptions,
    ) -> Result<QueryStream, QueryError> {
        let user = self.inner.turns.user(&self.asker.user);
        let memory = self.inner.turns.question_memory(&user);
        let tracked = self.inner.system.activity.begin(&self.asker, sql, memory);
        let record = tracked.record.clone();
        let answer = tokio::select! {
            biased;
            () = record.cancelled() => Err(QueryError::Cancelled { id: record.id }),
            answer = self.ask(sql, parameters, options, &record, &user) => answer,
        };
        let mut answer = answer.inspect_err(|error| record.fail(error))?;
        record.answers(answer.epoch, answer.partial.is_some());
        answer.rows.tracked = Some(tracked);
        Ok(answer)
    }

    async fn ask(
        &self,
        sql: &str,
        parameters: Parameters,
        options: AskOptions,
        record: &Arc<Record>,
        user: &Arc<User>,
    ) -> Result<QueryStream, QueryError> {
        let clock = Arc::new(Clock::reading(&self.inner.limits, self.asker.limits));
        let (begun, beginning) = oneshot::channel();
        let (rows, batches) = mpsc::channel(BATCHES_WAITING_MAX);
        let asked = AskedText { sql: sql.to_owned(), parameters, options, user: user.clone(), record: record.clone() };
        let task = self.inner.threads.spawn(self.clone().answer(asked, clock.clone(), begun, rows));
        match clock.within(beginning, &record.waits).await? {
            Ok(begun) => match begun? {
                Beginning::Command(command) => {
                    record.run();
                    self.manage(command, record).await
                }
                Beginning::Rows { begun, deadline, limits, own, is_whole } => {
                    let rows = Rows::new(batches, deadline, task, record, limits, own);
                    let rows = if is_whole { rows.whole() } else { rows };
                    let Begun { schema, named, epoch, partial } = begun;
                    Ok(QueryStream { schema, named, epoch, partial, rows })
                }
            },
            Err(_) => Err(task.await.err().unwrap_or(QueryError::Engine(EngineError::Stopped))),
        }
    }

    /// Waits for the right to run.
    pub(super) async fn turn(&self, question: &Question, user: &User, time_max: Duration) -> Result<Turn, QueryError> {
        match question.about_system {
            true => self.inner.turns.take_system(time_max).await,
            false => self.inner.turns.take(&self.asker.user, user, time_max).await,
        }
    }

    /// Whether a question reads no tables but those that describe the program, or cancels another.
    pub(super) fn is_about_system(&self, question: &Question) -> bool {
        let references = self.inner.base.resolve_table_references(&question.statement).unwrap_or_default();
        let described = |schema: &str| [SYSTEM, PG_CATALOG, INFORMATION_SCHEMA].contains(&schema);
        match references.is_empty() {
            true => system::cancel::is_called(&question.statement.to_string()),
            false => references.iter().all(|reference| reference.schema().is_some_and(described)),
        }
    }

    /// Answers a command.
    async fn manage(&self, command: Command, record: &Arc<Record>) -> Result<QueryStream, QueryError> {
        let answer = self.carry_out(command, &record.waits).await?;
        let (schema, epoch) = (answer.schema(), self.inner.engine.status().epoch);
        let (sender, batches) = mpsc::channel(1);
        let _ = sender.try_send(Ok(answer)); // there is room for one
        let (limits, task) = (self.inner.limits.clone(), self.inner.threads.spawn(async {}));
        let rows = Rows::new(batches, Instant::now() + limits.time_max, task, record, limits, OwnLimits::default());
        Ok(QueryStream { named: schema.clone(), schema, epoch, partial: None, rows })
    }

    pub(super) async fn carry_out(&self, command: Command, waits: &Waits) -> Result<RecordBatch, QueryError> {
        let engine = self.clone();
        let work = async move {
            let Inner { engine, readings, backfills, .. } = &*engine.inner;
            command.run(Management { engine, readings, backfills }).await
        };
        self.compute(waits, work).await
    }
}
