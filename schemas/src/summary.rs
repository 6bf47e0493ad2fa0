//! Summary: count, sum, minimum and maximum, which the built-in rollups keep of each series and bucket.

use std::cmp::Ordering;

use crate::State;

/// Count, sum, minimum and maximum of a set of values; two summaries merge into that of the union.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// How many events.
    pub count: u64,
    /// The sum of their values.
    pub sum: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
}

impl Summary {
    /// The summary of no events: the neutral element of [`Summary::merge`].
    pub const EMPTY: Summary = Summary { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    /// The summary of one event.
    #[must_use]
    pub fn of(value: f64) -> Self {
        let value = value + 0.0; // −0 becomes 0, so that the order of −0 and 0 does not show
        Summary { count: 1, sum: value, min: value, max: value }
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
    pub fn merge(&mut self, other: &Summary) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The summary that a state of a built-in rollup is; its cells are those four, in this order.
    #[must_use]
    pub fn of_rollup(state: &State) -> Self {
        match *state.cells() {
            [count, sum, min, max] => {
                Summary { count, sum: f64::from_bits(sum), min: f64::from_bits(min), max: f64::from_bits(max) }
            }
            _ => Summary::EMPTY,
        }
    }

    /// The mean, or `None` of no events.
    #[must_use]
    pub fn avg(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Default for Summary {
    fn default() -> Self {
        Summary::EMPTY
    }
}

impl Ord for Summary {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.count.cmp(&other.count))
            .then_with(|| self.sum.total_cmp(&other.sum))
            .then_with(|| self.min.total_cmp(&other.min))
            .then_with(|| self.max.total_cmp(&other.max))
    }
}

impl PartialOrd for Summary {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Summary {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Summary {}
