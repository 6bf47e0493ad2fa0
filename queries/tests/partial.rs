//! ClickHouse says that it is there, and a read fails: what was asked to do without history does, marked and without
//! half-read rows; what was not fails, and says what is missing.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, TimestampMicrosecondArray};
use serde_json::{Value, json};
use streamgauge_queries::{
    Aggregation, AskOptions, DimensionFilter, FollowQuery, Format, MemoryOf, QueryError, QueryLimits, SeriesAnswer,
    SeriesQuery,
};
use streamgauge_schemas::time::wall_clock;
use streamgauge_schemas::{Duration as Span, Epoch, EventBatch, EventTime, StreamDefinition, TableBatch};
use support::{Event, Weather, World, run};

const PARTIAL: AskOptions = AskOptions { min_epoch: None, partial: true, unpushed: false };
/// Rows of history: more than ClickHouse sends at once.
const BURIED: usize = 200_000;

fn event(at: EventTime, value: f64) -> Event {
    Event { name: "cpu", dimensions: vec![("host", "a")], ts: at, value }
}

/// A world with `buried` events in ClickHouse alone, and one of the value -1 in memory alone.
async fn world(name: &str, buried: usize, limits: QueryLimits) -> World {
    let world = World::with(name, limits, 1).await;
    let now = EventTime(wall_clock().0 - 60_000_000);
    world.append(&(0..buried).map(|at| event(now, at as f64)).collect::<Vec<_>>()).await;
    world.bury().await;
    world.append(&[event(now, -1.0)]).await;
    world
}

async fn ask(world: &World, sql: &str, options: AskOptions) -> Result<Value, QueryError> {
    world.answer_as(sql, Format::Json, options).await.map(|text| serde_json::from_str(&text).unwrap())
}

async fn change(world: &World, sql: &str) {
    world.clickhouse.execute(&sql.replace("{d}", world.clickhouse.database())).await.unwrap();
}

/// Puts another relation in the place of the table `metrics`, of which it may read as `{d}.kept`.
async fn replace(world: &World, rows: &str) {
    change(world, "RENAME TABLE {d}.metrics TO {d}.kept").await;
    change(world, &format!("CREATE VIEW {{d}}.metrics AS SELECT * FROM {{d}}.kept WHERE {rows}")).await;
}

async fn put_back(world: &World) {
    change(world, "DROP VIEW {d}.metrics").await;
    change(world, "RENAME TABLE {d}.kept TO {d}.metrics").await;
}

/// Checks that a partial answer has the rows of memory and says what it lacks, and that it is an error otherwise.
async fn lacks_history(world: &World, sql: &str, rows: Value, why: &str) {
    let error = lacks_what_is_bounded(world, sql, rows, why).await;
    assert!(matches!(error, QueryError::History(_)), "{sql}: {error:?}");
    assert!(error.to_string().contains("history in ClickHouse up to epoch"), "{error}");
}

/// Checks that a partial answer has the rows of memory and says what it lacks; says what a whole one would be.
async fn lacks_what_is_bounded(world: &World, sql: &str, rows: Value, why: &str) -> QueryError {
    let answer = ask(world, sql, PARTIAL).await.unwrap();
    assert_eq!(answer["rows"], rows, "{sql}");
    let missing = answer["partial"]["missing"].as_str().unwrap_or_else(|| panic!("{sql}: not marked: {answer}"));
    let upto = answer["partial"]["epoch"].as_u64().unwrap();
    assert!(missing.contains(&format!("up to epoch {upto} is missing")) && missing.contains(why), "{missing}");
    for format in [Format::Ndjson, Format::Csv, Format::Arrow] {
        let answer = world.queries.sql(sql, PARTIAL).await.unwrap();
        assert!(answer.partial.is_some(), "{format:?} {sql}");
    }
    ask(world, sql, AskOptions::default()).await.map(drop).unwrap_err()
}

async fn series(world: &World, options: AskOptions) -> Result<SeriesAnswer, QueryError> {
    let now = wall_clock();
    let query = SeriesQuery {
        metric: "cpu".into(),
        start: EventTime(now.0 - 3_600_000_000),
        end: EventTime(now.0 + 1),
        granularity: Some(Span::from_secs(1)),
        aggregations: vec![Aggregation::Count],
        filter: DimensionFilter::default(),
        group_by: Vec::new(),
    };
    world.queries.series(&query, options).await
}

fn events(answer: &SeriesAnswer) -> u64 {
    answer.series.iter().flat_map(|series| &series.points).map(|(_, state)| state.count).sum()
}

#[test]
fn a_table_that_is_missing() {
    run(async {
        let world = world("partial_missing", 5, QueryLimits::default()).await;
        for (table, sql, rows) in [
            ("metrics", "SELECT value FROM metrics", json!([[-1.0]])),
            ("metrics_1d_states", "SELECT sum(count) FROM metrics_1d", json!([[1]])),
            ("metrics_1s_states", "SELECT count FROM metrics_1s", json!([[1]])),
        ] {
            change(&world, &format!("RENAME TABLE {{d}}.{table} TO {{d}}.kept")).await;
            lacks_history(&world, sql, rows, "code 60").await;
            if table == "metrics_1s_states" {
                let answer = series(&world, PARTIAL).await.unwrap();
                assert_eq!((events(&answer), answer.partial.is_some()), (1, true));
                assert!(matches!(series(&world, AskOptions::default()).await, Err(QueryError::History(_))));
                let query = FollowQuery {
                    metric: "cpu".into(),
                    range: Span::from_secs(3_600),
                    granularity: Some(Span::from_secs(1)),
                    aggregations: vec![Aggregation::Count],
                    filter: DimensionFilter::default(),
                    group_by: Vec::new(),
                };
                let (answer, mut live) = world.queries.follow(&query, PARTIAL).await.unwrap();
                assert_eq!((events(&answer), answer.partial.is_some()), (1, true));
                world.append(&[event(wall_clock(), 7.0)]).await;
                assert_eq!(live.next_change().await.unwrap().series.len(), 1);
                assert!(matches!(
                    world.queries.follow(&query, AskOptions::default()).await,
                    Err(QueryError::History(_))
                ));
            }
            change(&world, &format!("RENAME TABLE {{d}}.kept TO {{d}}.{table}")).await;
        }
        let whole = ask(&world, "SELECT sum(count) FROM metrics_1s", PARTIAL).await.unwrap();
        assert_eq!((&whole["rows"], whole.get("partial")), (&json!([[7]]), None));
    });
}

#[test]
fn the_table_of_a_stream_of_the_users_own_is_missed_once_it_was_made() {
    run(async {
        let world = World::new("partial_own").await;
        let definition: StreamDefinition = serde_json::from_value(json!({
            "name": "orders", "time_column": "at", "columns": [{"name": "amount", "type": "f64"}]
        }))
        .unwrap();
        world.engine.create_stream(definition).await.unwrap();
        world.advance(60).await;
        let id = world.engine.stream("orders").unwrap().id;
        assert!(world.engine.begin_stream_flush(id).is_none()); // its flushed epoch moves on, before it has a table
        let count = "SELECT count(*) FROM orders";
        let answer = ask(&world, count, PARTIAL).await.unwrap();
        assert_eq!((&answer["rows"], answer.get("partial")), (&json!([[0]]), None), "nothing is missing yet");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC")),
            Arc::new(Float64Array::from(vec![1.0])),
        ];
        let schema = world.engine.stream("orders").unwrap().definition.schema();
        let rows = RecordBatch::try_new(schema, columns).unwrap();
        world.engine.append(EventBatch::Table(Arc::new(TableBatch { stream: id, rows }))).await.unwrap();
        world.bury().await;
        change(&world, "RENAME TABLE {d}.orders TO {d}.kept").await;
        lacks_history(&world, count, json!([[0]]), "code 60").await;
    });
}

#[test]
fn a_read_that_fails_in_its_middle_leaves_no_rows() {
    run(async {
        let world =
            world("partial_middle", BURIED, QueryLimits { json_rows_max: 2 * BURIED, ..QueryLimits::default() }).await;
        replace(&world, &format!("throwIf(value = {}, 'the disk is broken') = 0", BURIED - 1)).await;
        // That the first rows do arrive, before the error, is what makes this a test.
        let sql = format!("SELECT value FROM {}.metrics SETTINGS max_block_size = 1000", world.clickhouse.database());
        let mut rows = world.clickhouse.query_arrow(&sql).await.unwrap();
        assert!(futures::StreamExt::next(&mut rows).await.unwrap().unwrap().num_rows() > 0);
        drop(rows);
        lacks_history(&world, "SELECT value FROM metrics", json!([[-1.0]]), "broken").await;
        let sql = "SELECT count(*) FROM metrics a JOIN metrics_1s b ON a.name = b.name";
        lacks_history(&world, sql, json!([[1]]), "broken").await;
        put_back(&world).await;
        let whole = ask(&world, "SELECT count(*) FROM metrics", PARTIAL).await.unwrap();
        assert_eq!((&whole["rows"], whole.get("partial")), (&json!([[BURIED + 1]]), None));
    });
}

#[test]
fn a_read_that_is_beyond_the_memory_of_clickhouse() {
    run(async {
        let world = world("partial_memory", 50_000, QueryLimits::default()).await;
        *world.weather.lock() = Weather::Cramped;
        for (sql, rows) in
            [("SELECT value FROM metrics", json!([[-1.0]])), ("SELECT sum(count) FROM metrics_1d", json!([[1]]))]
        {
            lacks_history(&world, sql, rows, "code 241").await;
        }
        let answer = series(&world, PARTIAL).await.unwrap();
        assert_eq!((events(&answer), answer.partial.is_some()), (1, true));
        // Beyond the question's own memory the same is missing, and it is its bound that a whole answer would need.
        *world.weather.lock() = Weather::Narrow;
        let error = lacks_what_is_bounded(&world, "SELECT value FROM metrics", json!([[-1.0]]), "code 241").await;
        assert!(matches!(error, QueryError::Memory { of: MemoryOf::User, .. }), "{error:?}");
        let answer = series(&world, PARTIAL).await.unwrap();
        assert_eq!((events(&answer), answer.partial.is_some()), (1, true));
        assert!(matches!(series(&world, AskOptions::default()).await, Err(QueryError::Memory { .. })));
        *world.weather.lock() = Weather::Fine;
        assert!(series(&world, PARTIAL).await.unwrap().partial.is_none());
    });
}

#[test]
fn a_read_that_does_not_end() {
    run(async {
        let limits = QueryLimits { time_max: Duration::from_secs(2), ..QueryLimits::default() };
        let world = world("partial_slow", 20, limits).await;
        replace(&world, "sleepEachRow(0.13) = 0").await;
        let began = Instant::now();
        let sql = "SELECT value FROM metrics";
        let error = lacks_what_is_bounded(&world, sql, json!([[-1.0]]), "did not send all").await;
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed()); // four halves, and one whole time
        let told = error.to_string();
        assert!(matches!(error, QueryError::Time { waits_for: Some(_), .. }), "{error:?}");
        for part in ["what ClickHouse has up to epoch", "longer than 2s", "raise query_timeout", "a partial answer"] {
            assert!(told.contains(part), "{told}");
        }
        put_back(&world).await;
        // It is not ClickHouse that is slow here.
        let slow = "SELECT sum(sin(a.value * b.value)) FROM generate_series(1, 100000) a (value), generate_series(1, 100000) b (value)";
        for options in [PARTIAL, AskOptions::default()] {
            let error = ask(&world, slow, options).await.unwrap_err();
            assert!(matches!(error, QueryError::Time { waits_for: None, .. }), "{error:?}");
        }
        let epoch = Epoch(1);
        let options = AskOptions { min_epoch: Some(epoch), partial: true, ..AskOptions::default() };
        assert!(ask(&world, sql, options).await.unwrap().get("partial").is_none(), "and whole again");
    });
}
