//! States as the columns of a table, and back.
//!
//! | fold | columns | types |
//! |---|---|---|
//! | count | one | `UInt64` |
//! | sum, min, max of floats | one | `Float64` |
//! | sum, min, max of anything else of fixed size | one | `Int64` |
//! | moments | `_count`, `_mean`, `_m2` | `UInt64`, `Float64`, `Float64` |
//! | first, last of fixed size | `_is`, `_time`, `_value` | `UInt64`, `Int64`, `Int64` or `Float64` |
//! | parts | one | `String`, in bytes of its own form |

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Float64Array, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};

use super::fold::{Fold, Slot};
use super::{Layout, Part, State};
use crate::sketch::{Distinct, Quantiles, Top};
use crate::{SchemaError, ValueType};

/// A column of a table of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateColumn {
    /// The place of its fold among those of the view.
    pub fold: usize,
    /// What tells it from the fold's other columns; empty of a single one.
    pub suffix: &'static str,
    /// What is in it.
    pub kind: CellKind,
}

/// The type of a column of a table of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellKind {
    /// Unsigned, of 64 bits.
    U64,
    /// Signed, of 64 bits.
    I64,
    /// A float of 64 bits.
    F64,
    /// Bytes.
    Bytes,
}

impl CellKind {
    /// The ClickHouse type.
    #[must_use]
    pub fn clickhouse(self) -> &'static str {
        match self {
            CellKind::U64 => "UInt64",
            CellKind::I64 => "Int64",
            CellKind::F64 => "Float64",
            CellKind::Bytes => "String",
        }
    }

    /// The Arrow type.
    #[must_use]
    pub fn arrow(self) -> DataType {
        match self {
            CellKind::U64 => DataType::UInt64,
            CellKind::I64 => DataType::Int64,
            CellKind::F64 => DataType::Float64,
            CellKind::Bytes => DataType::Binary,
        }
    }
}

fn slot_columns(fold: &Fold, slot: Slot) -> &'static [(&'static str, CellKind)] {
    use CellKind::{Bytes, F64, I64, U64};
    match slot {
        Slot::Count(_) => &[("", U64)],
        Slot::SumF64(_) | Slot::MinF64(_) | Slot::MaxF64(_) => &[("", F64)],
        Slot::SumI64(_) | Slot::MinI64(_) | Slot::MaxI64(_) => &[("", I64)],
        Slot::Moments(_) => &[("_count", U64), ("_mean", F64), ("_m2", F64)],
        Slot::First(_) | Slot::Last(_) if fold.kind == ValueType::F64 => {
            &[("_is", U64), ("_time", I64), ("_value", F64)]
        }
        Slot::First(_) | Slot::Last(_) => &[("_is", U64), ("_time", I64), ("_value", I64)],
        _ => &[("", Bytes)],
    }
}

impl Layout {
    /// The columns that keep the states, in order.
    #[must_use]
    pub fn columns(&self) -> Vec<StateColumn> {
        let columns = self.folds.iter().zip(&self.slots).enumerate().flat_map(|(index, (fold, slot))| {
            slot_columns(fold, *slot).iter().map(move |(suffix, kind)| StateColumn { fold: index, suffix, kind: *kind })
        });
        columns.collect()
    }

    /// The states as columns, in the order of [`Layout::columns`]. None of them is empty.
    #[must_use]
    pub fn write<'a>(&self, states: impl Iterator<Item = &'a State> + Clone) -> Vec<ArrayRef> {
        self.write_some(|_| true, states)
    }

    /// The columns of some folds, in the order of [`Layout::columns`]; of no state that is empty.
    #[must_use]
    pub fn write_some<'a>(
        &self,
        is_wanted: impl Fn(&StateColumn) -> bool,
        states: impl Iterator<Item = &'a State> + Clone,
    ) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        let (mut cell, mut part) = (0, 0);
        for column in self.columns() {
            let at = if column.kind == CellKind::Bytes { &mut part } else { &mut cell };
            if is_wanted(&column) {
                columns.push(written(column.kind, *at, states.clone()));
            }
            *at += 1;
        }
        columns
    }

    /// Reads states from columns in the order of [`Layout::columns`].
    ///
    /// # Errors
    /// [`SchemaError::Encoding`] when a column has another type, or bytes do not make sense.
    pub fn read(&self, columns: &[ArrayRef]) -> Result<Vec<State>, SchemaError> {
        let wrong = |reason: String| SchemaError::Encoding { offset: 0, reason };
        let kinds = self.columns();
        if columns.len() != kinds.len() {
            return Err(wrong(format!("{} columns of states, not {}", kinds.len(), columns.len())));
        }
        let rows = columns.first().map_or(0, |column| column.len());
        let mut cells = vec![0; rows * self.cells];
        let mut parts: Vec<Vec<Part>> = vec![Vec::with_capacity(self.parts); if self.parts > 0 { rows } else { 0 }];
        let mut cell = 0;
        for (column, kind) in columns.iter().zip(&kinds) {
            let mismatch =
                || wrong(format!("a column of states of type {}, not {}", kind.kind.arrow(), column.data_type()));
            let mut put = |value: &dyn Fn(usize) -> u64| {
                (0..rows).for_each(|row| cells[row * self.cells + cell] = value(row));
                cell += 1;
            };
            match kind.kind {
                CellKind::U64 => {
                    let column = column.as_primitive_opt::<UInt64Type>().ok_or_else(mismatch)?;
                    put(&|row| column.value(row));
                }
                CellKind::I64 => {
                    let column = column.as_primitive_opt::<Int64Type>().ok_or_else(mismatch)?;
                    put(&|row| column.value(row) as u64);
                }
                CellKind::F64 => {
                    let column = column.as_primitive_opt::<Float64Type>().ok_or_else(mismatch)?;
                    put(&|row| column.value(row).to_bits());
                }
                CellKind::Bytes => {
                    let bytes = column.as_binary_opt::<i32>().ok_or_else(mismatch)?;
                    let slot = self.slots[kind.fold];
                    for (row, parts) in parts.iter_mut().enumerate() {
                        parts.push(Part::decode(slot, bytes.value(row))?);
                    }
                }
            }
        }
        let mut states: Vec<State> = if self.cells == 0 {
            vec![State::default(); rows]
        } else {
            cells.chunks_exact(self.cells).map(State::of_cells).collect()
        };
        for (state, parts) in states.iter_mut().zip(parts) {
            state.parts = Some(parts.into());
        }
        Ok(states)
    }
}

/// The cells or parts at a place.
fn written<'a>(kind: CellKind, at: usize, states: impl Iterator<Item = &'a State> + Clone) -> ArrayRef {
    let cells = states.clone().map(|state| state.cells[at]);
    match kind {
        CellKind::U64 => Arc::new(UInt64Array::from_iter_values(cells)),
        CellKind::I64 => Arc::new(Int64Array::from_iter_values(cells.map(|cell| cell as i64))),
        CellKind::F64 => Arc::new(Float64Array::from_iter_values(cells.map(f64::from_bits))),
        CellKind::Bytes => {
            let mut builder = BinaryBuilder::new();
            let mut bytes = Vec::new();
            for state in states {
                bytes.clear();
                state.part(at).expect("invariant 2: it has all parts").encode(&mut bytes);
                builder.append_value(&bytes);
            }
            Arc::new(builder.finish())
        }
    }
}

impl Part {
    /// Texts: a tag (0 nothing, 1 null, 2 text); of first and last the time (`i64`, little-endian); then the text. Sketches:
    /// their own encoding.
    fn encode(&self, out: &mut Vec<u8>) {
        let (time, text) = match self {
            Part::Extreme(text) => (None, text.as_ref()),
            Part::Timed(None) => (None, None),
            Part::Timed(Some((time, text))) => (Some(*time), text.as_ref()),
            Part::Distinct(sketch) => return sketch.encode(out),
            Part::Quantiles(sketch) => return sketch.encode(out),
            Part::Top(sketch) => return sketch.encode(out),
        };
        out.push(match (time, text) {
            (_, Some(_)) => 2,
            (Some(_), None) => 1,
            (None, None) => 0,
        });
        if let Some(time) = time {
            out.extend_from_slice(&time.to_le_bytes());
        }
        if let Some(text) = text {
            out.extend_from_slice(text.as_bytes());
        }
    }

    fn decode(slot: Slot, bytes: &[u8]) -> Result<Self, SchemaError> {
        match slot {
            Slot::Distinct(_) => return Distinct::decode(bytes).map(Part::Distinct),
            Slot::Quantiles(_) => return Quantiles::decode(bytes).map(Part::Quantiles),
            Slot::Top { .. } => return Top::decode(bytes).map(|sketch| Part::Top(Box::new(sketch))),
            _ => {}
        }
        let wrong =
            |offset, reason: &str| SchemaError::Encoding { offset, reason: format!("a part of a state: {reason}") };
        let (tag, rest) = bytes.split_first().ok_or_else(|| wrong(0, "no bytes"))?;
        let text = |bytes: &[u8]| {
            std::str::from_utf8(bytes).map(Arc::from).map_err(|_| wrong(bytes.len(), "a text that is not UTF-8"))
        };
        Ok(match slot {
            Slot::MinText(_) | Slot::MaxText(_) => Part::Extreme(if *tag == 2 { Some(text(rest)?) } else { None }),
            _ if *tag == 0 => Part::Timed(None),
            _ => {
                let (time, rest) = rest.split_first_chunk().ok_or_else(|| wrong(1, "no time"))?;
                let text = if *tag == 2 { Some(text(rest)?) } else { None };
                Part::Timed(Some((i64::from_le_bytes(*time), text)))
            }
        })
    }
}
