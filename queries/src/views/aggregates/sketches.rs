//! Calls of aggregates that are answered by sketches.
//!
//! | call | fold | result |
//! |---|---|---|
//! | `count(DISTINCT x)` | distinct | the number; as a plain column of the view with another that says whether it is exact |
//! | `approx_distinct(x)` | distinct, the same one | the number |
//! | `approx_percentile_cont(x, q)`, or `(q) WITHIN GROUP (ORDER BY x)` | quantiles, of all `q` one | the value at that rank, within 1 % |
//! | `approx_median(x)` | quantiles, the same one | as `q` = 0.5 |
//! | `approx_top_k(x, k)` | top of `k` | an array in JSON |
//!
//! A `q` is taken to nine decimals, so that it is the same number after it was stored as text.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility};
use std::sync::Arc;
use streamgauge_schemas::ValueType;
use streamgauge_schemas::sketch::top::K_MAX;
use streamgauge_schemas::state::{Finish, Function, Output};
use streamgauge_schemas::view::IS_EXACT_SUFFIX;

use super::{Aggregates, argument, float};
use crate::views::error::ViewError;
use crate::views::expression::{Scope, Typed};

const TOP_K: &str = "approx_top_k";
const PERCENTILE: &str = "approx_percentile_cont";
/// A quantile is a multiple of one over this.
const Q_STEPS: f64 = 1e9;

/// Whether a call is answered here, if only with what to write instead.
pub(super) fn is_sketch(name: &str, distinct: bool) -> bool {
    let known = ["approx_distinct", PERCENTILE, "approx_percentile_cont_with_weight", "approx_median", TOP_K];
    (name == "count" && distinct) || known.contains(&name) || exact_quantile(name)
}

/// Whether `ORDER BY` of a call names its argument, and no order of events.
pub(super) fn is_of_group(name: &str) -> bool {
    matches!(name, PERCENTILE | "approx_percentile_cont_with_weight" | "percentile_cont")
}

/// Whether a call of a view is `count(DISTINCT …)`.
pub(crate) fn is_count_distinct(call: &Expr) -> bool {
    match call {
        Expr::Alias(alias) => is_count_distinct(&alias.expr),
        Expr::AggregateFunction(AggregateFunction { func, params }) => func.name() == "count" && params.distinct,
        _ => false,
    }
}

fn exact_quantile(name: &str) -> bool {
    matches!(name, "median" | "percentile_cont")
}

impl Aggregates {
    /// The result of a call that [`is_sketch`], its type, and whether it may be null.
    pub(super) fn sketch(
        &mut self,
        name: &str,
        call: &Expr,
        mut params: AggregateFunctionParams,
        filter: Option<Expr>,
        scope: &Scope<'_>,
    ) -> Result<(Finish, ValueType, bool), ViewError> {
        let refuse = |reason: String| Err(ViewError::not_maintained(call, reason));
        match name {
            "median" => refuse("all values would have to be kept; approx_median is within 1 % of it".into()),
            "percentile_cont" => refuse(format!("all values would have to be kept; {PERCENTILE} is within 1 % of it")),
            "approx_percentile_cont_with_weight" => refuse(format!("weights are not kept; there is {PERCENTILE}")),
            "count" | "approx_distinct" => {
                let argument = argument(call, params, filter, scope)?;
                Ok((Finish::Distinct(self.fold(Function::Distinct, argument)), ValueType::I64, false))
            }
            TOP_K => {
                let k = match &params.args[..] {
                    [_, k] => top_count(&scope.normal(k.clone())?),
                    _ => None,
                };
                let Some(k) = k else {
                    return refuse(format!("it is {TOP_K}(text, k) with a number k from 1 to {K_MAX}"));
                };
                params.args.truncate(1);
                let texts = argument(call, params, filter, scope)?;
                if texts.kind != ValueType::Text {
                    return refuse("it is kept of texts; CAST its argument to VARCHAR".into());
                }
                let fold = self.fold(Function::Top { k }, texts);
                Ok((Finish::Top { fold, k }, ValueType::Text, false))
            }
            _ => {
                let q = if name == PERCENTILE { rank(call, &mut params, scope)? } else { 0.5 };
                let numbers: Typed = float(argument(call, params, filter, scope)?, scope)?;
                let fold = self.fold(Function::Quantiles, numbers);
                // A NaN is left out, so also numbers that are never null may leave nothing.
                Ok((Finish::Quantile { fold, q }, ValueType::F64, true))
            }
        }
    }

    /// The result that says whether the number of distinct values at `output` is exact.
    pub(crate) fn is_exact(&mut self, output: usize) -> usize {
        let Finish::Distinct(fold) = self.outputs[output].finish else {
            unreachable!("the result of count(DISTINCT …) is a number of distinct values")
        };
        let finish = Finish::DistinctIsExact(fold);
        if let Some(place) = self.outputs.iter().position(|output| output.finish == finish) {
            return place;
        }
        let name = format!("{}{IS_EXACT_SUFFIX}", self.outputs[output].name);
        self.outputs.push(Output { name, finish, kind: ValueType::Bool, nullable: false });
        self.outputs.len() - 1
    }
}

/// Takes the quantile out of the arguments of `approx_percentile_cont`, which leaves what it is of.
fn rank(call: &Expr, params: &mut AggregateFunctionParams, scope: &Scope<'_>) -> Result<f64, ViewError> {
    let refuse = |reason: &str| Err(ViewError::not_maintained(call, reason));
    if params.args.len() > 2 {
        return refuse("the size of the sketch is not chosen; leave out the number of centroids");
    }
    let q = match params.args.pop().map(|q| scope.normal(q)).transpose()? {
        Some(Expr::Literal(ScalarValue::Float64(Some(q)), _)) if (0.0..=1.0).contains(&q) => q,
        _ => return refuse("the quantile is a number from 0 to 1"),
    };
    let descending = params.order_by.first().is_some_and(|sort| !sort.asc);
    params.order_by.clear();
    Ok(((if descending { 1.0 - q } else { q }) * Q_STEPS).round() / Q_STEPS)
}

fn top_count(k: &Expr) -> Option<u32> {
    let Expr::Literal(k, _) = k else { return None };
    let ScalarValue::Int64(Some(k)) = k.cast_to(&DataType::Int64).ok()? else { return None };
    u32::try_from(k).ok().filter(|k| (1..=K_MAX).contains(k))
}

/// `approx_top_k`, which DataFusion does not have: views are planned with it, and nothing runs it.
pub(crate) fn top_k() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(TopK { signature: Signature::any(2, Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TopK {
    signature: Signature,
}

impl AggregateUDFImpl for TopK {
    fn name(&self) -> &str {
        TOP_K
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Utf8)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>, DataFusionError> {
        let message = format!("{TOP_K} is maintained in views only; make one with CREATE MATERIALIZED VIEW");
        Err(DataFusionError::Plan(message))
    }
}
