//! Event time, durations and moments, and their text forms.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Epoch, SchemaError};

/// A point in event time: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(pub i64);

impl EventTime {
    /// 1900-01-01T00:00:00Z, the earliest time that ClickHouse's `DateTime64` holds.
    pub const EARLIEST: EventTime = EventTime(-2_208_988_800_000_000);
    /// 2299-12-31T23:59:59.999999Z, the latest time that ClickHouse's `DateTime64` holds.
    pub const LATEST: EventTime = EventTime(10_413_791_999_999_999);

    /// The largest multiple of `step` at or before `self`, counted from 1970.
    #[must_use]
    pub fn floor(self, step: Duration) -> EventTime {
        EventTime(self.0 - self.0.rem_euclid(step.0))
    }
}

/// A span of time in microseconds; its text form is a number and a unit: `250ms`, `30s`, `5m`, `1h`, `7d`, `2w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(i64);

const UNITS: [(&str, i64); 7] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
    ("w", 604_800_000_000),
];

impl Duration {
    /// A number of microseconds.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Duration(micros)
    }

    /// A number of seconds.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Duration(secs * 1_000_000)
    }

    /// In microseconds.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// In whole seconds, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0 / 1_000_000
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        std::time::Duration::from_micros(duration.0.max(0) as u64)
    }
}

impl FromStr for Duration {
    type Err = SchemaError;

    /// Reads a positive whole number and a unit.
    ///
    /// ```
    /// use streamgauge_schemas::Duration;
    /// assert_eq!("5m".parse::<Duration>().unwrap(), Duration::from_secs(300));
    /// assert!("5".parse::<Duration>().is_err());
    /// assert!("0s".parse::<Duration>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, SchemaError> {
        let wrong = || SchemaError::Duration { text: text.to_owned() };
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: i64 = text[..split].parse().map_err(|_| wrong())?;
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &text[split..]).ok_or_else(wrong)?;
        number.checked_mul(*unit).filter(|micros| *micros > 0).map(Duration).ok_or_else(wrong)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = UNITS.iter().rev().find(|(_, unit)| self.0 % unit == 0);
        let (name, unit) = fits.unwrap_or(&UNITS[0]);
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads a timestamp that is an integer, telling its unit by its size.
///
/// | magnitude | unit | as seconds it would be |
/// |---|---|---|
/// | below 10¹¹ | seconds | up to year 5138 |
/// | below 10¹⁴ | milliseconds | from 1973 on |
/// | below 10¹⁷ | microseconds | |
/// | otherwise | nanoseconds (rounded down) | |
///
/// ```
/// use streamgauge_schemas::{time::from_integer, EventTime};
/// let expected = EventTime(1_700_000_000_000_000);
/// for n in [1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000, 1_700_000_000_000_000_000] {
///     assert_eq!(from_integer(n), expected);
/// }
/// ```
#[must_use]
pub fn from_integer(number: i64) -> EventTime {
    EventTime(match number.unsigned_abs() {
        0..100_000_000_000 => number * 1_000_000,
        100_000_000_000..100_000_000_000_000 => number * 1_000,
        100_000_000_000_000..100_000_000_000_000_000 => number,
        _ => number.div_euclid(1_000),
    })
}

/// Reads an RFC 3339 timestamp (a space for `T`, and a missing offset meaning UTC, are accepted).
#[must_use]
pub fn from_rfc3339(text: &str) -> Option<EventTime> {
    if text.len() < 10 || !text.is_ascii() {
        return None; // arrow accepts shorter forms and named zones; an event's time must be plain
    }
    let at = arrow::compute::kernels::cast_utils::string_to_datetime(&chrono_utc(), text).ok()?;
    Some(EventTime(at.timestamp_micros()))
}

fn chrono_utc() -> arrow::array::timezone::Tz {
    "+00:00".parse().expect("+00:00 is an offset")
}

/// Writes a time as RFC 3339 in UTC, with as many decimals as it needs (none, three or six).
#[must_use]
pub fn to_rfc3339(time: EventTime) -> String {
    let text = arrow::temporal_conversions::timestamp_us_to_datetime(time.0);
    let Some(text) = text else { return format!("{}us", time.0) };
    let format = match time.0 {
        t if t % 1_000_000 == 0 => "%Y-%m-%dT%H:%M:%SZ",
        t if t % 1_000 == 0 => "%Y-%m-%dT%H:%M:%S%.3fZ",
        _ => "%Y-%m-%dT%H:%M:%S%.6fZ",
    };
    text.format(format).to_string()
}

/// Reads a moment of a query: RFC 3339, an epoch or timestamp number, `now`, `now-1h` or `now+5m`.
///
/// `now` is the moment that the caller gives, so that a query has one `now`.
///
/// # Errors
/// [`SchemaError::Moment`] for any other text.
pub fn parse_moment(text: &str, now: EventTime) -> Result<EventTime, SchemaError> {
    let wrong = || SchemaError::Moment { text: text.to_owned() };
    if let Some(rest) = text.strip_prefix("now") {
        if rest.is_empty() {
            return Ok(now);
        }
        let (sign, span) = rest.split_at(1);
        let span: Duration = span.parse().map_err(|_| wrong())?;
        return match sign {
            "-" => Ok(EventTime(now.0 - span.0)),
            "+" => Ok(EventTime(now.0 + span.0)),
            _ => Err(wrong()),
        };
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(from_integer(number));
    }
    from_rfc3339(text).ok_or_else(wrong)
}

/// The wall clock as an event time; for edges of the system only, never inside the dataflow.
#[must_use]
pub fn wall_clock() -> EventTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    EventTime(since.as_micros() as i64)
}

impl From<Epoch> for EventTime {
    fn from(epoch: Epoch) -> Self {
        EventTime(epoch.0.min(i64::MAX as u64) as i64)
    }
}
