//! Request bodies: read whole, with a bound, of a type we know.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use streamgauge_engine::decode::Format;
use tokio::sync::Semaphore;

use super::Running;
use super::bounds::BodyClaim;
use super::problem::{Problem, chain};

/// A sender that stalls for longer makes room for others.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a body may take in all.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);
/// How many refused senders are listened to at a time; others may have their connection broken.
static DRAINING: Semaphore = Semaphore::const_new(64);
/// What is read of a body that is refused.
const DRAIN_BYTES_MAX: usize = 1 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A body with its claim on the memory that bodies may take together.
pub(crate) struct HeldBody {
    bytes: Bytes,
    _claim: BodyClaim,
}

impl HeldBody {
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Reads a body of events, if events are taken at all now.
pub(crate) async fn read_events(body: Body, running: &Running) -> Result<HeldBody, Problem> {
    if let Err(full) = running.engine.admits() {
        drain(body).await;
        return Err(full.into());
    }
    read(body, running).await
}

/// Reads on for a moment what a sender is sending that is refused: else its connection would break before it has read
/// the answer. Nothing is kept.
pub(crate) async fn drain(mut body: Body) {
    let Ok(_turn) = DRAINING.try_acquire() else { return };
    let drained = async {
        let mut left = DRAIN_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            if bytes > left {
                break;
            }
            left -= bytes;
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await; // a slow sender may have its connection broken
}

/// Reads a body that may be compressed with gzip (unpacked already by a layer).
pub(crate) async fn read(mut body: Body, running: &Running) -> Result<HeldBody, Problem> {
    let bytes_max = running.body_bytes_max;
    let mut claim = BodyClaim::new(&running.bounds);
    let (mut whole, mut joined) = (Bytes::new(), BytesMut::new());
    let deadline = Instant::now() + BODY_TIMEOUT;
    loop {
        let patience = FRAME_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
        let frame = tokio::time::timeout(patience, body.frame()).await.map_err(|_| stalled())?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
        if whole.len() + joined.len() + data.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        if let Err(full) = claim.grow(data.len()) {
            drop((whole, joined, data));
            drain(body).await;
            return Err(full);
        }
        if whole.is_empty() && joined.is_empty() {
            whole = data; // a body of one frame is not copied
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&data);
        }
    }
    let bytes = if joined.is_empty() { whole } else { joined.freeze() };
    Ok(HeldBody { bytes, _claim: claim })
}

fn stalled() -> Problem {
    let (frame, body) = (FRAME_TIMEOUT.as_secs(), BODY_TIMEOUT.as_secs());
    let detail =
        format!("nothing of the body came for {frame} s, or not all of it in {body} s; send the request again");
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_stalled", detail)
}

fn too_large(bytes_max: usize) -> Problem {
    let detail =
        format!("the body is larger than {bytes_max} bytes unpacked; send it in parts, or raise body_bytes_max");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}

fn broken(error: &axum::Error) -> Problem {
    Problem::bad_request("broken_body", format!("the body could not be read: {}", chain(error)))
}

/// The form of events that a content type announces.
///
/// `curl -d` says `application/x-www-form-urlencoded` when it is told nothing, so that is taken for JSON too.
pub(crate) fn format(headers: &HeaderMap) -> Result<Format, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Format::Detect) };
    let text = value.to_str().unwrap_or_default();
    match text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "application/json" | "application/x-www-form-urlencoded" | "text/plain" | "text/json" => {
            Ok(Format::Detect)
        }
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
            Ok(Format::Ndjson)
        }
        _ => {
            let detail = format!("content type {text:?} is not known; send application/json or application/x-ndjson");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
        }
    }
}
