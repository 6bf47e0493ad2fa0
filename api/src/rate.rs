//! A rate over the last seconds, from a running total.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const WINDOW: Duration = Duration::from_secs(10);

/// Remembers a total of the last seconds.
#[derive(Debug)]
pub(crate) struct Rate {
    seen: Mutex<VecDeque<(Instant, u64)>>,
}

impl Rate {
    /// Begins with a total that does not count.
    pub(crate) fn new(total: u64) -> Self {
        Rate { seen: Mutex::new(VecDeque::from([(Instant::now(), total)])) }
    }

    /// Notes the total, once a second or more often.
    pub(crate) fn note(&self, total: u64) {
        let now = Instant::now();
        let mut seen = self.seen.lock();
        seen.push_back((now, total));
        while seen.len() > 2 && seen.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            seen.pop_front();
        }
    }

    /// How much a second the total grew over the window.
    pub(crate) fn per_second(&self, total: u64) -> f64 {
        let seen = self.seen.lock();
        let Some((at, before)) = seen.front() else { return 0.0 };
        let seconds = at.elapsed().as_secs_f64();
        if seconds > 0.0 { total.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }
}
