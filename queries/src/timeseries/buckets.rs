//! Where time buckets begin.
//!
//! Times are counted in the unit of their column since 1970, UTC. With a zone, buckets are those of the zone's wall clock:
//!
//! - A wall clock that is put forward skips times. A bucket that would begin in the gap begins where the gap ends.
//! - One that is put back shows some times twice. A bucket that is longer than what is repeated, such as a day, begins once
//!   and has both passes; shorter ones, such as an hour, begin in each pass anew. So a day in autumn has 25 hours.
//!
//! # Invariant
//!
//! 1. [`Clock::start_of`] a time is one of [`Clock::starts`] of any range that reaches that far.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use chrono::{DateTime, Datelike, LocalResult, Months, NaiveDate, NaiveDateTime, Offset, TimeZone};

/// How long buckets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub(super) enum Width {
    Months(u32),
    /// In units of the time column; a day is 24 hours of the wall clock.
    Units(i64),
}

/// Buckets of one length over times of one unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub(super) struct Buckets {
    pub(super) width: Width,
    /// A beginning, on the wall clock.
    pub(super) origin: i64,
    /// `None` for UTC.
    pub(super) zone: Option<Arc<str>>,
    /// Units in a second.
    pub(super) per_second: i64,
}

/// A time that no calendar has.
pub(super) const OUT_OF_RANGE: &str = "a time is beyond the years that can be counted in buckets";

impl Buckets {
    /// The default origin: a Monday, or the first of a year for months.
    pub(super) fn default_origin(width: Width, per_second: i64) -> i64 {
        let day = match width {
            Width::Months(_) => 10_957, // 2000-01-01
            Width::Units(_) => 10_959,  // 2000-01-03
        };
        day * 86_400 * per_second
    }

    /// The clock of these buckets; made once for many times.
    pub(super) fn clock(&self) -> Result<Clock<'_>, String> {
        Ok(Clock { of: self, zone: self.zone.as_deref().map(zone).transpose()? })
    }
}

/// A zone by its name, or its offset.
pub(super) fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| format!("{name:?} is not a time zone; write one such as 'Europe/Rome', 'UTC' or '+02:00'"))
}

/// Tells the buckets of times.
pub(super) struct Clock<'a> {
    of: &'a Buckets,
    zone: Option<Tz>,
}

impl Clock<'_> {
    /// The beginning of the bucket that a time is in; `None` beyond all calendars.
    pub(super) fn start_of(&self, time: i64) -> Option<i64> {
        let Some(zone) = &self.zone else { return self.floor(time) };
        let here = self.offset_at(zone, time)?;
        let bin = self.floor(time.checked_add(here)?)?;
        Some(match self.instants(zone, bin)? {
            (_, Some(second)) if second <= time => second,
            (first, _) => first,
        })
    }

    /// The beginnings of the buckets from the one that `lower` is in to before `upper`, rising; `None` when these are
    /// more than `max`, or beyond all calendars.
    pub(super) fn starts(&self, lower: i64, upper: i64, max: usize) -> Option<Vec<i64>> {
        if let Width::Units(width) = self.of.width
            && upper.checked_sub(lower)? / width > i64::try_from(max).ok()?
        {
            return None;
        }
        let first = self.start_of(lower)?;
        let (from, to) = match &self.zone {
            None => (first, upper),
            // The wall clock shows no time more than a day away from UTC; more than it may be shifted at once.
            Some(zone) => (
                self.floor(first.checked_add(self.offset_at(zone, first)?)?.checked_sub(self.day())?)?,
                upper.checked_add(self.day().checked_mul(2)?)?,
            ),
        };
        let mut starts = Vec::new();
        let mut bin = from;
        while bin < to {
            match &self.zone {
                None => starts.push(bin),
                Some(zone) => {
                    let (one, other) = self.instants(zone, bin)?;
                    starts.extend([Some(one), other].into_iter().flatten().filter(|at| (first..upper).contains(at)));
                }
            }
            if starts.len() > max {
                return None;
            }
            bin = self.after(bin)?;
        }
        starts.sort_unstable();
        starts.dedup();
        Some(starts)
    }

    fn day(&self) -> i64 {
        86_400 * self.of.per_second
    }

    /// The beginning on the wall clock of the bucket of a time on it.
    fn floor(&self, local: i64) -> Option<i64> {
        let origin = self.of.origin;
        match self.of.width {
            Width::Units(width) => {
                let past = local.checked_sub(origin)?.rem_euclid(width);
                local.checked_sub(past)
            }
            Width::Months(months) => {
                let (time, from) = (self.calendar(local)?, self.calendar(origin)?);
                let months = i64::from(months);
                let mut step = (month(time) - month(from)).div_euclid(months);
                let mut start = self.months_on(from, step * months)?;
                if start > local {
                    step -= 1; // the origin is later in its month
                    start = self.months_on(from, step * months)?;
                }
                Some(start)
            }
        }
    }

    /// The beginning after another, on the wall clock.
    fn after(&self, bin: i64) -> Option<i64> {
        match self.of.width {
            Width::Units(width) => bin.checked_add(width),
            Width::Months(months) => {
                let from = self.calendar(self.of.origin)?;
                let passed = month(self.calendar(bin)?) - month(from);
                self.months_on(from, passed + i64::from(months))
            }
        }
    }

    /// The time on the wall clock so many months on.
    fn months_on(&self, from: NaiveDateTime, months: i64) -> Option<i64> {
        let by = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
        let to = if months < 0 { from.checked_sub_months(by) } else { from.checked_add_months(by) }?;
        let whole = to.and_utc().timestamp().checked_mul(self.of.per_second)?;
        whole.checked_add(self.of.origin.rem_euclid(self.of.per_second))
    }

    /// A time of the calendar, to the second.
    fn calendar(&self, time: i64) -> Option<NaiveDateTime> {
        DateTime::from_timestamp(time.div_euclid(self.of.per_second), 0).map(|time| time.naive_utc())
    }

    /// How far the wall clock is ahead of UTC.
    fn offset_at(&self, zone: &Tz, time: i64) -> Option<i64> {
        let offset = zone.offset_from_utc_datetime(&self.calendar(time)?);
        i64::from(offset.fix().local_minus_utc()).checked_mul(self.of.per_second)
    }

    /// When a bucket begins by a time on the wall clock; twice, if that comes twice and the bucket is not longer than
    /// what is repeated.
    fn instants(&self, zone: &Tz, bin: i64) -> Option<(i64, Option<i64>)> {
        let at = |ahead: i32| bin.checked_sub(i64::from(ahead) * self.of.per_second);
        match zone.offset_from_local_datetime(&self.calendar(bin)?) {
            LocalResult::Single(offset) => Some((at(offset.fix().local_minus_utc())?, None)),
            LocalResult::Ambiguous(one, other) => {
                let (one, other) = (at(one.fix().local_minus_utc())?, at(other.fix().local_minus_utc())?);
                let (first, second) = (one.min(other), one.max(other));
                let is_short = matches!(self.of.width, Width::Units(width) if width <= second - first);
                Some((first, is_short.then_some(second)))
            }
            LocalResult::None => Some((self.gap_end(zone, bin)?, None)),
        }
    }

    /// When a gap of the wall clock ends, by a time in it.
    fn gap_end(&self, zone: &Tz, local: i64) -> Option<i64> {
        let (mut before, mut after) = (0, 86_400 * 2); // seconds from `local`: in the gap, and past it
        let shown = |seconds: i64| {
            let time = self.calendar(local)?.checked_add_signed(chrono::TimeDelta::seconds(seconds))?;
            zone.offset_from_local_datetime(&time).earliest()
        };
        while after - before > 1 {
            let between = before + (after - before) / 2;
            match shown(between) {
                Some(_) => after = between,
                None => before = between,
            }
        }
        let end = local.div_euclid(self.of.per_second) + after;
        (end - i64::from(shown(after)?.fix().local_minus_utc())).checked_mul(self.of.per_second)
    }
}

/// Months since the year 0.
fn month(time: NaiveDateTime) -> i64 {
    let date: NaiveDate = time.date();
    i64::from(date.year()) * 12 + i64::from(date.month0())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(width: Width, zone: &str) -> Buckets {
        Buckets { width, origin: Buckets::default_origin(width, 1), zone: Some(zone.into()), per_second: 1 }
    }

    fn seconds(time: &str) -> i64 {
        DateTime::parse_from_rfc3339(time).unwrap().timestamp()
    }

    /// Buckets cover what they are asked for without a gap, and each time is in the last that begins before it.
    #[test]
    fn each_time_is_in_a_bucket_of_its_range() {
        let zones =
            ["Europe/Rome", "America/Havana", "Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo", "+05:45"];
        let widths = [900, 1_800, 3_600, 7_200, 21_600, 86_400, 604_800].map(Width::Units);
        let ranges = [
            ("2024-03-29T12:00:00Z", "2024-04-08T00:00:00Z"),
            ("2024-10-25T00:10:00Z", "2024-11-04T00:00:00Z"),
            ("2011-12-28T00:00:00Z", "2012-01-02T00:00:00Z"),
            ("2018-11-02T00:00:00Z", "2018-11-06T00:00:00Z"),
        ];
        for zone in zones {
            for width in widths.into_iter().chain([Width::Months(1), Width::Months(5)]) {
                let buckets = buckets(width, zone);
                let clock = buckets.clock().unwrap();
                for (lower, upper) in ranges.map(|(lower, upper)| (seconds(lower), seconds(upper))) {
                    let starts = clock.starts(lower, upper, 10_000).unwrap();
                    let what = format!("{width:?} in {zone} from {lower}");
                    assert!(starts.windows(2).all(|pair| pair[0] < pair[1]), "{what}: {starts:?}");
                    for time in (lower..upper).step_by(450) {
                        let last = starts[starts.partition_point(|start| *start <= time) - 1];
                        assert_eq!(clock.start_of(time), Some(last), "{what}, {time}");
                    }
                }
            }
        }
    }

    #[test]
    fn days_of_summer_time() {
        let days = buckets(Width::Units(86_400), "Europe/Rome");
        let starts = days.clock().unwrap().starts(seconds("2024-03-30T12:00:00Z"), seconds("2024-04-02T00:00:00Z"), 9);
        let starts = starts.unwrap();
        assert_eq!(starts[0], seconds("2024-03-30T00:00:00+01:00"));
        let hours: Vec<i64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) / 3_600).collect();
        assert_eq!(hours, [24, 23, 24]);
        let starts = days.clock().unwrap().starts(seconds("2024-10-27T00:00:00Z"), seconds("2024-10-28T01:00:00Z"), 9);
        assert_eq!(starts.unwrap(), [seconds("2024-10-27T00:00:00+02:00"), seconds("2024-10-28T00:00:00+01:00")]);
    }

    #[test]
    fn hours_that_come_twice() {
        let hours = buckets(Width::Units(3_600), "Europe/Rome");
        let clock = hours.clock().unwrap();
        assert_eq!(clock.start_of(seconds("2024-10-27T02:30:00+02:00")), Some(seconds("2024-10-27T00:00:00Z")));
        assert_eq!(clock.start_of(seconds("2024-10-27T02:30:00+01:00")), Some(seconds("2024-10-27T01:00:00Z")));
        let quarter = buckets(Width::Units(21_600), "Europe/Rome");
        let clock = quarter.clock().unwrap();
        assert_eq!(clock.start_of(seconds("2024-10-27T05:59:59+01:00")), Some(seconds("2024-10-27T00:00:00+02:00")));
        // The wall clock goes from 2:00 to 3:00.
        let two = buckets(Width::Units(7_200), "Europe/Rome");
        let clock = two.clock().unwrap();
        assert_eq!(clock.start_of(seconds("2024-03-31T03:30:00+02:00")), Some(seconds("2024-03-31T01:00:00Z")));
    }

    #[test]
    fn months_and_origins() {
        let months = |months, origin: &str| Buckets {
            width: Width::Months(months),
            origin: seconds(origin),
            zone: None,
            per_second: 1,
        };
        let of = |buckets: &Buckets, time: &str| buckets.clock().unwrap().start_of(seconds(time)).unwrap();
        let quarter = months(3, "2000-01-01T00:00:00Z");
        assert_eq!(of(&quarter, "1969-12-31T23:59:59Z"), seconds("1969-10-01T00:00:00Z"));
        assert_eq!(of(&quarter, "2024-04-01T00:00:00Z"), seconds("2024-04-01T00:00:00Z"));
        let from_the_tenth = months(1, "2000-01-10T06:00:00Z");
        assert_eq!(of(&from_the_tenth, "2024-03-10T05:59:59Z"), seconds("2024-02-10T06:00:00Z"));
        assert_eq!(of(&from_the_tenth, "2024-03-10T06:00:00Z"), seconds("2024-03-10T06:00:00Z"));
        let starts =
            from_the_tenth.clock().unwrap().starts(seconds("2024-01-01T00:00:00Z"), seconds("2024-03-10T06:00:00Z"), 9);
        let wanted = ["2023-12-10T06:00:00Z", "2024-01-10T06:00:00Z", "2024-02-10T06:00:00Z"].map(seconds);
        assert_eq!(starts.unwrap(), wanted);
        let too_many =
            quarter.clock().unwrap().starts(seconds("1900-01-01T00:00:00Z"), seconds("2000-01-01T00:00:00Z"), 399);
        assert_eq!(too_many, None);
    }
}
