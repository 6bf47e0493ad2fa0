//! Errors injected at every durable step of the sinks: each is tried again, and everything is there once in the end.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]
#![cfg(debug_assertions)]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use streamgauge_schemas::fault::{self, journal};
use streamgauge_schemas::stream::CatalogChange;
use streamgauge_sinks::{Aside, Flusher, Recovered, RequestWindow, SinkError, recover};
use support::source::{Entry, Source, definition, flushed_all, table_events};
use support::{ask, database, epoch, folder, metrics, run, until};

/// The first passage of every point of this crate fails, and of those that are passed often, more.
const PLAN: &str = "flush.insert=error@1..4; flush.inserted=error@1..4; flush.commit=error@1..3; \
    flush.committed=error@1..3; catalog.apply=error@1; catalog.applied=error@1; aside.write=error@1; \
    aside.synced=error@1; aside.renamed=error@1; aside.written=error@1; aside.restore=error@1..3; \
    aside.restored=error@1; aside.removed=error@1; \
    recovery.repair=error@2; recovery.repaired=error@2";

#[test]
fn every_step_may_fail_and_is_tried_again() {
    run(async {
        let clickhouse = database("faults").await;
        fault::arm(PLAN).unwrap();
        let home = folder("faults");
        journal::start(&home.join("journal")).unwrap();
        std::fs::create_dir(home.join("aside")).unwrap(); // by a process that died before its name was durable
        let aside = Arc::new(Aside::open(home.join("aside"), "faults").unwrap());
        let asked = std::fs::read_to_string(home.join("journal")).unwrap();
        assert!(asked.contains(&format!("folder-synced\t{}\n", home.display())), "{asked}");
        let source = Arc::new(Source::default());
        clickhouse.execute("ALTER TABLE faults.metrics ADD CONSTRAINT c CHECK value != 42").await.unwrap();
        source.append(1, Entry::Catalog(CatalogChange::CreateStream(definition("s"))));
        let stream = source.streams().pop().unwrap();
        source.append(2, Entry::Events(table_events(&stream, 7)));
        source.append(3, Entry::Events(metrics(100, 10)));
        source.append(4, Entry::Events(metrics(200, 10))); // has the value 42
        source.append(5, Entry::State { bucket: 0, count: 3 });
        let flusher = Flusher::start(clickhouse.clone(), source.clone(), epoch(0), &HashMap::new(), aside.clone());
        flushed_all(&source).await;
        let counts = "SELECT (SELECT count() FROM faults.s), (SELECT count() FROM faults.metrics), \
                      (SELECT sum(count) FROM faults.metrics_1s)";
        assert_eq!(ask(&clickhouse, counts).await, "7 100 3");
        assert_eq!(flusher.aside().len(), 1);
        clickhouse.execute("ALTER TABLE faults.metrics DROP CONSTRAINT c").await.unwrap();
        let restored = || async { flusher.restore().await == 1 };
        until("it is restored", Duration::from_secs(60), restored).await;
        assert_eq!(ask(&clickhouse, counts).await, "7 300 3");
        assert!(flusher.flush_now_and_stop(Duration::from_secs(10)).await);

        let mut errors = 0;
        let recovered: Recovered = loop {
            match recover(&clickhouse, RequestWindow::default(), 0, &aside).await {
                Ok(recovered) => break recovered,
                Err(error) => assert!(matches!(error, SinkError::Away { .. }) && error.is_retryable(), "{error}"),
            }
            errors += 1;
        };
        assert_eq!(errors, 2);
        assert_eq!(recovered.catalog.own().count(), 1);
        assert_eq!(ask(&clickhouse, counts).await, "7 300 3");
    });
}
