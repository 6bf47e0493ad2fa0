//! Reading a view's arrangement: filtered for a query, or what a flush must write.

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::implementations::Vector;
use differential_dataflow::trace::implementations::ord_neu::{OrdValBatch, OrdValBuilder};
use differential_dataflow::trace::implementations::spine_fueled::Spine;
use differential_dataflow::trace::{BatchCursor, Cursor, TraceReader, cursor::CursorList, cursor::cursor_list};
use streamgauge_schemas::{Epoch, EventTime, GroupKey, Row, Rows, SeriesId};
use timely::progress::Antichain;

type Layout = Vector<((GroupKey, Row), u64, isize)>;
pub(super) type RowBatch = Rc<OrdValBatch<Layout>>;
pub(super) type RowSpine = Spine<RowBatch>;
pub(super) type RowBuilder = OrdValBuilder<Layout, Vec<((GroupKey, Row), u64, isize)>>;

/// A row to be put into or taken out of an arrangement from outside the flow of events.
pub(super) struct Patch {
    pub(super) key: GroupKey,
    pub(super) row: Row,
    pub(super) diff: isize,
}

/// The rows of one view that one worker holds in memory.
pub(crate) struct Arrangement {
    reader: TraceAgent<RowSpine>,
    inbox: Rc<RefCell<Inbox>>,
}

/// What reaches `accumulate` from outside the flow of events.
#[derive(Default)]
pub(super) struct Inbox {
    /// Rows to put in or take out with the next epoch.
    pub(super) patches: Vec<Patch>,
    /// ClickHouse had every event up to this epoch at start; a replay of them changes nothing.
    pub(super) flushed_at_start: Epoch,
}

/// The rows that stay in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// How many.
    pub(crate) rows: usize,
    /// What they hold outside of themselves.
    pub(crate) heap_bytes: usize,
}

/// Which rows of an arrangement a read wants.
pub(crate) struct Scan<'a> {
    /// Only these series, ordered; `None` for all.
    pub(crate) series: Option<&'a [SeriesId]>,
    /// Buckets in `[lower, upper)`.
    pub(crate) lower: EventTime,
    /// See `lower`.
    pub(crate) upper: EventTime,
    /// Rows with a greater version only.
    pub(crate) above: Epoch,
}

type RowCursor = CursorList<BatchCursor<TraceAgent<RowSpine>>>;

impl Arrangement {
    pub(super) fn new(reader: TraceAgent<RowSpine>, inbox: Rc<RefCell<Inbox>>) -> Self {
        Arrangement { reader, inbox }
    }

    /// Lets the arrangement forget distinctions between epochs before `frontier`, and merge its batches.
    pub(crate) fn compact(&mut self, frontier: u64) {
        let frontier = Antichain::from_elem(frontier);
        self.reader.set_logical_compaction(frontier.borrow());
        self.reader.set_physical_compaction(frontier.borrow());
    }

    /// How many updates it holds, those included that merging will drop. Cost: one step a batch, of which there are few.
    pub(crate) fn updates(&mut self) -> usize {
        let batches = self.reader.batches_through(Antichain::new().borrow()).expect("all batches can be read");
        batches.iter().map(|batch| batch.updates).sum()
    }

    /// Reads rows as of now. Cost: the rows of the series asked for, or all rows held.
    pub(crate) fn scan(&mut self, scan: &Scan<'_>, out: &mut Rows) {
        let take = |key: GroupKey, row: &Row, out: &mut Rows| {
            if row.version > scan.above {
                out.push(key, row.clone());
            }
        };
        let (mut cursor, storage) = self.cursor();
        match scan.series {
            None => {
                while let Some(key) = cursor.get_key(&storage).copied() {
                    if key.bucket >= scan.lower && key.bucket < scan.upper {
                        each_row(&mut cursor, &storage, |row| take(key, row, out));
                    }
                    cursor.step_key(&storage);
                }
            }
            Some(series) => {
                for id in series {
                    cursor.seek_key(&storage, &GroupKey { series: *id, bucket: scan.lower });
                    while let Some(key) = cursor.get_key(&storage).copied() {
                        if key.series != *id || key.bucket >= scan.upper {
                            break;
                        }
                        each_row(&mut cursor, &storage, |row| take(key, row, out));
                        cursor.step_key(&storage);
                    }
                }
            }
        }
    }

    /// Reads every row changed after `flushed`, and drops every row at or below `horizon`; returns what stays.
    ///
    /// One pass over the rows held. Dropped rows leave with the next epoch; until then a reader asks for rows above
    /// the horizon only.
    pub(crate) fn flush(&mut self, flushed: Epoch, horizon: Epoch, out: &mut Rows) -> Held {
        let (mut cursor, storage) = self.cursor();
        let patches = &mut self.inbox.borrow_mut().patches;
        let dropping: std::collections::BTreeSet<(GroupKey, Row)> =
            patches.iter().filter(|patch| patch.diff < 0).map(|patch| (patch.key, patch.row.clone())).collect();
        let mut held = Held::default();
        while let Some(key) = cursor.get_key(&storage).copied() {
            each_row(&mut cursor, &storage, |row| {
                if row.version > flushed {
                    out.push(key, row.clone());
                }
                if row.version > horizon {
                    held.rows += 1;
                    held.heap_bytes += row.state.heap_bytes();
                } else {
                    let row = row.retraction();
                    if !dropping.contains(&(key, row.clone())) {
                        patches.push(Patch { key, row, diff: -1 });
                    }
                }
            });
            cursor.step_key(&storage);
        }
        held
    }

    /// Puts rows in, with the next epoch; used at start, with what ClickHouse has above the horizon of `flushed`.
    pub(crate) fn load(&mut self, flushed: Epoch, rows: impl Iterator<Item = (GroupKey, Row)>) {
        let mut inbox = self.inbox.borrow_mut();
        inbox.flushed_at_start = flushed;
        inbox.patches.extend(rows.map(|(key, row)| Patch { key, row, diff: 1 }));
    }

    fn cursor(&mut self) -> (RowCursor, Vec<RowBatch>) {
        cursor_list(self.reader.batches_through(Antichain::new().borrow()).expect("all batches can be read"))
    }
}

/// Calls `visit` for each row of the cursor's key that is there.
fn each_row(cursor: &mut RowCursor, storage: &Vec<RowBatch>, mut visit: impl FnMut(&Row)) {
    while cursor.get_val(storage).is_some() {
        let mut count = 0;
        cursor.map_times(storage, |_, diff| count += diff);
        if count != 0 {
            visit(cursor.get_val(storage).expect("looking at times leaves the cursor where it is"));
        }
        cursor.step_val(storage);
    }
}
