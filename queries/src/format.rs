//! Answers as bytes: JSON, NDJSON, CSV and Arrow.
//!
//! A JSON answer is whole and bounded, so that it can say how many rows it has and whether some were cut off. The
//! others stream; their first batch is awaited, so that a question that fails at once fails before its answer begins.
//!
//! Times are written in RFC 3339 with `Z`, also those without a zone, which are UTC; maps as objects; numbers that are
//! not finite as null.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, RecordBatch, StringBuilder};
use arrow::csv::WriterBuilder as CsvBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{EncoderOptions, NullableEncoder};
use arrow::json::writer::{LineDelimited, WriterBuilder as JsonBuilder, make_encoder};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use serde_json::json;

use crate::error::QueryError;
use crate::options::Partial;
use crate::session::QueryStream;

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One object with columns and rows.
    #[default]
    Json,
    /// An object a line.
    Ndjson,
    /// Comma-separated, with a line of names.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// The media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

impl FromStr for Format {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        match text {
            "json" => Ok(Format::Json),
            "ndjson" => Ok(Format::Ndjson),
            "csv" => Ok(Format::Csv),
            "arrow" => Ok(Format::Arrow),
            other => {
                let reason = format!("{other:?} is none of json, ndjson, csv, arrow");
                Err(QueryError::Parameter { parameter: "format", reason })
            }
        }
    }
}

/// The bytes of an answer as they come.
pub type Body = BoxStream<'static, Result<Bytes, QueryError>>;

/// The answer in `format`; `started` is when the question came.
///
/// # Errors
/// What keeps the first bytes from being made; later errors are items of the body.
pub async fn body(answer: QueryStream, format: Format, started: Instant) -> Result<Body, QueryError> {
    match format {
        Format::Json => {
            let whole = json_answer(answer, started).await?;
            Ok(stream::once(async move { Ok(whole) }).boxed())
        }
        Format::Ndjson => streamed(answer, None, ndjson).await,
        Format::Csv => {
            let header = csv(&RecordBatch::new_empty(answer.schema.clone()), true)?;
            streamed(answer, Some(header), |batch| csv(batch, false)).await
        }
        Format::Arrow => arrow_stream(answer).await,
    }
}

/// The whole answer as one JSON object, its rows bounded.
///
/// # Errors
/// Any [`QueryError`] of any row.
pub async fn json_answer(mut answer: QueryStream, started: Instant) -> Result<Bytes, QueryError> {
    let limits = answer.limits().clone();
    let mut out = format!("{{\"columns\":{},\"rows\":[", columns_json(&answer.schema)).into_bytes();
    let (mut rows, mut truncated) = (0, false);
    'batches: while let Some(batch) = answer.next().await {
        let batch = with_zones(&batch?).map_err(|error| unwritable(&error))?;
        let (schema, options) = (batch.schema(), EncoderOptions::default().with_explicit_nulls(true));
        let mut encoders = encoders(&schema, &batch, &options).map_err(|error| unwritable(&error))?;
        for row in 0..batch.num_rows() {
            if rows >= limits.json_rows_max || out.len() >= limits.json_bytes_max {
                truncated = true;
                break 'batches;
            }
            if rows > 0 {
                out.push(b',');
            }
            write_row(&mut encoders, row, &mut out);
            rows += 1;
        }
    }
    let (epoch, elapsed) = (answer.epoch, started.elapsed().as_micros() as f64 / 1_000.0);
    let partial = answer.partial.as_ref().map(|partial| format!(",\"partial\":{}", partial_json(partial)));
    let (partial, end) = (partial.unwrap_or_default(), format!("\"elapsed_ms\":{elapsed},\"truncated\":{truncated}"));
    out.extend_from_slice(format!("],\"row_count\":{rows},\"epoch\":{epoch},{end}{partial}}}").as_bytes());
    Ok(out.into())
}

/// The names and types of columns, in JSON.
#[must_use]
pub fn columns_json(schema: &Schema) -> serde_json::Value {
    let column = |field: &Arc<Field>| json!({"name": field.name(), "type": type_name(field.data_type())});
    schema.fields().iter().map(column).collect()
}

/// The rows of a batch, each as an array in JSON.
///
/// # Errors
/// [`ArrowError`] for a value that has no form in JSON.
pub(crate) fn json_rows(batch: &RecordBatch) -> Result<Vec<String>, ArrowError> {
    let batch = with_zones(batch)?;
    let (schema, options) = (batch.schema(), EncoderOptions::default().with_explicit_nulls(true));
    let mut encoders = encoders(&schema, &batch, &options)?;
    let text = |row: usize| {
        let mut out = Vec::new();
        write_row(&mut encoders, row, &mut out);
        String::from_utf8(out).expect("JSON is text")
    };
    Ok((0..batch.num_rows()).map(text).collect())
}

/// What an answer lacks, in JSON.
#[must_use]
pub fn partial_json(partial: &Partial) -> serde_json::Value {
    json!({"missing": partial.missing(), "epoch": partial.upto})
}

/// The name of a type in SQL.
#[must_use]
pub fn type_name(kind: &DataType) -> &'static str {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "bigint",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double",
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            "numeric"
        }
        DataType::Boolean => "boolean",
        DataType::Timestamp(..) => "timestamp",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::Map(..)
        | DataType::Struct(_)
        | DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..) => "json",
        DataType::Dictionary(_, value) => type_name(value),
        DataType::Null => "null",
        _ => "bytes",
    }
}

/// Streams the rows, each batch written by `write`; the first is awaited.
async fn streamed(
    mut answer: QueryStream,
    header: Option<Bytes>,
    write: impl Fn(&RecordBatch) -> Result<Bytes, QueryError> + Send + 'static,
) -> Result<Body, QueryError> {
    let first = answer.next().await.transpose()?;
    let first = first.map(|batch| write(&batch)).transpose()?;
    let rest = answer.map(move |batch| write(&batch?));
    Ok(stream::iter(header.into_iter().chain(first)).map(Ok).chain(rest).filter(not_empty).boxed())
}

fn not_empty(bytes: &Result<Bytes, QueryError>) -> std::future::Ready<bool> {
    std::future::ready(!matches!(bytes, Ok(bytes) if bytes.is_empty()))
}

fn ndjson(batch: &RecordBatch) -> Result<Bytes, QueryError> {
    let write = || -> Result<Vec<u8>, ArrowError> {
        let builder = JsonBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, LineDelimited>(Vec::new());
        writer.write(&with_zones(batch)?)?;
        writer.finish()?;
        Ok(writer.into_inner())
    };
    write().map(Bytes::from).map_err(|error| unwritable(&error))
}

fn csv(batch: &RecordBatch, header: bool) -> Result<Bytes, QueryError> {
    let write = || -> Result<Vec<u8>, ArrowError> {
        let mut out = Vec::new();
        let mut writer = CsvBuilder::new().with_header(header).build(&mut out);
        writer.write(&flat(&with_zones(batch)?)?)?;
        drop(writer);
        Ok(out)
    };
    write().map(Bytes::from).map_err(|error| unwritable(&error))
}

/// The schema comes first, also of an answer without rows.
async fn arrow_stream(mut answer: QueryStream) -> Result<Body, QueryError> {
    let first = answer.next().await.transpose()?;
    let mut writer = StreamWriter::try_new(Vec::new(), &answer.schema).map_err(|error| unwritable(&error))?;
    let mut write = move |batch: Option<RecordBatch>| -> Result<Bytes, QueryError> {
        let written = match batch {
            Some(batch) => writer.write(&batch),
            None => writer.finish(),
        };
        written.map_err(|error| unwritable(&error))?;
        Ok(Bytes::from(std::mem::take(writer.get_mut())))
    };
    let batches = stream::iter(first).map(Ok).chain(answer).map(|batch| batch.map(Some));
    let ended = stream::once(async { Ok(None) });
    let body = until_error(batches.chain(ended).map(move |batch| write(batch?)));
    Ok(body.filter(not_empty).boxed())
}

/// Nothing follows an error, so that an answer cut short does not look whole.
fn until_error(
    body: impl Stream<Item = Result<Bytes, QueryError>> + Send,
) -> impl Stream<Item = Result<Bytes, QueryError>> + Send {
    body.scan(false, |failed, item| {
        let passed = (!*failed).then(|| {
            *failed = item.is_err();
            item
        });
        std::future::ready(passed)
    })
}

/// Times without a zone are in UTC.
fn with_zones(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let zoned = |kind: &DataType| match kind {
        DataType::Timestamp(unit, None) => Some(DataType::Timestamp(*unit, Some("UTC".into()))),
        _ => None,
    };
    change_columns(batch, zoned, |column, kind| arrow::compute::cast(column, kind))
}

/// Nested values as JSON text.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let text = |kind: &DataType| (kind.is_nested()).then_some(DataType::Utf8);
    change_columns(batch, text, |column, _| json_texts(column))
}

/// The values of a column, each as the text of its JSON.
///
/// # Errors
/// [`ArrowError`] for a value that has no form in JSON.
pub(crate) fn json_texts(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let field = Arc::new(Field::new("value", column.data_type().clone(), true));
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(&field, column, &options)?;
    let mut texts = StringBuilder::new();
    let mut json = Vec::new();
    for row in 0..column.len() {
        if encoder.is_null(row) {
            texts.append_null();
        } else {
            json.clear();
            encoder.encode(row, &mut json);
            texts.append_value(String::from_utf8_lossy(&json));
        }
    }
    Ok(Arc::new(texts.finish()))
}

/// Changes the columns for whose type `other` names another.
fn change_columns(
    batch: &RecordBatch,
    other: impl Fn(&DataType) -> Option<DataType>,
    change: impl Fn(&ArrayRef, &DataType) -> Result<ArrayRef, ArrowError>,
) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    if !schema.fields().iter().any(|field| other(field.data_type()).is_some()) {
        return Ok(batch.clone());
    }
    let mut fields = Vec::with_capacity(schema.fields().len());
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        match other(field.data_type()) {
            Some(kind) => {
                columns.push(change(column, &kind)?);
                fields.push(Arc::new(Field::new(field.name(), kind, true)));
            }
            None => {
                columns.push(column.clone());
                fields.push(field.clone());
            }
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn encoders<'a>(
    schema: &'a SchemaRef,
    batch: &'a RecordBatch,
    options: &'a EncoderOptions,
) -> Result<Vec<NullableEncoder<'a>>, ArrowError> {
    let columns = schema.fields().iter().zip(batch.columns());
    columns.map(|(field, column)| make_encoder(field, column, options)).collect()
}

fn write_row(encoders: &mut [NullableEncoder<'_>], row: usize, out: &mut Vec<u8>) {
    out.push(b'[');
    for (place, encoder) in encoders.iter_mut().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        if encoder.is_null(row) {
            out.extend_from_slice(b"null");
        } else {
            encoder.encode(row, out);
        }
    }
    out.push(b']');
}

/// A value that the format has no form for, such as a map whose keys are not texts.
fn unwritable(error: &ArrowError) -> QueryError {
    QueryError::Evaluation { message: format!("a value cannot be written in this format: {error}") }
}

#[cfg(test)]
mod tests;
