//! Zeros: an order takes those of either sign for equal, as `=` does.
//!
//! DataFusion compares floats by value, but sorts by the order of their bits, where -0 comes before 0. So which rows a `LIMIT`
//! kept hung on the plan: whether a condition equates the column with zero, so that it is not sorted by, or whether the first
//! rows found let others be left out by value. What is sorted by here is `x + 0`, which is 0 of a zero of either sign.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, binary_expr, lit};
use datafusion::optimizer::AnalyzerRule;

/// Has plans sort floats so; see the module. The order of window functions is left as it is.
#[derive(Debug)]
pub(crate) struct ZerosAreAlike;

impl AnalyzerRule for ZerosAreAlike {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|plan| {
            let LogicalPlan::Sort(mut sort) = plan else { return Ok(Transformed::no(plan)) };
            let schema = Arc::clone(sort.input.schema());
            for by in &mut sort.expr {
                by.expr = without_sign(std::mem::take(&mut by.expr), &schema);
            }
            Ok(Transformed::yes(LogicalPlan::Sort(sort)))
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &str {
        "zeros_are_alike"
    }
}

fn without_sign(expr: Expr, schema: &DFSchema) -> Expr {
    if sorted_by(&expr).is_some() {
        return expr;
    }
    match expr.get_type(schema) {
        Ok(DataType::Float64) => binary_expr(expr, Operator::Plus, lit(0.0_f64)),
        Ok(DataType::Float32) => binary_expr(expr, Operator::Plus, lit(0.0_f32)),
        _ => expr, // also what has no type yet, as a value that is still to come
    }
}

/// The float that an expression of a sort is about, without the zero that is added to it.
pub(crate) fn sorted_by(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::BinaryExpr(sum) if sum.op == Operator::Plus => match sum.right.as_ref() {
            Expr::Literal(ScalarValue::Float64(Some(zero)), _) if zero.to_bits() == 0 => Some(&sum.left),
            Expr::Literal(ScalarValue::Float32(Some(zero)), _) if zero.to_bits() == 0 => Some(&sum.left),
            _ => None,
        },
        _ => None,
    }
}
