//! One SQL statement, from its text to its rows.
//!
//! ```text
//!  text ─▶ question ─▶ its epoch is visible ─▶ logical plan ─▶ physical plan ─▶ capture at E ─▶ rows
//!                                              tables ask for what they read ──▲
//! ```
//!
//! All of it is computed on the threads of this crate, and the batches come over a short channel.
//!
//! # Invariants
//!
//! 1. A statement takes one snapshot, after it is planned and before its first row.
//! 2. A statement holds its permit until the work on it has really ended, also when nobody waits for it any more.
//! 3. An answer that ends without an error is whole, or is marked as partial from its beginning.
//! 4. An answer has either all of its part from ClickHouse or none of it: no half-read rows.
//!
//! # Partial answers
//!
//! A question that may do without history is held back until all its rows are there, or so many bytes of them (`HELD_BYTES_MAX`).
//! When ClickHouse fails meanwhile, or has not sent everything at half of the question's time, what is held is dropped
//! and the statement is asked once more, of memory alone. Rows beyond that bound are on their way to the client when
//! ClickHouse fails; then the answer ends with an error, as every other.
//!
//! # Layout
//!
//! - `rows`: the rows of an answer, for as long as it may take; `names`: which name may have been meant;
//!   `parameters`: `$1`, `$2`, …; `listing`: the tables there are.

mod listing;
mod names;
mod parameters;
mod rows;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::TableReference;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as SqlStatement;
use futures::{Stream, StreamExt, TryStreamExt};
use streamgauge_engine::{Engine, EngineError};
use streamgauge_schemas::Epoch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::capture::Capture;
use crate::combine;
use crate::depth::too_much;
use crate::error::QueryError;
use crate::history::{History, HistoryError, Waits};
use crate::limits::QueryLimits;
use crate::options::{AskOptions, Partial};
use crate::postgres;
use crate::postgres::catalog::PG_CATALOG;
use crate::postgres::information::INFORMATION_SCHEMA;
use crate::question::{Parameters, Question, not_a_question};
use crate::tables::{CATALOG, SCHEMA, Statement, StatementCatalog, table_names};
use crate::threads::{Task, Threads};
use crate::views::{Backfills, Management, Readings, ViewStatement};
use crate::wait;
use crate::yielding::YieldInJoins;
pub use listing::{CATALOG_NAME, SCHEMA_NAMES, Table, TableKind};
use names::hint;
use rows::Rows;

/// Batches that wait to be read.
const BATCHES_WAITING_MAX: usize = 2;
/// So many bytes of an answer that may become partial are held back.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Answers questions over live and history; clones share it.
#[derive(Clone)]
pub struct QueryEngine {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    history: Arc<dyn History>,
    limits: QueryLimits,
    /// What every statement's session begins as: functions, rules, memory; its catalogue is empty.
    base: SessionState,
    readings: Arc<Readings>,
    backfills: Arc<Backfills>,
    permits: Arc<Semaphore>,
    threads: Threads,
}

/// The rows of an answer as they come, and the epoch that they are as of.
pub struct QueryStream {
    /// The columns.
    pub schema: SchemaRef,
    /// The columns under the names that PostgreSQL gives to those that have none.
    pub named: SchemaRef,
    /// `E`.
    pub epoch: Epoch,
    /// What it lacks, of an answer from memory alone.
    pub partial: Option<Partial>,
    rows: Rows,
}

/// A statement before it is asked.
#[derive(Clone, Debug)]
pub struct Described {
    /// The types of its parameters, `$1` first.
    pub parameters: Vec<DataType>,
    /// Its columns, named as PostgreSQL names them; `None` of a statement that does something and says so in a word.
    pub columns: Option<SchemaRef>,
}

/// How an answer begins.
struct Begun {
    schema: SchemaRef,
    named: SchemaRef,
    epoch: Epoch,
    partial: Option<Partial>,
}

/// What a text asks for.
enum Asked {
    Question(Question),
    View(ViewStatement),
}

/// Whether an answer can have its part from ClickHouse.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// It can; errors are those of the answer.
    There,
    /// ClickHouse is away or failed, and an answer without its part was asked for.
    Away(HistoryError),
}

/// The beginning of an answer, and its rows.
type Answer = (Begun, SendableRecordBatchStream);

/// The right to run, and until when.
struct Turn {
    _permit: OwnedSemaphorePermit,
    deadline: Instant,
}

impl QueryEngine {
    /// Makes a query engine.
    ///
    /// # Errors
    /// [`QueryError::Bug`] when DataFusion cannot be set up or the threads cannot be started.
    pub fn new(engine: Engine, history: Arc<dyn History>, limits: QueryLimits) -> Result<Self, QueryError> {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.memory_bytes_max)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc();
        let fail = |error| QueryError::from_datafusion(error, limits.memory_bytes_max);
        let runtime = runtime.map_err(fail)?;
        let threads = Threads::start().map_err(|error| fail(error.into()))?;
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(false);
        config.options_mut().execution.time_zone = Some("UTC".into());
        let mut base = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_physical_optimizer_rule(Arc::new(YieldInJoins))
            .build();
        datafusion_functions_json::register_all(&mut base).map_err(fail)?;
        base.register_udaf(combine::function()).map_err(fail)?;
        for function in postgres::functions::functions(&engine) {
            base.register_udf(function).map_err(fail)?;
        }
        let permits = Arc::new(Semaphore::new(limits.concurrent_max));
        Ok(QueryEngine {
            inner: Arc::new(Inner {
                engine,
                history,
                limits,
                base,
                readings: Arc::default(),
                backfills: Arc::default(),
                permits,
                threads,
            }),
        })
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &QueryLimits {
        &self.inner.limits
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn history(&self) -> &Arc<dyn History> {
        &self.inner.history
    }

    /// How far the back-fills of views are, for whoever does them to say.
    #[must_use]
    pub fn backfills(&self) -> &Arc<Backfills> {
        &self.inner.backfills
    }

    pub(crate) fn readings(&self) -> &Readings {
        &self.inner.readings
    }

    /// A part of the memory of all questions.
    pub(crate) fn reservation(&self, of: &str) -> MemoryReservation {
        MemoryConsumer::new(of).register(&self.inner.base.runtime_env().memory_pool)
    }

    /// Computes something short on the threads for questions, without a turn of its own.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        self.inner.threads.spawn(work)
    }

    /// Whether ClickHouse answers, so that an answer would have its part from there; says so within about a second.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn history_available(&self) -> Result<(), HistoryError> {
        self.inner.history.available().await
    }

    /// What comes before a question's turn: waits for its epoch, and looks for ClickHouse if it can do without.
    pub(crate) async fn prepare(&self, options: AskOptions) -> Result<Access, QueryError> {
        wait::until_visible(&self.inner.engine, options.min_epoch, &self.inner.limits).await?;
        match options.partial {
            true => match self.history_available().await {
                Err(error) if error.is_retryable() => Ok(Access::Away(error)),
                Ok(()) | Err(_) => Ok(Access::There),
            },
            false => Ok(Access::There),
        }
    }

    /// Waits for the right to run.
    async fn turn(&self) -> Result<Turn, QueryError> {
        let limits = &self.inner.limits;
        let busy = || QueryError::Busy { running: limits.concurrent_max };
        let permit = tokio::time::timeout(limits.wait_max, self.inner.permits.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        Ok(Turn { _permit: permit, deadline: Instant::now() + limits.time_max })
    }

    /// Waits for the right to run, computes `work`, and returns what it makes, in time or not at all; `waits` are its
    /// reads.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        waits: &Waits,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let turn = self.turn().await?;
        let deadline = turn.deadline;
        let task = self.inner.threads.spawn(async move {
            let _turn = turn; // invariant 2
            work.await
        });
        tokio::time::timeout_at(deadline, task).await.map_err(|_| overdue(waits, &self.inner.limits))??
    }

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
        let question = match self.question(sql, options).await? {
            Asked::Question(question) => Question { parameters, ..question },
            Asked::View(statement) => return self.manage(statement).await,
        };
        let access = self.prepare(question.options).await?;
        let turn = self.turn().await?;
        let deadline = turn.deadline;
        let (begun, beginning) = oneshot::channel();
        let (rows, batches) = mpsc::channel(BATCHES_WAITING_MAX);
        let waits = Waits::default();
        let task = self.inner.threads.spawn(self.clone().answer(question, access, turn, waits.clone(), begun, rows));
        let begun = tokio::time::timeout_at(deadline, beginning).await;
        let begun = match begun.map_err(|_| overdue(&waits, &self.inner.limits))? {
            Ok(begun) => begun?,
            Err(_) => return Err(task.await.err().unwrap_or(QueryError::Engine(EngineError::Stopped))),
        };
        let deadline = Box::pin(tokio::time::sleep_until(deadline));
        let rows = Rows { batches, deadline, task: Some(task), waits, limits: self.inner.limits.clone() };
        Ok(QueryStream { schema: begun.schema, named: begun.named, epoch: begun.epoch, partial: begun.partial, rows })
    }

    /// Says what a statement would answer, without asking it. `given` are the types of parameters that are known.
    ///
    /// # Errors
    /// Any [`QueryError`] of a statement that cannot be planned.
    pub async fn describe(&self, sql: &str, given: &[Option<DataType>]) -> Result<Described, QueryError> {
        let question = match self.question(sql, AskOptions::default()).await? {
            Asked::Question(question) => question,
            Asked::View(ViewStatement::Create { .. } | ViewStatement::Drop { .. }) => {
                return Ok(Described { parameters: Vec::new(), columns: None });
            }
            Asked::View(statement) => {
                let columns = self.manage(statement).await?.schema; // it only reads
                return Ok(Described { parameters: Vec::new(), columns: Some(columns) });
            }
        };
        let (engine, given, waits) = (self.clone(), given.to_vec(), Waits::default());
        let work = async move {
            let fail = |error| QueryError::from_datafusion(error, engine.inner.limits.memory_bytes_max);
            let state = engine.session(Arc::default(), Waits::default(), true);
            let plan = engine.logical_plan(&state, question.statement.clone()).await?;
            let (plan, parameters) = parameters::described(plan, &given).map_err(fail)?;
            let plan = state.optimize(&combine::rewritten(plan).map_err(fail)?).map_err(fail)?;
            Ok(Described { parameters, columns: Some(question.named(plan.schema().inner())) })
        };
        self.compute(&waits, work).await
    }

    /// Reads a text, apart from the threads that serve the network: it may be long.
    async fn question(&self, sql: &str, options: AskOptions) -> Result<Asked, QueryError> {
        let recursion_limit = self.inner.base.config_options().sql_parser.recursion_limit.get();
        let sql = sql.to_owned();
        let read = async move {
            if let Some(reason) = too_much(&sql) {
                return Err(QueryError::Sql { message: format!("the statement {reason}") });
            }
            match ViewStatement::parse(&sql, recursion_limit)? {
                // Streams are described by DataFusion.
                Some(ViewStatement::Describe { .. }) | None => {
                    Question::parse(&sql, options, recursion_limit).map(Asked::Question)
                }
                Some(statement) => Ok(Asked::View(statement)),
            }
        };
        self.inner.threads.spawn(read).await?
    }

    /// Carries out a statement about views.
    async fn manage(&self, statement: ViewStatement) -> Result<QueryStream, QueryError> {
        let engine = self.clone();
        let waits = Waits::default();
        let work = async move {
            let Inner { engine, readings, backfills, .. } = &*engine.inner;
            Management { engine, readings, backfills }.run(statement).await
        };
        let answer = self.compute(&waits, work).await?;
        let (schema, epoch) = (answer.schema(), self.inner.engine.status().epoch);
        let (sender, batches) = mpsc::channel(1);
        let _ = sender.try_send(Ok(answer)); // there is room for one
        let deadline = Box::pin(tokio::time::sleep(self.inner.limits.time_max));
        let task = self.inner.threads.spawn(async {});
        let rows = Rows { batches, deadline, task: Some(task), waits, limits: self.inner.limits.clone() };
        Ok(QueryStream { named: schema.clone(), schema, epoch, partial: None, rows })
    }

    /// The work on a statement: says how it begins, then gives its rows until nobody wants more.
    async fn answer(
        self,
        question: Question,
        access: Access,
        turn: Turn,
        waits: Waits,
        begun: oneshot::Sender<Result<Begun, QueryError>>,
        rows: mpsc::Sender<Result<RecordBatch, QueryError>>,
    ) {
        let half = turn.deadline - self.inner.limits.time_max / 2;
        let _turn = turn; // invariant 2
        let answer = match question.options.partial {
            true => self.begin_held(&question, access, &waits, half).await,
            false => self.begin(&question, access, &waits).await,
        };
        let mut batches = match answer {
            Ok((beginning, batches)) => {
                let _ = begun.send(Ok(beginning)); // nobody may wait any more; then the first row is not wanted either
                batches
            }
            Err(error) => {
                let _ = begun.send(Err(error));
                return;
            }
        };
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| QueryError::from_datafusion(error, self.inner.limits.memory_bytes_max));
            let failed = batch.is_err();
            if rows.send(batch).await.is_err() || failed {
                return;
            }
        }
    }

    /// Begins an answer that may be partial; see the module.
    async fn begin_held(
        &self,
        question: &Question,
        access: Access,
        waits: &Waits,
        half: Instant,
    ) -> Result<Answer, QueryError> {
        let whole = async {
            let (begun, batches) = self.begin(question, access, waits).await?;
            Ok::<Answer, QueryError>((begun, self.hold(batches).await?))
        };
        let whole = tokio::select! {
            biased;
            answer = whole => answer,
            error = waits.late(half, self.inner.limits.time_max / 2) => Err(QueryError::History(error)),
        };
        match whole {
            Err(QueryError::History(error)) => {
                self.begin(question, Access::Away(error), waits).await // invariant 4: a snapshot and rows of its own
            }
            answer => answer,
        }
    }

    /// Waits for the rows of an answer, as far as they may be held back.
    async fn hold(&self, mut batches: SendableRecordBatchStream) -> Result<SendableRecordBatchStream, QueryError> {
        let fail = |error| QueryError::from_datafusion(error, self.inner.limits.memory_bytes_max);
        let pool = self.inner.base.runtime_env().memory_pool.clone();
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

    async fn begin(&self, question: &Question, access: Access, waits: &Waits) -> Result<Answer, QueryError> {
        let fail = |error| QueryError::from_datafusion(error, self.inner.limits.memory_bytes_max);
        let capture = Arc::new(Capture::default());
        let state = self.session(capture.clone(), waits.clone(), matches!(access, Access::Away(_)));
        let plan = self.plan(&state, question).await?;
        let epoch = capture.take(&self.inner.engine).await.map_err(|error| self.explain(error))?;
        let partial = match (access, capture.history_upto()) {
            (Access::Away(error), upto) if upto > Epoch::ZERO => Some(Partial::new(upto, &error)),
            _ => None, // it has no part in ClickHouse, or has that part
        };
        let batches = execute_stream(plan.clone(), state.task_ctx()).map_err(fail)?;
        let schema = plan.schema();
        Ok((Begun { named: question.named(&schema), schema, epoch, partial }, batches))
    }

    /// A session whose tables read one snapshot.
    fn session(&self, capture: Arc<Capture>, waits: Waits, memory_only: bool) -> SessionState {
        let mut state = self.inner.base.clone();
        state.register_catalog_list(Arc::new(self.catalog(capture, waits, memory_only)));
        state.mark_start_execution();
        state
    }

    /// The catalogue of a statement.
    fn catalog(&self, capture: Arc<Capture>, waits: Waits, memory_only: bool) -> StatementCatalog {
        let Inner { engine, history, limits, readings, backfills, .. } = &*self.inner;
        let (engine, history, time_max) = (engine.clone(), history.clone(), limits.time_max);
        let (readings, backfills) = (readings.clone(), backfills.clone());
        StatementCatalog(Statement { engine, history, memory_only, capture, readings, backfills, waits, time_max })
    }

    async fn plan(&self, state: &SessionState, question: &Question) -> Result<Arc<dyn ExecutionPlan>, QueryError> {
        let fail = |error| QueryError::from_datafusion(error, self.inner.limits.memory_bytes_max);
        let plan = self.logical_plan(state, question.statement.clone()).await?;
        let plan = parameters::bound(plan, &question.parameters).map_err(fail)?;
        let plan = combine::rewritten(plan).map_err(fail)?;
        state.create_physical_plan(&plan).await.map_err(fail)
    }

    async fn logical_plan(&self, state: &SessionState, statement: SqlStatement) -> Result<LogicalPlan, QueryError> {
        let fail = |error| QueryError::from_datafusion(error, self.inner.limits.memory_bytes_max);
        self.check_tables(state, &state.resolve_table_references(&statement).map_err(fail)?)?;
        let refused = not_a_question(&statement);
        let plan = state.statement_to_plan(statement).await.map_err(fail)?;
        let only_questions = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        only_questions.verify_plan(&plan).map_err(|_| refused)?;
        Ok(plan)
    }

    /// Refuses names of no table, and says which there are.
    fn check_tables(&self, state: &SessionState, references: &[TableReference]) -> Result<(), QueryError> {
        let names = table_names(&self.inner.engine);
        for reference in references {
            let here = reference.catalog().is_none_or(|catalog| catalog == CATALOG);
            let known = match reference.schema().unwrap_or(SCHEMA) {
                SCHEMA => names.iter().any(|name| name == reference.table()),
                PG_CATALOG => postgres::catalog::table_names().any(|name| name == reference.table()),
                other => other == INFORMATION_SCHEMA,
            };
            let function = reference.schema().is_none() && state.table_functions().contains_key(reference.table());
            if !(here && known || function) {
                return Err(QueryError::UnknownTable {
                    name: reference.to_string(),
                    hint: hint(reference.table(), &names),
                });
            }
        }
        Ok(())
    }

    /// A stream that was deleted between planning and the snapshot is a table that is not there.
    fn explain(&self, error: QueryError) -> QueryError {
        match error {
            QueryError::Engine(EngineError::UnknownStream(id)) => {
                QueryError::UnknownTable { name: id, hint: "it was deleted a moment ago".into() }
            }
            other => other,
        }
    }
}

/// The error of a question whose time is over: its own, unless it waits for ClickHouse.
fn overdue(waits: &Waits, limits: &QueryLimits) -> QueryError {
    waits.overdue(limits.time_max).map_or(QueryError::Time(limits.time_max), QueryError::History)
}

impl QueryStream {
    /// The bounds of the engine that answers.
    pub(crate) fn limits(&self) -> &QueryLimits {
        &self.rows.limits
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.rows.poll(context)
    }
}
