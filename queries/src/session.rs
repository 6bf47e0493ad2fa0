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
//! # Layout
//!
//! - `ask`: from a text to the beginning of its answer; `answer`: the work on a question; `clock`: until when that may go on; `rows`: the
//!   rows of its answer, for as long as it may take.
//! - `planning`: from a statement to the plan that runs; `plans`: the plan cache; `physical`: rules of planning that small questions do without.
//! - `names`: which name may have been meant; `parameters`: `$1`, `$2`, …; `listing`: the tables there are.

mod answer;
mod ask;
mod clock;
mod listing;
mod names;
mod parameters;
mod physical;
mod planning;
mod plans;
mod rows;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use futures::Stream;
use streamgauge_engine::{Engine, EngineError};
use streamgauge_schemas::Epoch;

use crate::activity::Record;
use crate::asker::{Asker, OwnLimits};
use crate::cache::Cache;
use crate::capture::Capture;
use crate::clickhouse::Bounds;
use crate::combine;
use crate::command::Command;
use crate::depth::too_much;
use crate::error::QueryError;
use crate::history::{History, HistoryError, Waits};
use crate::limits::QueryLimits;
use crate::options::{AskOptions, Partial};
use crate::postgres;
use crate::postgres::own::Own;
use crate::pushdown::Parts;
use crate::question::Question;
use crate::system::{self, Program, System};
use crate::tables::{CATALOG, SCHEMA, Statement};
use crate::threads::{Task, Threads};
use crate::timeseries;
use crate::turns::{Turn, Turns};
use crate::views::{Backfills, Readings};
use crate::wait;
use crate::yielding::YieldInJoins;
use crate::zeros::ZerosAreAlike;
pub use listing::{CATALOG_NAME, SCHEMA_NAMES, Table, TableKind};
use physical::Narrow;
use plans::PlanCache;
use rows::Rows;

/// Batches that wait to be read.
const BATCHES_WAITING_MAX: usize = 2;

/// Answers questions over live and history; clones share it.
#[derive(Clone)]
pub struct QueryEngine {
    inner: Arc<Inner>,
    asker: Asker,
}

struct Inner {
    engine: Engine,
    history: Arc<dyn History>,
    limits: QueryLimits,
    /// What every statement's session begins as: functions, rules, memory; its catalogue is empty.
    base: SessionState,
    narrow: Narrow,
    plans: PlanCache,
    readings: Arc<Readings>,
    backfills: Arc<Backfills>,
    parts: Arc<Parts>,
    cache: Arc<Cache>,
    turns: Turns,
    system: Arc<System>,
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
    Question(Box<Question>),
    Command(Command),
}

/// Whether an answer can have its part from ClickHouse.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// It can; errors are those of the answer.
    There,
    /// ClickHouse is away or failed, and an answer without its part was asked for.
    Away(HistoryError),
}

/// A question that is asked.
struct Asking {
    question: Question,
    access: Access,
    /// Its own, which may be lower than those of all.
    limits: QueryLimits,
    own: OwnLimits,
    record: Arc<Record>,
}

/// The beginning of an answer, and its rows.
type Answer = (Begun, SendableRecordBatchStream);

impl QueryEngine {
    /// Makes a query engine.
    ///
    /// # Errors
    /// [`QueryError::Bug`] when DataFusion cannot be set up or the threads cannot be started.
    pub fn new(engine: Engine, history: Arc<dyn History>, limits: QueryLimits) -> Result<Self, QueryError> {
        let turns = Turns::new(&limits);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(turns.memory())
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc();
        let fail = |error| QueryError::from_datafusion(error, limits.memory_bytes_max);
        let runtime = runtime.map_err(fail)?;
        let threads = Threads::start().map_err(|error| fail(error.into()))?;
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(false);
        config.options_mut().execution.time_zone = Some("UTC".into());
        config.options_mut().sql_parser.collect_spans = true; // errors say where
        let base = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_analyzer_rule(Arc::new(ZerosAreAlike))
            .with_physical_optimizer_rule(Arc::new(YieldInJoins));
        let mut base = timeseries::with_planner(base).build();
        datafusion_functions_json::register_all(&mut base).map_err(fail)?;
        timeseries::register(&mut base).map_err(fail)?;
        base.register_udaf(combine::function()).map_err(fail)?;
        base.register_expr_planner(Arc::new(postgres::IntervalOperators)).map_err(fail)?;
        postgres::computed::register(&mut base).map_err(fail)?;
        for function in postgres::functions::functions(&engine).into_iter().chain(Own::default().functions()) {
            base.register_udf(function).map_err(fail)?;
        }
        let narrow = Narrow::new(&base);
        let system = Arc::new(System::new(engine.clone()));
        for function in system::cancel::functions(&system.activity) {
            base.register_udf(function).map_err(fail)?;
        }
        let cache = Cache::new(limits.cache_bytes_max);
        Ok(QueryEngine {
            asker: Asker::default(),
            inner: Arc::new(Inner {
                engine,
                history,
                limits,
                base,
                narrow,
                plans: PlanCache::new(),
                readings: Arc::default(),
                backfills: Arc::default(),
                parts: Arc::default(),
                cache,
                turns,
                system,
                threads,
            }),
        })
    }

    /// The same for somebody: what is asked of it counts as his.
    #[must_use]
    pub fn asked_by(&self, asker: Asker) -> Self {
        QueryEngine { inner: self.inner.clone(), asker }
    }

    /// Lets the tables of schema `system` show what only the program knows.
    #[must_use]
    pub fn with_program(self, program: Arc<dyn Program>) -> Self {
        self.inner.system.know(program);
        self
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &QueryLimits {
        &self.inner.limits
    }

    /// What a read of ClickHouse may take for whoever asks; a statement of SQL may have lower bounds of its own.
    pub(crate) fn bounds(&self) -> Bounds {
        self.asker.limits.bounds(&self.inner.limits)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn history(&self) -> &Arc<dyn History> {
        &self.inner.history
    }

    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.inner.cache
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

    /// Waits for the right to run, computes `work`, and returns what it makes, in time or not at all; `waits` are its
    /// reads.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        waits: &Waits,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let Inner { turns, limits, .. } = &*self.inner;
        let user = turns.user(&self.asker.user);
        let turn = turns.take(&self.asker.user, &user, self.asker.limits.lower(limits).time_max).await?;
        self.compute_within(turn, waits, work).await
    }

    async fn compute_within<T: Send + 'static>(
        &self,
        turn: Turn,
        waits: &Waits,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let (own, deadline) = (self.asker.limits, turn.deadline);
        let limits = own.lower(&self.inner.limits);
        let task = self.inner.threads.spawn(async move {
            let _turn = turn; // invariant 2
            work.await
        });
        let done = tokio::time::timeout_at(deadline, task).await.map_err(|_| overdue(waits, &limits, own))?;
        done?.map_err(|error| of_bounds(error, &limits, own))
    }

    /// Says what a statement would answer, without asking it. `given` are the types of parameters that are known.
    ///
    /// # Errors
    /// Any [`QueryError`] of a statement that cannot be planned.
    pub async fn describe(&self, sql: &str, given: &[Option<DataType>]) -> Result<Described, QueryError> {
        let question = match self.question(sql, AskOptions::default()).await? {
            Asked::Question(question) => question,
            Asked::Command(command) if !command.reads() => {
                return Ok(Described { parameters: Vec::new(), columns: None });
            }
            Asked::Command(command) => {
                let columns = self.carry_out(command, &Waits::default()).await?.schema();
                return Ok(Described { parameters: Vec::new(), columns: Some(columns) });
            }
        };
        let user = self.inner.turns.user(&self.asker.user);
        let turn = self.turn(&question, &user, self.asker.limits.lower(&self.inner.limits).time_max).await?;
        let (engine, given, waits) = (self.clone(), given.to_vec(), Waits::default());
        let work = async move {
            let fail = |error| QueryError::from_datafusion(error, engine.inner.limits.memory_bytes_max);
            let nobody = engine.statement(Arc::default(), Waits::default(), engine.bounds(), true);
            let mut state = engine.session(nobody);
            state.mark_start_execution();
            let plan = engine.logical_plan(&state, question.statement.clone()).await?;
            let (plan, parameters) = parameters::described(plan, &given).map_err(fail)?;
            let plan = state.optimize(&combine::rewritten(plan).map_err(fail)?).map_err(fail)?;
            Ok(Described { parameters, columns: Some(question.named(plan.schema().inner())) })
        };
        self.compute_within(turn, &waits, work).await
    }

    /// Reads a text, apart from the threads that serve the network: it may be long, and then it takes a while.
    async fn question(&self, sql: &str, options: AskOptions) -> Result<Asked, QueryError> {
        let (engine, sql, own) = (self.clone(), sql.to_owned(), self.asker.limits);
        let max = own.lower(&self.inner.limits).time_max;
        let read = self.inner.threads.spawn(async move { engine.read(&sql, options) });
        let read = tokio::time::timeout(max, read).await;
        read.map_err(|_| QueryError::Time { max, own: own.time_max == Some(max), waits_for: None })??
    }

    /// Reads a text.
    fn read(&self, sql: &str, options: AskOptions) -> Result<Asked, QueryError> {
        let recursion_limit = self.inner.base.config_options().sql_parser.recursion_limit.get();
        if let Some(reason) = too_much(sql) {
            return Err(QueryError::Sql { message: format!("the statement {reason}") });
        }
        match Command::parse(sql, recursion_limit)? {
            None => {
                let question = Question::parse(sql, options, recursion_limit)?;
                let about_system = self.is_about_system(&question);
                Ok(Asked::Question(Box::new(Question { about_system, ..question })))
            }
            Some(command) => Ok(Asked::Command(command)),
        }
    }

    async fn begin(&self, asking: &Asking, access: Access) -> Result<Answer, QueryError> {
        let fail = |error| QueryError::from_datafusion(error, self.inner.limits.memory_bytes_max);
        let Asking { question, limits, own, record, .. } = asking;
        let capture = Arc::new(Capture::default());
        let memory_only = matches!(access, Access::Away(_));
        let statement = self.statement(capture.clone(), record.waits.clone(), own.bounds(limits), memory_only);
        let mut state = self.session(statement.clone());
        for function in (Own { id: record.id, session: self.asker.session.clone() }).functions() {
            state.register_udf(function).map_err(fail)?;
        }
        state.mark_start_execution();
        let (plan, config) = self.plan(&state, &statement, question).await?;
        let epoch = capture.take(&self.inner.engine).await.map_err(|error| self.explain(error))?;
        let partial = match (access, capture.history_upto()) {
            (Access::Away(error), upto) if upto > Epoch::ZERO => Some(Partial::new(upto, &error)),
            _ => None, // it has no part in ClickHouse, or has that part
        };
        let runtime = RuntimeEnv { memory_pool: record.memory.clone(), ..state.runtime_env().as_ref().clone() };
        let context = TaskContext::from(&state).with_session_config(config).with_runtime(Arc::new(runtime));
        let batches = execute_stream(plan.clone(), Arc::new(context)).map_err(fail)?;
        let schema = plan.schema();
        Ok((Begun { named: question.named(&schema), schema, epoch, partial }, batches))
    }

    /// What the tables of a statement share.
    fn statement(&self, capture: Arc<Capture>, waits: Waits, bounds: Bounds, memory_only: bool) -> Statement {
        let Inner { engine, history, readings, backfills, parts, cache, system, .. } = &*self.inner;
        let (engine, history, system) = (engine.clone(), history.clone(), system.clone());
        let (readings, backfills, parts, cache) = (readings.clone(), backfills.clone(), parts.clone(), cache.clone());
        Statement { engine, history, memory_only, capture, readings, backfills, parts, cache, system, waits, bounds }
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

/// The error of a question whose time is over.
fn overdue(waits: &Waits, limits: &QueryLimits, own: OwnLimits) -> QueryError {
    too_long(waits.upto(), limits, own)
}

fn too_long(waits_for: Option<Epoch>, limits: &QueryLimits, own: OwnLimits) -> QueryError {
    let max = limits.time_max;
    QueryError::Time { max, own: own.time_max == Some(max), waits_for }
}

/// The error of a question; of one that met one of its bounds in ClickHouse, what it would be had it met it here.
fn of_bounds(error: QueryError, limits: &QueryLimits, own: OwnLimits) -> QueryError {
    match error {
        QueryError::History(history) if history.is_timed_out() => too_long(history.upto(), limits, own),
        QueryError::History(history) if history.is_beyond_memory() => {
            let (of, bytes_max) = own.memory(limits);
            QueryError::Memory { bytes_max, of }
        }
        error => error,
    }
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
