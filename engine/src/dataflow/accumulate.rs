//! `accumulate`: partial states into the rows of a view, and on to those that are fed from it.
//!
//! ```text
//!  parcels @ epoch ─▶ stash  ─▶ (frontier passes) ─▶ each partial state, in the order of the log:
//!                                                     ├─▶ followers
//!                                                     ├─▶ into the group's row, in place,
//!                                                     │   or a new row ─▶ +(group, slot) ┐
//!                                                     └─▶ feeds of the family            │
//!  rows loaded at start, rows removed by a flush ────────────────▶ ±(group, slot) ──────┴▶ young ─▶ arrangement
//! ```
//!
//! States lie in a table, and the arrangement is the index of its rows: it changes when a row comes or goes, and not with
//! every event (decision 14).
//!
//! # Time
//!
//! Each pass covers the epochs between two frontiers. The table, and the arrangement with what is young, are exact at its
//! upper one, and that is where they are read: by commands to the worker, each of which finds it caught up. Those of a view
//! that is fed are when its family has brought what waits for it.
//!
//! # Invariants
//!
//! 1. A row is in the arrangement once, with the slot in which it lies, or is young, or lies by the number of its series.
//! 2. Epochs that ClickHouse had at start are skipped whole. This saves work only: rows built anew from them would lie at
//!    or below the horizon, and be shown to nobody.

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::Trace;
use streamgauge_schemas::Epoch;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};

use super::Parcel;
use super::arrangement::{Arrangement, RowSpine};
use super::family::Family;
use super::held::Held;
use super::partials::{Partials, Spans};
use super::table::Table;
use super::young::Young;

/// What is read of the output is its frontier.
type Nothing = CapacityContainerBuilder<Vec<()>>;

/// Maintains the rows of a view in `table`, and the arrangement that is their index; of a view from which others are fed,
/// also what waits for these.
///
/// # Contract
///
/// Shape of the arrangement: `(group, slot): ±1`. Work per pass is proportional to the partial states in it. The stream
/// carries nothing; its frontier says up to where all is in the table.
pub(super) fn accumulate<'scope>(
    parcels: Stream<'scope, u64, Vec<Parcel>>,
    table: Table,
    family: Rc<RefCell<Option<Family>>>,
) -> (Stream<'scope, u64, Vec<()>>, Arrangement) {
    let mut published = None;
    let scope = parcels.scope();
    let done = parcels.unary_frontier(Pipeline, "accumulate", |capability, info| {
        let activator = Some(scope.activator_for(Rc::clone(&info.address)));
        let (reader, writer) = TraceAgent::new(RowSpine::new(info.clone(), None, activator), info, None);
        let held = Rc::new(RefCell::new(Held::new(table, Young::new(writer))));
        published = Some((reader, held.clone()));
        // Held as long as something may come, so that it is seen how far this is.
        let mut capability = Some(capability);
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
            pass(due, Epoch(upper_or_end - 1), &held, family.borrow_mut().as_mut());
            match (capability.as_mut(), upper) {
                (Some(capability), Some(upper)) => capability.downgrade(&upper),
                _ => capability = None,
            }
            lower = upper_or_end;
        }
    });
    let (reader, held) = published.expect("the operator's constructor ran");
    (done, Arrangement::new(reader, held))
}

/// Merges what is due, in the order of the log; nothing up to the epoch `last` comes any more.
fn pass(mut due: Vec<Parcel>, last: Epoch, held: &RefCell<Held>, mut family: Option<&mut Family>) {
    due.sort_by_key(|parcel| (parcel.epoch, parcel.batch));
    for parcel in &due {
        let Parcel { epoch, batch, groups, .. } = parcel;
        let numbers = family.as_mut().map(|family| family.number(parcel));
        let (keys, spans, states) = (groups.keys.as_slice(), Spans::One(*epoch), &groups.states);
        held.borrow_mut().take(&Partials { keys, spans, states, numbers }, Some((*epoch, *batch))); // invariant 2
        if let Some(family) = &mut family {
            family.feed(parcel);
        }
    }
    held.borrow_mut().passed(last);
    if let Some(family) = family {
        family.passed(last);
    }
}
