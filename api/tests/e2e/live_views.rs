//! Views over the WebSocket: a client that keeps rows by key has what a `SELECT` has, at each epoch it is told.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::live::Socket;
use crate::partial::Stopped;
use crate::support::client::accepted;
use crate::support::{Client, DataDir, PATIENCE, Program, eventually};

/// A group has a row while its total is above zero.
const PROFIT: &str = "CREATE MATERIALIZED VIEW profit WITH (idle = '1s', flush_interval = '200ms') AS \
    SELECT country, date_bin(INTERVAL '1 minute', at) AS minute, count(*) AS n, sum(amount) AS total, max(amount) AS most \
    FROM orders GROUP BY country, date_bin(INTERVAL '1 minute', at) HAVING sum(amount) > 0";

/// What a client shows of its subscriptions.
#[derive(Default)]
struct Shown {
    rows: BTreeMap<String, BTreeMap<String, Value>>,
    epochs: BTreeMap<String, f64>,
    /// Keys that were removed.
    removed: usize,
}

impl Shown {
    fn take(&mut self, frame: &Value) {
        let id = frame["id"].as_str().unwrap().to_owned();
        let rows = self.rows.entry(id.clone()).or_default();
        match frame["type"].as_str().unwrap() {
            "snapshot" => {
                let columns: Vec<&str> = frame["columns"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|column| column["name"].as_str().unwrap())
                    .collect();
                assert_eq!(columns, ["country", "minute", "n", "total", "most"], "{frame}");
                assert_eq!((&frame["columns"][1]["type"], &frame["view"]), (&json!("timestamp"), &json!("profit")));
                rows.clear();
            }
            "change" => {
                for key in frame["removed"].as_array().unwrap() {
                    assert!(rows.remove(key.as_str().unwrap()).is_some(), "what is removed was there: {frame}");
                    self.removed += 1;
                }
            }
            other => panic!("{other}: {frame}"),
        }
        let (keys, values) = (frame["keys"].as_array().unwrap(), frame["rows"].as_array().unwrap());
        assert_eq!(keys.len(), values.len(), "{frame}");
        for (key, row) in keys.iter().zip(values) {
            rows.insert(key.as_str().unwrap().to_owned(), row.clone());
        }
        self.epochs.insert(id, frame["epoch"].as_f64().unwrap());
    }

    /// Takes frames until each subscription has come to the epoch, and compares them with what SQL says.
    async fn check(&mut self, client: &Client, socket: &mut Socket, epoch: u64, when: &str) {
        while self.epochs.len() < WHERE.len() || self.epochs.values().any(|had| *had < epoch as f64) {
            self.take(&socket.next().await);
        }
        for (id, condition) in WHERE {
            let sql = format!("SELECT * FROM profit WHERE {condition} ORDER BY country, minute");
            let mut found: Vec<&Value> = self.rows[id].values().collect();
            found.sort_by_key(|row| (row[0].to_string(), row[1].to_string()));
            let expected = client.sql(&sql).await;
            assert_eq!(json!(found), expected, "{id} {when}");
        }
    }
}

const WHERE: [(&str, &str); 2] = [("all", "true"), ("few", "n < 40 AND country <> 'fr' OR country = 'mark'")];

async fn subscribe(socket: &mut Socket, epoch: u64) {
    for (id, condition) in WHERE {
        let subscribe = json!({"type": "subscribe", "id": id, "view": "profit", "where": condition, "range": "20000d", "epoch": epoch});
        socket.send(subscribe).await;
    }
}

/// Posts orders, early and late ones, with totals that cross zero; the last one is seen by each subscription.
async fn post(client: &Client, round: usize) -> u64 {
    let order = |i: usize| {
        let i = round * 50 + i;
        let country = ["de", "fr", "it"][i * i % 3];
        let at = 1_714_557_600 + (i * 7_919) % 240;
        json!({"at": at, "country": if i.is_multiple_of(13) { Value::Null } else { json!(country) }, "amount": (i * 31 % 97) as i64 - 48})
    };
    let mut orders: Vec<Value> = (0..50).map(order).collect();
    orders.push(json!({"at": 1_714_557_600, "country": "mark", "amount": 1}));
    accepted(&client.post_json("/api/v1/streams/orders/events", &json!(orders)).await, 51)
}

async fn until_backfilled(client: &Client) {
    let is_done = || async { client.sql("SHOW MATERIALIZED VIEWS").await[4][3].clone() };
    eventually("the view is back-filled", json!("done"), is_done).await;
}

async fn make_stream(client: &Client) {
    let columns = json!([{"name": "country", "type": "text"}, {"name": "amount", "type": "i64"}]);
    let definition = json!({"name": "orders", "time_column": "at", "columns": columns});
    client.post_json("/api/v1/streams", &definition).await.expect(201);
}

#[tokio::test]
async fn a_view_is_followed_from_its_history_on_until_it_is_dropped() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    make_stream(client).await;
    post(client, 0).await;
    client.sql(PROFIT).await; // what came before it is back-filled, into ClickHouse alone
    until_backfilled(client).await;
    let epoch = post(client, 1).await;
    let (mut socket, mut shown) = (Socket::connect(client).await, Shown::default());
    subscribe(&mut socket, epoch).await;
    shown.check(client, &mut socket, epoch, "at first").await;
    for round in 2..30 {
        let epoch = post(client, round).await;
        shown.check(client, &mut socket, epoch, &format!("after round {round}")).await;
    }
    assert!(shown.removed > 5, "rows come and go: {} went", shown.removed);

    // Groups leave memory for ClickHouse, and go on.
    let in_clickhouse = || async {
        let states = client.clickhouse("SELECT count() FROM profit_states FINAL").await;
        json!(states[0][0].as_f64().unwrap_or(0.0) > 12.0)
    };
    eventually("states in ClickHouse", json!(true), in_clickhouse).await;
    let epoch = post(client, 30).await;
    shown.check(client, &mut socket, epoch, "beyond the flush").await;
    let (mut second, mut fresh) = (Socket::connect(client).await, Shown::default());
    subscribe(&mut second, epoch).await;
    fresh.check(client, &mut second, epoch, "followed anew").await;
    assert_eq!(fresh.rows, shown.rows, "the same rows have the same keys");

    // Killed and started again: a snapshot with the same keys, and then changes.
    program.kill();
    let program = Program::start(&data).await;
    let client = program.client();
    until_backfilled(client).await;
    let (mut socket, mut again) = (Socket::connect(client).await, Shown::default());
    subscribe(&mut socket, epoch).await;
    again.check(client, &mut socket, epoch, "after SIGKILL").await;
    assert_eq!(again.rows, shown.rows, "keys outlive a restart");
    let epoch = post(client, 31).await;
    again.check(client, &mut socket, epoch, "live after SIGKILL").await;

    client.sql("DROP MATERIALIZED VIEW profit").await;
    for _ in WHERE {
        let end = socket.next().await;
        assert_eq!((&end["type"], &end["code"]), (&json!("error"), &json!("view_dropped")), "{end}");
        assert!(
            end["detail"].as_str().unwrap().contains("profit")
                && again.rows.remove(end["id"].as_str().unwrap()).is_some()
        );
    }
    for (subscription, code, says) in [
        (json!({"view": "profit"}), "view_unknown", "there are metrics_1s, metrics_1m, metrics_1h, metrics_1d"),
        (json!({"view": "orders"}), "not_a_view", "CREATE MATERIALIZED VIEW"),
        (json!({"view": "metrics_1m", "where": "nobody = 1"}), "parameter_invalid", "No field named nobody"),
        (json!({"view": "metrics_1m", "metric": "cpu"}), "bad_message", "either a metric or a view"),
        (json!({"view": "metrics_1m", "granularity": "1m"}), "bad_message", "has no meaning with"),
    ] {
        let mut message = json!({"type": "subscribe", "id": "wrong"});
        message.as_object_mut().unwrap().extend(subscription.as_object().unwrap().clone());
        socket.send(message).await;
        let error = socket.next().await;
        assert_eq!(
            (&error["type"], &error["id"], &error["code"]),
            (&json!("error"), &json!("wrong"), &json!(code)),
            "{error}"
        );
        assert!(error["detail"].as_str().unwrap().contains(says), "{error}");
    }
    // A rollup of `metrics` is a view too.
    accepted(
        &client.post_json("/v1/metrics", &json!({"name": "cpu", "value": 2.0, "dimensions": {"host": "a"}})).await,
        1,
    );
    socket
        .send(
            json!({"type": "subscribe", "id": "rollup", "view": "metrics_1d", "where": "name = 'cpu'", "range": "1d"}),
        )
        .await;
    let snapshot = socket.next().await;
    assert_eq!(
        (&snapshot["rows"][0][1], &snapshot["rows"][0][2]),
        (&json!("cpu"), &json!({"host": "a"})),
        "{snapshot}"
    );
    accepted(
        &client.post_json("/v1/metrics", &json!({"name": "cpu", "value": 4.0, "dimensions": {"host": "a"}})).await,
        1,
    );
    let change = socket.next().await;
    assert_eq!((&change["keys"], &change["rows"][0][7]), (&snapshot["keys"], &json!(3.0)), "{change}");
}

/// While ClickHouse hangs, a back-fill waits, and a followed view lacks what ClickHouse has.
#[tokio::test]
async fn a_view_that_is_not_whole_is_refused_or_marked_and_followed_whole_later() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    make_stream(client).await;
    post(client, 0).await;
    let mut socket = Socket::connect(client).await;
    let subscribe = |id: &str| json!({"type": "subscribe", "id": id, "view": "totals", "where": "country <> 'mark'", "partial": true});
    let by_country = "SELECT country, count(*) AS n, sum(amount) AS total FROM orders GROUP BY country";
    let expected =
        async || client.sql(&format!("SELECT * FROM ({by_country}) WHERE country <> 'mark' ORDER BY country")).await;

    let stopped = Stopped::new(program.children());
    let options = "WITH (idle = '1s', flush_interval = '200ms')";
    client.sql(&format!("CREATE MATERIALIZED VIEW totals {options} AS {by_country}")).await;
    for _ in 0..2 {
        socket.send(subscribe("early")).await;
        let refused = socket.next().await;
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("view_backfilling")), "{refused}");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("totals") && detail.contains("% of"), "{detail}");
    }
    drop(stopped);
    until_backfilled(client).await;
    socket.send(subscribe("early")).await;
    let snapshot = socket.next().await;
    assert!(snapshot["type"] == "snapshot" && snapshot.get("partial").is_none(), "{snapshot}");
    assert_eq!(sorted(&snapshot["rows"]), expected().await, "a subscription after the back-fill");

    // The back-filled rows are in ClickHouse alone.
    let stopped = Stopped::new(program.children());
    post(client, 1).await;
    let change = socket.next().await;
    assert_eq!(change["type"], "change", "who follows already lacks nothing: {change}");
    socket.send(subscribe("late")).await;
    let frame = until(&mut socket, "late").await;
    let missing = frame["partial"]["missing"].as_str().unwrap_or_else(|| panic!("not marked: {frame}"));
    assert!(missing.contains("history in ClickHouse up to epoch"), "{frame}");
    let count =
        |frame: &Value| frame["rows"].as_array().unwrap().iter().map(|row| row[1].as_f64().unwrap()).sum::<f64>();
    let lacking = count(&frame);
    assert!(lacking > 0.0 && lacking <= 50.0, "rows of memory alone: {frame}");
    post(client, 2).await;
    let change = until(&mut socket, "late").await;
    assert_eq!(change["type"], "change", "a partial snapshot is followed too: {change}");

    drop(stopped);
    let began = std::time::Instant::now();
    let whole = loop {
        let frame = until(&mut socket, "late").await;
        if frame["type"] == "snapshot" && frame.get("partial").is_none() {
            break frame;
        }
        assert!(began.elapsed() < PATIENCE, "no whole snapshot came: {frame}");
    };
    assert_eq!(sorted(&whole["rows"]), expected().await, "whole again");
    assert!(count(&whole) > lacking);
}

/// The next frame of a subscription.
async fn until(socket: &mut Socket, id: &str) -> Value {
    loop {
        let frame = socket.next().await;
        if frame["id"] == id {
            return frame;
        }
    }
}

/// Rows in the order of their first column.
fn sorted(rows: &Value) -> Value {
    let mut rows = rows.as_array().unwrap().clone();
    rows.sort_by_key(|row| row[0].to_string());
    json!(rows)
}
