//! The first pass over a file: its columns with their types, and the times of its first and last event.

use std::path::Path;

use serde_json::Value;
use streamgauge_schemas::time::{from_integer, from_rfc3339};
use streamgauge_schemas::{ColumnType, EventTime};

use super::super::error::ClientError;
use super::rows::{Cell, Rows};

/// Names that a column with the event's time usually has, best first.
const TIME_NAMES: [&str; 8] = ["timestamp", "ts", "time", "event_time", "datetime", "date_time", "date", "created_at"];

/// What a file holds.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// Its columns, in the file's order.
    pub(crate) columns: Vec<ColumnScan>,
    /// The place of the column with the event's time.
    pub(crate) time: usize,
    /// How many rows.
    pub(crate) rows: u64,
    /// The earliest event.
    pub(crate) first: EventTime,
    /// The latest event.
    pub(crate) last: EventTime,
}

/// What the values of a column have in common.
#[derive(Clone, Debug)]
pub(crate) struct ColumnScan {
    /// The name as the file has it.
    pub(crate) name: String,
    filled: u64,
    bool: bool,
    i64: bool,
    f64: bool,
    timestamp: bool,
    nested: bool,
    /// The times of all values, while each is one (as text or as an integer).
    times: Option<(EventTime, EventTime)>,
    all_times: bool,
}

impl ColumnScan {
    fn new(name: &str) -> Self {
        ColumnScan {
            name: name.to_owned(),
            filled: 0,
            bool: true,
            i64: true,
            f64: true,
            timestamp: true,
            nested: false,
            times: None,
            all_times: true,
        }
    }

    fn see(&mut self, cell: &Cell) {
        let (bool, i64, f64, timestamp) = match cell {
            Cell::Empty => return,
            Cell::Text(text) => {
                let i64 = is_integer(text);
                let f64 = i64 || is_decimal(text);
                (matches!(text.as_str(), "true" | "false"), i64, f64, !f64 && from_rfc3339(text).is_some())
            }
            Cell::Json(Value::Bool(_)) => (true, false, false, false),
            Cell::Json(Value::Number(number)) => (false, number.is_i64(), true, false),
            Cell::Json(Value::String(text)) => (false, false, false, from_rfc3339(text).is_some()),
            Cell::Json(_) => {
                self.nested = true;
                (false, false, false, false)
            }
        };
        self.filled += 1;
        self.bool &= bool;
        self.i64 &= i64;
        self.f64 &= f64;
        self.timestamp &= timestamp;
        self.all_times &= i64 || timestamp;
        if self.all_times
            && let Some(time) = time_of(cell)
        {
            let (first, last) = self.times.unwrap_or((time, time));
            self.times = Some((first.min(time), last.max(time)));
        }
    }

    /// The narrowest type that holds every value.
    pub(crate) fn kind(&self) -> ColumnType {
        match self {
            ColumnScan { filled: 0, .. } => ColumnType::Text,
            ColumnScan { nested: true, .. } => ColumnType::Json,
            ColumnScan { bool: true, .. } => ColumnType::Bool,
            ColumnScan { i64: true, .. } => ColumnType::I64,
            ColumnScan { f64: true, .. } => ColumnType::F64,
            ColumnScan { timestamp: true, .. } => ColumnType::Timestamp,
            _ => ColumnType::Text,
        }
    }

    /// What this column and the one of the same name in another file have in common.
    pub(crate) fn merge(&mut self, other: &ColumnScan) {
        self.filled += other.filled;
        self.bool &= other.bool;
        self.i64 &= other.i64;
        self.f64 &= other.f64;
        self.timestamp &= other.timestamp;
        self.nested |= other.nested;
        self.all_times &= other.all_times;
    }
}

/// A whole number that loses nothing as an `i64`; an identifier such as `007` would.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    (digits == "0" || !digits.starts_with('0')) && !digits.starts_with('+') && text.parse::<i64>().is_ok()
}

fn is_decimal(text: &str) -> bool {
    let looks_like_one = text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
    let is_identifier = text.len() > 1 && text.starts_with('0') && !text.starts_with("0.");
    looks_like_one && !is_identifier && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// The time that a cell says, as text or as an integer of s, ms, µs or ns.
pub(crate) fn time_of(cell: &Cell) -> Option<EventTime> {
    match cell {
        Cell::Empty => None,
        Cell::Text(text) => text.parse().ok().map(from_integer).or_else(|| from_rfc3339(text)),
        Cell::Json(Value::String(text)) => from_rfc3339(text),
        Cell::Json(value) => value.as_i64().map(from_integer),
    }
}

/// Reads the whole file once. The column with the time is the named one, or one that has the usual name or form.
///
/// # Errors
/// When a line is wrong, there is no row, or no column gives every row a time.
pub(crate) fn scan(path: &Path, time_column: Option<&str>) -> Result<Scan, ClientError> {
    let mut rows = Rows::open(path)?;
    let mut columns: Vec<ColumnScan> = Vec::new();
    let mut cells = Vec::new();
    let mut count = 0;
    while rows.next(&mut cells)? {
        for (index, cell) in cells.iter().enumerate() {
            if index == columns.len() {
                columns.push(ColumnScan::new(&rows.columns()[index]));
            }
            columns[index].see(cell);
        }
        count += 1;
    }
    let wrong = |reason: String| ClientError::File { path: path.to_owned(), reason };
    if count == 0 {
        return Err(wrong("there is no event in it".into()));
    }
    let time = match time_column {
        Some(name) => columns.iter().position(|column| column.name == name).ok_or_else(|| {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            wrong(format!("there is no column {name:?}; the columns are {}", names.join(", ")))
        })?,
        None => usual_time(&columns, count)
            .ok_or_else(|| wrong("no column has a time in every row; name one with --time-column".into()))?,
    };
    let column = &columns[time];
    match column.times {
        Some((first, last)) if column.all_times && column.filled == count => {
            Ok(Scan { columns, time, rows: count, first, last })
        }
        _ => Err(wrong(format!("column {:?} has not a time (RFC 3339, or s, ms, µs or ns) in every row", column.name))),
    }
}

fn usual_time(columns: &[ColumnScan], rows: u64) -> Option<usize> {
    let usable = |column: &ColumnScan| column.filled == rows && column.all_times;
    let named = TIME_NAMES
        .iter()
        .find_map(|name| columns.iter().position(|column| column.name.eq_ignore_ascii_case(name) && usable(column)));
    named.or_else(|| columns.iter().position(|column| usable(column) && column.timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(name: &str, content: &str, time_column: Option<&str>) -> Result<Scan, ClientError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        scan(&path, time_column)
    }

    #[test]
    fn types_are_the_narrowest_that_hold_every_value() {
        let check = |values: &str, expected: ColumnType| {
            let lines: String = values.split(' ').map(|value| format!("2024-01-01T00:00:00Z,{value}\n")).collect();
            let scan = scanned("x.csv", &format!("at,x\n{lines}"), None).unwrap();
            assert_eq!(scan.columns[1].kind(), expected, "{values}");
        };
        check("1 -2 0", ColumnType::I64);
        check("1 -2.5 1e3", ColumnType::F64);
        check("1 NaN", ColumnType::Text);
        check("007 12", ColumnType::Text);
        check("00.5", ColumnType::Text);
        check("0.5 -0.5", ColumnType::F64);
        check("9223372036854775808 1", ColumnType::F64);
        check("true false", ColumnType::Bool);
        check("true 1", ColumnType::Text);
        check("N14228 12", ColumnType::Text);
        check("2024-01-01T05:00:00+02:00", ColumnType::Timestamp);
        check("2024-01-01T05:00:00+02:00 soon", ColumnType::Text);
        let nested = scanned("x.ndjson", "{\"ts\":1,\"x\":{\"a\":1},\"y\":\"5\"}\n{\"ts\":2,\"x\":3}\n", None).unwrap();
        assert_eq!(
            nested.columns.iter().map(ColumnScan::kind).collect::<Vec<_>>(),
            [ColumnType::I64, ColumnType::Json, ColumnType::Text]
        );
    }

    #[test]
    fn the_time_column_is_found_by_name_or_form() {
        let check = |content: &str, named: Option<&str>, expected: &str| {
            let scan = scanned("x.csv", content, named).unwrap();
            assert_eq!(scan.columns[scan.time].name, expected, "{content}");
        };
        check("timestamp,value\n2014-02-14 14:30:00,0.1\n", None, "timestamp");
        check("id,scheduled_at\n7,2013-01-01T05:15:00-05:00\n", None, "scheduled_at");
        check("a,Time\n2013-01-01T05:15:00Z,1700000000\n", None, "Time");
        check("a,Time\n2013-01-01T05:15:00Z,1700000000\n", Some("a"), "a");
        check("time,at\n,2013-01-01T05:15:00Z\n1700000000,2013-01-01T05:15:00Z\n", None, "at");
    }

    #[test]
    fn the_span_is_that_of_all_rows_in_any_order() {
        let scan = scanned("x.csv", "ts,v\n1700000060,1\n1700000000,1\n1700000030,1\n", None).unwrap();
        assert_eq!((scan.first.0, scan.last.0, scan.rows), (1_700_000_000_000_000, 1_700_000_060_000_000, 3));
    }

    #[test]
    fn a_file_without_times_is_refused_with_advice() {
        let check = |content: &str, named: Option<&str>, expected: &str| {
            let error = scanned("x.csv", content, named).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("a,b\n1,2\n", None, "--time-column");
        check("a,b\n", None, "no event");
        check("a,b\n1,2\n", Some("c"), "the columns are a, b");
        check("a,b\nx,2\n", Some("a"), "has not a time");
    }
}
