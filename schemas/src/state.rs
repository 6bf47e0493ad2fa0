//! State: a mergeable partial aggregate.

use std::cmp::Ordering;

/// Count, sum, minimum and maximum of a set of values; two states merge into that of the union.
///
/// Floats are compared by [`f64::total_cmp`], so a state is a well-behaved differential value.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// How many events.
    pub count: u64,
    /// The sum of their values.
    pub sum: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
}

impl State {
    /// The state of no events: the neutral element of [`State::merge`].
    pub const EMPTY: State = State { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// The state of one event.
    #[must_use]
    pub fn of(value: f64) -> Self {
        let value = value + 0.0; // −0 becomes 0, so that the order of −0 and 0 does not show
        State { count: 1, sum: value, min: value, max: value }
    }

    /// Adds one event.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let value = value + 0.0;
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Adds all events of `other`.
    #[inline]
    pub fn merge(&mut self, other: &State) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The mean, or `None` of no events.
    #[must_use]
    pub fn avg(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Default for State {
    fn default() -> Self {
        State::EMPTY
    }
}

impl Ord for State {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.count.cmp(&other.count))
            .then_with(|| self.sum.total_cmp(&other.sum))
            .then_with(|| self.min.total_cmp(&other.min))
            .then_with(|| self.max.total_cmp(&other.max))
    }
}

impl PartialOrd for State {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for State {}
