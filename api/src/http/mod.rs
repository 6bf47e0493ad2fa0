//! The HTTP interface. A handler keeps its request, its work and its answer together, in the file of its subject.
//!
//! # Layout
//!
//! - `origin`: which pages may ask; `asker`: who asks; `body`: request bodies; `bounds`: on open requests and on the bytes of bodies; `decoders`: threads; `problem`: errors.
//! - `ingest`, `streams`, `sql`, `metrics`, `live`: the interface, in the order of the path of the data.
//! - `status`: health, readiness, the program's own metrics.
//! - `page`: the web page; `openapi`: the description of all this.

pub(crate) mod asker;
mod body;
mod bounds;
mod decoders;
mod ingest;
mod live;
mod metrics;
pub(crate) mod openapi;
mod origin;
mod page;
pub(crate) mod problem;
mod sql;
mod status;
mod streams;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use futures::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use streamgauge_engine::Engine;
use streamgauge_engine::decode::DecodeLimits;
use streamgauge_queries::{Format, QueryEngine};
use streamgauge_schemas::Epoch;
use streamgauge_sinks::AsideFile;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::decompression::RequestDecompressionLayer;
use utoipa::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

use crate::rate::Rate;
pub(crate) use bounds::Bounds;
pub(crate) use decoders::Decoders;
pub(crate) use origin::{Hosts, host_name};
use problem::Problem;
pub(crate) use sql::{EPOCH_HEADER, PARTIAL_HEADER, min_epoch, missing, note as note_partial};

/// The program as HTTP sees it: what is there from the first moment.
pub(crate) struct App {
    running: OnceLock<Arc<Running>>,
    /// What the start is waiting for.
    starting: Mutex<String>,
    prometheus: PrometheusHandle,
}

/// The program once it can serve.
pub(crate) struct Running {
    pub(crate) engine: Engine,
    pub(crate) queries: Arc<QueryEngine>,
    pub(crate) decode_limits: DecodeLimits,
    pub(crate) body_bytes_max: usize,
    pub(crate) bounds: Arc<Bounds>,
    pub(crate) decoders: Decoders,
    pub(crate) started: Instant,
    pub(crate) rate: Rate,
    pub(crate) stopping: CancellationToken,
    pub(crate) health: Box<dyn Health>,
}

/// What the status tells of ClickHouse and the flushes.
pub(crate) trait Health: Send + Sync {
    /// Mode, version, and whether it answers.
    fn clickhouse(&self) -> (String, String, bool);
    /// Item, flushed epoch, last error.
    fn flushes(&self) -> Vec<(String, Epoch, Option<String>)>;
    /// What ClickHouse refused and is missing from answers, oldest first.
    fn aside(&self) -> Vec<AsideFile>;
    /// Tries now to restore what was set aside; answers how many files were.
    fn restore(&self) -> BoxFuture<'_, usize>;
}

impl Running {
    fn clickhouse_status(&self) -> (String, String, bool) {
        self.health.clickhouse()
    }

    fn flush_states(&self) -> Vec<(String, Epoch, Option<String>)> {
        self.health.flushes()
    }
}

impl App {
    pub(crate) fn new(prometheus: PrometheusHandle) -> Arc<Self> {
        Arc::new(App { running: OnceLock::new(), starting: Mutex::new("starting".into()), prometheus })
    }

    /// Says what the start is waiting for.
    pub(crate) fn starting(&self, what: impl Into<String>) {
        let what = what.into();
        tracing::info!("{what}");
        *self.starting.lock() = what;
    }

    /// The running program; otherwise why it does not answer yet, or any more.
    pub(crate) fn running(&self) -> Result<&Arc<Running>, String> {
        match self.running.get() {
            Some(running) if running.stopping.is_cancelled() => Err("the program is stopping".to_owned()),
            Some(running) => Ok(running),
            None => Err(format!("the program is starting: {}", self.starting.lock())),
        }
    }

    /// From now on requests are served.
    pub(crate) fn ready(&self, running: Arc<Running>) {
        let _ = self.running.set(running);
    }
}

/// The running program, for handlers; while it starts, the request is answered with 503 and what it waits for.
pub(crate) struct Ready(pub(crate) Arc<Running>);

impl FromRequestParts<Arc<App>> for Ready {
    type Rejection = Problem;

    async fn from_request_parts(_parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        match app.running.get() {
            Some(running) if running.stopping.is_cancelled() => {
                Err(Problem::unavailable("stopping", "the program is stopping", 5))
            }
            Some(running) => Ok(Ready(running.clone())),
            None => Err(Problem::unavailable("starting", app.starting.lock().clone(), 1)),
        }
    }
}

/// All routes, for requests that name one of `hosts`.
pub(crate) fn router(app: Arc<App>, hosts: Hosts) -> Router {
    Router::new()
        .route("/api/v1/ingest", post(ingest::data_points))
        .route("/api/v1/metrics", get(metrics::list).post(ingest::points))
        .route("/v1/metrics", post(ingest::points))
        .route("/api/v1/streams", get(streams::list).post(streams::create))
        .route("/api/v1/streams/{stream}", get(streams::describe).delete(streams::delete))
        .route("/api/v1/streams/{stream}/events", post(ingest::events))
        .route("/api/v1/sql", post(sql::query))
        .route("/api/v1/metrics/{name}/dimensions", get(metrics::dimensions))
        .route("/api/v1/metrics/{name}/data", get(metrics::data))
        .route_layer(middleware::from_fn_with_state(app.clone(), bounds::open_requests))
        // Not counted among open requests: subscriptions stay open, and an operator must always get an answer.
        .route("/api/v1/live", get(live::connect))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/aside/restore", post(status::restore))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(status::prometheus))
        .merge(SwaggerUi::new("/docs").url("/api/openapi.json", openapi::Description::openapi()))
        .fallback(page::serve)
        .method_not_allowed_fallback(wrong_method)
        .layer(RequestDecompressionLayer::new().gzip(true))
        .layer(CompressionLayer::new().gzip(true).compress_when(unpacked()))
        .layer(middleware::from_fn(measure))
        .layer(middleware::from_fn_with_state(hosts, origin::own_pages))
        .layer(CatchPanicLayer::custom(|_panic: Box<dyn std::any::Any + Send>| {
            use axum::response::IntoResponse;
            Problem::new(
                axum::http::StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the request failed here; the program's log says why",
            )
            .into_response()
        }))
        .with_state(app)
}

/// Which answers gain by compression: Parquet and XLSX are compressed already.
fn unpacked() -> impl Predicate {
    let not = |format: Format| NotForContentType::new(format.content_type());
    DefaultPredicate::new().and(not(Format::Parquet)).and(not(Format::Xlsx))
}

async fn wrong_method(request: Request) -> Problem {
    let detail = format!("{} is not offered at {}; /docs lists what is", request.method(), request.uri().path());
    Problem::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

async fn measure(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<axum::extract::MatchedPath>()
        .map_or("other".to_owned(), |path| path.as_str().to_owned());
    let started = Instant::now();
    let response = next.run(request).await;
    let labels = [("method", method.to_string()), ("route", route), ("status", response.status().as_u16().to_string())];
    ::metrics::histogram!("streamgauge_http_request_seconds", &labels).record(started.elapsed().as_secs_f64());
    response
}
