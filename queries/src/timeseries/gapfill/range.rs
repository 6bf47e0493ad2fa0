//! The range of times that `WHERE` leaves of a column, as far as its conditions compare that column with constants.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, JoinType, LogicalPlan, Operator, cast};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

/// Times `[lower, upper)` in the unit of a column; an end that is not known is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Hash)]
pub(super) struct Range {
    pub(super) lower: Option<i64>,
    pub(super) upper: Option<i64>,
}

impl Range {
    /// What the filters of a plan leave of one of its columns.
    ///
    /// # Errors
    /// Those of constants that cannot be computed.
    pub(super) fn of(plan: &LogicalPlan, column: &Column, state: &SessionState) -> Result<Range> {
        let kind = plan.schema().field_from_column(column)?.data_type().clone();
        let mut narrowing = Narrowing { range: Range::default(), kind, state };
        let (mut plan, mut column) = (plan, column.clone());
        loop {
            let (child, next) = match plan {
                LogicalPlan::Filter(filter) => {
                    for condition in split_conjunction(&filter.predicate) {
                        narrowing.narrow(condition, &column)?;
                    }
                    (0, column)
                }
                LogicalPlan::SubqueryAlias(_) => {
                    let place = plan.schema().index_of_column(&column)?;
                    (0, plan.inputs()[0].schema().columns().swap_remove(place))
                }
                LogicalPlan::Projection(projection) => {
                    let place = plan.schema().index_of_column(&column)?;
                    match projection.expr[place].clone().unalias() {
                        Expr::Column(inner) => (0, inner),
                        _ => return Ok(narrowing.range),
                    }
                }
                LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
                    (usize::from(!join.left.schema().has_column(&column)), column)
                }
                _ => return Ok(narrowing.range),
            };
            (plan, column) = (plan.inputs()[child], next);
        }
    }

    fn raise(&mut self, lower: i64) {
        self.lower = Some(self.lower.map_or(lower, |before| before.max(lower)));
    }

    fn sink(&mut self, upper: i64) {
        self.upper = Some(self.upper.map_or(upper, |before| before.min(upper)));
    }
}

struct Narrowing<'a> {
    range: Range,
    /// The type of the column.
    kind: DataType,
    state: &'a SessionState,
}

impl Narrowing<'_> {
    fn narrow(&mut self, condition: &Expr, column: &Column) -> Result<()> {
        let is_column = |expr: &Expr| matches!(expr, Expr::Column(other) if other == column);
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_column(left) => self.compare(*op, right),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_column(right) => match op.swap() {
                Some(op) => self.compare(op, left),
                None => Ok(()),
            },
            Expr::Between(between) if !between.negated && is_column(&between.expr) => {
                self.compare(Operator::GtEq, &between.low)?;
                self.compare(Operator::LtEq, &between.high)
            }
            _ => Ok(()),
        }
    }

    fn compare(&mut self, op: Operator, with: &Expr) -> Result<()> {
        let Some(time) = constant_as(with, &self.kind, self.state)?.as_ref().and_then(ticks) else { return Ok(()) };
        match op {
            Operator::GtEq => self.range.raise(time),
            Operator::Gt => self.range.raise(time.saturating_add(1)),
            Operator::Lt => self.range.sink(time),
            Operator::LtEq => self.range.sink(time.saturating_add(1)),
            Operator::Eq => {
                self.range.raise(time);
                self.range.sink(time.saturating_add(1));
            }
            _ => {}
        }
        Ok(())
    }
}

/// What a time counts, in its unit.
pub(super) fn ticks(time: &ScalarValue) -> Option<i64> {
    match time {
        ScalarValue::TimestampSecond(value, _)
        | ScalarValue::TimestampMillisecond(value, _)
        | ScalarValue::TimestampMicrosecond(value, _)
        | ScalarValue::TimestampNanosecond(value, _) => *value,
        _ => None,
    }
}

/// The value of an expression of constants; `None` of any other.
pub(super) fn constant(expr: &Expr, state: &SessionState) -> Result<Option<ScalarValue>> {
    let mut is_constant = true;
    expr.apply(|part| {
        is_constant &= !matches!(
            part,
            Expr::Column(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_)
                | Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
        );
        Ok(if is_constant { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    if !is_constant {
        return Ok(None);
    }
    let schema = Arc::new(DFSchema::empty());
    let context = SimplifyContext::builder()
        .with_schema(schema.clone())
        .with_config_options(state.config_options().clone())
        .with_query_execution_start_time(state.execution_props().query_execution_start_time);
    let simplifier = ExprSimplifier::new(context.build());
    let value = simplifier.simplify(simplifier.coerce(expr.clone(), &schema)?)?;
    Ok(value.as_literal().cloned())
}

fn constant_as(expr: &Expr, kind: &DataType, state: &SessionState) -> Result<Option<ScalarValue>> {
    constant(&cast(expr.clone(), kind.clone()), state)
}
