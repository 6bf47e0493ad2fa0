//! Requests that named themselves come back: the window one by one, and what is older as the largest sequence numbers.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use streamgauge_schemas::stream::requests;
use streamgauge_schemas::{Epoch, EventBatch, StreamId, TableBatch};
use streamgauge_sinks::flushed::{Commit, write_flushed};
use streamgauge_sinks::raw::RawFlush;
use streamgauge_sinks::{
    Aside, ClickHouse, Flusher, RecoveredRequest, RequestWindow, StreamTable, recover, stream_item,
};
use support::source::{Entry, Source, flushed_all};
use support::{ask, database, epoch, folder, run, until};

/// A request, by its key or as one of a producer's.
enum Name {
    Key(&'static str),
    Producer(&'static str, i64),
}
use Name::{Key, Producer};

fn batch(names: &[Name]) -> EventBatch {
    let keys = names.iter().map(|name| if let Key(key) = name { Some(*key) } else { None });
    let producers = names.iter().map(|name| if let Producer(producer, _) = name { Some(*producer) } else { None });
    let sequences = names.iter().map(|name| if let Producer(_, sequence) = name { Some(*sequence) } else { None });
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; names.len()])) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(vec![7; names.len()]).with_timezone("UTC")),
        text("metrics"),
        Arc::new(keys.collect::<StringArray>()),
        Arc::new(producers.collect::<StringArray>()),
        Arc::new(sequences.collect::<Int64Array>()),
        text("00ff"),
        Arc::new(Int64Array::from(vec![3; names.len()])),
        text(r#"[{"index":0,"reason":"it's late"}]"#),
    ];
    let rows = RecordBatch::try_new(requests().definition.schema(), columns).unwrap();
    EventBatch::Table(Arc::new(TableBatch { stream: StreamId::REQUESTS, rows }))
}

/// The names in the window with their epochs, and the sequence numbers, as text.
async fn read(clickhouse: &ClickHouse, from: Epoch, keys_max: usize, aside: &Arc<Aside>) -> (String, String) {
    read_within(clickhouse, RequestWindow { from, keys_max, bytes_max: usize::MAX >> 1 }, aside).await
}

async fn read_within(clickhouse: &ClickHouse, window: RequestWindow, aside: &Arc<Aside>) -> (String, String) {
    let found = recover(clickhouse, window, 0, aside).await.unwrap();
    let name = |request: &RecoveredRequest| match (&request.key, &request.producer, request.sequence) {
        (Some(key), None, None) => format!("{key}@{}", request.epoch.0 - epoch(0).0),
        (None, Some(producer), Some(sequence)) => format!("{producer}{sequence}@{}", request.epoch.0 - epoch(0).0),
        other => panic!("{other:?}"),
    };
    let sequences: Vec<String> = found
        .sequences
        .iter()
        .map(|it| format!("{}{}@{}", it.producer, it.sequence, it.epoch.0 - epoch(0).0))
        .collect();
    (found.requests.iter().map(name).collect::<Vec<_>>().join(" "), sequences.join(" "))
}

#[test]
fn the_window_comes_back_and_older_sequence_numbers_in_short() {
    run(async {
        let clickhouse = database("requests_window").await;
        let aside = Arc::new(Aside::open(folder("requests-window"), clickhouse.database()).unwrap());
        let read = async |from: Epoch, keys_max| {
            let (window, sequences) = read(&clickhouse, from, keys_max, &aside).await;
            format!("{window} | {sequences}")
        };
        assert_eq!(read(Epoch::ZERO, 10).await, " | ");
        let batches = vec![
            (epoch(1), batch(&[Key("a"), Producer("p", 5), Producer("q", 1)])),
            (epoch(2), batch(&[Producer("p", 4), Key("b")])),
            (epoch(3), batch(&[Producer("p", 6), Producer("p", 7)])),
            (epoch(4), batch(&[Key("c")])),
        ];
        let table = StreamTable::User(requests());
        RawFlush::new(table, batches, "t".into()).write(&clickhouse).await.unwrap();
        write_flushed(&clickhouse, &[Commit::new(stream_item(StreamId::REQUESTS), epoch(3))]).await.unwrap();

        assert_eq!(read(Epoch::ZERO, 0).await, " | "); // nothing is asked for
        let all = "a@1 p5@1 q1@1 b@2 p4@2 p6@3 p7@3";
        let sorted = |text: &str| {
            let (window, sequences) = text.split_once('|').unwrap();
            let mut names: Vec<&str> = window.split_whitespace().collect();
            names.sort_by_key(|name| name.rsplit('@').next().map(str::to_owned).zip(Some(name.to_string())));
            format!("{} |{sequences}", names.join(" "))
        };
        assert_eq!(sorted(&read(Epoch::ZERO, 10).await), format!("{all} | ")); // epoch 4 is not committed
        assert_eq!(sorted(&read(Epoch::ZERO, 7).await), format!("{all} | "));
        assert_eq!(sorted(&read(epoch(1), 10).await), "b@2 p4@2 p6@3 p7@3 | p5@1 q1@1");
        assert_eq!(sorted(&read(epoch(2), 10).await), "p6@3 p7@3 | p5@2 q1@1");
        assert_eq!(sorted(&read(epoch(3), 10).await), " | p7@3 q1@1");
        assert_eq!(sorted(&read(epoch(9), 10).await), " | p7@3 q1@1");
        assert_eq!(sorted(&read(Epoch::ZERO, 4).await), "b@2 p4@2 p6@3 p7@3 | p5@1 q1@1");
        // An epoch is cut too, by the order of its rows; and of no more producers is anything known than of requests.
        assert_eq!(sorted(&read(epoch(1), 1).await), "p7@3 | p6@3");

        // What the requests take in memory bounds them too; whole epochs are left out.
        let within = async |bytes_max| {
            let window = RequestWindow { from: Epoch::ZERO, keys_max: 10, bytes_max };
            let (window, sequences) = read_within(&clickhouse, window, &aside).await;
            sorted(&format!("{window} | {sequences}"))
        };
        let window = RequestWindow { from: Epoch::ZERO, keys_max: 10, bytes_max: 1 << 20 };
        let found = recover(&clickhouse, window, 0, &aside).await.unwrap();
        let bytes = found.requests[0].bytes();
        assert_eq!(bytes, 300 + 20 + r#"[{"index":0,"reason":"it's late"}]"#.len());
        assert_eq!(within(7 * bytes).await, format!("{all} | "));
        assert_eq!(within(7 * bytes - 1).await, "b@2 p4@2 p6@3 p7@3 | p5@1 q1@1");
        assert_eq!(within(3 * bytes).await, "p6@3 p7@3 | p5@2 q1@1");
        assert_eq!(within(bytes).await, " | p7@3 q1@1");
        let expected = RecoveredRequest {
            epoch: epoch(1),
            stream: "metrics".into(),
            key: Some("a".into()),
            producer: None,
            sequence: None,
            body_hash: "00ff".into(),
            accepted: 3,
            rejected: r#"[{"index":0,"reason":"it's late"}]"#.into(),
        };
        assert!(found.requests.contains(&expected), "{:?}", found.requests);
    });
}

#[test]
fn requests_that_were_set_aside_are_known_too() {
    run(async {
        let clickhouse = database("requests_aside").await;
        let data = folder("requests-aside").join("aside");
        let aside = Arc::new(Aside::open(&data, clickhouse.database()).unwrap());
        clickhouse
            .execute("ALTER TABLE requests_aside.requests ADD CONSTRAINT c CHECK ifNull(key, '') != 'b'")
            .await
            .unwrap();
        let source = Arc::new(Source::default());
        for (at, name) in [(1, Key("a")), (2, Key("b")), (3, Producer("p", 9))] {
            source.append(at, Entry::Events(batch(&[name])));
        }
        let flusher = Flusher::start(clickhouse.clone(), source.clone(), epoch(0), &HashMap::new(), aside.clone());
        let there = || async { !aside.files().is_empty() };
        until("it is set aside", Duration::from_secs(60), there).await;
        flushed_all(&source).await;
        assert!(flusher.flush_now_and_stop(Duration::from_secs(10)).await);
        assert_eq!(ask(&clickhouse, "SELECT count() FROM requests_aside.requests").await, "2");
        let both = read(&clickhouse, Epoch::ZERO, 10, &aside).await;
        assert_eq!(both, ("a@1 b@2 p9@3".into(), String::new()));
        assert_eq!(read(&clickhouse, epoch(1), 2, &aside).await.0, "b@2 p9@3");
        assert_eq!(read(&clickhouse, epoch(2), 2, &aside).await.0, "p9@3");
    });
}
