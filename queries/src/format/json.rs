//! JSON: whole answers, lines, and rows as arrays.
//!
//! JSON has no numbers that are not finite; they are the texts `"NaN"`, `"Infinity"` and `"-Infinity"`.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, StringBuilder};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder, make_encoder,
};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;

use super::{Encode, not_finite, type_name, unwritable, with_zones};
use crate::error::QueryError;
use crate::options::Partial;
use crate::session::QueryStream;

/// How values are written; nulls are.
static OPTIONS: LazyLock<EncoderOptions> =
    LazyLock::new(|| EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(Floats)));
/// How numbers are written that are finite.
static PLAIN: LazyLock<EncoderOptions> = LazyLock::new(EncoderOptions::default);

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
        let schema = batch.schema();
        let mut encoders = encoders(&schema, &batch).map_err(|error| unwritable(&error))?;
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
    let schema = batch.schema();
    let mut encoders = encoders(&schema, &batch)?;
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

/// An object a line.
pub(super) struct Ndjson;

impl Encode for Ndjson {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, QueryError> {
        let write = || -> Result<Vec<u8>, ArrowError> {
            let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Floats));
            let mut writer = builder.build::<_, LineDelimited>(Vec::new());
            writer.write(&with_zones(batch)?)?;
            writer.finish()?;
            Ok(writer.into_inner())
        };
        write().map(Bytes::from).map_err(|error| unwritable(&error))
    }

    fn end(self) -> Result<Bytes, QueryError> {
        Ok(Bytes::new())
    }
}

/// The values of a column, each as the text of its JSON.
///
/// # Errors
/// [`ArrowError`] for a value that has no form in JSON.
pub(crate) fn json_texts(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let field = Arc::new(Field::new("value", column.data_type().clone(), true));
    let mut encoder = make_encoder(&field, column, &OPTIONS)?;
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

fn encoders<'a>(schema: &'a SchemaRef, batch: &'a RecordBatch) -> Result<Vec<NullableEncoder<'a>>, ArrowError> {
    let columns = schema.fields().iter().zip(batch.columns());
    columns.map(|(field, column)| make_encoder(field, column, &OPTIONS)).collect()
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

/// Writes floats that are not finite as texts.
#[derive(Debug)]
struct Floats;

struct Float<'a, T: ArrowPrimitiveType> {
    values: &'a PrimitiveArray<T>,
    finite: NullableEncoder<'a>,
}

impl<T: ArrowPrimitiveType<Native: Into<f64>>> Encoder for Float<'_, T> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        match not_finite(self.values.value(row).into()) {
            Some(text) => {
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
            }
            None => self.finite.encode(row, out),
        }
    }
}

impl EncoderFactory for Floats {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        match array.data_type() {
            DataType::Float32 => floats(field, array.as_primitive::<Float32Type>()),
            DataType::Float64 => floats(field, array.as_primitive::<Float64Type>()),
            _ => Ok(None),
        }
    }
}

fn floats<'a, T: ArrowPrimitiveType<Native: Into<f64>>>(
    field: &'a FieldRef,
    values: &'a PrimitiveArray<T>,
) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
    if values.values().iter().all(|value| not_finite((*value).into()).is_none()) {
        return Ok(None);
    }
    let finite = make_encoder(field, values, &PLAIN)?;
    Ok(Some(NullableEncoder::new(Box::new(Float { values, finite }), values.nulls().cloned())))
}
