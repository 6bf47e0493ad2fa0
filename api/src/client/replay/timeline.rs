//! From the times of a file to the times at which its events happen again.
//!
//! ```text
//! speed max, shifted:      first ├──────── file ────────┤ last = now          everything is sent at once
//! speed N×, shifted:       ├─ history ─┤ now ├─ played ─ ─ ─┤                  the spacing is divided by N
//!                          sent at once       each event is dated, and sent, when its turn comes
//! in a loop:               … the file again after its end, one usual step later, for ever
//! ```
//!
//! Played events are dated with the moment of their sending, so that a live page shows them as they come: a day of
//! the file takes a day ÷ N, in event time as on the clock. Times that are not shifted keep the file's dates, and the speed only paces their sending.

use std::fmt;
use std::str::FromStr;

use streamgauge_schemas::EventTime;

use super::scan::Scan;

/// How fast a file is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speed {
    /// As fast as the server takes it.
    Max,
    /// That many times as fast as it happened.
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        let times: Option<f64> = text.strip_suffix('x').unwrap_or(text).parse().ok();
        let times = times.filter(|times| times.is_finite() && *times > 0.0);
        times.map(Speed::Times).ok_or_else(|| "expected max, or a number such as 60x".to_owned())
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Speed::Max => f.write_str("max"),
            Speed::Times(times) => write!(f, "{times}x"),
        }
    }
}

/// A share of a file, from 0 to 1; its text form is a percentage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share(pub(crate) f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent: Option<f64> = text.strip_suffix('%').and_then(|number| number.parse().ok());
        let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
        percent.map(|percent| Share(percent / 100.0)).ok_or_else(|| "expected 0% to 100%".to_owned())
    }
}

/// The times of a file, and of what is shifted together with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The earliest event.
    pub(crate) first: EventTime,
    /// The latest event.
    pub(crate) last: EventTime,
    /// How many events.
    pub(crate) events: u64,
}

impl Span {
    /// The span of one file.
    pub(crate) fn of(scan: &Scan) -> Span {
        Span { first: scan.first, last: scan.last, events: scan.rows }
    }

    /// The span of both.
    pub(crate) fn union(self, other: Span) -> Span {
        let (first, last) = (self.first.min(other.first), self.last.max(other.last));
        Span { first, last, events: self.events + other.events }
    }

    /// From the first event to where the first event of the next lap stands: one usual step after the last.
    fn lap_us(&self) -> i64 {
        let length = self.last.0 - self.first.0;
        let step = length / (self.events.max(2) - 1) as i64;
        length + step.max(1_000)
    }
}

/// When the events of a file happen again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    span: Span,
    speed: Speed,
    shifted: bool,
    /// The file's time that stands at `now`.
    anchor: EventTime,
    now: EventTime,
}

/// When an event of the file happens again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    /// When it is to be sent; in the past for what is sent at once.
    pub(crate) due: EventTime,
    /// The time that it says.
    pub(crate) at: EventTime,
}

impl Timeline {
    /// The timeline of files of that span; `history` is the share that lies before `now` when played.
    pub(crate) fn new(span: Span, speed: Speed, shifted: bool, history: Share, now: EventTime) -> Self {
        let length = span.last.0 - span.first.0;
        let anchor = match speed {
            Speed::Max => span.last,
            Speed::Times(_) => EventTime(span.first.0 + (length as f64 * history.0) as i64),
        };
        Timeline { span, speed, shifted, anchor, now }
    }

    /// When the event that the file dates `time` happens for the `lap`-th time (from 0).
    pub(crate) fn moment(&self, time: EventTime, lap: u64) -> Moment {
        let since_anchor = time.0 - self.anchor.0 + lap as i64 * self.span.lap_us();
        let played = match self.speed {
            Speed::Max => EventTime(self.now.0 + since_anchor),
            Speed::Times(times) => EventTime(self.now.0 + (since_anchor as f64 / times) as i64),
        };
        match (self.shifted, self.speed) {
            (true, _) => Moment { due: played, at: played },
            (false, Speed::Times(_)) => Moment { due: played, at: time },
            (false, Speed::Max) => Moment { due: time, at: time },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const NOW: EventTime = EventTime(1_700_000_000 * SECOND);

    /// A file of 11 events, 10 s apart.
    fn timeline(speed: &str, shifted: bool, history: &str) -> Timeline {
        let span = Span { first: EventTime(1_000 * SECOND), last: EventTime(1_100 * SECOND), events: 11 };
        Timeline::new(span, speed.parse().unwrap(), shifted, history.parse().unwrap(), NOW)
    }

    fn check(timeline: Timeline, time_s: i64, lap: u64, due_s: i64, at_s: i64) {
        let moment = timeline.moment(EventTime(time_s * SECOND), lap);
        let relative = |time: EventTime| (time.0 - NOW.0) / SECOND;
        assert_eq!((relative(moment.due), relative(moment.at)), (due_s, at_s), "{timeline:?} at {time_s}");
    }

    #[test]
    fn at_once_the_last_event_is_now_and_the_spacing_is_kept() {
        check(timeline("max", true, "0%"), 1_100, 0, 0, 0);
        check(timeline("max", true, "0%"), 1_000, 0, -100, -100);
    }

    #[test]
    fn played_events_are_dated_when_they_are_due() {
        check(timeline("10x", true, "0%"), 1_000, 0, 0, 0);
        check(timeline("10x", true, "0%"), 1_100, 0, 10, 10);
        check(timeline("10", true, "50%"), 1_000, 0, -5, -5);
        check(timeline("10x", true, "50%"), 1_050, 0, 0, 0);
        check(timeline("10x", true, "100%"), 1_100, 0, 0, 0);
    }

    #[test]
    fn a_lap_begins_one_step_after_the_last_event() {
        check(timeline("1x", true, "100%"), 1_000, 1, 10, 10);
        check(timeline("1x", true, "100%"), 1_000, 2, 120, 120);
    }

    #[test]
    fn times_that_are_not_shifted_stay() {
        let moment = timeline("10x", false, "0%").moment(EventTime(1_100 * SECOND), 0);
        assert_eq!((moment.due.0 - NOW.0, moment.at.0), (10 * SECOND, 1_100 * SECOND));
        let moment = timeline("max", false, "0%").moment(EventTime(1_100 * SECOND), 0);
        assert_eq!(moment.at.0, 1_100 * SECOND);
    }

    #[test]
    fn speeds_and_shares_are_read_strictly() {
        for wrong in ["", "fast", "0x", "-1x", "NaN", "infx"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
        for wrong in ["", "50", "101%", "-1%", "NaN%"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}
