//! `age(later, earlier)`: the years, months, days and hours from one time to another, as calendars count them.
//!
//! As in PostgreSQL, a day that is missing in the month of the later time is borrowed from the month of the earlier one, and of
//! an earlier time that is later all is negative. A time with a zone is read on the clock of that zone. `age(time)`, until
//! midnight of today, is made of it where questions are read.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoBuilder, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit, TimestampMicrosecondType};
use arrow::temporal_conversions::timestamp_us_to_datetime;
use chrono::{Datelike, NaiveDateTime, Offset, TimeZone, Timelike};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;

use super::{Computed, DAY_NS, INTERVAL, SECOND_NS};

pub(super) fn age() -> Computed {
    Computed { name: "age", form: "age(later, earlier) or age(time)", takes, gives: INTERVAL, work }
}

fn takes(arguments: &[DataType]) -> Option<Vec<DataType>> {
    let [_, _] = arguments else { return None };
    let time = |kind: &DataType| match kind {
        DataType::Timestamp(_, zone) => Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        DataType::Date32 | DataType::Date64 | DataType::Null => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, None))
        }
        _ => None,
    };
    arguments.iter().map(time).collect()
}

fn work(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (later, earlier) = (Times::of(&columns[0])?, Times::of(&columns[1])?);
    let rows = columns[0].len();
    let mut ages = IntervalMonthDayNanoBuilder::with_capacity(rows);
    for row in 0..rows {
        ages.append_option(later.at(row)?.zip(earlier.at(row)?).map(|(later, earlier)| between(later, earlier)));
    }
    Ok(Arc::new(ages.finish()))
}

/// A column of times, as clocks show them.
struct Times<'a> {
    times: &'a TimestampMicrosecondArray,
    zone: Option<Tz>,
}

impl<'a> Times<'a> {
    fn of(column: &'a ArrayRef) -> Result<Self> {
        let zone = match column.data_type() {
            DataType::Timestamp(_, Some(zone)) => Some(zone.parse()?),
            _ => None,
        };
        Ok(Times { times: column.as_primitive::<TimestampMicrosecondType>(), zone })
    }

    fn at(&self, row: usize) -> Result<Option<NaiveDateTime>> {
        if self.times.is_null(row) {
            return Ok(None);
        }
        let time = timestamp_us_to_datetime(self.times.value(row));
        let shown = match &self.zone {
            Some(zone) => time.and_then(|time| time.checked_add_offset(zone.offset_from_utc_datetime(&time).fix())),
            None => time,
        };
        shown.map(Some).ok_or_else(|| exec_datafusion_err!("age of a time that no calendar has"))
    }
}

fn between(later: NaiveDateTime, earlier: NaiveDateTime) -> IntervalMonthDayNano {
    if later < earlier {
        return -between(earlier, later);
    }
    let months = |time: NaiveDateTime| time.year() * 12 + time.month0() as i32;
    let nanoseconds =
        |time: NaiveDateTime| i64::from(time.num_seconds_from_midnight()) * SECOND_NS + i64::from(time.nanosecond());
    let mut age = IntervalMonthDayNano {
        months: months(later) - months(earlier),
        days: later.day() as i32 - earlier.day() as i32,
        nanoseconds: nanoseconds(later) - nanoseconds(earlier),
    };
    if age.nanoseconds < 0 {
        age.nanoseconds += DAY_NS;
        age.days -= 1;
    }
    if age.days < 0 {
        age.days += i32::from(earlier.num_days_in_month());
        age.months -= 1;
    }
    age
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_postgres() {
        const HOUR: i64 = 3600 * SECOND_NS;
        for (later, earlier, wanted) in [
            ("2001-04-10T00:00:00", "1957-06-13T00:00:00", (43 * 12 + 9, 27, 0)),
            ("2024-03-31T00:00:00", "2024-02-29T00:00:00", (1, 2, 0)),
            ("2024-03-01T00:00:00", "2024-01-31T00:00:00", (1, 1, 0)),
            ("2024-03-01T22:00:00", "2024-01-31T23:00:00", (1, 0, 23 * HOUR)),
            ("2024-03-01T00:00:00", "2024-02-29T12:00:00", (0, 0, 12 * HOUR)),
            ("2023-03-01T00:00:00", "2023-02-28T00:00:00", (0, 1, 0)),
            ("2024-01-01T00:00:00.5", "2023-12-31T23:59:59.75", (0, 0, 750_000_000)),
            ("2024-02-29T00:00:00", "2024-03-31T00:00:00", (-1, -2, 0)),
            ("1957-06-13T00:00:00", "2001-04-10T06:00:00", (-(43 * 12 + 9), -27, -6 * HOUR)),
            ("2024-05-01T00:00:00", "2024-05-01T00:00:00", (0, 0, 0)),
        ] {
            let age = between(later.parse().unwrap(), earlier.parse().unwrap());
            assert_eq!((age.months, age.days, age.nanoseconds), wanted, "{later} since {earlier}");
        }
    }

    #[test]
    fn a_time_is_read_on_the_clock_of_its_zone() {
        let noon = |zone: Option<&str>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(vec![Some(43_200_000_000), None]).with_timezone_opt(zone))
        };
        let ages = work(&[noon(Some("+02:00")), noon(None)]).unwrap();
        let ages = ages.as_primitive::<arrow::datatypes::IntervalMonthDayNanoType>();
        assert_eq!((ages.value(0).nanoseconds, ages.is_null(1)), (7200 * SECOND_NS, true));
    }
}
