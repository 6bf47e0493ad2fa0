//! What is recent is answered without ClickHouse, and so is what was asked before and does not change.

use std::time::Duration;

use serde_json::{Value, json};

use crate::partial::Stopped;
use crate::support::client::accepted;
use crate::support::{Client, DataDir, Program, eventually};

const EVENTS: usize = 300;
const LAST_MINUTES: &str =
    "SELECT count(*), sum(count), sum(sum) FROM metrics_1s WHERE bucket >= now() - interval '5 minutes'";
const ALL: &str = "SELECT count(*), sum(count), sum(sum) FROM metrics_1s WHERE dimensions['host'] <> 'nobody'";

/// The only row of an answer, and the bytes that came from ClickHouse for it.
async fn asked(client: &Client, sql: &str, user: &str) -> (Value, u64) {
    let headers = [("content-type", "application/json"), ("x-streamgauge-user", user)];
    let answer = client.request("POST", "/api/v1/sql", &headers, json!({"sql": sql}).to_string()).await;
    let rows = answer.expect(200)["rows"].clone();
    let bytes = format!(
        "SELECT clickhouse_bytes FROM system.queries WHERE user_name = '{user}' ORDER BY started_at DESC LIMIT 1"
    );
    (rows[0].clone(), client.sql(&bytes).await[0][0].as_f64().unwrap() as u64)
}

async fn post_recent(client: &Client) -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as usize;
    let events: Vec<Value> = (0..EVENTS)
        .map(|n| json!({"name": "cpu", "ts": now - n * 500, "value": n, "dimensions": {"host": format!("h{}", n % 3)}}))
        .collect();
    let last = accepted(&client.post_json("/v1/metrics", &json!(events)).await, EVENTS);
    eventually("flushed", true, || async {
        let status = client.get("/api/v1/status").await.expect(200);
        let mut flushes = status["flush"].as_array().unwrap().iter();
        flushes.all(|flush| flush["item"] == "catalog" || flush["epoch"].as_u64().unwrap() > last)
    })
    .await;
    asked(client, LAST_MINUTES, "first").await.0
}

#[tokio::test]
async fn recent_time_is_answered_from_memory_through_a_restart() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let expected = post_recent(client).await;
    assert_eq!(expected[1], json!(EVENTS));
    // Rows by seconds are final after five; a minute's and an hour's are not.
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(asked(client, LAST_MINUTES, "recent").await, (expected.clone(), 0));
    {
        let _stopped = Stopped::new(program.children());
        assert_eq!(asked(client, LAST_MINUTES, "while ClickHouse hangs").await, (expected.clone(), 0));
    }
    program.kill();

    let program = Program::start(&data).await;
    assert_eq!(asked(program.client(), LAST_MINUTES, "restarted").await, (expected.clone(), 0));
    program.kill();

    // Without memory for it, ClickHouse is asked; and once for what does not change.
    let program = Program::start_with(&data, &["--recent-bytes-max", "0"]).await;
    let client = program.client();
    let rows = || client.sql("SELECT memory_rows FROM system.views WHERE view = 'metrics_1s'");
    eventually("memory is empty", json!([[0.0]]), rows).await;
    let (found, bytes) = asked(client, LAST_MINUTES, "not kept").await;
    assert!(found == expected && bytes > 0, "{found} of {bytes} bytes");
}

#[tokio::test]
async fn history_that_does_not_change_is_read_once() {
    for (cache, again) in [("8000000", false), ("0", true)] {
        let data = DataDir::new();
        let program = Program::start_with(&data, &["--cache-bytes-max", cache]).await;
        let client = program.client();
        let columns = json!([{"name": "at", "type": "timestamp"}, {"name": "amount", "type": "i64"}]);
        let orders = json!({"name": "orders", "time_column": "at", "columns": columns});
        client.post_json("/api/v1/streams", &orders).await.expect(201);
        let event = |n: i64| json!({"at": 1_714_521_600 + n, "amount": n});
        let flush = async |events: Vec<Value>| {
            let answer = client.post_json("/api/v1/streams/orders/events", &json!(events)).await;
            let last = accepted(&answer, events.len());
            eventually("flushed", true, || async {
                let status = client.get("/api/v1/status").await.expect(200);
                let mut flushes = status["flush"].as_array().unwrap().iter();
                flushes.all(|flush| flush["item"] == "catalog" || flush["epoch"].as_u64().unwrap() > last)
            })
            .await;
        };
        flush((0..1_000).map(event).collect()).await;
        for sql in ["SELECT sum(amount), count(*) FROM orders", "SELECT max(amount) - 999 FROM orders WHERE amount > 3"]
        {
            let (first, bytes) = asked(client, sql, "first").await;
            assert!(bytes > 0, "{sql}");
            tokio::time::sleep(Duration::from_secs(2)).await; // flushes without events change nothing
            let (second, bytes) = asked(client, sql, "second").await;
            assert_eq!((&second, bytes > 0), (&first, again), "{sql}");
        }
        flush(vec![event(1_000)]).await;
        assert_eq!(asked(client, "SELECT sum(amount), count(*) FROM orders", "third").await.0, json!([500_500, 1_001]));
        if cache != "0" {
            let answer = client.get("/metrics").await;
            let text = answer.text();
            assert!(text.contains("streamgauge_history_cache_total{found=\"yes\"} 2"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_question_of_a_known_shape_is_not_planned_again() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    post_recent(client).await;
    let found = async |found: &str| {
        let answer = client.get("/metrics").await;
        let text = answer.text();
        let line = format!("streamgauge_plan_cache_total{{found=\"{found}\"}} ");
        text.lines().find_map(|text| text.strip_prefix(&line)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let (before, unknown) = (found("yes").await, found("no").await);
    for host in ["h0", "h1", "h2"] {
        let sql = format!(
            "SELECT sum(count) FROM metrics_1s WHERE dimensions['host'] = '{host}' AND bucket >= now() - interval '1 hour'"
        );
        assert_eq!(client.sql(&sql).await, json!([[(EVENTS / 3) as f64]]), "{host}");
    }
    assert_eq!((found("yes").await - before, found("no").await - unknown), (2, 1));
}

#[tokio::test]
async fn a_question_about_everything_still_asks_clickhouse() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let expected = post_recent(program.client()).await;
    program.kill();
    let program = Program::start_with(&data, &["--recent-bytes-max", "30000"]).await; // not even one row of each view
    let client = program.client();
    let rows = || client.sql("SELECT memory_rows FROM system.views WHERE view = 'metrics_1s'");
    eventually("memory is empty", json!([[0.0]]), rows).await;
    let (found, bytes) = asked(client, ALL, "all").await;
    assert!(found == expected && bytes > 0, "{found} of {bytes} bytes");
}

#[tokio::test]
async fn history_of_a_series_is_found_by_its_identity() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    post_recent(program.client()).await;
    program.kill();
    let program = Program::start_with(&data, &["--recent-bytes-max", "0", "--cache-bytes-max", "0"]).await;
    let client = program.client();
    let rows = || client.sql("SELECT memory_rows FROM system.views WHERE view = 'metrics_1s'");
    eventually("memory is empty", json!([[0.0]]), rows).await;
    let plan = async |sql: &str| client.sql(&format!("EXPLAIN {sql}")).await.to_string();
    let known = json!(EVENTS / 3);
    // Added up in ClickHouse, and read.
    for selected in ["sum(count)", "sum(count), count(*)"] {
        let of = |host: &str| format!("SELECT {selected} FROM metrics_1s WHERE dimensions['host'] = '{host}'");
        let (found, bytes) = asked(client, &of("h1"), &format!("known {selected}")).await;
        assert!(found[0] == known && bytes > 0, "{found} of {bytes} bytes");
        let shown = plan(&of("h1")).await;
        assert!(shown.contains("s.`series` IN (toUInt128('"), "{shown}");
        assert_eq!(client.sql(&of("nobody")).await[0][0], Value::Null);
        let shown = plan(&of("nobody")).await;
        assert!(shown.contains("AND false"), "{shown}");
    }

    // One that comes later is known with its first event.
    let event = json!([{"name": "cpu", "ts": 1_714_521_600_000_u64, "value": 1, "dimensions": {"host": "late"}}]);
    accepted(&client.post_json("/v1/metrics", &event).await, 1);
    eventually("only in ClickHouse", json!([[0.0]]), rows).await;
    let late = "SELECT sum(count), count(*) FROM metrics_1s WHERE dimensions['host'] = 'late'";
    assert_eq!(client.sql(late).await, json!([[1.0, 1.0]]));
    let data = client.data("cpu", "start_time=2024-05-01&granularity=1d&aggregation=count&filter=host:late").await;
    assert_eq!(data[0]["points"][0][1], json!(1.0), "{data}");
    let data = client.data("cpu", "start_time=2024-05-01&granularity=1d&filter=host:nobody").await;
    assert_eq!(data, json!([]));
}
