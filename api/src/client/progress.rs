//! Status lines while a command sends events, and the summary at its end.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::sender::Counts;

const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Prints a line about a command's events now and then.
pub(crate) struct Progress {
    command: &'static str,
    quiet: bool,
    begun_at: Instant,
    last_at: Instant,
    last_accepted: u64,
}

impl Progress {
    /// Begins to count time.
    pub(crate) fn new(command: &'static str, quiet: bool) -> Self {
        let now = Instant::now();
        Progress { command, quiet, begun_at: now, last_at: now, last_accepted: 0 }
    }

    /// Prints a status line when the last one is some seconds old; `note` is asked only then.
    pub(crate) fn tick(&mut self, counts: &Counts, note: impl FnOnce() -> String) {
        let since = self.last_at.elapsed();
        if self.quiet || since < STATUS_INTERVAL {
            return;
        }
        let rate = (counts.accepted - self.last_accepted) as f64 / since.as_secs_f64();
        eprintln!("{}: {}, {} a second{}", self.command, describe(counts), grouped(rate.round() as u64), note());
        self.last_at = Instant::now();
        self.last_accepted = counts.accepted;
    }

    /// The summary: a line of counts, and a line for each reason of rejects.
    pub(crate) fn summary(&self, counts: &Counts) -> String {
        let elapsed = self.begun_at.elapsed().as_secs_f64();
        let rate = counts.accepted as f64 / elapsed.max(0.001);
        let mut text =
            format!("{}: {} in {elapsed:.1} s ({} a second)", self.command, describe(counts), grouped(rate as u64));
        for (reason, count) in &counts.reasons {
            let _ = write!(text, "\n  {} rejected: {reason}", grouped(*count)); // writing to a String cannot fail
        }
        if counts.unsure > 0 {
            text.push_str(
                "\n  events of unknown outcome are there once or not at all; the server was away for too long to say",
            );
        }
        text
    }
}

fn describe(counts: &Counts) -> String {
    let mut text = format!("{} events accepted", grouped(counts.accepted));
    if counts.rejected > 0 {
        let _ = write!(text, ", {} rejected", grouped(counts.rejected));
    }
    if counts.unsure > 0 {
        let _ = write!(text, ", {} of unknown outcome (connection lost)", grouped(counts.unsure));
    }
    text
}

/// A number with a comma between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn a_summary_names_what_went_wrong() {
        let counts =
            Counts { accepted: 1_500, rejected: 2, unsure: 10, reasons: [("value: too hot".to_owned(), 2)].into() };
        let summary = Progress::new("replay", true).summary(&counts);
        assert!(summary.starts_with("replay: 1,500 events accepted, 2 rejected, 10 of unknown outcome"), "{summary}");
        assert!(summary.contains("\n  2 rejected: value: too hot"), "{summary}");
        let fine = Progress::new("replay", true).summary(&Counts { accepted: 1, ..Counts::default() });
        assert!(!fine.contains("rejected") && !fine.contains("unknown"), "{fine}");
    }
}
