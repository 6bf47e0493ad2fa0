//! SQL: `POST /api/v1/sql`.
//!
//! An answer that fails after it began cannot say so by its status; its connection is broken off, so that it does not
//! look whole.
//!
//! # Layout
//!
//! - `accept`: which form an answer has.

mod accept;

use axum::body::Body;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use streamgauge_queries::{AskOptions, Format, Parameters, Partial, format};
use streamgauge_schemas::time::to_rfc3339;
use streamgauge_schemas::{Duration, Epoch, EventTime};
use utoipa::ToSchema;

use self::accept::{SqlFormat, SqlParameters};
use super::asker::AskedBy;
use super::problem::Problem;
use super::{Ready, body};

/// The header that says up to which epoch an answer is exact.
pub(crate) const EPOCH_HEADER: &str = "x-streamgauge-epoch";
/// The header that says what an answer lacks; a whole answer does not have it.
pub(crate) const PARTIAL_HEADER: &str = "x-streamgauge-partial";

const SECOND: Duration = Duration::from_secs(1);

/// The epoch that a request wants to see, by its header; the newest of several.
pub(crate) fn min_epoch(headers: &HeaderMap) -> Result<Option<Epoch>, Problem> {
    let mut newest = None;
    for value in headers.get_all(EPOCH_HEADER) {
        let epoch = value.to_str().ok().and_then(|text| text.trim().parse().ok());
        let epoch = epoch.ok_or_else(|| {
            let detail =
                format!("header X-Streamgauge-Epoch: {value:?} is not an epoch, a whole number from an answer");
            Problem::bad_request("bad_epoch", detail)
        })?;
        newest = newest.max(Some(Epoch(epoch)));
    }
    Ok(newest)
}

/// Says in its headers up to which epoch an answer is exact, and what it lacks.
pub(crate) fn mark(response: &mut Response, epoch: Epoch, partial: Option<&Partial>) {
    let headers = response.headers_mut();
    headers.insert(EPOCH_HEADER, HeaderValue::from(epoch.0));
    if let Some(partial) = partial {
        let missing = HeaderValue::try_from(missing(partial)).expect("words and a number make a header");
        headers.insert(PARTIAL_HEADER, missing);
        note(partial);
    }
}

/// What an answer lacks, as a header says it.
pub(crate) fn missing(partial: &Partial) -> String {
    format!("history up to epoch {} is missing", partial.upto)
}

/// Tells the operator that an answer lacks something.
pub(crate) fn note(partial: &Partial) {
    metrics::counter!("streamgauge_partial_answers_total").increment(1);
    tracing::warn!(upto = %partial.upto, reason = partial.reason, "a question was answered without history");
}

/// A statement.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlRequest {
    /// One statement that reads, one about views (`CREATE`, `DROP`, `SHOW`, `EXPLAIN MATERIALIZED VIEW`), or one about streams (`CREATE STREAM`, `DROP STREAM`). Before one that reads may stand `SET streamgauge.epoch = …;`, `SET streamgauge.partial = true;` and `SET streamgauge.pushdown = false;`, and to lower its bounds `SET statement_timeout = '5s';`, `SET streamgauge.memory_bytes_max = …;` and `SET streamgauge.rows_max = …;`.
    #[schema(example = "SELECT name, count(*) FROM metrics GROUP BY name")]
    sql: String,
    /// Values for `$1`, `$2`, … of the statement, the first for `$1`.
    #[serde(default)]
    #[schema(example = json!(["cpu", 0.5]))]
    params: Vec<serde_json::Value>,
    /// The form of the answer; by default that of the address, of `Accept`, or JSON.
    #[serde(default)]
    format: Option<SqlFormat>,
    /// Whether an answer from memory alone will do when ClickHouse is away or fails; it is marked.
    #[serde(default)]
    partial: bool,
}

/// A column of an answer.
#[derive(Serialize, ToSchema)]
#[allow(dead_code)] // describes the answer in OpenAPI
pub(crate) struct SqlColumn {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// What an answer from memory alone lacks.
#[derive(Serialize, ToSchema)]
#[allow(dead_code)] // describes the answer in OpenAPI
pub(crate) struct PartialAnswer {
    /// What is missing, and why.
    #[schema(example = "history in ClickHouse up to epoch 1714521600000000 is missing: ClickHouse is away")]
    missing: String,
    /// What ClickHouse has up to this epoch is missing.
    epoch: u64,
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
    /// What is missing; only of an answer that is partial, as was allowed.
    partial: Option<PartialAnswer>,
}

/// Ask SQL over live events and history as one table, or make and drop views.
#[utoipa::path(
    post, path = "/api/v1/sql", operation_id = "ask_sql", tag = "queries", request_body = SqlRequest,
    params(SqlParameters, ("X-Streamgauge-Epoch" = Option<u64>, Header, description = "waits, for some seconds at most, until the events of this epoch are visible"),
        ("X-Streamgauge-User" = Option<String>, Header, description = "the name that bounds of a user hold for; the client's address without it")),
    responses((status = 200, body = SqlAnswer, description = "JSON; the other formats are plain bodies, with the name of a file. One that fails on its way is broken off",
            headers(("Content-Disposition" = String, description = "the name of a file; not of JSON"),
                ("X-Streamgauge-Epoch" = u64, description = "the answer is exact up to this epoch"),
                ("X-Streamgauge-Partial" = String, description = "what is missing; only of a partial answer"))),
        (status = 400, body = Problem), (status = 406, body = Problem), (status = 409, body = Problem, description = "the statement was cancelled"),
        (status = 422, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn query(
    Ready(running): Ready,
    AskedBy(asker): AskedBy,
    parameters: Result<Query<SqlParameters>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Query(parameters) = parameters.map_err(|wrong| Problem::bad_request("bad_parameter", wrong.body_text()))?;
    let min_epoch = min_epoch(&headers)?;
    let body = body::read(body, &running).await?;
    let request: SqlRequest = serde_json::from_slice(body.bytes()).map_err(|error| {
        Problem::bad_request(
            "bad_request",
            format!("the body is not {{\"sql\", \"params\", \"format\", \"partial\"}}: {error}"),
        )
    })?;
    let format = match request.format.or(parameters.format) {
        Some(format) => format.into(),
        None => accept::accepted(&headers)?,
    };
    let started = std::time::Instant::now();
    let answer = {
        let (params, options) = (
            Parameters::from_json(&request.params),
            AskOptions { min_epoch, partial: request.partial, ..AskOptions::default() },
        );
        running.queries.asked_by(asker).sql_with(&request.sql, params, options).await?
    };
    let (epoch, partial) = (answer.epoch, answer.partial.clone());
    let body = Body::from_stream(format::body(answer, format, started).await?);
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], body).into_response();
    if format != Format::Json {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition(epoch, format));
    }
    mark(&mut response, epoch, partial.as_ref());
    metrics::histogram!("streamgauge_query_seconds", "kind" => "sql").record(started.elapsed().as_secs_f64());
    Ok(response)
}

/// The name under which a browser keeps an answer: that of its epoch's time.
fn disposition(epoch: Epoch, format: Format) -> HeaderValue {
    let at = EventTime(i64::try_from(epoch.0).unwrap_or(i64::MAX)).floor(SECOND);
    let at = to_rfc3339(at).replace(['-', ':'], "");
    let value = format!("attachment; filename=\"streamgauge-{at}.{}\"", format.name());
    HeaderValue::try_from(value).expect("a time and the name of a format make a header")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn a_file_is_named_by_the_time_of_its_epoch() {
        let name = disposition(Epoch(1_714_521_600_123_456), Format::Xlsx);
        assert_eq!(name, "attachment; filename=\"streamgauge-20240501T000000Z.xlsx\"");
    }

    #[test]
    fn an_epoch_in_a_header_is_a_whole_number() {
        let read = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            value.map(|value| headers.insert(EPOCH_HEADER, HeaderValue::from_static(value)));
            min_epoch(&headers)
        };
        assert_eq!(read(None).unwrap(), None);
        let several =
            ["7", "9", "8"].map(|epoch| (HeaderName::from_static(EPOCH_HEADER), HeaderValue::from_static(epoch)));
        assert_eq!(min_epoch(&several.into_iter().collect()).unwrap(), Some(Epoch(9)));
        assert_eq!(read(Some("1714521600000000")).unwrap(), Some(Epoch(1_714_521_600_000_000)));
        for wrong in ["", "-1", "1.5", "now", "18446744073709551616"] {
            let problem = read(Some(wrong)).unwrap_err();
            assert_eq!((problem.status, problem.code.as_str()), (400, "bad_epoch"), "{wrong}");
        }
    }
}
