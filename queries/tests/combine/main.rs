//! `combine(column)` over a view says what the view's own `SELECT` would say of the events, grouped more coarsely: over
//! memory, history and both, with late events; and a view reads from ClickHouse what it needs.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod cases;
#[path = "../../src/views/tests/exactly.rs"]
mod exactly;
#[allow(dead_code, reason = "the tests that have no engine need more of it")]
#[path = "../../src/views/tests/stream.rs"]
mod stream;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use arrow::compute::concat_batches;
use cases::{Case, case};
use futures::TryStreamExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use stream::{Answer, FLIGHTS, answer_of, assert_same, batches_of, plain};
use streamgauge_queries::{AskOptions, ErrorKind, QueryLimits, views};
use streamgauge_schemas::{EventBatch, EventTime, StreamId, TableBatch};
use support::{Event, World, run};

/// Runs of the random test, each of another seed.
const RUNS: u64 = 16;

/// A world with the stream `flights`.
async fn world(name: &str, limits: QueryLimits) -> (World, StreamId) {
    let world = World::with(name, limits, 2).await;
    let definition = stream::catalog().by_id(FLIGHTS).unwrap().definition.clone();
    let stream = world.engine.create_stream(definition).await.unwrap().0.id;
    (world, stream)
}

async fn append(world: &World, stream: StreamId, batch: &EventBatch) {
    let EventBatch::Table(table) = batch else { panic!("flights are a table") };
    let batch = TableBatch { stream, rows: table.rows.clone() };
    world.engine.append(EventBatch::Table(Arc::new(batch))).await.unwrap();
}

async fn create(world: &World, name: &str, select: &str) {
    let sql = format!("CREATE MATERIALIZED VIEW {name} WITH (backfill = false) AS {select}");
    world.rows(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn ask(world: &World, sql: &str) -> Answer {
    let answer = world.queries.sql(sql, AskOptions::default()).await;
    let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let schema = answer.schema.clone();
    let batches: Vec<_> = answer.try_collect().await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    answer_of(&concat_batches(&schema, &batches).unwrap())
}

/// What DataFusion says of all events, on a thread of its own, since it has a runtime of its own.
fn plainly(select: &str, batches: &[EventBatch]) -> Answer {
    std::thread::scope(|scope| scope.spawn(|| plain(select, batches)).join().unwrap())
}

#[test]
fn combined_columns_are_the_select_over_the_events_of_coarser_groups() {
    run(async {
        let (world, stream) = world("combine_random", QueryLimits::default()).await;
        let mut rng = StdRng::seed_from_u64(7);
        let cases: Vec<Case> = (0..RUNS).map(|at| case(&mut rng, &format!("v{at}"))).collect();
        for (at, case) in cases.iter().enumerate() {
            create(&world, &format!("v{at}"), &case.view).await;
        }
        let batches = batches_of(&mut rng, false, vec![90, 60, 0, 80, 40], 1);
        let mut there: Vec<EventBatch> = vec![batches[2].clone()]; // without events, so that a SELECT has a table
        let mut rows = 0;
        for (step, batch) in batches.iter().enumerate() {
            append(&world, stream, batch).await;
            there.push(batch.clone());
            for (at, case) in cases.iter().enumerate() {
                let found = ask(&world, &case.combined).await;
                rows += found.1.len();
                let what =
                    format!("v{at} after step {step}\n  {}\n  {}\n  {}", case.view, case.combined, case.over_events);
                assert_same(&what, found, plainly(&case.over_events, &there));
            }
            match step {
                0 => world.bury().await,  // only in ClickHouse
                3 => world.flush().await, // also in memory, above the horizon
                _ => {}
            }
        }
        assert!(rows > 500, "{rows} rows are few");
        let read = world.asked.lock().iter().filter(|sql| sql.contains("v0_states")).count();
        assert!(read > 2, "part of the groups was in ClickHouse");
    });
}

/// Quantiles and frequent texts: sketches that were merged are those of all events at once.
#[test]
fn combined_sketches_are_those_of_the_coarser_view() {
    run(async {
        let (world, stream) = world("combine_sketches", QueryLimits::default()).await;
        let columns = "approx_percentile_cont(delay, 0.99) AS p99, approx_median(delay * n) AS p50, \
                       approx_percentile_cont(delay, 0.1) - approx_median(delay) AS low, approx_top_k(origin, 2) AS top, \
                       approx_distinct(seen) AS seen, count(DISTINCT seen) AS users";
        let fine =
            format!("SELECT date_trunc('minute', at) AS minute, carrier, ok, {columns} FROM flights GROUP BY 1, 2, 3");
        let coarse = format!("SELECT date_trunc('day', at) AS day, carrier, {columns} FROM flights GROUP BY 1, 2");
        create(&world, "fine", &fine).await;
        create(&world, "coarse", &coarse).await;
        let mut rng = StdRng::seed_from_u64(3);
        let batches = batches_of(&mut rng, false, vec![900, 600, 700], 1);
        for (step, batch) in batches.iter().enumerate() {
            append(&world, stream, batch).await;
            let combined = "SELECT date_trunc('day', minute) AS day, carrier, combine(p99) AS p99, combine(p50) AS p50, \
                            combine(low) AS low, combine(top) AS top, combine(seen) AS seen, combine(users) AS users, \
                            combine(users_is_exact) AS users_is_exact FROM fine GROUP BY 1, 2";
            let found = ask(&world, combined).await;
            assert!(found.1.len() > 20, "there are groups");
            assert_same(combined, found, ask(&world, "SELECT * FROM coarse").await);
            // Within the bound of what the events themselves say, beyond 1,024 values too.
            let events = "SELECT array_element(list, CAST(floor(0.99 * (n - 1)) AS BIGINT) + 1) AS p99, \
                          CAST(users AS DOUBLE) AS users FROM (SELECT array_agg(delay ORDER BY delay) FILTER \
                          (WHERE delay IS NOT NULL) AS list, count(delay) AS n, count(DISTINCT seen) AS users FROM flights)";
            let combined = "SELECT combine(p99) AS p99, CAST(combine(users) AS DOUBLE) AS users FROM fine";
            let (found, events) = (ask(&world, combined).await, plainly(events, &batches[..=step]));
            for ((found, wanted), bound) in found.1[0].iter().zip(&events.1[0]).zip([0.01, 0.03]) {
                let (stream::Cell::Float(found), stream::Cell::Float(wanted)) = (found, wanted) else {
                    panic!("{found:?} and {wanted:?} are numbers")
                };
                assert!((found - wanted).abs() <= bound * wanted.abs(), "{found} is not about {wanted}");
            }
            if step == 0 {
                world.bury().await;
            }
        }
    });
}

#[test]
fn the_rollups_of_metrics_combine() {
    run(async {
        let world = World::new("combine_rollups").await;
        let event = |name, host, seconds: i64, value| Event {
            name,
            dimensions: vec![("host", host)],
            ts: EventTime(1_714_521_600_000_000 + seconds * 1_000_000),
            value,
        };
        let events: Vec<Event> = (0..500)
            .map(|at| event(["cpu", "mem"][at % 2], ["a", "b", "c"][at % 3], (at as i64 * 67) % 9_000, at as f64 / 4.0))
            .collect();
        world.append(&events[..200]).await;
        world.bury().await;
        world.append(&events[200..]).await;
        let combined = "SELECT name, combine(\"count\") AS n, combine(\"sum\") AS s, combine(\"min\") AS least, \
                        combine(\"max\") AS most, combine(\"avg\") AS mean";
        let plain =
            "SELECT name, count(*) AS n, sum(value) AS s, min(value) AS least, max(value) AS most, avg(value) AS mean";
        for table in ["metrics_1s", "metrics_1m", "metrics_1h", "metrics_1d", "(SELECT * FROM metrics_1m LIMIT 10000)"]
        {
            let found = ask(&world, &format!("{combined} FROM {table} GROUP BY name")).await;
            assert_same(table, found, ask(&world, &format!("{plain} FROM metrics GROUP BY name")).await);
        }
        let found = "SELECT date_trunc('hour', bucket) AS hour, dimensions['host'] AS host, \
                     combine(\"avg\") FILTER (WHERE name = 'cpu') AS mean FROM metrics_1m GROUP BY 1, 2";
        let wanted = "SELECT date_trunc('hour', ts) AS hour, dimensions['host'] AS host, \
                      avg(value) FILTER (WHERE name = 'cpu') AS mean FROM metrics GROUP BY 1, 2";
        assert_same(found, ask(&world, found).await, ask(&world, wanted).await);
        // Without the columns that would be summed twice: a projection of the rollup's own columns beside its states.
        let rows = ask(&world, "SELECT * FROM metrics_1h").await;
        assert_eq!(rows.0.len(), 8);
    });
}

/// A small view, half of it in ClickHouse.
async fn small(name: &str, limits: QueryLimits) -> (World, StreamId) {
    let (world, stream) = world(name, limits).await;
    let select = "SELECT date_trunc('minute', at) AS minute, carrier, count(*) AS n, avg(delay) AS mean, \
                  approx_percentile_cont(delay, 0.9) AS p90, approx_percentile_cont(delay, 0.5) AS p50, \
                  count(DISTINCT seen) AS users, count(*) + length(coalesce(carrier, '')) AS mixed, 1 AS one \
                  FROM flights GROUP BY 1, 2";
    create(&world, "v", select).await;
    let busy = "SELECT carrier, sum(n) AS total FROM flights GROUP BY carrier HAVING count(DISTINCT seen) > 0";
    create(&world, "busy", busy).await;
    let mut rng = StdRng::seed_from_u64(11);
    let batches = batches_of(&mut rng, false, vec![150, 150], 1);
    append(&world, stream, &batches[0]).await;
    world.bury().await;
    append(&world, stream, &batches[1]).await;
    (world, stream)
}

#[test]
fn a_column_is_followed_through_aliases_joins_and_subqueries() {
    run(async {
        let (world, _) = small("combine_through", QueryLimits::default()).await;
        let wanted = "SELECT carrier, count(*) AS n, avg(delay) AS mean, count(DISTINCT seen) AS users FROM flights GROUP BY carrier";
        let list = |table: &str| {
            format!("combine({table}n) AS n, combine({table}mean) AS mean, combine({table}users) AS users")
        };
        for sql in [
            format!("SELECT carrier, {} FROM v GROUP BY carrier", list("")),
            format!("SELECT carrier, {} FROM streamgauge.public.v GROUP BY carrier", list("v.")),
            format!("SELECT a.carrier, {} FROM v AS a GROUP BY a.carrier", list("a.")),
            format!(
                "WITH x AS (SELECT * FROM v WHERE n > 0 ORDER BY n LIMIT 100000) SELECT carrier, {} FROM x GROUP BY 1",
                list("x.")
            ),
            format!(
                "SELECT q AS carrier, {} FROM (SELECT carrier AS q, n, users, mean FROM v) AS s GROUP BY q",
                list("")
            ),
            "SELECT s.carrier, combine(c) AS n, combine(m) AS mean, combine(u) AS users FROM (SELECT carrier, n AS c, \
             users AS u, mean AS m, n + 1 AS more FROM (SELECT * FROM v) AS t) AS s GROUP BY 1"
                .to_owned(),
            format!(
                "SELECT a.carrier, {} FROM v AS a JOIN busy AS b ON a.carrier IS NOT DISTINCT FROM b.carrier GROUP BY a.carrier",
                list("a.")
            ),
            format!(
                "SELECT v.carrier, {} FROM v LEFT JOIN (SELECT DISTINCT carrier FROM flights) AS names ON v.carrier = names.carrier GROUP BY 1",
                list("v.")
            ),
            format!("SELECT carrier, {} FROM v GROUP BY carrier HAVING combine(n) > 0 ORDER BY combine(p90)", list("")),
            format!("SELECT * FROM (SELECT carrier, {} FROM v GROUP BY carrier) AS s WHERE n > 0", list("")),
        ] {
            assert_same(&sql, ask(&world, &sql).await, ask(&world, wanted).await);
        }
        // Rows that an outer join adds have no state; of none there is what is of no events.
        for (sql, rows) in [
            (
                "SELECT m.carrier, combine(v.n), combine(v.mean), combine(v.users) FROM (VALUES ('AA'), ('ZZ')) AS m(carrier) \
              LEFT JOIN v ON v.carrier = m.carrier WHERE m.carrier = 'ZZ' GROUP BY 1",
                vec!["ZZ,0,,0"],
            ),
            (
                "SELECT combine(n), combine(mean), combine(users), combine(users_is_exact) FROM v WHERE carrier = 'ZZ'",
                vec!["0,,0,true"],
            ),
            ("SELECT (SELECT combine(n) FROM v WHERE v.carrier = m.c) FROM (VALUES ('ZZ')) AS m(c)", vec!["0"]),
            (
                "SELECT count(*) FROM (SELECT carrier FROM v GROUP BY carrier HAVING combine(p90) IS NULL AND combine(n) < 0)",
                vec!["0"],
            ),
        ] {
            assert_eq!(world.rows(sql).await.unwrap(), rows, "{sql}");
        }
        // Two views, or one twice, do not get into each other's way; and other aggregates stand beside.
        let same = "SELECT combine(a.n) AS n, combine(b.n) AS m, sum(a.n) AS s FROM v AS a JOIN v AS b \
                    ON a.minute = b.minute AND a.carrier IS NOT DISTINCT FROM b.carrier";
        let total = ask(&world, "SELECT count(*) AS n, count(*) AS m, count(*) AS s FROM flights").await;
        assert_same(same, ask(&world, same).await, total);
        let both = "SELECT combine(v.n) AS n, combine(busy.total) AS t FROM v JOIN busy ON v.carrier = busy.carrier WHERE busy.carrier = 'AA'";
        assert!(matches!(&ask(&world, both).await.1[..], [_]));
        let most =
            "SELECT carrier, combine(users) AS most FROM v GROUP BY carrier ORDER BY combine(users) DESC LIMIT 1";
        let wanted = "SELECT carrier, count(DISTINCT seen) AS most FROM flights GROUP BY carrier \
                      ORDER BY count(DISTINCT seen) DESC LIMIT 1";
        assert_same(most, ask(&world, most).await, ask(&world, wanted).await);
        // Each grouping set merges.
        let sets = "SELECT carrier, combine(users) AS users FROM v GROUP BY ROLLUP (carrier)";
        let wanted = "SELECT carrier, count(DISTINCT seen) AS users FROM flights GROUP BY ROLLUP (carrier)";
        assert_same(sets, ask(&world, sets).await, ask(&world, wanted).await);
        // `*` shows no states, and the names are as of any aggregate.
        let columns = |answer: Answer| answer.0.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let all = ["minute", "carrier", "n", "mean", "p90", "p50", "users", "mixed", "one", "users_is_exact"];
        assert_eq!(columns(ask(&world, "SELECT * FROM v LIMIT 1").await), all);
        let beside = "SELECT x.* FROM v AS x WHERE x.n > (SELECT combine(n) FROM v) OR x.n > 0 LIMIT 1";
        assert_eq!(columns(ask(&world, beside).await), all);
        assert_eq!(columns(ask(&world, "SELECT combine(n), sum(v.n) FROM v").await), ["combine(v.n)", "sum(v.n)"]);
        assert!(ask(&world, "EXPLAIN SELECT combine(n) FROM v").await.1.len() > 1);
    });
}

#[test]
fn what_cannot_be_combined_is_refused_in_words() {
    run(async {
        let (world, _) = small("combine_refusals", QueryLimits::default()).await;
        for (sql, says) in [
            ("SELECT combine(n) FROM flights", "n is a column of flights, which is not a view"),
            (
                "SELECT combine(carrier) FROM v",
                "carrier of view v is or contains a dimension, the bucket or a constant",
            ),
            (
                "SELECT combine(minute) FROM v",
                "choose a column that is made of aggregates (v has n, mean, p90, p50, users, users_is_exact)",
            ),
            ("SELECT combine(mixed) FROM v", "is not made of aggregates alone"),
            ("SELECT combine(one) FROM v", "is not made of aggregates alone"),
            ("SELECT combine(bucket) FROM metrics_1m", "metrics_1m has count, sum, min, max, avg"),
            ("SELECT combine(n + 1) FROM v", "v.n + Int64(1) is an expression"),
            ("SELECT combine(1) FROM v", "is an expression"),
            ("SELECT combine(sum(n)) FROM v", "'sum(v.n)' is nested inside 'combine(sum(v.n))'"),
            ("SELECT sum(combine(n)) FROM v", "'combine(v.n)' is nested inside 'sum(combine(v.n))'"),
            ("SELECT combine(n, mean) FROM v", "combine takes one column of a view, not 2 arguments"),
            ("SELECT combine(DISTINCT n) FROM v", "leave out DISTINCT, ORDER BY"),
            ("SELECT combine(n ORDER BY minute) FROM v", "leave out DISTINCT, ORDER BY"),
            ("SELECT combine(n) OVER (PARTITION BY carrier) FROM v", "combine is not a window function"),
            (
                "SELECT combine(s.n) FROM (SELECT carrier, sum(n) AS n FROM v GROUP BY 1) AS s",
                "s.n comes from a subquery that groups",
            ),
            (
                "SELECT combine(s.n) FROM (SELECT n * 2 AS n FROM v) AS s",
                "s.n is computed in a subquery, as v.n * Int64(2)",
            ),
            ("SELECT combine(s.n) FROM (SELECT n FROM v UNION ALL SELECT n FROM v) AS s", "makes other rows (Union)"),
            ("SELECT combine(s.n) FROM (SELECT DISTINCT n FROM v) AS s", "makes other rows (Distinct)"),
            ("SELECT combine(x.n) FROM (VALUES (1)) AS x(n)", "makes other rows (Values)"),
            ("SELECT (SELECT combine(v.n) FROM busy LIMIT 1) FROM v", "is an expression"),
            ("SELECT combine(nothing) FROM v", "nothing"),
            (
                "CREATE MATERIALIZED VIEW w AS SELECT combine(n) AS n FROM flights",
                "it merges what a view keeps, and a view is over events",
            ),
            (
                "CREATE MATERIALIZED VIEW w AS SELECT combine(n) AS n FROM v",
                "it is a view; write its SELECT over the stream itself",
            ),
        ] {
            let error = world.rows(sql).await.expect_err(sql);
            assert!(error.to_string().contains(says), "{sql}: {error}");
            assert!(matches!(error.kind(), ErrorKind::Caller { .. }), "{sql}: {error:?}");
        }
    });
}

#[test]
fn only_the_folds_that_are_needed_are_read_from_clickhouse() {
    run(async {
        let (world, _) = small("combine_folds", QueryLimits::default()).await;
        let read = async |sql: &str| -> Vec<String> {
            world.asked.lock().clear();
            world.rows(sql).await.unwrap();
            let asked = world.asked.lock().clone();
            let [asked] = &asked[..] else { panic!("{sql}: {asked:?}") };
            let columns = asked.split(" FROM ").next().unwrap();
            let names = columns.split("`_").skip(1).map(|rest| rest.split('`').next().unwrap());
            names.filter(|name| name.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).collect()
        };
        let all = read("SELECT * FROM v").await;
        assert!(
            all.iter().any(|name| name.ends_with("quantiles")) && all.iter().any(|name| name.ends_with("distinct")),
            "{all:?}"
        );
        for (sql, folds) in [
            ("SELECT carrier, minute, n FROM v", vec!["count"]),
            ("SELECT carrier FROM v", vec![]),
            ("SELECT count(*) FROM v", vec![]),
            ("SELECT carrier FROM v WHERE n > 2", vec!["count"]),
            ("SELECT mean FROM v", vec!["count", "sum"]),
            ("SELECT p50, p90 FROM v", vec!["quantiles"]),
            ("SELECT combine(users) FROM v", vec!["distinct"]),
            ("SELECT combine(p50), combine(p90), sum(n) FROM v", vec!["count", "quantiles"]),
            ("SELECT carrier FROM busy", vec!["distinct"]), // for its HAVING
            ("SELECT total FROM busy", vec!["count", "distinct", "sum"]),
        ] {
            let mut found: Vec<String> =
                read(sql).await.iter().map(|name| name.split('_').next_back().unwrap().to_owned()).collect();
            found.sort();
            assert_eq!(found, folds, "{sql}");
        }
    });
}

#[test]
fn merged_states_count_as_memory_of_the_question() {
    run(async {
        // Enough for as many groups, and by far not for thirty sketches of each.
        let few = QueryLimits { memory_bytes_max: 2 << 20, ..QueryLimits::default() };
        let (world, stream) = world("combine_memory", few).await;
        let of = |at: i32| format!("approx_median(delay * {at}) AS m{at}, ");
        let columns: String = (1..=30).map(of).collect();
        create(
            &world,
            "wide",
            &format!("SELECT date_trunc('minute', at) AS minute, {columns}count(*) AS n FROM flights GROUP BY 1"),
        )
        .await;
        let mut rng = StdRng::seed_from_u64(5);
        for batch in batches_of(&mut rng, false, vec![4_000; 4], 1) {
            append(&world, stream, &batch).await;
            world.bury().await;
        }
        let by_minute = |call: &str| format!("SELECT minute, {call} FROM wide GROUP BY 1");
        assert!(world.rows(&by_minute("sum(n)")).await.unwrap().len() > 5_000);
        let all: Vec<String> = (1..=30).map(|at| format!("combine(m{at})")).collect();
        let error = world.rows(&by_minute(&all.join(", "))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit { code: "query_memory_exceeded" }, "{error}");
        assert_eq!(world.rows("SELECT combine(n) FROM wide").await.unwrap(), ["16000"]);
    });
}
