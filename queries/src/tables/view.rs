//! A built-in rollup as a table: a row is a bucket of a series, whole, whatever part of it is in memory and in ClickHouse.
//!
//! A group has several pieces (generations); some may be above the horizon, in memory, and others at or below, in
//! ClickHouse. So only filters on what names a group (`bucket`, `name`, `dimensions`) narrow what is read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt, stream};
use streamgauge_engine::ViewRead;
use streamgauge_schemas::stream::{dimensions_type, timestamp_type};
use streamgauge_schemas::{Epoch, View};

use super::merge::{MemoryGroups, ViewColumn, history_columns};
use super::{Statement, predicates, pushdown, write_conjuncts};
use crate::capture::ViewPlace;
use crate::clickhouse;
use crate::history::{self, HistoryError};
use crate::predicate::{Predicate, row_filter};

/// About how many bytes of memory a captured row takes while it is merged.
const GROUP_BYTES: usize = 160;

/// A rollup as a table of one statement.
#[derive(Debug)]
pub(super) struct ViewTable {
    statement: Statement,
    view: Arc<View>,
    schema: SchemaRef,
}

impl ViewTable {
    pub(super) fn new(statement: Statement, view: Arc<View>) -> Self {
        ViewTable { statement, view, schema: view_schema() }
    }

    pub(super) fn view(&self) -> &Arc<View> {
        &self.view
    }
}

/// The columns of every rollup, in the order of [`ViewColumn::ALL`].
fn view_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("bucket", timestamp_type(), false),
        Field::new("name", DataType::Utf8, false),
        Field::new("dimensions", dimensions_type(), false),
        Field::new("count", DataType::Int64, false),
        Field::new("sum", DataType::Float64, false),
        Field::new("min", DataType::Float64, false),
        Field::new("max", DataType::Float64, false),
        Field::new("avg", DataType::Float64, false),
    ]))
}

fn names_a_group(predicate: &Predicate) -> bool {
    predicate.only(&["bucket", "name", "dimensions"])
}

#[async_trait]
impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(pushdown(filters, &self.schema, names_a_group))
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..ViewColumn::ALL.len()).collect());
        let schema: SchemaRef = Arc::new(self.schema.project(&columns)?);
        let predicates = predicates(filters, &self.schema, names_a_group);
        let read = ViewRead { view: self.view.id, filter: row_filter(&predicates), follow: None };
        let states = self.view.states_table();
        let groups = Groups {
            place: self.statement.capture.want_view(read),
            table: clickhouse::table(self.statement.history.as_ref(), &states),
            statement: self.statement.clone(),
            conjuncts: {
                let mut sql = String::new();
                write_conjuncts(&predicates, "s", &mut sql);
                sql
            },
            columns: columns.into_iter().map(|column| ViewColumn::ALL[column]).collect(),
            limit,
            schema: schema.clone(),
        };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(groups)], None, [], false, limit)?))
    }
}

/// The rows of a rollup, memory merged into history.
#[derive(Debug)]
struct Groups {
    statement: Statement,
    place: ViewPlace,
    table: String,
    conjuncts: String,
    columns: Vec<ViewColumn>,
    limit: Option<usize>,
    schema: SchemaRef,
}

impl Groups {
    /// The filter on the version comes after `FINAL`, and must not choose what `FINAL` reads: an older version of a row
    /// may lie where a newer one, beyond the horizon, was skipped. `identity` keeps it from the index.
    fn sql(&self, horizon: Epoch, partners: bool) -> String {
        let limit = self.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        format!(
            "SELECT {} FROM {} AS s FINAL WHERE identity(s.version) <= {horizon}{} \
             GROUP BY s.name, s.series, s.bucket{limit} {}{}",
            history_columns(&self.columns, partners),
            self.table,
            self.conjuncts,
            clickhouse::settings(self.statement.time_max),
            clickhouse::FINAL_SETTINGS
        )
    }
}

impl PartitionStream for Groups {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let snapshot = self.statement.capture.view(self.place);
        let reservation = MemoryConsumer::new("rows of a rollup in memory").register(context.memory_pool());
        if let Err(error) = reservation.try_grow(snapshot.rows.len() * GROUP_BYTES) {
            let failed = stream::once(async move { Err(error) });
            return Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), failed));
        }
        let memory = MemoryGroups::new(snapshot.clone(), self.columns.clone(), self.schema.clone());
        let horizon = snapshot.horizon;
        let sql = self.sql(horizon, !memory.is_empty());
        let has_history = horizon > Epoch::ZERO && !self.statement.memory_only;
        let history = has_history.then(|| self.statement.history.clone());
        let waits = self.statement.waits.clone();
        let read = async move {
            match history {
                Some(history) => Ok::<_, DataFusionError>(history::read(history, sql, horizon, waits).await?),
                None => Ok(stream::empty().boxed()),
            }
        };
        let batches = stream::once(read).map_ok(|batches| batches.map_err(DataFusionError::from)).try_flatten().boxed();
        let rows = stream::unfold(Some((batches, memory)), move |state| {
            let _held = &reservation;
            async move {
                let (mut batches, mut memory) = state?;
                match batches.next().await {
                    Some(Ok(batch)) => {
                        let unusable = |error: DataFusionError| HistoryError::lasting(error).up_to(horizon).into();
                        Some((memory.merge(&batch).map_err(unusable), Some((batches, memory))))
                    }
                    Some(Err(error)) => Some((Err(error), None)),
                    None => memory.rest().map(|rest| (rest, Some((batches, memory)))),
                }
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}
