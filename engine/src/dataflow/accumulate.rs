//! `accumulate`: partial states into the rows of an arrangement.
//!
//! ```text
//!  parcels @ epoch ─▶ stash  ─▶ (frontier passes) ─▶ for each touched group:
//!                                                     seek its rows in the arrangement,
//!                                                     merge or begin a generation,
//!                                                     −old row, +new row ─▶ batch ─▶ arrangement, changes
//!  patches (rows loaded at start, rows dropped) ─────────────────────────┘
//! ```
//!
//! # Time
//!
//! A batch covers the epochs between two frontiers. A group that several of them touch gets one change, at the last;
//! the arrangement is exact at each batch's upper bound, and that is where it is read.
//!
//! # Invariants
//!
//! 1. A group's rows have distinct generations, and each row is there once.
//! 2. A row's version grows; an epoch at or below it is in it already and is skipped (replay after a restart).
//! 3. **Idle rule.** A row last changed `K` or more epochs ago is never touched; the event begins a new generation.
//! 4. Only rows at or below the horizon are dropped, and such a row is never touched again (3, as `H ≤ now − K`).
//! 5. Epochs that ClickHouse had at start are skipped whole. This saves work only: rows built anew from them would lie at
//!    or below the horizon, and be shown to nobody.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::{Builder, Cursor, Description, Span, Trace, TraceReader, cursor::cursor_list};
use streamgauge_schemas::{Epoch, GroupKey, Layout, Row, State, View};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::{Antichain, Stamp};

use super::Parcel;
use super::arrangement::{Arrangement, Inbox, RowBatch, RowBuilder, RowSpine};

/// Maintains the rows of a view, and the arrangement that holds them.
///
/// # Contract
///
/// Shape of the arrangement: `(group, row) @ epoch: ±1`. Work per batch is proportional to the groups touched, times
/// the logarithm of the groups held. The stream carries the batches, for operators that want changes.
pub(super) fn accumulate<'scope>(
    parcels: Stream<'scope, u64, Vec<Parcel>>,
    view: &View,
    layout: Arc<Layout>,
) -> (Stream<'scope, u64, Vec<Span<u64, RowBatch>>>, Arrangement) {
    let idle_us = view.definition.options.idle.as_micros() as u64;
    let inbox: Rc<RefCell<Inbox>> = Rc::default();
    let shared = inbox.clone();
    let mut published = None;
    let scope = parcels.scope();
    let changes = parcels.unary_frontier(Pipeline, "accumulate", |capability, info| {
        let activator = Some(scope.activator_for(Rc::clone(&info.address)));
        let (mut reader, mut writer) = TraceAgent::new(RowSpine::new(info.clone(), None, activator), info, None);
        published = Some(reader.clone());
        // Held for the lower bound of the open batch, so a batch can always be sent.
        let mut held: Option<Capability<u64>> = Some(capability);
        let mut lower = 0u64;
        let mut stash: Vec<Parcel> = Vec::new();
        move |(input, frontier), output| {
            input.for_each(|_capability, data| stash.append(data));
            let upper = frontier.frontier().iter().next().copied();
            if upper.is_some_and(|upper| upper <= lower) {
                return; // no progress: nothing is complete yet
            }
            let upper_or_end = upper.unwrap_or(u64::MAX);
            let (due, later): (Vec<_>, Vec<_>) = stash.drain(..).partition(|parcel| parcel.epoch.0 < upper_or_end);
            stash = later;
            let updates =
                Pass { reader: &mut reader, layout: &layout, lower, idle_us }.run(due, &mut inbox.borrow_mut());
            let bounds = (Antichain::from_elem(lower), upper.map(Antichain::from_elem).unwrap_or_default());
            if updates.is_empty() {
                writer.seal(bounds.1.clone());
            } else {
                let capability = held.as_ref().expect("a capability is held for the lower bound of every open batch");
                let batch = seal(updates, bounds.clone());
                writer.insert(batch.clone(), Stamp::from_elem(*capability.time()));
                output.session(capability).give(batch);
            }
            match (held.as_mut(), upper) {
                (Some(capability), Some(upper)) => capability.downgrade(&upper),
                _ => held = None,
            }
            reader.set_logical_compaction(bounds.1.borrow());
            reader.set_physical_compaction(bounds.1.borrow());
            lower = upper_or_end;
            writer.exert();
        }
    });
    let reader = published.expect("the operator's constructor ran");
    (changes, Arrangement::new(reader, shared))
}

type Update = ((GroupKey, Row), u64, isize);

/// Builds a batch from updates ordered by group, row, time.
fn seal(mut updates: Vec<Update>, (lower, upper): (Antichain<u64>, Antichain<u64>)) -> Span<u64, RowBatch> {
    let mut builder = RowBuilder::default();
    builder.push(&mut updates);
    let description = Description::new(lower, upper, Antichain::from_elem(0));
    Span::new(description, builder.done().map(Into::into))
}

/// One pass over the groups that a batch touches.
struct Pass<'a> {
    reader: &'a mut TraceAgent<RowSpine>,
    layout: &'a Layout,
    lower: u64,
    idle_us: u64,
}

impl Pass<'_> {
    /// Turns partial states and patches into updates, ordered by group, row, time, and consolidated.
    fn run(mut self, mut due: Vec<Parcel>, inbox: &mut Inbox) -> Vec<Update> {
        let mut updates: Vec<Update> = Vec::new();
        due.retain(|parcel| parcel.epoch > inbox.flushed_at_start); // invariant 5
        updates.extend(inbox.patches.drain(..).map(|patch| ((patch.key, patch.row), self.lower, patch.diff)));
        let mut touched = order_by_group(due);
        if !touched.is_empty() {
            self.merge(&mut touched, &mut updates);
        }
        differential_dataflow::consolidation::consolidate_updates(&mut updates);
        updates
    }

    fn merge(&mut self, touched: &mut [Touched], updates: &mut Vec<Update>) {
        // Rows patched in the same pass are not in the arrangement yet, so they are kept beside it.
        let mut patched: Vec<(GroupKey, Row, isize)> =
            updates.iter().map(|((key, row), _, diff)| (*key, row.clone(), *diff)).collect();
        patched.sort_unstable();
        let batches = self.reader.batches_through(Antichain::new().borrow()).expect("all batches can be read");
        let (mut cursor, storage) = cursor_list(batches);
        let mut rows: Vec<(Row, isize)> = Vec::new();
        for group in touched.chunk_by_mut(|a, b| a.key == b.key) {
            let (key, time) = (group[0].key, group[group.len() - 1].epoch.0);
            rows.clear();
            cursor.seek_key(&storage, &key);
            if cursor.get_key(&storage) == Some(&key) {
                while let Some(row) = cursor.get_val(&storage) {
                    let mut count = 0;
                    cursor.map_times(&storage, |_, diff| count += diff);
                    rows.push((row.clone(), count));
                    cursor.step_val(&storage);
                }
            }
            let from = patched.partition_point(|(other, ..)| *other < key);
            let mine = patched[from..].iter().take_while(|(other, ..)| *other == key);
            rows.extend(mine.map(|(_, row, diff)| (row.clone(), *diff)));
            let mut current = live_rows(&mut rows);
            for part in group {
                self.apply(&mut current, part);
            }
            for change in current.into_iter().filter(|row| row.changed) {
                updates.extend(change.before.map(|old| ((key, old), time, -1)));
                updates.push(((key, change.row), time, 1));
            }
        }
    }

    /// Merges a batch's partial state of a group into its rows.
    fn apply(&self, rows: &mut Vec<Current>, part: &mut Touched) {
        let epoch = part.epoch;
        // Rows are ordered by generation, so the last that began at or before this epoch is the one that may take it.
        if let Some(current) = rows.iter_mut().rev().find(|current| current.row.generation <= epoch) {
            let row = &mut current.row;
            if epoch <= current.known {
                return; // invariant 2
            }
            if epoch.0 - row.version.0 < self.idle_us || epoch == row.version {
                row.version = epoch;
                self.layout.merge(&mut row.state, &part.state);
                current.changed = true;
                return;
            }
        }
        let row = Row { generation: epoch, version: epoch, state: std::mem::take(&mut part.state) }; // invariant 3
        let at = rows.partition_point(|current| current.row.generation < epoch);
        rows.insert(at, Current { before: None, known: Epoch::ZERO, row, changed: true });
    }
}

/// A row as it was in the arrangement, and as it is now.
struct Current {
    before: Option<Row>,
    /// Epochs at or below are in the row as it was.
    known: Epoch,
    row: Row,
    changed: bool,
}

fn live_rows(rows: &mut Vec<(Row, isize)>) -> Vec<Current> {
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut live: Vec<Current> = Vec::new();
    let mut rows = rows.drain(..).peekable();
    while let Some((row, mut count)) = rows.next() {
        let mut row = row;
        while let Some((same, diff)) = rows.next_if(|(other, _)| *other == row) {
            count += diff;
            if row.state.is_empty() {
                row = same; // a retraction carries no state
            }
        }
        assert!(count == 0 || count == 1, "invariant 1: a row is there once, not {count} times");
        if count == 1 {
            live.push(Current { before: Some(row.retraction()), known: row.version, row, changed: false });
        }
    }
    live
}

/// A batch's partial state of a group.
struct Touched {
    key: GroupKey,
    epoch: Epoch,
    state: State,
}

/// Orders partial states by group, then epoch, then their batch's place in it.
fn order_by_group(mut due: Vec<Parcel>) -> Vec<Touched> {
    due.sort_by_key(|parcel| (parcel.epoch, parcel.batch));
    let mut touched = Vec::with_capacity(due.iter().map(|parcel| parcel.groups.len()).sum());
    let parcels = due.len();
    for Parcel { epoch, groups, .. } in due {
        touched.extend(groups.into_iter().map(|(key, state)| Touched { key, epoch, state }));
    }
    if parcels > 1 {
        touched.sort_by_key(|touched| touched.key); // stable merge of ordered runs
    }
    touched
}
