//! What `WITH (…)` says of a view's pace and bounds.

use datafusion::sql::sqlparser::ast::{CreateTableOptions, Expr, SqlOption, Value};
use streamgauge_schemas::Duration;
use streamgauge_schemas::view::ViewOptions;

use super::error::ViewError;

const DAY: i64 = 86_400;
const FLUSH: (Duration, Duration) = (Duration::from_micros(100_000), Duration::from_secs(3_600));
const IDLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(7 * DAY));
const RETENTION: (Duration, Duration) = (Duration::from_secs(3_600), Duration::from_secs(50 * 365 * DAY));
const MEMORY_MIN: u64 = 1 << 20;
const MEMORY_EXPECTED: &str = "write at least 1MiB, as a number of bytes or with KiB, MiB, GiB or TiB";
const KNOWN: &str = "there are flush_interval, idle, retention, backfill and memory";

/// The options that a statement gives; the others follow the view's bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenOptions {
    /// `flush_interval`.
    pub flush_interval: Option<Duration>,
    /// `idle`.
    pub idle: Option<Duration>,
    /// `retention`.
    pub retention: Option<Duration>,
    /// `backfill`.
    pub backfill: Option<bool>,
    /// `memory`.
    pub memory_bytes_max: Option<u64>,
}

impl GivenOptions {
    /// Reads `WITH (name = value, …)`.
    ///
    /// # Errors
    /// [`ViewError::Option`] with the option, its value, and what is accepted.
    pub(super) fn read(options: &CreateTableOptions) -> Result<Self, ViewError> {
        let list = match options {
            CreateTableOptions::None => return Ok(GivenOptions::default()),
            CreateTableOptions::With(list) => list,
            other => return Err(ViewError::not_maintained(other, "write options as WITH (name = value, …)")),
        };
        let mut given = GivenOptions::default();
        for option in list {
            let SqlOption::KeyValue { key, value } = option else {
                return Err(ViewError::not_maintained(option, "write options as WITH (name = value, …)"));
            };
            given.set(&key.value.to_lowercase(), value)?;
        }
        Ok(given)
    }

    fn set(&mut self, name: &str, value: &Expr) -> Result<(), ViewError> {
        let text = text_of(value);
        let refuse = |reason: &str| option(name, &text, reason);
        let twice = match name {
            "flush_interval" => self.flush_interval.replace(duration(name, &text, FLUSH)?).is_some(),
            "idle" => self.idle.replace(duration(name, &text, IDLE)?).is_some(),
            "retention" => self.retention.replace(duration(name, &text, RETENTION)?).is_some(),
            "backfill" => {
                let value = text.to_lowercase().parse().map_err(|_| refuse("write true or false"))?;
                self.backfill.replace(value).is_some()
            }
            "memory" => {
                let bytes = bytes(&text).filter(|bytes| *bytes >= MEMORY_MIN).ok_or_else(|| refuse(MEMORY_EXPECTED))?;
                self.memory_bytes_max.replace(bytes).is_some()
            }
            _ => return Err(refuse(&format!("it is not known; {KNOWN}"))),
        };
        if twice { Err(refuse("it is there twice")) } else { Ok(()) }
    }

    /// All options of a view with buckets of this width.
    ///
    /// # Errors
    /// [`ViewError::Option`] when a row would be final before it is flushed.
    pub(super) fn of_bucket(&self, width: Option<Duration>) -> Result<ViewOptions, ViewError> {
        let usual = ViewOptions::by_bucket(width);
        let flush_interval = self.flush_interval.unwrap_or(usual.flush_interval);
        // An option that was not given follows the one that was.
        let idle = self.idle.unwrap_or(usual.idle.max(flush_interval));
        let flush_interval = if self.flush_interval.is_some() { flush_interval } else { flush_interval.min(idle) };
        if idle < flush_interval {
            let reason = format!("it must be at least the flush_interval, {flush_interval}");
            return Err(option("idle", &idle.to_string(), &reason));
        }
        Ok(ViewOptions {
            flush_interval,
            idle,
            retention: self.retention.unwrap_or(usual.retention),
            backfill: self.backfill.unwrap_or(usual.backfill),
            memory_bytes_max: self.memory_bytes_max,
        })
    }
}

fn option(name: &str, value: &str, reason: &str) -> ViewError {
    ViewError::Option { name: name.to_owned(), value: format!("{value:?}"), reason: reason.to_owned() }
}

/// A value as it was meant, with quotes or without.
pub(crate) fn text_of(value: &Expr) -> String {
    match value {
        Expr::Value(literal) => match &literal.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        Expr::Identifier(ident) => ident.value.clone(),
        other => other.to_string(),
    }
}

fn duration(name: &str, text: &str, (min, max): (Duration, Duration)) -> Result<Duration, ViewError> {
    let accepted: Option<Duration> = text.parse().ok().filter(|duration| (min..=max).contains(duration));
    accepted.ok_or_else(|| option(name, text, &format!("write a duration such as '5s' or '1h', from {min} to {max}")))
}

fn bytes(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[split..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    text[..split].parse::<u64>().ok()?.checked_mul(unit)
}
