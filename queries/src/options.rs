//! How a question is asked, beside what it asks, and what an answer lacks that was asked for so.

use streamgauge_schemas::Epoch;

use crate::history::HistoryError;

/// How a question is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskOptions {
    /// The question waits, bounded, until the events of this epoch are visible; it sees all that are when not given.
    pub min_epoch: Option<Epoch>,
    /// When ClickHouse is away or fails, an answer from memory alone is better than none; it says what it lacks.
    pub partial: bool,
    /// ClickHouse only reads for it, and everything is planned anew and computed here.
    pub unpushed: bool,
}

/// What an answer lacks: the history, since ClickHouse was away or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// What ClickHouse has up to this epoch is missing.
    pub upto: Epoch,
    /// Why.
    pub reason: String,
}

impl Partial {
    pub(crate) fn new(upto: Epoch, error: &HistoryError) -> Self {
        Partial { upto, reason: error.reason() }
    }

    /// What is missing and why, in a sentence.
    #[must_use]
    pub fn missing(&self) -> String {
        format!("history in ClickHouse up to epoch {} is missing: {}", self.upto, self.reason)
    }
}
