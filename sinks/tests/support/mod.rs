//! The real embedded ClickHouse for tests: one for each test program, with a database for each test.

#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod source;

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Once};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt64Type};
use streamgauge_schemas::event::BatchSeries;
use streamgauge_schemas::view::built_in_rollups;
use streamgauge_schemas::{Epoch, EventBatch, EventTime, Key, MetricsBatch, Series, SeriesId, State, View};
use streamgauge_sinks::server::cached_library;
use streamgauge_sinks::{Aside, ClickHouse, Server, ServerConfig, ServerMode};
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Runs a test on the runtime that all tests of the program share, so that the server outlives each of them.
///
/// `RUST_LOG=debug` shows what happens.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init(); // once a program
    RUNTIME.block_on(test)
}

/// The library, fetched if it is not there yet.
pub(crate) fn library() -> PathBuf {
    static FETCH: Once = Once::new();
    let library = cached_library().expect("a cache folder");
    FETCH.call_once(|| {
        if !library.exists() {
            let script = PathBuf::from("../scripts/fetch-clickhouse");
            assert!(Command::new(script).status().unwrap().success(), "fetch-clickhouse failed");
        }
    });
    library
}

/// An empty folder of that name for this test program.
pub(crate) fn folder(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let program = program.file_stem().unwrap().to_string_lossy().into_owned();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

pub(crate) fn config(data_dir: &Path) -> ServerConfig {
    ServerConfig {
        mode: ServerMode::Embedded { library: library() },
        memory_bytes_max: 2 << 30,
        child_program: Some(env!("CARGO_BIN_EXE_streamgauge-clickhouse-child").into()),
        ..ServerConfig::new(data_dir)
    }
}

/// A migrated database of that name on the server that the tests of the program share.
pub(crate) async fn database(name: &str) -> ClickHouse {
    static SERVER: tokio::sync::OnceCell<Server> = tokio::sync::OnceCell::const_new();
    let server = SERVER.get_or_init(async || Server::start(config(&folder("shared"))).await.unwrap()).await;
    let clickhouse = server.clickhouse().with_database(name);
    streamgauge_sinks::migrations::migrate(&clickhouse).await.unwrap();
    clickhouse
}

/// A folder of its own for rows that are set aside, of a database of that name.
pub(crate) fn aside(database: &str) -> Arc<Aside> {
    Arc::new(Aside::open(folder(&format!("aside-{database}")).join("aside"), database).unwrap())
}

/// The answer of a query as text: values separated by a space, rows by a newline.
pub(crate) async fn ask(clickhouse: &ClickHouse, sql: &str) -> String {
    let mut lines = Vec::new();
    for batch in clickhouse.query_batches(sql).await.unwrap() {
        let columns: Vec<_> = batch.columns().iter().map(|column| cast(column, &DataType::Utf8).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let value = |column: &Arc<dyn Array>| {
                let column = column.as_string::<i32>();
                if column.is_null(row) { "NULL".to_owned() } else { column.value(row).to_owned() }
            };
            lines.push(columns.iter().map(value).collect::<Vec<_>>().join(" "));
        }
    }
    lines.join("\n")
}

/// Waits until `condition` holds, for at most `bound`.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, bound: Duration, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + bound;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {bound:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An epoch `at` microseconds after one that ClickHouse's retention keeps.
pub(crate) fn epoch(at: u64) -> Epoch {
    static START: LazyLock<u64> = LazyLock::new(|| streamgauge_schemas::time::wall_clock().0 as u64 - 60_000_000);
    Epoch(*START + at)
}

/// A batch of `len` events over `series_count` series with two dimensions.
pub(crate) fn metrics(len: usize, series_count: u32) -> EventBatch {
    let series = (0..series_count).map(|at| {
        let dimensions = [("host", format!("host-{}", at % 10)), ("region", format!("eu-{}", at % 3))];
        let series = Arc::new(Series::new(format!("metric_{}", at / 10), dimensions));
        BatchSeries { id: series.id(), series, source: "test".into() }
    });
    EventBatch::Metrics(Arc::new(MetricsBatch {
        series: series.collect(),
        series_index: (0..len as u32).map(|at| at % series_count).collect(),
        ts: (0..len as i64).map(|at| EventTime(1_714_521_600_000_000 + at * 3_600)).collect(),
        value: (0..len).map(|at| at as f64 / 4.0).collect(),
    }))
}

/// The finest built-in rollup.
pub(crate) fn second() -> Arc<View> {
    built_in_rollups().remove(0)
}

/// A state of a built-in rollup.
pub(crate) fn state(count: u64, sum: f64, min: f64, max: f64) -> State {
    let floats = [sum, min, max].map(|value| Arc::new(Float64Array::from(vec![value])) as ArrayRef);
    let columns: Vec<ArrayRef> =
        [Arc::new(UInt64Array::from(vec![count])) as ArrayRef].into_iter().chain(floats).collect();
    second().layout().read(&columns).unwrap().remove(0)
}

/// How many events the states of a built-in rollup count.
pub(crate) fn counts(states: &[State]) -> Vec<u64> {
    second().layout().write(states.iter())[0].as_primitive::<UInt64Type>().values().to_vec()
}

/// The dimensions of groups that are series.
pub(crate) fn keys(series: impl IntoIterator<Item = Arc<Series>>) -> HashMap<SeriesId, Key> {
    series.into_iter().map(|series| (series.id(), Key::Series(series))).collect()
}
