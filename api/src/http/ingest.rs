//! Ingest: `POST /api/v1/ingest`, `/v1/metrics`, `/api/v1/metrics` and `/api/v1/streams/{stream}/events`.

use axum::Json;
use axum::body::Body;
use axum::extract::Path;
use axum::http::HeaderMap;
use bytes::Bytes;
use serde::Serialize;
use streamgauge_engine::decode::{self, DecodeError, DecodeLimits, Decoded, Format};
use streamgauge_schemas::stream::METRICS;
use streamgauge_schemas::{Epoch, Reject, time};
use utoipa::ToSchema;

use super::problem::Problem;
use super::{Ready, Running, body};

/// What became of the events of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IngestAnswer {
    /// How many events were accepted: they are durable, and every later query sees them.
    accepted: u64,
    /// The epoch of the accepted events; null when there are none.
    #[schema(value_type = Option<u64>)]
    epoch: Option<Epoch>,
    /// The events that were not accepted.
    #[schema(value_type = Vec<RejectedEvent>)]
    rejected: Vec<Reject>,
}

/// An event that was not accepted.
#[derive(ToSchema)]
#[allow(dead_code)] // describes `Reject` in OpenAPI
pub(crate) struct RejectedEvent {
    /// Its position in the request, from 0.
    index: u64,
    /// What was wrong with it, and where.
    reason: String,
}

/// Bodies larger than this are decoded where they do not hold up other requests.
const BLOCKING_BYTES_MIN: usize = 64 << 10;

/// Decodes a body, appends its events, and answers.
async fn ingest(
    running: &Running,
    stream: &str,
    bytes: Bytes,
    decode: impl FnOnce(&[u8], &DecodeLimits) -> Result<Decoded, DecodeError>,
) -> Result<Json<IngestAnswer>, Problem> {
    let limits = DecodeLimits { now: time::wall_clock(), ..running.decode_limits };
    let decoded = if bytes.len() < BLOCKING_BYTES_MIN {
        decode(&bytes, &limits)?
    } else {
        tokio::task::block_in_place(|| decode(&bytes, &limits))?
    };
    let labels = [("stream", stream.to_owned())];
    metrics::counter!("streamgauge_ingest_rejected_total", &labels).increment(decoded.rejected.len() as u64);
    let mut answer = IngestAnswer { accepted: 0, epoch: None, rejected: decoded.rejected };
    if let Some(batch) = decoded.batch {
        answer.accepted = batch.len() as u64;
        answer.epoch = Some(running.engine.append(batch).await?);
        metrics::counter!("streamgauge_ingest_events_total", &labels).increment(answer.accepted);
        metrics::counter!("streamgauge_ingest_bytes_total", &labels).increment(bytes.len() as u64);
    }
    Ok(Json(answer))
}

/// Post data points of one source.
#[utoipa::path(
    post, path = "/api/v1/ingest", tag = "ingest",
    request_body(content = serde_json::Value, description = "`{\"source_id\", \"data_points\": [{\"metric\", \"timestamp\", \"value\", \"dimensions\"}]}`"),
    responses((status = 200, body = IngestAnswer), (status = 400, body = Problem), (status = 413, body = Problem),
        (status = 415, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn data_points(
    Ready(running): Ready,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<IngestAnswer>, Problem> {
    body::format(&headers)?;
    let bytes = body::read(body, running.body_bytes_max).await?;
    ingest(&running, METRICS, bytes, decode::decode_ingest).await
}

/// Post one metric, or an array of them.
#[utoipa::path(
    post, path = "/api/v1/metrics", tag = "ingest",
    request_body(content = serde_json::Value, description = "`{\"timestamp\", \"name\", \"value\", \"dimensions\"?}` or an array; also at `/v1/metrics`"),
    responses((status = 200, body = IngestAnswer), (status = 400, body = Problem), (status = 413, body = Problem),
        (status = 415, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn points(
    Ready(running): Ready,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<IngestAnswer>, Problem> {
    let format = body::format(&headers)?;
    let bytes = body::read(body, running.body_bytes_max).await?;
    ingest(&running, METRICS, bytes, |bytes, limits| match format {
        Format::Ndjson => decode::decode_metrics(bytes, format, limits),
        _ => decode::decode_points(bytes, limits),
    })
    .await
}

/// Post events to a stream, as NDJSON or a JSON array.
#[utoipa::path(
    post, path = "/api/v1/streams/{stream}/events", tag = "ingest",
    params(("stream" = String, Path, description = "`metrics`, or a stream of your own")),
    request_body(content = serde_json::Value, content_type = "application/x-ndjson", description = "one object a line, or a JSON array of objects; keys are column names"),
    responses((status = 200, body = IngestAnswer), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 413, body = Problem), (status = 415, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn events(
    Ready(running): Ready,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<IngestAnswer>, Problem> {
    let format = body::format(&headers)?;
    if name == METRICS {
        let bytes = body::read(body, running.body_bytes_max).await?;
        return ingest(&running, METRICS, bytes, |bytes, limits| decode::decode_metrics(bytes, format, limits)).await;
    }
    let stream = running.engine.stream(&name).ok_or_else(|| super::streams::unknown(&running, &name))?;
    let bytes = body::read(body, running.body_bytes_max).await?;
    ingest(&running, &name, bytes, |bytes, limits| decode::decode_table(bytes, format, &stream, limits)).await
}
