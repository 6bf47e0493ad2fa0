//! Rows of an answer on their way to a client.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt;
use streamgauge_queries::QueryStream;
use streamgauge_queries::postgres::{types, values};

use super::connection::OUT_BYTES;
use super::copy::{BINARY_HEAD, CopyForm};
use super::error::PostgresError;
use super::message::{Column, Form, Output, form_at};
use super::value::Values;

/// The columns of an answer, as clients are told about them.
pub(super) fn columns(schema: &Schema, forms: &[Form]) -> Vec<Column> {
    let column = |(place, field): (usize, &Arc<Field>)| {
        let kind = types::oid_of(field.data_type());
        let length = types::by_oid(kind).map_or(-1, |kind| kind.length);
        Column { name: field.name().clone(), kind, length, form: form_at(forms, place) }
    };
    schema.fields().iter().enumerate().map(column).collect()
}

/// The columns of an answer that the protocol itself gives, all texts.
pub(super) fn text_columns(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect::<Vec<_>>()))
}

/// An answer of which rows were written, and more may be.
pub(super) struct Answer {
    stream: QueryStream,
    /// What each column is written from.
    kinds: Vec<DataType>,
    /// The text of the question, for the places of errors.
    sql: Arc<str>,
    /// The batch that is written, converted, and the row to go on with.
    batch: Option<(Vec<ArrayRef>, usize)>,
    rows_in_batch: usize,
    /// Whether a row was written.
    is_begun: bool,
}

/// How far the rows went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// What is written is enough to be sent.
    Full,
    /// As many rows as were wanted.
    Enough,
    /// There are no more.
    End,
}

impl Answer {
    /// An answer whose columns were told as `told`, or as they are.
    pub(super) fn new(stream: QueryStream, told: Option<&Schema>, sql: Arc<str>) -> Result<Self, PostgresError> {
        let told = told.unwrap_or(&stream.schema);
        if told.fields().len() != stream.schema.fields().len() {
            let message = "the columns of the statement are others than when it was prepared";
            return Err(PostgresError::new("0A000", message).with_hint("prepare it again"));
        }
        let kinds = told.fields().iter().map(|field| values::written_as(field.data_type())).collect();
        Ok(Answer { stream, kinds, sql, batch: None, rows_in_batch: 0, is_begun: false })
    }

    /// Its columns.
    pub(super) fn columns(&self) -> &SchemaRef {
        &self.stream.named
    }

    /// Writes rows until `out` is full, or as many as `wanted`; counts those written down from it.
    pub(super) async fn write(
        &mut self,
        form: Writing<'_>,
        wanted: &mut usize,
        out: &mut Output,
    ) -> Result<Progress, PostgresError> {
        loop {
            if *wanted == 0 {
                return Ok(Progress::Enough);
            }
            let Some((columns, row)) = &mut self.batch else {
                match self.stream.next().await {
                    None => return Ok(Progress::End),
                    Some(batch) => {
                        let batch = batch.map_err(|error| PostgresError::of(error, &self.sql))?;
                        self.rows_in_batch = batch.num_rows();
                        self.batch = Some((self.converted(&batch)?, 0));
                    }
                }
                continue;
            };
            let values: Vec<Values<'_>> = columns.iter().filter_map(Values::of).collect();
            if values.len() != columns.len() {
                return Err(PostgresError::new("XX000", "a column has a type that cannot be written"));
            }
            while *row < self.rows_in_batch && *wanted > 0 && out.0.len() < OUT_BYTES {
                form.row(&values, *row, !self.is_begun, out);
                self.is_begun = true;
                *row += 1;
                *wanted -= 1;
            }
            let full = out.0.len() >= OUT_BYTES;
            if *row == self.rows_in_batch {
                self.batch = None;
            }
            if full {
                return Ok(Progress::Full);
            }
        }
    }

    fn converted(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, PostgresError> {
        let columns = batch.columns().iter().zip(&self.kinds);
        let converted = columns.map(|(column, kind)| values::converted(column, kind));
        converted
            .collect::<Result<_, _>>()
            .map_err(|error| PostgresError { state: "22003", ..PostgresError::of(error, &self.sql) })
    }
}

/// How rows are written.
#[derive(Clone, Copy)]
pub(super) enum Writing<'a> {
    /// As rows of an answer.
    Rows(&'a [Form]),
    /// As rows of a copy.
    Copy(&'a CopyForm),
}

impl Writing<'_> {
    fn row(self, values: &[Values<'_>], row: usize, is_first: bool, out: &mut Output) {
        match self {
            Writing::Rows(forms) => out.message(b'D', |out| fields(values, row, forms, out)),
            Writing::Copy(CopyForm::Binary) => out.message(b'd', |out| {
                // In one message with the first row, as PostgreSQL sends it: clients rely on it.
                out.extend_from_slice(if is_first { BINARY_HEAD } else { &[] });
                fields(values, row, &[Form::Binary], out);
            }),
            Writing::Copy(CopyForm::Lines(form)) => {
                let text = |column: &Values<'_>| {
                    (!column.is_null(row)).then(|| {
                        let mut text = Vec::new();
                        column.text(row, &mut text);
                        String::from_utf8_lossy(&text).into_owned()
                    })
                };
                let texts: Vec<Option<String>> = values.iter().map(text).collect();
                out.message(b'd', |out| form.line(texts.iter().map(Option::as_deref), out));
            }
        }
    }
}

/// Writes how many values a row has, and each with its length.
fn fields(values: &[Values<'_>], row: usize, forms: &[Form], out: &mut Vec<u8>) {
    out.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for (place, column) in values.iter().enumerate() {
        column.put(row, form_at(forms, place), out);
    }
}
