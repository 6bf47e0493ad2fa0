//! Which expression of `GROUP BY` is the time bucket, and how long its buckets are.
//!
//! | expression | width |
//! |---|---|
//! | `date_bin(interval, t)` of days and shorter; with an origin at a multiple of the interval since 1970 | the interval |
//! | `date_trunc('second' …  'day', t)` in UTC | as it says |
//! | `date_bin` of months, or with another origin; `date_trunc('week' …)`; any of them in another time zone | none |
//!
//! `t` is the time column, possibly in another time zone. `time_bucket` in UTC is a `date_bin` in its normal form.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use streamgauge_schemas::Duration;

use super::error::ViewError;

const DAY_US: i64 = 86_400_000_000;

/// A time bucket; `None` for buckets that have several lengths, or begin elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Width(pub(super) Option<Duration>);

/// Whether an expression in its normal form is a bucket over the time column, and how wide.
///
/// # Errors
/// [`ViewError::NotMaintained`] for buckets without a length.
pub(super) fn bucket_of(expr: &Expr, time_column: &str) -> Result<Option<Width>, ViewError> {
    let (call, exact_outside) = uncast(expr);
    let Expr::ScalarFunction(ScalarFunction { func, args }) = call else { return Ok(None) };
    let Some(exact_inside) = args.get(1).and_then(|time| is_time(time, time_column)) else { return Ok(None) };
    let width = match (func.name(), &args[0], &args[2..]) {
        ("date_bin", Expr::Literal(interval, _), []) => bin(expr, interval, 0)?,
        ("date_bin", Expr::Literal(interval, _), [Expr::Literal(origin, _)]) => match micros(origin) {
            Some(origin) => bin(expr, interval, origin)?,
            None => None,
        },
        ("date_trunc", Expr::Literal(part, _), []) => truncated(part),
        ("time_bucket", Expr::Literal(..), _) | ("date_bin", Expr::Literal(..), [_, _]) => None, // in a time zone
        _ => return Ok(None),
    };
    Ok(Some(Width(width.filter(|_| exact_outside && exact_inside))))
}

/// The expression under changes of time zone, and whether these keep every instant and the beginnings of buckets.
fn uncast(expr: &Expr) -> (&Expr, bool) {
    match expr {
        Expr::Cast(cast) => match cast.field.data_type() {
            DataType::Timestamp(unit, zone) => {
                let (inner, exact) = uncast(&cast.expr);
                (inner, exact && is_exact(*unit) && is_utc(zone.as_deref()))
            }
            _ => (expr, true),
        },
        Expr::ScalarFunction(call) if call.func.name() == "to_local_time" => match &call.args[..] {
            [inner] => (uncast(inner).0, false),
            _ => (expr, true),
        },
        other => (other, true),
    }
}

fn is_time(expr: &Expr, time_column: &str) -> Option<bool> {
    let (inner, exact) = uncast(expr);
    matches!(inner, Expr::Column(column) if column.name == time_column).then_some(exact)
}

fn is_exact(unit: TimeUnit) -> bool {
    matches!(unit, TimeUnit::Microsecond | TimeUnit::Nanosecond)
}

fn is_utc(zone: Option<&str>) -> bool {
    matches!(zone, None | Some("UTC" | "+00:00" | "Z"))
}

fn bin(expr: &Expr, interval: &ScalarValue, origin_us: i64) -> Result<Option<Duration>, ViewError> {
    let (months, nanos) = match interval {
        ScalarValue::IntervalMonthDayNano(Some(i)) => {
            (i64::from(i.months), i128::from(i.days) * 86_400_000_000_000 + i128::from(i.nanoseconds))
        }
        ScalarValue::IntervalDayTime(Some(i)) => {
            (0, i128::from(i.days) * 86_400_000_000_000 + i128::from(i.milliseconds) * 1_000_000)
        }
        ScalarValue::IntervalYearMonth(Some(months)) => (i64::from(*months), 0),
        _ => return Err(ViewError::not_maintained(expr, "the length of a bucket is an interval, such as '1 minute'")),
    };
    if months < 0 || nanos < 0 || (months == 0) == (nanos == 0) {
        let reason = "the length of a bucket is a positive interval, either of months or of days and shorter";
        return Err(ViewError::not_maintained(expr, reason));
    }
    let whole = months == 0 && nanos % 1_000 == 0;
    let micros = i64::try_from(nanos / 1_000).ok().filter(|micros| whole && *micros > 0 && origin_us % micros == 0);
    Ok(micros.map(Duration::from_micros))
}

fn truncated(part: &ScalarValue) -> Option<Duration> {
    let part = part.try_as_str().flatten()?.to_lowercase();
    let micros = match part.as_str() {
        "microsecond" => 1,
        "millisecond" => 1_000,
        "second" => 1_000_000,
        "minute" => 60_000_000,
        "hour" => 3_600_000_000,
        "day" => DAY_US,
        _ => return None,
    };
    Some(Duration::from_micros(micros))
}

/// A constant time; `None` when it is not of whole microseconds.
fn micros(time: &ScalarValue) -> Option<i64> {
    match time {
        ScalarValue::TimestampSecond(Some(value), _) => value.checked_mul(1_000_000),
        ScalarValue::TimestampMillisecond(Some(value), _) => value.checked_mul(1_000),
        ScalarValue::TimestampMicrosecond(Some(value), _) => Some(*value),
        ScalarValue::TimestampNanosecond(Some(value), _) => (value % 1_000 == 0).then_some(value / 1_000),
        _ => None,
    }
}
