//! Intervals times numbers: `3 * INTERVAL '1 hour'`, `INTERVAL '1 day' / 2`, which DataFusion has no operators for.
//!
//! As in PostgreSQL, what is left of a month goes into days, of which it has 30, and what is left of a day into hours, of which it has 24.

use std::sync::Arc;

use arrow::array::{AsArray, IntervalMonthDayNanoArray};
use arrow::datatypes::{DataType, Field, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const MONTH_DAYS: f64 = 30.0;
const DAY_S: f64 = 86_400.0;
const SECOND_NS: f64 = 1e9;
/// Numbers from here on are not all there as floats.
const WHOLE_MAX: f64 = (1_u64 << 53) as f64;

/// Plans the operators.
#[derive(Debug)]
pub(crate) struct IntervalOperators;

impl ExprPlanner for IntervalOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let is = |part: &Expr, test: fn(&DataType) -> bool| part.get_type(schema).is_ok_and(|kind| test(&kind));
        let is_interval = |part| is(part, |kind| matches!(kind, DataType::Interval(_)));
        let is_number = |part: &Expr| {
            let untyped = matches!(part, Expr::Placeholder(placeholder) if placeholder.field.is_none());
            untyped || is(part, |kind| kind.is_numeric() || kind.is_null())
        };
        let (name, arguments) = match expr.op {
            BinaryOperator::Multiply if is_interval(&expr.left) && is_number(&expr.right) => {
                (Scale::Times, vec![expr.left, expr.right])
            }
            BinaryOperator::Multiply if is_number(&expr.left) && is_interval(&expr.right) => {
                (Scale::Times, vec![expr.right, expr.left])
            }
            BinaryOperator::Divide if is_interval(&expr.left) && is_number(&expr.right) => {
                (Scale::Over, vec![expr.left, expr.right])
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let arguments = arguments.into_iter().map(|argument| match argument {
            Expr::Placeholder(mut placeholder) if placeholder.field.is_none() => {
                placeholder.field = Some(Arc::new(Field::new("", DataType::Float64, true)));
                Expr::Placeholder(placeholder)
            }
            other => other,
        });
        Ok(PlannerResult::Planned(function(name).call(arguments.collect())))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scale {
    Times,
    Over,
}

fn function(scale: Scale) -> Arc<ScalarUDF> {
    let signature = Signature::exact(vec![INTERVAL, DataType::Float64], Volatility::Immutable);
    Arc::new(ScalarUDF::from(Scaled { scale, signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Scaled {
    scale: Scale,
    signature: Signature,
}

impl ScalarUDFImpl for Scaled {
    fn name(&self) -> &str {
        match self.scale {
            Scale::Times => "multiply_interval",
            Scale::Over => "divide_interval",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (intervals, numbers) =
            (arrays[0].as_primitive::<IntervalMonthDayNanoType>(), arrays[1].as_primitive::<Float64Type>());
        let mut scaled = IntervalMonthDayNanoArray::builder(intervals.len());
        for (interval, number) in intervals.iter().zip(numbers) {
            scaled.append_option(match (interval, number) {
                (Some(interval), Some(number)) => Some(self.scale.apply(interval, number)?),
                _ => None,
            });
        }
        let scaled = scaled.finish();
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&scaled, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(scaled))),
        }
    }
}

impl Scale {
    fn apply(self, interval: IntervalMonthDayNano, number: f64) -> Result<IntervalMonthDayNano> {
        let scaled = match self {
            Scale::Over if number == 0.0 => {
                return Err(DataFusionError::Execution("an interval is divided by zero".to_owned()));
            }
            Scale::Times if number.fract() == 0.0 && number.abs() < WHOLE_MAX => times(interval, number as i64),
            Scale::Times => scaled(interval, |part| part * number),
            Scale::Over => scaled(interval, |part| part / number),
        };
        scaled.ok_or_else(|| DataFusionError::Execution("an interval is out of range".to_owned()))
    }
}

/// Exactly so many times an interval; `None` when it is out of range.
fn times(interval: IntervalMonthDayNano, number: i64) -> Option<IntervalMonthDayNano> {
    Some(IntervalMonthDayNano {
        months: i64::from(interval.months).checked_mul(number)?.try_into().ok()?,
        days: i64::from(interval.days).checked_mul(number)?.try_into().ok()?,
        nanoseconds: interval.nanoseconds.checked_mul(number)?,
    })
}

/// An interval of scaled parts, with what is left of months and days in the next smaller; `None` when it is out of range.
fn scaled(interval: IntervalMonthDayNano, scale: impl Fn(f64) -> f64) -> Option<IntervalMonthDayNano> {
    let (months, days) = (scale(f64::from(interval.months)), scale(f64::from(interval.days)));
    let microsecond = |seconds: f64| (seconds * 1e6).round() / 1e6; // what is less is an error of floats
    let month_days = microsecond(months.fract() * MONTH_DAYS);
    let seconds = microsecond((days.fract() + month_days.fract()) * DAY_S);
    let whole_days = days.trunc() + month_days.trunc() + (seconds / DAY_S).trunc();
    let nanoseconds = (scale(interval.nanoseconds as f64) + (seconds % DAY_S) * SECOND_NS).round();
    let fits = |number: f64, max: f64| number.abs() < max; // and is a number
    let fit = fits(months, f64::from(i32::MAX))
        && fits(whole_days, f64::from(i32::MAX))
        && fits(nanoseconds, i64::MAX as f64);
    fit.then_some(IntervalMonthDayNano {
        months: months as i32,
        days: whole_days as i32,
        nanoseconds: nanoseconds as i64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(scale: Scale, (months, days, nanoseconds): (i32, i32, i64), number: f64) -> Option<(i32, i32, i64)> {
        let interval = IntervalMonthDayNano { months, days, nanoseconds };
        scale.apply(interval, number).ok().map(|interval| (interval.months, interval.days, interval.nanoseconds))
    }

    #[test]
    fn intervals_are_scaled_as_in_postgres() {
        const HOUR: i64 = 3_600_000_000_000;
        for (scale, interval, number, wanted) in [
            (Scale::Times, (0, 0, HOUR), 3.0, (0, 0, 3 * HOUR)),
            (Scale::Times, (0, 1, 0), 0.5, (0, 0, 12 * HOUR)),
            (Scale::Times, (1, 0, 0), 0.5, (0, 15, 0)),
            (Scale::Times, (1, 1, HOUR), -1.5, (-1, -16, -(13 * HOUR + HOUR / 2))),
            (Scale::Times, (0, 0, i64::MAX), 1.0, (0, 0, i64::MAX)),
            (Scale::Over, (0, 1, 0), 3.0, (0, 0, 8 * HOUR)),
            (Scale::Over, (1, 0, 0), 7.0, (0, 4, 24_685_689_600_000)),
            (Scale::Over, (0, 0, HOUR), 2.0, (0, 0, HOUR / 2)),
        ] {
            assert_eq!(apply(scale, interval, number), Some(wanted), "{interval:?} by {number}");
        }
    }

    #[test]
    fn what_is_no_interval_is_an_error() {
        for (scale, interval, number) in [
            (Scale::Over, (0, 1, 0), 0.0),
            (Scale::Times, (0, 0, i64::MAX), 2.0),
            (Scale::Times, (i32::MAX, 0, 0), 1.5),
            (Scale::Times, (0, 1, 0), f64::NAN),
            (Scale::Times, (0, 1, 0), f64::INFINITY),
        ] {
            assert_eq!(apply(scale, interval, number), None, "{interval:?} by {number}");
        }
    }
}
