//! Aggregates, in ClickHouse's SQL.
//!
//! Sums of floats are added up in another order than DataFusion's, which has none either: their last bits may differ, and so
//! may the sign of a zero that is the least or the greatest. Approximate ones are within the bounds that are documented for them.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::AggregateFunction;
use streamgauge_schemas::stream::timestamp_type;

use super::scalar::Scope;

/// The relative error of approximate quantiles.
const QUANTILE_ERROR: &str = "0.001";

/// One call, as an expression that has the type of the call.
pub(super) fn aggregate(scope: &Scope<'_>, expr: &Expr) -> Option<String> {
    let call = match expr {
        Expr::Alias(alias) => return aggregate(scope, &alias.expr),
        Expr::AggregateFunction(call) => call,
        _ => return None,
    };
    let kind = scope.kind(expr)?;
    let params = &call.params;
    if params.null_treatment.is_some() || params.distinct && call.func.name() != "count" {
        return None;
    }
    let condition =
        params.filter.as_ref().map(|filter| scope.scalar(filter)).map_or(Some(None), |sql| sql.map(Some))?;
    // Where the condition does not hold there is nothing to aggregate; and nothing at all makes null.
    let kept = |sql: String| match &condition {
        Some(condition) => format!("if({condition}, {sql}, NULL)"),
        None => format!("toNullable({sql})"),
    };
    if let ("count", false, [Expr::Literal(value, _)]) = (call.func.name(), params.distinct, params.args.as_slice())
        && !value.is_null()
    {
        return Some(match &condition {
            Some(condition) => format!("toInt64(countIf({condition}))"),
            None => "toInt64(count())".to_owned(),
        });
    }
    let (argument, rest) = params.args.split_first()?;
    let (argument_kind, argument) = (scope.kind(argument)?, kept(scope.scalar(argument)?));
    let is_float = argument_kind == DataType::Float64;
    let from = |least: u8, sql: String| format!("if(count({argument}) > {least}, {sql}, NULL)");
    Some(match (call.func.name(), rest) {
        ("count", []) if params.distinct && !is_float => format!("toInt64(uniqExact({argument}))"),
        ("count", []) if !params.distinct => format!("toInt64(count({argument}))"),
        ("sum", []) if kind == argument_kind => format!("sum({argument})"),
        ("avg", []) if is_float => from(0, format!("avg({argument})")),
        // Compiled, ClickHouse's least and greatest of times before 1970 are wrong; those of numbers are right.
        (name @ ("min" | "max"), []) if argument_kind == timestamp_type() => {
            format!("fromUnixTimestamp64Micro({name}(toUnixTimestamp64Micro({argument})), 'UTC')")
        }
        (name @ ("min" | "max"), []) => format!("{name}({argument})"),
        ("var", []) if is_float => from(1, format!("varSampStable({argument})")),
        ("var_pop", []) if is_float => from(0, format!("varPopStable({argument})")),
        ("stddev", []) if is_float => from(1, format!("stddevSampStable({argument})")),
        ("stddev_pop", []) if is_float => from(0, format!("stddevPopStable({argument})")),
        ("median", []) if is_float => from(0, format!("quantileExactInclusive(0.5)({argument})")),
        ("approx_median", []) => quantile(&argument, 0.5, &kind)?,
        ("approx_percentile_cont", [level]) => quantile(&argument, ascending(call, level)?, &kind)?,
        ("percentile_cont", [level]) if is_float => {
            from(0, format!("quantileExactInclusive({})({argument})", ascending(call, level)?))
        }
        ("approx_distinct", []) if !is_float => format!("toUInt64(uniqCombined64({argument}))"),
        _ => return None,
    })
}

/// The level of a quantile in rising order.
fn ascending(call: &AggregateFunction, level: &Expr) -> Option<f64> {
    let Expr::Literal(ScalarValue::Float64(Some(level)), _) = level else { return None };
    let rising = call.params.order_by.iter().all(|sort| sort.asc);
    (0.0..=1.0).contains(level).then_some(if rising { *level } else { 1.0 - level })
}

fn quantile(argument: &str, level: f64, kind: &DataType) -> Option<String> {
    let quantile = format!("quantileDD({QUANTILE_ERROR}, {level})({argument})");
    let quantile = match kind {
        DataType::Float64 => quantile,
        DataType::Int64 => format!("toInt64({quantile})"),
        _ => return None,
    };
    Some(format!("if(count({argument}) > 0, {quantile}, NULL)"))
}
