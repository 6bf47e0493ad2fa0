//! The description of the HTTP interface; the golden file `api/openapi.json` is this, rendered.

use utoipa::OpenApi;

use super::{ingest, live, metrics, problem, sql, status, streams};

/// The description of the HTTP interface.
#[derive(OpenApi)]
#[openapi(
    info(title = "Streamgauge", description = "Real-time analytics: post events, ask SQL over live and history as one table, follow series live. \
        On loopback a request is answered with 421 (`host_unknown`) when its `Host` is neither `localhost` nor an address of loopback nor \
        one of `--http-hosts`, and anywhere with 403 (`cross_origin`) \
        when a browser sends it for a page of another site."),
    paths(
        ingest::data_points, ingest::points, ingest::events,
        streams::list, streams::create, streams::describe, streams::delete,
        sql::query, metrics::list, metrics::dimensions, metrics::data, live::connect,
        status::status, status::restore, status::healthz, status::readyz, status::prometheus,
    ),
    components(schemas(problem::Problem, streams::NewStream, ingest::RejectedEvent)),
    tags(
        (name = "ingest", description = "Post events; a 200 means they are durable and visible."),
        (name = "streams", description = "Typed, append-only tables of events."),
        (name = "queries", description = "SQL over live and history."),
        (name = "metrics", description = "Names, dimensions and series of metrics."),
        (name = "live", description = "Follow series as events arrive."),
        (name = "status", description = "Health of the program."),
    )
)]
pub(crate) struct Description;

/// The description as JSON.
pub(crate) fn json() -> String {
    Description::openapi().to_pretty_json().expect("a description of strings and schemas is JSON")
}
