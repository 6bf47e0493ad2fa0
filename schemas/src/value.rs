//! Values: the types that a view's dimensions and arguments may have, and the bytes that name a group's dimensions.
//!
//! A group is found by a hash of its dimension values, so these need one canonical form in bytes that every worker,
//! restart and version agrees on.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, MapBuilder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::event::dimensions_builder;
use crate::stream::{dimensions_type, timestamp_type};
use crate::{SchemaError, SeriesId};

/// The type of a dimension, an argument or a result of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// Boolean.
    Bool,
    /// 64-bit signed integer.
    I64,
    /// 64-bit float.
    F64,
    /// UTF-8 text.
    Text,
    /// Microseconds since 1970, UTC.
    Time,
    /// Days since 1970.
    Date,
    /// Text to text, as the dimensions of a metric.
    Map,
}

impl ValueType {
    /// The Arrow type.
    #[must_use]
    pub fn arrow(self) -> DataType {
        match self {
            ValueType::Bool => DataType::Boolean,
            ValueType::I64 => DataType::Int64,
            ValueType::F64 => DataType::Float64,
            ValueType::Text => DataType::Utf8,
            ValueType::Time => timestamp_type(),
            ValueType::Date => DataType::Date32,
            ValueType::Map => dimensions_type(),
        }
    }

    /// The ClickHouse type, without `Nullable`.
    #[must_use]
    pub fn clickhouse(self) -> &'static str {
        match self {
            ValueType::Bool => "Bool",
            ValueType::I64 => "Int64",
            ValueType::F64 => "Float64",
            ValueType::Text => "String",
            ValueType::Time => "DateTime64(6, 'UTC')",
            ValueType::Date => "Date32",
            ValueType::Map => "Map(LowCardinality(String), String)",
        }
    }
}

/// Tags of values in a key; a null is a tag alone.
const NULL: u8 = 0;
const PRESENT: u8 = 1;

/// Appends the canonical bytes of one value: a tag, then the value in little-endian, texts after their length.
///
/// Equal values give equal bytes: −0 is written as 0, and every NaN as the same one. `column` has the type
/// [`ValueType::arrow`] of `kind`.
pub fn append_key(out: &mut Vec<u8>, column: &ArrayRef, kind: ValueType, row: usize) {
    if column.is_null(row) {
        out.push(NULL);
        return;
    }
    out.push(PRESENT);
    match kind {
        ValueType::Bool => out.push(u8::from(column.as_boolean().value(row))),
        ValueType::I64 => out.extend_from_slice(&column.as_primitive::<Int64Type>().value(row).to_le_bytes()),
        ValueType::F64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        ValueType::Text => append_text(out, column.as_string::<i32>().value(row)),
        ValueType::Time => {
            out.extend_from_slice(&column.as_primitive::<TimestampMicrosecondType>().value(row).to_le_bytes());
        }
        ValueType::Date => out.extend_from_slice(&column.as_primitive::<Date32Type>().value(row).to_le_bytes()),
        ValueType::Map => {
            let entries = column.as_map().value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
            out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
            for entry in 0..entries.len() {
                append_text(out, keys.value(entry));
                append_text(out, values.value(entry));
            }
        }
    }
}

fn append_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// The identity of a group's dimension values: XXH3-128 of their canonical bytes.
#[must_use]
pub fn key_id(key: &[u8]) -> SeriesId {
    SeriesId::from_u128(xxh3_128(key))
}

/// Reads keys back into one column a dimension.
///
/// # Errors
/// [`SchemaError::Encoding`] with the place where the bytes stop making sense.
pub fn read_keys<'a>(
    keys: impl IntoIterator<Item = &'a [u8]>,
    kinds: &[ValueType],
) -> Result<Vec<ArrayRef>, SchemaError> {
    let mut builders: Vec<Builder> = kinds.iter().map(|kind| Builder::new(*kind)).collect();
    for key in keys {
        let mut reader = KeyReader { bytes: key, offset: 0 };
        for builder in &mut builders {
            builder.append(&mut reader)?;
        }
        if reader.offset != key.len() {
            return Err(reader.wrong("the end of the key"));
        }
    }
    Ok(builders.into_iter().map(Builder::finish).collect())
}

/// A column of dimension values that grows.
#[allow(clippy::large_enum_variant, reason = "there is one a dimension, for the time of a reading")]
enum Builder {
    Bool(BooleanBuilder),
    I64(Int64Builder),
    F64(Float64Builder),
    Text(StringBuilder),
    Time(TimestampMicrosecondBuilder),
    Date(Date32Builder),
    Map(MapBuilder<StringBuilder, StringBuilder>),
}

impl Builder {
    fn new(kind: ValueType) -> Self {
        match kind {
            ValueType::Bool => Builder::Bool(BooleanBuilder::new()),
            ValueType::I64 => Builder::I64(Int64Builder::new()),
            ValueType::F64 => Builder::F64(Float64Builder::new()),
            ValueType::Text => Builder::Text(StringBuilder::new()),
            ValueType::Time => Builder::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            ValueType::Date => Builder::Date(Date32Builder::new()),
            ValueType::Map => Builder::Map(dimensions_builder()),
        }
    }

    fn append(&mut self, reader: &mut KeyReader<'_>) -> Result<(), SchemaError> {
        let present = match reader.array::<1>()?[0] {
            NULL => false,
            PRESENT => true,
            _ => return Err(reader.wrong("a tag")),
        };
        match self {
            Builder::Bool(builder) => builder.append_option(reader.when(present, |r| Ok(r.array::<1>()?[0] != 0))?),
            Builder::I64(builder) => builder.append_option(reader.when(present, KeyReader::i64)?),
            Builder::F64(builder) => {
                builder.append_option(reader.when(present, |r| Ok(f64::from_bits(r.i64()? as u64)))?);
            }
            Builder::Text(builder) => builder.append_option(reader.when(present, KeyReader::text)?),
            Builder::Time(builder) => builder.append_option(reader.when(present, KeyReader::i64)?),
            Builder::Date(builder) => {
                builder.append_option(reader.when(present, |r| Ok(i32::from_le_bytes(r.array()?)))?);
            }
            Builder::Map(builder) => {
                if present {
                    for _ in 0..u32::from_le_bytes(reader.array()?) {
                        builder.keys().append_value(reader.text()?);
                        builder.values().append_value(reader.text()?);
                    }
                }
                builder.append(present).expect("keys and values are appended in pairs");
            }
        }
        Ok(())
    }

    fn finish(self) -> ArrayRef {
        match self {
            Builder::Bool(mut builder) => Arc::new(builder.finish()),
            Builder::I64(mut builder) => Arc::new(builder.finish()),
            Builder::F64(mut builder) => Arc::new(builder.finish()),
            Builder::Text(mut builder) => Arc::new(builder.finish()),
            Builder::Time(mut builder) => Arc::new(builder.finish()),
            Builder::Date(mut builder) => Arc::new(builder.finish()),
            Builder::Map(mut builder) => Arc::new(builder.finish()),
        }
    }
}

/// Reads the parts of a key.
struct KeyReader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> KeyReader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], SchemaError> {
        let end = self.offset.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.wrong("more bytes"))?;
        let taken = &self.bytes[self.offset..end];
        self.offset = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SchemaError> {
        Ok(self.take(N)?.try_into().expect("as many bytes were taken"))
    }

    fn i64(&mut self) -> Result<i64, SchemaError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a str, SchemaError> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|_| self.wrong("UTF-8 text"))
    }

    fn when<T>(
        &mut self,
        present: bool,
        read: impl FnOnce(&mut Self) -> Result<T, SchemaError>,
    ) -> Result<Option<T>, SchemaError> {
        if present { read(self).map(Some) } else { Ok(None) }
    }

    fn wrong(&self, expected: &str) -> SchemaError {
        SchemaError::Encoding { offset: self.offset, reason: format!("expected {expected} in a key of dimensions") }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn columns() -> Vec<(ValueType, ArrayRef)> {
        let mut map = dimensions_builder();
        for pairs in [vec![("host", "a"), ("zone", "")], vec![]] {
            for (key, value) in pairs {
                map.keys().append_value(key);
                map.values().append_value(value);
            }
            map.append(true).unwrap();
        }
        map.append(false).unwrap();
        let times = TimestampMicrosecondArray::from(vec![Some(-1), None, Some(i64::MAX)]).with_timezone("UTC");
        vec![
            (ValueType::Bool, Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])) as ArrayRef),
            (ValueType::I64, Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(0), None]))),
            (ValueType::F64, Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::INFINITY)]))),
            (ValueType::Text, Arc::new(StringArray::from(vec![Some(""), Some("grün"), None]))),
            (ValueType::Time, Arc::new(times)),
            (ValueType::Date, Arc::new(Date32Array::from(vec![Some(-1), Some(19_000), None]))),
            (ValueType::Map, Arc::new(map.finish())),
        ]
    }

    #[test]
    fn keys_are_read_back_as_they_were_written() {
        let columns = columns();
        let mut keys = vec![Vec::new(); 3];
        for (row, key) in keys.iter_mut().enumerate() {
            columns.iter().for_each(|(kind, column)| append_key(key, column, *kind, row));
        }
        let kinds: Vec<ValueType> = columns.iter().map(|(kind, _)| *kind).collect();
        let read = read_keys(keys.iter().map(Vec::as_slice), &kinds).unwrap();
        for ((kind, written), read) in columns.iter().zip(&read) {
            assert_eq!(read, written, "{kind:?}");
            assert_eq!(*read.data_type(), kind.arrow());
        }
        for cut in 0..keys[0].len() {
            assert!(read_keys([&keys[0][..cut]], &kinds).is_err(), "a key cut at {cut}");
        }
    }

    #[test]
    fn equal_floats_have_equal_keys() {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
        let key = |row| {
            let mut key = Vec::new();
            append_key(&mut key, &column, ValueType::F64, row);
            key
        };
        assert_eq!(key(0), key(1));
        assert_eq!(key(2), key(3));
        assert_ne!(key_id(&key(0)), key_id(&key(2)));
    }
}
