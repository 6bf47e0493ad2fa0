//! Columns of events to states: one pass over the rows for each fold.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use xxhash_rust::xxh3::xxh3_64;

use super::fold::{Fold, Slot, TOP_TEXT_MAX};
use super::{IS_NULL, IS_VALUE, Layout, NOTHING, Part, State, States, keep_extreme, max_f64, merge_moments, min_f64};
use crate::ValueType;
use crate::value::append_key;

/// The states of the groups of a batch while it is read.
pub struct Accumulator {
    layout: Arc<Layout>,
    /// By group.
    states: States,
    /// The cells and parts of a group without events.
    blank_cells: Vec<u64>,
    blank_parts: Vec<Part>,
}

/// The rows of a batch, by column.
pub struct Events<'a> {
    /// Per row its group, below the number of groups.
    pub groups: &'a [u32],
    /// Per row its event time; needed for the first and the last value only, and may be empty otherwise.
    pub times: &'a [i64],
    /// The arguments, with the types that the folds name.
    pub arguments: &'a [ArrayRef],
}

impl Accumulator {
    /// Makes one without groups.
    #[must_use]
    pub fn new(layout: Arc<Layout>) -> Self {
        let State { cells, parts } = layout.blank();
        let (blank_cells, blank_parts) = (cells.into_vec(), parts.map_or_else(Vec::new, <[Part]>::into_vec));
        let states = States::new(&layout);
        Accumulator { layout, states, blank_cells, blank_parts }
    }

    /// Adds rows to the states of `groups` groups, those of earlier calls included.
    pub fn add(&mut self, groups: usize, events: &Events<'_>) {
        let more = groups.saturating_sub(self.states.len());
        self.states.reserve_exact(more);
        self.states.push_blank(more, &self.blank_cells, &self.blank_parts);
        let layout = self.layout.clone();
        for (fold, slot) in layout.folds.iter().zip(&layout.slots) {
            self.add_fold(fold, *slot, events);
        }
    }

    /// The states of the groups in order; there are none afterwards.
    pub fn take(&mut self) -> States {
        std::mem::replace(&mut self.states, States::new(&self.layout))
    }

    fn add_fold(&mut self, fold: &Fold, slot: Slot, events: &Events<'_>) {
        let width = self.layout.cells;
        let argument = fold.argument.map(|argument| &events.arguments[usize::from(argument)]);
        match (slot, argument) {
            (Slot::Count(at), None) => {
                let cells = self.states.cells_mut();
                events.groups.iter().for_each(|group| cells[*group as usize * width + at] += 1);
            }
            (Slot::Count(at), Some(column)) => {
                let cells = self.states.cells_mut();
                match column.nulls().filter(|nulls| nulls.null_count() > 0) {
                    None => events.groups.iter().for_each(|group| cells[*group as usize * width + at] += 1),
                    Some(nulls) => {
                        for row in nulls.valid_indices() {
                            cells[events.groups[row] as usize * width + at] += 1;
                        }
                    }
                }
            }
            (_, None) => {} // a layout has no such fold: only rows are counted without an argument
            (Slot::SumF64(at), Some(column)) => {
                self.each_f64(column, events, |cells, value| {
                    cells[at] = (f64::from_bits(cells[at]) + value).to_bits();
                });
            }
            (Slot::MinF64(at), Some(column)) => self.each_f64(column, events, |cells, value| {
                cells[at] = min_f64(f64::from_bits(cells[at]), value).to_bits();
            }),
            (Slot::MaxF64(at), Some(column)) => self.each_f64(column, events, |cells, value| {
                cells[at] = max_f64(f64::from_bits(cells[at]), value).to_bits();
            }),
            (Slot::Moments(at), Some(column)) => self.each_f64(column, events, |cells, value| {
                merge_moments(&mut cells[at..at + 3], &[1, value.to_bits(), 0]);
            }),
            (Slot::SumI64(at), Some(column)) => self.each_i64(fold.kind, column, events, |cells, value| {
                cells[at] = cells[at].wrapping_add(value as u64);
            }),
            (Slot::MinI64(at), Some(column)) => self.each_i64(fold.kind, column, events, |cells, value| {
                cells[at] = (cells[at] as i64).min(value) as u64;
            }),
            (Slot::MaxI64(at), Some(column)) => self.each_i64(fold.kind, column, events, |cells, value| {
                cells[at] = (cells[at] as i64).max(value) as u64;
            }),
            (Slot::First(at), Some(column)) => self.each_timed(fold, column, events, at, |time, old| time < old),
            (Slot::Last(at), Some(column)) => self.each_timed(fold, column, events, at, |time, old| time >= old),
            (Slot::MinText(at), Some(column)) => self.each_extreme(column, events, at, Ordering::Less),
            (Slot::MaxText(at), Some(column)) => self.each_extreme(column, events, at, Ordering::Greater),
            (Slot::FirstText(at), Some(column)) => {
                self.each_timed_text(fold, column, events, at, |time, old| time < old)
            }
            (Slot::LastText(at), Some(column)) => {
                self.each_timed_text(fold, column, events, at, |time, old| time >= old)
            }
            (Slot::Distinct(at), Some(column)) => {
                let mut key = Vec::new();
                self.each_part(column, events, at, |part, row| {
                    let Part::Distinct(sketch) = part else { return };
                    key.clear();
                    append_key(&mut key, column, fold.kind, row);
                    sketch.add_hash(xxh3_64(&key));
                });
            }
            (Slot::Quantiles(at), Some(column)) => {
                let values = column.as_primitive::<Float64Type>();
                self.each_part(column, events, at, |part, row| {
                    let Part::Quantiles(sketch) = part else { return };
                    sketch.add(values.value(row));
                });
            }
            (Slot::Top { at, .. }, Some(column)) => {
                let texts = column.as_string::<i32>();
                self.each_part(column, events, at, |part, row| {
                    let Part::Top(sketch) = part else { return };
                    let text = texts.value(row);
                    sketch.add(&text[..text.floor_char_boundary(TOP_TEXT_MAX)], 1);
                });
            }
        }
    }

    /// Calls `fold` with the cells of its group for each value that is not null; −0 counts as 0.
    fn each_f64(&mut self, column: &ArrayRef, events: &Events<'_>, mut fold: impl FnMut(&mut [u64], f64)) {
        let (width, column) = (self.layout.cells, column.as_primitive::<Float64Type>());
        let (values, cells) = (column.values(), self.states.cells_mut());
        let mut add = |row: usize| {
            let from = events.groups[row] as usize * width;
            fold(&mut cells[from..from + width], values[row] + 0.0);
        };
        match column.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => (0..events.groups.len()).for_each(add),
            Some(nulls) => nulls.valid_indices().for_each(&mut add),
        }
    }

    fn each_i64(
        &mut self,
        kind: ValueType,
        column: &ArrayRef,
        events: &Events<'_>,
        mut fold: impl FnMut(&mut [u64], i64),
    ) {
        let width = self.layout.cells;
        let (value, cells) = (integers(kind, column), self.states.cells_mut());
        for row in (0..events.groups.len()).filter(|row| column.is_valid(*row)) {
            let from = events.groups[row] as usize * width;
            fold(&mut cells[from..from + width], value(row));
        }
    }

    fn each_timed(
        &mut self,
        fold: &Fold,
        column: &ArrayRef,
        events: &Events<'_>,
        at: usize,
        wins: impl Fn(i64, i64) -> bool,
    ) {
        let width = self.layout.cells;
        let value: Box<dyn Fn(usize) -> u64> = if fold.kind == ValueType::F64 {
            let column = column.as_primitive::<Float64Type>();
            Box::new(|row| column.value(row).to_bits())
        } else {
            let value = integers(fold.kind, column);
            Box::new(move |row| value(row) as u64)
        };
        let (all, counts) = (self.states.cells_mut(), counts(fold, events));
        for (row, (group, time)) in events.groups.iter().zip(events.times).enumerate().filter(|(row, _)| counts(*row)) {
            let from = *group as usize * width + at;
            let cells = &mut all[from..from + 3];
            if cells[0] == NOTHING || wins(*time, cells[1] as i64) {
                let (what, value) = if column.is_valid(row) { (IS_VALUE, value(row)) } else { (IS_NULL, 0) };
                cells.copy_from_slice(&[what, *time as u64, value]);
            }
        }
    }

    /// Calls `fold` with the part of its group and its row for each value that is not null.
    fn each_part(&mut self, column: &ArrayRef, events: &Events<'_>, at: usize, mut fold: impl FnMut(&mut Part, usize)) {
        let (width, parts) = (self.layout.parts, self.states.parts_mut());
        for row in (0..events.groups.len()).filter(|row| column.is_valid(*row)) {
            fold(&mut parts[events.groups[row] as usize * width + at], row);
        }
    }

    fn each_extreme(&mut self, column: &ArrayRef, events: &Events<'_>, at: usize, wanted: Ordering) {
        let (width, column, parts) = (self.layout.parts, column.as_string::<i32>(), self.states.parts_mut());
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            let Part::Extreme(text) = &mut parts[events.groups[row] as usize * width + at] else { continue };
            let value = column.value(row);
            if text.as_ref().is_none_or(|text| value.cmp(text) == wanted) {
                keep_extreme(text, &Some(value.into()), wanted);
            }
        }
    }

    fn each_timed_text(
        &mut self,
        fold: &Fold,
        column: &ArrayRef,
        events: &Events<'_>,
        at: usize,
        wins: impl Fn(i64, i64) -> bool,
    ) {
        let (width, column, parts) = (self.layout.parts, column.as_string::<i32>(), self.states.parts_mut());
        let counts = counts(fold, events);
        for (row, (group, time)) in events.groups.iter().zip(events.times).enumerate().filter(|(row, _)| counts(*row)) {
            let Part::Timed(value) = &mut parts[*group as usize * width + at] else { continue };
            if value.as_ref().is_none_or(|(old, _)| wins(*time, *old)) {
                *value = Some((*time, column.is_valid(row).then(|| column.value(row).into())));
            }
        }
    }
}

/// Whether the event of a row counts for a fold.
fn counts<'a>(fold: &Fold, events: &Events<'a>) -> Box<dyn Fn(usize) -> bool + 'a> {
    match fold.condition {
        None => Box::new(|_| true),
        Some(argument) => {
            let condition = events.arguments[usize::from(argument)].as_boolean();
            Box::new(|row| condition.is_valid(row) && condition.value(row))
        }
    }
}

/// The values of a column as integers, whose order is that of the values.
fn integers(kind: ValueType, column: &ArrayRef) -> Box<dyn Fn(usize) -> i64 + '_> {
    match kind {
        ValueType::Bool => {
            let column = column.as_boolean();
            Box::new(|row| i64::from(column.value(row)))
        }
        ValueType::Time => {
            let column = column.as_primitive::<TimestampMicrosecondType>();
            Box::new(|row| column.value(row))
        }
        ValueType::Date => {
            let column = column.as_primitive::<Date32Type>();
            Box::new(|row| i64::from(column.value(row)))
        }
        _ => {
            let column = column.as_primitive::<Int64Type>();
            Box::new(|row| column.value(row))
        }
    }
}
