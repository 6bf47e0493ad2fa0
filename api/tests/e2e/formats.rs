//! Every form of an answer over HTTP: how it is chosen, what it says of itself, its values, its failure, its memory.

use std::fs;
use std::io::{Cursor, Read};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::ipc::reader::StreamReader;
use flate2::read::GzDecoder;
use futures::StreamExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::support::client::{Answer, accepted};
use crate::support::{Client, DataDir, Program};

/// Names, media types, and whether gzip makes it smaller.
const FORMATS: [(&str, &str, bool); 6] = [
    ("json", "application/json", true),
    ("ndjson", "application/x-ndjson", true),
    ("csv", "text/csv; charset=utf-8", true),
    ("arrow", "application/vnd.apache.arrow.stream", true),
    ("parquet", "application/vnd.apache.parquet", false),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", false),
];

async fn ask(client: &Client, query: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let headers = [&[("content-type", "application/json")], headers].concat();
    client.request("POST", &format!("/api/v1/sql{query}"), &headers, body.to_string()).await
}

async fn in_format(client: &Client, sql: &str, format: &str) -> Answer {
    let answer = ask(client, "", &[], &json!({"sql": sql, "format": format})).await;
    assert_eq!(answer.status, 200, "{format}: {}", answer.text());
    answer
}

#[tokio::test]
async fn the_form_is_chosen_and_says_what_it_is() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    accepted(&client.post_json("/v1/metrics", &json!({"name": "cpu", "value": 1})).await, 1);
    let sql = "SELECT value, 'some text' AS text FROM generate_series(1, 1000) AS s (value)";
    for (name, media_type, is_packed) in FORMATS {
        let essence = media_type.split(';').next().unwrap();
        let ways = [
            ask(client, "", &[], &json!({"sql": sql, "format": name})).await,
            ask(client, &format!("?format={name}"), &[("accept", "text/html")], &json!({"sql": sql})).await,
            ask(client, "", &[("accept", essence)], &json!({"sql": sql})).await,
            ask(client, "?format=csv", &[("accept", "text/csv")], &json!({"sql": sql, "format": name})).await,
        ];
        for answer in &ways {
            assert_eq!((answer.status, answer.header("content-type")), (200, media_type), "{}", answer.text());
            assert!(answer.header("x-streamgauge-epoch").parse::<u64>().is_ok(), "{name}");
            let disposition = answer.header("content-disposition");
            let is_file = disposition.starts_with("attachment; filename=\"streamgauge-20")
                && disposition.ends_with(&format!("Z.{name}\""));
            assert!(if name == "json" { disposition.is_empty() } else { is_file }, "{name}: {disposition}");
        }
        let packed = ask(client, "", &[("accept-encoding", "gzip")], &json!({"sql": sql, "format": name})).await;
        assert_eq!(packed.header("content-encoding"), if is_packed { "gzip" } else { "" }, "{name}");
        if is_packed && name != "json" {
            let mut plain = Vec::new();
            GzDecoder::new(packed.body.as_slice()).read_to_end(&mut plain).unwrap();
            assert_eq!(plain, ways[0].body, "{name}");
            assert!(packed.body.len() * 2 < plain.len(), "{name}: {} of {}", packed.body.len(), plain.len());
        }
    }
    let plain = ask(client, "", &[("accept", "text/html, */*;q=0.1")], &json!({"sql": "SELECT 1"})).await;
    assert_eq!(plain.header("content-type"), "application/json");
    let detail = ask(client, "", &[("accept", "image/png")], &json!({"sql": sql})).await.problem(406, "not_acceptable");
    assert!(detail.contains("application/vnd.apache.parquet"), "{detail}");
    ask(client, "?format=xml", &[], &json!({"sql": sql})).await.problem(400, "bad_parameter");
    ask(client, "?forma=csv", &[], &json!({"sql": sql})).await.problem(400, "bad_parameter");
}

/// Values at the edges of their types, over an event of ours and over what SQL makes.
const EDGES: &str = "SELECT m.ts, m.dimensions, x.whole, x.f, x.text, x.list, x.nothing \
     FROM metrics m CROSS JOIN (VALUES \
     (1, -9223372036854775808, 'NaN'::double, '', make_array(1, NULL), NULL), \
     (2, 9223372036854775807, 'inf'::double, NULL, make_array(), NULL), \
     (3, 9007199254740993, '-inf'::double, 'a,\"b\"', NULL, NULL), \
     (4, NULL, 0.1, ' ', make_array(9223372036854775807), NULL)) AS x(n, whole, f, text, list, nothing) ORDER BY x.n";

fn parquet_of(file: Vec<u8>) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
    let schema = reader.schema().clone();
    concat_batches(&schema, &reader.build().unwrap().map(Result::unwrap).collect::<Vec<_>>()).unwrap()
}

fn arrow_of(stream: &[u8]) -> RecordBatch {
    let reader = StreamReader::try_new(Cursor::new(stream), None).unwrap();
    let schema = reader.schema();
    concat_batches(&schema, &reader.map(Result::unwrap).collect::<Vec<_>>()).unwrap()
}

fn texts(column: &ArrayRef) -> Vec<Option<String>> {
    let texts = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).unwrap();
    texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

#[tokio::test]
async fn values_at_the_edges_are_the_same_in_every_form() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let event =
        json!({"ts": "2024-05-01T00:00:00.000001Z", "name": "a", "value": 1, "dimensions": {"host": "é", "": ""}});
    accepted(&client.post_json("/v1/metrics", &event).await, 1);

    let json = in_format(client, EDGES, "json").await;
    let (at, host) = ("2024-05-01T00:00:00.000001Z", r#"{"":"","host":"é"}"#);
    let rows = [
        format!(r#"["{at}",{host},-9223372036854775808,"NaN","",[1,null],null]"#),
        format!(r#"["{at}",{host},9223372036854775807,"Infinity",null,[],null]"#),
        format!(r#"["{at}",{host},9007199254740993,"-Infinity","a,\"b\"",null,null]"#),
        format!(r#"["{at}",{host},null,0.1," ",[9223372036854775807],null]"#),
    ];
    assert!(json.text().contains(&format!("\"rows\":[{}]", rows.join(","))), "{}", json.text());

    let ndjson = in_format(client, EDGES, "ndjson").await;
    let first = format!(
        r#"{{"ts":"{at}","dimensions":{host},"whole":-9223372036854775808,"f":"NaN","text":"","list":[1,null],"nothing":null}}"#
    );
    assert_eq!((ndjson.text().lines().next().unwrap(), ndjson.text().lines().count()), (first.as_str(), 4));

    let csv = in_format(client, EDGES, "csv").await;
    let host = r#""{"""":"""",""host"":""é""}""#;
    let lines = [
        "ts,dimensions,whole,f,text,list,nothing".to_owned(),
        format!(r#"{at},{host},-9223372036854775808,NaN,"","[1,null]","#),
        format!("{at},{host},9223372036854775807,Infinity,,[],"),
        format!(r#"{at},{host},9007199254740993,-Infinity,"a,""b""",,"#),
        format!("{at},{host},,0.1, ,[9223372036854775807],"),
    ];
    assert_eq!(csv.text().lines().collect::<Vec<_>>(), lines);

    let arrow = arrow_of(&in_format(client, EDGES, "arrow").await.body);
    let parquet = parquet_of(in_format(client, EDGES, "parquet").await.body);
    for (place, field) in arrow.schema().fields().iter().enumerate() {
        assert_eq!(parquet.schema().field(place).data_type(), field.data_type(), "{}", field.name());
    }
    for batch in [&arrow, &parquet] {
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.value(0), 1_714_521_600_000_001);
        let dimensions = batch.column(1).as_map().value(3);
        assert_eq!(texts(dimensions.column(1)), [Some(String::new()), Some("é".to_owned())]);
        let whole: Vec<Option<i64>> = batch.column(2).as_primitive::<Int64Type>().iter().collect();
        assert_eq!(whole, [Some(i64::MIN), Some(i64::MAX), Some((1 << 53) + 1), None]);
        let floats = batch.column(3).as_primitive::<Float64Type>();
        assert!(floats.value(0).is_nan() && floats.value(1) == f64::INFINITY, "{floats:?}");
        assert_eq!((floats.value(2), floats.value(3)), (f64::NEG_INFINITY, 0.1));
        let text = ["", "", "a,\"b\"", " "].map(|text| Some(text.to_owned()));
        let found = texts(batch.column(4));
        assert!(found[0] == text[0] && found[1].is_none() && found[2..] == text[2..], "{found:?}");
        let list = batch.column(5).as_list::<i32>();
        assert_eq!((list.value(0).len(), list.value(1).len(), list.is_null(2)), (2, 0, true));
        assert_eq!(batch.column(6).logical_null_count(), 4);
    }

    // Empty answers have their columns.
    let none = format!("SELECT * FROM ({EDGES}) WHERE whole = 5");
    assert_eq!(in_format(client, &none, "csv").await.text(), "ts,dimensions,whole,f,text,list,nothing\n");
    assert_eq!(parquet_of(in_format(client, &none, "parquet").await.body).num_columns(), 7);
    assert_eq!(arrow_of(&in_format(client, &none, "arrow").await.body).schema(), arrow.schema());
    assert!(in_format(client, &none, "xlsx").await.body.starts_with(b"PK"));
}

/// Its last rows fail: by then the first are on their way.
const FAILS_LATE: &str = "SELECT value, 1 / (400000 - value) AS part, uuid() AS id \
     FROM generate_series(1, 400000) AS s (value)";

#[tokio::test]
async fn an_answer_that_fails_on_its_way_does_not_look_whole() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    for (format, encoding) in [("ndjson", ""), ("csv", ""), ("csv", "gzip"), ("arrow", ""), ("arrow", "gzip")] {
        let headers = [("content-type", "application/json"), ("accept-encoding", encoding)];
        let body = json!({"sql": FAILS_LATE, "format": format}).to_string();
        let address = client.address();
        let request = reqwest::Client::new().post(format!("http://{address}/api/v1/sql")).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{format}");
        let mut chunks = answer.bytes_stream();
        let (mut bytes, mut error) = (0, None);
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) => bytes += chunk.len(),
                Err(broken) => error = Some(broken),
            }
        }
        assert!(bytes > 100_000 && error.is_some(), "{format} {encoding}: {bytes} bytes, and {error:?}");
    }
    // What was not begun is an error as every other.
    for format in ["json", "xlsx"] {
        let sql = FAILS_LATE.replace("400000", "50000");
        let answer = ask(client, "", &[], &json!({"sql": sql, "format": format})).await;
        let detail = answer.problem(400, "sql_failed");
        assert!(detail.to_lowercase().contains("divide by zero"), "{detail}");
    }
    let many = json!({"sql": "SELECT * FROM generate_series(1, 1048576)", "format": "xlsx"});
    let detail = ask(client, "", &[], &many).await.problem(422, "sheet_exceeded");
    assert!(detail.contains("1048575 rows") && detail.contains("parquet"), "{detail}");
}

/// The most memory that a process has had since the last time, in bytes.
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
    peak << 10
}

/// Of a larger answer the program holds no more than of a smaller one.
#[tokio::test]
async fn a_large_answer_takes_little_memory() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    for (format, rows) in [("parquet", 12_000_000), ("csv", 6_000_000), ("xlsx", 300_000)] {
        let read = async |rows: u32| {
            let sql = format!("SELECT value, uuid() AS a, uuid() AS b FROM generate_series(1, {rows}) AS s (value)");
            let body = json!({"sql": sql, "format": format}).to_string();
            let asked = reqwest::Client::new().post(format!("http://{}/api/v1/sql", client.address())).body(body);
            let mut chunks = asked.send().await.unwrap().bytes_stream();
            let mut bytes = 0;
            while let Some(chunk) = chunks.next().await {
                bytes += chunk.unwrap().len() as u64;
            }
            bytes
        };
        read(rows / 6).await;
        peak(program.id());
        let before = peak(program.id());
        let bytes = read(rows).await;
        let grown = peak(program.id()).saturating_sub(before);
        // Cells take about as much in memory as in the sheet before it is packed, some 100 bytes each.
        let held = if format == "xlsx" { u64::from(rows) * 300 } else { bytes };
        assert!(held > 50 << 20, "{format}: {held}");
        assert!(grown < held / 2, "{format}: {} MiB of memory for {} MiB of answer", grown >> 20, bytes >> 20);
    }
}
