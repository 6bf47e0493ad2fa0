//! A kept plan with the values of a question: its texts, its moment, its tables.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, TableScan};
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyExpressions};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::open::{is_open, number};
use crate::tables::{self, Statement};

/// A plan as SQL gives it, where what is open has the types of its values and not those that the places suggest: it is to
/// be compared as the values would be.
///
/// # Errors
/// DataFusion's, when it has another idea of the plan.
pub(super) fn typed(plan: LogicalPlan, kinds: &[DataType]) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|plan| {
        plan.map_expressions(|expr| {
            expr.transform_up(|expr| {
                let Expr::Placeholder(Placeholder { id, .. }) = &expr else { return Ok(Transformed::no(expr)) };
                let Some(kind) = number(id).and_then(|at| kinds.get(at)) else { return Ok(Transformed::no(expr)) };
                let field = Arc::new(Field::new(id, kind.clone(), false));
                Ok(Transformed::yes(Expr::Placeholder(Placeholder::new_with_field(id.clone(), Some(field)))))
            })
        })
    })?;
    Ok(plan.data)
}

/// The plan over the tables of a statement; `None` when one of them is no longer what its name means, or is none of
/// streams and views.
///
/// # Errors
/// Those of a view whose back-fill is not done.
pub(super) fn with_tables_of(plan: LogicalPlan, statement: &Statement) -> Result<Option<LogicalPlan>> {
    let mut all = true;
    let plan = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::TableScan(scan) => match tables::of_statement(&scan.source, statement)? {
            Some(source) => Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan }))),
            None => {
                all = false;
                Ok(Transformed::no(LogicalPlan::TableScan(scan)))
            }
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(all.then_some(plan.data))
}

/// The plan of a question: over the tables of its statement, with `values` for what was left open, at the moment at which
/// its session began. `None` as of [`with_tables_of`]; and, to be safe, when a table was trusted with a filter that it does not keep
/// exactly with these values, which no text can bring about (a shape has no nulls open).
///
/// # Errors
/// DataFusion's of a value that does not fit its place.
pub(super) fn bound(
    plan: LogicalPlan,
    values: &[ScalarValue],
    statement: &Statement,
    state: &SessionState,
) -> Result<Option<LogicalPlan>> {
    let Some(plan) = with_tables_of(plan, statement)? else { return Ok(None) };
    let simplify = SimplifyExpressions::new();
    let mut kept = true;
    let plan = plan.transform_up_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan {
            let (scan, is_kept) = bound_scan(scan, values, state)?;
            kept &= is_kept;
            return Ok(Transformed::yes(LogicalPlan::TableScan(scan)));
        }
        let mut opened = false;
        let plan = plan.map_expressions(|expr| {
            let expr = filled(expr, values)?;
            opened |= expr.transformed;
            Ok(expr)
        })?;
        match opened {
            true => simplify.rewrite(plan.data, state)?.transform_data(without_exact_conditions),
            false => Ok(plan),
        }
    })?;
    Ok(kept.then_some(plan.data))
}

/// A scan with `values` in its filters, and whether its table keeps those exactly that it was trusted with.
fn bound_scan(mut scan: TableScan, values: &[ScalarValue], state: &SessionState) -> Result<(TableScan, bool)> {
    let trusted = tables::exact(&scan.source, &scan.filters)?;
    let mut others = None;
    let mut kept = true;
    for (filter, trusted) in scan.filters.iter_mut().zip(trusted) {
        let bound = filled(filter.clone(), values)?;
        if !bound.transformed {
            continue;
        }
        *filter = bound.data;
        if trusted {
            // A column beside a text, which nothing makes simpler.
            kept &= tables::exact(&scan.source, std::slice::from_ref(filter))? == [true];
            continue;
        }
        let simplifier = match &others {
            Some(simplifier) => simplifier,
            None => {
                // Filters may be about columns that are not read.
                let schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
                let context =
                    SimplifyContext::builder().with_schema(Arc::new(schema)).with_config_options(state.options());
                let context = context.with_query_execution_start_time(state.query_execution_start_time());
                others.insert(ExprSimplifier::new(context.build()))
            }
        };
        *filter = simplifier.simplify(filter.clone())?;
    }
    Ok((scan, kept))
}

/// An expression with `values` for what it leaves open; changed also where it says what time it is.
fn filled(expr: Expr, values: &[ScalarValue]) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let is_open = is_open(&expr);
        let value = match &expr {
            Expr::Placeholder(Placeholder { id, .. }) => number(id).and_then(|at| values.get(at)),
            _ => None,
        };
        match value {
            Some(value) => Ok(Transformed::yes(Expr::Literal(value.clone(), None))),
            None => Ok(Transformed::new_transformed(expr, is_open)),
        }
    })
}

/// Leaves out of a filter over a scan what the table keeps exactly.
fn without_exact_conditions(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
    let LogicalPlan::TableScan(scan) = filter.input.as_ref() else {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    };
    let exact = tables::exact(&scan.source, &scan.filters)?;
    let is_kept = |condition: &Expr| scan.filters.iter().zip(&exact).any(|(other, exact)| *exact && other == condition);
    let conditions = split_conjunction(&filter.predicate);
    let count = conditions.len();
    let rest: Vec<Expr> = conditions.into_iter().filter(|condition| !is_kept(condition)).cloned().collect();
    if rest.len() == count {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    Ok(Transformed::yes(match conjunction(rest) {
        Some(predicate) => LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?),
        None => Arc::unwrap_or_clone(filter.input),
    }))
}
