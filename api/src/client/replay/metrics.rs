//! Rows of a file as events of `metrics`.

use std::path::Path;

use serde_json::{Value, json};
use streamgauge_schemas::EventTime;

use super::super::error::ClientError;
use super::rows::Cell;
use super::scan::Scan;

const SOURCE: &str = "replay";

/// How a user wants rows to become metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct MetricsRule {
    /// The metric's name, instead of the file's.
    pub(crate) name: Option<String>,
    /// Columns with values; `value` when there are none.
    pub(crate) values: Vec<String>,
    /// Dimensions of every event.
    pub(crate) dimensions: Vec<(String, String)>,
    /// Columns that become dimensions.
    pub(crate) dimension_columns: Vec<String>,
}

/// How the rows of one file become events.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetricsMapping {
    name: Name,
    /// Per value: its column, and the metric's name if the file does not say it.
    values: Vec<usize>,
    suffixes: Vec<String>,
    dimensions: Vec<(String, String)>,
    dimension_columns: Vec<(String, usize)>,
    /// The column with an object of dimensions.
    dimensions_object: Option<usize>,
    source: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Name {
    Fixed(String),
    Column(usize),
}

impl MetricsMapping {
    /// The mapping for a file, by the rule and by what its columns are called.
    ///
    /// # Errors
    /// When a column is not there.
    pub(crate) fn new(path: &Path, scan: &Scan, rule: &MetricsRule) -> Result<Self, ClientError> {
        let position = |name: &str| scan.columns.iter().position(|column| column.name == name);
        let column = |name: &str| {
            position(name).ok_or_else(|| {
                let names: Vec<&str> = scan.columns.iter().map(|column| column.name.as_str()).collect();
                let advice =
                    "name the column of the value with --value, or replay into a stream of its own with --stream";
                let reason = format!("there is no column {name:?} (but {}); {advice}", names.join(", "));
                ClientError::File { path: path.to_owned(), reason }
            })
        };
        let values: Vec<usize> = match rule.values.as_slice() {
            [] => vec![column("value")?],
            names => names.iter().map(|name| column(name)).collect::<Result<_, _>>()?,
        };
        let suffixes = match rule.values.as_slice() {
            [] | [_] => vec![String::new()],
            names => names.iter().map(|name| format!(".{name}")).collect(),
        };
        let name = match (&rule.name, position("name").or_else(|| position("metric"))) {
            (Some(name), _) => Name::Fixed(name.clone()),
            (None, Some(index)) => Name::Column(index),
            (None, None) => Name::Fixed(stem(path)),
        };
        let dimension_columns: Vec<(String, usize)> = rule
            .dimension_columns
            .iter()
            .map(|name| Ok((name.clone(), column(name)?)))
            .collect::<Result<_, ClientError>>()?;
        let mut dimensions = rule.dimensions.clone();
        let dimensions_object = position("dimensions");
        if dimensions.is_empty() && dimension_columns.is_empty() && dimensions_object.is_none() {
            dimensions.extend(folder(path).map(|folder| ("category".to_owned(), folder)));
        }
        let source = position("source");
        Ok(MetricsMapping { name, values, suffixes, dimensions, dimension_columns, dimensions_object, source })
    }

    /// The names of the metrics, when the mapping knows them beforehand.
    pub(crate) fn names(&self) -> Option<Vec<String>> {
        match &self.name {
            Name::Fixed(name) => Some(self.suffixes.iter().map(|suffix| format!("{name}{suffix}")).collect()),
            Name::Column(_) => None,
        }
    }

    /// Appends the events of a row, one line each, and returns how many; a value that is not there makes none.
    pub(crate) fn write(&self, cells: &[Cell], at: EventTime, out: &mut Vec<u8>) -> u64 {
        let cell = |index: usize| cells.get(index).unwrap_or(&Cell::Empty);
        let name = match &self.name {
            Name::Fixed(name) => name.clone(),
            Name::Column(index) => text(cell(*index)).unwrap_or_default(),
        };
        let mut dimensions = match self.dimensions_object.map(cell) {
            Some(Cell::Json(Value::Object(object))) => object.clone(),
            _ => serde_json::Map::new(),
        };
        dimensions.extend(self.dimensions.iter().map(|(key, value)| (key.clone(), value.as_str().into())));
        for (key, index) in &self.dimension_columns {
            dimensions.extend(text(cell(*index)).map(|value| (key.clone(), value.into())));
        }
        let source = self.source.and_then(|index| text(cell(index))).unwrap_or_else(|| SOURCE.to_owned());
        let mut events = 0;
        for (index, suffix) in self.values.iter().zip(&self.suffixes) {
            let value = match cell(*index) {
                Cell::Empty => continue,
                Cell::Json(value) => value.clone(),
                Cell::Text(text) => text.parse::<f64>().map_or_else(|_| text.as_str().into(), Value::from),
            };
            let event = json!({
                "name": format!("{name}{suffix}"), "timestamp": at.0, "value": value, "dimensions": dimensions, "source": source,
            });
            out.extend_from_slice(event.to_string().as_bytes());
            out.push(b'\n');
            events += 1;
        }
        events
    }
}

fn text(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Empty => None,
        Cell::Text(text) | Cell::Json(Value::String(text)) => Some(text.clone()),
        Cell::Json(value) => Some(value.to_string()),
    }
}

/// The file's name up to its first ending.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
}

fn folder(path: &Path) -> Option<String> {
    Some(path.parent()?.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::scan::scan;
    use super::*;

    /// The events of the first row of a file.
    fn events(file: &str, content: &str, rule: &MetricsRule) -> Result<Vec<Value>, ClientError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        let mapping = MetricsMapping::new(&path, &scan(&path, None)?, rule)?;
        let mut rows = super::super::rows::Rows::open(&path)?;
        let (mut cells, mut out) = (Vec::new(), Vec::new());
        rows.next(&mut cells)?;
        let count = mapping.write(&cells, EventTime(1_700_000_000_000_000), &mut out);
        let events: Vec<Value> =
            out.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        assert_eq!(events.len() as u64, count);
        Ok(events)
    }

    #[test]
    fn a_plain_series_is_named_by_its_file_and_folder() {
        let content = "timestamp,value\n2014-02-14 14:30:00,1.5\n";
        let expected = json!([{
            "name": "ec2.cpu", "timestamp": 1_700_000_000_000_000_i64, "value": 1.5,
            "dimensions": {"category": "cloud"}, "source": "replay",
        }]);
        assert_eq!(json!(events("cloud/ec2.cpu.csv", content, &MetricsRule::default()).unwrap()), expected);
        let rule = MetricsRule {
            name: Some("cpu".into()),
            dimensions: vec![("host".into(), "a".into())],
            ..Default::default()
        };
        let events = events("cloud/ec2.csv", content, &rule).unwrap();
        assert_eq!((&events[0]["name"], &events[0]["dimensions"]), (&json!("cpu"), &json!({"host": "a"})));
    }

    #[test]
    fn columns_become_values_and_dimensions() {
        let rule = MetricsRule {
            values: vec!["delay".into(), "miles".into()],
            dimension_columns: vec!["origin".into(), "gate".into()],
            ..Default::default()
        };
        let content = "at,origin,gate,delay,miles\n2014-02-14T14:30:00Z,JFK,,,900\n";
        let events = events("flights.csv", content, &rule).unwrap();
        assert_eq!(events.len(), 1, "an empty value makes no event: {events:?}");
        assert_eq!(
            (&events[0]["name"], &events[0]["dimensions"]),
            (&json!("flights.miles"), &json!({"origin": "JFK"}))
        );
    }

    #[test]
    fn events_in_the_servers_own_form_keep_their_parts() {
        let content = r#"{"ts":1700000000,"metric":"m","value":2,"dimensions":{"host":"b"},"source":"agent"}"#;
        let events = events("x.ndjson", content, &MetricsRule::default()).unwrap();
        let expected = json!({
            "name": "m", "timestamp": 1_700_000_000_000_000_i64, "value": 2, "dimensions": {"host": "b"}, "source": "agent",
        });
        assert_eq!(events, [expected]);
    }

    #[test]
    fn a_column_that_is_not_there_is_named_with_advice() {
        let error = events("x.csv", "ts,v\n1700000000,1\n", &MetricsRule::default()).unwrap_err().to_string();
        assert!(error.contains("\"value\" (but ts, v)") && error.contains("--value"), "{error}");
    }
}
