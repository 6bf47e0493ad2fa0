//! `streamgauge serve`: starts everything in order, and stops it in the opposite one.
//!
//! ```text
//!  data folder locked ─▶ HTTP, pg and Flight listen ("starting") ─▶ ClickHouse ─▶ migrations ─▶ recovery ─▶ engine replays
//!     ─▶ flusher ─▶ ready ─▶ … ─▶ signal ─▶ HTTP ends ─▶ last flush ─▶ engine ─▶ ClickHouse
//! ```

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::serve::ListenerExt;
use futures::FutureExt;
use futures::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusBuilder;
use streamgauge_engine::decode::DecodeLimits;
use streamgauge_engine::{Engine, EngineConfig};
use streamgauge_queries::{BackfillProgress, QueryEngine, QueryLimits, ViewPlanner};
use streamgauge_schemas::fault::journal::{self, Step};
use streamgauge_schemas::view::built_in_rollups;
use streamgauge_schemas::{Epoch, fault, time};
use streamgauge_sinks::{
    Aside, AsideFile, FlushStatus, Flusher, RequestWindow, Server, ServerConfig, ServerMode, ServerState, SinkError,
    backfill, migrations,
};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::backfill::Backfilling;
use crate::config::{Config, PgAddress, ServeArgs};
use crate::flight;
use crate::flush_source::EngineFlushes;
use crate::history::ClickHouseHistory;
use crate::http::{self, App, Bounds, Decoders, Health, Hosts, Running};
use crate::postgres;
use crate::rate::Rate;
use crate::restart;
use crate::system::{Observed, flushed};

/// Where tests say which faults they want.
const FAULTS: &str = "STREAMGAUGE_FAULTS";
/// Where tests say in which file they want to read what was asked of the disk.
const JOURNAL: &str = "STREAMGAUGE_FAULTS_JOURNAL";

/// Runs the server until it is told to stop.
pub(crate) fn run(args: ServeArgs) -> anyhow::Result<()> {
    let config = args.resolve()?;
    crate::logging::start(&config)?;
    let faults = std::env::var(FAULTS).unwrap_or_default();
    fault::arm(&faults).map_err(|reason| anyhow::anyhow!("{FAULTS}: {reason}"))?;
    if let Some(journal) = std::env::var_os(JOURNAL) {
        journal::start(Path::new(&journal)).with_context(|| format!("{JOURNAL}: {}", journal.display()))?;
    }
    let runtime = Builder::new_multi_thread().enable_all().build().context("no threads for the server")?;
    // Whoever asks must not wait while rows are sent to ClickHouse, or a view is back-filled; and flushes should not wait for a back-fill.
    let flushing = Builder::new_multi_thread().worker_threads(2).thread_name("flush").enable_all().build();
    let flushing = flushing.context("no threads for flushes")?;
    runtime.block_on(serve(config, flushing.handle().clone()))
}

async fn serve(config: Config, flushing: Handle) -> anyhow::Result<()> {
    let _lock = lock(&config.data_dir)?;
    let prometheus = PrometheusBuilder::new().install_recorder().context("the metrics could not be set up")?;
    let app = App::new(prometheus.clone());
    let stopping = CancellationToken::new();
    watch_signals(stopping.clone())?;
    let (address, listener) = listen(&config).await?;
    let postgres = listen_postgres(&config, &app, stopping.clone()).await?.map(|server| tokio::spawn(server.run()));
    let flight = listen_flight(&config, &app, stopping.clone()).await?.map(|server| tokio::spawn(server.run()));
    let server = {
        let hosts = Hosts::of(address, &config.http_hosts);
        let router = http::router(app.clone(), hosts).into_make_service_with_connect_info::<SocketAddr>();
        // Answers come in pieces, and would wait for each other; slower without, and not wrong.
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        let stopping = stopping.clone();
        tokio::spawn(
            async move { axum::serve(listener, router).with_graceful_shutdown(stopping.cancelled_owned()).await },
        )
    };
    let upkeep = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            prometheus.run_upkeep();
        }
    });
    let parts = tokio::select! {
        parts = start(&config, &app, &flushing, stopping.clone()) => parts?,
        () = stopping.cancelled() => anyhow::bail!("stopped before the start was finished"),
    };
    tracing::info!("ready: open http://{address}/ ; API at http://{address}/docs");
    stopping.cancelled().await;
    for protocol in [postgres, flight].into_iter().flatten() {
        let _ = protocol.await; // it ends within a time of its own
    }
    stop(&config, parts, server).await;
    upkeep.abort();
    Ok(())
}

/// Makes a folder and what is missing above it, durably: what is acknowledged must not vanish with the folder's name.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    missing.iter().rev().for_each(|path| journal::note(Step::Make { path }));
    std::fs::create_dir_all(folder)?;
    let sync = |path: &Path| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
        journal::note(Step::FolderSynced { path: parent });
        Ok(())
    };
    if missing.is_empty() {
        // Of an earlier start that died before this, or of somebody whose folder above we need not be able to read.
        return sync(folder).or_else(|error: std::io::Error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => Ok(()),
            _ => Err(error),
        });
    }
    missing.into_iter().try_for_each(sync)
}

/// One program a data folder.
fn lock(data_dir: &Path) -> anyhow::Result<File> {
    make_folder(data_dir).with_context(|| format!("the data folder {} cannot be made", data_dir.display()))?;
    let path = data_dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("the data folder {} cannot be written", data_dir.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!(
                "the data folder {} is in use by another streamgauge; stop it, or choose another --data-dir",
                data_dir.display()
            )
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{} cannot be locked", path.display())),
    }
}

async fn listen(config: &Config) -> anyhow::Result<(SocketAddr, TcpListener)> {
    let listener = TcpListener::bind(config.http).await.with_context(|| {
        format!("cannot listen on {}; is another program using the port? choose one with --http", config.http)
    })?;
    let address = listener.local_addr()?;
    let file = config.data_dir.join("http.address");
    std::fs::write(&file, format!("{address}\n")).with_context(|| format!("{} cannot be written", file.display()))?;
    Ok((address, listener))
}

/// Listens for clients of PostgreSQL, unless that is off.
async fn listen_postgres(
    config: &Config,
    app: &Arc<App>,
    stopping: CancellationToken,
) -> anyhow::Result<Option<postgres::Server>> {
    let file = config.data_dir.join("pg.address");
    let PgAddress::At(address) = config.pg else {
        let _ = std::fs::remove_file(file); // of an earlier start, if there is one
        return Ok(None);
    };
    let secret = config.pg_password.as_deref().map(postgres::Secret::of).transpose()?;
    let identity = match (&config.pg_tls_cert, &config.pg_tls_key) {
        (Some(certificate), Some(key)) => Some(postgres::Identity::read(certificate, key)?),
        _ => None,
    };
    let connections_max = config.pg_connections_max;
    let server = postgres::Server::listen(address, app.clone(), secret, identity, connections_max, stopping).await?;
    let address = server.address()?;
    std::fs::write(&file, format!("{address}\n")).with_context(|| format!("{} cannot be written", file.display()))?;
    tracing::info!("clients of PostgreSQL: psql -h {} -p {}", address.ip(), address.port());
    Ok(Some(server))
}

/// Listens for clients of Flight SQL, unless that is off.
async fn listen_flight(
    config: &Config,
    app: &Arc<App>,
    stopping: CancellationToken,
) -> anyhow::Result<Option<flight::Server>> {
    let file = config.data_dir.join("flight.address");
    let PgAddress::At(address) = config.flight else {
        let _ = std::fs::remove_file(file); // of an earlier start, if there is one
        return Ok(None);
    };
    let identity = match (&config.flight_tls_cert, &config.flight_tls_key) {
        (Some(certificate), Some(key)) => Some(flight::Identity::read(certificate, key)?),
        _ => None,
    };
    let scheme = if identity.is_some() { "grpc+tls" } else { "grpc" };
    let access = flight::Access::new(config.flight_password.as_deref())?;
    let settings = flight::Settings { access, identity, connections_max: config.flight_connections_max };
    let server = flight::Server::listen(address, app.clone(), settings, stopping).await?;
    let address = server.address()?;
    std::fs::write(&file, format!("{address}\n")).with_context(|| format!("{} cannot be written", file.display()))?;
    tracing::info!("clients of Arrow Flight SQL: {scheme}://{address}");
    if scheme == "grpc" && !address.ip().is_loopback() {
        tracing::warn!("flight = {address}: without TLS the password and the answers can be read on the way");
    }
    Ok(Some(server))
}

/// The first signal stops gracefully, the second at once.
fn watch_signals(stopping: CancellationToken) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if first {
                tracing::info!(
                    "stopping: flushing to ClickHouse; a second signal ends at once, and loses nothing that was acknowledged"
                );
                stopping.cancel();
            } else {
                std::process::exit(130);
            }
        }
    });
    Ok(())
}

/// How long the start waits before it asks ClickHouse again.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// About how many bytes a row of a view takes in memory.
const ROW_BYTES: usize = 250;

/// What runs, and is stopped in this order.
struct Parts {
    flusher: Arc<Flusher>,
    clickhouse: Server,
    ticker: tokio::task::JoinHandle<()>,
    backfiller: tokio::task::JoinHandle<()>,
}

async fn start(
    config: &Config,
    app: &Arc<App>,
    flushing: &Handle,
    stopping: CancellationToken,
) -> anyhow::Result<Parts> {
    app.starting("starting ClickHouse");
    let clickhouse = patiently(app, || Server::start(server_config(config))).await?;
    app.starting(format!("ClickHouse ({}) answers; bringing its schema up to date", clickhouse.mode()));
    let client = clickhouse.clickhouse().clone();
    patiently(app, || migrations::migrate(&client)).await?;
    let mut engine_config = EngineConfig::new(config.data_dir.join("log"));
    engine_config.workers = config.workers;
    engine_config.planner = Some(Arc::new(ViewPlanner::new()));
    engine_config.log_sync = config.log_sync;
    engine_config.log_segment_bytes_max = config.log_segment_bytes_max;
    engine_config.pending_bytes_max = config.pending_bytes_max;
    engine_config.series_max = config.series_max;
    engine_config.state_bytes_max = config.state_bytes_max;
    engine_config.recent_bytes_max = config.recent_bytes_max;
    engine_config.log_bytes_max = config.log_bytes_max;
    engine_config.idempotency_window = config.idempotency_window;
    engine_config.idempotency_keys_max = config.idempotency_keys_max;
    app.starting("reading from ClickHouse what memory must hold");
    let aside = Arc::new(Aside::open(config.data_dir.join("aside"), client.database())?);
    let window = RequestWindow {
        from: Epoch(time::wall_clock().0.max(0) as u64).minus(config.idempotency_window.as_micros() as u64),
        keys_max: config.idempotency_keys_max,
        bytes_max: streamgauge_engine::requests::BYTES_MAX,
    };
    let recent_rows_max = config.recent_bytes_max / ROW_BYTES;
    let recover = || streamgauge_sinks::recover(&client, window.clone(), recent_rows_max, &aside);
    let found = patiently(app, recover).await?;
    let flushed = found.flushed.clone();
    let mut recovered = restart::recovered(found)?;
    if let Some(coarsest) = built_in_rollups().last() {
        recovered.series.extend(patiently(app, || restart::known_series(&client, coarsest)).await?);
        recovered.series_are_all = !aside.had_any();
    }
    app.starting("replaying the log");
    let engine = tokio::task::spawn_blocking(move || Engine::open(&engine_config, recovered))
        .await?
        .context("the engine did not start")?;
    restart::restore_last_values(&client, &engine).await;
    let boot = Epoch(time::wall_clock().0.max(0) as u64);
    let flusher = {
        let _there = flushing.enter();
        let source = Arc::new(EngineFlushes::new(engine.clone()));
        Arc::new(Flusher::start(client.clone(), source, boot, &flushed, aside.clone()))
    };
    let backfilling_clickhouse = client.clone();
    let limits = QueryLimits {
        time_max: config.query_timeout.into(),
        json_rows_max: config.rows_max,
        memory_bytes_max: config.query_memory_bytes_max,
        user_memory_bytes_max: config.user_query_memory_bytes_max(),
        rows_max: config.query_rows_max,
        cache_bytes_max: config.cache_bytes_max,
        concurrent_max: config.queries_max,
        user_concurrent_max: config.user_queries_max(),
        ..QueryLimits::default()
    };
    let observed = Observed { engine: engine.clone(), flusher: flusher.clone(), settings: config.settings.clone() };
    let queries = QueryEngine::new(engine.clone(), Arc::new(ClickHouseHistory::new(client, aside)), limits)?;
    let running = Arc::new(Running {
        queries: Arc::new(queries.with_program(Arc::new(observed))),
        decode_limits: DecodeLimits { skew: config.skew_max, ..DecodeLimits::at(time::wall_clock()) },
        body_bytes_max: config.body_bytes_max,
        decoders: Decoders::start().context("no threads for decoding")?,
        bounds: Arc::new(Bounds::new(config.requests_max, config.inflight_bytes_max)),
        started: Instant::now(),
        rate: Rate::new(engine.status().events_total),
        stopping,
        health: Box::new(ProgramHealth {
            mode: clickhouse.mode(),
            state: clickhouse.state(),
            flusher: flusher.clone(),
            engine: engine.clone(),
        }),
        engine,
    });
    let backfilling = Backfilling {
        engine: running.engine.clone(),
        clickhouse: backfilling_clickhouse,
        flusher: flusher.clone(),
        backfills: running.queries.backfills().clone(),
        planner: ViewPlanner::new(),
        step_events: config.backfill_step_events,
    };
    for view in running.engine.catalog().own_views() {
        let upto = flushed.get(&backfill::item(view)).copied().unwrap_or_default();
        if view.is_filled(upto) {
            backfilling.backfills.set(view.id, BackfillProgress { upto, ..BackfillProgress::default() });
        }
    }
    app.ready(running.clone());
    let backfiller = flushing.spawn(backfilling.run());
    let ticker = tokio::spawn(tick(running));
    Ok(Parts { flusher, clickhouse, ticker, backfiller })
}

/// Tries a step of the start until it succeeds, or fails in a way that waiting does not mend.
async fn patiently<T, F: Future<Output = Result<T, SinkError>>>(
    app: &App,
    mut attempt: impl FnMut() -> F,
) -> Result<T, SinkError> {
    let mut pause = PAUSE_FIRST;
    loop {
        match attempt().await {
            Err(error) if error.is_retryable() => app.starting(format!("waiting for ClickHouse: {error}")),
            ended => return ended,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn server_config(config: &Config) -> ServerConfig {
    let mode = if let Some(url) = &config.clickhouse_url {
        ServerMode::Url {
            url: url.clone(),
            user: config.clickhouse_user.clone(),
            password: config.clickhouse_password.clone(),
        }
    } else if let Some(library) = &config.clickhouse_library {
        ServerMode::Embedded { library: library.clone() }
    } else if let Some(path) = &config.clickhouse_binary {
        ServerMode::Binary { path: path.clone() }
    } else {
        ServerMode::Auto
    };
    let mut server = ServerConfig::new(&config.data_dir);
    server.mode = mode;
    server.database = config.clickhouse_database.clone();
    server.port = config.clickhouse_port;
    server.memory_bytes_max = config.clickhouse_memory_bytes_max;
    server
}

/// Notes the number of events each second, for the rate that the status tells.
async fn tick(running: Arc<Running>) {
    loop {
        let status = running.engine.status();
        running.rate.note(status.events_total);
        metrics::gauge!("streamgauge_pending_bytes").set(status.pending_bytes as f64);
        metrics::gauge!("streamgauge_state_bytes").set(status.state_bytes as f64);
        metrics::gauge!("streamgauge_inflight_bytes").set(running.bounds.inflight_bytes() as f64);
        metrics::gauge!("streamgauge_open_requests").set(running.bounds.requests_open() as f64);
        metrics::gauge!("streamgauge_requests_known").set(status.requests_known as f64);
        metrics::gauge!("streamgauge_series").set(status.series as f64);
        metrics::gauge!("streamgauge_epoch").set(status.epoch.0 as f64);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Connections that do not end are not waited for longer than this.
const CONNECTIONS_TIMEOUT: Duration = Duration::from_secs(5);

async fn stop(config: &Config, parts: Parts, server: tokio::task::JoinHandle<std::io::Result<()>>) {
    let server_abort = server.abort_handle();
    if tokio::time::timeout(CONNECTIONS_TIMEOUT, server).await.is_err() {
        server_abort.abort();
    }
    parts.ticker.abort();
    parts.backfiller.abort();
    if !parts.flusher.flush_now_and_stop(config.stop_timeout.into()).await {
        tracing::warn!(
            "not everything was flushed in time; the log has the rest, and the next start goes on from there"
        );
    }
    parts.clickhouse.stop().await;
    tracing::info!("stopped");
}

struct ProgramHealth {
    mode: &'static str,
    state: tokio::sync::watch::Receiver<ServerState>,
    flusher: Arc<Flusher>,
    engine: Engine,
}

impl Health for ProgramHealth {
    fn clickhouse(&self) -> (String, String, bool) {
        match &*self.state.borrow() {
            ServerState::Ready { version, .. } => (self.mode.into(), version.clone(), true),
            ServerState::Starting | ServerState::Down { .. } => (self.mode.into(), String::new(), false),
        }
    }

    fn aside(&self) -> Vec<AsideFile> {
        self.flusher.aside()
    }

    fn restore(&self) -> BoxFuture<'_, usize> {
        self.flusher.restore().boxed()
    }

    fn flushes(&self) -> Vec<(String, Epoch, Option<String>)> {
        let state = |(status, epoch): (FlushStatus, Epoch)| (status.item, epoch, status.last_error);
        flushed(&self.engine, &self.flusher).into_iter().map(state).collect()
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_data_folder_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        journal::start(&path).unwrap();
        for start in ["the first", "a later"] {
            let before = std::fs::read_to_string(&path).unwrap().len();
            make_folder(&dir.path().join("a/b")).unwrap();
            let asked = std::fs::read_to_string(&path).unwrap()[before..].to_owned();
            let synced = |folder: &Path| asked.contains(&format!("folder-synced\t{}\n", folder.display()));
            assert!(synced(&dir.path().join("a")), "at {start} start: {asked}");
            assert_eq!(synced(dir.path()), start == "the first", "{asked}");
        }
    }
}
