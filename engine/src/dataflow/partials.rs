//! Partial states on their way into rows: of one epoch, or of several that were merged.

use std::sync::Arc;

use streamgauge_schemas::state::States;
use streamgauge_schemas::{Epoch, GroupKey};

use super::series::{NONE, Numbers};

/// The epochs that a partial state is of: the first, and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Epoch,
    pub(super) last: Epoch,
}

/// Partial states for the rows of a view, in the order of the log for each group.
#[derive(Clone, Copy)]
pub(super) struct Partials<'a> {
    pub(super) keys: &'a [GroupKey],
    pub(super) spans: Spans<'a>,
    pub(super) states: &'a States,
    /// Of the groups' series, if they have any.
    pub(super) numbers: Option<Numbers<'a>>,
}

/// The epochs of partial states.
#[derive(Clone, Copy)]
pub(super) enum Spans<'a> {
    /// All of this one.
    One(Epoch),
    /// Each of its own.
    Each(&'a [Span]),
}

/// Partial states of a family's series, merged over epochs.
pub(super) struct Merged {
    pub(super) keys: Vec<GroupKey>,
    pub(super) spans: Arc<Vec<Span>>,
    pub(super) numbers: Arc<Vec<u32>>,
    pub(super) states: Arc<States>,
}

impl Span {
    pub(super) fn of(epoch: Epoch) -> Self {
        Span { first: epoch, last: epoch }
    }

    /// Whether a row of that version may take partial states of these epochs, which come after its own.
    #[inline]
    pub(super) fn may_follow(self, version: Epoch, idle_us: u64) -> bool {
        self.first.0 - version.0 < idle_us || self.first == version
    }
}

impl Partials<'_> {
    #[inline]
    pub(super) fn number(&self, at: usize) -> u32 {
        self.numbers.map_or(NONE, |numbers| numbers.of[at])
    }

    #[inline]
    pub(super) fn span(&self, at: usize) -> Span {
        match self.spans {
            Spans::One(epoch) => Span::of(epoch),
            Spans::Each(spans) => spans[at],
        }
    }
}
