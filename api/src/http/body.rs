//! Request bodies: read whole, with a bound, of a type we know.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use streamgauge_engine::decode::Format;

use super::problem::Problem;

/// Reads a body that may be compressed with gzip (unpacked already by a layer).
pub(crate) async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    to_bytes(body, bytes_max).await.map_err(|error| {
        let too_large =
            std::error::Error::source(&error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        if too_large {
            let detail = format!(
                "the body is larger than {bytes_max} bytes unpacked; send it in parts, or raise body_bytes_max"
            );
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
        } else {
            Problem::bad_request(
                "broken_body",
                format!("the body could not be read: {}", super::problem::chain(&error)),
            )
        }
    })
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
