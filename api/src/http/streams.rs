//! Streams: list, make, describe, delete.

use axum::Json;
use axum::body::Body;
use axum::extract::Path;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use streamgauge_schemas::stream::{DEFAULT_RETENTION, METRICS, Stream};
use streamgauge_schemas::{StreamDefinition, StreamId};
use utoipa::ToSchema;

use super::problem::Problem;
use super::{Ready, Running, body};

/// A column.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ColumnInfo {
    /// Its name: `a-z`, `0-9` and `_`.
    name: String,
    /// `text`, `i64`, `f64`, `bool`, `timestamp` or `json` (`map` in the built-in stream).
    #[serde(rename = "type")]
    kind: String,
}

/// A stream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StreamInfo {
    /// Its name, and its table's.
    name: String,
    /// The epoch of its creation.
    id: u64,
    /// The column of event time.
    time_column: String,
    /// All columns; each but the time may be null.
    columns: Vec<ColumnInfo>,
    /// The order of rows in ClickHouse.
    order_by: Vec<String>,
    /// How long ClickHouse keeps an event after it arrived.
    retention: String,
    /// Whether it is part of the program.
    built_in: bool,
}

/// What defines a stream.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code)] // describes `StreamDefinition` in OpenAPI
pub(crate) struct NewStream {
    /// Its name: `a-z`, `0-9` and `_`, beginning with a letter.
    name: String,
    /// The column of event time; it is added when `columns` does not have it.
    time_column: String,
    /// The columns.
    columns: Vec<ColumnInfo>,
    /// The order of rows in ClickHouse; the time by default.
    order_by: Option<Vec<String>>,
    /// How long ClickHouse keeps an event after it arrived, such as `30d`; 365 days by default.
    retention: Option<String>,
}

/// All streams.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StreamList {
    /// The built-in one first, then in order of creation.
    streams: Vec<StreamInfo>,
}

impl From<&Stream> for StreamInfo {
    fn from(stream: &Stream) -> Self {
        let definition = &stream.definition;
        let kind =
            |kind| serde_json::to_value(kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        StreamInfo {
            name: definition.name.clone(),
            id: stream.id.0,
            time_column: definition.time_column.clone(),
            columns: definition
                .columns
                .iter()
                .map(|c| ColumnInfo { name: c.name.clone(), kind: kind(c.kind) })
                .collect(),
            order_by: definition.order_by.clone(),
            retention: definition.retention().to_string(),
            built_in: stream.id.is_built_in(),
        }
    }
}

fn built_in() -> StreamInfo {
    let column = |(name, kind): (&str, &str)| ColumnInfo { name: name.into(), kind: kind.into() };
    let columns = [("ts", "timestamp"), ("name", "text"), ("value", "f64"), ("dimensions", "map"), ("source", "text")];
    StreamInfo {
        name: METRICS.into(),
        id: StreamId::METRICS.0,
        time_column: "ts".into(),
        columns: columns.map(column).into(),
        order_by: vec!["name".into(), "ts".into()],
        retention: DEFAULT_RETENTION.to_string(),
        built_in: true,
    }
}

/// The answer to a name that is no stream.
pub(crate) fn unknown(running: &Running, name: &str) -> Problem {
    let catalog = running.engine.catalog();
    let names: Vec<&str> =
        std::iter::once(METRICS).chain(catalog.streams.iter().map(|s| s.definition.name.as_str())).collect();
    let detail =
        format!("there is no stream {name:?}; there are {}; make one with POST /api/v1/streams", names.join(", "));
    Problem::new(StatusCode::NOT_FOUND, "unknown_stream", detail)
}

/// List all streams.
#[utoipa::path(get, path = "/api/v1/streams", operation_id = "list_streams", tag = "streams", responses((status = 200, body = StreamList)))]
pub(crate) async fn list(Ready(running): Ready) -> Json<StreamList> {
    let catalog = running.engine.catalog();
    let own = catalog.streams.iter().map(|stream| StreamInfo::from(stream.as_ref()));
    Json(StreamList { streams: std::iter::once(built_in()).chain(own).collect() })
}

/// Make a stream.
#[utoipa::path(
    post, path = "/api/v1/streams", operation_id = "create_stream", tag = "streams", request_body = NewStream,
    responses((status = 201, body = StreamInfo), (status = 200, body = StreamInfo, description = "it was there, with the same definition"),
        (status = 400, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn create(Ready(running): Ready, body: Body) -> Result<(StatusCode, Json<StreamInfo>), Problem> {
    let body = body::read(body, &running).await?;
    let definition: StreamDefinition = serde_json::from_slice(body.bytes())
        .map_err(|error| Problem::bad_request("bad_definition", error.to_string()))?;
    let (stream, made) = running.engine.create_stream(definition).await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(StreamInfo::from(stream.as_ref()))))
}

/// Describe a stream.
#[utoipa::path(
    get, path = "/api/v1/streams/{stream}", operation_id = "describe_stream", tag = "streams", params(("stream" = String, Path,)),
    responses((status = 200, body = StreamInfo), (status = 404, body = Problem)))]
pub(crate) async fn describe(Ready(running): Ready, Path(name): Path<String>) -> Result<Json<StreamInfo>, Problem> {
    if name == METRICS {
        return Ok(Json(built_in()));
    }
    let stream = running.engine.stream(&name).ok_or_else(|| unknown(&running, &name))?;
    Ok(Json(StreamInfo::from(stream.as_ref())))
}

/// Delete a stream with all its events.
#[utoipa::path(
    delete, path = "/api/v1/streams/{stream}", operation_id = "delete_stream", tag = "streams", params(("stream" = String, Path,)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn delete(Ready(running): Ready, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let stream = running.engine.stream(&name);
    if name == METRICS || stream.as_ref().is_some_and(|stream| stream.id.is_built_in()) {
        let detail = format!("the stream {name} is part of the program and cannot be deleted");
        return Err(Problem::new(StatusCode::CONFLICT, "built_in", detail));
    }
    if stream.is_none() {
        return Err(unknown(&running, &name));
    }
    running.engine.drop_stream(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
