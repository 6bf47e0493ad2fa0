//! SQL: `POST /api/v1/sql`.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use streamgauge_queries::{Format, format};
use utoipa::ToSchema;

use super::problem::Problem;
use super::{Ready, body};

/// The header that says up to which epoch an answer is exact.
pub(crate) const EPOCH_HEADER: &str = "x-streamgauge-epoch";

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SqlFormat {
    /// One JSON object with columns and rows.
    #[default]
    Json,
    /// One JSON object a row.
    Ndjson,
    /// Comma-separated, with a header.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

/// A statement.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlRequest {
    /// One statement that reads.
    #[schema(example = "SELECT name, count(*) FROM metrics GROUP BY name")]
    sql: String,
    /// The form of the answer; JSON by default.
    #[serde(default)]
    format: SqlFormat,
}

/// A column of an answer.
#[derive(Serialize, ToSchema)]
#[allow(dead_code)] // describes the answer in OpenAPI
pub(crate) struct SqlColumn {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// An answer in the form `json`.
#[derive(Serialize, ToSchema)]
#[allow(dead_code)] // describes the answer in OpenAPI
pub(crate) struct SqlAnswer {
    /// Names and types.
    columns: Vec<SqlColumn>,
    /// Values, in the order of the columns.
    rows: Vec<Vec<serde_json::Value>>,
    /// How many rows are here.
    row_count: u64,
    /// The answer is exact up to this epoch.
    epoch: u64,
    /// How long it took.
    elapsed_ms: f64,
    /// Whether rows were left out; ask for another format, or use LIMIT.
    truncated: bool,
}

/// Ask SQL over live events and history as one table.
#[utoipa::path(
    post, path = "/api/v1/sql", operation_id = "ask_sql", tag = "queries", request_body = SqlRequest,
    responses((status = 200, body = SqlAnswer, description = "JSON; the other formats are plain bodies"), (status = 400, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn query(Ready(running): Ready, body: Body) -> Result<Response, Problem> {
    let bytes = body::read(body, running.body_bytes_max).await?;
    let request: SqlRequest = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::bad_request("bad_request", format!("the body is not {{\"sql\", \"format\"}}: {error}"))
    })?;
    let started = std::time::Instant::now();
    let answer = running.queries.sql(&request.sql).await?;
    let epoch = HeaderValue::from(answer.epoch.0);
    let format = match request.format {
        SqlFormat::Json => Format::Json,
        SqlFormat::Ndjson => Format::Ndjson,
        SqlFormat::Csv => Format::Csv,
        SqlFormat::Arrow => Format::Arrow,
    };
    let body = Body::from_stream(format::body(answer, format, started).await?);
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], body).into_response();
    response.headers_mut().insert(EPOCH_HEADER, epoch);
    metrics::histogram!("streamgauge_query_seconds", "kind" => "sql").record(started.elapsed().as_secs_f64());
    Ok(response)
}
