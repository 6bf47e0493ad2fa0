//! `accumulate`: partial states into the rows of an arrangement.
//!
//! ```text
//!  partials @ epoch ─▶ stash ─▶ (frontier passes) ─▶ for each touched group:
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

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::{Builder, Cursor, Description, Span, Trace, TraceReader, cursor::cursor_list};
use streamgauge_schemas::{Epoch, GroupKey, Row, State, ViewDefinition};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::{Antichain, Stamp};

use super::Partials;
use super::arrangement::{Arrangement, Inbox, RowBatch, RowBuilder, RowSpine};

/// Maintains the rows of a view, and the arrangement that holds them.
///
/// # Contract
///
/// Shape of the arrangement: `(group, row) @ epoch: ±1`. Work per batch is proportional to the groups touched, times
/// the logarithm of the groups held. The stream carries the batches, for operators that want changes.
pub(super) fn accumulate<'scope>(
    partials: Stream<'scope, u64, Vec<Partials>>,
    definition: &ViewDefinition,
) -> (Stream<'scope, u64, Vec<Span<u64, RowBatch>>>, Arrangement) {
    let idle_us = definition.idle.as_micros() as u64;
    let inbox: Rc<RefCell<Inbox>> = Rc::default();
    let shared = inbox.clone();
    let mut published = None;
    let scope = partials.scope();
    let changes = partials.unary_frontier(Pipeline, &definition.name, |capability, info| {
        let activator = Some(scope.activator_for(Rc::clone(&info.address)));
        let (mut reader, mut writer) = TraceAgent::new(RowSpine::new(info.clone(), None, activator), info, None);
        published = Some(reader.clone());
        // Held for the lower bound of the open batch, so a batch can always be sent.
        let mut held: Option<Capability<u64>> = Some(capability);
        let mut lower = 0u64;
        let mut stash: Vec<Partials> = Vec::new();
        move |(input, frontier), output| {
            input.for_each(|_capability, data| stash.append(data));
            let upper = frontier.frontier().iter().next().copied();
            if upper.is_some_and(|upper| upper <= lower) {
                return; // no progress: nothing is complete yet
            }
            let upper_or_end = upper.unwrap_or(u64::MAX);
            let (due, later): (Vec<_>, Vec<_>) = stash.drain(..).partition(|p| p.epoch.0 < upper_or_end);
            stash = later;
            let updates = Pass { reader: &mut reader, lower, idle_us }.run(due, &mut inbox.borrow_mut());
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
    lower: u64,
    idle_us: u64,
}

impl Pass<'_> {
    /// Turns partial states and patches into updates, ordered by group, row, time, and consolidated.
    fn run(mut self, mut due: Vec<Partials>, inbox: &mut Inbox) -> Vec<Update> {
        let mut updates: Vec<Update> = Vec::new();
        due.retain(|partials| partials.epoch > inbox.flushed_at_start); // invariant 5
        updates.extend(inbox.patches.drain(..).map(|patch| ((patch.key, patch.row), self.lower, patch.diff)));
        let touched = merge_by_group(due);
        if !touched.is_empty() {
            self.merge(&touched, &mut updates);
        }
        updates.sort_unstable();
        differential_dataflow::consolidation::consolidate_updates(&mut updates);
        updates
    }

    fn merge(&mut self, touched: &[(GroupKey, Epoch, State)], updates: &mut Vec<Update>) {
        // Rows patched in the same pass are not in the arrangement yet, so they are kept beside it.
        let mut patched: Vec<(GroupKey, Row, isize)> =
            updates.iter().map(|((key, row), _, diff)| (*key, *row, *diff)).collect();
        patched.sort_unstable();
        let batches = self.reader.batches_through(Antichain::new().borrow()).expect("all batches can be read");
        let (mut cursor, storage) = cursor_list(batches);
        let mut rows: Vec<(Row, isize)> = Vec::new();
        for group in touched.chunk_by(|a, b| a.0 == b.0) {
            let key = group[0].0;
            rows.clear();
            cursor.seek_key(&storage, &key);
            if cursor.get_key(&storage) == Some(&key) {
                while let Some(row) = cursor.get_val(&storage) {
                    let mut count = 0;
                    cursor.map_times(&storage, |_, diff| count += diff);
                    rows.push((*row, count));
                    cursor.step_val(&storage);
                }
            }
            let from = patched.partition_point(|(other, ..)| *other < key);
            rows.extend(
                patched[from..].iter().take_while(|(other, ..)| *other == key).map(|(_, row, diff)| (*row, *diff)),
            );
            let mut current = live_rows(&mut rows);
            for (_, epoch, state) in group {
                apply(&mut current, *epoch, state, self.idle_us);
            }
            let time = group[group.len() - 1].1.0;
            for change in current.iter().filter(|row| row.changed) {
                updates.extend(change.before.map(|old| ((key, old), time, -1)));
                updates.push(((key, change.row), time, 1));
            }
        }
    }
}

/// A row as it was in the arrangement, and as it is now.
struct Current {
    before: Option<Row>,
    row: Row,
    changed: bool,
}

fn live_rows(rows: &mut [(Row, isize)]) -> Vec<Current> {
    rows.sort_unstable();
    let mut live: Vec<Current> = Vec::new();
    for same in rows.chunk_by(|a, b| a.0 == b.0) {
        let count: isize = same.iter().map(|(_, diff)| diff).sum();
        assert!(count == 0 || count == 1, "invariant 1: a row is there once, not {count} times");
        if count == 1 {
            live.push(Current { before: Some(same[0].0), row: same[0].0, changed: false });
        }
    }
    live
}

/// Merges one epoch's partial state of a group into its rows.
fn apply(rows: &mut Vec<Current>, epoch: Epoch, state: &State, idle_us: u64) {
    // Rows are ordered by generation, so the last that began at or before this epoch is the one that may take it.
    if let Some(current) = rows.iter_mut().rev().find(|current| current.row.generation <= epoch) {
        let row = &mut current.row;
        if epoch <= row.version {
            return; // invariant 2
        }
        if epoch.0 - row.version.0 < idle_us {
            row.version = epoch;
            row.state.merge(state);
            current.changed = true;
            return;
        }
    }
    let row = Row { generation: epoch, version: epoch, state: *state }; // invariant 3
    let at = rows.partition_point(|current| current.row.generation < epoch);
    rows.insert(at, Current { before: None, row, changed: true });
}

/// Orders the partial states of several epochs by group, then epoch.
fn merge_by_group(due: Vec<Partials>) -> Vec<(GroupKey, Epoch, State)> {
    let total = due.iter().map(|partials| partials.groups.len()).sum();
    let mut touched = Vec::with_capacity(total);
    for partials in &due {
        touched.extend(partials.groups.iter().map(|(key, state)| (*key, partials.epoch, *state)));
    }
    if due.len() > 1 {
        touched.sort_by_key(|(key, epoch, _)| (*key, *epoch)); // stable merge of ordered runs
    }
    touched
}
