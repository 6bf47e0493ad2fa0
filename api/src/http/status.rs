//! Status: where the program stands, whether it is alive, whether it is ready, and its own metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use serde::Serialize;
use streamgauge_sinks::AsideFile;
use utoipa::ToSchema;

use super::problem::Problem;
use super::{App, Ready, Running};

/// Where the program stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    /// The program's version.
    version: &'static str,
    /// The newest epoch: everything acknowledged up to it is visible.
    epoch: u64,
    /// Seconds since the program began to serve.
    uptime_s: u64,
    /// Events taken in since then, replayed ones included.
    events_total: u64,
    /// Events a second, over the last seconds.
    events_per_second: f64,
    /// Series known.
    series: u64,
    /// Timely workers.
    workers: u64,
    /// Bytes of events that ClickHouse does not have yet.
    pending_bytes: u64,
    /// Bytes that the rows of views take in memory, about.
    state_bytes: u64,
    /// Bytes of the log on disk.
    log_bytes: u64,
    /// Bytes of the bodies of open requests.
    inflight_bytes: u64,
    /// Requests that are open, without this one.
    open_requests: u64,
    /// Requests with a name that are known, so that a repeat of them is too.
    requests_known: u64,
    /// Resident memory of the program, without ClickHouse.
    memory_bytes: u64,
    /// The ClickHouse server.
    clickhouse: ClickHouseStatus,
    /// How far each item is flushed.
    flush: Vec<FlushState>,
    /// What ClickHouse refused and is missing from answers until it is restored; empty when all is well.
    aside: Vec<AsideState>,
}

/// The ClickHouse server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClickHouseStatus {
    /// `embedded`, `binary` or `server`.
    mode: String,
    /// Its version.
    version: String,
    /// Whether it answers.
    healthy: bool,
}

/// Rows that were set aside.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AsideState {
    /// The file that keeps them.
    file: String,
    /// The table that they belong to.
    table: String,
    /// How many there are.
    rows: u64,
    /// What ClickHouse said.
    reason: String,
}

/// How far an item is flushed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FlushState {
    /// `catalog`, `stream/…` or `view/…`.
    item: String,
    /// ClickHouse has everything up to this epoch.
    epoch: u64,
    /// How far that lies behind now.
    lag_ms: u64,
    /// Why the last attempt failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Where the program stands.
#[utoipa::path(get, path = "/api/v1/status", tag = "status", responses((status = 200, body = Status), (status = 503, body = Problem)))]
pub(crate) async fn status(Ready(running): Ready) -> Json<Status> {
    let engine = running.engine.status();
    let clickhouse = running.clickhouse_status();
    let flush = running.flush_states();
    let now = engine.epoch.0;
    Json(Status {
        aside: aside_states(&running),
        version: env!("CARGO_PKG_VERSION"),
        epoch: now,
        uptime_s: running.started.elapsed().as_secs(),
        events_total: engine.events_total,
        events_per_second: running.rate.per_second(engine.events_total),
        series: engine.series as u64,
        workers: engine.workers as u64,
        pending_bytes: engine.pending_bytes as u64,
        state_bytes: engine.state_bytes as u64,
        log_bytes: engine.log_bytes,
        inflight_bytes: running.bounds.inflight_bytes() as u64,
        open_requests: running.bounds.requests_open() as u64,
        requests_known: engine.requests_known as u64,
        memory_bytes: resident_bytes(),
        clickhouse: ClickHouseStatus { mode: clickhouse.0, version: clickhouse.1, healthy: clickhouse.2 },
        flush: flush
            .into_iter()
            .map(|(item, epoch, error)| FlushState {
                item,
                epoch: epoch.0,
                lag_ms: now.saturating_sub(epoch.0) / 1_000,
                error,
            })
            .collect(),
    })
}

fn aside_states(running: &Running) -> Vec<AsideState> {
    let state = |file: AsideFile| AsideState {
        file: file.path.display().to_string(),
        table: file.table,
        rows: file.rows,
        reason: file.reason,
    };
    running.health.aside().into_iter().map(state).collect()
}

/// What became of rows that were set aside.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RestoreAnswer {
    /// How many files were restored whole.
    restored: u64,
    /// What is still refused.
    aside: Vec<AsideState>,
}

/// Try now to restore what ClickHouse refused, such as after a table was mended.
#[utoipa::path(post, path = "/api/v1/aside/restore", tag = "status", responses((status = 200, body = RestoreAnswer), (status = 503, body = Problem)))]
pub(crate) async fn restore(Ready(running): Ready) -> Json<RestoreAnswer> {
    let task = running.clone();
    // To its end, also when nobody waits for the answer any more: a try that is given up leaves writes behind.
    let restored = tokio::spawn(async move { task.health.restore().await }).await;
    let restored = restored.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    Json(RestoreAnswer { restored: restored as u64, aside: aside_states(&running) })
}

/// Resident memory of this process, from the kernel; 0 where it does not say.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok()).map_or(0, |pages| pages * 4096)
}

/// Whether the process is alive.
#[utoipa::path(get, path = "/healthz", tag = "status", responses((status = 200, body = String)))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether it can serve.
#[utoipa::path(get, path = "/readyz", tag = "status", responses((status = 200, body = String), (status = 503, body = Problem)))]
pub(crate) async fn readyz(Ready(_running): Ready) -> &'static str {
    "ready\n"
}

/// The program's own metrics, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "status", responses((status = 200, body = String)))]
pub(crate) async fn prometheus(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], app.prometheus.render())
}
