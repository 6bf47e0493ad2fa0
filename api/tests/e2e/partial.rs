//! ClickHouse hangs, or fails to read: live reads go on, and answers say what they lack, or fail with what to do.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use streamgauge_schemas::time::wall_clock;

use crate::live::Socket;
use crate::support::client::{Answer, JSON, accepted};
use crate::support::program::signal;
use crate::support::{Client, DataDir, PATIENCE, Program, eventually};

const COUNT: &str = "SELECT count(*) FROM metrics";

fn event(value: f64) -> Value {
    json!({"name": "cpu", "value": value, "timestamp": wall_clock().0})
}

async fn ask(client: &Client, sql: &str, partial: bool) -> Answer {
    client.post_json("/api/v1/sql", &json!({"sql": sql, "partial": partial})).await
}

#[track_caller]
fn is_whole(answer: &Answer, what: &str) -> Value {
    let body = answer.expect(200);
    assert!(body.get("partial").is_none() && answer.header("x-streamgauge-partial").is_empty(), "{what}: {body}");
    body
}

#[track_caller]
fn is_partial(answer: &Answer, what: &str) -> Value {
    let body = answer.expect(200);
    let missing = body["partial"]["missing"].as_str().unwrap_or_else(|| panic!("{what}: it is not marked: {body}"));
    let upto = body["partial"]["epoch"].as_u64().unwrap();
    assert!(missing.contains(&format!("history in ClickHouse up to epoch {upto} is missing")), "{what}: {missing}");
    assert_eq!(answer.header("x-streamgauge-partial"), format!("history up to epoch {upto} is missing"), "{what}");
    body
}

/// Stops the processes, and lets them go on at the end, whatever comes.
pub(crate) struct Stopped(Vec<u32>);

impl Stopped {
    pub(crate) fn new(processes: Vec<u32>) -> Self {
        processes.iter().for_each(|id| signal("STOP", *id));
        Stopped(processes)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.iter().for_each(|id| signal("CONT", *id));
    }
}

/// Posts events, and waits until ClickHouse has them.
pub(crate) async fn fill(client: &Client, events: usize) -> u64 {
    let many: Vec<Value> = (0..events).map(|i| event(i as f64)).collect();
    let epoch = accepted(&client.post_json("/v1/metrics", &json!(many)).await, events);
    eventually("flushed", true, || async {
        let status = client.get("/api/v1/status").await.expect(200);
        let mut flushes = status["flush"].as_array().unwrap().iter();
        flushes.all(|flush| flush["item"] == "catalog" || flush["epoch"].as_u64().unwrap() > epoch)
    })
    .await;
    epoch
}

/// Memory has only what it must, so that questions about history ask ClickHouse.
const NOTHING_KEPT: [&str; 4] = ["--recent-bytes-max", "0", "--cache-bytes-max", "0"];

#[tokio::test]
async fn while_clickhouse_hangs_answers_say_what_they_lack() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &NOTHING_KEPT).await;
    let client = program.client();
    fill(client, 20).await;
    let body = is_whole(&ask(client, COUNT, true).await, "while ClickHouse answers");
    assert_eq!(body["rows"], json!([[20]]));
    let mut socket = Socket::connect(client).await;

    let stopped = Stopped::new(program.children());
    let epoch = accepted(&client.post_json("/v1/metrics", &event(1_000.0)).await, 1);

    // Without it being asked for, an answer that lacks something is none.
    let began = Instant::now();
    let refused = ask(client, COUNT, false).await;
    let detail = refused.problem(503, "history_unavailable");
    assert!(detail.contains("up to epoch") && detail.contains("partial"), "{detail}");
    assert!(!refused.header("retry-after").is_empty());
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "a ClickHouse that hangs was noticed after {:?}",
        began.elapsed()
    );

    // When it is, the newest events are there, at once.
    let newest = "SELECT max(value) FROM metrics";
    let body = is_partial(&ask(client, newest, true).await, "SQL");
    assert_eq!(body["rows"], json!([[1_000.0]]));
    assert!(body["epoch"].as_u64().unwrap() >= epoch);
    let set = format!("SET streamgauge.epoch = {epoch}; SET streamgauge.partial = true; {newest}");
    is_partial(&ask(client, &set, false).await, "SQL with settings");
    let csv = client.post_json("/api/v1/sql", &json!({"sql": newest, "format": "csv", "partial": true})).await;
    assert!(csv.status == 200 && csv.text().ends_with("1000.0\n"), "{}", csv.text());
    assert!(csv.header("x-streamgauge-partial").contains("missing"), "{:?}", csv.headers);
    is_whole(&ask(client, "SELECT 1", true).await, "a question that needs no history");
    let metrics = client.get("/metrics").await;
    assert!(metrics.text().contains("streamgauge_partial_answers_total"), "{}", metrics.text());

    // A subscription goes on, and has the whole window as soon as ClickHouse is back.
    socket.send(json!({"type": "subscribe", "id": "s", "metric": "cpu", "granularity": "1s", "partial": true})).await;
    let snapshot = socket.next().await;
    assert!(snapshot["type"] == "snapshot" && snapshot["partial"]["missing"].is_string(), "{snapshot}");
    accepted(&client.post_json("/v1/metrics", &event(2_000.0)).await, 1);
    let change = socket.next().await;
    assert_eq!(change["type"], "change", "{change}");

    drop(stopped);
    eventually("whole again", json!([[22]]), || async {
        let answer = ask(client, COUNT, true).await.json();
        if answer.get("partial").is_some() { Value::Null } else { answer["rows"].clone() }
    })
    .await;
    let began = Instant::now();
    loop {
        let frame = socket.next().await;
        if frame["type"] == "snapshot" && frame.get("partial").is_none() {
            let counts =
                frame["series"][0]["points"].as_array().unwrap().iter().map(|point| point[4].as_f64().unwrap());
            assert_eq!(counts.sum::<f64>(), 22.0, "{frame}");
            break;
        }
        assert!(began.elapsed() < PATIENCE, "no whole snapshot came: {frame}");
    }
}

/// ClickHouse says that it is there, and a read fails, by a table that is missing or by one that takes too long.
#[tokio::test]
async fn a_read_that_fails_is_a_partial_answer_or_says_what_is_missing() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &[&NOTHING_KEPT[..], &["--query-timeout", "2s"]].concat()).await;
    let client = program.client();
    fill(client, 20).await;
    let max = "SELECT max(value) FROM metrics";
    for (broken, status, code) in [
        (None, 503, "history_unavailable"),
        (Some("CREATE VIEW metrics AS SELECT * FROM kept WHERE sleepEachRow(0.13) = 0"), 422, "query_time_exceeded"),
    ] {
        client.change_clickhouse("RENAME TABLE metrics TO kept").await;
        if let Some(sql) = broken {
            client.change_clickhouse(sql).await;
        }
        accepted(&client.post_json("/v1/metrics", &event(-1.0)).await, 1);
        let refused = ask(client, max, false).await;
        let detail = refused.problem(status, code);
        assert!(detail.contains("up to epoch") && detail.contains("partial"), "{detail}");
        assert_eq!(refused.header("retry-after").is_empty(), code == "query_time_exceeded", "{detail}");
        assert_eq!(detail.contains("raise query_timeout"), code == "query_time_exceeded", "{detail}");
        let body = is_partial(&ask(client, max, true).await, code);
        assert_eq!(body["rows"], json!([[-1.0]]), "no half-read rows");
        let csv = client.post_json("/api/v1/sql", &json!({"sql": max, "format": "csv", "partial": true})).await;
        assert!(csv.status == 200 && csv.text().ends_with("-1.0\n"), "{}", csv.text());
        assert!(csv.header("x-streamgauge-partial").contains("missing"), "{:?}", csv.headers);
        if broken.is_some() {
            client.change_clickhouse("DROP VIEW metrics").await;
        }
        client.change_clickhouse("RENAME TABLE kept TO metrics").await;
    }
    is_whole(&ask(client, COUNT, true).await, "mended");

    // The series of a metric, and a subscription, which is whole again once the table is back.
    client.change_clickhouse("RENAME TABLE metrics_1s_states TO kept").await;
    let path = "/api/v1/metrics/cpu/data?granularity=1s&aggregation=count";
    let refused = client.get(path).await;
    assert!(refused.problem(503, "history_unavailable").contains("up to epoch"), "{}", refused.text());
    is_partial(&client.get(&format!("{path}&partial=true")).await, "a series");
    let mut socket = Socket::connect(client).await;
    socket.send(json!({"type": "subscribe", "id": "s", "metric": "cpu", "granularity": "1s", "partial": true})).await;
    let snapshot = socket.next().await;
    assert!(snapshot["type"] == "snapshot" && snapshot["partial"]["missing"].is_string(), "{snapshot}");
    client.change_clickhouse("RENAME TABLE kept TO metrics_1s_states").await;
    let began = Instant::now();
    loop {
        let frame = socket.next().await;
        if frame["type"] == "snapshot" && frame.get("partial").is_none() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "no whole snapshot came: {frame}");
    }
}

#[tokio::test]
async fn a_question_waits_for_the_epoch_it_names() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let sql = async |epoch: &str| {
        let headers = [("content-type", JSON), ("x-streamgauge-epoch", epoch)];
        client.request("POST", "/api/v1/sql", &headers, json!({"sql": COUNT}).to_string()).await
    };
    for events in 1..=20 {
        let epoch = accepted(&client.post_json("/v1/metrics", &event(1.0)).await, 1);
        let answer = sql(&epoch.to_string()).await;
        assert_eq!(answer.expect(200)["rows"], json!([[events]]));
        assert!(answer.header("x-streamgauge-epoch").parse::<u64>().unwrap() >= epoch);
    }
    let soon = wall_clock().0 + 1_000_000;
    let began = Instant::now();
    let answer = sql(&soon.to_string()).await;
    assert!(answer.expect(200)["epoch"].as_i64().unwrap() >= soon, "{}", answer.text());
    assert!(began.elapsed() < Duration::from_secs(4), "it waited for {:?}", began.elapsed());

    let never = (wall_clock().0 + 3_600_000_000).to_string();
    let refused = sql(&never).await;
    assert!(refused.problem(503, "epoch_not_reached").contains(&never), "{}", refused.text());
    assert!(!refused.header("retry-after").is_empty());
    sql("now").await.problem(400, "bad_epoch");
    for (epoch, status) in [(never.as_str(), 503), ("x", 400), ("1", 200)] {
        let path = "/api/v1/metrics/cpu/data?partial=true";
        let answer = client.request("GET", path, &[("x-streamgauge-epoch", epoch)], "").await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    client.get("/api/v1/metrics/cpu/data?partial=perhaps").await.problem(400, "parameter_invalid");
}
