//! The rows that an aggregate over a view is over, where ClickHouse adds its part up: keys and arguments, of memory one for each group of the
//! view, of history one for each group of the question.
//!
//! # Failure
//!
//! What ClickHouse refuses to add up, before its first row, is read instead: the table of the view then gives its groups whole.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties, execute_stream,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::table::{SETTINGS, SQL_BYTES_MAX};
use crate::clickhouse;
use crate::history::{self, HistoryError, conform};
use crate::tables::{ApartView, Statement};

/// What ClickHouse is asked of the rows of a view.
#[derive(Debug)]
pub(super) struct Asks {
    /// Keys, then parts.
    pub(super) columns: Vec<String>,
    pub(super) conditions: Vec<String>,
    /// What groups are told apart by.
    pub(super) keys: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct RowsTable {
    work: Arc<Work>,
    /// Plans `plan`: it reads one table and computes, so there is little to optimize.
    plain: Arc<SessionState>,
    /// The rows of memory; those of history too, unless their part is read apart.
    plan: LogicalPlan,
}

impl RowsTable {
    pub(super) fn new(
        statement: Statement,
        plain: Arc<SessionState>,
        view: ApartView,
        asks: Asks,
        plan: LogicalPlan,
    ) -> Self {
        RowsTable { work: Arc::new(Work { statement, view, asks }), plain, plan }
    }
}

#[async_trait]
impl TableProvider for RowsTable {
    fn schema(&self) -> SchemaRef {
        self.plan.schema().inner().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if projection.is_some() {
            return Err(DataFusionError::Internal("plans are translated after they are optimized".into()));
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(self.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Arc::new(ClickHouseSumsExec {
            work: self.work.clone(),
            rows: self.plain.query_planner().create_physical_plan(&self.plan, self.plain.as_ref()).await?,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }))
    }
}

/// What is to be done.
#[derive(Debug)]
struct Work {
    statement: Statement,
    view: ApartView,
    asks: Asks,
}

impl Work {
    /// What ClickHouse is asked, without settings.
    fn sql(&self, horizon: impl fmt::Display) -> String {
        let Asks { columns, conditions, keys } = &self.asks;
        let columns: Vec<String> = columns.iter().enumerate().map(|(at, sql)| format!("{sql} AS _{at}")).collect();
        let mut sql = format!("SELECT {} {}", columns.join(", "), self.view.history_from(horizon, conditions));
        match keys.is_empty() {
            true => sql.push_str(" HAVING count() > 0"), // of no rows there is no part
            false => sql.push_str(&format!(" GROUP BY {}", keys.join(", "))),
        }
        sql
    }

    /// The rows, over those of the view's table.
    async fn begin(
        self: Arc<Self>,
        rows: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let Statement { history, waits, cache, backfills, bounds, .. } = &self.statement;
        self.view.seam.set_apart(false); // the plan may have run before, in a recursion
        let Some(horizon) = self.view.horizon() else { return execute_stream(rows, context) };
        let settings = clickhouse::settings(*bounds);
        let sql = format!("{} {settings}{}{SETTINGS}", self.sql(horizon), clickhouse::FINAL_SETTINGS);
        if sql.len() > SQL_BYTES_MAX {
            return execute_stream(rows, context);
        }
        let answer = match backfills.is_done(self.view.view()) {
            true => cache.read(history.clone(), sql, horizon, waits.clone()).await,
            false => history::read(history.clone(), sql, horizon, waits.clone()).await,
        };
        let parts = match answer {
            Ok(parts) => parts,
            // What ClickHouse refuses to compute is computed here; no row of an answer is out yet.
            Err(error) if !error.is_retryable() || error.is_beyond_memory() => return execute_stream(rows, context),
            Err(error) => return Err(error.into()),
        };
        self.view.seam.set_apart(true);
        let schema = rows.schema();
        let unusable = move |error| DataFusionError::from(HistoryError::lasting(error).up_to(horizon));
        let parts = {
            let schema = schema.clone();
            parts.map(move |part| conform(&part?, &schema).map_err(&unusable))
        };
        let rows = execute_stream(rows, context)?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.chain(parts))))
    }
}

/// The rows of memory, and of history what ClickHouse adds up.
#[derive(Debug)]
struct ClickHouseSumsExec {
    work: Arc<Work>,
    rows: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ExecutionPlan for ClickHouseSumsExec {
    fn name(&self) -> &str {
        "ClickHouseSumsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let metrics = BaselineMetrics::new(&self.metrics, 0);
        let rows = stream::once(self.work.clone().begin(self.rows.clone(), context)).try_flatten();
        let rows = rows.inspect_ok(move |batch| metrics.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for ClickHouseSumsExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sql = clickhouse::shortened(self.work.sql("horizon"));
        write!(f, "ClickHouseSumsExec: sql={sql}, memory=[{}]", self.work.view.memory_words())
    }
}
