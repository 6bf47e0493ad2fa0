//! Columns as types of PostgreSQL hold them, so that whoever writes them knows a dozen Arrow types and no more.

use arrow::array::{Array, ArrayRef};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use arrow::util::display::FormatOptions;

use super::types;
use crate::error::QueryError;
use crate::format::json_texts;

/// The Arrow type that a column is written from: booleans, signed integers of two to eight bytes, floats of four and
/// eight, decimals, texts, bytes, dates, times and moments in microseconds, intervals, lists of these, and large lists of
/// numbers of the catalogue. JSON is text.
#[must_use]
pub fn written_as(arrow: &DataType) -> DataType {
    match arrow {
        DataType::Decimal128(..) => arrow.clone(),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal256(_, scale) => DataType::Decimal128(38, *scale),
        DataType::Dictionary(_, value) => written_as(value),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) if types::of(arrow).1 => {
            DataType::new_list(written_as(item.data_type()), true)
        }
        _ => types::arrow_of(types::oid_of(arrow)).unwrap_or(DataType::Utf8),
    }
}

/// A column as the type `to`, one of those of [`written_as`].
///
/// # Errors
/// [`QueryError::Evaluation`] for a value that the type does not hold.
pub fn converted(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, QueryError> {
    if column.data_type() == to {
        return Ok(column.clone());
    }
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    let made = match to {
        DataType::Utf8 if column.data_type().is_nested() => json_texts(column),
        _ => cast_with_options(column, to, &options),
    };
    made.map_err(|error| QueryError::Evaluation {
        message: format!("a value cannot be written as {}: {error}", types::sql_name(types::oid_of(to))),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, UInt64Array};

    use super::*;

    #[test]
    fn values_that_do_not_fit_are_errors() {
        let column: ArrayRef = Arc::new(UInt64Array::from(vec![Some(7), None]));
        let to = written_as(column.data_type());
        let written = converted(&column, &to).expect("it fits");
        assert_eq!(written.as_ref(), &Int64Array::from(vec![Some(7), None]) as &dyn Array);
        let column: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        let error = converted(&column, &to).expect_err("it does not fit");
        assert!(error.to_string().contains("bigint"), "{error}");
    }
}
