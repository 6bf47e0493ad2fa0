//! What ClickHouse computes for us is what we would have computed: random questions, asked both ways.
//!
//! `PUSHDOWN_QUESTIONS` says how many, and `PUSHDOWN_SEED` which; without it each run asks others.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "pushdown/explain.rs"]
mod explain;
#[path = "pushdown/generator.rs"]
mod generator;
mod support;
#[path = "pushdown/views.rs"]
mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use generator::{Generator, Question};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use streamgauge_queries::{AskOptions, ErrorKind, Format, QueryLimits};
use streamgauge_schemas::stream::Stream;
use streamgauge_schemas::{Column, ColumnType, EventBatch, StreamDefinition, TableBatch};
use support::{Weather, World, run};

/// 2024-05-01T00:00:00Z.
const T0: i64 = 1_714_521_600_000_000;
const HERE: AskOptions = AskOptions { min_epoch: None, partial: false, unpushed: true };

fn definition() -> StreamDefinition {
    let columns = [
        ("at", ColumnType::Timestamp),
        ("n", ColumnType::I64),
        ("visitor", ColumnType::I64),
        ("page", ColumnType::Text),
        ("country", ColumnType::Text),
        ("ms", ColumnType::F64),
        ("secure", ColumnType::Bool),
        ("seen", ColumnType::Timestamp),
    ];
    StreamDefinition {
        name: "hits".into(),
        time_column: "at".into(),
        columns: columns.map(|(name, kind)| Column { name: name.into(), kind }).to_vec(),
        order_by: vec![],
        retention: None,
    }
}

/// Rows with every kind of value that is hard to get right.
fn hits(stream: &Stream, range: std::ops::Range<i64>) -> EventBatch {
    let mut random = StdRng::seed_from_u64(range.start as u64);
    let rows = range.clone().count();
    let mut of = |values: &[Option<&'static str>]| -> StringArray {
        (0..rows).map(|_| *values.choose(&mut random).unwrap()).collect()
    };
    let page = of(&[Some("/p/1"), Some("/p/2"), Some("/p/3"), Some("o'brien\\"), Some("é"), Some(""), None]);
    let country = of(&[Some("it"), Some("de"), Some("fr"), Some("IT"), None]);
    let integers = [Some(i64::MIN), Some(i64::MAX), Some(0), Some(-5), Some(1), Some(2), Some(3), None];
    let visitor: Int64Array = (0..rows)
        .map(|_| {
            if random.random_bool(0.7) {
                Some(random.random_range(0..50))
            } else {
                *integers.choose(&mut random).unwrap()
            }
        })
        .collect();
    let floats = [Some(0.0), Some(-0.0), Some(1.5), Some(-2.25), Some(1e90), Some(-1e-30), None];
    let ms: Float64Array = (0..rows)
        .map(|_| {
            if random.random_bool(0.7) {
                Some(random.random_range(-8..800) as f64 / 8.0)
            } else {
                *floats.choose(&mut random).unwrap()
            }
        })
        .collect();
    let secure: BooleanArray =
        (0..rows).map(|_| *[Some(true), Some(false), None].choose(&mut random).unwrap()).collect();
    let extremes = [-2_208_988_800_000_000, 0, -1, 7_258_118_400_000_000];
    let seen: TimestampMicrosecondArray = (0..rows)
        .map(|_| match random.random_range(0..10) {
            0 => None,
            1 | 2 => extremes.choose(&mut random).copied(),
            _ => Some(T0 + random.random_range(-90 * 86_400_000_000..90 * 86_400_000_000)),
        })
        .collect();
    let at = TimestampMicrosecondArray::from_iter_values(range.clone().map(|n| T0 + n * 1_500_000));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(at.with_timezone("UTC")),
        Arc::new(Int64Array::from_iter_values(range)),
        Arc::new(visitor),
        Arc::new(page),
        Arc::new(country),
        Arc::new(ms),
        Arc::new(secure),
        Arc::new(seen.with_timezone("UTC")),
    ];
    let rows = RecordBatch::try_new(stream.definition.schema(), columns).unwrap();
    EventBatch::Table(Arc::new(TableBatch { stream: stream.id, rows }))
}

/// A world whose hits are in ClickHouse (`flushed`) and in memory.
async fn world(name: &str, flushed: i64, memory: i64) -> World {
    let limits = QueryLimits { cache_bytes_max: 8 << 20, ..QueryLimits::default() };
    let world = World::with(name, limits, 1).await;
    let (stream, _) = world.engine.create_stream(definition()).await.unwrap();
    if flushed > 0 {
        world.engine.append(hits(&stream, 0..flushed)).await.unwrap();
        world.flush().await;
    }
    if memory > 0 {
        world.engine.append(hits(&stream, flushed..flushed + memory)).await.unwrap();
    }
    world
}

/// The rows of an answer, sorted, with floats as far as the order of adding does not matter.
async fn rows(world: &World, sql: &str, options: AskOptions) -> Result<Vec<String>, String> {
    let mut rows = rows_in_order(world, sql, options).await?;
    rows.sort();
    Ok(rows)
}

/// The same as they come.
async fn rows_in_order(world: &World, sql: &str, options: AskOptions) -> Result<Vec<String>, String> {
    let csv = world.answer_as(sql, Format::Csv, options).await.map_err(|error| format!("{error:?}"))?;
    let rounded = |cell: &str| match cell.parse::<f64>() {
        Ok(0.0) => "0".to_owned(), // of the least or greatest zero the sign is not told
        Ok(number) if cell.contains(['.', 'e']) => format!("{number:.9e}"),
        _ => cell.to_owned(),
    };
    Ok(csv.lines().skip(1).map(|row| row.split(',').map(rounded).collect::<Vec<_>>().join(",")).collect())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Random questions, asked both ways.
struct Fuzz {
    seed: u64,
    questions: u64,
    answered: u64,
    pushed: u64,
    wrong: Vec<String>,
}

impl Fuzz {
    fn new() -> Self {
        let questions = number("PUSHDOWN_QUESTIONS").unwrap_or(300);
        let seed = number("PUSHDOWN_SEED").unwrap_or_else(|| rand::random_range(0..1_000_000));
        println!("to ask the same again: PUSHDOWN_SEED={seed} PUSHDOWN_QUESTIONS={questions}");
        Fuzz { seed, questions, answered: 0, pushed: 0, wrong: Vec::new() }
    }

    fn seed_of(&self, question: u64) -> u64 {
        self.seed.wrapping_mul(1_000_003).wrapping_add(question)
    }

    /// Asks one; whether it was answered. `is_pushed` tells by what ClickHouse was asked.
    async fn ask(&mut self, world: &World, sql: &str, is_ordered: bool, is_pushed: impl Fn(&str) -> bool) -> bool {
        let rows = async |options| match is_ordered {
            true => rows_in_order(world, sql, options).await,
            false => rows(world, sql, options).await,
        };
        let here = rows(HERE).await;
        world.asked.lock().clear();
        let there = rows(AskOptions::default()).await;
        self.pushed += u64::from(world.asked.lock().iter().any(|asked| is_pushed(asked)));
        self.answered += u64::from(here.is_ok());
        let again = rows(AskOptions::default()).await; // by the plan that was kept
        let same = match (&here, &there, &again) {
            (Ok(here), Ok(there), Ok(again)) => here == there && here == again,
            (here, there, again) => here.is_err() && there.is_err() && again.is_err(),
        };
        if !same {
            let asked = world.asked.lock().join("\n");
            self.wrong.push(format!("{sql}\nhere: {here:?}\nthere: {there:?}\nagain: {again:?}\nasked: {asked}\n"));
        }
        here.is_ok()
    }

    /// Fails when an answer was wrong, or fewer than so many of ten were pushed.
    fn end(self, pushed_min: u64) {
        let Fuzz { seed, questions, answered, pushed, wrong } = self;
        println!("{questions} questions, {answered} answered, {pushed} pushed");
        let some = wrong[..wrong.len().min(10)].join("\n");
        assert!(wrong.is_empty(), "PUSHDOWN_SEED={seed}: {} wrong answers, such as:\n{some}", wrong.len());
        assert!(answered * 10 >= questions * 9, "PUSHDOWN_SEED={seed}: {answered} of {questions} answered");
        assert!(pushed * 10 >= questions * pushed_min, "PUSHDOWN_SEED={seed}: {pushed} of {questions} pushed");
    }
}

#[test]
fn pushed_is_as_unpushed() {
    run(async {
        let worlds = [world("pushed_seam", 2_000, 500).await, world("pushed_history", 500, 0).await];
        let (mut fuzz, mut ordered) = (Fuzz::new(), 0);
        for question in 0..fuzz.questions {
            let Question { sql, is_ordered } = Generator::new(fuzz.seed_of(question)).question();
            let world = &worlds[question as usize % 2];
            let is_answered = fuzz.ask(world, &sql, is_ordered, |asked| asked.contains("AS _0")).await;
            ordered += u64::from(is_ordered && is_answered);
        }
        println!("{ordered} answered in order");
        fuzz.end(7);
    });
}

/// Columns whose names could be taken for something else, and texts that are too long to send.
#[test]
fn names_and_long_texts() {
    run(async {
        let world = World::new("pushed_names").await;
        let names = ["at", "t0", "size", "null", "c", "count", "tuple"];
        let kinds = [ColumnType::Timestamp, ColumnType::Text, ColumnType::I64, ColumnType::I64, ColumnType::I64];
        let kinds = kinds.into_iter().chain([ColumnType::I64; 2]);
        let columns = names.into_iter().zip(kinds);
        let columns = columns.map(|(name, kind)| Column { name: name.into(), kind }).collect();
        let definition = StreamDefinition { name: "named".into(), columns, ..definition() };
        let (stream, _) = world.engine.create_stream(definition).await.unwrap();
        let rows = |from: i64| {
            let at = TimestampMicrosecondArray::from_iter_values(from..from + 3).with_timezone("UTC");
            let texts = StringArray::from(vec!["one", "three", "fifteen"]);
            let mut columns: Vec<ArrayRef> = vec![Arc::new(at), Arc::new(texts)];
            columns
                .extend((0..5).map(|more| Arc::new(Int64Array::from_iter_values(from + more..from + more + 3)) as _));
            let rows = RecordBatch::try_new(stream.definition.schema(), columns).unwrap();
            EventBatch::Table(Arc::new(TableBatch { stream: stream.id, rows }))
        };
        world.engine.append(rows(0)).await.unwrap();
        world.flush().await;
        world.engine.append(rows(100)).await.unwrap();
        let members = (0..1_000_i64).map(|n| (n * 7_000_000_000_000_001).to_string()).collect::<Vec<_>>().join(", ");
        for sql in [
            "SELECT t0, sum(size), max(\"null\"), min(tuple), sum(count) FROM named GROUP BY t0".to_owned(),
            "SELECT max(b.size), count(*) FROM named a CROSS JOIN named b WHERE b.\"null\" > 1".to_owned(),
            format!("SELECT count(*) FROM named WHERE size NOT IN ({members})"),
            format!("SELECT count(*) FROM named a JOIN named b ON a.t0 = b.t0 WHERE a.size NOT IN ({members})"),
            format!("SELECT count(*) FROM named WHERE t0 <> '{}'", "long ".repeat(50_000)),
            format!("SELECT count(*) FROM named GROUP BY {}at{}", "date_bin('1 second', ".repeat(30), ")".repeat(30)),
            format!("SELECT count(*) FROM named GROUP BY {}t0{}", "nullif(".repeat(30), ", 'x')".repeat(30)),
        ] {
            let here = self::rows(&world, &sql, HERE).await.unwrap();
            let there = self::rows(&world, &sql, AskOptions::default()).await.unwrap();
            assert_eq!(there, here, "{}", &sql[..sql.len().min(200)]);
        }
    });
}

/// Approximate answers are within their bounds of the exact ones.
#[test]
fn approximate_ones_are_near() {
    run(async {
        let world = world("pushed_near", 20_000, 5_000).await;
        let number = async |sql: &str, options| -> f64 {
            let answer = world.answer_as(sql, Format::Csv, options).await.unwrap();
            answer.lines().nth(1).unwrap().parse().unwrap()
        };
        for level in [0.01, 0.25, 0.5, 0.9, 0.99] {
            let exact = format!(
                "SELECT percentile_cont({level}) WITHIN GROUP (ORDER BY ms) FROM hits WHERE ms > 1 AND ms < 1000"
            );
            let near = format!(
                "SELECT approx_percentile_cont({level}) WITHIN GROUP (ORDER BY ms) FROM hits WHERE ms > 1 AND ms < 1000"
            );
            let (exact, near) = (number(&exact, HERE).await, number(&near, AskOptions::default()).await);
            assert!((near / exact - 1.0).abs() < 0.003, "{level}: {near}, exactly {exact}");
        }
        let exact = number("SELECT count(DISTINCT n) FROM hits", HERE).await;
        let near = number("SELECT approx_distinct(n) FROM hits", AskOptions::default()).await;
        assert!((near / exact - 1.0).abs() < 0.02, "{near}, exactly {exact}");
        assert!(world.asked.lock().iter().any(|sql| sql.contains("quantileDD")));
        let empty =
            "SELECT approx_median(ms), approx_percentile_cont(ms, 0.9), approx_distinct(visitor) FROM hits WHERE n < 0";
        assert_eq!(world.rows(empty).await.unwrap(), [",,0"]);
    });
}

#[test]
fn without_clickhouse_it_is_done_here_or_says_so() {
    run(async {
        let sql = "SELECT count(*), sum(n) FROM hits";
        let memory = world("pushed_memory", 0, 10).await;
        assert_eq!(memory.rows(sql).await.unwrap(), ["10,45"]);
        assert_eq!(memory.asked.lock().len(), 0, "nothing is there to ask for");
        let world = world("pushed_weather", 10, 5).await;
        let partial = AskOptions { partial: true, ..AskOptions::default() };
        for weather in [Weather::Away, Weather::Overloaded, Weather::Cramped] {
            *world.weather.lock() = weather;
            let error = world.answer(sql, Format::Csv).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Upstream, "{weather:?}: {error}");
            let csv = world.answer_as(sql, Format::Csv, partial).await;
            // What ClickHouse refuses for good it would refuse again.
            if weather != Weather::Cramped {
                assert!(csv.unwrap().contains("5,60"), "{weather:?}");
            }
        }
        *world.weather.lock() = Weather::Fine;
        assert_eq!(world.rows(sql).await.unwrap(), ["15,105"]);
    });
}

#[test]
fn what_clickhouse_refuses_for_good_is_done_here() {
    run(async {
        let world = world("pushed_refused", 20, 10).await;
        for sql in [
            "SELECT country, count(*), sum(n), min(seen) FROM hits WHERE n >= 3 GROUP BY country",
            "SELECT n, page FROM hits ORDER BY n DESC LIMIT 7",
            "SELECT count(*) FROM hits AS a JOIN hits AS b ON a.n = b.n + 1",
        ] {
            *world.weather.lock() = Weather::Simple;
            world.asked.lock().clear();
            let answer = rows(&world, sql, AskOptions::default()).await.unwrap();
            let asked = world.asked.lock().clone();
            let is_plain =
                |sql: &&String| !sql.contains("UNION ALL") && sql.contains("`hits`") && !sql.contains("system.parts");
            assert!(asked.iter().any(|sql| sql.contains("UNION ALL")), "{asked:#?}");
            assert!(asked.iter().filter(is_plain).count() > 0, "asked for its rows: {asked:#?}");
            *world.weather.lock() = Weather::Fine;
            assert_eq!(answer, rows(&world, sql, HERE).await.unwrap(), "{sql}");
        }
    });
}

#[test]
fn an_answer_that_breaks_off_is_an_error_and_not_kept() {
    run(async {
        let world = world("pushed_broken", 600, 0).await;
        let sql = "SELECT a.n, b.n, count(*) FROM hits AS a CROSS JOIN hits AS b GROUP BY a.n, b.n";
        *world.weather.lock() = Weather::Breaking;
        for partial in [false, true] {
            world.asked.lock().clear();
            let options = AskOptions { partial, ..AskOptions::default() };
            let answer = rows(&world, sql, options).await;
            match partial {
                false => assert!(answer.as_ref().is_err_and(|error| error.contains("result")), "{answer:?}"),
                true => assert_eq!(answer.unwrap().len(), 0, "nothing is in memory"),
            }
            // Had it failed before its first row, it would have been done here, with plain reads.
            let asked = world.asked.lock().clone();
            let is_plain =
                |sql: &&String| sql.contains("`hits`") && !sql.contains("JOIN") && !sql.contains("system.parts");
            assert_eq!(asked.iter().filter(is_plain).count(), 0, "partial: {partial}: {asked:#?}");
        }
        *world.weather.lock() = Weather::Fine;
        assert_eq!(rows(&world, sql, AskOptions::default()).await.unwrap().len(), 360_000);
    });
}

#[test]
fn without_room_for_what_is_sent_it_is_done_here() {
    run(async {
        let world = world("pushed_no_room", 10, 30_000).await;
        let sql = "SELECT count(*), sum(n), max(page) FROM hits";
        let expected = rows(&world, sql, HERE).await.unwrap();
        for (bytes_max, is_sent) in [(64 << 20, true), (300 << 10, false)] {
            world.asked.lock().clear();
            let csv =
                world.answer(&format!("SET streamgauge.memory_bytes_max = {bytes_max}; {sql}"), Format::Csv).await;
            assert_eq!(csv.unwrap().lines().nth(1), Some(expected[0].as_str()));
            let asked = world.asked.lock().clone();
            assert_eq!(asked.iter().any(|asked| asked.contains("_memory_0")), is_sent, "{bytes_max}: {asked:#?}");
        }
    });
}

/// What is asked while parts are merged and rows are flushed is exact, from the moment it is asked.
#[test]
fn merges_and_flushes_meanwhile() {
    run(async {
        let world = world("pushed_merges", 10, 10).await;
        let (table, epoch) = (world.clickhouse.table("hits"), world.engine.stream("hits").unwrap().id.0 + 1);
        let insert = async |rows: u32| {
            let sql = format!(
                "INSERT INTO {table} SELECT toDateTime64('2024-05-01 00:00:00', 6, 'UTC'), 0, 7, '', '', 0, true, NULL, {epoch} FROM \
                 numbers({rows}) SETTINGS max_insert_block_size = {rows}, min_insert_block_size_rows = {rows}, max_threads = 1, insert_deduplicate = 0"
            );
            world.clickhouse.execute(&sql).await.unwrap();
        };
        for _ in 0..3 {
            insert(600_000).await;
        }
        let (inserting, inserted) = (AtomicI64::new(3), AtomicI64::new(3));
        let stream = world.engine.stream("hits").unwrap();
        let (sent, acknowledged) = (AtomicI64::new(20), AtomicI64::new(20));
        let merges = async {
            for turn in 0..12 {
                let from = sent.fetch_add(5, Ordering::SeqCst);
                world.engine.append(hits(&stream, from..from + 5)).await.unwrap();
                acknowledged.store(from + 5, Ordering::SeqCst);
                if turn % 2 == 0 {
                    world.flush().await;
                }
                if turn % 4 == 1 {
                    inserting.fetch_add(1, Ordering::SeqCst);
                    insert(600_000).await;
                    inserted.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_secs(3)).await; // until it is known that it is there
                }
                let merge = if turn % 3 == 0 {
                    format!("OPTIMIZE TABLE {table} FINAL")
                } else {
                    format!("OPTIMIZE TABLE {table}")
                };
                world.clickhouse.execute(&merge).await.unwrap();
            }
        };
        let mut asked = 0;
        let questions = async {
            loop {
                let (least, parts) = (acknowledged.load(Ordering::SeqCst), inserted.load(Ordering::SeqCst));
                let answer = rows(&world, "SELECT count(*), sum(n) FROM hits", AskOptions::default()).await.unwrap();
                let (most, parts_most) = (sent.load(Ordering::SeqCst), inserting.load(Ordering::SeqCst));
                let of = |parts: i64| {
                    (least..=most).step_by(5).map(move |n| format!("{},{}", parts * 600_000 + n, n * (n - 1) / 2))
                };
                let possible: Vec<String> = (parts..=parts_most).flat_map(of).collect();
                assert!(possible.contains(&answer[0]), "{answer:?} is none of {possible:?}");
                asked += 1;
            }
        };
        tokio::select! {
            () = merges => {}
            () = questions => {}
        }
        assert!(asked > 5, "only {asked} questions");
        let hinted = world.asked.lock().iter().filter(|sql| sql.contains("indexHint(_t0._part IN")).count();
        assert!(hinted > 5, "large parts were known in {hinted} of {asked} questions");
    });
}

#[test]
fn of_memory_only_what_passes_is_sent() {
    run(async {
        let world = world("pushed_passing", 10, 10).await;
        for (sql, is_sent) in [
            ("SELECT count(*) FROM hits WHERE n >= 10", true),
            ("SELECT count(*) FROM hits WHERE n < 10", false),
            ("SELECT h.n FROM hits AS h WHERE h.n % 2 = 0 AND h.n < 10 ORDER BY h.visitor, h.n DESC LIMIT 3", false),
            ("SELECT count(*) FROM (SELECT n + 1 AS m FROM hits) WHERE m <= 10", false),
            ("SELECT count(*) FROM hits WHERE n < 10 AND page IS NULL", false),
            // What occurs twice is computed below the condition, which is ClickHouse's then.
            ("SELECT count(*) FROM hits WHERE visitor % 7 > 1 AND visitor % 7 < 5", true),
        ] {
            let expected = rows(&world, sql, HERE).await.unwrap();
            world.asked.lock().clear();
            assert_eq!(rows(&world, sql, AskOptions::default()).await.unwrap(), expected, "{sql}");
            let asked = world.asked.lock().clone();
            assert!(asked.iter().any(|asked| asked.contains("UNION ALL")) == is_sent, "{sql}: {asked:#?}");
            let tested_there = asked.iter().any(|asked| asked.contains("FROM _memory_0 AS _t0 WHERE"));
            assert_eq!(tested_there, sql.contains("% 7"), "{sql}: {asked:#?}");
        }
        let explained = world.answer("EXPLAIN SELECT count(*) FROM hits WHERE n < 10", Format::Csv).await.unwrap();
        assert!(explained.contains("memory=[_memory_0: hits where hits.n < Int64(10)]"), "{explained}");
    });
}

#[test]
fn large_parts_are_read_without_their_epochs_and_never_beyond_the_snapshot() {
    run(async {
        let world = world("pushed_parts", 10, 10).await;
        let ask = "SELECT count(*), sum(n), count(DISTINCT visitor) FROM hits";
        let insert = async |from: u64, epoch: &str| {
            let columns = "toDateTime64('2024-05-01 00:00:00', 6, 'UTC'), toInt64(number), 7, '', '', 0, true, NULL";
            let sql = format!(
                "INSERT INTO {} SELECT {columns}, {epoch} FROM numbers({from}, 600000) SETTINGS max_insert_block_size = 600000, \
                 min_insert_block_size_rows = 600000, max_threads = 1",
                world.clickhouse.table("hits")
            );
            world.clickhouse.execute(&sql).await.unwrap();
        };
        let flushed = world.engine.stream("hits").unwrap().id.0 + 1;
        insert(0, &flushed.to_string()).await;
        // Rows of a flush that is not confirmed; they lie beyond what the question may see.
        insert(600_000, "toUInt64(18446744073709551000)").await;
        let asks = [
            ask,
            "SELECT count(*) FROM hits WHERE n % 3 = 0",
            "SELECT count(*) FROM hits WHERE visitor = 7 AND at >= TIMESTAMP '2024-05-01T00:00:00Z' AND n > 10",
            "SELECT country, min(n), max(n) FROM hits WHERE n > 599990 OR page IS NULL GROUP BY country",
            "SELECT count(*) FROM (SELECT n, visitor FROM hits WHERE n >= 5) AS h WHERE h.visitor = 7 AND h.n < 500000",
            "SELECT n, visitor FROM hits ORDER BY n DESC, visitor LIMIT 5",
            "SELECT n, page FROM hits WHERE visitor = 7 ORDER BY n DESC LIMIT 5",
            "SELECT count(*), max(a.n) FROM hits AS a JOIN hits AS b ON a.n = b.n WHERE a.n < 1000 AND b.visitor = 7",
            "SELECT count(DISTINCT n) FROM hits WHERE secure",
        ];
        let mut expected = Vec::new();
        for ask in asks {
            expected.push(rows(&world, ask, HERE).await.unwrap());
        }
        assert!(expected[0][0].starts_with("600020,"), "{expected:?}");
        for merged in [false, true] {
            if merged {
                let sql = format!("OPTIMIZE TABLE {} FINAL", world.clickhouse.table("hits"));
                world.clickhouse.execute(&sql).await.unwrap();
            }
            world.asked.lock().clear();
            for (ask, expected) in asks.iter().zip(&expected) {
                for _ in 0..2 {
                    assert_eq!(
                        &rows(&world, ask, AskOptions::default()).await.unwrap(),
                        expected,
                        "{ask}, merged: {merged}"
                    );
                }
            }
            let is_parted = |sql: &&String| sql.contains("indexHint(_t0._part IN") && sql.contains("_part NOT IN");
            let asked = world.asked.lock().iter().filter(is_parted).count();
            assert!(
                merged || asked >= asks.len(),
                "a large part of settled epochs is known: {:#?}",
                world.asked.lock()
            );
        }
    });
}

/// Whatever the plan knows of a column, zeros of either sign are equal to an order.
#[test]
fn zeros_of_either_sign_are_ordered_alike() {
    run(async {
        let world = world("pushed_zeros", 2_000, 500).await;
        for from in [
            "hits WHERE ms = 0.0",
            "hits WHERE 0.0 = ms AND ms IS NOT NULL",
            "hits WHERE ms IN (0.0)",
            "hits WHERE ms IN (0.0, 1.5)",
            "hits WHERE ms >= 0.0 AND ms <= 0.0",
            "hits WHERE ms BETWEEN -0.0 AND 0.0",
            "hits WHERE ms IS NOT DISTINCT FROM 0.0",
            "hits WHERE abs(ms) = 0.0",
            "hits WHERE ms = -ms",
            "hits WHERE ms < 0.5 AND ms > -0.5",
            "(SELECT * FROM hits ORDER BY n LIMIT 1000) WHERE ms = 0.0",
            "(SELECT a.n, a.ms FROM hits a JOIN (SELECT n FROM hits WHERE n < 1500) b ON a.n = b.n) WHERE ms = 0.0",
            "(SELECT n, min(ms) AS ms FROM hits GROUP BY n HAVING min(ms) = 0.0)",
            "(SELECT a.n, a.ms FROM hits a JOIN hits b ON a.ms = b.ms AND a.n = b.n WHERE b.ms = 0.0)",
        ] {
            for order in ["ms, n", "ms DESC, n DESC", "-ms, n", "ms + n, n", "abs(ms), n"] {
                let sql = format!("SELECT n, abs(ms) FROM {from} ORDER BY {order} LIMIT 13 OFFSET 7");
                let here = world.answer_as(&sql, Format::Csv, HERE).await.unwrap();
                let there = world.answer_as(&sql, Format::Csv, AskOptions::default()).await.unwrap();
                assert_eq!(there, here, "{sql}");
            }
        }
        for options in [HERE, AskOptions::default()] {
            for column in ["ms", "ms + (-0.0)", "CAST(ms AS REAL)"] {
                let sql = |order: &str| {
                    format!("SELECT n FROM hits WHERE ms > -1e-31 AND ms < 0.05 ORDER BY {order}, n LIMIT 50")
                };
                let ordered = world.answer_as(&sql(column), Format::Csv, options).await.unwrap();
                let expected = sql("CASE WHEN ms < 0 THEN -1 WHEN ms = 0 THEN 0 ELSE 1 END");
                let expected = world.answer_as(&expected, Format::Csv, options).await.unwrap();
                assert_eq!(ordered, expected, "{column}");
            }
        }
    });
}
