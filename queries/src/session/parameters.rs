//! The parameters of a statement, `$1`, `$2`, …: what they should be, and their values put in.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

use crate::error::QueryError;
use crate::question::Parameters;

/// So many parameters a statement may have; the protocols count them in sixteen bits.
const PARAMETERS_MAX: usize = 65_535;

/// The types of the parameters of a plan, as far as their places tell; where places differ, the first counts.
pub(super) fn types(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>> {
    let mut found: BTreeMap<usize, Option<DataType>> = BTreeMap::new();
    let mut note = |id: &str, kind: Option<DataType>| -> Result<()> {
        let entry = found.entry(place(id)?).or_default();
        *entry = entry.take().or(kind);
        Ok(())
    };
    plan.apply_with_subqueries(|plan| {
        let is_limit = matches!(plan, LogicalPlan::Limit(_));
        let schema = plan.inputs().first().map(|input| input.schema().clone());
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::Placeholder(Placeholder { id, field }) => {
                        let kind = field.as_ref().map(|field| field.data_type().clone());
                        note(id, kind.or(is_limit.then_some(DataType::Int64)))?;
                    }
                    Expr::Cast(cast) => {
                        if let Expr::Placeholder(Placeholder { id, field: None }) = cast.expr.as_ref() {
                            note(id, Some(cast.field.data_type().clone()))?;
                        }
                    }
                    // `x = ANY ($1)`: a list of what `x` is.
                    Expr::ScalarFunction(call) if call.name() == "array_has" => {
                        if let [Expr::Placeholder(Placeholder { id, field: None }), item] = &call.args[..] {
                            let item = schema.as_ref().and_then(|schema| item.get_type(schema.as_ref()).ok());
                            note(id, Some(DataType::new_list(item.unwrap_or(DataType::Utf8), true)))?;
                        }
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let count = found.keys().last().map_or(0, |last| last + 1);
    Ok((0..count).map(|place| found.remove(&place).flatten()).collect())
}

/// The place of a parameter, from zero.
pub(super) fn place(id: &str) -> Result<usize> {
    let number = id.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
    match number {
        Some(number @ 1..=PARAMETERS_MAX) => Ok(number - 1),
        _ => Err(DataFusionError::Plan(format!("{id} is not a parameter; write $1 to ${PARAMETERS_MAX}"))),
    }
}

/// The plan with values for its parameters.
pub(super) fn bound(plan: LogicalPlan, parameters: &Parameters) -> Result<LogicalPlan> {
    let needed = types(&plan)?.len();
    let given = parameters.values().len();
    if needed > given || (given > needed && needed == 0) {
        let reason = match needed {
            0 => format!("are {given} values, and the statement has no parameter such as $1"),
            _ => format!("are {given} values, and the statement has parameters up to ${needed}"),
        };
        return Err(QueryError::Parameter { parameter: "params", reason }.into());
    }
    match needed {
        0 => Ok(plan),
        _ => plan.with_param_values(ParamValues::from(parameters.values().to_vec())),
    }
}

/// The plan as if its parameters were null, and their types: those that are given, then those that their places tell,
/// and otherwise text.
pub(super) fn described(plan: LogicalPlan, given: &[Option<DataType>]) -> Result<(LogicalPlan, Vec<DataType>)> {
    let told = types(&plan)?;
    let given = |place: usize| given.get(place).cloned().flatten();
    let kinds: Vec<DataType> =
        told.into_iter().enumerate().map(|(place, told)| given(place).or(told).unwrap_or(DataType::Utf8)).collect();
    if kinds.is_empty() {
        return Ok((plan, kinds));
    }
    let nulls = kinds.iter().map(ScalarValue::try_from).collect::<Result<Vec<_>>>()?;
    Ok((plan.with_param_values(ParamValues::from(nulls))?, kinds))
}
