//! Functions of time, in ClickHouse's SQL.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, Operator};
use streamgauge_schemas::stream::timestamp_type;

use super::scalar::Scope;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// `date_bin`, `date_trunc` and `date_part` of a time.
pub(super) fn function(scope: &Scope<'_>, call: &ScalarFunction, kind: &DataType) -> Option<String> {
    let text = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Some(value.try_as_str().flatten()?.to_lowercase()),
        _ => None,
    };
    let time = |expr: &Expr| (scope.kind(expr)? == timestamp_type()).then(|| scope.scalar(expr))?;
    match (call.name(), call.args.as_slice()) {
        ("date_bin", [width, ts, origin @ ..]) if *kind == timestamp_type() => {
            let origin = match origin {
                [] => 0,
                [Expr::Literal(ScalarValue::TimestampMicrosecond(Some(origin), _), _)] => *origin,
                [Expr::Literal(ScalarValue::TimestampNanosecond(Some(origin), _), _)] if origin % 1_000 == 0 => {
                    origin / 1_000
                }
                _ => return None,
            };
            Some(floor(&time(ts)?, micros(width).filter(|width| *width > 0)?, origin))
        }
        ("date_trunc", [part, ts]) if *kind == timestamp_type() => truncated(&text(part)?, &time(ts)?),
        ("date_part", [part, ts]) if *kind == DataType::Int32 => part_of(&text(part)?, &time(ts)?),
        _ => None,
    }
}

/// A time and an interval of a fixed length, added or subtracted.
pub(super) fn shifted(scope: &Scope<'_>, left: &Expr, op: Operator, right: &Expr) -> Option<String> {
    let by = micros(right)?;
    let by = match op {
        Operator::Plus => by,
        Operator::Minus => -by,
        _ => return None,
    };
    (scope.kind(left)? == timestamp_type()).then_some(())?;
    let micros = format!("toUnixTimestamp64Micro({}) + toInt64({by})", scope.scalar(left)?);
    Some(format!("fromUnixTimestamp64Micro({micros}, 'UTC')"))
}

/// The length of an interval, if it is always the same.
fn micros(expr: &Expr) -> Option<i64> {
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) = expr else { return None };
    if interval.months != 0 || interval.nanoseconds % 1_000 != 0 {
        return None;
    }
    i64::from(interval.days).checked_mul(DAY)?.checked_add(interval.nanoseconds / 1_000)
}

fn floor(time: &str, width: i64, origin: i64) -> String {
    let micros = format!("toUnixTimestamp64Micro({time})");
    format!(
        "fromUnixTimestamp64Micro({micros} - positiveModulo({micros} - toInt64({origin}), toInt64({width})), 'UTC')"
    )
}

fn truncated(part: &str, time: &str) -> Option<String> {
    let first_of = |month: &str| format!("toDateTime64(makeDate32(toYear({time}), {month}, 1), 6, 'UTC')");
    Some(match part {
        "microsecond" => time.to_owned(),
        "millisecond" => floor(time, 1_000, 0),
        "second" => floor(time, SECOND, 0),
        "minute" => floor(time, 60 * SECOND, 0),
        "hour" => floor(time, 3_600 * SECOND, 0),
        "day" => floor(time, DAY, 0),
        "week" => floor(time, 7 * DAY, 4 * DAY), // 1970-01-05 was a Monday
        "month" => first_of(&format!("toMonth({time})")),
        "quarter" => first_of(&format!("toQuarter({time}) * 3 - 2")),
        "year" => first_of("1"),
        _ => return None,
    })
}

fn part_of(part: &str, time: &str) -> Option<String> {
    let number = match part {
        "year" => format!("toYear({time})"),
        "quarter" => format!("toQuarter({time})"),
        "month" => format!("toMonth({time})"),
        "week" => format!("toISOWeek({time})"),
        "day" => format!("toDayOfMonth({time})"),
        "doy" => format!("toDayOfYear({time})"),
        "dow" => format!("toDayOfWeek({time}) % 7"),
        "hour" => format!("toHour({time})"),
        "minute" => format!("toMinute({time})"),
        "second" => format!("toSecond({time})"),
        _ => return None,
    };
    Some(format!("toInt32({number})"))
}
