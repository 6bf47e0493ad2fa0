//! State: the mergeable partial aggregates of a group, side by side.
//!
//! ```text
//!  state = cells  [count][sum][min][max]…      64 bits each, four of them without an allocation
//!        + parts  [text][sketch]…              what has no fixed size
//! ```
//!
//! # Layout
//!
//! - [`fold`]: what can be kept, and where it lies in a state.
//! - [`accumulator`]: columns of events to states.
//! - [`columns`]: states as the columns of a table, and back.
//! - [`finish`]: states to results.
//! - [`states`]: many states in two vectors.
//!
//! # Invariants
//!
//! 1. The state of no events has neither cells nor parts; it is the neutral element of [`Layout::merge`].
//! 2. Any other state has all cells and all parts of its view's layout.

pub mod accumulator;
pub mod columns;
pub mod finish;
pub mod fold;
pub mod states;

use std::cmp::Ordering;
use std::sync::Arc;

use smallvec::SmallVec;

pub use accumulator::Accumulator;
pub use finish::{Finish, Output};
pub use fold::{Fold, Function, Layout};
pub use states::States;

use fold::{Place, Slot};

use crate::sketch::{Distinct, Quantiles, Top};

/// Cells of a state that lie in it, without an allocation.
const CELLS_INLINE: usize = 4;

/// The folds of a group's events, by the [`Layout`] of its view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    cells: SmallVec<[u64; CELLS_INLINE]>,
    parts: Option<Box<[Part]>>,
}

/// A fold that has no fixed size.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// The smallest or largest text.
    Extreme(Option<Arc<str>>),
    /// The first or last text with its time; the inner `None` is a null.
    Timed(Option<(i64, Option<Arc<str>>)>),
    /// The number of distinct values.
    Distinct(Distinct),
    /// The distribution of floats.
    Quantiles(Quantiles),
    /// The most frequent texts; apart, so that the other parts are not as large.
    Top(Box<Top>),
}

/// Of First and Last: nothing yet, a null, or a value.
const NOTHING: u64 = 0;
const IS_NULL: u64 = 1;
const IS_VALUE: u64 = 2;

impl State {
    /// The state of no events.
    #[must_use]
    pub fn empty() -> Self {
        State::default()
    }

    /// Whether it is that of no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.parts.is_none()
    }

    /// Bytes that it holds outside of itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let cells = if self.cells.spilled() { self.cells.capacity() * size_of::<u64>() } else { 0 };
        let parts = self.parts.iter().flatten().map(|part| size_of::<Part>() + part.heap_bytes());
        cells + parts.sum::<usize>()
    }

    /// Makes a state of cells that are laid out as `layout` says and has no parts.
    pub(crate) fn of_cells(cells: &[u64]) -> Self {
        State { cells: SmallVec::from_slice(cells), parts: None }
    }

    /// Its cells, as its layout has them.
    pub(crate) fn cells(&self) -> &[u64] {
        &self.cells
    }

    fn part(&self, at: usize) -> Option<&Part> {
        self.parts.as_ref()?.get(at)
    }
}

impl Part {
    /// What a fold without a value is.
    fn of(slot: Slot) -> Part {
        match slot {
            Slot::MinText(_) | Slot::MaxText(_) => Part::Extreme(None),
            Slot::Distinct(_) => Part::Distinct(Distinct::default()),
            Slot::Quantiles(_) => Part::Quantiles(Quantiles::default()),
            Slot::Top { k, .. } => Part::Top(Box::new(Top::new(k))),
            _ => Part::Timed(None),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Part::Extreme(text) => text.as_ref().map_or(0, |text| text.len() + 16),
            Part::Timed(value) => value.as_ref().and_then(|(_, text)| text.as_ref()).map_or(0, |text| text.len() + 16),
            Part::Distinct(sketch) => sketch.heap_bytes(),
            Part::Quantiles(sketch) => sketch.heap_bytes(),
            Part::Top(sketch) => size_of::<Top>() + sketch.heap_bytes(),
        }
    }
}

/// The smallest of floats, a NaN being the greatest of all.
fn min_f64(a: f64, b: f64) -> f64 {
    if a.total_cmp(&b) == Ordering::Greater { b } else { a }
}

/// The largest of floats, a NaN being the greatest of all.
fn max_f64(a: f64, b: f64) -> f64 {
    if a.total_cmp(&b) == Ordering::Less { b } else { a }
}

/// What a cell is before any event: the neutral element of its merge.
const MIN_F64_NONE: f64 = f64::from_bits(0x7fff_ffff_ffff_ffff);
const MAX_F64_NONE: f64 = f64::from_bits(0xffff_ffff_ffff_ffff);

impl Slot {
    /// Writes the neutral element of each of its cells.
    fn clear(self, cells: &mut [u64]) {
        match self {
            Slot::Count(at) | Slot::SumI64(at) => cells[at] = 0,
            Slot::SumF64(at) => cells[at] = 0f64.to_bits(),
            Slot::MinI64(at) => cells[at] = i64::MAX as u64,
            Slot::MaxI64(at) => cells[at] = i64::MIN as u64,
            Slot::MinF64(at) => cells[at] = MIN_F64_NONE.to_bits(),
            Slot::MaxF64(at) => cells[at] = MAX_F64_NONE.to_bits(),
            Slot::Moments(at) | Slot::First(at) | Slot::Last(at) => cells[at..at + 3].fill(0),
            Slot::MinText(_) | Slot::MaxText(_) | Slot::FirstText(_) | Slot::LastText(_) => {}
            Slot::Distinct(_) | Slot::Quantiles(_) | Slot::Top { .. } => {}
        }
    }
}

impl Layout {
    /// Adds the events of `other`, which came after those of `into`.
    ///
    /// Cost: a few instructions a cell, without an allocation unless `into` is empty and there are parts; of sketches what
    /// they themselves cost.
    #[inline]
    pub fn merge(&self, into: &mut State, other: &State) {
        if other.is_empty() {
            return; // invariant 1
        }
        if into.is_empty() {
            into.clone_from(other);
            return;
        }
        self.merge_cells(&mut into.cells, &other.cells);
        if let (Some(parts), Some(others)) = (&mut into.parts, &other.parts) {
            self.merge_parts(parts, others);
        }
    }

    #[inline]
    fn merge_cells(&self, cells: &mut [u64], others: &[u64]) {
        debug_assert_eq!((cells.len(), others.len()), (self.cells, self.cells), "invariant 2");
        if self.is_summary {
            return merge_summary(cells, others);
        }
        for slot in &self.slots {
            match *slot {
                Slot::Count(at) | Slot::SumI64(at) => cells[at] = cells[at].wrapping_add(others[at]),
                Slot::SumF64(at) => cells[at] = (f64::from_bits(cells[at]) + f64::from_bits(others[at])).to_bits(),
                Slot::MinI64(at) => cells[at] = (cells[at] as i64).min(others[at] as i64) as u64,
                Slot::MaxI64(at) => cells[at] = (cells[at] as i64).max(others[at] as i64) as u64,
                Slot::MinF64(at) => {
                    cells[at] = min_f64(f64::from_bits(cells[at]), f64::from_bits(others[at])).to_bits();
                }
                Slot::MaxF64(at) => {
                    cells[at] = max_f64(f64::from_bits(cells[at]), f64::from_bits(others[at])).to_bits();
                }
                Slot::Moments(at) => merge_moments(&mut cells[at..at + 3], &others[at..at + 3]),
                Slot::First(at) => merge_first(&mut cells[at..at + 3], &others[at..at + 3]),
                Slot::Last(at) => merge_last(&mut cells[at..at + 3], &others[at..at + 3]),
                Slot::MinText(_) | Slot::MaxText(_) | Slot::FirstText(_) | Slot::LastText(_) => {}
                Slot::Distinct(_) | Slot::Quantiles(_) | Slot::Top { .. } => {}
            }
        }
    }

    fn merge_parts(&self, parts: &mut [Part], others: &[Part]) {
        self.slots.iter().for_each(|slot| merge_part(*slot, parts, others));
    }
}

impl Layout {
    /// The state of no events with all cells and parts, such as can be written and finished; as neutral as the empty one.
    #[must_use]
    pub fn blank(&self) -> State {
        let mut cells = SmallVec::from_elem(0, self.cells);
        self.slots.iter().for_each(|slot| slot.clear(&mut cells));
        let parts: Vec<Part> = self.slots.iter().filter(|slot| slot.parts() > 0).map(|slot| Part::of(*slot)).collect();
        State { cells, parts: (!parts.is_empty()).then(|| parts.into()) }
    }

    /// The state of some folds of this layout, in the order given, as a layout of these alone has it.
    #[must_use]
    pub fn pick(&self, folds: &[usize], state: &State) -> State {
        if state.is_empty() {
            return State::empty();
        }
        let mut picked = State::empty();
        let mut parts = Vec::new();
        for fold in folds {
            let slot = self.slots[*fold];
            match slot.at() {
                Place::Cell(at) => picked.cells.extend_from_slice(&state.cells[at..at + slot.cells()]),
                Place::Part(at) => parts.extend(state.part(at).cloned()),
            }
        }
        picked.parts = (!parts.is_empty()).then(|| parts.into());
        picked
    }
}

/// What the slots of a summary do, one after the other.
#[inline]
fn merge_summary(cells: &mut [u64], others: &[u64]) {
    let (Some([count, sum, min, max]), [other_count, other_sum, other_min, other_max]) = (cells.as_mut_array(), others)
    else {
        unreachable!("states: invariant 2")
    };
    *count = count.wrapping_add(*other_count);
    *sum = (f64::from_bits(*sum) + f64::from_bits(*other_sum)).to_bits();
    *min = min_f64(f64::from_bits(*min), f64::from_bits(*other_min)).to_bits();
    *max = max_f64(f64::from_bits(*max), f64::from_bits(*other_max)).to_bits();
}

/// Merges counts, means and sums of squared differences; Chan, Golub, LeVeque: *Updating Formulae and a Pairwise
/// Algorithm for Computing Sample Variances* (1979).
fn merge_moments(into: &mut [u64], other: &[u64]) {
    let (n, m) = (into[0] as f64, other[0] as f64);
    if other[0] == 0 {
        return;
    }
    if into[0] == 0 {
        into.copy_from_slice(other);
        return;
    }
    let (mean, other_mean) = (f64::from_bits(into[1]), f64::from_bits(other[1]));
    let delta = other_mean - mean;
    let total = n + m;
    into[0] = into[0].wrapping_add(other[0]);
    into[1] = (mean + delta * m / total).to_bits();
    into[2] = (f64::from_bits(into[2]) + f64::from_bits(other[2]) + delta * delta * n * m / total).to_bits();
}

/// Cells: what there is, its time, its value.
fn merge_first(into: &mut [u64], other: &[u64]) {
    if other[0] != NOTHING && (into[0] == NOTHING || (other[1] as i64) < into[1] as i64) {
        into.copy_from_slice(other);
    }
}

fn merge_last(into: &mut [u64], other: &[u64]) {
    if other[0] != NOTHING && (into[0] == NOTHING || (other[1] as i64) >= into[1] as i64) {
        into.copy_from_slice(other);
    }
}

fn merge_part(slot: Slot, parts: &mut [Part], others: &[Part]) {
    let Place::Part(at) = slot.at() else { return };
    match (slot, &mut parts[at], &others[at]) {
        (Slot::MinText(_), Part::Extreme(text), Part::Extreme(other)) => keep_extreme(text, other, Ordering::Less),
        (Slot::MaxText(_), Part::Extreme(text), Part::Extreme(other)) => keep_extreme(text, other, Ordering::Greater),
        (Slot::FirstText(_), Part::Timed(value), Part::Timed(Some(other)))
            if value.as_ref().is_none_or(|(time, _)| other.0 < *time) =>
        {
            *value = Some(other.clone());
        }
        (Slot::LastText(_), Part::Timed(value), Part::Timed(Some(other)))
            if value.as_ref().is_none_or(|(time, _)| other.0 >= *time) =>
        {
            *value = Some(other.clone());
        }
        (_, Part::Distinct(sketch), Part::Distinct(other)) => sketch.merge(other),
        (_, Part::Quantiles(sketch), Part::Quantiles(other)) => sketch.merge(other),
        (_, Part::Top(sketch), Part::Top(other)) => sketch.merge(other),
        _ => {}
    }
}

/// Keeps the text that is `wanted` (less or greater) of the two.
fn keep_extreme(text: &mut Option<Arc<str>>, other: &Option<Arc<str>>, wanted: Ordering) {
    if let Some(other) = other
        && text.as_ref().is_none_or(|text| other.cmp(text) == wanted)
    {
        *text = Some(other.clone());
    }
}

#[cfg(test)]
mod tests;
