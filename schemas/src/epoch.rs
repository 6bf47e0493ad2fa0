//! The epoch: one number that versions the whole system.
//!
//! It is the differential timestamp, the row version in ClickHouse, the token in an acknowledgement and
//! the position in a subscription. It counts microseconds of a hybrid logical clock, so it is comparable
//! with wall time and never goes back, also when the wall clock does.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A version of the whole system: microseconds since 1970 of a hybrid logical clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Before every event.
    pub const ZERO: Epoch = Epoch(0);
    /// After every event.
    pub const MAX: Epoch = Epoch(u64::MAX);

    /// Returns the epoch that follows `self` when the wall clock says `now_us`: `max(self + 1, now)`.
    ///
    /// ```
    /// use streamgauge_schemas::Epoch;
    /// assert_eq!(Epoch(10).next(50), Epoch(50));
    /// assert_eq!(Epoch(10).next(3), Epoch(11)); // the wall clock went back; the epoch does not
    /// ```
    #[must_use]
    pub fn next(self, now_us: u64) -> Epoch {
        Epoch((self.0 + 1).max(now_us))
    }

    /// Returns the epoch `span_us` microseconds earlier, or [`Epoch::ZERO`].
    #[must_use]
    pub fn minus(self, span_us: u64) -> Epoch {
        Epoch(self.0.saturating_sub(span_us))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
