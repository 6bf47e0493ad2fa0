//! What ClickHouse refuses is set aside, the rest goes on, and everything is there once in the end.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streamgauge_schemas::event::BatchSeries;
use streamgauge_schemas::stream::CatalogChange;
use streamgauge_schemas::{Epoch, EventBatch, EventTime, MetricsBatch, Series};
use streamgauge_sinks::{
    Aside, AsideFile, ClickHouse, Flusher, RecoveredView, RequestWindow, recover, stream_item, view_item,
};
use support::source::{Entry, Source, definition, flushed_all, table_events};
use support::{ask, counts, database, epoch, folder, metrics, run, second, until};

const METRICS: &str = "stream/0";

/// A database, its folder for what is set aside, and a source that a flusher is started over.
struct Fixture {
    clickhouse: ClickHouse,
    folder: PathBuf,
    source: Arc<Source>,
}

impl Fixture {
    async fn new(name: &str) -> Self {
        let folder = folder(name).join("aside");
        Fixture { clickhouse: database(name).await, folder, source: Arc::default() }
    }

    /// A start of the program: nothing of a former one is remembered but the flushed epochs.
    fn start(&self, boot: u64) -> Flusher {
        let aside = Arc::new(Aside::open(&self.folder, self.clickhouse.database()).unwrap());
        let flushed: HashMap<String, Epoch> = self.source.flushed.lock().clone().into_iter().collect();
        Flusher::start(self.clickhouse.clone(), self.source.clone(), epoch(boot), &flushed, aside)
    }

    async fn ask(&self, sql: &str) -> String {
        ask(&self.clickhouse, &sql.replace("{d}", self.clickhouse.database())).await
    }

    async fn change(&self, sql: &str) {
        self.clickhouse.execute(&sql.replace("{d}", self.clickhouse.database())).await.unwrap();
    }

    /// Waits for the first files, and for the rest to be flushed.
    async fn set_aside(&self, flusher: &Flusher) -> Vec<AsideFile> {
        let there = || async { !flusher.aside().is_empty() };
        until("something is set aside", Duration::from_secs(60), there).await;
        flushed_all(&self.source).await;
        flusher.aside()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn values(values: &[f64]) -> EventBatch {
    let series = Arc::new(Series::new("cpu", [("host", "a")]));
    EventBatch::Metrics(Arc::new(MetricsBatch {
        series: vec![BatchSeries { id: series.id(), series, source: "test".into() }],
        series_index: vec![0; values.len()],
        ts: (0..values.len() as i64).map(|at| EventTime(1_714_521_600_000_000 + at)).collect(),
        value: values.to_vec(),
    }))
}

/// Values by epoch, as ClickHouse has them.
const BY_EPOCH: &str =
    "SELECT dense_rank() OVER (ORDER BY _epoch) AS e, toInt64(value) AS v FROM {d}.metrics ORDER BY e, v";

#[test]
fn a_refused_epoch_is_set_aside_and_comes_back_once() {
    run(async {
        let f = Fixture::new("aside_epoch").await;
        f.change("ALTER TABLE {d}.metrics ADD CONSTRAINT c CHECK value != 666").await;
        for (at, batch) in [(1, [1.0, 2.0]), (2, [3.0, 666.0]), (3, [4.0, 5.0])] {
            f.source.append(at, Entry::Events(values(&batch)));
        }
        f.source.append(4, Entry::State { bucket: 0, count: 7 });
        let flusher = f.start(0);
        let states = || async { f.ask("SELECT sum(count) FROM {d}.metrics_1s").await == "7" };
        until("other items go on", Duration::from_secs(30), states).await;
        assert!(flusher.aside().is_empty()); // while this one is still tried again
        let files = f.set_aside(&flusher).await;
        assert_eq!(files.len(), 1);
        let file = files[0].clone();
        assert_eq!((file.item.as_str(), file.table.as_str(), file.rows), (METRICS, "metrics", 2));
        assert_eq!(file.epochs, [(epoch(2), epoch(2))]);
        assert!(file.reason.contains("469") && file.reason.contains("666"), "{}", file.reason);
        assert_eq!(f.ask(BY_EPOCH).await, "1 1\n1 2\n2 4\n2 5");
        assert_eq!(f.source.flushed(METRICS), epoch(4));
        let committed = "SELECT max(epoch) FROM {d}.streamgauge_flushed WHERE item = 'stream/0'";
        assert_eq!(f.ask(committed).await, epoch(4).to_string());
        f.source.append(5, Entry::Events(values(&[6.0]))); // the item goes on
        flushed_all(&f.source).await;
        assert_eq!(flusher.restore().await, 0); // still refused
        assert_eq!((flusher.aside(), f.names().len()), (files, 1));

        f.change("ALTER TABLE {d}.metrics DROP CONSTRAINT c").await;
        let bytes = std::fs::read(&file.path).unwrap();
        assert_eq!(flusher.restore().await, 1);
        let all = "1 1\n1 2\n2 3\n2 666\n3 4\n3 5\n4 6";
        assert_eq!(f.ask(BY_EPOCH).await, all);
        assert!(flusher.aside().is_empty() && f.names().is_empty());
        drop(flusher);

        // As if the program had ended in the middle of restoring: with all rows there, with some, with none.
        for lost in ["value = -1", "value = 3", "value IN (3, 666)"] {
            f.change(&format!("DELETE FROM {{d}}.metrics WHERE {lost}")).await;
            std::fs::write(&file.path, &bytes).unwrap();
            std::fs::write(file.path.with_extension("new"), "cut off").unwrap();
            let flusher = f.start(100); // it restores by itself
            let gone = || async { flusher.aside().is_empty() };
            until("the file is gone", Duration::from_secs(20), gone).await;
            assert_eq!(f.ask(BY_EPOCH).await, all, "{lost}");
            assert!(f.names().is_empty());
        }
    });
}

/// Some of what was refused fits again: it comes back, is not sent again, and the rest stays.
#[test]
fn what_fits_again_does_not_wait_for_the_rest() {
    run(async {
        let f = Fixture::new("aside_some").await;
        f.change("ALTER TABLE {d}.metrics ADD CONSTRAINT c CHECK value < 600").await;
        f.change("ALTER TABLE {d}.metrics_1s_states ADD CONSTRAINT c CHECK count < 600").await;
        for at in 1..=20_u64 {
            let value = if at % 2 == 0 { 600.0 + at as f64 } else { 1.0 };
            f.source.append(at, Entry::Events(values(&[value, value])));
            f.source.append(at + 20, Entry::State { bucket: at as i64, count: value as u64 });
        }
        let flusher = f.start(0);
        let both = || async { flusher.aside().len() == 2 };
        until("both items are set aside", Duration::from_secs(90), both).await;
        flushed_all(&f.source).await;
        let rows = |flusher: &Flusher| flusher.aside().iter().map(|file| file.rows).collect::<Vec<_>>();
        let mut at_first = rows(&flusher);
        at_first.sort_unstable();
        assert_eq!(at_first, [10, 20]);
        let count =
            async || f.ask("SELECT (SELECT count() FROM {d}.metrics), (SELECT count() FROM {d}.metrics_1s)").await;
        assert_eq!(count().await, "20 10");
        assert_eq!(flusher.restore().await, 0);
        assert_eq!(count().await, "20 10"); // nothing fits yet, and nothing is left behind by the tries

        for (table, column) in [("metrics", "value"), ("metrics_1s_states", "count")] {
            f.change(&format!("ALTER TABLE {{d}}.{table} DROP CONSTRAINT c")).await;
            f.change(&format!("ALTER TABLE {{d}}.{table} ADD CONSTRAINT d CHECK {column} NOT IN (604, 606, 618)"))
                .await;
        }
        assert_eq!(flusher.restore().await, 0); // no file is restored whole
        assert_eq!(count().await, "34 17");
        let mut left = rows(&flusher);
        left.sort_unstable();
        assert_eq!((left, f.names().len()), (vec![3, 6], 2));
        let stream = flusher.aside().into_iter().find(|file| file.item == METRICS).unwrap();
        assert_eq!(stream.epochs, [4, 6, 18].map(|at| (epoch(at), epoch(at))));
        assert!(stream.reason.contains("469"), "{}", stream.reason);
        drop(flusher);

        // What was restored is not sent again, also after a start: the table may have been changed since.
        f.change("ALTER TABLE {d}.metrics ADD CONSTRAINT e CHECK value < 0").await;
        let flusher = f.start(100);
        assert_eq!(flusher.restore().await, 0);
        assert_eq!(count().await, "34 17");
        f.change("ALTER TABLE {d}.metrics DROP CONSTRAINT e").await;
        for table in ["metrics", "metrics_1s_states"] {
            f.change(&format!("ALTER TABLE {{d}}.{table} DROP CONSTRAINT d")).await;
        }
        assert_eq!(flusher.restore().await, 2);
        assert_eq!((count().await.as_str(), f.names().len()), ("40 20", 0));
        assert_eq!(f.ask("SELECT uniqExact(_epoch), toInt64(max(value)) FROM {d}.metrics").await, "20 620");
    });
}

#[test]
fn parts_of_a_refused_flush_that_arrived_are_not_there_twice() {
    run(async {
        let f = Fixture::new("aside_parts").await;
        f.change("ALTER TABLE {d}.metrics ADD CONSTRAINT c CHECK value != -1").await;
        f.source.append(1, Entry::Events(metrics(700_000, 10)));
        f.source.append(2, Entry::Events(metrics(700_000, 10)));
        f.source.append(3, Entry::Events(values(&[-1.0])));
        f.source.append(4, Entry::Events(values(&[-2.0])));
        let flusher = f.start(0);
        f.set_aside(&flusher).await;
        let sql = "SELECT count() OVER (PARTITION BY _epoch) AS c FROM {d}.metrics ORDER BY _epoch LIMIT 1 BY _epoch";
        assert_eq!(f.ask(sql).await, "700000\n700000\n1");
        f.change("ALTER TABLE {d}.metrics DROP CONSTRAINT c").await;
        assert_eq!(flusher.restore().await, 1);
        assert_eq!(f.ask(sql).await, "700000\n700000\n1\n1");
    });
}

#[test]
fn a_refused_row_of_a_view_is_set_aside_kept_by_recovery_and_restored() {
    run(async {
        let f = Fixture::new("aside_view").await;
        let view = second();
        f.change("ALTER TABLE {d}.metrics_1s_states ADD CONSTRAINT c CHECK count != 666").await;
        for bucket in 0..10 {
            let count = if bucket == 4 { 666 } else { 1 };
            f.source.append(bucket as u64 + 1, Entry::State { bucket, count });
        }
        let flusher = f.start(0);
        let files = f.set_aside(&flusher).await;
        assert_eq!(files.len(), 1);
        assert_eq!((&files[0].item, files[0].rows), (&view_item(&view), 1));
        let sql = "SELECT count(), sum(count) FROM {d}.metrics_1s";
        assert_eq!(f.ask(sql).await, "9 9");
        assert!(flusher.flush_now_and_stop(Duration::from_secs(10)).await);

        let aside = Arc::new(Aside::open(&f.folder, f.clickhouse.database()).unwrap());
        let recovered = recover(&f.clickhouse, RequestWindow::default(), 0, &aside).await.unwrap();
        let RecoveredView { rows, keys, .. } = &recovered.views[0];
        let counts = counts(&rows.state);
        let mut sorted = counts.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 1, 1, 1, 1, 1, 1, 1, 1, 666]); // as if it had been written
        assert!(rows.series.iter().all(|id| keys.contains_key(id)));
        let place = counts.iter().position(|count| *count == 666).unwrap();
        assert_eq!((rows.bucket[place], rows.version[place]), (EventTime(4_000_000), epoch(5)));

        f.change("ALTER TABLE {d}.metrics_1s_states DROP CONSTRAINT c").await;
        let bytes = std::fs::read(&files[0].path).unwrap();
        for _ in 0..2 {
            std::fs::write(&files[0].path, &bytes).unwrap(); // the second time: a crash before the removal
            let flusher = f.start(1);
            let gone = || async { flusher.aside().is_empty() };
            until("the file is gone", Duration::from_secs(20), gone).await;
            assert_eq!(f.ask(sql).await, "10 675");
        }
    });
}

#[test]
fn a_file_whose_flush_was_not_committed_waits_for_the_log() {
    run(async {
        let f = Fixture::new("aside_uncommitted").await;
        f.change("ALTER TABLE {d}.metrics ADD CONSTRAINT c CHECK value != 666").await;
        f.source.append(1, Entry::Events(values(&[1.0])));
        f.source.append(2, Entry::Events(values(&[666.0])));
        let flusher = f.start(0);
        f.set_aside(&flusher).await;
        drop(flusher);
        // The program ended before the commit; at the next start ClickHouse takes everything.
        f.source.flushed.lock().clear();
        f.change("TRUNCATE TABLE {d}.metrics").await;
        f.change("ALTER TABLE {d}.metrics DROP CONSTRAINT c").await;
        f.source.begun.lock().clear();
        let flusher = f.start(50);
        assert_eq!(f.names().len(), 1);
        flushed_all(&f.source).await;
        let restored = || async { flusher.restore().await == 1 || flusher.aside().is_empty() };
        until("the file is gone", Duration::from_secs(20), restored).await;
        assert_eq!(f.ask("SELECT toInt64(value) AS v FROM {d}.metrics ORDER BY v").await, "1\n666");
    });
}

#[test]
fn what_was_set_aside_of_a_dropped_stream_is_not_put_into_another_of_its_name() {
    run(async {
        let f = Fixture::new("aside_dropped").await;
        f.source.append(1, Entry::Catalog(CatalogChange::CreateStream(definition("s"))));
        let flusher = f.start(0);
        flushed_all(&f.source).await;
        f.change("ALTER TABLE {d}.s ADD CONSTRAINT c CHECK toUnixTimestamp64Micro(at) != 3").await;
        let old = f.source.streams().pop().unwrap();
        f.source.append(2, Entry::Events(table_events(&old, 3)));
        f.source.append(3, Entry::Events(table_events(&old, 5)));
        let files = f.set_aside(&flusher).await;
        assert_eq!((files[0].item.clone(), files[0].rows), (stream_item(old.id), 5));
        assert_eq!(f.ask("SELECT count() FROM {d}.s").await, "3");
        f.source.append(4, Entry::Catalog(CatalogChange::DropStream(old.id)));
        f.source.append(5, Entry::Catalog(CatalogChange::CreateStream(definition("s"))));
        flushed_all(&f.source).await;
        assert_eq!(flusher.restore().await, 0);
        assert!(f.names().is_empty());
        assert_eq!(f.ask("SELECT count() FROM {d}.s").await, "0");
    });
}
