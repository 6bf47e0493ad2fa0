//! `accumulate`: partial states into the rows of a view.
//!
//! ```text
//!  parcels @ epoch ─▶ stash  ─▶ (frontier passes) ─▶ each partial state, in the order of the log:
//!                                                     into the group's row, in place,
//!                                                     or a new row ─▶ +(group, slot) ┐
//!  rows loaded at start, rows removed by a flush ────────────────▶ ±(group, slot) ──┴▶ young ─▶ arrangement
//! ```
//!
//! States lie in a [`Table`], and the arrangement is the index of its rows: it changes when a row comes or goes, and not with
//! every event (decision 14).
//!
//! # Time
//!
//! Each pass covers the epochs between two frontiers. The table, and the arrangement with what is young, are exact at its
//! upper one, and that is where they are read: by commands to the worker, each of which finds it caught up.
//!
//! # Invariants
//!
//! 1. A row is in the arrangement once, with the slot in which it lies, or is young.
//! 2. Epochs that ClickHouse had at start are skipped whole. This saves work only: rows built anew from them would lie at
//!    or below the horizon, and be shown to nobody.

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::{Trace, TraceReader};
use streamgauge_schemas::Epoch;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};
use timely::progress::Antichain;

use super::Parcel;
use super::arrangement::{Arrangement, Inbox, RowSpine};
use super::family::Families;
use super::table::Table;
use super::young::Young;

/// What is read of the output is its frontier.
type Nothing = CapacityContainerBuilder<Vec<()>>;

/// Maintains the rows of a view in `table`, and the arrangement that is their index.
///
/// # Contract
///
/// Shape of the arrangement: `(group, slot) @ epoch: ±1`. Work per pass is proportional to the partial states in it. The
/// stream carries nothing; its frontier says up to where all is in the table.
pub(super) fn accumulate<'scope>(
    parcels: Stream<'scope, u64, Vec<Parcel>>,
    table: Table,
    families: Rc<RefCell<Families>>,
) -> (Stream<'scope, u64, Vec<()>>, Arrangement) {
    let table = Rc::new(RefCell::new(table));
    let inbox: Rc<RefCell<Inbox>> = Rc::default();
    let (rows, shared) = (table.clone(), inbox.clone());
    let mut published = None;
    let scope = parcels.scope();
    let done = parcels.unary_frontier(Pipeline, "accumulate", |capability, info| {
        let activator = Some(scope.activator_for(Rc::clone(&info.address)));
        let (mut reader, writer) = TraceAgent::new(RowSpine::new(info.clone(), None, activator), info, None);
        let young = Rc::new(RefCell::new(Young::new(writer)));
        published = Some((reader.clone(), young.clone()));
        // Held as long as something may come, so that it is seen how far this is.
        let mut held: Option<Capability<u64>> = Some(capability);
        let mut lower = 0u64;
        let mut stash: Vec<Parcel> = Vec::new();
        move |(input, frontier), _nothing: &mut OutputBuilderSession<'_, u64, Nothing>| {
            input.for_each(|_capability, data| stash.append(data));
            let upper = frontier.frontier().iter().next().copied();
            if upper.is_some_and(|upper| upper <= lower) {
                return; // no progress: nothing is complete yet
            }
            let upper_or_end = upper.unwrap_or(u64::MAX);
            let (due, later): (Vec<_>, Vec<_>) = stash.drain(..).partition(|parcel| parcel.epoch.0 < upper_or_end);
            stash = later;
            let (mut rows, mut young) = (rows.borrow_mut(), young.borrow_mut());
            pass(due, lower, &mut rows, &mut inbox.borrow_mut(), &mut families.borrow_mut(), &mut young);
            rows.passed(Epoch(upper_or_end - 1));
            let frontier = upper.map(Antichain::from_elem).unwrap_or_default();
            reader.set_logical_compaction(frontier.borrow());
            reader.set_physical_compaction(frontier.borrow());
            young.reach(frontier, rows.len());
            match (held.as_mut(), upper) {
                (Some(capability), Some(upper)) => capability.downgrade(&upper),
                _ => held = None,
            }
            lower = upper_or_end;
        }
    });
    let (reader, young) = published.expect("the operator's constructor ran");
    (done, Arrangement::new(reader, table, shared, young))
}

/// Merges what is due, in the order of the log.
fn pass(
    mut due: Vec<Parcel>,
    lower: u64,
    table: &mut Table,
    inbox: &mut Inbox,
    families: &mut Families,
    young: &mut Young,
) {
    // Slots that a flush has freed may be given out again from here on, since their rows leave the arrangement now.
    inbox.removed.drain(..).for_each(|row| young.push(row, lower, -1));
    inbox.loaded.drain(..).for_each(|(key, row)| young.push((key, table.load(key, &row)), lower, 1));
    due.retain(|parcel| parcel.epoch > inbox.flushed_at_start); // invariant 2
    due.sort_by_key(|parcel| (parcel.epoch, parcel.batch));
    for Parcel { owner, epoch, groups, .. } in &due {
        let hints = families.hints(groups, *owner);
        table.apply_all(*epoch, &groups.keys, &groups.states, hints, |key, slot| young.push((key, slot), epoch.0, 1));
    }
}
