//! A kept plan with the values of a question: its texts, its moment, its tables.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;

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
/// its session began. `None` as of [`with_tables_of`].
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
    let plan = plan.transform_up_with_subqueries(|plan| {
        let mut opened = false;
        let plan = plan.map_expressions(|expr| {
            expr.transform_up(|expr| {
                opened |= is_open(&expr);
                let Expr::Placeholder(Placeholder { id, .. }) = &expr else { return Ok(Transformed::no(expr)) };
                match number(id).and_then(|at| values.get(at)) {
                    Some(value) => Ok(Transformed::yes(Expr::Literal(value.clone(), None))),
                    None => Ok(Transformed::no(expr)),
                }
            })
        })?;
        if opened { simplify.rewrite(plan.data, state) } else { Ok(plan) }
    })?;
    Ok(Some(plan.data))
}
