//! The server's side of a replay: the stream that takes the events, and what it has already.

use std::path::{Path, PathBuf};

use serde_json::Value;
use streamgauge_schemas::EventTime;
use streamgauge_schemas::time::{from_integer, from_rfc3339};

use super::super::connection::{Ask, Connection};
use super::super::error::ClientError;
use super::ReplayArgs;
use super::metrics::{MetricsMapping, MetricsRule};
use super::playlist::Mapping;
use super::scan::Scan;
use super::stream::{StreamMapping, StreamShape, define};

/// What a file's rows become, and the time up to which the server has them.
pub(crate) type Prepared = (Mapping, Option<EventTime>);

/// Makes the stream if it is not there, and maps each file to it; `None` when nothing is to be sent.
///
/// # Errors
/// When a file does not fit, or the server refuses.
pub(crate) async fn prepare(
    connection: &Connection,
    args: &ReplayArgs,
    scans: &[(PathBuf, Scan)],
) -> Result<Option<Vec<Prepared>>, ClientError> {
    let mut prepared = Vec::new();
    if let Some(name) = &args.stream {
        let files: Vec<(&Path, &Scan)> = scans.iter().map(|(path, scan)| (path.as_path(), scan)).collect();
        let Some(stream) = stream(connection, name, &files, args.if_empty).await? else { return Ok(None) };
        for (path, scan) in files {
            prepared.push((Mapping::Stream(StreamMapping::new(path, scan, &stream)?), None));
        }
        return Ok(Some(prepared));
    }
    let rule = MetricsRule {
        name: args.name.clone(),
        values: args.values.clone(),
        dimensions: args.dimensions.clone(),
        dimension_columns: args.dimension_columns.clone(),
    };
    for (path, scan) in scans {
        let mapping = MetricsMapping::new(path, scan, &rule)?;
        let after = match (args.resume, mapping.names()) {
            (false, _) => None,
            (true, Some(names)) => last_of(connection, &names).await?,
            (true, None) => {
                let reason = "--resume needs metrics that are named by --name or by the file, not by a column".into();
                return Err(ClientError::File { path: path.clone(), reason });
            }
        };
        prepared.push((Mapping::Metrics(mapping), after));
    }
    Ok(Some(prepared))
}

/// The stream of that name, made from the files if need be; `None` when it was to be empty and is not.
async fn stream(
    connection: &Connection,
    name: &str,
    files: &[(&Path, &Scan)],
    if_empty: bool,
) -> Result<Option<StreamShape>, ClientError> {
    let definition = define(name, files)?; // also checks the name before it becomes part of a path
    let path = format!("/api/v1/streams/{name}");
    let described = match connection.ask_json(Ask::get(&path, &[])).await {
        Ok(described) if if_empty => {
            let statement = format!("SELECT 1 FROM \"{name}\" LIMIT 1");
            let answer = connection.ask_json(Ask::sql(&statement, "json")).await?;
            if answer["rows"].as_array().is_some_and(|rows| !rows.is_empty()) {
                return Ok(None);
            }
            described
        }
        Ok(described) => described,
        Err(ClientError::Refused(problem)) if problem.status == 404 => {
            let definition = serde_json::to_value(&definition).unwrap_or_default();
            connection.ask_json(Ask::post_json("/api/v1/streams", &definition)).await?
        }
        Err(error) => return Err(error),
    };
    let shape = serde_json::from_value(described);
    shape.map(Some).map_err(|e| connection.wrong_answer(&path, format!("expected a stream: {e}")))
}

/// The time of the last event that the server has of any of these metrics.
async fn last_of(connection: &Connection, names: &[String]) -> Result<Option<EventTime>, ClientError> {
    let mut last = None;
    for name in names {
        let answer = connection.ask_json(Ask::get("/api/v1/metrics", &[("prefix", name), ("limit", "1")])).await?;
        last = last.max(last_time(&answer, name));
    }
    Ok(last)
}

/// The last time of the metric `name`, which is the first of all that begin with `name`.
fn last_time(answer: &Value, name: &str) -> Option<EventTime> {
    let metric = answer["metrics"].as_array()?.first().filter(|metric| metric["name"] == name)?;
    match &metric["last_time"] {
        Value::String(text) => from_rfc3339(text),
        value => value.as_i64().map(from_integer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_time_is_that_of_the_metric_itself() {
        let check = |metric: Value, expected: Option<i64>| {
            let answer = json!({ "metrics": [metric] });
            assert_eq!(last_time(&answer, "cpu").map(|time| time.0), expected, "{answer}");
        };
        check(json!({"name": "cpu", "last_time": "2023-11-14T22:13:20Z"}), Some(1_700_000_000_000_000));
        check(json!({"name": "cpu", "last_time": 1_700_000_000_000_000_i64}), Some(1_700_000_000_000_000));
        check(json!({"name": "cpu_2", "last_time": "2023-11-14T22:13:20Z"}), None);
        check(json!({"name": "cpu", "last_time": null}), None);
        assert_eq!(last_time(&json!({"metrics": []}), "cpu"), None);
    }
}
