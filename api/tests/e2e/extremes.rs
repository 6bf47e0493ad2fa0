//! Events at the edges: of time, of numbers, of size. Each is taken or refused with its reason, and nothing breaks.

use serde_json::{Value, json};

use crate::support::client::{NDJSON, accepted};
use crate::support::{Client, DataDir, Program};

const EVENTS: &str = "/api/v1/streams/metrics/events";

async fn post(client: &Client, lines: &[String]) -> Value {
    client.post(EVENTS, NDJSON, lines.join("\n")).await.expect(200)
}

fn event(rest: &str) -> String {
    format!("{{\"name\":\"edge\",\"timestamp\":\"2024-05-01T00:00:00Z\",\"value\":1,{rest}}}")
}

#[tokio::test]
async fn edges_are_taken_or_refused_and_break_nothing() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let dimensions: Vec<String> = (0..10_000).map(|i| format!("\"d{i}\":\"{i}\"")).collect();
    let good = [
        r#"{"name":"old","timestamp":"1970-01-01T00:00:00Z","value":1}"#.to_owned(),
        r#"{"name":"old","timestamp":"1969-12-31T23:59:59.999999Z","value":2}"#.to_owned(),
        r#"{"name":"old","timestamp":"1900-01-01T00:00:00Z","value":4}"#.to_owned(),
        r#"{"name":"zero","timestamp":"2024-05-01T00:00:00Z","value":-0.0}"#.to_owned(),
        r#"{"name":"zero","timestamp":"2024-05-01T00:00:00Z","value":0}"#.to_owned(),
        r#"{"name":"large","timestamp":"2024-05-01T00:00:00Z","value":1.7976931348623157e308}"#.to_owned(),
        r#"{"name":"tiny","timestamp":"2024-05-01T00:00:00Z","value":5e-324}"#.to_owned(),
        event(&format!("\"dimensions\":{{\"text\":\"{}\"}}", "x".repeat(1 << 20))),
        event(&format!("\"dimensions\":{{{}}}", dimensions.join(","))),
        event("\"dimensions\":{\"\":\"\",\"a\":\"\"}"),
    ];
    assert_eq!(post(client, &good).await["rejected"], json!([]));
    let bad = [
        r#"{"name":"future","timestamp":"9999-12-31T23:59:59Z","value":1}"#.to_owned(),
        r#"{"name":"nan","value":NaN}"#.to_owned(),
        r#"{"name":"inf","value":Infinity}"#.to_owned(),
        r#"{"name":"inf","value":1e309}"#.to_owned(),
        r#"{"name":"","value":1}"#.to_owned(),
        r#"{"value":1}"#.to_owned(),
        event(&format!("\"dimensions\":{{\"text\":\"{}\"}}", "x".repeat((1 << 20) + 1))),
        event(&format!("\"dimensions\":{{{},\"more\":\"1\"}}", dimensions.join(","))),
        "\u{0}".to_owned(),
    ];
    let answer = post(client, &bad).await;
    assert_eq!((&answer["accepted"], answer["rejected"].as_array().map(Vec::len)), (&json!(0), Some(bad.len())));
    check(client, &bad).await;
    program.kill();
    let program = Program::start(&data).await;
    check(program.client(), &bad).await;
    assert!(program.terminate().await.0.success());
    let program = Program::start(&data).await;
    check(program.client(), &bad).await;
    let one = [event("\"source\":\"still here\"")];
    assert_eq!(post(program.client(), &one).await["accepted"], 1);
}

async fn check(client: &Client, bad: &[String]) {
    let by_name = "SELECT name, count(*), sum(value) FROM metrics WHERE name <> 'edge' GROUP BY name ORDER BY name";
    let expected = json!([["large", 1.0, f64::MAX], ["old", 3.0, 7.0], ["tiny", 1.0, 5e-324], ["zero", 2.0, 0.0]]);
    assert_eq!(client.sql(by_name).await, expected);
    let days = r#"SELECT bucket, "count" FROM metrics_1d WHERE name = 'old' ORDER BY bucket"#;
    let days_of_old = client.sql(days).await;
    assert_eq!(days_of_old.as_array().map(Vec::len), Some(3), "{days_of_old}");
    assert_eq!(client.sql("SELECT count(*) FROM metrics WHERE name = 'edge'").await, json!([[3.0]]));
    let rejects = client.sql("SELECT event, reason, source FROM rejects ORDER BY position").await;
    let texts: Vec<&str> = rejects.as_array().unwrap().iter().map(|row| row[0].as_str().unwrap()).collect();
    assert_eq!(texts, bad, "each is kept as it was sent");
    assert!(rejects.as_array().unwrap().iter().all(|row| !row[1].as_str().unwrap().is_empty()));
}

/// What arrives years late lands in its buckets, beside what memory forgot long ago.
#[tokio::test]
async fn late_events_correct_their_buckets() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    for round in 1..=4 {
        let lines = (0..10).map(|i| format!("{{\"name\":\"late\",\"timestamp\":{},\"value\":2}}\n", 86_400 * 365 * i));
        accepted(&client.post(EVENTS, NDJSON, lines.collect::<String>()).await, 10);
        let days = client.sql(r#"SELECT "count", sum FROM metrics_1d WHERE name = 'late'"#).await;
        let expected: Vec<Value> = (0..10).map(|_| json!([f64::from(round), 2.0 * f64::from(round)])).collect();
        assert_eq!(days, json!(expected), "round {round}");
        tokio::time::sleep(std::time::Duration::from_millis(2_500)).await; // flushes come between the rounds
    }
}
