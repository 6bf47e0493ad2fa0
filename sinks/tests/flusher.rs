//! The flusher over a source that a test controls: order, exactness through outages, idling, stopping.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use streamgauge_schemas::stream::CatalogChange;
use streamgauge_sinks::{ClickHouse, FlushSource, Flusher, RequestWindow, Server, migrations, recover};
use support::source::{Entry, Source, definition, flushed_all, table_events};
use support::{aside, ask, config, database, epoch, folder, metrics, run, until};

fn start(clickhouse: &ClickHouse, source: &Arc<Source>, boot: u64) -> Flusher {
    let aside = aside(clickhouse.database());
    Flusher::start(clickhouse.clone(), source.clone(), epoch(boot), &HashMap::new(), aside)
}

#[test]
fn every_kind_of_item_arrives_and_a_stream_after_its_table() {
    run(async {
        let clickhouse = database("flush_kinds").await;
        let source = Arc::new(Source::default());
        let flusher = start(&clickhouse, &source, 0);
        for round in 0..5_u64 {
            let at = round * 100;
            source.append(at + 1, Entry::Catalog(CatalogChange::CreateStream(definition(&format!("s{round}")))));
            let stream = source.streams().pop().unwrap();
            source.append(at + 2, Entry::Events(table_events(&stream, 7)));
            source.append(at + 3, Entry::Events(metrics(100, 10)));
            source.append(at + 4, Entry::State { bucket: 0, count: round + 1 });
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        flushed_all(&source).await;
        let sql = "SELECT (SELECT count() FROM flush_kinds.metrics), (SELECT count() FROM flush_kinds.s0), \
                   (SELECT count() FROM flush_kinds.s4), (SELECT sum(count) FROM flush_kinds.metrics_1s)";
        assert_eq!(ask(&clickhouse, sql).await, "500 7 7 5");
        let status = flusher.status();
        assert_eq!(status.len(), 3 + 5);
        let metrics_status = status.iter().find(|status| status.item == "stream/0").unwrap();
        assert_eq!((metrics_status.rows_total, &metrics_status.last_error), (500, &None));
        let dropped = source.streams()[0].id;
        source.append(900, Entry::Catalog(CatalogChange::DropStream(dropped)));
        flushed_all(&source).await;
        assert_eq!(ask(&clickhouse, "EXISTS TABLE flush_kinds.s0").await, "0");
        let gone = || async { flusher.status().len() == 3 + 4 };
        until("the dropped stream has no item", Duration::from_secs(5), gone).await;
        let recovered =
            recover(&clickhouse, RequestWindow::default(), 0, &aside("flush_kinds_recovery")).await.unwrap();
        assert_eq!(recovered.catalog.own().count(), 4);
        assert!(recovered.flushed("stream/0") >= epoch(403)); // the last events
        assert!(flusher.flush_now_and_stop(Duration::from_secs(10)).await);
    });
}

#[test]
fn nothing_is_lost_or_doubled_while_clickhouse_dies_again_and_again() {
    run(async {
        let server = Server::start(config(&folder("outage"))).await.unwrap();
        let clickhouse = server.clickhouse().with_database("outage");
        migrations::migrate(&clickhouse).await.unwrap();
        let source = Arc::new(Source::default());
        let flusher = start(&clickhouse, &source, 0);
        let mut failed = false;
        for round in 0..60_u64 {
            source.append(round + 1, Entry::Events(metrics(5_000, 10)));
            if round % 20 == 10 {
                let process = server.process().unwrap().to_string();
                assert!(Command::new("kill").args(["-9", &process]).status().unwrap().success());
                let down = || async { server.process().is_none_or(|found| found.to_string() != process) };
                until("it is down", Duration::from_secs(5), down).await;
                let error = || async { flusher.status().iter().any(|status| status.last_error.is_some()) };
                until("a flush fails", Duration::from_secs(10), error).await;
                failed = true;
                let back = || async { clickhouse.ping(Duration::from_secs(1)).await.is_ok() };
                until("it is back", Duration::from_secs(30), back).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        flushed_all(&source).await;
        assert!(failed);
        let sql = "SELECT count(), uniqExact(_epoch), min(c), max(c) FROM (SELECT _epoch, count() OVER (PARTITION BY _epoch) AS c FROM outage.metrics)";
        assert_eq!(ask(&clickhouse, sql).await, "300000 60 5000 5000");
        assert!(flusher.flush_now_and_stop(Duration::from_secs(10)).await);
        server.stop().await;
    });
}

#[test]
fn stopping_flushes_what_is_pending_and_being_due_does_not_wait() {
    run(async {
        let clickhouse = database("flush_stop").await;
        let source = Arc::new(Source { interval: Some(Duration::from_secs(3_600)), ..Source::default() });
        let flusher = start(&clickhouse, &source, 0);
        source.append(1, Entry::Events(metrics(10, 1)));
        source.wake.notify_one();
        let arrived = || async { ask(&clickhouse, "SELECT count() FROM flush_stop.metrics").await == "10" };
        until("what is due arrives", Duration::from_secs(10), arrived).await;
        source.append(2, Entry::Catalog(CatalogChange::CreateStream(definition("late"))));
        let stream = source.streams().pop().unwrap();
        source.append(3, Entry::Events(table_events(&stream, 4)));
        assert!(flusher.flush_now_and_stop(Duration::from_secs(20)).await);
        assert_eq!(ask(&clickhouse, "SELECT count() FROM flush_stop.late").await, "4");
        assert!(source.items().iter().all(|item| source.flushed(&item.name) == source.now()));
    });
}

#[test]
fn an_idle_item_is_committed_seldom() {
    run(async {
        let clickhouse = database("flush_idle").await;
        let source = Arc::new(Source::default());
        source.append(1, Entry::Events(metrics(10, 1)));
        let flusher = start(&clickhouse, &source, 0);
        flushed_all(&source).await;
        let begun = source.begun.lock().clone();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(source.begun.lock()["stream/0"] > begun["stream/0"] + 10); // asked at its pace
        let rows = ask(&clickhouse, "SELECT count() FROM flush_idle.streamgauge_flushed").await;
        assert!(rows.parse::<u32>().unwrap() <= 6, "{rows}"); // three items, committed once or twice each
        drop(flusher);
    });
}
