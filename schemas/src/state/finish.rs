//! Results: what a query sees of a state.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, StringBuilder, TimestampMicrosecondArray,
};
use serde::{Deserialize, Serialize};

use super::fold::{Place, Slot};
use super::{IS_VALUE, Layout, Part, State};
use crate::ValueType;
use crate::sketch::{Distinct, Top};

/// What a panic says when a result is of another fold than it can be.
const MADE_FOR: &str = "the planner makes a result for the fold that it is of";

/// A result of a view: a column that is made of its folds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The call as it was written, such as `avg(value)`; each result of a view has another.
    pub name: String,
    /// How it is made.
    pub finish: Finish,
    /// Its type.
    pub kind: ValueType,
    /// Whether it may be null.
    pub nullable: bool,
}

/// How a result is made; the numbers are places of folds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// A count as it is.
    Count(usize),
    /// A sum, minimum or maximum; null when nothing was counted by the fold `count`.
    Value {
        /// The fold.
        fold: usize,
        /// The count of its argument.
        count: usize,
    },
    /// A sum over a count; null when that is zero.
    Mean {
        /// The sum, of floats or of integers.
        sum: usize,
        /// The count.
        count: usize,
    },
    /// The variance or, as its root, the standard deviation.
    Spread {
        /// The moments.
        fold: usize,
        /// Whether of a sample (over n − 1; null below two values) or of all (over n; null below one).
        sample: bool,
        /// Whether the root is taken.
        root: bool,
    },
    /// A first, last, smallest or largest value that knows by itself whether it is null.
    Held(usize),
    /// How many distinct values there are; an estimate when they are many.
    Distinct(usize),
    /// Whether that is the exact number.
    DistinctIsExact(usize),
    /// The value at a rank, within 1 %; null of no values.
    Quantile {
        /// The sketch of the distribution.
        fold: usize,
        /// The rank, from 0 (the least) to 1 (the greatest).
        q: f64,
    },
    /// The most frequent texts as an array in JSON, most frequent first, equal ones by text: `value`, its `count`, and
    /// the `error` that this is too high by at most.
    Top {
        /// The sketch of texts.
        fold: usize,
        /// How many texts at most.
        k: u32,
    },
}

impl Finish {
    /// The places of the folds that it is made of; the two may be one.
    #[must_use]
    pub fn folds(self) -> [usize; 2] {
        match self {
            Finish::Value { fold, count } => [fold, count],
            Finish::Mean { sum, count } => [sum, count],
            Finish::Count(fold) | Finish::Held(fold) | Finish::Distinct(fold) | Finish::DistinctIsExact(fold) => {
                [fold, fold]
            }
            Finish::Spread { fold, .. } | Finish::Quantile { fold, .. } | Finish::Top { fold, .. } => [fold, fold],
        }
    }
}

impl Output {
    /// The same result in the layout of `folds`, which are those of this one that are kept; see [`Layout::of`].
    #[must_use]
    pub fn among(&self, folds: &[usize]) -> Output {
        let place = |fold| folds.iter().position(|other| *other == fold).expect("its folds are among them");
        let finish = match self.finish {
            Finish::Count(fold) => Finish::Count(place(fold)),
            Finish::Value { fold, count } => Finish::Value { fold: place(fold), count: place(count) },
            Finish::Mean { sum, count } => Finish::Mean { sum: place(sum), count: place(count) },
            Finish::Spread { fold, sample, root } => Finish::Spread { fold: place(fold), sample, root },
            Finish::Held(fold) => Finish::Held(place(fold)),
            Finish::Distinct(fold) => Finish::Distinct(place(fold)),
            Finish::DistinctIsExact(fold) => Finish::DistinctIsExact(place(fold)),
            Finish::Quantile { fold, q } => Finish::Quantile { fold: place(fold), q },
            Finish::Top { fold, k } => Finish::Top { fold: place(fold), k },
        };
        Output { finish, ..self.clone() }
    }
}

/// A text among the most frequent ones.
#[derive(Serialize)]
struct Frequent<'a> {
    value: &'a str,
    count: u64,
    error: u64,
}

impl Layout {
    /// The results of states, as a column of the type of `output`.
    #[must_use]
    pub fn finish<'a>(&self, output: &Output, states: impl Iterator<Item = &'a State> + Clone) -> ArrayRef {
        match output.finish {
            Finish::Count(fold) => {
                let at = self.cell(fold);
                Arc::new(Int64Array::from_iter_values(states.map(|state| state.cells[at] as i64)))
            }
            Finish::Value { fold, count } => {
                let (at, count) = (self.cell(fold), self.cell(count));
                let value = |state: &State| (state.cells[count] > 0).then(|| state.cells[at]);
                column(output.kind, states.map(value))
            }
            Finish::Mean { sum, count } => {
                let (at, count) = (self.cell(sum), self.cell(count));
                let whole = matches!(self.slots[sum], Slot::SumI64(_));
                let mean = |state: &State| {
                    let (sum, count) = (state.cells[at], state.cells[count]);
                    let sum = if whole { sum as i64 as f64 } else { f64::from_bits(sum) };
                    (count > 0).then(|| sum / count as f64)
                };
                Arc::new(states.map(mean).collect::<Float64Array>())
            }
            Finish::Spread { fold, sample, root } => {
                let at = self.cell(fold);
                let spread = |state: &State| {
                    let (count, m2) = (state.cells[at], f64::from_bits(state.cells[at + 2]));
                    let over = count.saturating_sub(u64::from(sample));
                    let variance = (over > 0).then(|| m2 / over as f64)?;
                    Some(if root { variance.sqrt() } else { variance })
                };
                Arc::new(states.map(spread).collect::<Float64Array>())
            }
            Finish::Held(fold) => self.held(fold, output.kind, states),
            Finish::Distinct(fold) => {
                Arc::new(Int64Array::from_iter_values(states.map(|state| self.distinct(fold, state).estimate() as i64)))
            }
            Finish::DistinctIsExact(fold) => {
                Arc::new(states.map(|state| Some(self.distinct(fold, state).is_exact())).collect::<BooleanArray>())
            }
            Finish::Quantile { fold, q } => {
                let quantile = |state: &State| match self.sketch(fold, state) {
                    Part::Quantiles(sketch) => sketch.quantile(q),
                    part => unreachable!("{MADE_FOR}: {part:?}"),
                };
                Arc::new(states.map(quantile).collect::<Float64Array>())
            }
            Finish::Top { fold, k } => {
                let mut texts = StringBuilder::new();
                for state in states {
                    let Part::Top(sketch) = self.sketch(fold, state) else { unreachable!("{MADE_FOR}: no texts") };
                    texts.append_value(top_json(sketch, k));
                }
                Arc::new(texts.finish())
            }
        }
    }

    /// The part of a fold in a state that is not empty.
    fn sketch<'a>(&self, fold: usize, state: &'a State) -> &'a Part {
        match self.slots[fold].at() {
            Place::Part(at) => state.part(at).expect("invariant 2: it has all parts"),
            Place::Cell(_) => unreachable!("{MADE_FOR}: a fold of fixed size"),
        }
    }

    fn distinct<'a>(&self, fold: usize, state: &'a State) -> &'a Distinct {
        match self.sketch(fold, state) {
            Part::Distinct(sketch) => sketch,
            part => unreachable!("{MADE_FOR}: {part:?}"),
        }
    }

    fn held<'a>(&self, fold: usize, kind: ValueType, states: impl Iterator<Item = &'a State>) -> ArrayRef {
        match self.slots[fold] {
            Slot::First(at) | Slot::Last(at) => {
                column(kind, states.map(|state| (state.cells[at] == IS_VALUE).then(|| state.cells[at + 2])))
            }
            Slot::MinText(at) | Slot::MaxText(at) | Slot::FirstText(at) | Slot::LastText(at) => {
                let mut texts = StringBuilder::new();
                for state in states {
                    texts.append_option(match state.part(at) {
                        Some(Part::Extreme(text)) => text.as_deref(),
                        Some(Part::Timed(Some((_, text)))) => text.as_deref(),
                        _ => None,
                    });
                }
                Arc::new(texts.finish())
            }
            slot => unreachable!("the planner never asks {slot:?} for a value that it does not hold"),
        }
    }

    /// The first cell of a fold of fixed size.
    fn cell(&self, fold: usize) -> usize {
        self.slots[..fold].iter().map(|slot| slot.cells()).sum()
    }
}

fn top_json(sketch: &Top, k: u32) -> String {
    let top = sketch.top(k as usize);
    let top: Vec<Frequent<'_>> =
        top.iter().map(|(value, count, error)| Frequent { value, count: *count, error: *error }).collect();
    serde_json::to_string(&top).expect("texts and numbers can be written")
}

/// A column of cells.
fn column(kind: ValueType, cells: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    let integers = |cells: Option<u64>| cells.map(|cell| cell as i64);
    match kind {
        ValueType::Bool => Arc::new(cells.map(|cell| cell.map(|cell| cell != 0)).collect::<BooleanArray>()),
        ValueType::F64 => Arc::new(cells.map(|cell| cell.map(f64::from_bits)).collect::<Float64Array>()),
        ValueType::Time => Arc::new(cells.map(integers).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        ValueType::Date => Arc::new(cells.map(|cell| cell.map(|cell| cell as i64 as i32)).collect::<Date32Array>()),
        ValueType::I64 | ValueType::Text | ValueType::Map => Arc::new(cells.map(integers).collect::<Int64Array>()),
    }
}
