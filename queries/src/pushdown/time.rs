//! Functions of time, in ClickHouse's SQL.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, Operator};
use streamgauge_schemas::stream::timestamp_type;

use super::scalar::Scope;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Longer intervals are not translated: 3,000 years.
const MICROS_MAX: i64 = 100_000_000_000_000_000;
/// No time is as long before 1970, whatever intervals were taken off it: 70,000 years.
const BEFORE_ALL: i64 = 1 << 61;

/// `date_bin`, `date_trunc` and `date_part` of a time.
pub(super) fn function(scope: &Scope<'_>, call: &ScalarFunction, kind: &DataType) -> Option<String> {
    let text = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Some(value.try_as_str().flatten()?.to_lowercase()),
        _ => None,
    };
    let time = |expr: &Expr| (scope.kind(expr)? == timestamp_type()).then(|| scope.scalar(expr))?;
    match (call.name(), call.args.as_slice()) {
        ("date_bin", [width, ts, origin @ ..]) if *kind == timestamp_type() => {
            Some(floor(&time(ts)?, micros(width).filter(|width| *width > 0)?, origin_of(origin)?))
        }
        ("date_trunc", [part, ts]) if *kind == timestamp_type() => truncated(&text(part)?, &time(ts)?),
        ("date_part", [part, ts]) if *kind == DataType::Float64 && text(part)? == "epoch" => {
            Some(format!("(toFloat64(toUnixTimestamp64Micro({})) / toFloat64({SECOND}))", time(ts)?))
        }
        ("date_part", [part, ts]) if *kind == DataType::Int32 => part_of(&text(part)?, &time(ts)?),
        _ => None,
    }
}

/// `date_bin` of a time that was cast to nanoseconds, as it is when its width is a text; its start is one in microseconds.
pub(super) fn bin_of_nanoseconds(scope: &Scope<'_>, expr: &Expr) -> Option<String> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let (width, ts, origin) = match (call.name(), call.args.as_slice()) {
        ("date_bin", [width, Expr::Cast(cast), origin @ ..])
            if *cast.field.data_type() == DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())) =>
        {
            (width, cast.expr.as_ref(), origin)
        }
        _ => return None,
    };
    (scope.kind(ts)? == timestamp_type()).then_some(())?;
    Some(floor(&scope.scalar(ts)?, micros(width).filter(|width| *width > 0)?, origin_of(origin)?))
}

/// What buckets are counted from.
fn origin_of(origin: &[Expr]) -> Option<i64> {
    match origin {
        [] => Some(0),
        [Expr::Literal(ScalarValue::TimestampMicrosecond(Some(origin), _), _)] => Some(*origin),
        [Expr::Literal(ScalarValue::TimestampNanosecond(Some(origin), _), _)] if origin % 1_000 == 0 => {
            Some(origin / 1_000)
        }
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
    let micros = i64::from(interval.days).checked_mul(DAY)?.checked_add(interval.nanoseconds / 1_000)?;
    (micros.abs() < MICROS_MAX).then_some(micros)
}

/// With what the expression of a bucket's start begins, before the bucket's number.
const FROM_NUMBER: &str = "fromUnixTimestamp64Micro(";

/// The start of the bucket that a time lies in: buckets have numbers, counted from one before all times.
fn floor(time: &str, width: i64, origin: i64) -> String {
    let before = (BEFORE_ALL / width + 1) * width - origin.rem_euclid(width);
    let number = format!("intDiv(toUnixTimestamp64Micro({time}) + toInt64({before}), toInt64({width}))");
    format!("{FROM_NUMBER}{number} * toInt64({width}) - toInt64({before}), 'UTC')")
}

/// The number of a bucket, of whose start this is the expression: buckets are told apart by it faster.
pub(super) fn bucket_number(start: &str) -> Option<&str> {
    let (number, rest) = start.strip_prefix(FROM_NUMBER)?.rsplit_once(" * toInt64(")?;
    let (_, before) = rest.strip_suffix("), 'UTC')")?.split_once(") - toInt64(")?;
    (number.starts_with("intDiv(") && before.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

fn truncated(part: &str, time: &str) -> Option<String> {
    let without_days = |days: String| {
        let micros = format!("toUnixTimestamp64Micro({}) - ({days} - 1) * toInt64({DAY})", floor(time, DAY, 0));
        format!("fromUnixTimestamp64Micro({micros}, 'UTC')")
    };
    Some(match part {
        "microsecond" => time.to_owned(),
        "millisecond" => floor(time, 1_000, 0),
        "second" => floor(time, SECOND, 0),
        "minute" => floor(time, 60 * SECOND, 0),
        "hour" => floor(time, 3_600 * SECOND, 0),
        "day" => floor(time, DAY, 0),
        "week" => floor(time, 7 * DAY, 4 * DAY), // 1970-01-05 was a Monday
        // ClickHouse's own functions that make dates know the years from 1900 to 2299 only.
        "month" => without_days(format!("toDayOfMonth({time})")),
        "quarter" => without_days(format!("(toDayOfYear({time}) - {} + 1)", first_of_quarter(time))),
        "year" => without_days(format!("toDayOfYear({time})")),
        _ => return None,
    })
}

/// Which day of its year is the first of the quarter in which a time lies.
fn first_of_quarter(time: &str) -> String {
    let year = format!("toInt32(toYear({time}))");
    let leaps = format!("({year} % 4 = 0 AND ({year} % 100 != 0 OR {year} % 400 = 0) AND toQuarter({time}) > 1)");
    format!("([1, 91, 182, 274][toQuarter({time})] + {leaps})")
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
