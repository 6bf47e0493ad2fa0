//! `first(value, ts)` and `last(value, ts)`: the value of the earliest and of the latest event, as aggregates.
//!
//! They are `first_value(value ORDER BY ts)` and `last_value(value ORDER BY ts)`, of the events that have a time.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility};

/// The functions, for a session.
pub(super) fn functions() -> Vec<Arc<AggregateUDF>> {
    let signature = Signature::any(2, Volatility::Immutable);
    let function = |is_last| AggregateUDF::from(ByTime { is_last, signature: signature.clone() });
    vec![Arc::new(function(false)), Arc::new(function(true))]
}

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ByTime {
    is_last: bool,
    signature: Signature,
}

/// DataFusion's function.
fn plain(is_last: bool) -> Arc<AggregateUDF> {
    if is_last { last_value_udaf() } else { first_value_udaf() }
}

impl AggregateUDFImpl for ByTime {
    fn name(&self) -> &str {
        if self.is_last { "last" } else { "first" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        let is_last = self.is_last;
        Some(Box::new(move |call, info| ordered(call, info, is_last)))
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let name = self.name();
        Err(DataFusionError::Plan(format!(
            "{name}(value, ts) is an aggregate; in a window write {name}_value(value) OVER (… ORDER BY ts)"
        )))
    }
}

/// A call as that of `first_value` or `last_value` that it is, over events that all have a time; anything else as it is.
pub(crate) fn in_order_of_time(expr: Expr) -> Expr {
    let Expr::AggregateFunction(call) = &expr else { return expr };
    let (Some(function), [value, time]) = (call.func.inner().downcast_ref::<ByTime>(), &call.params.args[..]) else {
        return expr;
    };
    let mut params = call.params.clone();
    params.order_by.push(Sort::new(time.clone(), true, false));
    params.args = vec![value.clone()];
    Expr::AggregateFunction(AggregateFunction { func: plain(function.is_last), params })
}

fn ordered(call: AggregateFunction, info: &SimplifyContext, is_last: bool) -> Result<Expr> {
    let mut params = call.params;
    let name = if is_last { "last" } else { "first" };
    if !params.order_by.is_empty() || params.distinct {
        return Err(DataFusionError::Plan(format!(
            "{name}(value, ts) is in the order of ts; leave out ORDER BY and DISTINCT"
        )));
    }
    let Some(time) = (params.args.len() == 2).then(|| params.args.pop()).flatten() else {
        return Err(DataFusionError::Plan(format!("{name} takes a value and a time")));
    };
    if info.nullable(&time)? {
        let timed = time.clone().is_not_null();
        params.filter = Some(Box::new(match params.filter.take() {
            Some(filter) => filter.and(timed),
            None => timed,
        }));
    }
    params.order_by = vec![Sort::new(time, true, false)];
    Ok(Expr::AggregateFunction(AggregateFunction { func: plain(is_last), params }))
}
