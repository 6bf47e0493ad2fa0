//! Reading the rows of a view: filtered for a query, or what a flush must write.

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::implementations::Vector;
use differential_dataflow::trace::implementations::ord_neu::{OrdValBatch, OrdValBuilder};
use differential_dataflow::trace::implementations::spine_fueled::Spine;
use differential_dataflow::trace::{BatchCursor, Cursor, TraceReader, cursor::CursorList, cursor::cursor_list};
use streamgauge_schemas::{Epoch, EventTime, GroupKey, Row, Rows, SeriesId};
use timely::progress::Antichain;

use super::family::Family;
use super::held::Held;
use super::table::Slot;

type Layout = Vector<((GroupKey, Slot), u64, isize)>;
pub(super) type RowBatch = Rc<OrdValBatch<Layout>>;
pub(super) type RowSpine = Spine<RowBatch>;
pub(super) type RowBuilder = OrdValBuilder<Layout, Vec<((GroupKey, Slot), u64, isize)>>;

/// The rows of one view that one worker holds in memory, and their index by group.
pub(crate) struct Arrangement {
    reader: TraceAgent<RowSpine>,
    held: Rc<RefCell<Held>>,
}

/// Which rows a read wants.
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

impl Scan<'_> {
    /// Whether it wants rows of that bucket.
    pub(super) fn holds(&self, bucket: EventTime) -> bool {
        (self.lower..self.upper).contains(&bucket)
    }
}

/// About how many bytes a row takes in the arrangement: group, slot, time and difference, in vectors that have room to grow
/// and are copied when batches merge.
const INDEX_BYTES: usize = 2 * size_of::<(GroupKey, Slot, u64, isize)>();

type RowCursor = CursorList<BatchCursor<TraceAgent<RowSpine>>>;

impl Arrangement {
    pub(super) fn new(reader: TraceAgent<RowSpine>, held: Rc<RefCell<Held>>) -> Self {
        Arrangement { reader, held }
    }

    /// What it has, and its followers.
    pub(crate) fn held(&self) -> &Rc<RefCell<Held>> {
        &self.held
    }

    /// Lets the index forget distinctions between its steps, and merge its batches.
    pub(crate) fn compact(&mut self) {
        let step = Antichain::from_elem(self.held.borrow().young.step());
        self.reader.set_logical_compaction(step.borrow());
        self.reader.set_physical_compaction(step.borrow());
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.held.borrow().table.len()
    }

    /// About how many bytes they and their index take.
    pub(crate) fn bytes(&self) -> usize {
        let Held { table, young, .. } = &*self.held.borrow();
        table.bytes() + table.slots() * INDEX_BYTES + young.bytes()
    }

    /// Reads rows as of now, those of a group by generation; `family` is that of the view, if it has one. Cost: the rows of the
    /// series asked for, or all rows held.
    pub(crate) fn scan(&mut self, scan: &Scan<'_>, family: Option<&Family>, out: &mut Rows) {
        let (mut cursor, storage) = self.cursor();
        let table = &self.held.borrow().table;
        table.visit_current(scan, family, |key, row| out.push(key, row));
        let mut rows: Vec<Row> = Vec::new();
        let mut take = |cursor: &mut RowCursor, key: GroupKey| {
            each_slot(cursor, &storage, |slot| rows.extend(table.get(slot, scan.above)));
            rows.sort_unstable(); // by generation: that is the order in which they merge, and slots have none
            rows.drain(..).for_each(|row| out.push(key, row));
        };
        match scan.series {
            None => {
                while let Some(key) = cursor.get_key(&storage).copied() {
                    if scan.holds(key.bucket) {
                        take(&mut cursor, key);
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
                        take(&mut cursor, key);
                        cursor.step_key(&storage);
                    }
                }
            }
        }
    }

    /// Reads every row changed after `flushed`, and removes every row at or below `horizon`; returns the newest bucket of
    /// those.
    ///
    /// One pass over the chunks of the table, and over the versions of those in which something is to be done.
    pub(crate) fn flush(&mut self, flushed: Epoch, horizon: Epoch, out: &mut Rows) -> Option<EventTime> {
        self.held.borrow_mut().flush(flushed, horizon, out)
    }

    /// Puts in what ClickHouse has above the horizon of `flushed`, in rows up to the version `known`; used at start.
    pub(crate) fn load(&mut self, flushed: Epoch, known: Epoch, rows: impl Iterator<Item = (GroupKey, Row)>) {
        self.held.borrow_mut().load(flushed, known, rows);
    }

    fn cursor(&mut self) -> (RowCursor, Vec<RowBatch>) {
        self.held.borrow_mut().young.settle();
        cursor_list(self.reader.batches_through(Antichain::new().borrow()).expect("all batches can be read"))
    }
}

/// Calls `visit` for each slot of the cursor's key that is there.
fn each_slot(cursor: &mut RowCursor, storage: &Vec<RowBatch>, mut visit: impl FnMut(Slot)) {
    while let Some(slot) = cursor.get_val(storage).copied() {
        let mut count = 0;
        cursor.map_times(storage, |_, diff| count += diff);
        if count != 0 {
            visit(slot);
        }
        cursor.step_val(storage);
    }
}
