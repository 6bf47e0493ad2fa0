//! What is written is there once, whatever is repeated or cut off; what is read back is what was written.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array};
use arrow::datatypes::Field;
use futures::TryStreamExt;
use streamgauge_schemas::stream::{CatalogChange, Stream, rejects, requests};
use streamgauge_schemas::{
    Epoch, EventBatch, EventTime, GroupKey, Key, Row, Rows, Series, StreamDefinition, StreamId, TableBatch,
};
use streamgauge_sinks::error::PASSING_CODES;
use streamgauge_sinks::flushed::{Commit, write_flushed};
use streamgauge_sinks::raw::RawFlush;
use streamgauge_sinks::states::{read_states, write_states};
use streamgauge_sinks::{
    ClickHouse, Recovered, RecoveredView, RequestWindow, SinkError, StreamTable, catalog, migrations, recover,
    stream_item, view_item,
};
use support::{aside, ask, counts, database, epoch, keys, metrics, run, second, state, until};

/// Recovers without requests, and with nothing set aside.
async fn recover_all(clickhouse: &ClickHouse) -> Result<Recovered, SinkError> {
    recover(clickhouse, RequestWindow::default(), 0, &aside(clickhouse.database())).await
}

async fn count(clickhouse: &ClickHouse, table: &str) -> String {
    ask(clickhouse, &format!("SELECT count() FROM {}", clickhouse.table(table))).await
}

#[test]
fn migrations_can_be_applied_twice_and_refuse_a_newer_schema() {
    run(async {
        let clickhouse = database("migrations").await;
        let known = migrations::migrate(&clickhouse).await.unwrap();
        let table = clickhouse.table("streamgauge_migrations");
        let applied = format!("SELECT max(version), count() FROM {table} FINAL");
        assert_eq!(ask(&clickhouse, &applied).await, format!("{known} {known}"));
        clickhouse.execute(&format!("TRUNCATE TABLE {table}")).await.unwrap(); // a crash before the row was written
        assert_eq!(migrations::migrate(&clickhouse).await.unwrap(), known);
        clickhouse.execute(&format!("INSERT INTO {table} (version, title) VALUES (99, 'later')")).await.unwrap();
        let error = migrations::migrate(&clickhouse).await.unwrap_err();
        assert!(matches!(error, SinkError::NewerSchema { found: 99, .. }), "{error}");
    });
}

#[test]
fn states_written_twice_are_there_once_and_come_back_as_they_were() {
    run(async {
        let clickhouse = database("states").await;
        let view = second();
        let (mut rows, mut series) = (Rows::default(), HashMap::new());
        for at in 0..100_i64 {
            let one =
                Arc::new(Series::new("it's a `name`", [("host", format!("h\\{}", at % 7)), ("zone", String::new())]));
            let key = GroupKey { series: one.id(), bucket: EventTime(-5_000_000 + at * 1_000_000) };
            let state = state(at as u64 + 1, 0.1 * at as f64, -1e300, f64::MIN_POSITIVE);
            rows.push(key, Row { generation: epoch(at as u64), version: epoch(1_000 + at as u64), state });
            series.insert(one.id(), Key::Series(one));
        }
        let (rows, series) = (Arc::new(rows), Arc::new(series));
        write_states(&clickhouse, &view, &rows, &series).await.unwrap();
        write_states(&clickhouse, &view, &rows, &series).await.unwrap();
        assert_eq!(ask(&clickhouse, "SELECT count(), sum(count) FROM states.metrics_1s").await, "100 5050");
        assert_eq!(ask(&clickhouse, "SELECT uniqExact(series) FROM states.metrics_1s_states").await, "7");

        let sorted = |rows: &Rows| {
            let mut all: Vec<_> = rows.iter().map(|(key, row)| (key, row.clone(), row.state)).collect();
            all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
            all
        };
        let (found, known) = read_states(&clickhouse, &view, Epoch::ZERO).await.unwrap();
        assert_eq!(sorted(&found), sorted(&rows));
        assert_eq!(known, *series);
        let (found, known) = read_states(&clickhouse, &view, epoch(1_096)).await.unwrap();
        assert_eq!((found.len(), known.len()), (3, 3)); // versions 1097, 1098 and 1099
    });
}

#[test]
fn a_newer_version_hides_the_older_on_both_sides_of_the_horizon() {
    run(async {
        let clickhouse = database("versions").await;
        let view = second();
        let series = Arc::new(Series::new("cpu", [("host", "a")]));
        let known = Arc::new(keys([series.clone()]));
        // So many groups that the index on the version has something to skip.
        let write = async |groups: std::ops::Range<i64>, version: u64, count: u64| {
            let mut rows = Rows::default();
            for at in groups {
                let key = GroupKey { series: series.id(), bucket: EventTime(at * 1_000_000) };
                let state = state(count, 1.0, 1.0, 1.0);
                rows.push(key, Row { generation: epoch(0), version: epoch(version), state });
            }
            write_states(&clickhouse, &view, &Arc::new(rows), &known).await.unwrap();
        };
        write(0..30_000, 10, 1).await;
        write(100..200, 20, 2).await;
        let below = |horizon: u64| {
            format!("SELECT count() FROM versions.metrics_1s_states FINAL WHERE version <= {}", epoch(horizon))
        };
        assert_eq!(ask(&clickhouse, &below(15)).await, "29900"); // not 30000: the hundred newer rows are above
        assert_eq!(ask(&clickhouse, &below(20)).await, "30000");
        let (found, _) = read_states(&clickhouse, &view, epoch(15)).await.unwrap();
        assert_eq!(found.len(), 100);
        assert!(counts(&found.state).iter().all(|count| *count == 2));
        let (found, _) = read_states(&clickhouse, &view, epoch(5)).await.unwrap();
        assert_eq!(counts(&found.state).iter().sum::<u64>(), 30_100);
    });
}

#[test]
fn events_sent_again_under_their_token_arrive_once() {
    run(async {
        let clickhouse = database("tokens").await;
        let batches = vec![(epoch(1), metrics(1_500, 10)), (epoch(2), metrics(500, 3))];
        let flush = |token: &str| RawFlush::new(StreamTable::Metrics, batches.clone(), token.to_owned());
        for _ in 0..3 {
            flush("boot1/stream/0/0/2").write(&clickhouse).await.unwrap();
        }
        assert_eq!(count(&clickhouse, "metrics").await, "2000");
        let sql = "SELECT _epoch - (SELECT min(_epoch) FROM tokens.metrics) AS e, count(), uniqExact(name, dimensions), \
                   sum(value), any(source) FROM tokens.metrics GROUP BY e ORDER BY e";
        assert_eq!(ask(&clickhouse, sql).await, "0 1500 10 281062.5 test\n1 500 3 31187.5 test");
        flush("boot2/stream/0/0/2").write(&clickhouse).await.unwrap(); // another start: other rows, to ClickHouse
        assert_eq!(count(&clickhouse, "metrics").await, "4000");
    });
}

#[test]
fn a_flush_larger_than_an_insert_is_one_part_an_insert() {
    run(async {
        let clickhouse = database("large").await;
        clickhouse.execute("SYSTEM STOP MERGES large.metrics").await.unwrap();
        let batches = vec![(epoch(1), metrics(700_000, 10)), (epoch(2), metrics(700_000, 10))];
        RawFlush::new(StreamTable::Metrics, batches, "t".into()).write(&clickhouse).await.unwrap();
        let parts =
            "SELECT rows FROM system.parts WHERE active AND database = 'large' AND table = 'metrics' ORDER BY rows";
        assert_eq!(ask(&clickhouse, parts).await, "400000\n1000000");
    });
}

#[test]
fn a_crash_between_insert_and_commit_is_repaired() {
    run(async {
        let clickhouse = database("repair").await;
        let write = async |from: u64, to: u64, boot: &str| {
            let batches = (from..to).map(|at| (epoch(at), metrics(100, 10))).collect();
            let token = format!("{boot}/stream/0/{from}/{to}");
            RawFlush::new(StreamTable::Metrics, batches, token).write(&clickhouse).await.unwrap();
        };
        write(1, 4, "boot1").await;
        write_flushed(&clickhouse, &[Commit::new(stream_item(StreamId::METRICS), epoch(3))]).await.unwrap();
        write(4, 9, "boot1").await; // and no commit
        assert_eq!(count(&clickhouse, "metrics").await, "800");
        for _ in 0..2 {
            let recovered = recover_all(&clickhouse).await.unwrap();
            assert_eq!(recovered.flushed("stream/0"), epoch(3));
            assert_eq!(count(&clickhouse, "metrics").await, "300");
        }
        write(4, 9, "boot2").await; // the log is flushed again
        assert_eq!(count(&clickhouse, "metrics").await, "800");
        write_flushed(&clickhouse, &[Commit::new(stream_item(StreamId::METRICS), epoch(8))]).await.unwrap();
        recover_all(&clickhouse).await.unwrap();
        assert_eq!(count(&clickhouse, "metrics").await, "800");
    });
}

#[test]
fn recovery_loads_rows_above_each_views_horizon() {
    run(async {
        let clickhouse = database("horizon").await;
        let view = second();
        let series = Arc::new(Series::new("cpu", [("host", "a")]));
        let mut rows = Rows::default();
        for at in 0..20 {
            let key = GroupKey { series: series.id(), bucket: EventTime(at * 1_000_000) };
            let at = epoch(at as u64 * 1_000_000);
            rows.push(key, Row { generation: at, version: at, state: state(1, 1.0, 1.0, 1.0) });
        }
        let known = Arc::new(keys([series.clone()]));
        write_states(&clickhouse, &view, &Arc::new(rows), &known).await.unwrap();
        write_flushed(&clickhouse, &[Commit::new(view_item(&view), epoch(10_000_000))]).await.unwrap();
        let recovered = recover_all(&clickhouse).await.unwrap();
        let RecoveredView { id, rows, keys: known, .. } = &recovered.views[0];
        assert_eq!((*id, recovered.views.len()), (view.id, 4));
        let mut buckets: Vec<i64> = rows.bucket.iter().map(|bucket| bucket.0 / 1_000_000).collect();
        buckets.sort_unstable();
        assert_eq!(buckets, (6..20).collect::<Vec<_>>()); // K is 5 s: versions above 10 − 5, also those above F
        assert_eq!(known.get(&series.id()), Some(&Key::Series(series)));
    });
}

/// The user's streams that recovery found.
fn own(recovered: &Recovered) -> Vec<Arc<Stream>> {
    recovered.catalog.own().cloned().collect()
}

fn flights() -> StreamDefinition {
    let json = r#"{"name":"flights","time_column":"at","order_by":["origin","at"],"retention":"7d","columns":[
        {"name":"at","type":"timestamp"},{"name":"origin","type":"text"},{"name":"delay","type":"i64"},
        {"name":"cancelled","type":"bool"},{"name":"distance","type":"f64"},{"name":"extra","type":"json"},
        {"name":"landed","type":"timestamp"}]}"#;
    serde_json::from_str::<StreamDefinition>(json).unwrap().validate().unwrap()
}

#[test]
fn a_stream_is_made_filled_and_dropped_however_often_its_changes_are_applied() {
    run(async {
        let clickhouse = database("streams").await;
        let definition = flights();
        let stream = Arc::new(Stream { id: StreamId(epoch(1).0), definition: definition.clone() });
        let create = vec![(epoch(1), CatalogChange::CreateStream(definition.clone()))];
        catalog::apply_changes(&clickhouse, &create).await.unwrap();
        catalog::apply_changes(&clickhouse, &create).await.unwrap();

        let rows = RecordBatch::new_empty(definition.schema());
        let mut columns = rows.columns().to_vec();
        columns[0] = Arc::new(TimestampMicrosecondArray::from(vec![5, -7]).with_timezone("UTC"));
        columns[1] = Arc::new(StringArray::from(vec![Some("it's"), None]));
        columns[2] = Arc::new(Int64Array::from(vec![None, Some(i64::MIN)]));
        for (at, column) in columns.iter_mut().enumerate().skip(3) {
            *column = arrow::array::new_null_array(definition.schema().field(at).data_type(), 2);
        }
        let rows = RecordBatch::try_new(definition.schema(), columns).unwrap();
        let batch = EventBatch::Table(Arc::new(TableBatch { stream: stream.id, rows }));
        let table = StreamTable::User(stream.clone());
        RawFlush::new(table, vec![(epoch(2), batch.clone()), (epoch(3), batch)], "t".into())
            .write(&clickhouse)
            .await
            .unwrap();
        let sql = "SELECT toUnixTimestamp64Micro(at) AS t, origin, delay, cancelled, distance, extra, toString(landed), count() \
                   FROM streams.flights GROUP BY ALL ORDER BY t";
        let expected = "-7 NULL -9223372036854775808 NULL NULL NULL NULL 2\n5 it's NULL NULL NULL NULL NULL 2";
        assert_eq!(ask(&clickhouse, sql).await, expected);

        // Recovery knows the stream from the catalog's flushed epoch on, and not before.
        assert!(recover_all(&clickhouse).await.unwrap().catalog.own().next().is_none());
        write_flushed(&clickhouse, &[Commit::new("catalog", epoch(1)), Commit::new(stream_item(stream.id), epoch(2))])
            .await
            .unwrap();
        let recovered = recover_all(&clickhouse).await.unwrap();
        assert_eq!(recovered.catalog.epoch, epoch(1));
        assert_eq!(own(&recovered), std::slice::from_ref(&stream));
        assert_eq!(count(&clickhouse, "flights").await, "2"); // epoch 3 was not committed

        // Dropped and made again with other columns, in one flush that is applied twice.
        let again = StreamDefinition { columns: definition.columns[..2].to_vec(), ..definition.clone() };
        let changes = vec![
            (epoch(10), CatalogChange::DropStream(stream.id)),
            (epoch(11), CatalogChange::CreateStream(again.clone())),
        ];
        catalog::apply_changes(&clickhouse, &changes).await.unwrap();
        assert_eq!(own(&recover_all(&clickhouse).await.unwrap()), [stream]); // as of its flushed epoch
        catalog::apply_changes(&clickhouse, &changes).await.unwrap();
        assert_eq!(count(&clickhouse, "flights").await, "0");
        write_flushed(&clickhouse, &[Commit::new("catalog", epoch(11))]).await.unwrap();
        let streams = own(&recover_all(&clickhouse).await.unwrap());
        assert_eq!(streams, [Arc::new(Stream { id: StreamId(epoch(11).0), definition: again })]);
    });
}

/// Rows of a stream in which every column but the time is null.
fn blank_rows(stream: &Stream, len: usize) -> EventBatch {
    let schema = stream.definition.schema();
    let column = |(at, field): (usize, &Arc<Field>)| match at {
        0 => Arc::new(TimestampMicrosecondArray::from(vec![7; len]).with_timezone("UTC")),
        _ => new_null_array(field.data_type(), len),
    };
    let columns = schema.fields().iter().enumerate().map(column).collect();
    let rows = RecordBatch::try_new(schema.clone(), columns).unwrap();
    EventBatch::Table(Arc::new(TableBatch { stream: stream.id, rows }))
}

#[test]
fn built_in_streams_are_repaired_like_others_and_no_change_touches_them() {
    run(async {
        let clickhouse = database("built_in").await;
        for stream in [rejects(), requests()] {
            let name = &stream.definition.name;
            let batches = (1..=3).map(|at| (epoch(at), blank_rows(&stream, 5))).collect();
            let table = StreamTable::User(stream.clone());
            RawFlush::new(table, batches, format!("boot1/{name}")).write(&clickhouse).await.unwrap();
            write_flushed(&clickhouse, &[Commit::new(stream_item(stream.id), epoch(2))]).await.unwrap();
            let changes = [
                (epoch(1), CatalogChange::CreateStream(StreamDefinition { name: name.clone(), ..flights() })),
                (epoch(2), CatalogChange::DropStream(stream.id)),
                (epoch(3), CatalogChange::DropStream(StreamId(epoch(1).0))),
            ];
            catalog::apply_changes(&clickhouse, &changes).await.unwrap();
            assert_eq!(count(&clickhouse, name).await, "15");
            recover_all(&clickhouse).await.unwrap();
            assert_eq!(count(&clickhouse, name).await, "10"); // epoch 3 was not committed
        }
        let recovered = recover_all(&clickhouse).await.unwrap();
        assert_eq!(recovered.catalog.streams, [rejects(), requests()]);
    });
}

#[test]
fn an_error_in_the_middle_of_an_answer_is_an_error() {
    run(async {
        let clickhouse = database("errors").await;
        let sql = "SELECT number, throwIf(number = 3000000) AS x FROM system.numbers SETTINGS max_block_size = 10000";
        let result = match clickhouse.query_arrow(sql).await {
            Ok(stream) => stream.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await,
            Err(error) => Err(error),
        };
        let error = result.unwrap_err();
        assert!(matches!(error, SinkError::Statement { code: 395, .. }), "{error}");
        let error = clickhouse.query_arrow("SELECT nothing").await.err().unwrap();
        assert!(matches!(error, SinkError::Statement { code: 47, .. }), "{error}");
        let error = clickhouse.query_arrow("INSERT INTO errors.metrics (name) VALUES ('x')").await.err().unwrap();
        assert!(matches!(error, SinkError::Statement { code: 164, .. }), "{error}"); // a query cannot write
        let empty =
            clickhouse.query_batches("SELECT toLowCardinality('a') AS a, map('k', 1) AS m WHERE 0").await.unwrap();
        assert_eq!((empty.len(), empty[0].num_rows(), empty[0].num_columns()), (1, 0, 2));
    });
}

#[test]
fn a_dropped_answer_cancels_its_query() {
    run(async {
        let clickhouse = database("cancel").await;
        let sql = "SELECT number AS cancel_me FROM system.numbers";
        let mut stream = clickhouse.query_arrow(sql).await.unwrap();
        stream.try_next().await.unwrap().unwrap();
        let running = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT number AS cancel_me%'";
        assert_eq!(ask(&clickhouse, running).await, "1");
        drop(stream);
        let gone = || async { ask(&clickhouse, running).await == "0" };
        until("the query is gone", Duration::from_secs(10), gone).await;
    });
}

#[test]
fn the_codes_of_what_passes_are_those_of_clickhouse() {
    run(async {
        let clickhouse = database("codes").await;
        let codes: Vec<String> = PASSING_CODES.iter().map(|(code, _)| code.to_string()).collect();
        let sql = format!("SELECT errorCodeToName(arrayJoin([{}])) AS name", codes.join(", "));
        let names: Vec<&str> = PASSING_CODES.iter().map(|(_, name)| *name).collect();
        assert_eq!(ask(&clickhouse, &sql).await.lines().collect::<Vec<_>>(), names);
    });
}
