//! What a client of the WebSocket sends: `subscribe`, to a metric or to a view, and `unsubscribe`.

use serde::Deserialize;
use streamgauge_queries::live::RANGE_DEFAULT;
use streamgauge_queries::{Aggregation, AskOptions, DimensionFilter, FollowQuery, FollowView};
use streamgauge_schemas::{Duration, Epoch};

use crate::http::metrics::parse_granularity;
use crate::http::problem::Problem;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Request {
    Subscribe(Box<Subscribe>),
    Unsubscribe { id: String },
}

/// What is left out is not there, also where it has no meaning: a member that does not fit is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscribe {
    pub(super) id: String,
    metric: Option<String>,
    granularity: Option<String>,
    filter: Option<String>,
    group_by: Option<Vec<String>>,
    aggregations: Option<Vec<String>>,
    view: Option<String>,
    #[serde(rename = "where")]
    condition: Option<String>,
    range: Option<Duration>,
    epoch: Option<Epoch>,
    #[serde(default)]
    partial: bool,
}

/// What a subscription asks, and how.
pub(super) struct Asked {
    pub(super) of: Subject,
    pub(super) options: AskOptions,
}

/// What is followed.
pub(super) enum Subject {
    Metric(FollowQuery),
    View(FollowView),
}

impl Subscribe {
    /// Reads what it asks.
    pub(super) fn read(self) -> Result<Asked, Problem> {
        let options = AskOptions { min_epoch: self.epoch, partial: self.partial, ..AskOptions::default() };
        let of_metrics = [
            ("granularity", self.granularity.is_some()),
            ("filter", self.filter.is_some()),
            ("group_by", self.group_by.is_some()),
            ("aggregations", self.aggregations.is_some()),
        ];
        let of = match (self.metric, self.view) {
            (Some(metric), None) => {
                refuse("metric", "filter", &[("where", self.condition.is_some())])?;
                Subject::Metric(FollowQuery {
                    metric,
                    range: self.range.unwrap_or(RANGE_DEFAULT),
                    granularity: self.granularity.as_deref().map(parse_granularity).transpose()?,
                    aggregations: aggregations(&self.aggregations.unwrap_or_default())?,
                    filter: DimensionFilter::parse([self.filter.unwrap_or_default().as_str()])?,
                    group_by: self.group_by.unwrap_or_default(),
                })
            }
            (None, Some(view)) => {
                refuse("view", "where, or make a view that groups so", &of_metrics)?;
                Subject::View(FollowView { view, condition: self.condition, range: self.range })
            }
            (Some(_), Some(_)) | (None, None) => {
                let detail =
                    "a subscription names either a metric or a view: \"metric\": \"cpu\" or \"view\": \"metrics_1m\"";
                return Err(Problem::bad_request("bad_message", detail));
            }
        };
        Ok(Asked { of, options })
    }
}

/// Refuses members that have no meaning with what is subscribed to.
fn refuse(with: &str, instead: &str, members: &[(&str, bool)]) -> Result<(), Problem> {
    let Some((member, _)) = members.iter().find(|(_, is_there)| *is_there) else { return Ok(()) };
    let detail = format!("{member:?} has no meaning with {with:?}; use {instead}");
    Err(Problem::bad_request("bad_message", detail))
}

fn aggregations(named: &[String]) -> Result<Vec<Aggregation>, Problem> {
    match named {
        [] => Ok(vec![Aggregation::Avg, Aggregation::Min, Aggregation::Max, Aggregation::Count]),
        named => Ok(Aggregation::list(&named.join(","))?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Asked, String> {
        let request: Request = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Request::Subscribe(subscribe) = request else { panic!("{text}") };
        subscribe.read().map_err(|problem| problem.detail)
    }

    #[test]
    fn a_subscription_is_to_a_metric_or_to_a_view() {
        let view =
            read(r#"{"type":"subscribe","id":"1","view":"v","where":"n > 1","range":"1h","epoch":7,"partial":true}"#);
        let Asked { of: Subject::View(view), options } = view.unwrap() else { panic!("a view") };
        assert_eq!((view.view.as_str(), view.condition.as_deref()), ("v", Some("n > 1")));
        assert_eq!(
            (view.range, options.min_epoch, options.partial),
            (Some(Duration::from_secs(3_600)), Some(Epoch(7)), true)
        );
        let Asked { of: Subject::Metric(metric), .. } =
            read(r#"{"type":"subscribe","id":"1","metric":"cpu"}"#).unwrap()
        else {
            panic!("a metric")
        };
        assert_eq!((metric.range, metric.aggregations.len()), (RANGE_DEFAULT, 4));
        for (text, part) in [
            (r#"{"type":"subscribe","id":"1"}"#, "either a metric or a view"),
            (r#"{"type":"subscribe","id":"1","metric":"cpu","view":"v"}"#, "either a metric or a view"),
            (
                r#"{"type":"subscribe","id":"1","metric":"cpu","where":"n > 1"}"#,
                "\"where\" has no meaning with \"metric\"; use filter",
            ),
            (
                r#"{"type":"subscribe","id":"1","view":"v","group_by":["host"]}"#,
                "\"group_by\" has no meaning with \"view\"",
            ),
            (r#"{"type":"subscribe","id":"1","view":"v","granularity":"1s"}"#, "\"granularity\" has no meaning"),
            (r#"{"type":"subscribe","id":"1","view":"v","when":"n > 1"}"#, "unknown field"),
        ] {
            let error = read(text).err().unwrap_or_else(|| panic!("{text}"));
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
