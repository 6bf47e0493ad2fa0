//! Metrics: their names, their dimensions, and their series.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, RawQuery};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use streamgauge_queries::format::partial_json;
use streamgauge_queries::{Aggregation, AskOptions, DimensionFilter, SeriesAnswer, SeriesPoints, SeriesQuery};
use streamgauge_schemas::time::{self, to_rfc3339};
use streamgauge_schemas::{Duration, EventTime, Summary};
use utoipa::ToSchema;

use super::Ready;
use super::asker::AskedBy;
use super::problem::Problem;
use super::sql::{PartialAnswer, mark, min_epoch};

/// Values of one dimension in an answer.
const VALUES_MAX: usize = 1_000;

/// A metric.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MetricInfo {
    /// Its name.
    name: String,
    /// The value of its newest event.
    last_value: Option<f64>,
    /// The time of its newest event.
    last_time: Option<String>,
    /// How many series it has.
    series_count: u64,
}

/// Metrics by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MetricList {
    metrics: Vec<MetricInfo>,
}

/// The dimensions of a metric.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DimensionList {
    /// The metric.
    metric: String,
    /// Each dimension with its values.
    dimensions: BTreeMap<String, BTreeSet<String>>,
}

/// The series of a metric.
#[derive(Serialize, ToSchema)]
#[allow(dead_code)] // describes the answer in OpenAPI
pub(crate) struct DataAnswer {
    metric: String,
    granularity: String,
    aggregation: String,
    /// The answer is exact up to this epoch.
    epoch: u64,
    series: Vec<DataSeries>,
    /// What is missing; only of an answer that is partial, as was allowed.
    partial: Option<PartialAnswer>,
}

/// One series of an answer.
#[derive(Serialize, ToSchema)]
#[allow(dead_code)] // describes the answer in OpenAPI
pub(crate) struct DataSeries {
    /// The dimensions that `group_by` named.
    dimensions: BTreeMap<String, String>,
    /// Time of the bucket, then one value an aggregation.
    points: Vec<Vec<Value>>,
}

/// The parameters of a request, in order; a name may come several times.
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(crate) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => {
                let detail = format!("parameter {name:?} is not known; there are {}", known.join(", "));
                Err(Problem::bad_request("unknown_parameter", detail))
            }
            None => Ok(Parameters(pairs)),
        }
    }

    /// The value of a parameter that counts once; the last one wins, and an empty one is none.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
}

fn bad(name: &str, detail: impl std::fmt::Display) -> Problem {
    Problem::bad_request("parameter_invalid", format!("parameter {name:?}: {detail}"))
}

/// List metrics.
#[utoipa::path(
    get, path = "/api/v1/metrics", operation_id = "list_metrics", tag = "metrics",
    params(("prefix" = Option<String>, Query, description = "only names that begin so"), ("limit" = Option<u64>, Query, description = "1000 by default")),
    responses((status = 200, body = MetricList)))]
pub(crate) async fn list(Ready(running): Ready, RawQuery(query): RawQuery) -> Result<Json<MetricList>, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["prefix", "limit"])?;
    let limit = match parameters.one("limit") {
        Some(text) => text.parse::<usize>().map_err(|_| bad("limit", format!("{text:?} is not a number")))?,
        None => 1_000,
    };
    let metrics = running.queries.metrics(parameters.one("prefix").unwrap_or_default(), limit.min(100_000));
    let info = |metric: streamgauge_engine::MetricSummary| MetricInfo {
        name: metric.name.to_string(),
        last_value: metric.last.map(|(_, value)| value),
        last_time: metric.last.map(|(at, _)| to_rfc3339(at)),
        series_count: metric.series_count as u64,
    };
    Ok(Json(MetricList { metrics: metrics.into_iter().map(info).collect() }))
}

/// List the dimensions of a metric.
#[utoipa::path(
    get, path = "/api/v1/metrics/{name}/dimensions", operation_id = "metric_dimensions", tag = "metrics", params(("name" = String, Path,)),
    responses((status = 200, body = DimensionList), (status = 404, body = Problem)))]
pub(crate) async fn dimensions(
    Ready(running): Ready,
    Path(name): Path<String>,
) -> Result<Json<DimensionList>, Problem> {
    let dimensions = running.queries.dimensions(&name, VALUES_MAX)?;
    Ok(Json(DimensionList { metric: name, dimensions }))
}

/// Read the series of a metric.
#[utoipa::path(
    get, path = "/api/v1/metrics/{name}/data", operation_id = "metric_data", tag = "metrics",
    params(
        ("name" = String, Path,),
        ("start_time" = Option<String>, Query, description = "RFC 3339, a number, or relative such as `now-1h`, which is the default"),
        ("end_time" = Option<String>, Query, description = "exclusive; `now` by default"),
        ("granularity" = Option<String>, Query, description = "a whole number of seconds, such as `1s`, `5m`, `1h`, `1d`; fitting the range by default"),
        ("aggregation" = Option<String>, Query, description = "`avg` (default), `sum`, `min`, `max`, `count`, or several with commas"),
        ("filter" = Option<String>, Query, description = "`dimension:value`, several with commas or repeated; values of one dimension are alternatives"),
        ("group_by" = Option<String>, Query, description = "dimensions, with commas: one series for each of their values"),
        ("partial" = Option<bool>, Query, description = "`true`: an answer from memory alone will do when ClickHouse is away or fails; it is marked"),
        ("X-Streamgauge-Epoch" = Option<u64>, Header, description = "waits, for some seconds at most, until the events of this epoch are visible"),
        ("X-Streamgauge-User" = Option<String>, Header, description = "the name that bounds of a user hold for; the client's address without it")),
    responses((status = 200, body = DataAnswer,
            headers(("X-Streamgauge-Epoch" = u64, description = "the answer is exact up to this epoch"),
                ("X-Streamgauge-Partial" = String, description = "what is missing; only of a partial answer"))),
        (status = 400, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn data(
    Ready(running): Ready,
    AskedBy(asker): AskedBy,
    Path(name): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let known = ["start_time", "end_time", "granularity", "aggregation", "filter", "group_by", "partial"];
    let parameters = Parameters::parse(query.as_deref(), &known)?;
    let now = time::wall_clock();
    let moment = |name: &str, default: &str| {
        time::parse_moment(parameters.one(name).unwrap_or(default), now).map_err(|error| bad(name, error))
    };
    // An open end lies beyond the skew that ingest allows, so the newest event is never cut off.
    let end = match parameters.one("end_time") {
        None => EventTime(now.0 + running.decode_limits.skew.as_micros() + 1),
        Some(_) => moment("end_time", "now")?,
    };
    let partial = match parameters.one("partial") {
        None => false,
        Some(text) => text.parse().map_err(|_| bad("partial", format!("{text:?} is neither true nor false")))?,
    };
    let options = AskOptions { min_epoch: min_epoch(&headers)?, partial, ..AskOptions::default() };
    let aggregation = parameters.one("aggregation").unwrap_or("avg").to_owned();
    let query = SeriesQuery {
        start: moment("start_time", "now-1h")?,
        end,
        granularity: parameters.one("granularity").map(parse_granularity).transpose()?,
        aggregations: Aggregation::list(&aggregation)?,
        filter: DimensionFilter::parse(parameters.all("filter"))?,
        group_by: parameters.all("group_by").flat_map(|text| text.split(',')).map(str::to_owned).collect(),
        metric: name,
    };
    let started = std::time::Instant::now();
    let answer = running.queries.asked_by(asker).series(&query, options).await?;
    metrics::histogram!("streamgauge_query_seconds", "kind" => "series").record(started.elapsed().as_secs_f64());
    let mut response = Json(answer_json(&answer, &aggregation)).into_response();
    mark(&mut response, answer.epoch, answer.partial.as_ref());
    Ok(response)
}

fn answer_json(answer: &SeriesAnswer, aggregation: &str) -> Value {
    let mut json = json!({
        "metric": answer.metric,
        "granularity": answer.granularity.to_string(),
        "aggregation": aggregation,
        "epoch": answer.epoch,
        "series": series_json(&answer.series, &answer.aggregations),
    });
    if let Some(partial) = &answer.partial {
        json["partial"] = partial_json(partial);
    }
    json
}

/// Series with their points as `[time, value, …]`.
pub(crate) fn series_json(series: &[SeriesPoints], aggregations: &[Aggregation]) -> Vec<Value> {
    let one = |series: &SeriesPoints| {
        let dimensions: Map<String, Value> = series.dimensions.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        let points: Vec<Value> = series.points.iter().map(|(at, state)| point(*at, state, aggregations)).collect();
        json!({ "dimensions": dimensions, "points": points })
    };
    series.iter().map(one).collect()
}

fn point(at: EventTime, state: &Summary, aggregations: &[Aggregation]) -> Value {
    let values = aggregations.iter().map(|aggregation| match aggregation {
        Aggregation::Count => json!(state.count),
        other => json!(other.of(state)),
    });
    std::iter::once(json!(to_rfc3339(at))).chain(values).collect()
}

pub(crate) fn parse_granularity(text: &str) -> Result<Duration, Problem> {
    text.parse().map_err(|error| bad("granularity", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_and_unknown_ones_named() {
        let parameters = Parameters::parse(
            Some("filter=host:a&filter=zone:1&granularity=&start_time=now-1h&start_time=now-2h"),
            &["filter", "granularity", "start_time"],
        );
        let parameters = parameters.unwrap();
        assert_eq!(parameters.all("filter").collect::<Vec<_>>(), ["host:a", "zone:1"]);
        assert_eq!(parameters.one("granularity"), None);
        assert_eq!(parameters.one("start_time"), Some("now-2h"));
        let problem = Parameters::parse(Some("granularty=1m"), &["granularity"]).err().unwrap();
        assert_eq!((problem.status, problem.code.as_str()), (400, "unknown_parameter"));
        assert!(problem.detail.contains("granularty"), "{}", problem.detail);
    }

    #[test]
    fn points_carry_one_value_an_aggregation() {
        let state = Summary { count: 4, sum: 10.0, min: 1.0, max: 4.0 };
        let series = SeriesPoints {
            dimensions: BTreeMap::from([("host".into(), "a".into())]),
            points: vec![(EventTime(0), state)],
        };
        let json = series_json(&[series], &[Aggregation::Avg, Aggregation::Count, Aggregation::Max]);
        assert_eq!(json[0], json!({"dimensions": {"host": "a"}, "points": [["1970-01-01T00:00:00Z", 2.5, 4, 4.0]]}));
    }
}
