//! `extract(epoch FROM interval)`: how many seconds an interval has. As in PostgreSQL, a year has 365.25 days, and a month more
//! than that 30.
//!
//! DataFusion takes a year for twelve months of 30 days, and loses what is less than a second of what lies between two times.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF};

use super::{Computed, INTERVAL};

const DAY_S: f64 = 86_400.0;
const YEAR_S: f64 = 365.25 * DAY_S;
const MONTH_S: f64 = 30.0 * DAY_S;

/// Has plans compute the seconds of intervals so; see the module.
#[derive(Debug)]
pub(super) struct OfIntervals(Arc<ScalarUDF>);

impl OfIntervals {
    pub(super) fn new() -> Self {
        let name = "interval_seconds";
        let seconds = Computed { name, form: "interval_seconds(interval)", takes, gives: DataType::Float64, work };
        OfIntervals(seconds.function())
    }
}

impl FunctionRewrite for OfIntervals {
    fn name(&self) -> &'static str {
        "seconds_of_intervals"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let interval = match &expr {
            Expr::ScalarFunction(call) if call.name() == "date_part" => match &call.args[..] {
                [part, of] if is_epoch(part) => Some(of),
                _ => None,
            },
            _ => None,
        };
        Ok(match interval.filter(|of| of.get_type(schema).is_ok_and(|kind| takes(&[kind]).is_some())) {
            Some(of) => Transformed::yes(self.0.call(vec![of.clone()])),
            None => Transformed::no(expr),
        })
    }
}

fn is_epoch(part: &Expr) -> bool {
    let is_it = |text: &str| text.trim_matches(['\'', '"']).eq_ignore_ascii_case("epoch");
    matches!(part, Expr::Literal(value, _) if value.try_as_str().flatten().is_some_and(is_it))
}

fn takes(arguments: &[DataType]) -> Option<Vec<DataType>> {
    match arguments {
        [DataType::Interval(_)] => Some(vec![INTERVAL]),
        [DataType::Duration(unit)] => Some(vec![DataType::Duration(*unit)]),
        _ => None,
    }
}

fn work(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let seconds: Float64Array = match columns[0].data_type() {
        DataType::Duration(unit) => {
            let per_second = match unit {
                TimeUnit::Second => 1,
                TimeUnit::Millisecond => 1_000,
                TimeUnit::Microsecond => 1_000_000,
                TimeUnit::Nanosecond => 1_000_000_000,
            };
            let counts = cast(&columns[0], &DataType::Int64)?;
            counts.as_primitive::<Int64Type>().unary(|count| seconds(count, per_second))
        }
        _ => columns[0].as_primitive::<IntervalMonthDayNanoType>().unary(|interval| {
            f64::from(interval.months / 12) * YEAR_S
                + f64::from(interval.months % 12) * MONTH_S
                + f64::from(interval.days) * DAY_S
                + seconds(interval.nanoseconds, 1_000_000_000)
        }),
    };
    Ok(Arc::new(seconds))
}

/// Whole seconds and what is left apart: there are more nanoseconds than floats.
fn seconds(count: i64, per_second: i64) -> f64 {
    (count / per_second) as f64 + (count % per_second) as f64 / per_second as f64
}

#[cfg(test)]
mod tests {
    use arrow::array::{DurationMicrosecondArray, IntervalMonthDayNanoArray};
    use arrow::datatypes::{Float64Type, IntervalMonthDayNano};

    use super::*;

    #[test]
    fn seconds_are_those_of_postgres() {
        let interval = |months, days, nanoseconds| Some(IntervalMonthDayNano { months, days, nanoseconds });
        let intervals: IntervalMonthDayNanoArray =
            vec![interval(12, 0, 0), interval(14, 1, 500_000_000), interval(-13, 0, -500_000_000), None].into();
        let durations = DurationMicrosecondArray::from(vec![Some(2_500_000), Some(-1), Some(1 << 52), None]);
        for (column, wanted) in [
            (Arc::new(intervals) as ArrayRef, [31_557_600.0, 36_828_000.5, -34_149_600.5]),
            (Arc::new(durations), [2.5, -0.000_001, 4_503_599_627.370_496]),
        ] {
            let seconds = work(&[column]).unwrap();
            let wanted: Vec<Option<f64>> = wanted.into_iter().map(Some).chain([None]).collect();
            assert_eq!(seconds.as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), wanted);
        }
    }
}
