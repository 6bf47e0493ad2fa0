//! Answers as bytes: JSON, NDJSON, CSV, Arrow, Parquet and XLSX.
//!
//! A JSON answer is whole and bounded, so that it can say how many rows it has and whether some were cut off; an XLSX
//! answer is whole, as it is made on disk first. The others stream, and are written apart from the threads that serve
//! the network, unless they are so small that the way there and back would take longer. Their first bytes are awaited, so
//! that a question that fails at once fails before its answer begins.
//!
//! # Failure
//!
//! An answer that fails later ends with an error and without its end: an Arrow stream lacks its mark, Parquet its footer,
//! and whoever sends lines must break the connection off.
//!
//! # Values
//!
//! Each value can be told from each other in every format, as far as the format can hold it. In text, times are written
//! in RFC 3339 with `Z`, also those without a zone, which are UTC; maps as objects of JSON; numbers that are not finite
//! as `NaN`, `Infinity` and `-Infinity`.
//!
//! # Layout
//!
//! - `json`, `csv`, `arrow`, `parquet`, `xlsx`: a file a format.

mod arrow;
mod csv;
mod json;
mod parquet;
mod xlsx;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use ::arrow::array::{ArrayRef, RecordBatch};
use ::arrow::datatypes::{DataType, Field, Schema};
use ::arrow::error::ArrowError;
use bytes::Bytes;
use datafusion::error::DataFusionError;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use crate::error::QueryError;
use crate::session::QueryStream;
pub use json::{columns_json, json_answer, partial_json};
pub(crate) use json::{json_rows, json_texts};

/// An answer is small as long as its batches have no more bytes than this.
const SMALL_BYTES: usize = 64 << 10;

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
    /// A Parquet file.
    Parquet,
    /// A sheet of Excel.
    Xlsx,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 6] =
        [Format::Json, Format::Ndjson, Format::Csv, Format::Arrow, Format::Parquet, Format::Xlsx];

    /// The name that asks for it, which is also the usual ending of a file's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
            Format::Arrow => "arrow",
            Format::Parquet => "parquet",
            Format::Xlsx => "xlsx",
        }
    }

    /// The media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Parquet => "application/vnd.apache.parquet",
            Format::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        }
    }
}

impl FromStr for Format {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        Format::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| {
            let reason = format!("{text:?} is none of {}", Format::ALL.map(Format::name).join(", "));
            QueryError::Parameter { parameter: "format", reason }
        })
    }
}

/// The bytes of an answer as they come.
pub type Body = BoxStream<'static, Result<Bytes, QueryError>>;

/// The answer in `format`; `started` is when the question came.
///
/// # Errors
/// What keeps the first bytes from being made; later errors are the last item of the body.
pub async fn body(answer: QueryStream, format: Format, started: Instant) -> Result<Body, QueryError> {
    match format {
        Format::Json => {
            let whole = json_answer(answer, started).await?;
            Ok(stream::once(async move { Ok(whole) }).boxed())
        }
        Format::Ndjson => streamed(answer, json::Ndjson).await,
        Format::Csv => {
            let csv = csv::Csv::new(&answer.schema);
            streamed(answer, csv).await
        }
        Format::Arrow => {
            let arrow = arrow::Arrow::new(&answer.schema)?;
            streamed(answer, arrow).await
        }
        Format::Parquet => {
            let parquet = parquet::Parquet::new(&answer.schema, answer.epoch)?;
            streamed(answer, parquet).await
        }
        Format::Xlsx => xlsx::body(answer).await,
    }
}

/// A format that is written batch by batch.
trait Encode: Send + Sized + 'static {
    /// The bytes that are complete with this batch; there may be none.
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, QueryError>;

    /// What follows the last batch.
    fn end(self) -> Result<Bytes, QueryError>;
}

/// An answer on its way.
struct Streamed<E> {
    answer: QueryStream,
    encoder: E,
    /// What its batches had so far.
    bytes: usize,
}

impl<E: Encode> Streamed<E> {
    /// The next bytes, and what comes after them, if anything does.
    async fn next(self) -> Result<(Bytes, Option<Self>), QueryError> {
        let Streamed { mut answer, mut encoder, bytes: mut all } = self;
        loop {
            let batch = answer.next().await.transpose()?;
            all += batch.as_ref().map_or(0, RecordBatch::get_array_memory_size);
            let write = move || match batch {
                Some(batch) => Ok((encoder.batch(&batch)?, Some(encoder))),
                None => Ok((encoder.end()?, None)),
            };
            let (bytes, going_on) = if all <= SMALL_BYTES { write()? } else { apart(write).await? };
            match going_on {
                None => return Ok((bytes, None)),
                Some(encoder) if !bytes.is_empty() => {
                    return Ok((bytes, Some(Streamed { answer, encoder, bytes: all })));
                }
                Some(back) => encoder = back,
            }
        }
    }
}

/// Streams an answer; its first bytes are awaited, and nothing follows an error.
async fn streamed(answer: QueryStream, encoder: impl Encode) -> Result<Body, QueryError> {
    let (first, rest) = Streamed { answer, encoder, bytes: 0 }.next().await?;
    let rest = stream::try_unfold(rest, |rest| async {
        match rest {
            Some(rest) => rest.next().await.map(Some),
            None => Ok(None),
        }
    });
    let bytes = stream::once(async { Ok(first) }).chain(rest);
    Ok(bytes.try_filter(|bytes| std::future::ready(!bytes.is_empty())).boxed())
}

/// Does work that takes a processor or a disk for a while, on a thread that serves nobody else.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| QueryError::Bug(Arc::new(DataFusionError::ExecutionJoin(Box::new(error)))))?
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

/// The text of a number that is not finite.
fn not_finite(value: f64) -> Option<&'static str> {
    match value {
        value if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

/// Times without a zone are in UTC.
fn with_zones(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    change_columns(batch, zoned, |column, kind| ::arrow::compute::cast(column, kind))
}

/// The type with zones, also of times within others, if it has times without one.
fn zoned(kind: &DataType) -> Option<DataType> {
    let within =
        |field: &Arc<Field>| zoned(field.data_type()).map(|kind| Arc::new(field.as_ref().clone().with_data_type(kind)));
    match kind {
        DataType::Timestamp(unit, None) => Some(DataType::Timestamp(*unit, Some("UTC".into()))),
        DataType::List(item) => within(item).map(DataType::List),
        DataType::LargeList(item) => within(item).map(DataType::LargeList),
        DataType::Map(entries, is_sorted) => within(entries).map(|entries| DataType::Map(entries, *is_sorted)),
        DataType::Struct(fields) if fields.iter().any(|field| zoned(field.data_type()).is_some()) => {
            Some(DataType::Struct(fields.iter().map(|field| within(field).unwrap_or_else(|| field.clone())).collect()))
        }
        _ => None,
    }
}

/// Nested values as JSON text.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let text = |kind: &DataType| (kind.is_nested()).then_some(DataType::Utf8);
    change_columns(batch, text, |column, _| json_texts(column))
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

/// A value that the format has no form for, such as a map whose keys are not texts.
fn unwritable(error: &dyn std::fmt::Display) -> QueryError {
    QueryError::Evaluation { message: format!("a value cannot be written in this format: {error}") }
}

#[cfg(test)]
mod tests;
