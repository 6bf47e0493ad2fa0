//! The session of a client, of a protocol that has such: it is known by a number, and has settings of its own.
//!
//! Questions of other protocols (HTTP, Flight SQL) have none; each of them counts as a session that lasts as long as it does.
//!
//! # Invariants
//!
//! 1. No question's `id` is the number of a session, so whoever is given one knows which it is.

use std::fmt;

/// The first number of a session, and how many there are.
const FIRST: i32 = 1 << 30;
const COUNT: i32 = 1 << 30;

/// The number of a session: clients are told it at the start, and `pg_backend_pid()` and `pg_stat_activity.pid` say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionNumber(i32);

impl SessionNumber {
    /// The number of the session before which there were `count`; they begin again after 2³⁰.
    #[must_use]
    pub fn nth(count: u32) -> Self {
        SessionNumber(FIRST + (count % COUNT.unsigned_abs()).cast_signed())
    }

    /// The number itself, as the protocol of PostgreSQL has it.
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }

    /// The session that a number means, if it means one.
    pub(crate) fn of(number: i64) -> Option<Self> {
        i32::try_from(number).ok().filter(|number| *number >= FIRST).map(SessionNumber)
    }
}

/// The `id` of the question before which there were `count` (invariant 1).
pub(crate) fn question_id(count: u64) -> u64 {
    let id = count + 1;
    if id < u64::from(FIRST.unsigned_abs()) { id } else { id + u64::from(COUNT.unsigned_abs()) }
}

/// What stands for the session of a question that has none: its `id` as long as that is short enough for the type `int4`.
pub(crate) fn number_of_question(id: u64) -> i32 {
    i32::try_from(id % u64::from(FIRST.unsigned_abs())).unwrap_or_default()
}

/// The session of a client; whoever speaks its protocol implements it.
pub trait ClientSession: fmt::Debug + Send + Sync + 'static {
    /// Its number.
    fn number(&self) -> SessionNumber;
    /// The value of a setting, of those that there are.
    fn setting(&self, name: &str) -> Option<String>;
    /// Sets one, or with `None` sets it back; for the transaction alone if `local`.
    ///
    /// # Errors
    /// Why it is not taken, and what would be.
    fn set(&self, name: &str, value: Option<&str>, local: bool) -> Result<(), String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_means_a_session_or_a_question() {
        for count in [0, 1, 17, (1 << 30) - 1, 1 << 30, u32::MAX] {
            let number = SessionNumber::nth(count);
            assert_eq!(SessionNumber::of(number.get().into()), Some(number), "{count}");
        }
        for count in [0, 1, (1 << 30) - 2, (1 << 30) - 1, 1 << 30, (1 << 31) - 1, 1 << 31, 1 << 40] {
            let id = question_id(count);
            assert_eq!(SessionNumber::of(id.cast_signed()), None, "{count}");
            assert_eq!(SessionNumber::of(number_of_question(id).into()), None, "{count}");
        }
        assert_eq!((question_id(0), number_of_question(17)), (1, 17));
    }
}
