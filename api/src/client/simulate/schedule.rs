//! Which simulated event happens when: a pure function of the event's number.

use streamgauge_schemas::{Duration, EventTime};

/// When events happen. Event `n` belongs to series `n % series`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// The time of event 0.
    pub(crate) start: EventTime,
    /// How many series take turns.
    pub(crate) series: u64,
    /// How fast.
    pub(crate) pace: Pace,
    /// The time before which events happen; none is at or after it.
    pub(crate) end: Option<EventTime>,
}

/// How fast events happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// All series at once, each that often.
    Every(Duration),
    /// That many events a second over all series, evenly spread.
    PerSecond(f64),
}

impl Schedule {
    /// When event `n` happens.
    pub(crate) fn time_of(&self, n: u64) -> EventTime {
        let offset = match self.pace {
            Pace::Every(interval) => (n / self.series) as i64 * interval.as_micros(),
            Pace::PerSecond(rate) => (n as f64 * 1e6 / rate) as i64,
        };
        EventTime(self.start.0 + offset)
    }

    /// How many events have happened at `now`; the events before that number.
    pub(crate) fn due(&self, now: EventTime) -> u64 {
        let now = self.end.map_or(now, |end| EventTime(now.0.min(end.0 - 1)));
        let passed = now.0 - self.start.0;
        if passed < 0 {
            return 0;
        }
        match self.pace {
            Pace::Every(interval) => (passed / interval.as_micros() + 1) as u64 * self.series,
            Pace::PerSecond(rate) => {
                let mut due = (passed as f64 * rate / 1e6) as u64;
                while self.time_of(due) <= now {
                    due += 1; // rounding may have hidden the last one or two
                }
                due
            }
        }
    }

    /// Whether nothing more happens after `now`.
    pub(crate) fn is_over(&self, now: EventTime) -> bool {
        self.end.is_some_and(|end| now >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(pace: Pace, end: Option<i64>) -> Schedule {
        Schedule { start: EventTime(1_000), series: 4, pace, end: end.map(EventTime) }
    }

    #[test]
    fn every_series_speaks_at_each_interval() {
        let schedule = schedule(Pace::Every(Duration::from_micros(300)), None);
        for (now, due) in [(999, 0), (1_000, 4), (1_299, 4), (1_300, 8), (1_600, 12)] {
            assert_eq!(schedule.due(EventTime(now)), due, "at {now}");
        }
        assert_eq!([0, 3, 4, 11].map(|n| schedule.time_of(n).0), [1_000, 1_000, 1_300, 1_600]);
    }

    #[test]
    fn a_rate_is_spread_evenly_and_ends_on_time() {
        let schedule = schedule(Pace::PerSecond(1_000.0), Some(1_000 + 2_000_000));
        assert_eq!(schedule.due(EventTime(1_000)), 1);
        assert_eq!(schedule.due(EventTime(1_000 + 999_999)), 1_000);
        assert_eq!(schedule.due(EventTime(i64::MAX)), 2_000);
        assert!(schedule.is_over(EventTime(2_001_000)) && !schedule.is_over(EventTime(2_000_999)));
    }

    #[test]
    fn due_and_time_agree() {
        for rate in [0.3, 7.0, 333.3, 123_456.7] {
            let schedule = schedule(Pace::PerSecond(rate), None);
            for now in [1_000, 1_001, 77_777, 10_000_000] {
                let due = schedule.due(EventTime(now));
                assert!(schedule.time_of(due).0 > now, "rate {rate} at {now}");
                assert!(due == 0 || schedule.time_of(due - 1).0 <= now, "rate {rate} at {now}");
            }
        }
    }
}
