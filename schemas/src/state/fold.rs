//! Folds: what a view keeps of the events of a group, and how a set of folds lies in a state.

use serde::{Deserialize, Serialize};

use crate::{SchemaError, ValueType};

/// One maintained partial aggregate of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fold {
    /// What is kept.
    pub function: Function,
    /// The place of its argument among those of the view; `None` for what counts rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<u16>,
    /// The type of the argument; [`ValueType::Bool`] for what counts rows.
    pub kind: ValueType,
    /// Of [`Function::First`] and [`Function::Last`]: the place of an argument that must be true for an event to count, since
    /// a null is a value to them. The arguments of all others are null for events that do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<u16>,
}

/// What is kept of an argument. All of these merge: the fold of a union is made from the folds of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// How many values are not null, or how many rows.
    Count,
    /// The sum; of integers it wraps, as DataFusion's does.
    Sum,
    /// The smallest value; a NaN is greater than all numbers.
    Min,
    /// The largest value.
    Max,
    /// Count, mean and sum of squared differences from the mean, of floats.
    Moments,
    /// The value with the least event time; of equal times the one that came first. It may be null.
    First,
    /// The value with the greatest event time; of equal times the one that came last. It may be null.
    Last,
    /// How many distinct values there are, nulls aside.
    Distinct,
    /// A sketch of the distribution of floats; a NaN is left out.
    Quantiles,
    /// The most frequent texts, of which no more than the first [`TOP_TEXT_MAX`] bytes count.
    Top {
        /// How many are wanted.
        k: u32,
    },
}

/// How many bytes of a text tell it from others in [`Function::Top`]; it bounds what a sketch holds.
pub const TOP_TEXT_MAX: usize = 256;

/// Where a fold lies in a state: from a cell on, or as a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Count(usize),
    SumI64(usize),
    SumF64(usize),
    MinI64(usize),
    MaxI64(usize),
    MinF64(usize),
    MaxF64(usize),
    Moments(usize),
    First(usize),
    Last(usize),
    MinText(usize),
    MaxText(usize),
    FirstText(usize),
    LastText(usize),
    Distinct(usize),
    Quantiles(usize),
    Top { at: usize, k: u32 },
}

/// Where something lies.
pub(super) enum Place {
    /// From this cell on.
    Cell(usize),
    /// As this part.
    Part(usize),
}

impl Fold {
    /// A count of rows.
    pub const ROWS: Fold = Fold { function: Function::Count, argument: None, kind: ValueType::Bool, condition: None };

    /// A fold of an argument.
    #[must_use]
    pub const fn of(function: Function, argument: u16, kind: ValueType) -> Self {
        Fold { function, argument: Some(argument), kind, condition: None }
    }
}

impl Slot {
    /// Where it lies.
    pub(super) fn at(self) -> Place {
        match self {
            Slot::Count(at) | Slot::SumI64(at) | Slot::SumF64(at) => Place::Cell(at),
            Slot::MinI64(at) | Slot::MaxI64(at) | Slot::MinF64(at) | Slot::MaxF64(at) => Place::Cell(at),
            Slot::Moments(at) | Slot::First(at) | Slot::Last(at) => Place::Cell(at),
            Slot::MinText(at) | Slot::MaxText(at) | Slot::FirstText(at) | Slot::LastText(at) => Place::Part(at),
            Slot::Distinct(at) | Slot::Quantiles(at) | Slot::Top { at, .. } => Place::Part(at),
        }
    }

    /// How many cells it takes.
    pub(super) fn cells(self) -> usize {
        match self {
            Slot::Count(_) | Slot::SumI64(_) | Slot::SumF64(_) => 1,
            Slot::MinI64(_) | Slot::MaxI64(_) | Slot::MinF64(_) | Slot::MaxF64(_) => 1,
            Slot::Moments(_) | Slot::First(_) | Slot::Last(_) => 3,
            Slot::MinText(_) | Slot::MaxText(_) | Slot::FirstText(_) | Slot::LastText(_) => 0,
            Slot::Distinct(_) | Slot::Quantiles(_) | Slot::Top { .. } => 0,
        }
    }

    /// How many parts it takes.
    pub(super) fn parts(self) -> usize {
        usize::from(self.cells() == 0)
    }
}

/// How the folds of a view lie in its states: fixed-size ones in cells of 64 bits, the others as parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(super) folds: Vec<Fold>,
    pub(super) slots: Vec<Slot>,
    pub(super) cells: usize,
    pub(super) parts: usize,
    /// Whether it is [`SUMMARY`] and nothing else.
    pub(super) is_summary: bool,
}

/// Count, sum, minimum and maximum of floats, as the rollups have them: they merge in one step.
const SUMMARY: [Slot; 4] = [Slot::Count(0), Slot::SumF64(1), Slot::MinF64(2), Slot::MaxF64(3)];

impl Layout {
    /// Lays out folds.
    ///
    /// # Errors
    /// [`SchemaError::Fold`] for a function that is not kept of the argument's type.
    pub fn new(folds: &[Fold]) -> Result<Self, SchemaError> {
        let mut layout = Layout {
            folds: folds.to_vec(),
            slots: Vec::with_capacity(folds.len()),
            cells: 0,
            parts: 0,
            is_summary: false,
        };
        for fold in folds {
            let slot = layout.slot(fold)?;
            layout.cells += slot.cells();
            layout.parts += slot.parts();
            layout.slots.push(slot);
        }
        layout.is_summary = layout.slots == SUMMARY;
        Ok(layout)
    }

    /// The folds, in order.
    #[must_use]
    pub fn folds(&self) -> &[Fold] {
        &self.folds
    }

    /// The layout of some of its folds, in the order given; [`Layout::pick`] makes such states.
    #[must_use]
    pub fn of(&self, folds: &[usize]) -> Layout {
        let folds: Vec<Fold> = folds.iter().map(|fold| self.folds[*fold]).collect();
        Layout::new(&folds).expect("each of them is laid out already")
    }

    fn slot(&self, fold: &Fold) -> Result<Slot, SchemaError> {
        let (cell, part) = (self.cells, self.parts);
        let whole = matches!(fold.kind, ValueType::Bool | ValueType::I64 | ValueType::Time | ValueType::Date);
        Ok(match (fold.function, fold.kind) {
            (Function::Count, _) => Slot::Count(cell),
            (Function::Sum, ValueType::I64) => Slot::SumI64(cell),
            (Function::Sum, ValueType::F64) => Slot::SumF64(cell),
            (Function::Min, _) if whole => Slot::MinI64(cell),
            (Function::Max, _) if whole => Slot::MaxI64(cell),
            (Function::Min, ValueType::F64) => Slot::MinF64(cell),
            (Function::Max, ValueType::F64) => Slot::MaxF64(cell),
            (Function::Moments, ValueType::F64) => Slot::Moments(cell),
            (Function::First, kind) if whole || kind == ValueType::F64 => Slot::First(cell),
            (Function::Last, kind) if whole || kind == ValueType::F64 => Slot::Last(cell),
            (Function::Min, ValueType::Text) => Slot::MinText(part),
            (Function::Max, ValueType::Text) => Slot::MaxText(part),
            (Function::First, ValueType::Text) => Slot::FirstText(part),
            (Function::Last, ValueType::Text) => Slot::LastText(part),
            (Function::Distinct, _) => Slot::Distinct(part),
            (Function::Quantiles, ValueType::F64) => Slot::Quantiles(part),
            (Function::Top { k }, ValueType::Text) => Slot::Top { at: part, k },
            (function, kind) => return Err(SchemaError::Fold { function, kind }),
        })
    }
}
