//! The bounds of a question hold for what ClickHouse does for it: at each of them it ends, says which it was and how it is
//! raised, and others are answered meanwhile.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use streamgauge_queries::{ErrorKind, Format, MemoryOf, QueryError, QueryLimits};
use streamgauge_schemas::{EventBatch, StreamDefinition, TableBatch};
use support::{Weather, World, run};

/// Rows that ClickHouse seems to have.
const ROWS: usize = 10_000_000;
/// A join whose one side takes far more than a read may always take.
const JOIN: &str = "SELECT count(*), max(b.n) FROM ns AS a JOIN ns AS b ON a.n = b.n";
/// One that goes on for hours.
const ENDLESS: &str = "SELECT max(a.n * b.n) FROM ns AS a CROSS JOIN ns AS b";

/// A world with a stream of many rows: ClickHouse makes them up as they are read.
async fn world(name: &str, limits: QueryLimits) -> World {
    let world = World::with(name, limits, 1).await;
    let definition: StreamDefinition = serde_json::from_value(serde_json::json!({
        "name": "ns", "time_column": "at", "columns": [{"name": "at", "type": "timestamp"}, {"name": "n", "type": "i64"}]
    }))
    .unwrap();
    let (stream, _) = world.engine.create_stream(definition).await.unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC")),
        Arc::new(Int64Array::from(vec![0])),
    ];
    let rows = RecordBatch::try_new(stream.definition.schema(), columns).unwrap();
    world.engine.append(EventBatch::Table(Arc::new(TableBatch { stream: stream.id, rows }))).await.unwrap();
    world.flush().await;
    let table = world.clickhouse.table("ns");
    let made_up = format!(
        "CREATE VIEW {table} AS SELECT toDateTime64('2024-05-01 00:00:00', 6, 'UTC') AS at, toNullable(toInt64(number)) AS n, \
         toUInt64({}) AS _epoch FROM numbers({ROWS})",
        stream.id.0 + 1
    );
    for change in [format!("DROP TABLE {table}"), made_up] {
        world.clickhouse.execute(&change).await.unwrap();
    }
    world
}

/// Asks what ends at a bound, beside a small question that does not.
async fn beyond(world: &World, set: &str, sql: &str) -> (QueryError, Duration) {
    let plan = world.answer(&format!("{set} EXPLAIN {sql}"), Format::Csv).await.unwrap();
    assert!(plan.contains("ClickHouseExec: sql=SELECT") && !plan.contains("JoinExec"), "{plan}");
    let small = async {
        let began = Instant::now();
        assert_eq!(world.rows("SELECT count(*) FROM metrics").await.unwrap(), ["0"]);
        assert_eq!(world.rows("SELECT count(*) FROM ns WHERE n < 7").await.unwrap(), ["7"]);
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    };
    let large = async {
        let began = Instant::now();
        (world.rows(&format!("{set} {sql}")).await.unwrap_err(), began.elapsed())
    };
    tokio::join!(large, small).0
}

#[track_caller]
fn says(error: &QueryError, code: &'static str, parts: &[&str]) {
    assert_eq!(error.kind(), ErrorKind::Limit { code }, "{error:?}");
    let told = error.to_string();
    parts.iter().for_each(|part| assert!(told.contains(part), "{part:?} is not in {told:?}"));
}

#[test]
fn more_memory_than_it_may_take_in_clickhouse() {
    run(async {
        let limits = |user_memory_bytes_max, memory_bytes_max| QueryLimits {
            user_memory_bytes_max,
            memory_bytes_max,
            ..QueryLimits::default()
        };
        for (name, limits, set, of, parts) in [
            (
                "limits_own",
                QueryLimits::default(),
                "SET streamgauge.memory_bytes_max = 1000000;",
                MemoryOf::Question,
                ["more memory than 1000000 bytes", "streamgauge.memory_bytes_max was set; set it higher"],
            ),
            (
                "limits_user",
                limits(100 << 20, 200 << 20),
                "",
                MemoryOf::User,
                ["more memory than 104857600 bytes", "raise user_query_memory_bytes_max"],
            ),
            (
                "limits_all",
                limits(200 << 20, 90 << 20),
                "SET streamgauge.memory_bytes_max = 200000000;",
                MemoryOf::All,
                ["more memory than 94371840 bytes", "raise query_memory_bytes_max"],
            ),
        ] {
            let world = world(name, limits).await;
            let (error, _) = beyond(&world, set, JOIN).await;
            assert!(matches!(&error, QueryError::Memory { of: met, .. } if *met == of), "{error:?}");
            says(&error, "query_memory_exceeded", &parts);
            let asked = world.asked.lock().clone();
            assert!(!asked.iter().any(|sql| sql.contains(" AS _t ")), "it is not tried again here: {asked:#?}");
        }
    });
}

/// Groups that do not fit into half of what a read may take go on on disk, and are counted.
#[test]
fn more_groups_than_fit_are_counted_on_disk() {
    run(async {
        let limits =
            QueryLimits { memory_bytes_max: 512 << 20, user_memory_bytes_max: 512 << 20, ..QueryLimits::default() };
        let world = world("limits_disk", limits).await;
        let sql = "SELECT n, count(*) FROM ns GROUP BY n ORDER BY count(*) DESC, n DESC LIMIT 2";
        let rows = world.answer(sql, Format::Csv).await.unwrap();
        assert_eq!(rows.lines().skip(1).collect::<Vec<_>>(), ["9999999,1", "9999998,1"]);
        assert!(world.asked.lock().iter().any(|sql| sql.contains("GROUP BY")), "it is pushed");
    });
}

#[test]
fn more_time_than_it_may_take_in_clickhouse() {
    run(async {
        let limits = QueryLimits { time_max: Duration::from_secs(3), ..QueryLimits::default() };
        let world = world("limits_time", limits).await;
        for (set, time, parts) in [
            ("", 3, ["longer than 3s", "raise query_timeout", "waits for what ClickHouse has up to epoch"]),
            (
                "SET statement_timeout = '1s';",
                1,
                ["longer than 1s", "statement_timeout was set; set it higher", "or ask for a partial answer"],
            ),
        ] {
            let (error, took) = beyond(&world, set, ENDLESS).await;
            says(&error, "query_time_exceeded", &parts);
            assert!((time..time + 10).contains(&took.as_secs()), "{took:?}");
        }
        // It ends in ClickHouse, too.
        let runs = format!(
            "SELECT count() FROM system.processes WHERE query LIKE '%CROSS JOIN%{}%' AND query NOT LIKE '%system.processes%'",
            world.clickhouse.database()
        );
        let began = Instant::now();
        loop {
            let answer = world.clickhouse.query_batches(&runs).await.unwrap();
            let count = arrow::util::display::array_value_to_string(answer[0].column(0), 0).unwrap();
            if count == "0" {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{count} still run");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Should ClickHouse's clock speak first, it is the same error.
        *world.weather.lock() = Weather::Hasty;
        let error = world.rows(ENDLESS).await.unwrap_err();
        says(&error, "query_time_exceeded", &["longer than 3s", "raise query_timeout"]);
    });
}
