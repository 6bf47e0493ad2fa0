//! Errors over HTTP: problem details (RFC 9457) with a stable `code`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use streamgauge_engine::EngineError;
use streamgauge_engine::decode::DecodeError;
use streamgauge_engine::log::SubmitError;
use streamgauge_queries::{ErrorKind, QueryError};
use utoipa::ToSchema;

use super::bounds::refused;

/// An error as a client sees it; internal causes go to the log only.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: `code` tells the kind.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The status in words.
    pub(crate) title: String,
    /// The status.
    pub(crate) status: u16,
    /// A stable name of the kind of error, such as `unknown_stream`.
    pub(crate) code: String,
    /// What was wrong, where, and what to do.
    pub(crate) detail: String,
    /// Seconds after which a retry makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_s: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or_default().into(),
            status: status.as_u16(),
            code: code.into(),
            detail: detail.into(),
            retry_after_s: None,
        }
    }

    pub(crate) fn bad_request(code: &str, detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(crate) fn unavailable(code: &str, detail: impl Into<String>, retry_after_s: u64) -> Self {
        Problem { retry_after_s: Some(retry_after_s), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    /// A bug of ours: the cause goes to the log, and the client learns where to look.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %chain(error), "a request failed");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the request failed here; the program's log says why",
        )
    }
}

/// How to get an answer while ClickHouse is away or fails.
const ASK_PARTIAL: &str =
    "ask for what memory has: \"partial\": true with SQL or a subscription, ?partial=true with the data of a metric";

/// An error with all its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after_s.map(HeaderValue::from);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        let code = match &error {
            DecodeError::NotUtf8 { .. } => "not_utf8",
            DecodeError::NotJson { .. } => "not_json",
            DecodeError::Empty => "empty_body",
            DecodeError::TooManyEvents { .. } => {
                return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_events", error.to_string());
            }
            DecodeError::TooManyRejects { .. } => "too_many_rejects",
            DecodeError::TooLarge { .. } | DecodeError::SourceTooLong { .. } => {
                return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error.to_string());
            }
            DecodeError::WrongShape { .. } => "wrong_shape",
        };
        Problem::bad_request(code, error.to_string())
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        match &error {
            EngineError::Busy { .. } => refused("pending", Problem::unavailable("busy", error.to_string(), 1)),
            EngineError::StateFull { .. } => refused("state", Problem::unavailable("state_full", error.to_string(), 2)),
            EngineError::Submit(SubmitError::LogFull { .. }) => {
                refused("log", Problem::unavailable("log_full", chain(&error), 2))
            }
            EngineError::NameReused => Problem::new(StatusCode::CONFLICT, "key_reused", error.to_string()),
            EngineError::SequenceTooOld { .. } => {
                Problem::new(StatusCode::CONFLICT, "sequence_too_old", error.to_string())
            }
            EngineError::Submit(SubmitError::Full { .. }) => {
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_fast", chain(&error));
                refused("queue", Problem { retry_after_s: Some(1), ..problem })
            }
            EngineError::Submit(SubmitError::TooLarge { .. }) => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", chain(&error))
            }
            EngineError::Submit(_) | EngineError::Log(_) => {
                tracing::error!(error = %chain(&error), "the log did not take events");
                Problem::unavailable("log_unavailable", error.to_string(), 5)
            }
            EngineError::Stopped => Problem::unavailable("stopping", error.to_string(), 5),
            EngineError::TooManySeries { .. } => {
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_series", error.to_string());
                refused("series", Problem { retry_after_s: Some(60), ..problem })
            }
            EngineError::UnknownStream(_) => Problem::new(StatusCode::NOT_FOUND, "unknown_stream", error.to_string()),
            EngineError::StreamExists(_) => Problem::new(StatusCode::CONFLICT, "stream_exists", error.to_string()),
            EngineError::ViewFull { .. } => refused("view", Problem::unavailable("view_full", error.to_string(), 5)),
            EngineError::UnknownView(_) => Problem::new(StatusCode::NOT_FOUND, "unknown_view", error.to_string()),
            EngineError::NameTaken(_) => Problem::new(StatusCode::CONFLICT, "name_taken", error.to_string()),
            EngineError::StreamInUse { .. } => Problem::new(StatusCode::CONFLICT, "stream_in_use", error.to_string()),
            EngineError::BuiltInView(_) => Problem::new(StatusCode::CONFLICT, "built_in", error.to_string()),
            EngineError::BrokenView { .. } => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "view_broken", error.to_string())
            }
            EngineError::Schema(_) => Problem::bad_request("bad_definition", error.to_string()),
            EngineError::Workers(_) | EngineError::HistoryLost { .. } => Problem::internal(&error),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match (error.kind(), &error) {
            (_, QueryError::UnknownMetric { .. }) => {
                Problem::new(StatusCode::NOT_FOUND, "unknown_metric", error.to_string())
            }
            (
                ErrorKind::Limit { code },
                QueryError::EpochNotReached { .. } | QueryError::Backfilling { .. } | QueryError::SheetDisk { .. },
            ) => Problem::unavailable(code, error.to_string(), 1),
            (ErrorKind::Limit { code }, QueryError::Cancelled { .. }) => {
                Problem::new(StatusCode::CONFLICT, code, error.to_string())
            }
            (ErrorKind::Caller { code }, _) => Problem::bad_request(code, chain(&error)),
            // A bound that others fill passes; one that the question itself exceeds does not.
            (ErrorKind::Limit { code }, _) if error.is_retryable() => {
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, code, chain(&error));
                refused("queries", Problem { retry_after_s: Some(1), ..problem })
            }
            (ErrorKind::Limit { code }, _) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, chain(&error)),
            (ErrorKind::Upstream, QueryError::Engine(engine)) => Problem::from(engine.clone()),
            (ErrorKind::Upstream, _) => {
                tracing::warn!(error = %chain(&error), "a query could not be answered");
                let detail = format!("{}; ask again later, or {ASK_PARTIAL}", chain(&error));
                Problem::unavailable("history_unavailable", detail, 2)
            }
            (ErrorKind::Bug, _) => Problem::internal(&error),
        }
    }
}
