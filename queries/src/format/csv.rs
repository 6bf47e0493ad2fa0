//! CSV as RFC 4180 has it, with a line of names. A null is nothing and an empty text is `""`, as PostgreSQL writes them.

use std::fmt::Write;

use arrow::array::{Array, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;

use super::{Encode, flat, unwritable, with_zones};
use crate::error::QueryError;

/// See the module.
pub(super) struct Csv {
    /// The line of names, until it is written.
    header: String,
}

impl Csv {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        let mut header = String::new();
        for (place, field) in schema.fields().iter().enumerate() {
            separate(place, &mut header);
            quote(field.name(), &mut header);
        }
        header.push('\n');
        Csv { header }
    }
}

impl Encode for Csv {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, QueryError> {
        let mut out = std::mem::take(&mut self.header);
        lines(batch, &mut out).map_err(|error| unwritable(&error))?;
        Ok(out.into())
    }

    fn end(self) -> Result<Bytes, QueryError> {
        Ok(self.header.into())
    }
}

fn lines(batch: &RecordBatch, out: &mut String) -> Result<(), ArrowError> {
    let batch = flat(&with_zones(batch)?)?;
    let options = FormatOptions::default().with_display_error(false);
    let columns: Vec<Column<'_>> =
        batch.columns().iter().map(|column| Column::new(column, &options)).collect::<Result<_, _>>()?;
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        for (place, column) in columns.iter().enumerate() {
            separate(place, out);
            if column.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            text.clear();
            write!(text, "{}", column.values.value(row)).map_err(|_| column.wrong(row))?;
            quote(column.named(&text), out);
        }
        out.push('\n');
    }
    Ok(())
}

struct Column<'a> {
    values: ArrayFormatter<'a>,
    nulls: Option<NullBuffer>,
    is_float: bool,
}

impl<'a> Column<'a> {
    fn new(column: &'a dyn Array, options: &FormatOptions<'a>) -> Result<Self, ArrowError> {
        let (nulls, is_float) = (column.logical_nulls(), column.data_type().is_floating());
        Ok(Column { values: ArrayFormatter::try_new(column, options)?, nulls, is_float })
    }

    /// Numbers that are not finite have the same names in every format.
    fn named<'t>(&self, text: &'t str) -> &'t str {
        match text {
            "inf" if self.is_float => "Infinity",
            "-inf" if self.is_float => "-Infinity",
            text => text,
        }
    }

    fn wrong(&self, row: usize) -> ArrowError {
        let reason = self.values.value(row).try_to_string().err();
        reason.unwrap_or_else(|| ArrowError::CsvError("a value has no text".to_owned()))
    }
}

fn separate(place: usize, out: &mut String) {
    if place > 0 {
        out.push(',');
    }
}

fn quote(text: &str, out: &mut String) {
    if !text.is_empty() && !text.contains(['"', ',', '\n', '\r']) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for part in text.split_inclusive('"') {
        out.push_str(part);
        if part.ends_with('"') {
            out.push('"');
        }
    }
    out.push('"');
}
