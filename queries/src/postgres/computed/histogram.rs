//! `width_bucket(value, low, high, count)`: in which of so many buckets of one width between two bounds a value is. Those below
//! are in bucket 0, those above in the one after the last; with `low` above `high` it is counted from there downwards.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Builder};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;

use super::Computed;

pub(super) fn width_bucket() -> Computed {
    let form = "width_bucket(value, low, high, count), of three numbers and a whole one";
    Computed { name: "width_bucket", form, takes, gives: DataType::Int32, work }
}

fn takes(arguments: &[DataType]) -> Option<Vec<DataType>> {
    let [numbers @ .., count] = arguments else { return None };
    let fits = numbers.len() == 3
        && numbers.iter().all(|kind| kind.is_numeric() || kind.is_null())
        && (count.is_integer() || count.is_null());
    fits.then(|| [vec![DataType::Float64; 3], vec![DataType::Int64]].concat())
}

fn work(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let numbers: Vec<_> = columns[..3].iter().map(|column| column.as_primitive::<Float64Type>()).collect();
    let counts = columns[3].as_primitive::<Int64Type>();
    let mut buckets = Int32Builder::with_capacity(counts.len());
    for row in 0..counts.len() {
        if columns.iter().any(|column| column.is_null(row)) {
            buckets.append_null();
        } else {
            let number = |place: usize| numbers[place].value(row);
            buckets.append_value(bucket(number(0), number(1), number(2), counts.value(row))?);
        }
    }
    Ok(Arc::new(buckets.finish()))
}

fn bucket(value: f64, low: f64, high: f64, count: i64) -> Result<i32> {
    if !(1..i64::from(i32::MAX)).contains(&count) {
        return exec_err!("width_bucket has from 1 to {} buckets, and not {count}", i32::MAX - 1);
    }
    if value.is_nan() || !low.is_finite() || !high.is_finite() {
        return exec_err!("width_bucket is of a number between bounds, and not of {value} between {low} and {high}");
    }
    if low == high {
        return exec_err!("width_bucket has two bounds that differ, and not {low} twice");
    }
    if low > high {
        return bucket(-value, -low, -high, count);
    }
    Ok(if value < low {
        0
    } else if value >= high {
        count as i32 + 1
    } else {
        // Halves, as bounds may be farther apart than the largest float.
        let share = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        // A share that is rounded up to 1 is still below the upper bound.
        ((count as f64 * share) as i32).min(count as i32 - 1) + 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_postgres() {
        for (value, low, high, count, wanted) in [
            (5.35, 0.024, 10.06, 5, 3),
            (0.0, 0.0, 10.0, 5, 1),
            (2.0, 0.0, 10.0, 5, 2),
            (9.99, 0.0, 10.0, 5, 5),
            (10.0, 0.0, 10.0, 5, 6),
            (-0.1, 0.0, 10.0, 5, 0),
            (10.0, 10.0, 0.0, 5, 1),
            (8.0, 10.0, 0.0, 5, 2),
            (0.1, 10.0, 0.0, 5, 5),
            (0.0, 10.0, 0.0, 5, 6),
            (10.1, 10.0, 0.0, 5, 0),
            (f64::INFINITY, 0.0, 1.0, 3, 4),
            (f64::NEG_INFINITY, 0.0, 1.0, 3, 0),
            (0.0, f64::MIN, f64::MAX, 4, 3),
            (1.0_f64.next_down(), 0.0, 1.0, 3, 3),
            (0.5, 0.0, 1.0, i64::from(i32::MAX) - 1, 1_073_741_824),
        ] {
            assert_eq!(bucket(value, low, high, count).unwrap(), wanted, "{value} in {count} from {low} to {high}");
        }
    }

    #[test]
    fn what_has_no_buckets_is_an_error() {
        for (value, low, high, count, says) in [
            (1.0, 0.0, 1.0, 0, "and not 0"),
            (1.0, 0.0, 1.0, -1, "and not -1"),
            (1.0, 0.0, 1.0, i64::from(i32::MAX), "from 1 to 2147483646 buckets"),
            (1.0, 3.0, 3.0, 1, "and not 3 twice"),
            (f64::NAN, 0.0, 1.0, 1, "not of NaN"),
            (1.0, f64::NEG_INFINITY, 1.0, 1, "-inf"),
        ] {
            let error = bucket(value, low, high, count).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
