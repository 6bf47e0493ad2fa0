//! Push-down: parts of a plan that ClickHouse computes, and what memory has goes along with the question.
//!
//! ```text
//!  optimized plan ─▶ largest parts that can be translated ─▶ one SELECT each
//!                                                               │
//!   stream: its table, up to the flushed epoch  ─┐              ▼
//!           events in memory, sent along        ─┴─ UNION ALL ─▶ ClickHouse ─▶ rows ─▶ the rest of the plan
//! ```
//!
//! A part is worth it when it groups, joins, or keeps the first rows of an order. It is translated exactly or not at all;
//! where there is no ClickHouse, or nothing in it, the same part is done by DataFusion.
//!
//! Of an aggregate over a view, ClickHouse adds up what it has of the view, memory is not sent, and the aggregate of the plan is over both.
//!
//! # Layout
//!
//! - [`scalar`], [`time`], [`aggregate`]: expressions.
//! - [`plan`]: nodes of plans.
//! - [`source`]: a stream in ClickHouse and in memory.
//! - [`parts`]: parts of tables that are read without their events' epochs.
//! - [`table`]: a translated part in the plan around it.
//! - [`view`]: aggregates over views; [`sums`]: which of them are added up; [`rows`]: what they are over.

mod aggregate;
mod exec;
mod parts;
mod plan;
mod rows;
mod scalar;
mod source;
mod sums;
mod table;
mod time;
mod view;

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Sort, TableScanBuilder, col};

use crate::tables::Statement;
pub(crate) use parts::Parts;
use plan::{Translation, translate};
use table::PushedTable;
use view::summed;

/// The name of translated parts in plans.
const NAME: &str = "clickhouse";

/// An optimized plan whose parts ClickHouse computes, where it can; `plain` is a session for plans that filter and compute rows of a table.
///
/// # Errors
/// DataFusion's, when it has another idea of the plan.
pub(crate) fn pushed(plan: LogicalPlan, statement: &Statement, plain: &Arc<SessionState>) -> Result<LogicalPlan> {
    let plan = plan.transform_down_with_subqueries(|plan| {
        let pushed = match translate(&plan) {
            Some(translation) => replaced(plan, translation, statement)?,
            None => match summed(&plan, statement, plain)? {
                Some(pushed) => pushed,
                None => return Ok(Transformed::no(plan)),
            },
        };
        Ok(Transformed::new(pushed, true, TreeNodeRecursion::Jump))
    })?;
    Ok(plan.data)
}

fn replaced(plan: LogicalPlan, translation: Translation, statement: &Statement) -> Result<LogicalPlan> {
    let columns: Vec<_> = plan.schema().iter().map(|(table, field)| (table.cloned(), field.clone())).collect();
    let name = |at: usize| format!("_{at}");
    let fields = columns.iter().enumerate().map(|(at, (_, field))| Field::clone(field).with_name(name(at)));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let sort = match &plan {
        LogicalPlan::Sort(sort) => Some((sort.expr.clone(), sort.fetch)),
        _ => None,
    };
    let table = PushedTable::new(statement.clone(), schema, translation, plan);
    let scan = TableScanBuilder::new(NAME, provider_as_source(Arc::new(table))).build()?;
    let named = |(at, (table, field)): (usize, (Option<_>, Arc<Field>))| -> Expr {
        col(format!("{NAME}.{}", name(at))).alias_qualified(table, field.name())
    };
    let exprs = columns.into_iter().enumerate().map(named).collect();
    let input = Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(LogicalPlan::TableScan(scan)))?));
    Ok(match sort {
        // Its rows come in any order.
        Some((expr, fetch)) => LogicalPlan::Sort(Sort { expr, input, fetch }),
        None => Arc::unwrap_or_clone(input),
    })
}
