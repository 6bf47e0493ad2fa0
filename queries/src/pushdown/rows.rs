//! The rows that an aggregate over a view is over, where ClickHouse adds its part up: keys and arguments, of memory one for each group of the
//! view, of history one for each group of the question.
//!
//! # Failure
//!
//! What ClickHouse refuses to add up, before its first row, is read instead: the table of the view then gives its groups whole.

use std::fmt::Display;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;

use super::exec::{ClickHouseExec, Work};
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
    part: Arc<Part>,
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
        RowsTable { part: Arc::new(Part { statement, view, asks }), plain, plan }
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
        let rows = self.plain.query_planner().create_physical_plan(&self.plan, self.plain.as_ref()).await?;
        let sums = Sums { part: self.part.clone(), rows };
        Ok(Arc::new(ClickHouseExec::new(sums, self.schema())))
    }
}

/// The part of ClickHouse.
#[derive(Debug)]
struct Part {
    statement: Statement,
    view: ApartView,
    asks: Asks,
}

impl Part {
    /// What ClickHouse is asked, without settings.
    fn sql(&self, horizon: impl Display) -> String {
        let Asks { columns, conditions, keys } = &self.asks;
        let columns: Vec<String> = columns.iter().enumerate().map(|(at, sql)| format!("{sql} AS _{at}")).collect();
        let mut sql = format!("SELECT {} {}", columns.join(", "), self.view.history_from(horizon, conditions));
        match keys.is_empty() {
            true => sql.push_str(" HAVING count() > 0"), // of no rows there is no part
            false => sql.push_str(&format!(" GROUP BY {}", keys.join(", "))),
        }
        sql
    }
}

/// The rows of memory, and of history what ClickHouse adds up.
#[derive(Debug)]
struct Sums {
    part: Arc<Part>,
    /// Those of the view's table.
    rows: Arc<dyn ExecutionPlan>,
}

#[async_trait]
impl Work for Sums {
    const NAME: &'static str = "ClickHouseSumsExec";

    async fn begin(self: Arc<Self>, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Part { statement, view, .. } = self.part.as_ref();
        let Statement { history, waits, cache, backfills, bounds, .. } = statement;
        let rows = self.rows.clone();
        view.seam.set_apart(false); // the plan may have run before, in a recursion
        let Some(horizon) = view.horizon() else { return execute_stream(rows, context) };
        let settings = clickhouse::settings(*bounds);
        let sql = format!("{} {settings}{}{SETTINGS}", self.part.sql(horizon), clickhouse::FINAL_SETTINGS);
        if sql.len() > SQL_BYTES_MAX {
            return execute_stream(rows, context);
        }
        let answer = match backfills.is_done(view.view()) {
            true => cache.read(history.clone(), sql, horizon, waits.clone()).await,
            false => history::read(history.clone(), sql, horizon, waits.clone()).await,
        };
        let parts = match answer {
            Ok(parts) => parts,
            // What ClickHouse refuses to compute is computed here; no row of an answer is out yet.
            Err(error) if !error.is_retryable() || error.is_beyond_memory() => return execute_stream(rows, context),
            Err(error) => return Err(error.into()),
        };
        view.seam.set_apart(true);
        let schema = rows.schema();
        let unusable = move |error| DataFusionError::from(HistoryError::lasting(error).up_to(horizon));
        let parts = {
            let schema = schema.clone();
            parts.map(move |part| conform(&part?, &schema).map_err(&unusable))
        };
        let rows = execute_stream(rows, context)?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.chain(parts))))
    }

    fn sql(&self) -> String {
        self.part.sql("horizon")
    }

    fn memory(&self) -> String {
        self.part.view.memory_words()
    }
}
