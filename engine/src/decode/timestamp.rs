//! Times of events: RFC 3339 texts and numbers, and the range that is accepted.
//!
//! The common shapes of RFC 3339 are read by hand, because every event has one; any other text goes to
//! [`time::from_rfc3339`], and both agree wherever the first answers.

use streamgauge_schemas::{Duration, EventTime, time};

use super::describe::{clip, describe};
use super::json::Value;
use super::number;

const WANTED: &str = "expected RFC 3339 (2024-05-01T00:00:00Z) or a number of s, ms, µs or ns since 1970";

/// The times that are accepted: [`EventTime::EARLIEST`] `..= latest`.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeRange {
    /// The moment of the request.
    pub(super) now: EventTime,
    /// How far ahead of `now` is accepted; `None` means up to [`EventTime::LATEST`].
    pub(super) skew: Option<Duration>,
}

impl TimeRange {
    fn latest(&self) -> EventTime {
        let ahead = self.skew.map_or(i64::MAX, Duration::as_micros);
        EventTime(self.now.0.saturating_add(ahead)).min(EventTime::LATEST)
    }

    /// Reads the time that `value` is, or gives the reason why it is none that is accepted.
    #[inline]
    pub(super) fn read(&self, value: Value<'_>) -> Result<EventTime, String> {
        let time = match value {
            Value::Text(text) => match rfc3339(text.raw.as_bytes()) {
                Some(time) => Some(time),
                None => text.decode().and_then(|text| time::from_rfc3339(&text)),
            },
            Value::Number(text) => from_number(text),
            _ => None,
        };
        match time {
            Some(time) if (EventTime::EARLIEST..=self.latest()).contains(&time) => Ok(time),
            Some(time) => Err(self.out_of_range(value, time)),
            None => Err(unreadable(value)),
        }
    }

    #[cold]
    fn out_of_range(&self, value: Value<'_>, time: EventTime) -> String {
        let found = match value {
            Value::Text(text) => clip(text.raw),
            Value::Number(number) => format!("{} ({})", clip(number), time::to_rfc3339(time)),
            _ => String::new(),
        };
        if time < EventTime::EARLIEST {
            return format!("{found} is too early; from {} on is accepted", time::to_rfc3339(EventTime::EARLIEST));
        }
        match self.skew {
            Some(skew) => {
                let ahead = span(time.0.saturating_sub(self.now.0));
                format!("{found} is {ahead} ahead of now; at most {skew} is accepted")
            }
            None => format!("{found} is too late; up to {} is accepted", time::to_rfc3339(EventTime::LATEST)),
        }
    }
}

#[cold]
fn unreadable(value: Value<'_>) -> String {
    match value {
        Value::Text(text)
            if !text.raw.is_empty() && text.raw.bytes().all(|b| b.is_ascii_digit() || b".-+".contains(&b)) =>
        {
            format!("text \"{}\" is not a time; {WANTED}; a number stands without quotes", clip(text.raw))
        }
        Value::Text(text) => format!("text \"{}\" is not a time; {WANTED}", clip(text.raw)),
        Value::Number(text) => format!("number {} is not a time; {WANTED}", clip(text)),
        other => format!("{WANTED}, found {}", describe(other)),
    }
}

/// About how long a span is, in its largest unit.
fn span(micros: i64) -> String {
    let units =
        [("year", 31_556_952_000_000), ("day", 86_400_000_000), ("hour", 3_600_000_000), ("minute", 60_000_000)];
    let (name, unit) = units.into_iter().find(|(_, unit)| micros >= *unit).unwrap_or(("second", 1_000_000));
    let count = (micros / unit).max(1);
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// Reads a number, telling its unit by its size as [`time::from_integer`] does, with or without decimals.
///
/// A number of seconds with up to six decimals is exact: below 2³² s a float is at most 0.24 µs off, and rounding mends it.
fn from_number(text: &str) -> Option<EventTime> {
    if !text.contains(['.', 'e', 'E']) {
        return text.parse().ok().map(time::from_integer);
    }
    let number = number::float(text)?;
    let micros = match number.abs() {
        size if size < 1e11 => number * 1e6,
        size if size < 1e14 => number * 1e3,
        size if size < 1e17 => number,
        _ => number / 1e3,
    };
    (micros.abs() < 9e18).then_some(EventTime(micros.round() as i64))
}

/// Reads `YYYY-MM-DDTHH:MM:SS`, up to nine decimals, and `Z` or an offset `±HH:MM`, from 1900 to 2299.
///
/// `None` says nothing about the text: it may have another shape.
#[inline]
fn rfc3339(text: &[u8]) -> Option<EventTime> {
    let (date, rest) = text.split_first_chunk::<19>()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', i1, i2, b':', s1, s2] = *date else {
        return None;
    };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(i1, i2)?, two(s1, s2)?);
    if !(1900..2300).contains(&year) || !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (micros, rest) = decimals(rest)?;
    let offset_minutes = match *rest {
        [b'Z'] => 0,
        [sign @ (b'+' | b'-'), a, b, b':', c, d] => {
            let (hours, minutes) = (two(a, b)?, two(c, d)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = i64::from(hours * 60 + minutes);
            if sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + i64::from(hour * 3_600 + minute * 60 + second)
        - offset_minutes * 60;
    Some(EventTime(seconds * 1_000_000 + i64::from(micros)))
}

/// Reads a point and one to nine digits as microseconds, rounded down; nothing is zero.
#[inline]
fn decimals(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some((b'.', digits)) = text.split_first() else { return Some((0, text)) };
    let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&len) {
        return None;
    }
    let digit = |place: usize| if place < len { u32::from(digits[place] - b'0') } else { 0 };
    let micros = (0..6).fold(0, |micros, place| micros * 10 + digit(place));
    Some((micros, &digits[len..]))
}

#[inline]
fn two(tens: u8, ones: u8) -> Option<u32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| u32::from(tens) * 10 + u32::from(ones))
}

#[inline]
fn days_of(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the Gregorian calendar since 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms", 2013).
#[inline]
fn days_since_1970(year: u32, month: u32, day: u32) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (century, year_of_century) = (year / 100, year % 100);
    let days = century * 146_097 / 4 + year_of_century * 1_461 / 4 + (153 * month + 2) / 5 + day - 1;
    i64::from(days) - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn common_shapes_are_read_by_hand() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2024-05-01T00:00:00.123Z", Some(1_714_521_600_123_000)),
            ("2024-05-01T00:00:00.123456789Z", Some(1_714_521_600_123_456)),
            ("2024-05-01T02:00:00+02:00", Some(1_714_521_600_000_000)),
            ("2024-04-30T18:30:00.5-05:30", Some(1_714_521_600_500_000)),
            ("1969-12-31T23:59:59.9999999Z", Some(-1)),
            ("1900-01-01T00:00:00Z", Some(EventTime::EARLIEST.0)),
            ("2299-12-31T23:59:59.999999Z", Some(EventTime::LATEST.0)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000_000)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000_000)),
            ("2023-02-29T00:00:00Z", None),
            ("1900-02-29T00:00:00Z", None),
            ("2200-02-29T00:00:00Z", None),
            ("2024-04-31T00:00:00Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-00-01T00:00:00Z", None),
            ("2024-01-00T00:00:00Z", None),
            ("2024-01-01T24:00:00Z", None),
            ("2024-01-01T00:60:00Z", None),
            ("2024-01-01T00:00:60Z", None),
            ("2024-01-01T00:00:00.Z", None),
            ("2024-01-01T00:00:00.1234567890Z", None),
            ("2024-01-01T00:00:00+24:00", None),
            ("2024-01-01T00:00:00+0200", None),
            ("2024-01-01T00:00:00", None),
            ("2024-01-01 00:00:00Z", None),
            ("2024-01-01T00:00:0/Z", None),
            ("2024-01-01T00:00:0:Z", None),
            ("", None),
        ] {
            assert_eq!(rfc3339(text.as_bytes()), micros.map(EventTime), "{text}");
        }
    }

    fn agrees(text: &str) {
        if let Some(time) = rfc3339(text.as_bytes()) {
            assert_eq!(time::from_rfc3339(text), Some(time), "{text}");
        }
    }

    #[test]
    fn every_day_agrees_with_the_calendar() {
        for days in -25_567..120_530 {
            let time = EventTime(days * 86_400_000_000 + 45_296_789_012);
            assert_eq!(rfc3339(time::to_rfc3339(time).as_bytes()), Some(time));
        }
    }

    proptest! {
        #[test]
        fn every_time_is_read_by_hand(micros in EventTime::EARLIEST.0..=EventTime::LATEST.0) {
            prop_assert_eq!(rfc3339(time::to_rfc3339(EventTime(micros)).as_bytes()), Some(EventTime(micros)));
        }

        #[test]
        fn what_is_read_by_hand_agrees_with_the_fallback(
            text in "(19|20|22)[0-9]{2}-[0-3][0-9]-[0-3][0-9][T ]([01][0-9]|2[0-5]):[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,10})?(Z|z||[+-][0-2][0-9]:[0-6][0-9]|[+-]0200)"
        ) {
            agrees(&text);
        }

        #[test]
        fn a_changed_byte_agrees_with_the_fallback(micros in EventTime::EARLIEST.0..=EventTime::LATEST.0, at in 0usize..20, byte in 0u8..128) {
            let mut text = time::to_rfc3339(EventTime(micros)).into_bytes();
            text[at] = byte;
            agrees(std::str::from_utf8(&text).unwrap());
        }
    }
}
