//! The tables of schema `system`: what they say while the program works, and how clients find them.

use serde_json::{Value, json};

use crate::postgres::connect;
use crate::psql::Psql;
use crate::support::client::accepted;
use crate::support::{Client, DataDir, Program, eventually};

/// The one row of an answer.
async fn row(client: &Client, sql: &str) -> Value {
    let rows = client.sql(sql).await;
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{sql}\n{rows}");
    rows[0].clone()
}

#[tokio::test]
async fn streams_views_flushes_and_epochs() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let columns = json!([{"name": "at", "type": "timestamp"}, {"name": "customer", "type": "text"}]);
    let stream = json!({"name": "orders", "time_column": "at", "retention": "90d", "columns": columns});
    client.post_json("/api/v1/streams", &stream).await.expect(201);
    client.sql("CREATE MATERIALIZED VIEW per_customer WITH (flush_interval = '1s') AS SELECT customer, count(*) AS n FROM orders GROUP BY customer").await;
    let events: Vec<Value> = (0..3).map(|i| json!({"customer": format!("c{i}")})).collect();
    let epoch = accepted(&client.post_json("/api/v1/streams/orders/events", &json!(events)).await, 3);

    let stream = "SELECT stream, built_in, retention, time_column, columns, views, created_at < now() FROM system.streams WHERE stream = 'orders'";
    assert_eq!(row(client, stream).await, json!(["orders", false, "90d", "at", 2.0, 1.0, true]));
    let flushed = format!(
        "SELECT memory_rows, memory_bytes, flushed_epoch >= {epoch}, flush_error FROM system.streams WHERE stream = 'orders'"
    );
    eventually("the events are in ClickHouse", json!([0.0, 0.0, true, null]), || row(client, &flushed)).await;
    let view = "SELECT stream, fed_from, bucket, memory_rows, memory_bytes > 0, flush_interval, backfill, backfill_error, \
                failed_events, horizon_epoch <= flushed_epoch FROM system.views WHERE view = 'per_customer'";
    let expected = json!(["orders", null, null, 3.0, true, "1s", "done", null, 0.0, true]);
    eventually("the view is back-filled", expected, || row(client, view)).await;
    let rollup = row(
        client,
        "SELECT stream, fed_from, built_in, bucket, created_at, backfill FROM system.views WHERE view = 'metrics_1h'",
    )
    .await;
    assert_eq!(rollup, json!(["metrics", "metrics_1m", true, "1h", null, "none"]));

    let flush = format!(
        "SELECT kind, name, rows_total, last_rows, last_ms > 0, last_at <= now() AND last_at > now() - INTERVAL '10 minutes', \
         failures_total, error FROM system.flushes WHERE item = 'stream/orders' AND flushed_epoch >= {epoch}"
    );
    assert_eq!(row(client, &flush).await, json!(["stream", "orders", 3.0, 3.0, true, true, 0.0, null]));
    let kinds = row(
        client,
        "SELECT count(*) FILTER (WHERE kind = 'catalog'), count(*) FILTER (WHERE kind = 'stream'), count(*) FILTER (WHERE kind = 'view') FROM system.flushes",
    );
    assert_eq!(kinds.await, json!([1.0, 4.0, 5.0]));

    let newest = row(client, "SELECT kind, horizon_epoch FROM system.epochs WHERE item = 'newest'").await;
    assert_eq!(newest, json!(["visible", null]));
    let behind = "SELECT e.item FROM system.epochs e, system.epochs n WHERE n.item = 'newest' AND (e.epoch > n.epoch OR e.at > n.at \
                  OR e.horizon_epoch > e.epoch)";
    assert_eq!(client.sql(behind).await, json!([]), "nothing is ahead of the newest epoch");
    let items = "SELECT item FROM system.epochs WHERE item LIKE '%orders' OR item LIKE '%customer' OR item = 'catalog' ORDER BY 1";
    assert_eq!(client.sql(items).await, json!([["catalog"], ["stream/orders"], ["view/per_customer"]]));
}

#[tokio::test]
async fn settings_with_their_source() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &["--query-timeout", "50s", "--pg-password", "secret"]).await;
    let client = program.client();
    let setting = async |name: &str| {
        let sql = format!("SELECT value, default_value, source, flag FROM system.settings WHERE name = '{name}'");
        row(client, &sql).await
    };
    assert_eq!(setting("query_timeout").await, json!(["50s", "1m", "flag", "--query-timeout"]));
    assert_eq!(setting("queries_max").await, json!(["16", "16", "default", "--queries-max"]));
    assert_eq!(setting("user_queries_max").await, json!(["12", null, "default", "--user-queries-max"]));
    assert_eq!(setting("pg").await[2], "env");
    assert_eq!(setting("pg_password").await, json!(["***", null, "flag", "--pg-password"]));
    let described = "SELECT count(*) FROM system.settings WHERE description = '' OR variable NOT LIKE 'STREAMGAUGE_%'";
    assert_eq!(row(client, described).await, json!([0.0]));
}

#[tokio::test]
async fn queries_that_run_and_that_ran() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    accepted(&client.post_json("/v1/metrics", &json!({"name": "cpu", "value": 1})).await, 1);
    client.sql("SELECT name, value AS mine FROM metrics").await;
    let body = json!({"sql": "SELECT nothing AS mine FROM metrics"}).to_string();
    let headers = [("content-type", "application/json"), ("x-streamgauge-user", "grafana")];
    client.request("POST", "/api/v1/sql", &headers, body).await.problem(400, "sql_invalid");
    let postgres = connect(&program).await;
    postgres.query("SELECT value AS mine FROM metrics", &[]).await.unwrap();
    let ran = "SELECT user_name, client, protocol, state, rows, error IS NULL, epoch IS NULL, elapsed_ms >= waited_ms \
               FROM system.queries WHERE sql LIKE '%AS mine%' AND sql NOT LIKE '%system.queries%' ORDER BY id";
    let expected = json!([
        ["127.0.0.1", "127.0.0.1", "http", "finished", 1.0, true, false, true],
        ["grafana", "127.0.0.1", "http", "failed", 0.0, false, true, true],
        ["rust", "127.0.0.1", "postgres", "finished", 1.0, true, false, true],
    ]);
    assert_eq!(client.sql(ran).await, expected);
    // The one that asks is there itself, and in PostgreSQL's own table.
    let own = "SELECT state, rows, started_at <= now() FROM system.queries WHERE sql LIKE '%my own%'";
    assert_eq!(row(client, own).await, json!(["running", 0.0, true]));
    let active = "SELECT usename, state, application_name FROM pg_stat_activity WHERE query LIKE '%pg_stat_activity%'";
    let found = postgres.query_one(active, &[]).await.unwrap();
    assert_eq!(
        (found.get::<_, &str>(0), found.get::<_, &str>(1), found.get::<_, &str>(2)),
        ("rust", "active", "postgres")
    );
    // What comes from ClickHouse, and what is held in memory, is counted.
    eventually("the event is in ClickHouse", json!([0.0]), || {
        row(client, "SELECT memory_rows FROM system.streams WHERE stream = 'metrics'")
    })
    .await;
    client.sql("SELECT value, count(*) AS counted FROM metrics GROUP BY 1 ORDER BY 2").await;
    let counted = "SELECT clickhouse_bytes > 0, memory_peak_bytes > 0, memory_bytes FROM system.queries WHERE sql LIKE '%AS counted FROM m%' AND sql NOT LIKE '%system%'";
    assert_eq!(client.sql(counted).await[0], json!([true, true, 0.0]));
}

#[tokio::test]
async fn clients_find_the_tables() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let names = ["epochs", "flushes", "queries", "settings", "streams", "views"];
    let listed = json!(names.map(|name| json!([name])));
    for sql in [
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'system' ORDER BY 1",
        "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = 'system' ORDER BY 1",
        "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'system' ORDER BY 1",
        "SELECT tablename FROM pg_tables WHERE schemaname = 'system' ORDER BY 1",
    ] {
        assert_eq!(client.sql(sql).await, listed, "{sql}");
    }
    let column =
        "SELECT data_type FROM information_schema.columns WHERE table_schema = 'system' AND column_name = 'last_at'";
    assert_eq!(client.sql(column).await, json!([["timestamp with time zone"]]));
    for name in names {
        client.sql(&format!("SELECT * FROM system.{name}")).await;
    }
    let answer = client.post_json("/api/v1/sql", &json!({"sql": "SELECT * FROM system.processes"})).await;
    let detail = answer.problem(400, "table_unknown");
    assert!(detail.contains("system.processes"), "{detail}");

    let psql = Psql::of(&program).await;
    let squeezed = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let all = squeezed(psql.prints(&["\\d"]).await);
    assert!(all.contains("system | queries | table | streamgauge"), "{all}");
    let one = squeezed(psql.prints(&["\\d system.queries"]).await);
    for part in [
        "Table \"system.queries\"",
        "started_at | timestamp with time zone",
        "clickhouse_bytes | bigint",
        "partial | boolean",
    ] {
        assert!(one.contains(part), "{part}: {one}");
    }
    assert!(squeezed(psql.prints(&["\\dn"]).await).contains("system | streamgauge"));
    let named = psql.prints(&["\\a", "\\t on", "SELECT 'system.queries'::regclass::oid::regclass"]).await;
    assert!(named.ends_with("\nsystem.queries\n"), "{named}");
}
