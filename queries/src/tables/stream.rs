//! A stream as a table: the events above the flushed epoch from memory, those at or below it from ClickHouse.
//!
//! ```text
//!  memory:   flushed < epoch ≤ E ─┐
//!                                 ├─ two partitions ─▶ DataFusion (filters again)
//!  history:  _epoch ≤ flushed   ──┘
//! ```

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt, stream};
use streamgauge_engine::snapshot::StreamSnapshot;
use streamgauge_schemas::stream::EPOCH_COLUMN;
use streamgauge_schemas::{Epoch, StreamId};

use super::read::{Explained, ReadExec};
use super::{Statement, predicates, pushdown, write_conjuncts};
use crate::capture::StreamPlace;
use crate::clickhouse;
use crate::history::{HistoryError, conform};

/// Small batches of memory are joined into ones of about this many rows.
const BATCH_ROWS: usize = 8_192;
/// and not more bytes: a column of texts must stay below 2 GiB.
const BATCH_BYTES: usize = 16 << 20;
/// A count of rows is handed on in batches of at most this many.
const COUNTED_ROWS_MAX: usize = 65_536;

/// What a stream's table is called in ClickHouse's SQL; no column begins with `_`, so it is never taken for one.
const ALIAS: &str = "_t";

/// A stream as a table of one statement.
#[derive(Debug)]
pub(crate) struct StreamTable {
    statement: Statement,
    stream: StreamId,
    name: String,
    schema: SchemaRef,
}

impl StreamTable {
    pub(super) fn new(statement: Statement, stream: StreamId, name: &str, schema: SchemaRef) -> Self {
        StreamTable { statement, stream, name: name.to_owned(), schema }
    }

    /// The same stream as a table of another statement; `None` when its name means another by now.
    pub(super) fn of(&self, statement: &Statement) -> Option<Self> {
        let is_there = self.stream == StreamId::METRICS
            || statement.engine.stream(&self.name).is_some_and(|stream| stream.id == self.stream);
        is_there.then(|| Self::new(statement.clone(), self.stream, &self.name, self.schema.clone()))
    }

    /// Which stream it is.
    pub(crate) fn stream(&self) -> StreamId {
        self.stream
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its columns.
    pub(crate) fn stream_schema(&self) -> &SchemaRef {
        &self.schema
    }
}

/// The events of a snapshot, as batches of some of their columns.
pub(crate) fn memory_batches(
    snapshot: Arc<StreamSnapshot>,
    columns: Vec<usize>,
    schema: SchemaRef,
) -> impl Iterator<Item = Result<RecordBatch>> {
    MemoryBatches { snapshot, next: 0, columns, schema }
}

#[async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        pushdown(filters, &self.schema, |_| true)
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.schema.fields().len()).collect();
        let columns: Vec<usize> = projection.cloned().unwrap_or_else(all);
        let schema: SchemaRef = Arc::new(self.schema.project(&columns)?);
        let place = self.statement.capture.want_stream(self.stream);
        let memory = MemoryEvents { statement: self.statement.clone(), place, columns, schema: schema.clone() };
        let history = Arc::new(HistoryEvents {
            statement: self.statement.clone(),
            place,
            name: self.name.clone(),
            table: clickhouse::table(self.statement.history.as_ref(), &self.name),
            stream: self.stream,
            conjuncts: {
                let mut sql = String::new();
                write_conjuncts(&predicates(filters, &self.schema, |_| true), ALIAS, &mut sql);
                sql
            },
            limit,
            schema: schema.clone(),
        });
        let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(memory), history.clone()];
        let read = StreamingTableExec::try_new(schema, partitions, None, [], false, limit)?;
        Ok(Arc::new(ReadExec::new(read, history)))
    }
}

/// The partition from memory.
#[derive(Debug)]
struct MemoryEvents {
    statement: Statement,
    place: StreamPlace,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl PartitionStream for MemoryEvents {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let snapshot = self.statement.capture.stream(self.place);
        let batches = memory_batches(snapshot, self.columns.clone(), self.schema.clone());
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream::iter(batches)))
    }
}

struct MemoryBatches {
    snapshot: Arc<StreamSnapshot>,
    next: usize,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Iterator for MemoryBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut joined = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while let Some((_, batch)) = self.snapshot.batches.get(self.next) {
            let more = batch.spread_bytes();
            if rows > 0 && (rows + batch.len() > BATCH_ROWS || bytes + more > BATCH_BYTES) {
                break;
            }
            rows += batch.len();
            bytes += more;
            match batch.to_record_batch().project(&self.columns).and_then(|batch| conform(&batch, &self.schema)) {
                Ok(batch) => joined.push(batch),
                Err(error) => return Some(Err(error.into())),
            }
            self.next += 1;
        }
        match joined.len() {
            0 => None,
            1 => joined.pop().map(Ok),
            _ if self.columns.is_empty() => Some(rows_without_columns(&self.schema, rows)),
            _ => Some(concat_batches(&self.schema, &joined).map_err(DataFusionError::from)),
        }
    }
}

/// The partition from ClickHouse.
#[derive(Debug)]
struct HistoryEvents {
    statement: Statement,
    place: StreamPlace,
    /// The stream's name, and its table in ClickHouse.
    name: String,
    table: String,
    stream: StreamId,
    conjuncts: String,
    limit: Option<usize>,
    schema: SchemaRef,
}

impl HistoryEvents {
    /// Events of a stream are younger than the stream; older ones in a table of its name are those of one deleted before.
    fn select(&self, flushed: impl fmt::Display) -> String {
        let columns: Vec<String> =
            self.schema.fields().iter().map(|field| format!("{ALIAS}.{}", clickhouse::name(field.name()))).collect();
        let (columns, limit) = match self.limit {
            _ if columns.is_empty() => ("count()".to_owned(), String::new()),
            Some(limit) => (columns.join(", "), format!(" LIMIT {limit}")),
            None => (columns.join(", "), String::new()),
        };
        format!(
            "SELECT {columns} FROM {} AS {ALIAS} WHERE {ALIAS}.{EPOCH_COLUMN} > {} AND {ALIAS}.{EPOCH_COLUMN} <= {flushed}{}{limit}",
            self.table, self.stream.0, self.conjuncts
        )
    }
}

impl Explained for HistoryEvents {
    fn sql(&self) -> String {
        self.select("flushed")
    }

    fn memory(&self) -> String {
        self.name.clone()
    }
}

impl PartitionStream for HistoryEvents {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let flushed = self.statement.capture.stream(self.place).flushed;
        let schema = self.schema.clone();
        if flushed == Epoch::ZERO || self.statement.memory_only {
            return Box::pin(RecordBatchStreamAdapter::new(schema, stream::empty()));
        }
        let sql = format!("{} {}", self.select(flushed), clickhouse::settings(self.statement.bounds));
        let Statement { history, cache, waits, .. } = self.statement.clone();
        // A stream of the user's own has a table once the change that made it is flushed.
        let made = self.stream.is_built_in() || Epoch(self.stream.0) <= self.statement.engine.flushed().catalog;
        let read = async move {
            match cache.read(history, sql, flushed, waits).await {
                Ok(batches) => Ok(batches),
                Err(error) if error.is_table_missing() && !made => Ok(stream::empty().boxed()),
                Err(error) => Err(DataFusionError::from(error)),
            }
        };
        let batches = stream::once(read).map_ok(|batches| batches.map_err(DataFusionError::from)).try_flatten();
        let rows = {
            let schema = schema.clone();
            batches.flat_map(move |batch| match batch {
                Ok(batch) if schema.fields().is_empty() => counted(&schema, &batch),
                Ok(batch) => {
                    let unusable = |error| HistoryError::lasting(error).up_to(flushed).into();
                    stream::iter(vec![conform(&batch, &schema).map_err(unusable)])
                }
                Err(error) => stream::iter(vec![Err(error)]),
            })
        };
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

/// As many rows without columns as ClickHouse counted.
fn counted(schema: &Arc<Schema>, batch: &RecordBatch) -> stream::Iter<std::vec::IntoIter<Result<RecordBatch>>> {
    use arrow::array::AsArray;
    use arrow::datatypes::UInt64Type;
    let counts = batch.columns().first().and_then(|column| column.as_primitive_opt::<UInt64Type>());
    let Some(counts) = counts else {
        return stream::iter(vec![Err(DataFusionError::Internal("ClickHouse did not count".into()))]);
    };
    let mut left: usize = counts.values().iter().map(|count| *count as usize).sum();
    let mut batches = Vec::with_capacity(left / COUNTED_ROWS_MAX + 1);
    while left > 0 {
        let rows = left.min(COUNTED_ROWS_MAX);
        batches.push(rows_without_columns(schema, rows));
        left -= rows;
    }
    stream::iter(batches)
}

/// A batch of no columns.
pub(super) fn rows_without_columns(schema: &SchemaRef, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), Vec::new(), &options)?)
}
