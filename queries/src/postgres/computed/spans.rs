//! Intervals, made of their parts (`make_interval`), and with what is whole in a larger part (`justify_hours`, `justify_days` and
//! `justify_interval`): a day has 24 hours, and a month 30 days.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoBuilder};
use arrow::datatypes::{DataType, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType};
use datafusion::common::exec_datafusion_err;
use datafusion::error::{DataFusionError, Result};

use super::{Computed, DAY_NS, INTERVAL, SECOND_NS};

const MONTH_DAYS: i64 = 30;

pub(super) fn functions() -> [Computed; 4] {
    let justify = |name, form, work: fn(&[ArrayRef]) -> Result<ArrayRef>| Computed {
        name,
        form,
        takes: interval,
        gives: INTERVAL,
        work,
    };
    [
        justify("justify_hours", "justify_hours(interval)", |columns| each(columns, of_hours)),
        justify("justify_days", "justify_days(interval)", |columns| each(columns, of_days)),
        justify("justify_interval", "justify_interval(interval)", |columns| each(columns, justified)),
        Computed {
            name: "make_interval",
            form: "make_interval(years, months, weeks, days, hours, mins, secs), of whole numbers but for the seconds, or with \
                   names, such as make_interval(days => 10)",
            takes: parts,
            gives: INTERVAL,
            work: make,
        },
    ]
}

fn interval(arguments: &[DataType]) -> Option<Vec<DataType>> {
    match arguments {
        [DataType::Interval(_) | DataType::Duration(_) | DataType::Null] => Some(vec![INTERVAL]),
        [DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View] => Some(vec![INTERVAL]),
        _ => None,
    }
}

fn parts(arguments: &[DataType]) -> Option<Vec<DataType>> {
    let (seconds, whole) = arguments.split_last()?;
    let fits = whole.len() == 6
        && whole.iter().all(|kind| kind.is_integer() || kind.is_null())
        && (seconds.is_numeric() || seconds.is_null());
    fits.then(|| [vec![DataType::Int64; 6], vec![DataType::Float64]].concat())
}

fn out_of_range() -> DataFusionError {
    exec_datafusion_err!("an interval is out of range")
}

fn each(columns: &[ArrayRef], work: fn(IntervalMonthDayNano) -> Option<IntervalMonthDayNano>) -> Result<ArrayRef> {
    let intervals = columns[0].as_primitive::<IntervalMonthDayNanoType>();
    let mut made = IntervalMonthDayNanoBuilder::with_capacity(intervals.len());
    for interval in intervals {
        made.append_option(interval.map(|interval| work(interval).ok_or_else(out_of_range)).transpose()?);
    }
    Ok(Arc::new(made.finish()))
}

/// Days and nanoseconds of the same sign.
fn alike(days: i64, nanoseconds: i64) -> (i64, i64) {
    match (days.signum(), nanoseconds.signum()) {
        (1, -1) => (days - 1, nanoseconds + DAY_NS),
        (-1, 1) => (days + 1, nanoseconds - DAY_NS),
        _ => (days, nanoseconds),
    }
}

/// Whole days of hours become days.
fn of_hours(interval: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let IntervalMonthDayNano { months, days, nanoseconds } = interval;
    let (days, nanoseconds) = alike(i64::from(days) + nanoseconds / DAY_NS, nanoseconds % DAY_NS);
    Some(IntervalMonthDayNano { months, days: days.try_into().ok()?, nanoseconds })
}

/// Whole months of days become months.
fn of_days(interval: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let (mut months, mut days) = (i64::from(interval.months), i64::from(interval.days));
    months += days / MONTH_DAYS;
    days %= MONTH_DAYS;
    match (months.signum(), days.signum()) {
        (1, -1) => (months, days) = (months - 1, days + MONTH_DAYS),
        (-1, 1) => (months, days) = (months + 1, days - MONTH_DAYS),
        _ => {}
    }
    Some(IntervalMonthDayNano { months: months.try_into().ok()?, days: days as i32, ..interval })
}

/// Both, with one sign for all of it.
fn justified(interval: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let (mut days, nanoseconds) =
        (i64::from(interval.days) + interval.nanoseconds / DAY_NS, interval.nanoseconds % DAY_NS);
    let mut months = i64::from(interval.months) + days / MONTH_DAYS;
    days %= MONTH_DAYS;
    let below = days.signum() * 2 + nanoseconds.signum(); // the sign of the days, or of the time if there are none
    if months > 0 && below < 0 {
        (months, days) = (months - 1, days + MONTH_DAYS);
    } else if months < 0 && below > 0 {
        (months, days) = (months + 1, days - MONTH_DAYS);
    }
    let (days, nanoseconds) = alike(days, nanoseconds);
    Some(IntervalMonthDayNano { months: months.try_into().ok()?, days: days as i32, nanoseconds })
}

fn make(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let whole: Vec<_> = columns[..6].iter().map(|column| column.as_primitive::<Int64Type>()).collect();
    let seconds = columns[6].as_primitive::<Float64Type>();
    let mut intervals = IntervalMonthDayNanoBuilder::with_capacity(seconds.len());
    for row in 0..seconds.len() {
        if columns.iter().any(|column| column.is_null(row)) {
            intervals.append_null();
            continue;
        }
        let part = |place: usize| whole[place].value(row);
        let parts = [part(0), part(1), part(2), part(3), part(4), part(5)];
        intervals.append_value(made(parts, seconds.value(row)).ok_or_else(out_of_range)?);
    }
    Ok(Arc::new(intervals.finish()))
}

fn made([years, months, weeks, days, hours, minutes]: [i64; 6], seconds: f64) -> Option<IntervalMonthDayNano> {
    let microseconds = (seconds * 1e6).round_ties_even();
    let nanoseconds = (microseconds.abs() < 9.2e15).then(|| microseconds as i64 * 1_000)?; // and it is a number
    let of_time = |count: i64, seconds: i64| count.checked_mul(seconds * SECOND_NS);
    Some(IntervalMonthDayNano {
        months: years.checked_mul(12)?.checked_add(months)?.try_into().ok()?,
        days: weeks.checked_mul(7)?.checked_add(days)?.try_into().ok()?,
        nanoseconds: of_time(hours, 3600)?.checked_add(of_time(minutes, 60)?)?.checked_add(nanoseconds)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * SECOND_NS;

    type Work = fn(IntervalMonthDayNano) -> Option<IntervalMonthDayNano>;

    fn apply(work: Work, (months, days, nanoseconds): (i32, i32, i64)) -> Option<(i32, i32, i64)> {
        work(IntervalMonthDayNano { months, days, nanoseconds }).map(|made| (made.months, made.days, made.nanoseconds))
    }

    #[test]
    fn intervals_are_justified_as_in_postgres() {
        for (work, interval, wanted) in [
            (of_hours as Work, (0, 0, 50 * HOUR + HOUR / 6), (0, 2, 2 * HOUR + HOUR / 6)),
            (of_hours, (1, 1, -HOUR), (1, 0, 23 * HOUR)),
            (of_hours, (0, -1, HOUR), (0, 0, -23 * HOUR)),
            (of_hours, (0, 3, -50 * HOUR), (0, 0, 22 * HOUR)),
            (of_days, (12, 65, 0), (14, 5, 0)),
            (of_days, (1, -1, HOUR), (0, 29, HOUR)),
            (of_days, (-1, 1, 0), (0, -29, 0)),
            (justified, (1, 0, -HOUR), (0, 29, 23 * HOUR)),
            (justified, (-1, 0, HOUR), (0, -29, -23 * HOUR)),
            (justified, (0, 29, 25 * HOUR), (1, 0, HOUR)),
            (justified, (1, -31, HOUR), (0, 0, -23 * HOUR)),
            (justified, (0, i32::MAX, i64::MAX), (71_586_346, 18, i64::MAX % DAY_NS)),
        ] {
            assert_eq!(apply(work, interval), Some(wanted), "{interval:?}");
        }
        for (work, interval) in
            [(of_hours as Work, (0, i32::MAX, DAY_NS)), (of_days, (i32::MAX, 30, 0)), (justified, (i32::MIN, -30, 0))]
        {
            assert_eq!(apply(work, interval), None, "{interval:?}");
        }
    }

    #[test]
    fn intervals_are_made_of_their_parts() {
        let parts = |years, weeks, hours, seconds| made([years, 2, weeks, 3, hours, -1], seconds);
        let wanted = IntervalMonthDayNano { months: 14, days: 31, nanoseconds: 5 * HOUR - 60 * SECOND_NS + 1_500_000 };
        assert_eq!(parts(1, 4, 5, 0.001_500_4), Some(wanted));
        for (years, weeks, hours, seconds) in [
            (i64::MAX, 0, 0, 0.0),
            (200_000_000, 0, 0, 0.0),
            (0, 400_000_000, 0, 0.0),
            (0, 0, i64::MAX, 0.0),
            (0, 0, 0, f64::NAN),
            (0, 0, 0, f64::INFINITY),
        ] {
            assert_eq!(parts(years, weeks, hours, seconds), None, "{years} {weeks} {hours} {seconds}");
        }
    }
}
