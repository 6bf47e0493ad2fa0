//! Events in every form in which they may be posted, read back over SQL and from ClickHouse.

use serde_json::{Value, json};
use streamgauge_schemas::time::{from_rfc3339, to_rfc3339, wall_clock};

use crate::support::client::{JSON, NDJSON, accepted};
use crate::support::{Client, DataDir, Program, eventually};

#[tokio::test]
async fn every_form_is_accepted_and_read_back() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let epochs = post_every_form(client).await;
    assert!(epochs.is_sorted_by(|a, b| a < b), "epochs rise: {epochs:?}");
    let sql =
        "SELECT name, value, ts, dimensions['host'], dimensions['port'], source FROM metrics ORDER BY name, value";
    assert_eq!(client.sql(sql).await, expected());

    let sql = "SELECT name, value, formatDateTime(ts, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC'), dimensions['host'],
        dimensions['port'], source FROM metrics ORDER BY name, value";
    let of_clickhouse = clickhouse_expected(&expected());
    eventually("the events in ClickHouse", of_clickhouse, || client.clickhouse(sql)).await;
}

/// All of them at the same moment, named after their form, in order of `value`.
async fn post_every_form(client: &Client) -> Vec<u64> {
    let ingest = json!({"source_id": "edge-1", "data_points": [
        {"metric": "a_ingest", "timestamp": "2024-02-02T12:43:02.099+01:00", "value": 1, "dimensions": {"host": "h1", "port": 80}},
        {"name": "a_ingest", "timestamp": 1706874182, "value": 2.5},
        {"metric": "a_ingest", "timestamp": "2024-02-02T11:43:02.099Z", "value": -3e2, "dimensions": {}},
    ]});
    let one = r#"{"timestamp":"2024-02-02T11:43:02.099Z","name":"b_single","value":30}"#;
    let array = json!([
        {"timestamp": 1706874182, "name": "c_array", "value": 1},
        {"timestamp": 1706874182099_u64, "name": "c_array", "value": 2},
        {"timestamp": 1706874182099123_u64, "name": "c_array", "value": 3},
        {"timestamp": 1706874182099123456_u64, "name": "c_array", "value": 4},
        {"timestamp": 1706874182.5, "name": "c_array", "value": 5},
    ]);
    let lines = "{\"ts\":1706874182099,\"name\":\"d_ndjson\",\"value\":1,\"dimensions\":{\"host\":\"h2\"},\"source\":\"s2\"}\n\
        \n{\"timestamp\":1706874182099,\"metric\":\"d_ndjson\",\"value\":2,\"tags\":{\"host\":\"h3\"}}";
    let of_stream = json!([{"ts": 1706874182099_u64, "name": "e_stream", "value": 1, "labels": {"host": "ä→é"}}]);
    let packed = "{\"ts\":1706874182099,\"name\":\"f_gzip\",\"value\":1}\n{\"ts\":1706874182099,\"name\":\"f_gzip\",\"value\":2}\n";
    let events = "/api/v1/streams/metrics/events";
    vec![
        accepted(&client.post_json("/api/v1/ingest", &ingest).await, 3),
        accepted(&client.post("/v1/metrics", JSON, one).await, 1),
        // What `curl -d` sends when it is told nothing.
        accepted(&client.post("/v1/metrics", "application/x-www-form-urlencoded", one.replace("30", "31")).await, 1),
        accepted(&client.request("POST", "/api/v1/metrics", &[], one.replace("30", "32")).await, 1),
        accepted(&client.post_json("/api/v1/metrics", &array).await, 5),
        accepted(&client.post(events, NDJSON, lines).await, 2),
        accepted(&client.post_json(events, &of_stream).await, 1),
        accepted(&client.post_gzip(events, NDJSON, packed).await, 2),
        accepted(
            &client
                .post_gzip("/v1/metrics", JSON, &one.replace("b_single\",\"value\":30", "f_gzip\",\"value\":3"))
                .await,
            1,
        ),
    ]
}

fn expected() -> Value {
    let (second, milli, micro) = ("2024-02-02T11:43:02Z", "2024-02-02T11:43:02.099Z", "2024-02-02T11:43:02.099123Z");
    json!([
        ["a_ingest", -300.0, milli, null, null, "edge-1"],
        ["a_ingest", 1.0, milli, "h1", "80", "edge-1"],
        ["a_ingest", 2.5, second, null, null, "edge-1"],
        ["b_single", 30.0, milli, null, null, ""],
        ["b_single", 31.0, milli, null, null, ""],
        ["b_single", 32.0, milli, null, null, ""],
        ["c_array", 1.0, second, null, null, ""],
        ["c_array", 2.0, milli, null, null, ""],
        ["c_array", 3.0, micro, null, null, ""],
        ["c_array", 4.0, micro, null, null, ""],
        ["c_array", 5.0, "2024-02-02T11:43:02.500Z", null, null, ""],
        ["d_ndjson", 1.0, milli, "h2", null, "s2"],
        ["d_ndjson", 2.0, milli, "h3", null, ""],
        ["e_stream", 1.0, milli, "ä→é", null, ""],
        ["f_gzip", 1.0, milli, null, null, ""],
        ["f_gzip", 2.0, milli, null, null, ""],
        ["f_gzip", 3.0, milli, null, null, ""],
    ])
}

/// ClickHouse writes six decimals here, and has an empty text for a key that a map does not hold.
fn clickhouse_expected(rows: &Value) -> Value {
    let time = |text: &str| {
        let micros = from_rfc3339(text).unwrap().0.rem_euclid(1_000_000);
        json!(format!("{}.{micros:06}Z", &text[..19]))
    };
    let cell = |(index, cell): (usize, &Value)| match cell {
        Value::Null => json!(""),
        Value::String(text) if index == 2 => time(text),
        other => other.clone(),
    };
    let row = |row: &Value| row.as_array().unwrap().iter().enumerate().map(cell).collect::<Value>();
    rows.as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn an_event_without_a_time_is_of_now() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let before = to_rfc3339(wall_clock());
    accepted(&client.post("/v1/metrics", JSON, r#"{"name":"now","value":1}"#).await, 1);
    accepted(
        &client
            .post_json("/api/v1/ingest", &json!({"data_points": [{"metric": "now", "timestamp": null, "value": 2}]}))
            .await,
        1,
    );
    let sql = format!("SELECT count(*) FROM metrics WHERE name = 'now' AND ts BETWEEN TIMESTAMP '{before}' AND now()");
    assert_eq!(client.sql(&sql).await, json!([[2.0]]));
    let recent = client.data("now", "start_time=now-1m&granularity=1d&aggregation=count,sum").await;
    let points = recent[0]["points"].as_array().unwrap();
    let total = |value: usize| points.iter().map(|point| point[value].as_f64().unwrap()).sum::<f64>();
    assert_eq!((total(1), total(2)), (2.0, 3.0), "one bucket, or two around midnight: {recent}");

    let listed = client.get("/api/v1/metrics?prefix=no").await.expect(200);
    assert_eq!((&listed["metrics"][0]["name"], &listed["metrics"][0]["last_value"]), (&json!("now"), &json!(2.0)));
}
