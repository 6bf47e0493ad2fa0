//! Requests with a name: sent again, at the same time, after a restart, with another body; and what is kept of them.

use serde_json::json;

use crate::support::client::{Answer, JSON, NDJSON, accepted};
use crate::support::{Client, DataDir, Program, eventually};

const EVENTS: &str = "/api/v1/streams/metrics/events";
const BODY: &str = "{\"name\":\"once\",\"value\":1}\n{\"name\":\"once\",\"valeu\":2}\n{\"name\":\"once\",\"value\":3}";
const COUNT: &str = "SELECT count(*), sum(value) FROM metrics WHERE name = 'once'";

async fn keyed(client: &Client, key: &str, body: &'static str) -> Answer {
    let headers = [("content-type", NDJSON), ("idempotency-key", key)];
    client.request("POST", EVENTS, &headers, body.as_bytes()).await
}

async fn numbered(client: &Client, producer: &str, sequence: u64, body: &'static str) -> Answer {
    let sequence = sequence.to_string();
    let headers =
        [("content-type", NDJSON), ("x-streamgauge-producer", producer), ("x-streamgauge-sequence", &sequence)];
    client.request("POST", EVENTS, &headers, body.as_bytes()).await
}

fn assert_repeat(first: &Answer, again: &Answer) {
    assert_eq!(again.expect(200), first.expect(200));
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    assert_eq!(again.header("x-streamgauge-epoch"), first.header("x-streamgauge-epoch"));
}

#[tokio::test]
async fn a_repeat_is_answered_as_the_first_time_and_adds_nothing() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let first = keyed(client, "k-1", BODY).await;
    assert_eq!(first.expect(200)["accepted"], 2);
    assert_repeat(&first, &keyed(client, "k-1", BODY).await);
    keyed(client, "k-1", "{\"name\":\"once\",\"value\":1}").await.problem(409, "key_reused");
    let elsewhere = [("content-type", JSON), ("idempotency-key", "k-1")];
    let once = r#"{"name":"once","value":1}"#;
    assert_eq!(client.request("POST", "/v1/metrics", &elsewhere, once).await.status, 409, "another body");
    assert_eq!(client.sql(COUNT).await, json!([[2.0, 4.0]]));

    // Ten at the same time are one.
    let same = (0..10).map(|_| keyed(client, "k-2", BODY));
    let answers = futures::future::join_all(same).await;
    let first_time = answers.iter().filter(|answer| answer.header("idempotency-replayed").is_empty()).count();
    assert_eq!(first_time, 1);
    assert!(answers.iter().all(|answer| answer.expect(200) == answers[0].expect(200)));
    assert_eq!(client.sql(COUNT).await, json!([[4.0, 8.0]]));

    // A request that is not taken leaves its name free.
    keyed(client, "k-3", "").await.problem(400, "empty_body");
    accepted(&keyed(client, "k-3", "{\"name\":\"once\",\"value\":0}").await, 1);

    // After SIGKILL they come from the log; after a flush from ClickHouse.
    program.kill();
    let program = Program::start(&data).await;
    let client = program.client();
    assert_repeat(&first, &keyed(client, "k-1", BODY).await);
    let kept = "SELECT count() FROM requests";
    eventually("requests are flushed", json!([[3.0]]), || client.clickhouse(kept)).await;
    let (status, _) = program.terminate().await;
    assert!(status.success());
    let program = Program::start(&data).await;
    let client = program.client();
    assert_repeat(&first, &keyed(client, "k-1", BODY).await);
    keyed(client, "k-1", "{}").await.problem(409, "key_reused");
    assert_eq!(client.sql(COUNT).await, json!([[5.0, 8.0]]));
    let rows = client.sql("SELECT key, stream, accepted FROM requests ORDER BY key").await;
    assert_eq!(rows, json!([["k-1", "metrics", 2.0], ["k-2", "metrics", 2.0], ["k-3", "metrics", 1.0]]));
    let rejects = client.sql("SELECT stream, position, event FROM rejects").await;
    let reject = json!(["metrics", 1.0, "{\"name\":\"once\",\"valeu\":2}"]);
    assert_eq!(rejects, json!([reject, reject]), "the rejects of two requests, each once");
}

#[tokio::test]
async fn numbered_requests_are_known_while_they_are_kept_and_refused_after() {
    let data = DataDir::new();
    let arguments = ["--idempotency-keys-max", "3"];
    let program = Program::start_with(&data, &arguments).await;
    let body = "{\"name\":\"once\",\"value\":1}";
    let mut answers = Vec::new();
    for sequence in [2, 1, 3, 5, 4] {
        answers.push(numbered(program.client(), "p", sequence, body).await);
        accepted(answers.last().unwrap(), 1);
    }
    accepted(&numbered(program.client(), "q", 1, body).await, 1);
    program.kill();
    let program = Program::start_with(&data, &arguments).await;
    numbered(program.client(), "p", 1, body).await.problem(409, "sequence_too_old");
    assert_eq!(program.client().sql(COUNT).await, json!([[6.0, 6.0]]));
    let flushed = json!([[6.0]]);
    eventually("requests are flushed", flushed, || program.client().clickhouse("SELECT count() FROM requests")).await;
    assert!(program.terminate().await.0.success());
    let program = Program::start_with(&data, &arguments).await;
    numbered(program.client(), "p", 2, body).await.problem(409, "sequence_too_old");
    assert_repeat(&answers[4], &numbered(program.client(), "p", 4, body).await);
    let no_name = [("content-type", NDJSON), ("x-streamgauge-producer", "p")];
    program.client().request("POST", EVENTS, &no_name, body).await.problem(400, "bad_name");
}

#[tokio::test]
async fn acknowledged_when_visible() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let path = format!("{EVENTS}?ack=visible&rejects=report");
    let answer = client.post(&path, NDJSON, BODY).await;
    assert_eq!(answer.expect(200)["accepted"], 2);
    let epoch: u64 = answer.header("x-streamgauge-epoch").parse().unwrap();
    assert_eq!(answer.expect(200)["epoch"], epoch);
    assert_eq!(client.sql(COUNT).await, json!([[2.0, 4.0]]));
    assert_eq!(client.sql("SELECT count(*) FROM rejects").await, json!([[0.0]]));
    client.post(&format!("{EVENTS}?ack=never"), NDJSON, BODY).await.problem(400, "bad_parameter");
    for stream in ["rejects", "requests"] {
        let path = format!("/api/v1/streams/{stream}");
        client.post(&format!("{path}/events"), NDJSON, "{}").await.problem(409, "built_in");
        client.request("DELETE", &path, &[], "").await.problem(409, "built_in");
        let definition = json!({"name": stream, "time_column": "at", "columns": []});
        client.post_json("/api/v1/streams", &definition).await.problem(400, "bad_definition");
    }
}
