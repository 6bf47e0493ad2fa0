//! Aggregates over a view, of which ClickHouse adds its part up.
//!
//! ```text
//!  Aggregate: keys, calls                 Projection: the columns that were there before
//!    … filters, lists, aliases …   ─▶       Aggregate: _0 …, the same calls over _n …
//!      TableScan: v                           TableScan: keys and arguments of the rows of v
//!                                               memory:  Projection: keys, arguments ◀ … ◀ TableScan: v
//!                                               history: SELECT keys, parts of calls … GROUP BY keys
//! ```
//!
//! What memory has is not sent along, as events are: what history adds up to is rows among those of memory, and the aggregate of
//! the question is over both. So the answer of ClickHouse is the same until the horizon moves, and is cached. Of which
//! calls this is right, [`sums`](super::sums) says.
//!
//! # Invariants
//!
//! 1. The new plan has the columns of the one before, by name and type.
//! 2. A group of the view passes the conditions of the question, and belongs to a group of it, by what names it: so all of its
//!    pieces do.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Case, Expr, LogicalPlan, Projection, TableScan, TableScanBuilder, col};
use streamgauge_schemas::time::wall_clock;

use super::NAME;
use super::rows::{Asks, RowsTable};
use super::sums::Pieces;
use super::time::{bin_of_nanoseconds, bucket_number};
use crate::tables::{ApartView, Statement};

/// Of fewer groups ClickHouse sends the rows as fast as it adds them up, and there is less to plan.
const GROUPS_MIN: i64 = 1_500;

/// An aggregate over a view whose history ClickHouse adds up; `None` when it cannot, or when nothing would be won. `plain` plans what
/// is read of memory.
///
/// # Errors
/// DataFusion's, when it has another idea of the plan.
pub(super) fn summed(
    plan: &LogicalPlan,
    statement: &Statement,
    plain: &Arc<SessionState>,
) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(None) };
    let Some(scan) = scan_under(&aggregate.input) else { return Ok(None) };
    let Some(view) = ApartView::of(scan) else { return Ok(None) };
    if view.groups_max(wall_clock()).is_some_and(|groups| groups < GROUPS_MIN) {
        return Ok(None);
    }
    let Some(asks) = asks(aggregate, scan, &view) else { return Ok(None) };
    let input = reading(&aggregate.input, &view)?;
    let input = LogicalPlan::Projection(Projection::try_new(arguments(aggregate)?, Arc::new(input))?);
    let table = RowsTable::new(statement.clone(), plain.clone(), view, asks, input);
    over(aggregate, table).map(Some)
}

/// The scan under filters, lists and aliases.
fn scan_under(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan),
        LogicalPlan::SubqueryAlias(alias) => scan_under(&alias.input),
        LogicalPlan::Filter(filter) => scan_under(&filter.input),
        LogicalPlan::Projection(projection) => scan_under(&projection.input),
        _ => None,
    }
}

/// The same plan over a table that leaves its history out when it is told to.
fn reading(plan: &LogicalPlan, view: &ApartView) -> Result<LogicalPlan> {
    let plan = plan.clone().transform_down(|plan| match plan {
        LogicalPlan::TableScan(scan) => Ok(Transformed::yes(LogicalPlan::TableScan(view.scan(scan)?))),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

/// What a plan makes of the columns of the scan under it.
#[derive(Default)]
struct Made {
    /// Of each column of the plan an expression over the scan.
    columns: Vec<Expr>,
    conditions: Vec<Expr>,
}

impl Made {
    fn of(plan: &LogicalPlan) -> Option<Self> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let columns = scan.projected_schema.iter().map(|column| Expr::Column(Column::from(column)));
                Some(Made { columns: columns.collect(), conditions: Vec::new() })
            }
            LogicalPlan::SubqueryAlias(alias) => Made::of(&alias.input),
            LogicalPlan::Filter(filter) => {
                let mut made = Made::of(&filter.input)?;
                let condition = made.over(&filter.predicate, filter.input.schema())?;
                made.conditions.extend(split_conjunction(&condition).into_iter().cloned());
                Some(made)
            }
            LogicalPlan::Projection(projection) => {
                let made = Made::of(&projection.input)?;
                let column = |expr: &Expr| made.over(expr, projection.input.schema());
                Some(Made { columns: projection.expr.iter().map(column).collect::<Option<_>>()?, ..made })
            }
            _ => None,
        }
    }

    /// An expression over the plan, as one over the scan.
    fn over(&self, expr: &Expr, schema: &DFSchema) -> Option<Expr> {
        let over = expr.clone().unalias().transform_up(|part| match &part {
            Expr::Column(column) => Ok(Transformed::yes(self.columns[schema.index_of_column(column)?].clone())),
            _ => Ok(Transformed::no(part)),
        });
        Some(over.ok()?.data)
    }
}

/// The call that an expression of an aggregate is.
fn call(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::Alias(alias) => call(&alias.expr),
        Expr::AggregateFunction(call) => Some(call),
        _ => None,
    }
}

/// What ClickHouse is asked.
fn asks(aggregate: &Aggregate, scan: &TableScan, view: &ApartView) -> Option<Asks> {
    let (made, schema) = (Made::of(&aggregate.input)?, aggregate.input.schema());
    let pieces = Pieces::new(view, scan);
    let scope = pieces.scope();
    let keys: Vec<Expr> = aggregate.group_expr.iter().map(|key| made.over(key, schema)).collect::<Option<_>>()?;
    if names_all(&keys, scan, view) || !keys.iter().chain(&made.conditions).all(|expr| pieces.is_of_names(expr)) {
        return None;
    }
    let key = |expr: &Expr| match scope.kind(expr) {
        Some(DataType::Float64) if !scope.has_no_negative_zero(expr) => None, // it is a group of its own here
        Some(_) => scope.scalar(expr),
        None => bin_of_nanoseconds(&scope, expr), // of a type that only what is above has
    };
    let keys: Vec<String> = keys.iter().map(key).collect::<Option<_>>()?;
    let conditions = made.conditions.iter().map(|condition| scope.scalar(condition)).collect::<Option<_>>()?;
    let mut columns = keys.clone();
    for expr in &aggregate.aggr_expr {
        let mut call = call(expr)?.clone();
        for argument in call.params.args.iter_mut().chain(call.params.filter.as_deref_mut()) {
            *argument = made.over(argument, schema)?;
        }
        columns.extend(pieces.parts(&call)?);
    }
    let keys = keys.into_iter().map(|key| bucket_number(&key).map_or(key.clone(), str::to_owned)).collect();
    Some(Asks { columns, conditions, keys })
}

/// Whether the groups of the question are those of the view: then there is nothing to add up.
fn names_all(keys: &[Expr], scan: &TableScan, view: &ApartView) -> bool {
    let place = |key: &Expr| match key {
        Expr::Column(column) => scan.projected_schema.index_of_column(column).ok(),
        _ => None,
    };
    let named: BTreeSet<&str> = keys.iter().filter_map(place).filter_map(|place| view.name(scan, place)).collect();
    let definition = &view.view().definition;
    named.len() == definition.dimensions.len() + usize::from(definition.bucket.is_some())
}

/// The keys and the arguments of calls, over the input of an aggregate; an argument is null where its call's filter does not hold.
fn arguments(aggregate: &Aggregate) -> Result<Vec<Expr>> {
    let mut exprs = aggregate.group_expr.clone();
    for expr in &aggregate.aggr_expr {
        let params = &call(expr).ok_or_else(other_idea)?.params;
        exprs.extend(params.args.iter().map(|argument| match &params.filter {
            Some(filter) => {
                let when = vec![(filter.clone(), Box::new(argument.clone()))];
                Expr::Case(Case::new(None, when, None))
            }
            None => argument.clone(),
        }));
    }
    Ok(exprs.into_iter().enumerate().map(|(at, expr)| expr.alias(format!("_{at}"))).collect())
}

/// The aggregate over rows of its keys and arguments, with its columns (invariant 1).
fn over(aggregate: &Aggregate, table: RowsTable) -> Result<LogicalPlan> {
    let scan = TableScanBuilder::new(NAME, provider_as_source(Arc::new(table))).build()?;
    let column = |at: usize| col(format!("{NAME}._{at}"));
    let mut next = aggregate.group_expr.len();
    let keys: Vec<Expr> = (0..next).map(column).collect();
    let mut calls = Vec::new();
    for expr in &aggregate.aggr_expr {
        let mut call = call(expr).ok_or_else(other_idea)?.clone();
        call.params.filter = None;
        for argument in &mut call.params.args {
            *argument = column(next);
            next += 1;
        }
        calls.push(Expr::AggregateFunction(call).alias(format!("_call_{}", calls.len())));
    }
    let input = Aggregate::try_new(Arc::new(LogicalPlan::TableScan(scan)), keys, calls)?;
    let before = aggregate.schema.iter().zip(input.schema.columns());
    let exprs =
        before.map(|((table, field), column)| Expr::Column(column).alias_qualified(table.cloned(), field.name()));
    let exprs = exprs.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(LogicalPlan::Aggregate(input)))?))
}

fn other_idea() -> DataFusionError {
    DataFusionError::Internal("an aggregate has something that is no call".into())
}
