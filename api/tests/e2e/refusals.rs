//! What is refused, and that the answer names the place.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::{JSON, NDJSON};
use crate::support::{DataDir, Program};

#[tokio::test]
async fn unusable_requests_are_refused_with_the_place() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &["--body-bytes-max", "65536"]).await;
    let client = program.client();
    let events = "/api/v1/streams/metrics/events";

    for (path, begin) in [("/api/v1/ingest", r#"{"data_points":["#), ("/v1/metrics", ""), ("/api/v1/metrics", "")] {
        let detail =
            client.post(path, JSON, format!(r#"{begin}{{"name": "a", "value": }}"#)).await.problem(400, "not_json");
        assert!(detail.contains(&format!("byte {}", begin.len() + 23)), "{path}: {detail}");
        client.post(path, JSON, "").await.problem(400, "empty_body");
        client.post(path, JSON, &b"{\"name\": \"\xff\"}"[..]).await.problem(400, "not_utf8");
        client.post(path, "image/png", "x").await.problem(415, "unsupported_media_type");
    }
    client.post(events, JSON, r#"[{"name":"a","value":1},"#).await.problem(400, "not_json");
    let detail = client.post("/api/v1/ingest", JSON, r#"{"points": []}"#).await.problem(400, "wrong_shape");
    assert!(detail.contains("points") && detail.contains("data_points"), "{detail}");
    client.post(events, "text/csv", "a,b").await.problem(415, "unsupported_media_type");
    let packed = [("content-type", JSON), ("content-encoding", "br")];
    assert_eq!(client.request("POST", "/v1/metrics", &packed, "x").await.status, 415);
    let packed = [("content-type", JSON), ("content-encoding", "gzip")];
    let broken = client.request("POST", "/v1/metrics", &packed, "this is not gzip").await;
    assert_eq!(broken.status, 400, "{}", broken.text());

    let detail = client.post("/api/v1/streams/nothing/events", NDJSON, "{}").await.problem(404, "unknown_stream");
    assert!(detail.contains("nothing"), "{detail}");
    let large = "{\"name\":\"large\",\"value\":1}\n".repeat(3_000);
    let detail = client.post(events, NDJSON, large.clone()).await.problem(413, "too_large");
    assert!(detail.contains("65536"), "{detail}");
    client.post_gzip(events, NDJSON, &large).await.problem(413, "too_large");
    client.get("/api/v1/nothing").await.problem(404, "not_found");
    client.get("/api/v1/ingest").await.problem(405, "method_not_allowed");
    let of_another_site = [("content-type", JSON), ("origin", "https://example.org")];
    client
        .request("POST", "/v1/metrics", &of_another_site, r#"{"name":"a","value":1}"#)
        .await
        .problem(403, "cross_origin");
    assert_eq!(client.sql("SELECT count(*) FROM metrics").await, json!([[0.0]]), "nothing of all that was taken");
}

/// New series are refused beyond their bound, with a time after which to ask again: an operator may have raised it.
#[tokio::test]
async fn series_are_bounded_and_known_ones_go_on() {
    let data = DataDir::new();
    let event = |host: u32| json!({"name": "cpu", "value": 1, "dimensions": {"host": host.to_string()}});
    let program = Program::start_with(&data, &["--series-max", "2"]).await;
    let client = program.client();
    for host in [1, 2] {
        client.post_json("/v1/metrics", &event(host)).await.expect(200);
    }
    let refused = client.post_json("/v1/metrics", &json!([event(1), event(3)])).await;
    let detail = refused.problem(429, "too_many_series");
    assert!(detail.contains("more than 2 series") && detail.contains("series_max"), "{detail}");
    assert_eq!(refused.header("retry-after"), "60");
    assert!(client.get("/metrics").await.text().contains("streamgauge_refused_total{bound=\"series\"} 1"));
    client.post_json("/v1/metrics", &event(2)).await.expect(200);
    assert_eq!(
        client.sql("SELECT count(*) FROM metrics").await,
        json!([[3.0]]),
        "of what was refused nothing is taken"
    );
    program.kill();
    let program = Program::start_with(&data, &["--series-max", "3"]).await;
    program.client().post_json("/v1/metrics", &json!([event(1), event(3)])).await.expect(200);
}

#[tokio::test]
async fn good_events_of_a_mixed_request_are_kept() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let points = json!([
        {"name": "good", "timestamp": "2024-05-01T00:00:00Z", "value": 1},
        {"name": "good", "timestamp": "2024-05-01T00:00:00Z", "value": "1"},
        {"name": "good", "timestamp": "2224-05-01T00:00:00Z", "value": 1},
        {"timestamp": "2024-05-01T00:00:00Z", "value": 1},
        {"name": "good", "timestamp": "2024-05-01T00:00:01Z", "value": 2},
        {"name": "good", "valeu": 1},
        7,
    ]);
    let says = [(1, "value"), (2, "ahead"), (3, "name"), (5, "valeu"), (6, "7")];
    let check = |answer: &serde_json::Value| {
        assert_eq!(answer["accepted"], 2, "{answer}");
        let rejected = answer["rejected"].as_array().unwrap();
        assert_eq!(rejected.len(), says.len(), "{answer}");
        for (reject, (index, says)) in rejected.iter().zip(says) {
            assert_eq!(reject["index"], index, "{answer}");
            assert!(reject["reason"].as_str().unwrap().contains(says), "{says}: {reject}");
        }
    };
    check(&client.post_json("/v1/metrics", &points).await.expect(200));
    check(&client.post_json("/api/v1/ingest", &json!({"data_points": points})).await.expect(200));
    let lines: String = points.as_array().unwrap().iter().map(|point| format!("{point}\n")).collect();
    check(&client.post("/api/v1/streams/metrics/events", NDJSON, lines).await.expect(200));
    assert_eq!(client.sql("SELECT count(*), sum(value) FROM metrics").await, json!([[6.0, 9.0]]));

    let answer = client.post_json("/v1/metrics", &json!([])).await.expect(200);
    assert_eq!(answer, json!({"accepted": 0, "epoch": null, "rejected": []}));
    let answer = client.post("/api/v1/streams/metrics/events", NDJSON, "{\"name\":\n{\"value\":1}\n").await.expect(200);
    assert_eq!((&answer["accepted"], answer["epoch"].is_u64()), (&json!(0), true), "the rejects are kept: {answer}");
    assert_eq!(answer["rejected"].as_array().unwrap().len(), 2, "{answer}");
}

#[tokio::test]
async fn questions_that_cannot_be_answered_say_why() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    client.post("/v1/metrics", JSON, r#"{"name":"cpu","value":1}"#).await.expect(200);
    for sql in [
        "DROP TABLE metrics",
        "DELETE FROM metrics",
        "INSERT INTO metrics VALUES (1)",
        "CREATE TABLE t (a INT)",
        "CREATE VIEW v AS SELECT 1",
        "COPY metrics TO '/tmp/streamgauge-e2e.csv'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; DROP TABLE metrics",
        "SELECT * FROM '/etc/passwd'",
        "SELECT nothing FROM metrics",
        "SELECT * FROM nothing",
        "SELEKT 1",
        "",
    ] {
        let answer = client.post_json("/api/v1/sql", &json!({"sql": sql})).await;
        assert_eq!(answer.status, 400, "{sql}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{sql}");
    }
    assert_eq!(client.sql("SELECT count(*) FROM metrics").await, json!([[1.0]]), "the table is still there");
    assert_eq!(client.post_json("/api/v1/sql", &json!({"sql": "SELECT 1", "format": "xml"})).await.status, 400);
    assert_eq!(client.post("/api/v1/sql", JSON, "SELECT 1").await.status, 400);

    assert_eq!(client.data("nothing", "").await, json!([]), "a metric that nobody sent has no series");
    client.get("/api/v1/metrics/nothing/dimensions").await.problem(404, "unknown_metric");
    for (query, says) in [
        ("granularity=fast", "granularity"),
        ("granularity=0s", "granularity"),
        ("granularity=1500ms", "granularity"),
        ("aggregation=median", "median"),
        ("start_time=yesterday", "start_time"),
        ("filter=host", "filter"),
        ("colour=red", "colour"),
    ] {
        let answer = client.get(&format!("/api/v1/metrics/cpu/data?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        assert!(answer.json()["detail"].as_str().unwrap().contains(says), "{query}: {}", answer.text());
    }
}

/// A page of another site whose name is made to lead to loopback is of the same origin for a browser; its name is not ours.
#[tokio::test]
async fn on_loopback_only_known_names_are_answered() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &["--http-hosts", "sg.example.org,other"]).await;
    let client = program.client();
    let drop = r#"{"sql": "DROP STREAM kept"}"#;
    client.sql("CREATE STREAM kept (at timestamp)").await;
    for host in ["rebound.example.com", "rebound.example.com:8080", "127.0.0.1.nip.io"] {
        let of_itself = [("content-type", JSON), ("host", host), ("origin", &format!("http://{host}"))];
        let detail = client.request("POST", "/api/v1/sql", &of_itself, drop).await.problem(421, "host_unknown");
        assert!(detail.contains(host) && detail.contains("http_hosts"), "{detail}");
        for path in ["/", "/api/v1/streams", "/healthz", "/metrics"] {
            client.request("GET", path, &[("host", host)], "").await.problem(421, "host_unknown");
        }
    }
    for host in ["localhost:3000", "127.0.0.1", "[::1]:8080", "sg.example.org", "OTHER:443"] {
        let of_itself = [("content-type", JSON), ("host", host), ("origin", &format!("https://{host}"))];
        let kept = client.request("POST", "/api/v1/sql", &of_itself, r#"{"sql": "SELECT count(*) FROM kept"}"#).await;
        assert_eq!(kept.expect(200)["rows"], json!([[0]]), "{host}");
    }
    // HTTP/1.0 names no host, and is not what a browser speaks.
    let mut old = TcpStream::connect(client.address()).await.unwrap();
    old.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    let shown = "SELECT value, source FROM system.settings WHERE name = 'http_hosts'";
    assert_eq!(client.sql(shown).await, json!([["sg.example.org,other", "flag"]]));
}
