//! Formats, each read back.
//!
//! # Layout
//!
//! - `random`: batches of every type; `round_trip`: what comes back of them; `sheet`: reading XLSX.

mod random;
mod round_trip;
mod sheet;

use std::sync::Arc;

use ::arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, TimestampNanosecondArray,
};
use ::arrow::buffer::OffsetBuffer;
use ::arrow::datatypes::Field;
use bytes::Bytes;
use streamgauge_schemas::event::{append_dimensions, dimensions_builder};
use streamgauge_schemas::{Epoch, Series};

use super::{Encode, json_rows, type_name};
use crate::error::QueryError;

/// What an encoder makes of batches.
fn written(mut encoder: impl Encode, batches: &[RecordBatch]) -> Result<Bytes, QueryError> {
    let mut out = Vec::new();
    for batch in batches {
        out.extend(encoder.batch(batch)?);
    }
    out.extend(encoder.end()?);
    Ok(out.into())
}

fn csv(batches: &[RecordBatch]) -> Bytes {
    written(super::csv::Csv::new(&batches[0].schema()), batches).unwrap()
}

fn ndjson(batches: &[RecordBatch]) -> Bytes {
    written(super::json::Ndjson, batches).unwrap()
}

fn parquet(batches: &[RecordBatch]) -> Bytes {
    written(super::parquet::Parquet::new(&batches[0].schema(), Epoch(17)).unwrap(), batches).unwrap()
}

fn arrow(batches: &[RecordBatch]) -> Bytes {
    written(super::arrow::Arrow::new(&batches[0].schema()).unwrap(), batches).unwrap()
}

fn batch() -> RecordBatch {
    let mut dimensions = dimensions_builder();
    append_dimensions(&mut dimensions, &Series::new("", [("host", "a\""), ("zone", "1")]));
    append_dimensions(&mut dimensions, &Series::new("", Vec::<(String, String)>::new()));
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "ts",
            Arc::new(
                TimestampMicrosecondArray::from(vec![1_714_521_600_000_000, 1_714_521_600_500_001])
                    .with_timezone("UTC"),
            ),
        ),
        ("plain", Arc::new(TimestampNanosecondArray::from(vec![Some(0), None]))),
        ("text", Arc::new(StringArray::from(vec![Some("a,\"b\"\n"), None]))),
        ("int", Arc::new(Int64Array::from(vec![i64::MIN, 1]))),
        ("float", Arc::new(Float64Array::from(vec![f64::NAN, 0.1]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("dimensions", Arc::new(dimensions.finish())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn text(bytes: Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn lines_of_json() {
    let lines = text(ndjson(&[batch()]));
    let expected = concat!(
        r#"{"ts":"2024-05-01T00:00:00Z","plain":"1970-01-01T00:00:00Z","text":"a,\"b\"\n","int":-9223372036854775808,"#,
        r#""float":"NaN","flag":true,"dimensions":{"host":"a\"","zone":"1"}}"#,
        "\n",
        r#"{"ts":"2024-05-01T00:00:00.500001Z","plain":null,"text":null,"int":1,"float":0.1,"flag":null,"dimensions":{}}"#,
        "\n"
    );
    assert_eq!(lines, expected);
}

#[test]
fn comma_separated() {
    let expected = concat!(
        "ts,plain,text,int,float,flag,dimensions\n",
        "2024-05-01T00:00:00Z,1970-01-01T00:00:00Z,\"a,\"\"b\"\"\n\",-9223372036854775808,NaN,true,",
        "\"{\"\"host\"\":\"\"a\\\"\"\"\",\"\"zone\"\":\"\"1\"\"}\"\n",
        "2024-05-01T00:00:00.500001Z,,,1,0.1,,{}\n"
    );
    assert_eq!(text(csv(&[batch()])), expected);
    assert_eq!(text(csv(&[batch().slice(0, 0)])), "ts,plain,text,int,float,flag,dimensions\n");
}

#[test]
fn rows_of_json() {
    let expected = concat!(
        r#"["2024-05-01T00:00:00Z","1970-01-01T00:00:00Z","a,\"b\"\n",-9223372036854775808,"NaN",true,{"host":"a\"","zone":"1"}]"#,
        r#"["2024-05-01T00:00:00.500001Z",null,null,1,0.1,null,{}]"#
    );
    assert_eq!(json_rows(&batch()).unwrap().concat(), expected);
    let names: Vec<_> = batch().schema().fields().iter().map(|field| type_name(field.data_type())).collect();
    assert_eq!(names, ["timestamp", "timestamp", "text", "bigint", "double", "boolean", "json"]);
}

#[test]
fn a_null_and_an_empty_text_differ_in_a_line_of_values() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![None, Some(""), Some(" x"), Some("a\rb")]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -0.0]));
    let batch = RecordBatch::try_from_iter([("a,b", texts), ("f", floats)]).unwrap();
    let expected = "\"a,b\",f\n,Infinity\n\"\",-Infinity\n x,NaN\n\"a\rb\",-0.0\n";
    assert_eq!(text(csv(std::slice::from_ref(&batch))), expected);
    assert_eq!(json_rows(&batch).unwrap()[..2], [r#"[null,"Infinity"]"#, r#"["","-Infinity"]"#]);
}

#[test]
fn times_within_others_are_in_utc_too() {
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None]));
    let item = Arc::new(Field::new("at", times.data_type().clone(), true));
    let parts: ArrayRef = Arc::new(StructArray::from(vec![(item.clone(), times.clone())]));
    let lists: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2]), times, None));
    let of = |array| RecordBatch::try_from_iter([("x", array)]).unwrap();
    assert_eq!(json_rows(&of(parts)).unwrap(), [r#"[{"at":"1970-01-01T00:00:00Z"}]"#, r#"[{"at":null}]"#]);
    assert_eq!(text(csv(&[of(lists)])), "x\n\"[\"\"1970-01-01T00:00:00Z\"\",null]\"\n");
}

#[test]
fn a_parquet_file_without_its_end_is_none() {
    use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let whole = parquet(&[batch()]);
    let reader = ParquetRecordBatchReaderBuilder::try_new(whole.clone()).unwrap();
    let epoch = reader.metadata().file_metadata().key_value_metadata().unwrap();
    assert!(epoch.iter().any(|pair| pair.key == "streamgauge.epoch" && pair.value.as_deref() == Some("17")));
    for cut in [1, 4, 100, whole.len() - 4] {
        assert!(ParquetRecordBatchReaderBuilder::try_new(whole.slice(..whole.len() - cut)).is_err(), "{cut}");
    }
}
