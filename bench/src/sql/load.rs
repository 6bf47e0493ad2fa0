//! The streams of the measurement, their history, and the events that arrive meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::client::Client;

/// Events of one insert, and of one request.
const INSERT_EVENTS: u64 = 5_000_000;
const REQUEST_EVENTS: usize = 1_000;
/// Users, each with one event in `users`.
const USERS: u64 = 200_000;

/// Makes `hits` and `users`, and writes their history: a month of hits of 200,000 users and 20,000 pages in 8 countries.
///
/// # Errors
/// When the program or its ClickHouse refuses.
pub(super) async fn history(client: &Client, events: u64) -> Result<()> {
    let hits = json!({
        "name": "hits", "time_column": "ts", "order_by": ["country", "ts"],
        "columns": [
            {"name": "ts", "type": "timestamp"}, {"name": "user_id", "type": "i64"}, {"name": "url", "type": "text"},
            {"name": "country", "type": "text"}, {"name": "ms", "type": "f64"}, {"name": "status", "type": "i64"},
            {"name": "bytes", "type": "i64"}],
    });
    let hits = client.create_stream(&hits).await?;
    let users = json!({
        "name": "users", "time_column": "ts", "order_by": ["user_id"],
        "columns": [
            {"name": "ts", "type": "timestamp"}, {"name": "user_id", "type": "i64"}, {"name": "plan", "type": "text"}],
    });
    let users = client.create_stream(&users).await?;
    // Tables are there once the streams are flushed; events of history are younger than their stream.
    client.post_to("hits", hit(0)).await?;
    client.post_to("users", r#"{"ts":"2026-10-01T00:00:00Z","user_id":0,"plan":"free"}"#.to_owned()).await?;
    for table in ["hits", "users"] {
        let there =
            format!("SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = '{table}'");
        while client.clickhouse_number(&there).await? == 0
            || client.clickhouse_number(&format!("SELECT count() FROM {table}")).await? == 0
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut from = 0;
    while from < events {
        let count = INSERT_EVENTS.min(events - from);
        client.clickhouse_execute(&format!(
            "INSERT INTO hits SELECT toDateTime64('2026-10-01 00:00:00', 6, 'UTC') + toIntervalMicrosecond(intDiv(number * \
             2592000000000, {events})), cityHash64(number) % {USERS}, concat('/p/', toString(cityHash64(number, 1) % 20000)), \
             ['it', 'de', 'fr', 'us', 'uk', 'es', 'nl', 'be'][1 + cityHash64(number, 2) % 8], exp(randNormal(3, 1)), \
             [200, 200, 200, 200, 301, 404, 500][1 + cityHash64(number, 3) % 7], cityHash64(number, 4) % 100000, \
             toUInt64({hits} + 1 + intDiv(number, 1000)) FROM numbers({from}, {count})"
        )).await?;
        from += count;
    }
    client.clickhouse_execute(&format!(
        "INSERT INTO users SELECT toDateTime64('2026-10-01 00:00:00', 6, 'UTC'), number, ['free', 'free', 'pro', 'team'][1 + \
         cityHash64(number, 5) % 4], toUInt64({users} + 1) FROM numbers({USERS})"
    )).await
}

fn hit(number: usize) -> String {
    let second = number / 1_000 % 60;
    format!(
        r#"{{"ts":"2026-10-31T00:00:{second:02}Z","user_id":{},"url":"/p/{}","country":"it","ms":{},"status":200,"bytes":{}}}"#,
        number % 200_000,
        number % 20_000,
        number % 300,
        number % 100_000
    )
}

/// Events that arrive at a steady pace until it ends.
pub(super) struct Tail {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<Result<usize>>,
}

impl Tail {
    pub(super) fn begin(client: Client, rate: usize) -> Self {
        let is_over = Arc::new(AtomicBool::new(rate == 0));
        let over = is_over.clone();
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs_f64(REQUEST_EVENTS as f64 / rate.max(1) as f64));
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                tick.tick().await;
                let body: Vec<String> = (sent..sent + REQUEST_EVENTS).map(hit).collect();
                client.post_to("hits", body.join("\n")).await?;
                sent += REQUEST_EVENTS;
            }
            Ok(sent)
        });
        Tail { is_over, task }
    }

    /// Ends it; returns how many events arrived.
    pub(super) async fn end(self) -> Result<usize> {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.context("post the tail")?
    }
}
