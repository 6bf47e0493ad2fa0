//! What ClickHouse refuses is set aside, is told, and comes back when an operator who has mended the table asks for it.

use serde_json::{Value, json};

use crate::support::client::{JSON, accepted};
use crate::support::{DataDir, Program, eventually};

#[tokio::test]
async fn what_is_set_aside_comes_back_when_it_is_asked_for() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let restore = async || client.post("/api/v1/aside/restore", JSON, "").await.expect(200);
    assert_eq!(restore().await, json!({"restored": 0, "aside": []}));
    client.change_clickhouse("ALTER TABLE metrics ADD CONSTRAINT c CHECK value != 666").await;
    for value in [1, 666, 2] {
        accepted(&client.post_json("/v1/metrics", &json!({"name": "cpu", "value": value})).await, 1);
    }
    let aside = async || client.get("/api/v1/status").await.expect(200)["aside"].clone();
    eventually("it is set aside", 1, || async { aside().await.as_array().map_or(0, Vec::len) }).await;
    let files = aside().await;
    assert!(files[0]["table"] == "metrics" && files[0]["reason"].as_str().unwrap().contains("469"), "{files}");
    let metrics = client.get("/metrics").await;
    assert!(metrics.text().contains("streamgauge_aside_files 1") && metrics.text().contains("streamgauge_aside_bytes"));

    assert_eq!(restore().await, json!({"restored": 0, "aside": files}), "it is still refused");
    client.change_clickhouse("ALTER TABLE metrics DROP CONSTRAINT c").await;
    // The file is there a moment before its flush is committed; until then the log has its rows, and it waits.
    eventually("it is restored", json!({"restored": 1, "aside": []}), &restore).await;
    assert_eq!(aside().await, Value::Array(Vec::new()));
    assert_eq!(client.sql("SELECT count(*), sum(value) FROM metrics").await, json!([[3.0, 669.0]]));
}

#[tokio::test]
async fn memory_does_not_say_that_it_knows_all_series_when_some_may_be_aside() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let narrowed = async |program: &Program| {
        let sql = "EXPLAIN SELECT bucket, count FROM metrics_1s WHERE dimensions['host'] = 'a'";
        program.client().sql(sql).await.to_string().contains("toUInt128")
    };
    let client = program.client();
    let event = |value: i64| json!({"name": "cpu", "value": value, "dimensions": {"host": "a"}});
    accepted(&client.post_json("/v1/metrics", &event(1)).await, 1);
    assert!(narrowed(&program).await);
    client.change_clickhouse("ALTER TABLE metrics ADD CONSTRAINT c CHECK value != 666").await;
    accepted(&client.post_json("/v1/metrics", &event(666)).await, 1);
    let aside = async || client.get("/api/v1/status").await.expect(200)["aside"].as_array().map_or(0, Vec::len);
    eventually("it is set aside", 1, aside).await;
    assert!(narrowed(&program).await, "its series came while the program ran");
    program.kill();

    let program = Program::start(&data).await;
    assert!(!narrowed(&program).await);
}
