//! `accumulate`: partial states into the rows of a view.
//!
//! ```text
//!  parcels @ epoch ─▶ stash  ─▶ (frontier passes) ─▶ each partial state, in the order of the log:
//!                                                     into the group's row, in place,
//!                                                     or a new row ─▶ +(group, slot) ┐
//!  rows loaded at start, rows removed by a flush ────────────────▶ ±(group, slot) ──┴▶ batch ─▶ arrangement
//! ```
//!
//! States lie in a [`Table`], and the arrangement is the index of its rows: it changes when a row comes or goes, and not with
//! every event (decision 14).
//!
//! # Time
//!
//! A batch covers the epochs between two frontiers. Table and arrangement are exact at each batch's upper bound, and that
//! is where they are read: by commands to the worker, each of which finds it caught up.
//!
//! # Invariants
//!
//! 1. A row is in the arrangement once, with the slot in which it lies.
//! 2. Epochs that ClickHouse had at start are skipped whole. This saves work only: rows built anew from them would lie at
//!    or below the horizon, and be shown to nobody.

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::{Builder, Description, Span, Trace, TraceReader};
use streamgauge_schemas::{Epoch, GroupKey};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::{Antichain, Stamp};

use super::Parcel;
use super::arrangement::{Arrangement, Inbox, RowBatch, RowBuilder, RowSpine};
use super::family::Families;
use super::table::{Slot, Table};

/// Maintains the rows of a view in `table`, and the arrangement that is their index.
///
/// # Contract
///
/// Shape of the arrangement: `(group, slot) @ epoch: ±1`. Work per batch is proportional to the partial states in it. The
/// stream carries the batches of the arrangement.
pub(super) fn accumulate<'scope>(
    parcels: Stream<'scope, u64, Vec<Parcel>>,
    table: Table,
    families: Rc<RefCell<Families>>,
) -> (Stream<'scope, u64, Vec<Span<u64, RowBatch>>>, Arrangement) {
    let table = Rc::new(RefCell::new(table));
    let inbox: Rc<RefCell<Inbox>> = Rc::default();
    let (rows, shared) = (table.clone(), inbox.clone());
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
            let updates = pass(due, lower, &mut rows.borrow_mut(), &mut inbox.borrow_mut(), &mut families.borrow_mut());
            rows.borrow_mut().passed(Epoch(upper_or_end - 1));
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
    (changes, Arrangement::new(reader, table, shared))
}

type Update = ((GroupKey, Slot), u64, isize);

/// Builds a batch from updates ordered by group, slot, time.
fn seal(mut updates: Vec<Update>, (lower, upper): (Antichain<u64>, Antichain<u64>)) -> Span<u64, RowBatch> {
    let mut builder = RowBuilder::default();
    builder.push(&mut updates);
    let description = Description::new(lower, upper, Antichain::from_elem(0));
    Span::new(description, builder.done().map(Into::into))
}

/// Merges what is due; returns which rows came and went, ordered by group, slot, time, and consolidated.
fn pass(
    mut due: Vec<Parcel>,
    lower: u64,
    table: &mut Table,
    inbox: &mut Inbox,
    families: &mut Families,
) -> Vec<Update> {
    // Slots that a flush has freed may be given out again from here on, since their rows leave the arrangement now.
    let mut updates: Vec<Update> = inbox.removed.drain(..).map(|row| (row, lower, -1)).collect();
    updates.extend(inbox.loaded.drain(..).map(|(key, row)| ((key, table.load(key, &row)), lower, 1)));
    due.retain(|parcel| parcel.epoch > inbox.flushed_at_start); // invariant 2
    due.sort_by_key(|parcel| (parcel.epoch, parcel.batch));
    for Parcel { owner, epoch, groups, .. } in &due {
        let hints = families.hints(groups, *owner);
        let began = |key, slot| updates.push(((key, slot), epoch.0, 1));
        table.apply_all(*epoch, &groups.keys, &groups.states, hints, began);
    }
    differential_dataflow::consolidation::consolidate_updates(&mut updates);
    updates
}
