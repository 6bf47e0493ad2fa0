//! Rejects are kept, listed, and sent again after a fix; what is accepted counts once.

use std::process::Output;

use serde_json::json;
use streamgauge_schemas::time::wall_clock;

use crate::support::client::JSON;
use crate::support::program::PROGRAM;
use crate::support::{Client, DataDir, Program, eventually};

/// Runs `streamgauge rejects …`.
async fn rejects(client: &Client, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.arg("rejects").args(arguments).args(["--url", &format!("http://{}", client.address())]);
    command.kill_on_drop(true).output().await.unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

async fn succeeds(client: &Client, arguments: &[&str]) -> String {
    let output = rejects(client, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

async fn make_orders(client: &Client, amount: &str) {
    let columns = json!([{"name": "customer", "type": "text"}, {"name": "amount", "type": amount}]);
    let definition = json!({"name": "orders", "time_column": "at", "columns": columns});
    client.post_json("/api/v1/streams", &definition).await.expect(201);
}

/// Two good events and three bad ones of a stream, and two bad metrics of a source.
async fn post_mixed(client: &Client) {
    let orders = json!([
        {"customer": "a", "amount": 1},
        {"customer": "b", "amount": "two\nlines"},
        {"customer": "c", "amount": 3},
        {"customer": "d", "amount": "four"},
        {"customer": "e", "colour": "red"},
    ]);
    let pretty = serde_json::to_string_pretty(&orders).unwrap();
    let answer = client.post("/api/v1/streams/orders/events", JSON, pretty).await.expect(200);
    assert_eq!((&answer["accepted"], answer["rejected"].as_array().unwrap().len()), (&json!(2), 3), "{answer}");
    let ahead = wall_clock().0 + 2 * 3_600_000_000;
    let points = json!([{"name": "heat", "value": "warm"}, {"name": "heat", "value": 1, "timestamp": ahead}, {"name": "heat", "value": 2}]);
    let points = json!({"source_id": "sensor 1", "data_points": points});
    let answer = client.post_json("/api/v1/ingest", &points).await.expect(200);
    assert_eq!((&answer["accepted"], answer["rejected"].as_array().unwrap().len()), (&json!(1), 2), "{answer}");
}

#[tokio::test]
async fn rejects_are_listed_and_sent_again() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    assert!(succeeds(client, &["list"]).await.contains("no rejects"));
    make_orders(client, "f64").await;
    post_mixed(client).await;

    let listed = succeeds(client, &["list"]).await;
    assert!(listed.contains("5 rejects") && listed.contains("four") && listed.contains("sensor 1"), "{listed}");
    let listed = succeeds(client, &["list", "--stream", "orders", "--reason", "colour", "--since", "1h"]).await;
    assert!(listed.contains("1 reject\n") && listed.contains("red"), "{listed}");
    let listed = succeeds(client, &["list", "--limit", "2"]).await;
    assert!(listed.contains("2 rejects, and more"), "{listed}");

    // Before the fix they are refused again, and no further rejects are made of them.
    let refused = rejects(client, &["replay", "--stream", "orders"]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("0 accepted, 3 still refused"), "{}", text(&refused));
    assert_eq!(client.sql("SELECT count(*) FROM rejects").await, json!([[5.0]]));

    // The fix: the amount may be a text.
    assert_eq!(client.request("DELETE", "/api/v1/streams/orders", &[], "").await.status, 204);
    let gone = succeeds(client, &["replay", "--stream", "orders"]).await;
    assert!(gone.contains("3 left out, of streams that are not there: orders"), "{gone}");
    make_orders(client, "text").await;
    let dry = succeeds(client, &["replay", "--stream", "orders", "--dry-run"]).await;
    assert!(dry.contains("3 would be sent again"), "{dry}");
    assert_eq!(client.sql("SELECT count(*) FROM orders").await, json!([[0.0]]));

    let replayed = rejects(client, &["replay", "--stream", "orders"]).await;
    assert_eq!(replayed.status.code(), Some(1), "{}", text(&replayed));
    assert!(text(&replayed).contains("2 accepted, 1 still refused"), "{}", text(&replayed));
    let orders = "SELECT customer, amount FROM orders ORDER BY customer";
    let expected = json!([["b", "two\nlines"], ["d", "four"]]);
    assert_eq!(client.sql(orders).await, expected);
    let again = rejects(client, &["replay", "--stream", "orders"]).await;
    assert!(text(&again).contains("0 accepted, 1 still refused"), "{}", text(&again));
    assert_eq!(client.sql(orders).await, expected, "twice adds nothing");
    let listed = succeeds(client, &["list"]).await;
    assert!(listed.contains("3 rejects"), "what was accepted is no longer listed: {listed}");

    // The same request by anybody else is known, too.
    let key = client.sql("SELECT key, accepted FROM requests WHERE key LIKE 'reject/%' ORDER BY key").await;
    let keys = key.as_array().unwrap();
    assert!(keys.len() == 2 && keys.iter().all(|row| row[1] == 1.0), "{key}");
}

#[tokio::test]
async fn a_reject_of_a_source_keeps_it_and_all_survives_a_restart() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    make_orders(program.client(), "f64").await;
    post_mixed(program.client()).await;
    program.kill();

    // The fix is a setting this time: events may lie in the future.
    let program = Program::start_with(&data, &["--skew-max", "1d"]).await;
    let client = program.client();
    let replayed = rejects(client, &["replay", "--stream", "metrics"]).await;
    assert_eq!(replayed.status.code(), Some(1), "{}", text(&replayed));
    assert!(text(&replayed).contains("1 accepted, 1 still refused"), "{}", text(&replayed));
    let heat = "SELECT value, source FROM metrics WHERE name = 'heat' ORDER BY value";
    let expected = json!([[1.0, "sensor 1"], [2.0, "sensor 1"]]);
    assert_eq!(client.sql(heat).await, expected);
    program.kill();

    let program = Program::start(&data).await;
    let client = program.client();
    eventually("what is flushed is not sent again either", true, || async {
        let again = text(&rejects(client, &["replay", "--stream", "metrics"]).await);
        assert!(again.contains("0 accepted, 1 still refused"), "{again}");
        client.clickhouse("SELECT count() > 0 FROM requests").await == json!([[1.0]])
    })
    .await;
    assert_eq!(client.sql(heat).await, expected);
}

/// Who numbers requests is not thereby the source of their events, also when they are sent again.
#[tokio::test]
async fn a_reject_of_a_numbered_request_keeps_the_source_it_had() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let ahead = wall_clock().0 + 2 * 3_600_000_000;
    let numbered = [("content-type", JSON), ("x-streamgauge-producer", "p-1")];
    let send = async |client: &Client, sequence: &str, path: &str, body: String| {
        let headers = [&numbered[..], &[("x-streamgauge-sequence", sequence)]].concat();
        let answer = client.request("POST", path, &headers, body).await.expect(200);
        assert_eq!((&answer["accepted"], answer["rejected"].as_array().unwrap().len()), (&json!(1), 1), "{answer}");
    };
    let both = |more: &[(&str, &str)]| {
        let mut events = json!([{"name": "heat", "value": 1}, {"name": "heat", "value": 2, "timestamp": ahead}]);
        for event in events.as_array_mut().unwrap() {
            more.iter().for_each(|(key, value)| event[*key] = json!(value));
        }
        events
    };
    let client = program.client();
    send(client, "1", "/v1/metrics", both(&[]).to_string()).await;
    send(client, "2", "/v1/metrics", both(&[("source", "own")]).to_string()).await;
    let ingest = json!({"source_id": "sensor 1", "data_points": both(&[])});
    send(client, "3", "/api/v1/ingest", ingest.to_string()).await;
    make_orders(client, "f64").await;
    let orders = json!([{"amount": 1}, {"amount": "one"}]);
    send(client, "4", "/api/v1/streams/orders/events", orders.to_string()).await;
    let sources = "SELECT stream, source FROM rejects ORDER BY stream, source";
    let expected = json!([["metrics", ""], ["metrics", ""], ["metrics", "sensor 1"], ["orders", "p-1"]]);
    assert_eq!(client.sql(sources).await, expected);
    program.kill();

    let program = Program::start_with(&data, &["--skew-max", "1d"]).await;
    let client = program.client();
    let replayed = rejects(client, &["replay", "--stream", "metrics"]).await;
    assert!(text(&replayed).contains("3 accepted"), "{}", text(&replayed));
    let by_source = "SELECT source, count(*), sum(value) FROM metrics GROUP BY source ORDER BY source";
    let expected = json!([["", 2.0, 3.0], ["own", 2.0, 3.0], ["sensor 1", 2.0, 3.0]]);
    assert_eq!(client.sql(by_source).await, expected);
}
