//! A running engine beside the real ClickHouse, with a clock and flushes in the test's hands.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Once};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use streamgauge_engine::{Engine, EngineConfig, Recovered};
use streamgauge_queries::history::HistoryStream;
use streamgauge_queries::{
    AskOptions, ExternalTable, Format, History, HistoryError, QueryEngine, QueryError, QueryLimits, ViewPlanner,
};
use streamgauge_schemas::event::BatchSeries;
use streamgauge_schemas::{Epoch, EventBatch, EventTime, MetricsBatch, Series, StreamId};
use streamgauge_sinks::raw::RawFlush;
use streamgauge_sinks::server::cached_library;
use streamgauge_sinks::{ClickHouse, SentTable, Server, ServerConfig, ServerMode, SinkError, StreamTable};
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Runs a test on the runtime that all tests of the program share, so that the server outlives each of them.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    RUNTIME.block_on(test)
}

/// Runs a script or a cargo command of the project, once.
fn prepare(once: &'static Once, what: &Path, command: impl FnOnce() -> Command) {
    once.call_once(|| {
        if !what.exists() {
            assert!(command().status().unwrap().success(), "{} could not be made", what.display());
        }
    });
}

fn library() -> PathBuf {
    static FETCH: Once = Once::new();
    let library = cached_library().expect("a cache folder");
    prepare(&FETCH, &library, || Command::new("../scripts/fetch-clickhouse"));
    library
}

/// The program of the sinks that runs the library; cargo makes it for their own tests only.
fn child_program() -> PathBuf {
    static BUILD: Once = Once::new();
    let deps = std::env::current_exe().unwrap();
    let program = deps.parent().unwrap().with_file_name("streamgauge-clickhouse-child");
    prepare(&BUILD, &program, || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "-p", "streamgauge-sinks", "--bin", "streamgauge-clickhouse-child"]);
        cargo.arg("--target-dir").arg(program.parent().unwrap().parent().unwrap());
        cargo
    });
    program
}

async fn database(name: &str) -> ClickHouse {
    static SERVER: tokio::sync::OnceCell<Server> = tokio::sync::OnceCell::const_new();
    let start = async || {
        let program = std::env::current_exe().unwrap().file_stem().unwrap().to_owned();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let config = ServerConfig {
            mode: ServerMode::Embedded { library: library() },
            memory_bytes_max: 2 << 30,
            child_program: Some(child_program()),
            ..ServerConfig::new(folder)
        };
        Server::start(config).await.unwrap()
    };
    let clickhouse = SERVER.get_or_init(start).await.clickhouse().with_database(name);
    streamgauge_sinks::migrations::migrate(&clickhouse).await.unwrap();
    clickhouse
}

/// How ClickHouse does, as queries meet it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Weather {
    /// It answers.
    #[default]
    Fine,
    /// It refuses every connection.
    Away,
    /// It takes connections, and never answers.
    Hanging,
    /// It answers, and refuses to read.
    Overloaded,
    /// It reads, and all of its memory is full.
    Cramped,
    /// It reads, and a query may take next to no memory.
    Narrow,
    /// It reads, and a query may take next to no time.
    Hasty,
    /// It reads next to nothing for statements with unions, or with sums over a view.
    Simple,
    /// It breaks off answers after 200,000 rows.
    Breaking,
}

struct OverClickHouse {
    clickhouse: ClickHouse,
    asked: Arc<Mutex<Vec<String>>>,
    weather: Arc<Mutex<Weather>>,
}

impl OverClickHouse {
    /// The statement, with the settings by which ClickHouse does as the weather is.
    fn set(&self, sql: &str) -> String {
        match *self.weather.lock() {
            Weather::Cramped | Weather::Narrow => format!("{sql}, max_memory_usage = 1, max_untracked_memory = 1"),
            Weather::Hasty => format!("{sql}, max_execution_time = 0.2"),
            Weather::Simple if sql.contains("UNION ALL") || sql.contains(" AS _0") => {
                format!("{sql}, max_rows_to_read = 1")
            }
            Weather::Breaking => format!("{sql}, max_block_size = 5000, max_result_rows = 200000"),
            _ => sql.to_owned(),
        }
    }

    /// What an error means, as the weather is.
    fn fail(&self) -> impl Fn(SinkError) -> HistoryError + Send + Sync + 'static {
        let weather = *self.weather.lock();
        move |error| history_error(error, weather)
    }

    /// Fails, or waits, as the weather is.
    async fn meet(&self, reads: bool) -> Result<(), HistoryError> {
        let weather = *self.weather.lock();
        match weather {
            Weather::Away => Err(HistoryError::retryable("connection refused")),
            Weather::Hanging if reads => std::future::pending().await,
            Weather::Hanging => Err(HistoryError::retryable("no answer in time")),
            Weather::Overloaded if reads => Err(HistoryError::retryable("too many queries")),
            _ => Ok(()),
        }
    }
}

fn history_error(error: SinkError, weather: Weather) -> HistoryError {
    match error.is_retryable() {
        // Its settings make it fail as if it were for the query.
        _ if error.exceeds_query_memory() && weather == Weather::Cramped => HistoryError::retryable(error),
        _ if error.is_unknown_table() => HistoryError::table_missing(error),
        _ if error.is_timed_out() => HistoryError::timed_out(error),
        _ if error.exceeds_query_memory() => HistoryError::beyond_memory(error),
        true => HistoryError::retryable(error),
        false => HistoryError::lasting(error),
    }
}

#[async_trait]
impl History for OverClickHouse {
    async fn query(&self, sql: &str) -> Result<HistoryStream, HistoryError> {
        self.asked.lock().push(sql.to_owned());
        self.meet(true).await?;
        let batches = self.clickhouse.query_arrow(&self.set(sql)).await.map_err(self.fail())?;
        Ok(batches.map_err(self.fail()).boxed())
    }

    async fn query_with(&self, sql: &str, tables: Vec<ExternalTable>) -> Result<HistoryStream, HistoryError> {
        self.asked.lock().push(sql.to_owned());
        self.meet(true).await?;
        let sent = |ExternalTable { name, structure, batches }| SentTable { name, structure, batches };
        let tables: Vec<SentTable> = tables.into_iter().map(sent).collect();
        let batches = self.clickhouse.query_arrow_with(&self.set(sql), &tables).await.map_err(self.fail())?;
        Ok(batches.map_err(self.fail()).boxed())
    }

    async fn available(&self) -> Result<(), HistoryError> {
        self.meet(false).await
    }

    fn database(&self) -> &str {
        self.clickhouse.database()
    }
}

/// An event of a test.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: &'static str,
    pub(crate) dimensions: Vec<(&'static str, &'static str)>,
    pub(crate) ts: EventTime,
    pub(crate) value: f64,
}

pub(crate) fn batch(events: &[Event]) -> EventBatch {
    let mut batch = MetricsBatch::default();
    for event in events {
        let series = Arc::new(Series::new(event.name, event.dimensions.clone()));
        let id = series.id();
        let index = batch.series.iter().position(|entry| entry.id == id).unwrap_or_else(|| {
            batch.series.push(BatchSeries { id, series, source: "test".into() });
            batch.series.len() - 1
        });
        batch.series_index.push(index as u32);
        batch.ts.push(event.ts);
        batch.value.push(event.value);
    }
    EventBatch::Metrics(Arc::new(batch))
}

/// See the module.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) queries: QueryEngine,
    pub(crate) clickhouse: ClickHouse,
    /// What ClickHouse was asked.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    /// How ClickHouse does; flushes go on whatever it is.
    pub(crate) weather: Arc<Mutex<Weather>>,
    clock: Arc<AtomicU64>,
    _log: tempfile::TempDir,
}

impl World {
    /// An empty world whose tables are in a database of that name.
    pub(crate) async fn new(name: &str) -> Self {
        World::with(name, QueryLimits::default(), 1).await
    }

    pub(crate) async fn with(name: &str, limits: QueryLimits, workers: usize) -> Self {
        let log = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(streamgauge_schemas::time::wall_clock().0 as u64 - 86_400_000_000));
        let now = clock.clone();
        let config = EngineConfig {
            log_sync: false,
            workers,
            clock: Arc::new(move || now.fetch_add(1, Ordering::SeqCst)),
            planner: Some(Arc::new(ViewPlanner::new())),
            ..EngineConfig::new(log.path())
        };
        let engine = Engine::open(&config, Recovered { series_are_all: true, ..Recovered::default() }).unwrap();
        let clickhouse = database(name).await;
        let (asked, weather) = <(Arc<Mutex<Vec<String>>>, Arc<Mutex<Weather>>)>::default();
        let history = OverClickHouse { clickhouse: clickhouse.clone(), asked: asked.clone(), weather: weather.clone() };
        let history = Arc::new(history);
        let queries = QueryEngine::new(engine.clone(), history, limits).unwrap();
        // Worlds share connections to ClickHouse, and one ends with the threads that opened it.
        std::mem::forget(queries.clone());
        World { engine, queries, clickhouse, asked, weather, clock, _log: log }
    }

    pub(crate) async fn append(&self, events: &[Event]) -> Epoch {
        self.engine.append(batch(events)).await.unwrap()
    }

    /// Lets time go by, until the engine has seen it.
    pub(crate) async fn advance(&self, secs: u64) {
        let now = self.clock.fetch_add(secs * 1_000_000, Ordering::SeqCst) + secs * 1_000_000;
        while self.engine.status().epoch < Epoch(now) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Writes everything that changed to ClickHouse.
    pub(crate) async fn flush(&self) {
        if let Some(flush) = self.engine.begin_catalog_flush() {
            streamgauge_sinks::catalog::apply_changes(&self.clickhouse, &flush.changes).await.unwrap();
            self.engine.confirm_catalog_flush(flush.upto);
        }
        let streams = self.engine.catalog().streams.clone();
        let tables = streams.into_iter().map(StreamTable::User).chain([StreamTable::Metrics]);
        for table in tables {
            let id = match &table {
                StreamTable::Metrics => StreamId::METRICS,
                StreamTable::User(stream) => stream.id,
            };
            if let Some(flush) = self.engine.begin_stream_flush(id) {
                let token = format!("test/{}/{}/{}", id.0, flush.after, flush.upto);
                RawFlush::new(table, flush.batches, token).write(&self.clickhouse).await.unwrap();
                self.engine.confirm_stream_flush(id, flush.upto);
            }
        }
        for view in self.engine.views() {
            if let Some(flush) = self.engine.begin_view_flush(view.id).await.unwrap() {
                let (rows, keys) = (Arc::new(flush.rows), Arc::new(flush.keys));
                streamgauge_sinks::states::write_states(&self.clickhouse, &view, &rows, &keys).await.unwrap();
                self.engine.confirm_view_flush(view.id, flush.upto);
            }
        }
    }

    /// Writes everything to ClickHouse, and forgets it: every row is at or below the horizon.
    pub(crate) async fn bury(&self) {
        self.advance(700).await;
        self.flush().await;
        self.flush().await;
    }

    pub(crate) async fn answer(&self, sql: &str, format: Format) -> Result<String, QueryError> {
        self.answer_as(sql, format, AskOptions::default()).await
    }

    pub(crate) async fn answer_as(&self, sql: &str, format: Format, options: AskOptions) -> Result<String, QueryError> {
        let answer = self.queries.sql(sql, options).await?;
        let body = streamgauge_queries::format::body(answer, format, std::time::Instant::now()).await?;
        let parts: Vec<_> = body.try_collect().await?;
        Ok(String::from_utf8(parts.concat()).unwrap())
    }

    /// The rows of an answer in CSV, sorted.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<String>, QueryError> {
        let csv = self.answer(sql, Format::Csv).await?;
        let mut rows: Vec<String> = csv.lines().skip(1).map(str::to_owned).collect();
        rows.sort();
        Ok(rows)
    }
}
