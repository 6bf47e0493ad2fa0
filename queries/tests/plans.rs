//! The plan cache: a question of a shape that was asked before is answered as one that is planned anew.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use serde_json::{Value, json};
use streamgauge_queries::{AskOptions, Format, Parameters};
use streamgauge_schemas::{Column, ColumnType, EventBatch, EventTime, StreamDefinition, TableBatch, time};
use support::{Event, World, run};

/// 2024-05-01T00:00:00Z.
const T0: i64 = 1_714_521_600_000_000;
const MINUTE: i64 = 60_000_000;
/// Without the cache, by DataFusion alone.
const ANEW: AskOptions = AskOptions { min_epoch: None, partial: false, unpushed: true };

fn orders(amount: ColumnType) -> StreamDefinition {
    let columns = [
        ("at", ColumnType::Timestamp),
        ("seen", ColumnType::Timestamp),
        ("country", ColumnType::Text),
        ("number", ColumnType::I64),
        ("amount", amount),
    ];
    StreamDefinition {
        name: "orders".into(),
        time_column: "at".into(),
        columns: columns.map(|(name, kind)| Column { name: name.into(), kind }).to_vec(),
        order_by: vec![],
        retention: None,
    }
}

async fn append(world: &World, rows: std::ops::Range<i64>) {
    let stream = world.engine.stream("orders").unwrap();
    let times = || TimestampMicrosecondArray::from_iter_values(rows.clone().map(|n| T0 + n * MINUTE));
    let countries = rows.clone().map(|n| ["it", "de", "fr"].get(n as usize % 4).copied());
    let amount: ArrayRef = match stream.definition.columns[4].kind {
        ColumnType::F64 => Arc::new(Float64Array::from_iter_values(rows.clone().map(|n| n as f64 / 4.0))),
        _ => Arc::new(StringArray::from_iter_values(rows.clone().map(|n| format!("a{n}")))),
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times().with_timezone("UTC")),
        Arc::new(times().with_timezone("UTC")),
        Arc::new(countries.collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(rows.clone())),
        amount,
    ];
    let rows = RecordBatch::try_new(stream.definition.schema(), columns).unwrap();
    world.engine.append(EventBatch::Table(Arc::new(TableBatch { stream: stream.id, rows }))).await.unwrap();
}

/// Orders in ClickHouse and in memory, a series in both, and views of both.
async fn world(name: &str) -> World {
    let world = World::new(name).await;
    world.engine.create_stream(orders(ColumnType::F64)).await.unwrap();
    for view in [
        "by_country WITH (backfill = false) AS SELECT country, date_bin('1 hour', at) AS hour, count(*) AS n, avg(amount) AS mean, \
         approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY amount) AS p90 FROM orders GROUP BY country, 2",
        "by_host WITH (backfill = false) AS SELECT name AS what, dimensions AS host, date_trunc('month', ts) AS m, count(*) AS n FROM metrics \
         GROUP BY 1, 2, 3 HAVING count(*) > 15",
    ] {
        world.answer(&format!("CREATE MATERIALIZED VIEW {view}"), Format::Json).await.unwrap();
    }
    let cpu = |minute: i64| Event {
        name: if minute % 3 == 0 { "io" } else { "cpu" },
        dimensions: vec![("host", if minute % 2 == 0 { "a" } else { "b" })],
        ts: EventTime(T0 + minute * MINUTE),
        value: minute as f64,
    };
    append(&world, 0..300).await;
    world.append(&(0..90).map(cpu).collect::<Vec<_>>()).await;
    world.bury().await;
    append(&world, 300..400).await;
    world.append(&(90..120).map(cpu).collect::<Vec<_>>()).await;
    world
}

/// The header and the rows of an answer, or its error.
async fn asked(world: &World, sql: &str, parameters: &[Value], options: AskOptions) -> Result<Vec<String>, String> {
    let answer = world.queries.sql_with(sql, Parameters::from_json(parameters), options).await;
    let body = async {
        let body = streamgauge_queries::format::body(answer?, Format::Csv, std::time::Instant::now()).await?;
        futures::TryStreamExt::try_collect::<Vec<_>>(body).await
    };
    let body = body.await.map_err(|error| error.to_string())?.concat();
    let mut rows: Vec<String> = String::from_utf8(body).unwrap().lines().map(str::to_owned).collect();
    rows[1..].sort();
    Ok(rows)
}

/// Each shape, asked with several texts, twice over, is answered as it is without the cache.
#[test]
fn texts_in_conditions() {
    run(async {
        let world = world("plans_texts").await;
        let shapes: &[(&str, &[&str])] = &[
            ("SELECT count(*), sum(number) FROM orders WHERE country = '{}'", &["it", "de", "none", "o''brien", ""]),
            (
                "SELECT country <> 'it', count(*) FROM orders WHERE country <> '{}' OR NOT (country < '{}') GROUP BY 1",
                &["it", "e"],
            ),
            (
                "SELECT number FROM orders WHERE at >= '{}' AND at < '2024-05-01T05:00:00Z' LIMIT 1000",
                &["2024-05-01", "2024-05-01 04:50:00", "2024-05-01T06:00:00+02:00", "2030-01-01", "soon", ""],
            ),
            (
                "SELECT count(*) FROM orders WHERE seen BETWEEN '{}' AND '2024-05-02'",
                &["2024-05-01 03:00:00", "1970-01-01"],
            ),
            ("SELECT count(*) FROM orders WHERE number = '{}'", &["5", "05", "x", "9223372036854775808"]),
            ("SELECT count(*) FROM orders WHERE number > '{}' AND amount < '{}'", &["5", "50", "5e1"]),
            ("SELECT count(*) FROM orders WHERE '{}' = 'it'", &["it", "de"]),
            (
                "SELECT count(*) FROM (SELECT * FROM orders WHERE country = 'it' ORDER BY number LIMIT 7) WHERE country = '{}'",
                &["it", "de"],
            ),
            (
                "SELECT country, count(*) AS n FROM orders WHERE country >= '{}' GROUP BY country HAVING min(country) > '{}' ORDER BY n DESC, country LIMIT 2",
                &["a", "e", "z"],
            ),
            (
                "SELECT a.number FROM orders a LEFT JOIN orders b ON a.number = b.number + 1 WHERE b.country = '{}'",
                &["it", "de"],
            ),
            (
                "SELECT count(*) FROM orders WHERE country = '{}' AND number IN (SELECT number FROM orders WHERE country = '{}')",
                &["it", "de"],
            ),
            ("SELECT number, row_number() OVER (ORDER BY number) FROM orders WHERE country = '{}'", &["it", "de"]),
            (
                "SELECT count(DISTINCT number), min(at) FROM orders WHERE country = '{}' UNION ALL SELECT 1, NULL",
                &["it", "de"],
            ),
            (
                "WITH o AS (SELECT * FROM orders WHERE country = '{}') SELECT count(*) FROM o WHERE country = '{}'",
                &["it", "de"],
            ),
            (
                "SELECT bucket, count, sum, p99 FROM metrics_1m WHERE name = '{}' AND dimensions['host'] = 'a' ORDER BY bucket",
                &["cpu", "io", "no"],
            ),
            (
                "SELECT * FROM metrics_1h WHERE name = 'cpu' AND dimensions['host'] = '{}' AND bucket >= '2024-05-01T01:00:00Z'",
                &["a", "b", "c"],
            ),
            ("SELECT hour, n, mean, p90 FROM by_country WHERE country = '{}'", &["it", "de", "x"]),
            (
                "SELECT count(*), combine(p90), combine(mean) FROM by_country WHERE hour < '{}'",
                &["2024-05-01 03:00:00", "2025-01-01"],
            ),
            // Of these ClickHouse adds its part up.
            ("SELECT sum(n), combine(mean) FROM by_country WHERE country <> '{}'", &["it", "x"]),
            (
                "SELECT country, sum(n), max(hour) FROM by_country WHERE hour >= '{}' GROUP BY country",
                &["2024-05-01 02:30:00", "2030-01-01", "soon"],
            ),
            (
                "SELECT date_trunc('hour', bucket) AS hour, sum(count), max(max) FROM metrics_1m WHERE name = '{}' GROUP BY 1",
                &["cpu", "io", "no"],
            ),
            ("SELECT n FROM (SELECT count(*) AS n FROM orders) WHERE '{}' = 'de'", &["it", "de"]),
            ("SELECT count(*) FROM orders HAVING now() < '2020-01-01' AND min(country) <> '{}'", &["it", "de"]),
            ("SELECT n FROM (SELECT count(*) AS n, 0 * max(number) AS z FROM orders) WHERE z < '{}'", &["1", "-1"]),
            ("SELECT sum(count) FROM metrics_1m WHERE name <> '{}' GROUP BY name ORDER BY 1 LIMIT 1", &["cpu", "no"]),
            (
                "SELECT bucket FROM metrics_1m WHERE dimensions['host'] = '{}' ORDER BY bucket DESC LIMIT 3 OFFSET 1",
                &["a", "b", "c"],
            ),
            ("SELECT $h0 FROM orders WHERE country = '{}'", &["it"]),
            ("SELECT number FROM orders WHERE country = $h0 OR country = '{}'", &["it"]),
            (
                "SELECT time_bucket_gapfill('1 hour', at) AS hour, count(*) FROM orders WHERE country = '{}' AND at >= '2024-05-01' AND at < '2024-05-02' \
              GROUP BY 1",
                &["it", "de"],
            ),
        ];
        let mut answered = 0;
        for (shape, texts) in shapes {
            for text in texts.iter().chain(*texts) {
                let sql = shape.replace("{}", text);
                let (cached, anew) =
                    (asked(&world, &sql, &[], AskOptions::default()).await, asked(&world, &sql, &[], ANEW).await);
                answered += usize::from(anew.is_ok());
                assert_eq!(cached, anew, "{sql}");
            }
        }
        assert!(answered > 80, "only {answered} are questions");
    });
}

#[test]
fn parameters_in_conditions_and_elsewhere() {
    run(async {
        let world = world("plans_parameters").await;
        for (sql, given) in [
            (
                "SELECT count(*) FROM orders WHERE country = $1 AND at >= $2",
                vec![
                    vec![json!("it"), json!("2024-05-01T01:00:00Z")],
                    vec![json!("de"), json!("2024-05-01T02:00:00Z")],
                    vec![json!("de"), json!(null)],
                    vec![json!(5), json!("2024-05-01")],
                    vec![json!("it")],
                    vec![json!("it"), json!("2024-05-01"), json!(1)],
                ],
            ),
            (
                "SELECT count(*) FROM orders WHERE number > $1",
                vec![vec![json!(5)], vec![json!(5.5)], vec![json!("5")], vec![json!(true)], vec![]],
            ),
            (
                "SELECT number + $1 FROM orders WHERE number < $1 AND country = 'it' LIMIT $2",
                vec![vec![json!(50), json!(3)], vec![json!(60), json!(0)]],
            ),
            (
                "SELECT count(*) FROM orders WHERE country = $2 AND country = 'it'",
                vec![vec![json!("x"), json!("it")], vec![json!("it"), json!("x")]],
            ),
            (
                "SELECT bucket, count FROM metrics_1m WHERE name = $1 AND dimensions['host'] = $2 AND bucket >= $3",
                vec![
                    vec![json!("cpu"), json!("a"), json!("2024-05-01T00:30:30Z")],
                    vec![json!("cpu"), json!(null), json!("2024-05-01T00:30:30Z")],
                    vec![json!(null), json!("a"), json!("2024-05-01")],
                    vec![json!("cpu"), json!("b"), json!(null)],
                    vec![json!("io"), json!(""), json!("1970-01-01")],
                ],
            ),
        ] {
            for parameters in given.iter().chain(&given) {
                let cached = asked(&world, sql, parameters, AskOptions::default()).await;
                assert_eq!(cached, asked(&world, sql, parameters, ANEW).await, "{sql} with {parameters:?}");
            }
        }
    });
}

/// Conditions that a view keeps itself, so that nobody tests its rows again, are met by the same rows as the same conditions in a
/// form that it does not know.
#[test]
fn what_a_view_keeps_exactly() {
    run(async {
        let world = world("plans_exact").await;
        let nowhere = Event { name: "cpu", dimensions: vec![("rack", "")], ts: EventTime(T0), value: 1.0 };
        let later = Event { name: "", dimensions: vec![], ts: EventTime(T0 + 100 * MINUTE), value: 1.0 };
        world.append(&[nowhere, later]).await;
        let entry = |key: &str, text: &str| {
            (format!("dimensions['{key}'] = '{text}'"), format!("dimensions['{key}'] || '' = '{text}'"))
        };
        let name = |text: &str| (format!("name = '{text}'"), format!("name || '' = '{text}'"));
        let bucket = |by: &str, time: &str| {
            let zero = "interval '0 seconds'";
            (format!("bucket {by} TIMESTAMP '{time}Z'"), format!("bucket + {zero} {by} TIMESTAMP '{time}Z'"))
        };
        let conditions = [
            vec![name("cpu")],
            vec![name("")],
            vec![entry("host", "a")],
            vec![entry("host", ""), name("cpu")],
            vec![entry("rack", "")],
            vec![name("cpu"), entry("host", "b")],
            vec![name("cpu"), entry("host", "a"), entry("host", "b")],
            vec![name("cpu"), name("io")],
            vec![bucket("=", "2024-05-01T01:00:00")],
            vec![bucket("=", "2024-05-01T01:00:01")],
            vec![name("io"), bucket(">", "2024-05-01T01:00:00"), bucket("<=", "2024-05-01T01:45:00")],
            vec![entry("host", "a"), bucket(">=", "2024-05-01T01:00:30"), bucket("<", "2024-05-01T01:35:59.5")],
            vec![entry("host", "b"), bucket("<>", "2024-05-01T01:01:00")],
        ];
        for view in ["metrics_1s", "metrics_1m", "metrics_1h", "metrics_1d"] {
            for conditions in &conditions {
                let (known, unknown): (Vec<_>, Vec<_>) = conditions.iter().cloned().unzip();
                let sql = |conditions: &[String]| {
                    let conditions = conditions.join(" AND ");
                    format!(
                        "SELECT bucket, name, dimensions['host'], count FROM {view} WHERE {conditions} ORDER BY 1, 2, 3"
                    )
                };
                let expected = asked(&world, &sql(&unknown), &[], ANEW).await.unwrap();
                for options in [ANEW, AskOptions::default(), AskOptions::default()] {
                    assert_eq!(asked(&world, &sql(&known), &[], options).await.unwrap(), expected, "{}", sql(&known));
                }
            }
        }
        // Views of the user's own; a limit and a count, for which no column of a condition is read; states that are merged.
        for (sql, known, unknown) in [
            (
                "SELECT hour, country, n FROM by_country WHERE {}",
                "hour = TIMESTAMP '2024-05-01T02:00:00Z'",
                "hour + interval '0 seconds' = TIMESTAMP '2024-05-01T02:00:00Z'",
            ),
            (
                "SELECT hour, country, n FROM by_country WHERE {}",
                "hour > TIMESTAMP '2024-05-01T02:30:00Z' AND hour <= TIMESTAMP '2024-05-01T05:00:00Z'",
                "hour + interval '0 seconds' > TIMESTAMP '2024-05-01T02:30:00Z' AND hour + interval '0 seconds' <= TIMESTAMP '2024-05-01T05:00:00Z'",
            ),
            (
                "SELECT count(*), combine(p90), combine(mean) FROM by_country WHERE {}",
                "hour >= TIMESTAMP '2024-05-01T03:00:00Z'",
                "hour + interval '0 seconds' >= TIMESTAMP '2024-05-01T03:00:00Z'",
            ),
            (
                "SELECT m, what, host, n FROM by_host WHERE {}",
                "what = 'cpu' AND host['host'] = 'a'",
                "what || '' = 'cpu' AND host['host'] || '' = 'a'",
            ),
            (
                "SELECT m, what, n FROM by_host WHERE {}",
                "m = TIMESTAMP '2024-05-01T00:00:00Z' AND host['host'] = 'b'",
                "m + interval '0 seconds' = TIMESTAMP '2024-05-01T00:00:00Z' AND host['host'] || '' = 'b'",
            ),
            (
                "SELECT count(*) FROM metrics_1m WHERE {}",
                "name = 'cpu' AND dimensions['host'] = 'a'",
                "name || '' = 'cpu' AND dimensions['host'] || '' = 'a'",
            ),
            (
                "SELECT count(*) FROM (SELECT bucket FROM metrics_1m WHERE {} LIMIT 7)",
                "name = 'cpu' AND dimensions['host'] = 'a'",
                "name || '' = 'cpu' AND dimensions['host'] || '' = 'a'",
            ),
            (
                "SELECT count(*) FROM (SELECT bucket FROM metrics_1m WHERE {} LIMIT 1000)",
                "name = 'io' AND bucket > TIMESTAMP '2024-05-01T01:10:00Z'",
                "name || '' = 'io' AND bucket + interval '0 seconds' > TIMESTAMP '2024-05-01T01:10:00Z'",
            ),
        ] {
            let expected = asked(&world, &sql.replace("{}", unknown), &[], ANEW).await.unwrap();
            assert!(expected.len() > 1, "{sql} with {unknown} has rows");
            for options in [ANEW, AskOptions::default(), AskOptions::default()] {
                let answer = asked(&world, &sql.replace("{}", known), &[], options).await.unwrap();
                assert_eq!(answer, expected, "{sql} with {known}");
            }
        }
        let plan = "EXPLAIN SELECT bucket, count FROM metrics_1m WHERE name = 'cpu' AND dimensions['host'] = 'a' AND bucket >= now() ORDER BY bucket";
        let plan = world.answer(plan, Format::Csv).await.unwrap();
        assert!(!plan.contains("FilterExec"), "{plan}");
    });
}

/// A question by `now()` is about now each time, although its plan is that of the first time.
#[test]
fn now_is_the_questions_own() {
    run(async {
        let world = world("plans_now").await;
        let soon = EventTime(time::wall_clock().0 + 1_500_000);
        world.append(&[Event { name: "soon", dimensions: vec![], ts: soon, value: 1.0 }]).await;
        for sql in [
            "SELECT count(*) FROM metrics WHERE name = 'soon' AND ts <= now()",
            "SELECT count(*) FROM metrics WHERE name = 'soon' AND ts + interval '1 second' <= now() + interval '1 second'",
            "SELECT coalesce(sum(count), 0) FROM metrics_1s WHERE name = 'soon' AND bucket < current_timestamp - interval '1 second'",
            "SELECT CASE WHEN now() >= max(ts) THEN 1 ELSE 0 END FROM metrics WHERE name = 'soon'",
        ] {
            let began = std::time::Instant::now();
            while world.rows(sql).await.unwrap() != ["1"] {
                assert!(began.elapsed() < Duration::from_secs(30), "{sql}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(world.rows(sql).await.unwrap(), ["1"], "{sql}");
        }
        let now = async || world.rows("SELECT now() FROM metrics WHERE name = 'soon'").await.unwrap();
        let first = now().await;
        assert!(now().await > first);
    });
}

/// A name that means another table by now is planned anew.
#[test]
fn what_was_dropped_and_made_again() {
    run(async {
        let world = world("plans_again").await;
        let mean = "SELECT max(amount) FROM orders WHERE country = 'it'";
        let hours = "SELECT count(*) FROM by_country WHERE country = 'it'";
        for _ in 0..2 {
            assert_eq!(world.rows(mean).await.unwrap(), ["99.0"]);
            assert_eq!(world.rows(hours).await.unwrap(), ["7"]);
        }
        world.answer("DROP MATERIALIZED VIEW by_country", Format::Json).await.unwrap();
        assert!(world.rows(hours).await.unwrap_err().to_string().contains("by_country"));
        world.engine.drop_stream("orders").await.unwrap();
        assert!(world.rows(mean).await.unwrap_err().to_string().contains("orders"));
        world.flush().await;
        world.engine.create_stream(orders(ColumnType::Text)).await.unwrap();
        append(&world, 0..3).await;
        assert_eq!(world.rows(mean).await.unwrap(), ["a0"]);
        let view = "CREATE MATERIALIZED VIEW by_country WITH (backfill = false) AS SELECT country, count(*) AS n FROM orders GROUP BY country";
        world.answer(view, Format::Json).await.unwrap();
        append(&world, 3..9).await;
        for _ in 0..2 {
            assert_eq!(world.rows(hours).await.unwrap(), ["1"]);
            assert_eq!(world.rows(mean).await.unwrap(), ["a8"]);
        }
    });
}
