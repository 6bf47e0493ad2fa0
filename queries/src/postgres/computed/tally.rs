//! Values that are counted, each kept once, as bytes that sort as the values do in the order that is asked for.
//!
//! Zeros of either sign are one value, and so is whatever is not a number. Nulls are not counted.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Int64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::error::Result;

/// Which of the values it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Choice {
    /// The one that came most often; of several the first in the order.
    Mode,
    /// The first that so large a share of all comes up to; none if the share is null.
    Share(Option<f64>),
}

/// How often each value came.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: HashMap<Box<[u8]>, u64>,
    value_bytes: usize,
}

impl Tally {
    pub(super) fn add(&mut self, value: &[u8], times: u64) {
        match self.counts.get_mut(value) {
            Some(count) => *count += times,
            None => {
                self.counts.insert(value.into(), times);
                self.value_bytes += value.len();
            }
        }
    }

    pub(super) fn chosen(&self, choice: Choice) -> Option<&[u8]> {
        let counts = || self.counts.iter().map(|(value, count)| (value.as_ref(), *count));
        match choice {
            Choice::Mode => counts().max_by_key(|(value, count)| (*count, Reverse(*value))).map(|(value, _)| value),
            Choice::Share(share) => {
                let mut counts: Vec<(&[u8], u64)> = counts().collect();
                counts.sort_unstable();
                let all: u64 = counts.iter().map(|(_, count)| count).sum();
                let rank = ((share? * all as f64).ceil() as u64).max(1);
                let mut before = 0;
                counts.into_iter().find_map(|(value, count)| {
                    before += count;
                    (rank <= before).then_some(value)
                })
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.counts.capacity() * (size_of::<(Box<[u8]>, u64)>() + 1) + self.value_bytes
    }
}

/// From values to their bytes, and back.
#[derive(Debug)]
pub(super) struct Values {
    converter: RowConverter,
    kind: DataType,
}

impl Values {
    /// # Errors
    /// When values of this type have no order.
    pub(super) fn new(kind: &DataType, descending: bool) -> Result<Self> {
        let order = SortOptions { descending, nulls_first: false };
        let converter = RowConverter::new(vec![SortField::new_with_options(kind.clone(), order)])?;
        Ok(Values { converter, kind: kind.clone() })
    }

    pub(super) fn size(&self) -> usize {
        self.converter.size()
    }

    /// The bytes of the values of a column that are not null, by row.
    pub(super) fn read(&self, column: &ArrayRef, mut each: impl FnMut(usize, &[u8])) -> Result<()> {
        let rows = self.converter.convert_columns(&[alike(column)])?;
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            each(row, rows.row(row).as_ref());
        }
        Ok(())
    }

    fn written<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Result<ArrayRef> {
        let parser = self.converter.parser();
        let values: Vec<&[u8]> = values.collect();
        let columns = self.converter.convert_rows(values.iter().map(|value| parser.parse(value)))?;
        Ok(match columns[0].data_type() == &self.kind {
            true => columns[0].clone(),
            false => cast(&columns[0], &self.kind)?, // a dictionary comes back as its values
        })
    }

    /// The value of each tally that is chosen.
    pub(super) fn chosen(&self, tallies: &[Tally], choice: Choice) -> Result<ArrayRef> {
        let chosen: Vec<Option<&[u8]>> = tallies.iter().map(|tally| tally.chosen(choice)).collect();
        let values = self.written(chosen.iter().flatten().copied())?;
        let mut place = 0_u64..;
        let places: UInt64Array = chosen.iter().map(|value| value.and_then(|_| place.next())).collect();
        Ok(take(&values, &places, None)?)
    }

    /// The columns that tallies are handed on in: lists of values, and of how often each came.
    pub(super) fn state(&self, tallies: &[Tally]) -> Result<Vec<ArrayRef>> {
        let entries = || tallies.iter().flat_map(|tally| &tally.counts);
        let values = self.written(entries().map(|(value, _)| value.as_ref()))?;
        let counts: Int64Array = entries().map(|(_, count)| Some(*count as i64)).collect();
        let lists = |items: ArrayRef| -> ArrayRef {
            let lengths = tallies.iter().map(|tally| tally.counts.len());
            let field = item(items.data_type().clone());
            Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), items, None))
        };
        Ok(vec![lists(values), lists(Arc::new(counts))])
    }

    /// What was handed on, by row.
    pub(super) fn merge(&self, state: &[ArrayRef], mut each: impl FnMut(usize, &[u8], u64)) -> Result<()> {
        let (values, counts) = (state[0].as_list::<i32>(), state[1].as_list::<i32>());
        let rows = self.converter.convert_columns(&[alike(values.values())])?;
        let times = counts.values().as_primitive::<Int64Type>();
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            let first = counts.value_offsets()[row] as usize;
            let places = values.value_offsets()[row] as usize..values.value_offsets()[row + 1] as usize;
            for (nth, place) in places.enumerate() {
                each(row, rows.row(place).as_ref(), times.value(first + nth) as u64);
            }
        }
        Ok(())
    }
}

/// The fields of what is handed on.
pub(super) fn state_fields(name: &str, kind: &DataType) -> Vec<FieldRef> {
    let field = |suffix, kind| Arc::new(Field::new(format!("{name}[{suffix}]"), DataType::List(item(kind)), true));
    vec![field("values", kind.clone()), field("counts", DataType::Int64)]
}

fn item(kind: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(kind, true))
}

/// Floats that are equal, of the same bits.
fn alike(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let alike = |x: f64| if x.is_nan() { f64::NAN } else { x + 0.0 };
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(alike))
        }
        DataType::Float32 => {
            let alike = |x: f32| if x.is_nan() { f32::NAN } else { x + 0.0 };
            Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(alike))
        }
        _ => column.clone(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StringArray};

    use super::*;

    fn tally(values: &Values, column: &ArrayRef) -> Tally {
        let mut tally = Tally::default();
        values.read(column, |_, value| tally.add(value, 1)).unwrap();
        tally
    }

    fn chosen(column: ArrayRef, descending: bool, choice: Choice) -> ArrayRef {
        let values = Values::new(column.data_type(), descending).unwrap();
        let (one, none) = (tally(&values, &column), Tally::default());
        // As they are, and as they are handed on.
        let mut merged = [Tally::default(), Tally::default()];
        let state = values.state(&[none, one]).unwrap();
        values.merge(&state, |row, value, times| merged[row].add(value, times)).unwrap();
        let [none, one] = merged;
        let direct = values.chosen(&[tally(&values, &column), Tally::default()], choice).unwrap();
        assert_eq!(&values.chosen(&[one, none], choice).unwrap(), &direct);
        direct
    }

    #[test]
    fn the_value_that_came_most_often() {
        let words =
            || Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("c"), Some("b"), Some("c"), None]));
        for (descending, wanted) in [(false, "b"), (true, "c")] {
            let wanted: ArrayRef = Arc::new(StringArray::from(vec![Some(wanted), None]));
            assert_eq!(&chosen(words(), descending, Choice::Mode), &wanted);
        }
        let floats = Float64Array::from(vec![0.0, 1.0, -0.0, 1.0, -0.0, f64::NAN, -f64::NAN]);
        let wanted: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.0), None]));
        assert_eq!(&chosen(Arc::new(floats), false, Choice::Mode), &wanted);
    }

    #[test]
    fn the_value_that_a_share_comes_up_to() {
        let numbers = || Arc::new(Int64Array::from(vec![Some(40), Some(10), None, Some(20), Some(30), Some(10)]));
        for (share, descending, wanted) in [
            (Some(0.0), false, Some(10)),
            (Some(0.4), false, Some(10)),
            (Some(0.41), false, Some(20)),
            (Some(0.5), false, Some(20)),
            (Some(0.8), false, Some(30)),
            (Some(1.0), false, Some(40)),
            (Some(0.0), true, Some(40)),
            (Some(0.5), true, Some(20)),
            (Some(1.0), true, Some(10)),
            (None, false, None),
        ] {
            let wanted: ArrayRef = Arc::new(Int64Array::from(vec![wanted, None]));
            assert_eq!(&chosen(numbers(), descending, Choice::Share(share)), &wanted, "{share:?} {descending}");
        }
    }

    #[test]
    fn what_is_kept_is_counted() {
        let values = Values::new(&DataType::Utf8, false).unwrap();
        let words: ArrayRef = Arc::new(StringArray::from_iter_values((0..1_000).map(|n| format!("{n:0>100}"))));
        let once = tally(&values, &words).heap_bytes();
        assert!((100_000..400_000).contains(&once), "{once}");
        let mut tally = tally(&values, &words);
        values.read(&words, |_, value| tally.add(value, 1)).unwrap();
        assert_eq!(tally.heap_bytes(), once, "a value is kept once");
    }
}
