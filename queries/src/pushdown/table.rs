//! A translated plan as a table of the plan around it, and its answer.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;
use streamgauge_schemas::Epoch;

use super::exec::{ClickHouseExec, Work};
use super::parts::{Read, SETTING};
use super::plan::Translation;
use super::source::{HistoryPart, MemoryFilter, Source};
use crate::capture::StreamPlace;
use crate::clickhouse;
use crate::history::{self, ExternalTable};
use crate::tables::Statement;

/// With more of events in memory than this they are not sent.
const MEMORY_BYTES_MAX: usize = 256 << 20;
/// The longest statement that ClickHouse reads, and the longest address of a request; with events sent along it is part of that.
pub(super) const SQL_BYTES_MAX: usize = 250 << 10;
const ADDRESS_BYTES_MAX: usize = 60_000;
/// What ClickHouse must do as DataFusion does.
pub(super) const SETTINGS: &str = ", join_use_nulls = 1, enable_positional_arguments = 0, transform_null_in = 0";

/// See the module.
#[derive(Debug)]
pub(super) struct PushedTable {
    statement: Statement,
    schema: SchemaRef,
    translation: Arc<Translation>,
    /// What is done when ClickHouse cannot have the plan.
    plan: LogicalPlan,
}

impl PushedTable {
    pub(super) fn new(statement: Statement, schema: SchemaRef, translation: Translation, plan: LogicalPlan) -> Self {
        PushedTable { statement, schema, translation: Arc::new(translation), plan }
    }
}

#[async_trait]
impl TableProvider for PushedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if projection.is_some() {
            return Err(DataFusionError::Internal("plans are translated after they are optimized".into()));
        }
        let places = self.translation.sources.iter().map(|source| self.statement.capture.want_stream(source.stream));
        let filter = |source: &Source| source.memory_filter(state.execution_props());
        let work = Answer {
            statement: self.statement.clone(),
            places: places.collect(),
            filters: self.translation.sources.iter().map(filter).collect::<Result<_>>()?,
            translation: self.translation.clone(),
            instead: state.query_planner().create_physical_plan(&self.plan, state).await?,
        };
        Ok(Arc::new(ClickHouseExec::new(work, self.schema.clone())))
    }
}

/// The whole answer.
#[derive(Debug)]
struct Answer {
    statement: Statement,
    /// Of each source its events in memory.
    places: Vec<StreamPlace>,
    /// Of each source which of them are sent.
    filters: Vec<MemoryFilter>,
    translation: Arc<Translation>,
    instead: Arc<dyn ExecutionPlan>,
}

/// What is asked of ClickHouse.
struct Asked {
    sql: String,
    memory: Vec<ExternalTable>,
    upto: Epoch,
}

impl Answer {
    /// The statement with its sources put in by `source`.
    fn sql_over(&self, source: impl Fn(usize, &Source) -> String) -> String {
        let mut sql = String::new();
        for (at, piece) in self.translation.sql.split('\0').enumerate() {
            match piece.parse::<usize>() {
                Ok(number) if at % 2 == 1 => sql.push_str(&source(number, &self.translation.sources[number])),
                _ => sql.push_str(piece),
            }
        }
        sql
    }

    /// What to ask; `None` when ClickHouse has no part in the answer, or too small a one.
    async fn asked(&self) -> Result<Option<Asked>> {
        let Statement { history, capture, engine, memory_only, bounds, waits, parts, .. } = &self.statement;
        let sources = &self.translation.sources;
        let snapshots: Vec<_> = self.places.iter().map(|place| capture.stream(*place)).collect();
        let bytes: usize = snapshots.iter().map(|snapshot| Source::bytes_in_memory(snapshot)).sum();
        let made = |source: &Source| source.stream.is_built_in() || Epoch(source.stream.0) <= engine.flushed().catalog;
        let is_there = snapshots.iter().any(|snapshot| snapshot.flushed > Epoch::ZERO);
        if *memory_only || !is_there || !sources.iter().all(made) || bytes > MEMORY_BYTES_MAX {
            return Ok(None);
        }
        let (mut memory, mut histories) = (Vec::new(), Vec::new());
        for (number, (source, snapshot)) in sources.iter().zip(&snapshots).enumerate() {
            memory.push(source.memory(&format!("_memory_{number}"), snapshot, &self.filters[number])?);
            let (table, flushed) = (clickhouse::table(history.as_ref(), &source.name), snapshot.flushed);
            let settled = parts.settled(&Read { history, waits, stream: source.stream, table: &table, flushed }).await;
            histories.push(HistoryPart { table, flushed: flushed.to_string(), settled });
        }
        let sql = self.sql_over(|number, source| {
            source.sql(&histories[number], memory[number].as_ref().map(|table| table.name.as_str()))
        });
        let is_shared = histories.iter().any(|part| !part.settled.is_empty());
        let shared = if is_shared { format!(", {SETTING} = 1") } else { String::new() };
        let sql = format!("{sql} {}{SETTINGS}{shared}", clickhouse::settings(*bounds));
        let upto = snapshots.iter().map(|snapshot| snapshot.flushed).max().unwrap_or(Epoch::ZERO);
        let memory: Vec<ExternalTable> = memory.into_iter().flatten().collect();
        let address: usize =
            memory.iter().map(|table| encoded_bytes(&table.structure)).sum::<usize>() + encoded_bytes(&sql);
        let fits = sql.len() <= SQL_BYTES_MAX && (memory.is_empty() || address <= ADDRESS_BYTES_MAX);
        Ok(fits.then_some(Asked { sql, memory, upto }))
    }
}

#[async_trait]
impl Work for Answer {
    const NAME: &'static str = "ClickHouseExec";

    async fn begin(self: Arc<Self>, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(Asked { sql, memory, upto }) = self.asked().await? else {
            return execute_stream(self.instead.clone(), context);
        };
        let Statement { history, waits, cache, .. } = &self.statement;
        let reservation = MemoryConsumer::new("events sent to ClickHouse").register(context.memory_pool());
        let bytes =
            memory.iter().flat_map(|table| &table.batches).map(RecordBatch::get_array_memory_size).sum::<usize>();
        if reservation.try_grow(2 * bytes).is_err() {
            return execute_stream(self.instead.clone(), context); // there is no room for them as they are and as they are sent
        }
        let answer = match memory.is_empty() {
            true => cache.read(history.clone(), sql, upto, waits.clone()).await,
            false => history::read_with(history.clone(), sql, memory, upto, waits.clone()).await,
        };
        match answer {
            Ok(batches) => {
                let batches = batches.map_err(DataFusionError::from);
                Ok(Box::pin(RecordBatchStreamAdapter::new(self.instead.schema(), batches)))
            }
            // What ClickHouse refuses to compute is computed here; no row of an answer is out yet.
            Err(error) if !error.is_retryable() => execute_stream(self.instead.clone(), context),
            Err(error) => Err(error.into()),
        }
    }

    fn sql(&self) -> String {
        self.sql_over(|number, source| {
            let table = clickhouse::table(self.statement.history.as_ref(), &source.name);
            let history = HistoryPart { table, flushed: "flushed".to_owned(), settled: Vec::new() };
            source.sql(&history, Some(&format!("_memory_{number}")))
        })
    }

    fn memory(&self) -> String {
        let words = |(number, source): (usize, &Source)| format!("_memory_{number}: {}", source.memory_words());
        self.translation.sources.iter().enumerate().map(words).collect::<Vec<_>>().join(", ")
    }
}

/// How long a text is in the address of a request.
fn encoded_bytes(text: &str) -> usize {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() || b" *-._".contains(&byte) { 1 } else { 3 }).sum()
}

impl fmt::Debug for Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Translation").field("sql", &self.sql).finish_non_exhaustive()
    }
}
