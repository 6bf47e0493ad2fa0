//! One statement: what is refused, what is bounded, how answers are written, and that it sees one snapshot.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use streamgauge_queries::{AskOptions, ErrorKind, Format, QueryError, QueryLimits};
use streamgauge_schemas::{Epoch, EventTime};
use support::{Event, Weather, World, run};

const T0: i64 = 1_714_521_600_000_000;

fn event(second: i64, value: f64) -> Event {
    Event { name: "cpu", dimensions: vec![("host", "a")], ts: EventTime(T0 + second * 1_000_000), value }
}

fn code(error: &QueryError) -> &'static str {
    match error.kind() {
        ErrorKind::Caller { code } | ErrorKind::Limit { code } => code,
        ErrorKind::Upstream => "upstream",
        ErrorKind::Bug => "bug",
    }
}

#[test]
fn refused() {
    run(async {
        let world = World::new("refused").await;
        world.append(&[event(0, 1.0)]).await;
        for (sql, expected, says) in [
            ("CREATE TABLE t (a int)", "statement_not_allowed", "CREATE is not answered here"),
            ("CREATE VIEW v AS SELECT 1", "statement_not_allowed", "CREATE"),
            ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "statement_not_allowed", "CREATE"),
            ("DROP TABLE metrics", "statement_not_allowed", "DROP"),
            ("INSERT INTO metrics VALUES (1)", "statement_not_allowed", "INSERT"),
            ("DELETE FROM metrics", "statement_not_allowed", "DELETE"),
            ("UPDATE metrics SET value = 1", "statement_not_allowed", "UPDATE"),
            ("COPY metrics TO '/tmp/x.csv'", "statement_not_allowed", "COPY"),
            ("EXPLAIN COPY metrics TO '/tmp/x.csv'", "statement_not_allowed", "COPY"),
            ("EXPLAIN ANALYZE INSERT INTO metrics VALUES (1)", "statement_not_allowed", "INSERT"),
            ("SET datafusion.execution.batch_size = 1", "setting_unknown", "streamgauge.epoch"),
            ("SET streamgauge.partial = maybe; SELECT 1", "parameter_invalid", "true or false"),
            ("RESET datafusion.execution.batch_size", "statement_not_allowed", "RESET"),
            ("PREPARE p AS SELECT 1", "statement_not_allowed", "PREPARE"),
            ("BEGIN", "statement_not_allowed", "BEGIN"),
            ("SELECT 1; SELECT 2", "sql_invalid", "single"),
            ("", "sql_invalid", "no SQL"),
            ("SELEC 1", "sql_invalid", "SELEC"),
            ("SELECT * FROM metric", "table_unknown", "did you mean metrics?"),
            ("SELECT * FROM other.metrics", "table_unknown", "other.metrics"),
            ("SELECT * FROM '/etc/passwd'", "table_unknown", "passwd"),
            ("SELECT valu FROM metrics", "sql_invalid", "valu"),
            ("SELECT nothing(value) FROM metrics", "sql_invalid", "nothing"),
            ("SELECT 1 / (value - value)::int FROM metrics", "sql_failed", "zero"),
            ("SELECT 'x'::int", "sql_invalid", "x"),
        ] {
            let error = world.rows(sql).await.expect_err(sql);
            let allowed = code(&error) == expected || (sql.contains("'x'") && code(&error) == "sql_failed");
            assert!(allowed, "{sql}: {error:?}");
            assert!(error.to_string().contains(says), "{sql}: {error}");
        }
    });
}

#[test]
fn questions_that_nest_deep() {
    run(async {
        let world = World::new("deep").await;
        world.append(&[event(0, 1.0)]).await;
        let sum = |terms: usize| vec!["value"; terms].join(" + ");
        assert_eq!(world.rows(&format!("SELECT {} FROM metrics", sum(2_000))).await.unwrap(), ["2000.0"]);
        let any = |terms: usize| vec!["name = 'cpu'"; terms].join(" OR ");
        assert_eq!(world.rows(&format!("SELECT count(*) FROM metrics WHERE {}", any(1_500))).await.unwrap(), ["1"]);
        let listed = vec!["1"; 50_000].join(", ");
        assert_eq!(
            world.rows(&format!("SELECT count(*) FROM metrics WHERE value IN ({listed})")).await.unwrap(),
            ["1"]
        );
        // The planner makes one expression of these.
        let inner = |depth: usize| {
            (0..depth).fold("metrics".to_owned(), |from, _| format!("(SELECT {} AS value FROM {from})", sum(100)))
        };
        world.rows(&format!("SELECT value FROM {}", inner(20))).await.unwrap();
        let view = |terms| format!("CREATE MATERIALIZED VIEW deep AS SELECT sum({}) AS s FROM metrics", sum(terms));
        let many = "and may have 5000";
        for (sql, says) in [
            (format!("SELECT {} FROM metrics", sum(1_000_000)), many),
            (format!("SELECT {} FROM metrics", vec!["metrics.value"; 30_000].join(" + ")), many),
            (format!("SELECT 1{}", " MEMBER OF(1)".repeat(500_000)), many),
            (format!("SELECT dimensions{} FROM metrics", "[1]".repeat(20_000)), many),
            (format!("SELECT 1 FROM {}", vec!["metrics m"; 30_000].join(", ")), many),
            (format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(10_000)), many),
            (format!("SELECT value FROM {}", inner(200)), many),
            (format!("SELECT {}1{}", "(".repeat(1_000), ")".repeat(1_000)), "recursion"),
            (view(600), "an expression of the view is 60"),
            (view(100_000), many),
            (format!("SELECT '{}'", "x".repeat(20 << 20)), "bytes"),
        ] {
            let error = world.rows(&sql).await.expect_err("it is too much");
            assert!(code(&error).ends_with("_invalid"), "{error:?}");
            assert!(error.to_string().to_lowercase().contains(&says.to_lowercase()), "{says}: {error}");
        }
        world.rows(&view(450)).await.unwrap();
        world.append(&[event(1, 1.0)]).await;
        assert_eq!(world.rows("SELECT count(*) FROM metrics").await.unwrap(), ["2"]);
    });
}

#[test]
fn of_equal_event_times_the_one_that_came_last_is_last_wherever_it_lies() {
    run(async {
        let world = World::new("ties").await;
        let of = |host, second: i64, value| Event { dimensions: vec![("host", host)], ..event(second, value) };
        world
            .rows(
                "CREATE MATERIALIZED VIEW ties WITH (idle = '60s', backfill = false) AS SELECT dimensions['host'] AS host, \
                 last_value(value ORDER BY ts) AS last, first_value(value ORDER BY ts) AS first FROM metrics GROUP BY 1",
            )
            .await
            .unwrap();
        world.append(&[of("a", 0, 0.0)]).await; // its row leaves memory, and makes room before that of the other
        world.append(&[of("b", 5, 1.0)]).await;
        world.advance(30).await;
        world.append(&[of("b", 5, 2.0)]).await;
        world.advance(40).await;
        world.flush().await;
        world.flush().await;
        world.advance(50).await; // now the other is idle, too, and what comes begins another row
        let last = "SELECT first, last FROM ties WHERE host = 'b'";
        assert_eq!(world.rows(last).await.unwrap(), ["1.0,2.0"]);
        world.append(&[of("b", 5, 3.0)]).await;
        assert_eq!(world.rows(last).await.unwrap(), ["1.0,3.0"], "in memory, and with a part in ClickHouse");
        world.bury().await;
        assert_eq!(world.rows(last).await.unwrap(), ["1.0,3.0"], "in ClickHouse");
    });
}

#[test]
fn questions_about_the_tables() {
    run(async {
        let world = World::new("about").await;
        let epoch = world.append(&[event(0, 1.0)]).await;
        let tables = world.rows("SHOW TABLES").await.unwrap();
        for name in ["metrics", "metrics_1s", "metrics_1m", "metrics_1h", "metrics_1d"] {
            assert!(tables.iter().any(|row| row.starts_with(&format!("streamgauge,public,{name},"))), "{tables:?}");
        }
        let columns = world.rows("DESCRIBE metrics_1s").await.unwrap();
        assert!(columns.iter().any(|row| row.starts_with("bucket,")) && columns.len() == 8, "{columns:?}");
        assert_eq!(
            world.rows("SELECT count(*) FROM information_schema.columns WHERE table_name = 'metrics'").await.unwrap(),
            ["5"]
        );
        assert_eq!(world.rows("VALUES (1, 'a'), (2, 'b')").await.unwrap(), ["1,a", "2,b"]);
        assert!(
            world
                .answer("EXPLAIN SELECT * FROM metrics WHERE name = 'cpu'", Format::Csv)
                .await
                .unwrap()
                .contains("plan")
        );
        assert!(world.answer("EXPLAIN ANALYZE SELECT * FROM metrics_1s", Format::Csv).await.unwrap().contains("plan"));
        let answer = world.queries.sql("SELECT 1", AskOptions::default()).await.unwrap();
        assert!(answer.epoch >= epoch);
        assert_eq!(world.rows("SHOW TimeZone").await.unwrap(), ["datafusion.execution.time_zone,UTC"]);
    });
}

#[test]
fn formats() {
    run(async {
        let world = World::new("formats").await;
        world.append(&[event(0, 1.0), event(1, 2.5)]).await;
        let json = world
            .answer("SELECT ts, value, dimensions, count(*) OVER () AS n FROM metrics ORDER BY ts", Format::Json)
            .await
            .unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            json["columns"],
            serde_json::json!([
                {"name": "ts", "type": "timestamp"}, {"name": "value", "type": "double"},
                {"name": "dimensions", "type": "json"}, {"name": "n", "type": "bigint"},
            ])
        );
        assert_eq!(json["rows"][1], serde_json::json!(["2024-05-01T00:00:01Z", 2.5, {"host": "a"}, 2]));
        assert_eq!((&json["row_count"], &json["truncated"]), (&2.into(), &false.into()));
        assert!(json["epoch"].is_u64() && json["elapsed_ms"].is_f64());
        let empty = world.answer("SELECT ts FROM metrics WHERE value > 9", Format::Json).await.unwrap();
        assert!(
            empty.starts_with(r#"{"columns":[{"name":"ts","type":"timestamp"}],"rows":[],"row_count":0,"#),
            "{empty}"
        );
        assert_eq!(world.answer("SELECT value v FROM metrics WHERE value > 9", Format::Csv).await.unwrap(), "v\n");
        assert_eq!(
            world.answer("SELECT value v FROM metrics ORDER BY 1", Format::Ndjson).await.unwrap(),
            "{\"v\":1.0}\n{\"v\":2.5}\n"
        );
        for (sql, rows) in [("SELECT * FROM metrics", 2), ("SELECT * FROM metrics_1s WHERE count > 9", 0)] {
            let answer = world.queries.sql(sql, AskOptions::default()).await.unwrap();
            let schema = answer.schema.clone();
            let body =
                streamgauge_queries::format::body(answer, Format::Arrow, std::time::Instant::now()).await.unwrap();
            let bytes = body.try_collect::<Vec<_>>().await.unwrap().concat();
            let reader = arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
            assert_eq!(reader.schema(), schema);
            assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), rows);
        }
    });
}

#[test]
fn bounds() {
    run(async {
        let limits = QueryLimits {
            time_max: Duration::from_millis(300),
            memory_bytes_max: 1 << 20,
            json_rows_max: 10,
            concurrent_max: 1,
            wait_max: Duration::from_millis(250), // in which what was ended really ends
            ..QueryLimits::default()
        };
        let world = World::with("bounds", limits, 1).await;
        let slow = "SELECT sum(sin(a.value * b.value)) FROM generate_series(1, 100000) a (value), generate_series(1, 100000) b (value)";
        let started = std::time::Instant::now();
        assert_eq!(code(&world.rows(slow).await.unwrap_err()), "query_time_exceeded");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let large = "SELECT a.value % 99991, array_agg(a.value) FROM generate_series(1, 3000000) a (value) GROUP BY 1";
        let error = world.rows(large).await.unwrap_err();
        assert_eq!(code(&error), "query_memory_exceeded", "{error:?}");
        let json = world.answer("SELECT value FROM generate_series(1, 11) AS s (value)", Format::Json).await.unwrap();
        assert!(json.contains(r#""row_count":10,"#) && json.ends_with(r#""truncated":true}"#), "{json}");
        let json = world.answer("SELECT value FROM generate_series(1, 10) AS s (value)", Format::Json).await.unwrap();
        assert!(json.ends_with(r#""truncated":false}"#), "{json}");
        let held = world
            .queries
            .sql("SELECT value FROM generate_series(1, 100000000) AS s (value)", AskOptions::default())
            .await
            .unwrap();
        assert_eq!(code(&world.rows("SELECT 1").await.unwrap_err()), "queries_busy");
        drop(held);
        assert_eq!(world.rows("SELECT 1").await.unwrap(), ["1"]);
    });
}

/// Its own time counts also while nothing of its answer is there, as of one that is held back because it may become partial.
#[test]
fn time_that_a_text_sets_is_kept_before_its_answer_begins() {
    run(async {
        let world = World::new("own_time").await;
        world.append(&(0..3_000).map(|second| event(second, 1.0)).collect::<Vec<_>>()).await;
        let endless =
            "SELECT sum(a.value * b.value * c.value) FROM metrics a CROSS JOIN metrics b CROSS JOIN metrics c";
        for partial in [false, true] {
            let sql = format!("SET statement_timeout = '300ms'; SET streamgauge.partial = {partial}; {endless}");
            let answer = tokio::time::timeout(Duration::from_secs(20), world.rows(&sql)).await;
            let error = answer.expect("it is ended long before a question without a time of its own").unwrap_err();
            assert!(error.to_string().contains("longer than 300ms"), "{error}");
        }
    });
}

#[test]
fn a_question_waits_for_its_epoch() {
    run(async {
        let limits = QueryLimits { epoch_wait_max: Duration::from_millis(400), ..QueryLimits::default() };
        let world = World::with("epochs", limits, 1).await;
        let count = "SELECT count(*) FROM metrics";
        let mut last = Epoch::ZERO;
        for events in 1..=50 {
            last = world.append(&[event(events, 1.0)]).await;
            let options = AskOptions { min_epoch: Some(last), partial: false, ..AskOptions::default() };
            let answer = world.answer_as(count, Format::Csv, options).await.unwrap();
            assert_eq!(answer, format!("count(*)\n{events}\n"));
        }
        // An epoch to come: the question goes on when it is there, and not before.
        let ahead = Epoch(last.0 + 3_600_000_000);
        let asked = format!("SET streamgauge.epoch = {ahead}; {count}");
        let (answer, ()) = tokio::join!(world.queries.sql(&asked, AskOptions::default()), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            world.advance(3_601).await;
        });
        assert!(answer.unwrap().epoch >= ahead);
        // One that does not come.
        let wanted = Epoch(u64::MAX - 1);
        for (sql, min_epoch) in
            [(count.to_owned(), Some(wanted)), (format!("SET streamgauge.epoch = {wanted}; {count}"), None)]
        {
            let began = std::time::Instant::now();
            let error = world
                .answer_as(&sql, Format::Csv, AskOptions { min_epoch, partial: false, ..AskOptions::default() })
                .await
                .unwrap_err();
            let QueryError::EpochNotReached { wanted: named, newest, waited } = &error else { panic!("{error:?}") };
            assert!(*named == wanted && *newest >= ahead && *waited >= Duration::from_millis(400), "{error:?}");
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
            assert!(error.is_retryable() && code(&error) == "epoch_not_reached");
            assert!(error.to_string().contains(&wanted.to_string()) && error.to_string().contains(&newest.to_string()));
        }
    });
}

#[test]
fn without_clickhouse_an_answer_is_partial_when_that_was_asked_for() {
    run(async {
        let world = World::new("partial_sql").await;
        world.append(&[event(0, 1.0), event(1, 2.0)]).await;
        let (count, partial) =
            ("SELECT count(*) FROM metrics", AskOptions { min_epoch: None, partial: true, ..AskOptions::default() });
        let ask = async |sql: &str| -> serde_json::Value {
            serde_json::from_str(&world.answer_as(sql, Format::Json, partial).await.unwrap()).unwrap()
        };
        *world.weather.lock() = Weather::Away;
        let answer = ask(count).await;
        assert_eq!((&answer["rows"][0][0], answer.get("partial")), (&2.into(), None), "all of it is in memory still");
        *world.weather.lock() = Weather::Fine;
        world.bury().await;
        world.append(&[event(0, 4.0)]).await;
        let answer = ask(count).await;
        assert_eq!((&answer["rows"][0][0], answer.get("partial")), (&3.into(), None), "ClickHouse is there");

        for weather in [Weather::Away, Weather::Hanging] {
            *world.weather.lock() = weather;
            let set = format!("SET streamgauge.partial = true; {count}");
            assert!(world.queries.sql(&set, AskOptions::default()).await.unwrap().partial.is_some());
            for sql in [count, "SELECT sum(count) FROM metrics_1s", "SELECT sum(count) FROM metrics_1d"] {
                let answer = ask(sql).await;
                assert_eq!(answer["rows"][0][0], 1, "{sql}: {answer}");
                let (missing, upto) = (answer["partial"]["missing"].as_str().unwrap(), &answer["partial"]["epoch"]);
                assert!(missing.contains(&format!("up to epoch {upto} is missing: ")), "{missing}");
                assert!(upto.as_u64().unwrap() > 0 && upto.as_u64() < answer["epoch"].as_u64(), "{answer}");
            }
            let nothing_missed = ask("SELECT 1").await;
            assert!(nothing_missed.get("partial").is_none(), "{nothing_missed}");
            let began = std::time::Instant::now();
            let error = world.rows(count).await.unwrap_err();
            assert!(code(&error) == "upstream" && error.is_retryable(), "{error:?}");
            assert!(error.to_string().contains("history in ClickHouse up to epoch"), "{error}");
            assert!(began.elapsed() < Duration::from_secs(20), "it took {:?} to notice", began.elapsed());
        }

        // It says that it is there, and then refuses to read.
        *world.weather.lock() = Weather::Overloaded;
        let answer = ask(count).await;
        let missing = answer["partial"]["missing"].as_str().unwrap();
        assert!(answer["rows"][0][0] == 1 && missing.contains("too many queries"), "{answer}");
        let error = world.rows(count).await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("could not be read"), "{error}");
        *world.weather.lock() = Weather::Fine;
        assert_eq!(ask(count).await["rows"][0][0], 3, "and whole again");
    });
}

/// While events come and are flushed, every table of one statement counts the same events.
#[test]
fn one_snapshot() {
    run(async {
        let world = Arc::new(World::with("one_snapshot", QueryLimits::default(), 2).await);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (world, stop) = (world.clone(), stop.clone());
            tokio::spawn(async move {
                let mut sent = 0_i64;
                while !stop.load(Ordering::SeqCst) {
                    let events: Vec<Event> = (0..7).map(|n| event((sent * 7 + n * 977) % 5_000, 0.25)).collect();
                    world.append(&events).await;
                    sent += 1;
                    if sent % 50 == 0 {
                        world.advance(3).await;
                    }
                }
                sent * 7
            })
        };
        let flusher = {
            let (world, stop) = (world.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    world.flush().await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        };
        let sql = "SELECT (SELECT sum(count) FROM metrics_1s), (SELECT count(*) FROM metrics), (SELECT sum(sum) * 4 FROM metrics_1h), \
                   (SELECT sum(count) FROM metrics_1m), (SELECT sum(count) FROM metrics_1d WHERE name = 'cpu')";
        let mut last = 0.0;
        for round in 0..60 {
            let row = world.rows(sql).await.unwrap();
            let counts: Vec<f64> = row[0].split(',').map(|count| count.parse().unwrap_or(0.0)).collect();
            assert!(counts.iter().all(|count| *count == counts[0]), "round {round}: {row:?}");
            assert!(counts[0] >= last, "round {round}: {row:?} after {last}");
            last = counts[0];
        }
        stop.store(true, Ordering::SeqCst);
        let sent = writer.await.unwrap();
        flusher.await.unwrap();
        assert_eq!(world.rows("SELECT count(*) FROM metrics").await.unwrap(), [sent.to_string()]);
        assert!(last > 0.0);
    });
}
