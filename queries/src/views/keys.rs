//! The distinct dimension values of a batch.
//!
//! Each column is numbered by its distinct values, the numbers are combined column by column, and only what is distinct
//! in the end is written out in bytes. Cost: a hash look-up a column and event.

use std::collections::HashMap;
use std::hash::Hash;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use hashbrown::HashMap as FastMap;
use hashbrown::hash_map::Entry;
use streamgauge_engine::program::Keys;
use streamgauge_schemas::value::{append_key, key_id};
use streamgauge_schemas::{SeriesId, ValueType};

/// The keys of `rows` rows with these dimension values.
pub(super) fn of_columns(columns: &[ArrayRef], kinds: &[ValueType], rows: usize) -> Keys {
    let mut of_row: Vec<u32> = vec![0; rows];
    for (at, (column, kind)) in columns.iter().zip(kinds).enumerate() {
        let numbers = number(column, *kind);
        if at == 0 {
            of_row = numbers;
        } else {
            let pairs = of_row.iter().zip(&numbers).map(|(left, right)| u64::from(*left) << 32 | u64::from(*right));
            of_row = numbered(pairs);
        }
    }
    let mut keys = Keys { of_row, ..Keys::default() };
    for row in 0..rows {
        // Numbers are given in the order of rows, so the next one is that of a key not seen before.
        if keys.of_row[row] as usize == keys.ids.len() {
            let begin = keys.bytes.len();
            columns.iter().zip(kinds).for_each(|(column, kind)| append_key(&mut keys.bytes, column, *kind, row));
            keys.ids.push(key_id(&keys.bytes[begin..]));
            keys.ends.push(keys.bytes.len());
        }
    }
    keys
}

/// The keys of rows by series; two sources may have sent the same one.
pub(super) fn of_series(ids: impl Iterator<Item = SeriesId>) -> Keys {
    let mut places: HashMap<SeriesId, u32> = HashMap::new();
    let mut keys = Keys::default();
    for id in ids {
        let next = keys.ids.len() as u32;
        let place = *places.entry(id).or_insert(next);
        if place == next {
            keys.ids.push(id);
        }
        keys.of_row.push(place);
    }
    keys
}

/// The keys of rows that each have a key among those of `few`, without keys that no row has.
pub(super) fn spread(few: &Keys, rows: &[u32]) -> Keys {
    let mut places = vec![u32::MAX; few.ids.len()];
    let mut keys = Keys::default();
    let place = |row: &u32| {
        let old = few.of_row[*row as usize] as usize;
        if places[old] == u32::MAX {
            places[old] = keys.ids.len() as u32;
            keys.ids.push(few.ids[old]);
            if let Some(bytes) = few.get(old) {
                keys.bytes.extend_from_slice(bytes);
                keys.ends.push(keys.bytes.len());
            }
        }
        places[old]
    };
    keys.of_row = rows.iter().map(place).collect();
    keys
}

/// The numbers of values, in the order of their first appearance.
fn numbered<T: Hash + Eq + Copy>(values: impl Iterator<Item = T>) -> Vec<u32> {
    let mut seen: FastMap<T, u32> = FastMap::new();
    let mut last: Option<(T, u32)> = None;
    let number = |value: T| match last {
        Some((before, number)) if before == value => number,
        _ => {
            let next = seen.len() as u32;
            let number = match seen.entry(value) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => *entry.insert(next),
            };
            last = Some((value, number));
            number
        }
    };
    values.map(number).collect()
}

/// The numbers of a column's values, which are equal when their bytes in a key are.
fn number(column: &ArrayRef, kind: ValueType) -> Vec<u32> {
    match kind {
        ValueType::Bool => numbered(column.as_boolean().iter()),
        ValueType::I64 => numbered(column.as_primitive::<Int64Type>().iter()),
        ValueType::F64 => {
            let canonical = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 }.to_bits();
            numbered(column.as_primitive::<Float64Type>().iter().map(|value| value.map(canonical)))
        }
        ValueType::Text => numbered(column.as_string::<i32>().iter()),
        ValueType::Time => numbered(column.as_primitive::<TimestampMicrosecondType>().iter()),
        ValueType::Date => numbered(column.as_primitive::<Date32Type>().iter()),
        ValueType::Map => {
            let mut bytes: Vec<Vec<u8>> = vec![Vec::new(); column.len()];
            bytes.iter_mut().enumerate().for_each(|(row, bytes)| append_key(bytes, column, kind, row));
            numbered(bytes.iter().map(Vec::as_slice))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};
    use streamgauge_schemas::value::read_keys;

    use super::*;

    #[test]
    fn equal_values_have_one_key() {
        let floats = [Some(0.0), Some(-0.0), Some(f64::NAN), Some(-f64::NAN), None, Some(0.0)];
        let texts = [Some("a"), Some("a"), None, None, Some(""), Some("b")];
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Float64Array::from(floats.to_vec())), Arc::new(StringArray::from(texts.to_vec()))];
        let kinds = [ValueType::F64, ValueType::Text];
        let keys = of_columns(&columns, &kinds, floats.len());
        assert_eq!(keys.of_row, [0, 0, 1, 1, 2, 3]);
        let read = read_keys((0..keys.ids.len()).filter_map(|key| keys.get(key)), &kinds).unwrap();
        let wanted: [Option<&str>; 4] = [Some("a"), None, Some(""), Some("b")];
        assert_eq!(read[1].as_string::<i32>(), &StringArray::from(wanted.to_vec()));
        assert_eq!(keys.ids[3], key_id(keys.get(3).unwrap()));
    }

    #[test]
    fn keys_without_rows_are_left_out() {
        let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["a", "bb", "ccc"]))];
        let few = of_columns(&columns, &[ValueType::Text], 3);
        let keys = spread(&few, &[2, 0, 2]);
        assert_eq!((&keys.of_row[..], &keys.ids[..]), (&[0, 1, 0][..], &[few.ids[2], few.ids[0]][..]));
        assert_eq!((keys.get(0), keys.get(1), keys.get(2)), (few.get(2), few.get(0), None));
    }

    #[test]
    fn a_view_without_dimensions_has_one_key() {
        let keys = of_columns(&[], &[], 2);
        assert_eq!((&keys.of_row[..], &keys.ids[..], keys.get(0)), (&[0, 0][..], &[key_id(&[])][..], Some(&[][..])));
        assert!(of_columns(&[], &[], 0).ids.is_empty());
    }
}
