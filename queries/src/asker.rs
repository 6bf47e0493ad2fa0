//! Who asks, and how much less than it may a question is to take.
//!
//! A name is what a client says: nobody checks it here. Bounds on users keep one of them from taking everything by
//! accident; they are no protection against one who changes his name.

use std::sync::Arc;
use std::time::Duration;

use crate::clickhouse::Bounds;
use crate::client::ClientSession;
use crate::limits::QueryLimits;
use crate::memory::MemoryOf;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The name that bounds of a user hold for.
    pub user: Arc<str>,
    /// The address that the question came from.
    pub client: Option<Arc<str>>,
    /// The protocol that it came by, such as `http`.
    pub protocol: &'static str,
    /// What the session has set.
    pub limits: OwnLimits,
    /// The session that he asks in, if his protocol has such.
    pub session: Option<Arc<dyn ClientSession>>,
}

impl Default for Asker {
    fn default() -> Self {
        Asker {
            user: "anonymous".into(),
            client: None,
            protocol: "internal",
            limits: OwnLimits::default(),
            session: None,
        }
    }
}

/// The bounds of a question that whoever asks may lower, and how they are set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnLimits {
    /// `statement_timeout`.
    pub time_max: Option<Duration>,
    /// `streamgauge.memory_bytes_max`.
    pub memory_bytes_max: Option<usize>,
    /// `streamgauge.rows_max`.
    pub rows_max: Option<usize>,
}

/// The names of [`OwnLimits`].
pub const TIMEOUT: &str = "statement_timeout";
/// See [`TIMEOUT`].
pub const MEMORY: &str = "streamgauge.memory_bytes_max";
/// See [`TIMEOUT`].
pub const ROWS: &str = "streamgauge.rows_max";

impl OwnLimits {
    /// Sets one of them by its name, back with `None` or zero; `None` when there is none of that name.
    ///
    /// # Errors
    /// What would be taken.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Option<Result<(), &'static str>> {
        let count = |text: &str| text.trim().parse::<usize>().map_err(|_| "a whole number, 0 for no bound of its own");
        Some(match name {
            TIMEOUT => {
                let time =
                    value.map(|text| duration(text).ok_or("a time such as 500 (ms) or 10s, 0 for none of its own"));
                time.transpose().map(|time| self.time_max = time.filter(|time| !time.is_zero()))
            }
            MEMORY => {
                value.map(count).transpose().map(|bytes| self.memory_bytes_max = bytes.filter(|bytes| *bytes > 0))
            }
            ROWS => value.map(count).transpose().map(|rows| self.rows_max = rows.filter(|rows| *rows > 0)),
            _ => return None,
        })
    }

    /// These, and where they say nothing, `others`.
    #[must_use]
    pub fn or(self, others: OwnLimits) -> Self {
        OwnLimits {
            time_max: self.time_max.or(others.time_max),
            memory_bytes_max: self.memory_bytes_max.or(others.memory_bytes_max),
            rows_max: self.rows_max.or(others.rows_max),
        }
    }

    /// The bounds of a question that has these: they lower, and never raise.
    pub(crate) fn lower(self, limits: &QueryLimits) -> QueryLimits {
        QueryLimits {
            time_max: self.time_max.map_or(limits.time_max, |own| own.min(limits.time_max)),
            rows_max: [self.rows_max, limits.rows_max].into_iter().flatten().min(),
            ..limits.clone()
        }
    }

    /// Of the bounds on the memory of a question that has these the least, and whose it is.
    pub(crate) fn memory(self, limits: &QueryLimits) -> (MemoryOf, usize) {
        let own = self.memory_bytes_max.unwrap_or(usize::MAX);
        let others = [(MemoryOf::User, limits.user_memory_bytes_max), (MemoryOf::All, limits.memory_bytes_max)];
        others.into_iter().fold((MemoryOf::Question, own), |least, other| if other.1 < least.1 { other } else { least })
    }

    /// What a read of ClickHouse may take for a question that has these.
    pub(crate) fn bounds(self, limits: &QueryLimits) -> Bounds {
        Bounds { time_max: self.lower(limits).time_max, memory_bytes_max: self.memory(limits).1 }
    }
}

/// A time in milliseconds, or with a unit, as PostgreSQL reads it.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "" | "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "min" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3_600)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_lowered_and_never_raised() {
        let limits = QueryLimits { time_max: Duration::from_secs(60), rows_max: Some(10), ..QueryLimits::default() };
        let mut own = OwnLimits::default();
        for (name, value) in [(TIMEOUT, "2min"), (ROWS, "11"), (MEMORY, "1000")] {
            assert_eq!(own.set(name, Some(value)), Some(Ok(())), "{name}");
        }
        let lowered = own.lower(&limits);
        assert_eq!((lowered.time_max, lowered.rows_max), (Duration::from_secs(60), Some(10)));
        for (name, value) in [(TIMEOUT, "1500"), (ROWS, "9")] {
            assert_eq!(own.set(name, Some(value)), Some(Ok(())), "{name}");
        }
        let lowered = own.lower(&limits);
        assert_eq!((lowered.time_max, lowered.rows_max), (Duration::from_millis(1_500), Some(9)));
        for name in [TIMEOUT, ROWS, MEMORY] {
            assert_eq!(own.set(name, Some("0")), Some(Ok(())), "{name}");
            assert!(matches!(own.set(name, Some("-1")), Some(Err(_))), "{name}");
        }
        assert_eq!((own, own.set("streamgauge.epoch", None)), (OwnLimits::default(), None));
    }

    #[test]
    fn of_bounds_on_memory_the_least_holds() {
        let bound = |own, user, all| {
            let own = OwnLimits { memory_bytes_max: own, ..OwnLimits::default() };
            own.memory(&QueryLimits { user_memory_bytes_max: user, memory_bytes_max: all, ..QueryLimits::default() })
        };
        assert_eq!(bound(None, 3, 4), (MemoryOf::User, 3));
        assert_eq!(bound(Some(9), 5, 4), (MemoryOf::All, 4));
        assert_eq!(bound(Some(3), 3, 3), (MemoryOf::Question, 3));
        assert_eq!(bound(Some(2), 3, 4), (MemoryOf::Question, 2));
    }
}
