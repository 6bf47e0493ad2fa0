//! Young rows: which rows came and went since the arrangement was last read.
//!
//! ```text
//!  ±(group, slot) ─▶ changes ─▶ (a read, or enough of them) ─▶ batch ─▶ arrangement
//! ```
//!
//! An arrangement copies a row each time that it merges batches, which is the more often the smaller they are. Nobody needs
//! a row in its place before somebody reads.
//!
//! Its time is not that of the dataflow: a batch is a step, and whoever reads sees all steps.

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
/// Room for more than so many times what becomes a batch is let go.
const ROOM_MAX: usize = 4;

/// See the module.
pub(super) struct Young {
    writer: TraceWriter<RowSpine>,
    changes: Vec<(Indexed, u64, isize)>,
    step: u64,
}

impl Young {
    /// Of an arrangement that has nothing yet.
    pub(super) fn new(writer: TraceWriter<RowSpine>) -> Self {
        Young { writer, changes: Vec::new(), step: 0 }
    }

    /// A row came (1), or went (-1).
    #[inline]
    pub(super) fn push(&mut self, row: Indexed, change: isize) {
        self.changes.push((row, self.step, change));
    }

    /// The view has `rows` rows now.
    pub(super) fn reach(&mut self, rows: usize) {
        let enough = (rows / ROWS_PER_CHANGE).clamp(CHANGES_MIN, CHANGES_MAX);
        if self.changes.len() >= enough {
            self.settle();
        }
        // A start may have brought very many rows, and a flush may have taken all: a view that is full must not stay so for
        // the room that this took.
        if self.changes.capacity() > ROOM_MAX * enough {
            self.changes.shrink_to(enough);
        }
        self.writer.exert();
    }

    /// Puts all changes into the arrangement.
    pub(super) fn settle(&mut self) {
        consolidate_updates(&mut self.changes);
        if !self.changes.is_empty() {
            let (lower, upper) = (Antichain::from_elem(self.step), Antichain::from_elem(self.step + 1));
            let hint = Stamp::from_elem(self.step);
            let mut builder = RowBuilder::default();
            builder.push(&mut self.changes);
            self.changes.clear();
            self.step += 1;
            let description = Description::new(lower, upper, Antichain::from_elem(0));
            self.writer.insert(Span::new(description, builder.done().map(Into::into)), hint);
        }
    }

    /// The step that comes next.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// About how many bytes these take.
    pub(super) fn bytes(&self) -> usize {
        self.changes.capacity() * size_of::<(Indexed, u64, isize)>()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;

    use differential_dataflow::operators::arrange::TraceAgent;
    use differential_dataflow::trace::Trace;
    use streamgauge_schemas::view::rollup;
    use streamgauge_schemas::{Epoch, EventTime, Layout, Row, Rows, SeriesId};
    use timely::dataflow::operators::generic::OperatorInfo;

    use super::super::arrangement::{Arrangement, Scan};
    use super::super::held::Held;
    use super::super::table::Table;
    use super::*;

    fn layout() -> Layout {
        rollup("by_second", "1 second", 1).layout().unwrap()
    }

    fn arrangement() -> Arrangement {
        let info = OperatorInfo::new(0, 0, [0].into());
        let (reader, writer) = TraceAgent::new(RowSpine::new(info.clone(), None, None), info, None);
        let table = Table::new(Arc::new(layout()), 10);
        Arrangement::new(reader, Rc::new(RefCell::new(Held::new(table, Young::new(writer)))))
    }

    fn load(rows: &mut Arrangement, version: u64, series: std::ops::Range<u64>) {
        let row = |high| {
            let key = GroupKey { series: SeriesId { high, low: 0 }, bucket: EventTime(0) };
            (key, Row { generation: Epoch(version), version: Epoch(version), state: layout().blank() })
        };
        rows.load(Epoch(1), Epoch(version), series.map(row));
        rows.held().borrow_mut().passed(Epoch(1)); // as with each epoch
    }

    fn read(rows: &mut Arrangement) -> Vec<u64> {
        let (lower, upper, mut read) = (EventTime(i64::MIN), EventTime(i64::MAX), Rows::default());
        rows.scan(&Scan { series: None, lower, upper, above: Epoch::ZERO }, None, &mut read);
        read.series.iter().map(|series| series.high).collect()
    }

    fn waiting(rows: &Arrangement) -> usize {
        rows.held().borrow().young.changes.len()
    }

    /// Few wait until somebody reads, many do not wait; whatever comes, goes and comes again is there once.
    #[test]
    fn a_read_finds_all_rows_whether_they_waited_or_not() {
        let mut rows = arrangement();
        load(&mut rows, 100, 0..10);
        load(&mut rows, 101, 10..20);
        assert_eq!(waiting(&rows), 20);
        assert_eq!(read(&mut rows), (0..20).collect::<Vec<_>>());
        assert_eq!(waiting(&rows), 0);
        let many = CHANGES_MIN as u64;
        load(&mut rows, 105, 20..20 + many);
        assert_eq!(waiting(&rows), 0, "enough to be a batch");
        load(&mut rows, 105, 20 + many..30 + many);
        // The oldest go, and one of them comes again in a slot that was freed, with one that was not there before.
        rows.flush(Epoch(105), Epoch(100), &mut Rows::default());
        load(&mut rows, 106, 3..4);
        load(&mut rows, 106, 30 + many..31 + many);
        let left: Vec<u64> = [3].into_iter().chain(10..31 + many).collect();
        assert_eq!((waiting(&rows), rows.rows()), (10 + 10 + 2, left.len()));
        assert_eq!(read(&mut rows), left);
        rows.flush(Epoch(106), Epoch(106), &mut Rows::default());
        assert_eq!((read(&mut rows), rows.rows()), (vec![], 0));
        assert!(rows.held().borrow().young.bytes() <= CHANGES_MAX * size_of::<(Indexed, u64, isize)>());
    }

    #[test]
    fn room_is_let_go_as_rows_leave() {
        let mut rows = arrangement();
        let held = |rows: &Arrangement| rows.held().borrow().young.bytes();
        let room = |changes: usize| ROOM_MAX * changes * size_of::<(Indexed, u64, isize)>();
        load(&mut rows, 100, 0..4 * CHANGES_MAX as u64);
        assert!(held(&rows) <= room(CHANGES_MAX), "{}", held(&rows));
        for rest in [1, 0] {
            load(&mut rows, 101, 0..rest);
            rows.flush(Epoch(101), Epoch(if rest == 0 { 101 } else { 100 }), &mut Rows::default());
            rows.held().borrow_mut().passed(Epoch(2));
            assert!(held(&rows) <= room(CHANGES_MIN), "{} of {rest} rows", held(&rows));
            assert!(rows.bytes() < 2 * room(CHANGES_MIN), "{} of {rest} rows", rows.bytes());
        }
    }
}
