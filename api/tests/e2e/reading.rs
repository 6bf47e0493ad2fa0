//! One answer wherever the data is: in memory, on its way, in ClickHouse.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use arrow::ipc::reader::StreamReader;
use serde_json::{Value, json};
use streamgauge_schemas::EventTime;
use streamgauge_schemas::time::{to_rfc3339, wall_clock};

use crate::dataset::{self, BEGIN, END};
use crate::questions::{self, OF_CLICKHOUSE};
use crate::support::client::accepted;
use crate::support::{Client, DataDir, Program, difference, eventually};

#[tokio::test]
async fn answers_do_not_depend_on_where_the_data_is() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let (client, events) = (program.client(), dataset::events());
    let (early, late) = events.split_at(events.len() / 2);
    dataset::post(client, early).await;
    questions::check_data(client, early, "in memory").await;
    eventually("the first half in ClickHouse", questions::of_clickhouse(early), || client.clickhouse(OF_CLICKHOUSE))
        .await;
    questions::check_data(client, early, "flushed").await;

    dataset::post(client, late).await;
    questions::check_data(client, &events, "half of it late").await;
    let answers = questions::all_answers(client).await;
    check_sql(&answers, &events);
    eventually("all in ClickHouse", questions::of_clickhouse(&events), || client.clickhouse(OF_CLICKHOUSE)).await;
    questions::assert_same(&answers, &questions::all_answers(client).await, "when all was flushed");

    await_idle(client).await;
    questions::assert_same(&answers, &questions::all_answers(client).await, "when memory had let go of the seconds");
    dataset::post(client, early).await; // late for good: every second begins a new generation
    let twice = [&events[..], early].concat();
    questions::check_data(client, &twice, "late for rows that were final").await;
    eventually("late events in ClickHouse", questions::of_clickhouse(&twice), || client.clickhouse(OF_CLICKHOUSE))
        .await;
    questions::check_data(client, &twice, "late, and flushed").await;
    check_sql(&questions::all_answers(client).await, &twice);
}

/// Raw events and all rollups, asked for in one statement, are of one moment while events arrive, are flushed, and
/// leave memory; and that moment is not before what was acknowledged.
#[tokio::test]
async fn a_question_sees_one_snapshot() {
    const BODY_EVENTS: u64 = 40;
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let post = async |client: Client, acknowledged: Arc<AtomicU64>| {
        for number in 0.. {
            let event = |index| {
                let at = BEGIN.0 + (number * 7 + index) * 1_000_000;
                json!({"timestamp": at, "name": "m", "value": 1, "dimensions": {"host": index % 3}})
            };
            let body: Vec<Value> = (0..BODY_EVENTS as i64).map(event).collect();
            accepted(&client.post_json("/v1/metrics", &json!(body)).await, BODY_EVENTS as usize);
            acknowledged.fetch_add(BODY_EVENTS, Ordering::SeqCst);
        }
    };
    let poster = tokio::spawn(post(client.clone(), acknowledged.clone()));
    let sql = r#"SELECT (SELECT count(*) FROM metrics), (SELECT sum("count") FROM metrics_1s), (SELECT sum("sum") FROM metrics_1m),
        (SELECT sum("count") FROM metrics_1h), (SELECT sum("count") FROM metrics_1d)"#;
    let (began, mut asked) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(9) {
        let before = acknowledged.load(Ordering::SeqCst) as f64;
        let row = client.sql(sql).await[0].clone();
        let counts: Vec<f64> = row.as_array().unwrap().iter().map(|cell| cell.as_f64().unwrap_or(0.0)).collect();
        assert!(counts.iter().all(|count| *count == counts[0]), "one statement saw several moments: {counts:?}");
        assert!(counts[0] >= before, "{counts:?} does not have the {before} events that were acknowledged before");
        assert_eq!(counts[0] % BODY_EVENTS as f64, 0.0, "{counts:?} has a request in part");
        asked += 1;
    }
    assert!(asked > 20, "asked {asked} times only");
    poster.abort();
}

/// Every raw event is there as it was posted, and every rollup is that of all events.
fn check_sql(answers: &BTreeMap<String, Value>, events: &[dataset::Event]) {
    let raw = |event: &dataset::Event| {
        let (host, zone) = (event.dimensions.get("host"), event.dimensions.get("zone"));
        json!([to_rfc3339(event.at), event.name, event.value, host, zone])
    };
    let mut found = sorted(answers[questions::OF_SQL[1]].as_array().unwrap().clone());
    found.iter_mut().for_each(|row| row.as_array_mut().unwrap().truncate(5)); // the source says in which form it came
    assert_eq!(difference(&json!(sorted(found)), &json!(sorted(events.iter().map(raw).collect()))), None);
    for (sql, bucket) in questions::OF_SQL[3..7].iter().zip(["1s", "1m", "1h", "1d"]) {
        let found = sorted(answers[*sql].as_array().unwrap().clone());
        let expected = sorted(dataset::rollup(bucket, events));
        assert_eq!(difference(&json!(found), &json!(expected)), None, "{sql}");
    }
}

fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(Value::to_string);
    rows
}

/// Waits until the rows of `metrics_1s` are final, and so in ClickHouse only: flushed 5 s beyond their last change.
async fn await_idle(client: &Client) {
    let newest = client.get("/api/v1/status").await.expect(200)["epoch"].as_u64().unwrap();
    eventually("seconds that are final", true, || async {
        let status = client.get("/api/v1/status").await.expect(200);
        let flush = status["flush"].as_array().unwrap().clone();
        let seconds = flush.iter().find(|item| item["item"] == "view/metrics_1s");
        seconds.unwrap_or_else(|| panic!("{status}"))["epoch"].as_u64().unwrap() > newest + 5_000_000
    })
    .await;
}

#[tokio::test]
async fn sql_answers_in_every_format() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let lines = [("2024-05-01T00:00:00Z", 1.5), ("2024-05-01T00:00:01.25Z", -2.0)];
    let body: Vec<Value> = lines.map(|(at, value)| json!({"timestamp": at, "name": "a,\"b\"", "value": value})).into();
    let epoch = accepted(&client.post_json("/v1/metrics", &json!(body)).await, 2);
    let ask = async |format: &str| {
        let sql = "SELECT ts, name, value, CAST(NULL AS TEXT) AS nothing FROM metrics ORDER BY ts";
        let answer = client.post_json("/api/v1/sql", &json!({"sql": sql, "format": format})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.header("x-streamgauge-epoch").parse::<u64>().unwrap() >= epoch, "{format}");
        answer
    };
    let rows = [
        json!(["2024-05-01T00:00:00Z", "a,\"b\"", 1.5, null]),
        json!(["2024-05-01T00:00:01.250Z", "a,\"b\"", -2.0, null]),
    ];
    let answer = ask("json").await;
    let json = answer.json();
    assert_eq!((&json["rows"], &json["row_count"], &json["truncated"]), (&json!(rows), &json!(2), &json!(false)));
    let names: Vec<&Value> = json["columns"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["ts", "name", "value", "nothing"]);
    assert_eq!(json["epoch"].to_string(), answer.header("x-streamgauge-epoch"));
    assert!(json["elapsed_ms"].is_number());

    let ndjson = ask("ndjson").await;
    let lines: Vec<Value> = ndjson.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let cells = |line: &Value| json!([line["ts"], line["name"], line["value"], line["nothing"]]);
    assert_eq!(lines.iter().map(cells).collect::<Vec<_>>(), rows);

    let csv = ask("csv").await;
    assert!(csv.header("content-type").starts_with("text/csv"), "{}", csv.header("content-type"));
    let lines: Vec<&str> = csv.text().lines().collect();
    let expected = [
        "ts,name,value,nothing",
        r#"2024-05-01T00:00:00Z,"a,""b""",1.5,"#,
        r#"2024-05-01T00:00:01.250Z,"a,""b""",-2.0,"#,
    ];
    assert_eq!(lines, expected);

    let arrow = ask("arrow").await;
    let batches: Vec<RecordBatch> = StreamReader::try_new(&arrow.body[..], None).unwrap().map(Result::unwrap).collect();
    let values =
        |batch: &RecordBatch| batch.column_by_name("value").unwrap().as_primitive::<Float64Type>().values().to_vec();
    assert_eq!(batches.iter().flat_map(values).collect::<Vec<_>>(), [1.5, -2.0]);
}

#[tokio::test]
async fn times_of_a_question_have_many_forms() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let now = wall_clock();
    let ago = |seconds: i64| EventTime(now.0 - seconds * 1_000_000);
    let events: Vec<Value> =
        [30, 90, 5_400].map(|seconds| json!({"timestamp": ago(seconds).0, "name": "recent", "value": 1})).into();
    accepted(&client.post_json("/v1/metrics", &json!(events)).await, 3);
    accepted(&client.post_json("/v1/metrics", &json!({"timestamp": BEGIN.0, "name": "old", "value": 1})).await, 1);
    let count = async |metric: &str, query: &str| {
        let series = client.data(metric, &format!("aggregation=count&{query}")).await;
        let points = series.as_array().unwrap().iter().flat_map(|one| one["points"].as_array().unwrap());
        points.map(|point| point[1].as_f64().unwrap()).sum::<f64>()
    };
    for (metric, query, expected) in [
        ("recent", String::new(), 2.0), // the last hour
        ("recent", "start_time=now-1d".into(), 3.0),
        ("recent", "start_time=now-60s&granularity=1s".into(), 1.0),
        ("recent", "start_time=now-2h&end_time=now-1h&granularity=1s".into(), 1.0),
        ("recent", format!("start_time={}&granularity=1s", ago(100).0 / 1_000_000), 2.0),
        ("recent", format!("start_time={}&end_time={}&granularity=1s", ago(100).0 / 1_000, ago(60).0), 1.0),
        ("old", format!("start_time={}&end_time={}", to_rfc3339(BEGIN), to_rfc3339(END)), 1.0),
        ("old", format!("start_time={}&end_time={}&granularity=1s", BEGIN.0 / 1_000_000 - 9, BEGIN.0 / 1_000_000), 0.0), // the end is exclusive
        ("old", format!("start_time={}&end_time={}&granularity=1s", BEGIN.0, BEGIN.0 + 1_000_000), 1.0),
    ] {
        assert_eq!(count(metric, &query).await, expected, "{metric} {query}");
    }
}

#[tokio::test]
async fn values_for_parameters() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    accepted(
        &client.post_json("/v1/metrics", &json!([{"name": "cpu", "value": 1}, {"name": "cpu", "value": 2}])).await,
        2,
    );
    let ask = |params: serde_json::Value| {
        let body = json!({"sql": "SELECT count(*) FROM metrics WHERE name = $1 AND value > $2", "params": params});
        async move { client.post_json("/api/v1/sql", &body).await }
    };
    assert_eq!(ask(json!(["cpu", 1])).await.expect(200)["rows"], json!([[1]]));
    assert_eq!(ask(json!(["cpu", 0.5])).await.expect(200)["rows"], json!([[2]]));
    let detail = ask(json!(["cpu"])).await.problem(400, "parameter_invalid");
    assert!(detail.contains("parameters up to $2"), "{detail}");
}
