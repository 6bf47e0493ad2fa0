use arrow::array::{
    BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use streamgauge_schemas::Series;
use streamgauge_schemas::event::{append_dimensions, dimensions_builder};

use super::*;

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
    let lines = text(ndjson(&batch()).unwrap());
    let expected = concat!(
        r#"{"ts":"2024-05-01T00:00:00Z","plain":"1970-01-01T00:00:00Z","text":"a,\"b\"\n","int":-9223372036854775808,"#,
        r#""float":null,"flag":true,"dimensions":{"host":"a\"","zone":"1"}}"#,
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
    assert_eq!(text(csv(&batch(), true).unwrap()), expected);
    assert_eq!(text(csv(&batch().slice(0, 0), true).unwrap()), "ts,plain,text,int,float,flag,dimensions\n");
}

#[test]
fn rows_of_json() {
    let batch = with_zones(&batch()).unwrap();
    let (schema, options) = (batch.schema(), EncoderOptions::default().with_explicit_nulls(true));
    let mut encoders = encoders(&schema, &batch, &options).unwrap();
    let mut out = Vec::new();
    (0..2).for_each(|row| write_row(&mut encoders, row, &mut out));
    let expected = concat!(
        r#"["2024-05-01T00:00:00Z","1970-01-01T00:00:00Z","a,\"b\"\n",-9223372036854775808,null,true,{"host":"a\"","zone":"1"}]"#,
        r#"["2024-05-01T00:00:00.500001Z",null,null,1,0.1,null,{}]"#
    );
    assert_eq!(text(out.into()), expected);
    let names: Vec<_> = schema.fields().iter().map(|field| type_name(field.data_type())).collect();
    assert_eq!(names, ["timestamp", "timestamp", "text", "bigint", "double", "boolean", "json"]);
}
