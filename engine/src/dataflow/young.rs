//! Young rows: which rows came and went since the arrangement was last read.
//!
//! ```text
//!  ±(group, slot) @ epoch ─▶ changes ─▶ (a read, or enough of them) ─▶ batch ─▶ arrangement
//! ```
//!
//! An arrangement copies a row each time that it merges batches, which is the more often the smaller they are. Nobody needs
//! a row in its place before somebody reads.
//!
//! # Invariants
//!
//! 1. The batches of the arrangement cover the epochs up to `lower`, and `changes` those from there up to `upper`.

use differential_dataflow::consolidation::consolidate_updates;
use differential_dataflow::operators::arrange::writer::TraceWriter;
use differential_dataflow::trace::{Builder, Description, Span};
use streamgauge_schemas::GroupKey;
use timely::progress::{Antichain, Stamp};

use super::arrangement::{RowBuilder, RowSpine};
use super::table::Slot;

/// A row as the arrangement has it.
type Indexed = (GroupKey, Slot);

/// Changes become a batch when there is one for so many rows, though nobody reads,
const ROWS_PER_CHANGE: usize = 8;
/// but not when they are fewer than this,
const CHANGES_MIN: usize = 1_024;
/// and always when they are this many: a read waits until they are sorted.
const CHANGES_MAX: usize = 65_536;

/// See the module.
pub(super) struct Young {
    writer: TraceWriter<RowSpine>,
    changes: Vec<(Indexed, u64, isize)>,
    lower: Antichain<u64>,
    upper: Antichain<u64>,
}

impl Young {
    /// Of an arrangement that has nothing yet.
    pub(super) fn new(writer: TraceWriter<RowSpine>) -> Self {
        let begin = Antichain::from_elem(0);
        Young { writer, changes: Vec::new(), lower: begin.clone(), upper: begin }
    }

    /// A row came with an epoch (1), or went (-1).
    pub(super) fn push(&mut self, row: Indexed, epoch: u64, change: isize) {
        self.changes.push((row, epoch, change));
    }

    /// All changes before `upper` were pushed; `rows` are there now.
    pub(super) fn reach(&mut self, upper: Antichain<u64>, rows: usize) {
        self.upper = upper;
        let enough = (rows / ROWS_PER_CHANGE).clamp(CHANGES_MIN, CHANGES_MAX);
        if self.changes.len() >= enough || self.upper.is_empty() {
            self.settle();
        }
        self.writer.exert();
    }

    /// Puts all changes into the arrangement.
    pub(super) fn settle(&mut self) {
        if self.lower == self.upper {
            return;
        }
        let lower = std::mem::replace(&mut self.lower, self.upper.clone());
        let hint = Stamp::from_elem(lower.first().copied().unwrap_or_default());
        consolidate_updates(&mut self.changes);
        if self.changes.is_empty() {
            self.writer.seal(self.upper.clone());
            return;
        }
        let mut builder = RowBuilder::default();
        builder.push(&mut self.changes);
        self.changes.clear();
        let description = Description::new(lower, self.upper.clone(), Antichain::from_elem(0));
        self.writer.insert(Span::new(description, builder.done().map(Into::into)), hint);
    }

    /// About how many bytes these take.
    pub(super) fn bytes(&self) -> usize {
        self.changes.capacity() * size_of::<(Indexed, u64, isize)>()
    }
}
