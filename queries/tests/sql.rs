//! SQL over memory only, history only, and across the seam: the same rows give the same answers.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::sync::Arc;
use streamgauge_queries::ErrorKind;
use streamgauge_schemas::stream::Stream;
use streamgauge_schemas::{Column, ColumnType, EventBatch, EventTime, StreamDefinition, TableBatch};
use support::{Event, World, run};

/// 2024-05-01T00:00:00Z.
const T0: i64 = 1_714_521_600_000_000;

fn event(name: &'static str, dimensions: &[(&'static str, &'static str)], seconds: f64, value: f64) -> Event {
    Event { name, dimensions: dimensions.to_vec(), ts: EventTime(T0 + (seconds * 1e6) as i64), value }
}

/// Two metrics; some series lack `host` or have an empty one; buckets of each length are met twice.
fn events() -> [Vec<Event>; 2] {
    let one = vec![
        event("cpu", &[("host", "a"), ("zone", "1")], 0.0, 1.0),
        event("cpu", &[("host", "a"), ("zone", "1")], 0.5, 2.0),
        event("cpu", &[("host", "b"), ("zone", "1")], 0.25, 8.0),
        event("cpu", &[("zone", "2")], 1.0, 16.0),
        event("cpu", &[("host", "")], 1.5, 32.0),
        event("disk'\\", &[("host", "a`'\"")], 61.0, -4.0),
        event("mem", &[], 3_600.0, 0.0),
        event("mem", &[], -0.5, -0.25),
    ];
    let two = vec![
        event("cpu", &[("host", "a"), ("zone", "1")], 0.75, 64.0),
        event("cpu", &[("host", "b"), ("zone", "1")], 3_601.0, 128.0),
        event("cpu", &[("host", "c")], 2.0, 256.0),
        event("mem", &[], -86_400.5, 512.0),
        event("mem", &[], 3_600.0, 1.5),
    ];
    [one, two]
}

/// The same events, laid differently between memory and history.
async fn worlds(name: &str) -> Vec<(&'static str, World)> {
    let [one, two] = events();
    let memory = World::new(&format!("{name}_memory")).await;
    memory.append(&one).await;
    memory.append(&two).await;
    let history = World::new(&format!("{name}_history")).await;
    history.append(&one).await;
    history.append(&two).await;
    history.bury().await;
    let seam = World::new(&format!("{name}_seam")).await;
    seam.append(&one).await;
    seam.bury().await;
    seam.append(&two).await;
    let flushed = World::new(&format!("{name}_flushed")).await; // the second half is in both, above the horizon
    flushed.append(&one).await;
    flushed.bury().await;
    flushed.append(&two).await;
    flushed.flush().await;
    vec![("memory", memory), ("history", history), ("seam", seam), ("flushed", flushed)]
}

#[test]
fn the_same_answers_wherever_the_rows_are() {
    run(async {
        let worlds = worlds("same").await;
        let cases = [
            // streams
            ("SELECT count(*) FROM metrics", Some("13")),
            ("SELECT count(*), sum(value), min(ts), max(ts) FROM metrics", None),
            ("SELECT * FROM metrics", None),
            ("SELECT name, value FROM public.metrics WHERE name = 'cpu'", None),
            ("SELECT value FROM streamgauge.public.metrics WHERE name <> 'cpu'", Some("-0.25 -4.0 0.0 1.5 512.0")),
            ("SELECT value FROM metrics WHERE name < 'd'", None),
            ("SELECT value FROM metrics WHERE name <= 'cpu'", None),
            ("SELECT value FROM metrics WHERE name > 'cpu'", None),
            ("SELECT value FROM metrics WHERE name >= 'mem'", None),
            ("SELECT value FROM metrics WHERE name IN ('mem', 'nothing')", Some("-0.25 0.0 1.5 512.0")),
            ("SELECT value FROM metrics WHERE name NOT IN ('mem', 'cpu')", Some("-4.0")),
            ("SELECT value FROM metrics WHERE name LIKE 'd%'", Some("-4.0")),
            ("SELECT value FROM metrics WHERE name LIKE '%p_'", None),
            ("SELECT value FROM metrics WHERE name NOT LIKE 'c%' AND value > 0", Some("1.5 512.0")),
            ("SELECT value FROM metrics WHERE name = 'disk''\\'", Some("-4.0")),
            ("SELECT value FROM metrics WHERE value BETWEEN 1 AND 8", Some("1.0 1.5 2.0 8.0")),
            ("SELECT value FROM metrics WHERE value NOT BETWEEN 1 AND 8 AND name = 'mem'", Some("-0.25 0.0 512.0")),
            ("SELECT value FROM metrics WHERE value <> 0 AND name = 'mem'", Some("-0.25 1.5 512.0")),
            ("SELECT value FROM metrics WHERE NOT (name = 'cpu' OR value > 1)", Some("-0.25 -4.0 0.0")),
            ("SELECT value FROM metrics WHERE dimensions['host'] = 'a'", Some("1.0 2.0 64.0")),
            ("SELECT value FROM metrics WHERE dimensions['host'] = ''", Some("32.0")),
            ("SELECT value FROM metrics WHERE dimensions['host'] <> 'a'", Some("-4.0 128.0 256.0 32.0 8.0")),
            ("SELECT value FROM metrics WHERE dimensions['host'] IS NULL AND name = 'cpu'", Some("16.0")),
            (
                "SELECT value FROM metrics WHERE dimensions['host'] IS NOT NULL AND name = 'cpu' AND value > 20",
                Some("128.0 256.0 32.0 64.0"),
            ),
            ("SELECT value FROM metrics WHERE dimensions['host'] IN ('b', 'c')", Some("128.0 256.0 8.0")),
            (
                "SELECT value FROM metrics WHERE dimensions['host'] NOT IN ('b', 'c') AND name = 'cpu'",
                Some("1.0 2.0 32.0 64.0"),
            ),
            ("SELECT value FROM metrics WHERE dimensions['host'] LIKE 'a%'", Some("-4.0 1.0 2.0 64.0")),
            ("SELECT value FROM metrics WHERE dimensions['host'] = 'a`''\"'", Some("-4.0")),
            ("SELECT value FROM metrics WHERE dimensions['it''s'] IS NULL AND name = 'mem'", None),
            (
                "SELECT value FROM metrics WHERE NOT (dimensions['host'] = 'a') AND dimensions['zone'] = '1'",
                Some("128.0 8.0"),
            ),
            (
                "SELECT value FROM metrics WHERE dimensions['host'] = 'a' OR dimensions['zone'] = '2'",
                Some("1.0 16.0 2.0 64.0"),
            ),
            (
                "SELECT value FROM metrics WHERE ts >= '2024-05-01T00:00:01Z' AND ts < '2024-05-01T01:00:00Z'",
                Some("-4.0 16.0 256.0 32.0"),
            ),
            ("SELECT value FROM metrics WHERE ts = TIMESTAMP '2024-05-01 01:00:00'", Some("0.0 1.5")),
            ("SELECT value FROM metrics WHERE ts < '2024-05-01'", Some("-0.25 512.0")),
            ("SELECT count(*) FROM metrics WHERE ts < now()", Some("13")),
            ("SELECT count(*) FROM metrics WHERE ts > now() - interval '1 hour'", Some("0")),
            ("SELECT count(*) FROM metrics WHERE ts < '2262-01-01'", Some("13")),
            (
                "SELECT dimensions['zone'] AS zone, count(*) FROM metrics GROUP BY dimensions['zone']",
                Some("1,5 2,1 ,7"),
            ),
            ("SELECT source, count(*) FROM metrics GROUP BY source", Some("test,13")),
            ("SELECT value FROM metrics ORDER BY value DESC LIMIT 2", Some("256.0 512.0")),
            ("SELECT count(*) FROM (SELECT * FROM metrics LIMIT 5)", Some("5")),
            ("SELECT count(*) FROM (SELECT 1 FROM metrics LIMIT 5)", Some("5")),
            ("SELECT date_trunc('hour', ts) AS hour, avg(value) FROM metrics GROUP BY 1", None),
            ("SELECT a.value FROM metrics a JOIN metrics b ON a.ts = b.ts AND a.value < b.value", Some("0.0")),
            // rollups
            ("SELECT * FROM metrics_1s", None),
            ("SELECT * FROM metrics_1m", None),
            ("SELECT * FROM metrics_1h", None),
            ("SELECT * FROM metrics_1d", None),
            ("SELECT count(*) FROM metrics_1s", Some("10")),
            ("SELECT count(*), sum(count), sum(sum) FROM metrics_1h", Some("10,13,1016.25")),
            (
                "SELECT bucket, count, sum, min, max, avg FROM metrics_1s WHERE name = 'cpu' AND dimensions['host'] = 'a'",
                Some("2024-05-01T00:00:00Z,3,67.0,1.0,64.0,22.333333333333332"),
            ),
            ("SELECT avg FROM metrics_1d WHERE name = 'mem'", Some("-0.25 0.75 512.0")),
            (
                "SELECT bucket FROM metrics_1d WHERE name = 'mem'",
                Some("2024-04-29T00:00:00Z 2024-04-30T00:00:00Z 2024-05-01T00:00:00Z"),
            ),
            ("SELECT max FROM metrics_1m WHERE count > 1", None),
            ("SELECT count FROM metrics_1s WHERE count = 2 AND bucket >= '2024-05-01T01:00:00Z'", Some("2")),
            (
                "SELECT sum FROM metrics_1m WHERE bucket > '2024-05-01T00:00:00Z' AND bucket <= '2024-05-01T00:01:00Z'",
                Some("-4.0"),
            ),
            (
                "SELECT sum FROM metrics_1m WHERE bucket BETWEEN '2024-05-01T00:01:00Z' AND '2024-05-01T00:59:00Z'",
                Some("-4.0"),
            ),
            (
                "SELECT sum FROM metrics_1m WHERE bucket = '2024-05-01T00:01:00Z' OR name = 'mem'",
                Some("-0.25 -4.0 1.5 512.0"),
            ),
            ("SELECT sum FROM metrics_1h WHERE dimensions['host'] IS NULL", Some("-0.25 1.5 16.0 512.0")),
            (
                "SELECT sum FROM metrics_1h WHERE dimensions['host'] <> 'a' AND name = 'cpu'",
                Some("128.0 256.0 32.0 8.0"),
            ),
            (
                "SELECT sum FROM metrics_1h WHERE NOT (dimensions['host'] = 'a' AND sum > 0) AND name = 'cpu'",
                Some("128.0 256.0 32.0 8.0"),
            ),
            ("SELECT sum FROM metrics_1h WHERE name IN ('mem') AND bucket < '2024-05-01'", Some("-0.25 512.0")),
            ("SELECT sum FROM metrics_1h WHERE name LIKE 'c%' AND dimensions['zone'] IN ('2')", Some("16.0")),
            ("SELECT name, sum(sum) / sum(count) FROM metrics_1d GROUP BY name", None),
            ("SELECT count(*) FROM (SELECT * FROM metrics_1s LIMIT 4)", Some("4")),
            (
                "SELECT h.sum - (SELECT sum(s.sum) FROM metrics_1s s WHERE s.name = 'mem') FROM metrics_1h h WHERE h.name = 'disk''\\'",
                Some("-517.25"),
            ),
            (
                "WITH s AS (SELECT name, sum(count) AS n FROM metrics_1s GROUP BY name), m AS (SELECT name, count(*) AS n FROM metrics GROUP BY name) SELECT s.name, s.n - m.n FROM s JOIN m ON s.name = m.name",
                None,
            ),
        ];
        for (sql, expected) in cases {
            let mut first: Option<Vec<String>> = None;
            for (name, world) in &worlds {
                let rows = world.rows(sql).await.unwrap_or_else(|error| panic!("{sql} over {name}: {error:?}"));
                assert!(!rows.is_empty(), "{sql} over {name}");
                if let Some(expected) = expected {
                    let mut wanted: Vec<&str> = expected.split(' ').collect();
                    wanted.sort();
                    assert_eq!(rows, wanted, "{sql} over {name}");
                }
                assert_eq!(first.get_or_insert_with(|| rows.clone()), &rows, "{sql} over {name}");
            }
        }
    });
}

/// Filters, columns and limits reach ClickHouse, also where DataFusion rewrites a statement on the way.
#[test]
fn what_clickhouse_is_asked() {
    run(async {
        let world = World::new("asked").await;
        world.append(&events()[0]).await;
        world.bury().await;
        world.append(&events()[1]).await;
        let host = "if(mapContains(_t0.`dimensions`, 'host'), _t0.`dimensions`['host'], NULL)";
        for (sql, parts) in [
            ("SELECT count(*) FROM metrics", vec!["SELECT toInt64(count()) AS _0 FROM"]),
            ("SELECT value FROM metrics LIMIT 300", vec!["SELECT _t.`value` FROM", " LIMIT 300 "]),
            (
                "SELECT value FROM metrics WHERE name = 'cpu' AND value > 1",
                vec!["AND (_t.`name` = 'cpu') AND (_t.`value` > 1e0)"],
            ),
            (
                "SELECT dimensions['zone'], count(*) FROM metrics WHERE dimensions['host'] = 'a' GROUP BY 1",
                vec![host, " = 'a'"],
            ),
            (
                "SELECT value FROM metrics WHERE ts >= '2024-05-01T00:00:01Z'",
                vec!["_t.`ts` >= fromUnixTimestamp64Micro(toInt64(1714521601000000), 'UTC')"],
            ),
            (
                "SELECT value FROM metrics WHERE ts > now() - interval '1 hour'",
                vec!["_t.`ts` > fromUnixTimestamp64Micro("],
            ),
            (
                "SELECT a.value FROM metrics a JOIN metrics_1s b ON a.ts = b.bucket WHERE b.name = 'mem' AND a.name = 'cpu'",
                vec!["_t.`name` = 'cpu'", "s.`name` = 'mem'"],
            ),
            (
                "SELECT sum(count) FROM metrics_1m WHERE bucket >= '2024-05-01' AND count > 1",
                vec!["SELECT s.`series`, s.`bucket`, s.`count` FROM", "s.`bucket` >= from"],
            ),
            (
                "SELECT * FROM (SELECT name, max FROM metrics_1h) WHERE name IN ('a', 'b')",
                vec!["s.`name` = 'a' OR s.`name` = 'b'"],
            ),
        ] {
            world.asked.lock().clear();
            world.rows(sql).await.unwrap();
            let asked = world.asked.lock().join("\n");
            assert!(parts.iter().all(|part| asked.contains(part)), "{sql} asked {asked}, not {parts:?}");
        }
    });
}

#[test]
fn streams_of_the_users_own() {
    run(async {
        let world = World::new("own").await;
        let column = |name: &str, kind| Column { name: name.into(), kind };
        let definition = StreamDefinition {
            name: "flights".into(),
            time_column: "at".into(),
            columns: vec![
                column("at", ColumnType::Timestamp),
                column("tail", ColumnType::Text),
                column("seats", ColumnType::I64),
                column("fare", ColumnType::F64),
                column("full", ColumnType::Bool),
                column("extra", ColumnType::Json),
                column("landed", ColumnType::Timestamp),
            ],
            order_by: vec![],
            retention: None,
        };
        let (stream, _) = world.engine.create_stream(definition.clone()).await.unwrap();
        world.flush().await; // nothing to write: the flushed epoch moves on, with or without a table
        let rows = flights(&stream, 0..4);
        world.engine.append(rows).await.unwrap();
        let cases = [
            ("SELECT count(*) FROM flights", "4"),
            ("SELECT tail FROM flights WHERE \"full\"", "N2 "), // a null is nothing
            ("SELECT tail FROM flights WHERE NOT \"full\"", "N0"),
            ("SELECT tail FROM flights WHERE \"full\" IS NULL", "N3"),
            ("SELECT seats FROM flights WHERE tail IS NULL", "1"),
            ("SELECT tail FROM flights WHERE seats > 1 AND fare < 3.5", "N2 N3"),
            ("SELECT tail FROM flights WHERE seats <> -9223372036854775808 AND fare = 0", "N0"),
            ("SELECT tail FROM flights WHERE landed > at", "N0 N2"),
            ("SELECT extra FROM flights WHERE tail = 'N2'", "\"{\"\"n\"\":2}\""),
            ("SELECT tail FROM flights WHERE tail NOT IN ('N0', 'N3') OR seats = 1", "N2 "),
            ("SELECT tail FROM flights WHERE landed < '2024-05-01T00:00:05Z'", "N0"),
        ];
        let check = async |place: &str| {
            for (sql, expected) in cases {
                let mut wanted: Vec<&str> = expected.split(' ').collect();
                wanted.sort();
                assert_eq!(world.rows(sql).await.unwrap(), wanted, "{sql} in {place}");
            }
        };
        check("memory").await;
        world.flush().await;
        check("history").await;
        // A stream of the same name that is made anew does not show the events of the old one.
        world.engine.drop_stream("flights").await.unwrap();
        let gone = world.rows("SELECT count(*) FROM flights").await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::Caller { code: "table_unknown" });
        let (stream, _) = world.engine.create_stream(definition).await.unwrap();
        assert!(world.engine.begin_stream_flush(stream.id).is_none());
        assert_eq!(world.rows("SELECT count(*) FROM flights").await.unwrap(), ["0"]);
        world.engine.append(flights(&stream, 4..6)).await.unwrap();
        world.flush().await;
        assert_eq!(world.rows("SELECT count(*), min(seats) FROM flights").await.unwrap(), ["2,4"]);
    });
}

fn flights(stream: &Stream, range: std::ops::Range<i64>) -> EventBatch {
    use arrow::array::{BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
    let at =
        TimestampMicrosecondArray::from_iter_values(range.clone().map(|n| T0 + n * 1_000_000)).with_timezone("UTC");
    let tail: StringArray = range.clone().map(|n| (n != 1).then(|| format!("N{n}"))).collect();
    let seats = Int64Array::from_iter_values(range.clone());
    let fare = Float64Array::from_iter_values(range.clone().map(|n| n as f64));
    let full: BooleanArray = range.clone().map(|n| (n % 2 == 0).then_some(n == 2)).collect::<Vec<_>>().into();
    let full = BooleanArray::from(
        full.iter().zip(range.clone()).map(|(f, n)| if n == 1 { Some(true) } else { f }).collect::<Vec<_>>(),
    );
    let extra: StringArray = range.clone().map(|n| Some(format!("{{\"n\":{n}}}"))).collect();
    let landed: TimestampMicrosecondArray = range.map(|n| (n % 2 == 0).then_some(T0 + n * 3_000_000 + 1)).collect();
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(at),
        Arc::new(tail),
        Arc::new(seats),
        Arc::new(fare),
        Arc::new(full),
        Arc::new(extra),
        Arc::new(landed.with_timezone("UTC")),
    ];
    let rows = RecordBatch::try_new(stream.definition.schema(), columns).unwrap();
    EventBatch::Table(Arc::new(TableBatch { stream: stream.id, rows }))
}

/// One of the views is fed from the other, so that their rows lie in different ways.
#[test]
fn a_group_that_a_question_names_twice_is_read_once() {
    run(async {
        let world = World::new("twice").await;
        for (name, width) in [("by_minute", "minute"), ("by_hour", "hour")] {
            let sql = format!(
                "CREATE MATERIALIZED VIEW {name} WITH (backfill = false) AS SELECT dimensions['country'] AS country, \
                 date_trunc('{width}', ts) AS at, count(*) AS n FROM metrics GROUP BY 1, 2"
            );
            world.rows(&sql).await.unwrap();
        }
        let order =
            |country| Event { name: "order", dimensions: vec![("country", country)], ts: EventTime(0), value: 1.0 };
        world.append(&["de", "fr", "it", "se", "pt"].map(order)).await;
        for view in ["by_minute", "by_hour"] {
            for condition in [
                "country IN ('de', 'fr', 'it', 'se', 'de')",
                "country IN ('de', 'fr', 'it', 'se') OR country IN ('fr', 'de', 'it', 'se', 'dk')",
            ] {
                let asked = format!("SELECT country, n FROM {view} WHERE {condition}");
                let rows = world.rows(&asked).await.unwrap();
                assert_eq!(rows, ["de,1", "fr,1", "it,1", "se,1"], "{view} where {condition}");
            }
        }
    });
}

#[test]
fn what_would_be_read_otherwise_than_it_is_meant_is_refused() {
    run(async {
        let world = World::new("misread").await;
        for (sql, part) in [
            ("SELECT count(*) FROM metrics TABLESAMPLE BERNOULLI (10)", "metrics TABLESAMPLE BERNOULLI (10) is not"),
            ("SELECT sum(value) FROM metrics PREWHERE value > 10", "write the condition with WHERE"),
            ("SELECT name, count(*) FROM metrics GROUP BY name WITH TOTALS", "WITH TOTALS is not answered"),
            ("SELECT avg(0.5)(value) FROM metrics", "among the arguments"),
            ("SELECT abs(value) FILTER (WHERE value > 1000) FROM metrics", "only aggregates take"),
            ("EXPLAIN SELECT value ^ 2 FROM metrics", "write power(a, b)"),
            ("CREATE MATERIALIZED VIEW v AS SELECT sum(n ^ 2) FROM rejects", "write power(a, b)"),
            ("CREATE MATERIALIZED VIEW v AS SELECT sum(abs(DISTINCT n)) FROM rejects", "only aggregates take"),
        ] {
            let error = world.rows(sql).await.unwrap_err();
            assert!(error.to_string().contains(part), "{sql}: {error}");
        }
    });
}

#[test]
fn intervals_have_multiples_and_parts() {
    run(async {
        let world = World::new("intervals").await;
        for (sql, wanted) in [
            ("TIMESTAMP '2024-05-01' - 3 * INTERVAL '1 hour'", "2024-04-30T21:00:00Z"),
            ("TIMESTAMP '2024-05-01' + INTERVAL '1 day' / 4", "2024-05-01T06:00:00Z"),
            ("TIMESTAMP '2024-05-01' + INTERVAL '1 month' * 1.5", "2024-06-16T00:00:00Z"),
            ("TIMESTAMP '2024-05-01' + n * INTERVAL '1 minute'", "2024-05-01T00:07:00Z"),
            ("TIMESTAMP '2024-05-01' + CAST(NULL AS BIGINT) * INTERVAL '1 minute'", ""),
        ] {
            let sql = format!("SELECT {sql} FROM (VALUES (7)) AS t(n) FETCH FIRST ROW ONLY");
            assert_eq!(world.rows(&sql).await.unwrap(), [wanted], "{sql}");
        }
        let error = world.rows("SELECT INTERVAL '1 day' / 0").await.unwrap_err();
        assert!(error.to_string().contains("divided by zero"), "{error}");
    });
}
