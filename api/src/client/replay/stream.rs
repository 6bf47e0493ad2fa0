//! Rows of files as events of a stream of the user's own.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use streamgauge_schemas::{Column, ColumnType, EventTime, StreamDefinition};

use super::super::error::ClientError;
use super::rows::Cell;
use super::scan::{ColumnScan, Scan, time_of};

/// The parts of a stream that a replay needs; the server describes it with more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct StreamShape {
    /// The column with the event's time.
    pub(crate) time_column: String,
    /// All columns.
    pub(crate) columns: Vec<Column>,
}

/// How the rows of one file become events of the stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StreamMapping {
    time: usize,
    columns: Vec<MappedColumn>,
}

#[derive(Clone, Debug, PartialEq)]
struct MappedColumn {
    name: String,
    kind: ColumnType,
}

/// The stream that holds the columns of all files, each with the narrowest type that holds all its values.
///
/// # Errors
/// When the name is not usable, or the files have no common time column.
pub(crate) fn define(name: &str, files: &[(&Path, &Scan)]) -> Result<StreamDefinition, ClientError> {
    let mut columns: Vec<ColumnScan> = Vec::new();
    let mut time_column = String::new();
    for (path, scan) in files {
        let time = column_name(&scan.columns[scan.time].name);
        if !time_column.is_empty() && time != time_column {
            let reason = format!("its time column is {time:?}, and that of the other files {time_column:?}");
            return Err(ClientError::File { path: path.to_path_buf(), reason });
        }
        time_column = time;
        for column in &scan.columns {
            match columns.iter_mut().find(|other| other.name == column.name) {
                Some(other) => other.merge(column),
                None => columns.push(column.clone()),
            }
        }
    }
    let kind =
        |name: &str, column: &ColumnScan| if name == time_column { ColumnType::Timestamp } else { column.kind() };
    let column = |column: &ColumnScan| {
        let name = column_name(&column.name);
        Column { kind: kind(&name, column), name }
    };
    let columns = columns.iter().map(column).collect();
    let definition =
        StreamDefinition { name: name.to_owned(), time_column, columns, order_by: Vec::new(), retention: None };
    Ok(definition.validate()?)
}

/// A heading as the name of a column: `Dep. Delay (min)` is `dep_delay_min`.
fn column_name(heading: &str) -> String {
    let mut name = String::new();
    for character in heading.chars() {
        match character.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => name.push(c),
            _ if name.is_empty() || name.ends_with('_') => {}
            _ => name.push('_'),
        }
    }
    let name = name.trim_end_matches('_');
    if name.starts_with(|c: char| c.is_ascii_lowercase()) { name.to_owned() } else { format!("c_{name}") }
}

impl StreamMapping {
    /// The mapping of a file's columns to those of the stream with the same names.
    ///
    /// # Errors
    /// When the stream has not all of the file's columns, or another time.
    pub(crate) fn new(path: &Path, scan: &Scan, stream: &StreamShape) -> Result<Self, ClientError> {
        let wrong = |reason: String| ClientError::File { path: path.to_owned(), reason };
        let mut columns = Vec::new();
        for column in &scan.columns {
            let name = column_name(&column.name);
            let Some(known) = stream.columns.iter().find(|known| known.name == name) else {
                let names: Vec<&str> = stream.columns.iter().map(|column| column.name.as_str()).collect();
                return Err(wrong(format!("the stream has no column {name:?}; its columns are {}", names.join(", "))));
            };
            columns.push(MappedColumn { name, kind: known.kind });
        }
        let time = &columns[scan.time].name;
        if *time != stream.time_column {
            return Err(wrong(format!("its time is in {time:?}, and that of the stream in {:?}", stream.time_column)));
        }
        Ok(StreamMapping { time: scan.time, columns })
    }

    /// Appends the event of a row as one line. Other timestamps of the row are moved by as much as its time.
    pub(crate) fn write(&self, cells: &[Cell], at: EventTime, out: &mut Vec<u8>) -> u64 {
        let moved_us = cells.get(self.time).and_then(time_of).map_or(0, |time| at.0 - time.0);
        let mut event = Map::new();
        for (index, (column, cell)) in self.columns.iter().zip(cells).enumerate() {
            let value = match cell {
                _ if index == self.time => at.0.into(),
                Cell::Empty => continue,
                cell if column.kind == ColumnType::Timestamp => match time_of(cell) {
                    Some(time) => (time.0 + moved_us).into(),
                    None => plain(cell),
                },
                cell => typed(cell, column.kind),
            };
            event.insert(column.name.clone(), value);
        }
        out.extend_from_slice(Value::Object(event).to_string().as_bytes());
        out.push(b'\n');
        1
    }
}

/// The value as JSON of the column's type; one that is not of that type stays text, for the server to judge.
fn typed(cell: &Cell, kind: ColumnType) -> Value {
    let value = match (cell, kind) {
        (Cell::Text(text), ColumnType::I64) => text.parse::<i64>().ok().map(Value::from),
        (Cell::Text(text), ColumnType::F64) => text.parse::<f64>().ok().map(Value::from),
        (Cell::Text(text), ColumnType::Bool) => text.parse::<bool>().ok().map(Value::from),
        (Cell::Json(Value::String(_)), ColumnType::Text) => None,
        (Cell::Json(value), ColumnType::Text) => Some(value.to_string().into()),
        _ => None,
    };
    value.unwrap_or_else(|| plain(cell))
}

fn plain(cell: &Cell) -> Value {
    match cell {
        Cell::Empty => Value::Null,
        Cell::Text(text) => text.as_str().into(),
        Cell::Json(value) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::Rows;
    use super::super::scan::scan;
    use super::*;
    use serde_json::json;

    const CSV: &str = "scheduled_at,Carrier,Flight No.,arrived_at,delay\n\
        2013-01-01T05:15:00-05:00,UA,1545,2013-01-01T08:15:00-05:00,2\n\
        2013-01-01T05:29:00-05:00,007,1714,,\n";

    fn with_file<T>(name: &str, content: &str, f: impl FnOnce(&Path, &Scan) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        f(&path, &scan(&path, None).unwrap())
    }

    fn shape(definition: StreamDefinition) -> StreamShape {
        StreamShape { time_column: definition.time_column, columns: definition.columns }
    }

    #[test]
    fn a_stream_has_the_columns_and_types_of_its_files() {
        let definition = with_file("f.csv", CSV, |path, scan| define("flights", &[(path, scan)]).unwrap());
        let columns: Vec<(String, ColumnType)> = definition.columns.into_iter().map(|c| (c.name, c.kind)).collect();
        let expected = [
            ("scheduled_at", ColumnType::Timestamp),
            ("carrier", ColumnType::Text),
            ("flight_no", ColumnType::I64),
            ("arrived_at", ColumnType::Timestamp),
            ("delay", ColumnType::I64),
        ];
        assert_eq!(columns, expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(definition.time_column, "scheduled_at");
    }

    #[test]
    fn integers_of_one_file_and_decimals_of_another_are_decimals() {
        with_file("a.csv", "ts,v\n1700000000,1\n", |a, scan_a| {
            with_file("b.csv", "ts,v\n1700000000,1.5\n", |b, scan_b| {
                let definition = define("x", &[(a, scan_a), (b, scan_b)]).unwrap();
                assert_eq!(definition.columns[0].kind, ColumnType::Timestamp);
                assert_eq!(definition.columns[1].kind, ColumnType::F64);
            });
        });
    }

    #[test]
    fn rows_become_events_and_their_times_move_together() {
        with_file("f.csv", CSV, |path, scan| {
            let stream = shape(define("flights", &[(path, scan)]).unwrap());
            let mapping = StreamMapping::new(path, scan, &stream).unwrap();
            let mut rows = Rows::open(path).unwrap();
            let (mut cells, mut out) = (Vec::new(), Vec::new());
            while rows.next(&mut cells).unwrap() {
                mapping.write(&cells, EventTime(1_700_000_000_000_000), &mut out);
            }
            let lines: Vec<Value> =
                out.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
            let three_hours_us = 3 * 3_600_000_000_i64;
            let expected = [
                json!({"scheduled_at": 1_700_000_000_000_000_i64, "carrier": "UA", "flight_no": 1545,
                    "arrived_at": 1_700_000_000_000_000_i64 + three_hours_us, "delay": 2}),
                json!({"scheduled_at": 1_700_000_000_000_000_i64, "carrier": "007", "flight_no": 1714}),
            ];
            assert_eq!(lines, expected);
        });
    }

    #[test]
    fn a_stream_of_another_shape_is_refused() {
        with_file("f.csv", CSV, |path, scan| {
            let mut stream = shape(define("flights", &[(path, scan)]).unwrap());
            stream.time_column = "arrived_at".into();
            let error = StreamMapping::new(path, scan, &stream).unwrap_err().to_string();
            assert!(error.contains("its time is in \"scheduled_at\""), "{error}");
            stream.columns.truncate(4);
            let error = StreamMapping::new(path, scan, &stream).unwrap_err().to_string();
            assert!(error.contains("no column \"delay\""), "{error}");
        });
    }

    #[test]
    fn headings_become_names() {
        for (heading, name) in
            [("Dep. Delay (min)", "dep_delay_min"), ("2nd", "c_2nd"), ("_x", "x"), ("é", "c_"), ("a__b", "a_b")]
        {
            assert_eq!(column_name(heading), name);
        }
    }
}
