//! Events of a stream of the user's own: JSON objects become the columns that the stream defines.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use foldhash::fast::RandomState;
use streamgauge_schemas::stream::{Stream, timestamp_type};
use streamgauge_schemas::{ColumnType, EventBatch, TableBatch};

use super::body::{ReadEvent, Tally, not_an_object};
use super::describe::{clip, describe};
use super::json::{Scanner, Syntax, Text, Value};
use super::number::{self, NotInteger};
use super::timestamp::TimeRange;
use super::{DecodeLimits, Decoded};

/// Column names that a reason lists at most; a stream may have a thousand.
const LISTED_COLUMNS_MAX: usize = 50;

/// Gathers events of one stream into a record batch.
pub(super) struct TableReader<'a> {
    stream: &'a Stream,
    limits: &'a DecodeLimits,
    columns: Vec<ColumnReader<'a>>,
    by_name: HashMap<&'a str, usize, RandomState>,
    /// Where the next key is looked for first: producers repeat the order of their keys.
    next: usize,
    /// The first fault that the keys showed.
    fault: Option<Fault>,
    /// Whether a reason has listed the columns: of the many that may follow, none does.
    listed: bool,
    rows: usize,
}

/// What makes an event a reject before its values are looked at.
enum Fault {
    NotAnObject(String),
    /// A key that is no column, as far as it is shown.
    UnknownKey(String),
}

struct ColumnReader<'a> {
    name: &'a str,
    kind: ColumnType,
    times: TimeRange,
    is_time: bool,
    /// The value of the scanned event.
    value: Value<'a>,
    /// The same, judged.
    cell: Cell<'a>,
    builder: ColumnBuilder,
}

/// A value that fits its column.
enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    I64(i64),
    F64(f64),
    Bool(bool),
}

enum ColumnBuilder {
    Text(StringBuilder),
    I64(Int64Builder),
    F64(Float64Builder),
    Bool(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl ColumnBuilder {
    fn new(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Text | ColumnType::Json => ColumnBuilder::Text(StringBuilder::new()),
            ColumnType::I64 => ColumnBuilder::I64(Int64Builder::new()),
            ColumnType::F64 => ColumnBuilder::F64(Float64Builder::new()),
            ColumnType::Bool => ColumnBuilder::Bool(BooleanBuilder::new()),
            ColumnType::Timestamp => {
                ColumnBuilder::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(timestamp_type()))
            }
        }
    }

    fn append(&mut self, cell: &Cell<'_>) {
        match (self, cell) {
            (ColumnBuilder::Text(builder), Cell::Text(text)) => builder.append_value(text),
            (ColumnBuilder::Text(builder), _) => builder.append_null(),
            (ColumnBuilder::I64(builder), Cell::I64(value)) => builder.append_value(*value),
            (ColumnBuilder::I64(builder), _) => builder.append_null(),
            (ColumnBuilder::F64(builder), Cell::F64(value)) => builder.append_value(*value),
            (ColumnBuilder::F64(builder), _) => builder.append_null(),
            (ColumnBuilder::Bool(builder), Cell::Bool(value)) => builder.append_value(*value),
            (ColumnBuilder::Bool(builder), _) => builder.append_null(),
            (ColumnBuilder::Timestamp(builder), Cell::I64(micros)) => builder.append_value(*micros),
            (ColumnBuilder::Timestamp(builder), _) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            ColumnBuilder::Text(builder) => Arc::new(builder.finish()),
            ColumnBuilder::I64(builder) => Arc::new(builder.finish()),
            ColumnBuilder::F64(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Bool(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Timestamp(builder) => Arc::new(builder.finish()),
        }
    }
}

impl<'a> ColumnReader<'a> {
    /// Judges the scanned value.
    fn judge(&self, limits: &DecodeLimits) -> Result<Cell<'a>, String> {
        match (self.kind, self.value) {
            (_, Value::Null) if self.is_time => Ok(Cell::I64(limits.now.0)),
            (_, Value::Null) => Ok(Cell::Null),
            (ColumnType::Text, Value::Text(text)) => {
                text.bounded(limits.text_bytes_max).map(Cell::Text).map_err(|e| self.fault(&e))
            }
            (ColumnType::I64, Value::Number(text)) => match number::integer(text) {
                Ok(value) => Ok(Cell::I64(value)),
                Err(NotInteger::Range) => {
                    Err(self.fault(&format!("number {} is outside the range of i64", clip(text))))
                }
                Err(NotInteger::Form) => Err(self.mismatch("i64 (a whole number without exponent)")),
            },
            (ColumnType::F64, Value::Number(text)) => match number::float(text) {
                Some(value) => Ok(Cell::F64(value)),
                None => Err(self.fault(&format!("number {} is too large for f64", clip(text)))),
            },
            (ColumnType::Bool, Value::Bool(value)) => Ok(Cell::Bool(value)),
            (ColumnType::Timestamp, value) => {
                self.times.read(value).map(|time| Cell::I64(time.0)).map_err(|e| self.fault(&e))
            }
            (ColumnType::Json, value) => self.json(value, limits),
            (ColumnType::Text, _) => Err(self.mismatch("text")),
            (ColumnType::I64, _) => Err(self.mismatch("i64")),
            (ColumnType::F64, _) => Err(self.mismatch("f64")),
            (ColumnType::Bool, _) => Err(self.mismatch("bool")),
        }
    }

    fn json(&self, value: Value<'a>, limits: &DecodeLimits) -> Result<Cell<'a>, String> {
        let text: Cow<'a, str> = match value {
            Value::Null => "null".into(),
            Value::Bool(true) => "true".into(),
            Value::Bool(false) => "false".into(),
            Value::Number(raw) | Value::Object(raw) | Value::Array(raw) => raw.into(),
            Value::Text(text) => format!("\"{}\"", text.raw).into(),
        };
        if text.len() > limits.text_bytes_max {
            let fault = format!("the JSON has {} bytes; at most {} are accepted", text.len(), limits.text_bytes_max);
            return Err(self.fault(&fault));
        }
        Ok(Cell::Text(text))
    }

    #[cold]
    fn mismatch(&self, wanted: &str) -> String {
        self.fault(&format!("expected {wanted}, found {}", describe(self.value)))
    }

    #[cold]
    fn fault(&self, fault: &str) -> String {
        format!("column \"{}\": {fault}", self.name)
    }
}

impl<'a> TableReader<'a> {
    /// Begins a batch of `stream`.
    pub(super) fn new(stream: &'a Stream, limits: &'a DecodeLimits) -> Self {
        let definition = &stream.definition;
        let column = |column: &'a streamgauge_schemas::Column| {
            let is_time = column.name == definition.time_column;
            ColumnReader {
                name: &column.name,
                kind: column.kind,
                times: TimeRange { now: limits.now, skew: is_time.then_some(limits.skew) },
                is_time,
                value: Value::Null,
                cell: Cell::Null,
                builder: ColumnBuilder::new(column.kind),
            }
        };
        TableReader {
            stream,
            limits,
            columns: definition.columns.iter().map(column).collect(),
            by_name: definition
                .columns
                .iter()
                .enumerate()
                .map(|(index, column)| (column.name.as_str(), index))
                .collect(),
            next: 0,
            fault: None,
            listed: false,
            rows: 0,
        }
    }

    #[inline]
    fn set(&mut self, key: Text<'a>, value: Value<'a>) {
        let expected = self.columns.get(self.next).filter(|column| column.name == key.raw).map(|_| self.next);
        match expected.or_else(|| self.by_name.get(&*key.decode()?).copied()) {
            Some(index) => {
                self.columns[index].value = value;
                self.next = index + 1;
            }
            None => self.unknown(key),
        }
    }

    #[cold]
    fn unknown(&mut self, key: Text<'a>) {
        self.fault.get_or_insert_with(|| Fault::UnknownKey(clip(key.raw)));
    }

    #[cold]
    fn reason(&mut self, fault: Fault) -> String {
        let key = match fault {
            Fault::NotAnObject(reason) => return reason,
            Fault::UnknownKey(key) => key,
        };
        if std::mem::replace(&mut self.listed, true) {
            return format!("unknown key \"{key}\"; the first such reason lists the columns");
        }
        let names =
            self.columns.iter().take(LISTED_COLUMNS_MAX).map(|column| column.name).collect::<Vec<_>>().join(", ");
        let more = self.columns.len().saturating_sub(LISTED_COLUMNS_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("unknown key \"{key}\"; the columns are {names}{more}")
    }

    /// Ends the batch.
    pub(super) fn finish(mut self, tally: Tally) -> Decoded {
        let batch = (self.rows > 0).then(|| {
            let columns = self.columns.iter_mut().map(|column| column.builder.finish()).collect();
            let rows = RecordBatch::try_new(self.stream.definition.schema(), columns)
                .expect("builders follow the definition, and the time is never null");
            EventBatch::Table(Arc::new(TableBatch { stream: self.stream.id, rows }))
        });
        Decoded { batch, rejected: tally.rejected, places: tally.places, source: String::new(), total: tally.total }
    }
}

impl<'a> ReadEvent<'a> for TableReader<'a> {
    fn scan(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Syntax> {
        self.columns.iter_mut().for_each(|column| column.value = Value::Null);
        self.next = 0;
        self.fault = None;
        if scanner.peek() != Some(b'{') {
            self.fault = Some(Fault::NotAnObject(not_an_object(scanner.value()?)));
            return Ok(());
        }
        scanner.open_object()?;
        let mut first = true;
        while let Some(key) = scanner.next_key(first)? {
            first = false;
            let value = scanner.value()?;
            self.set(key, value);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), String> {
        if let Some(fault) = self.fault.take() {
            return Err(self.reason(fault));
        }
        for column in &mut self.columns {
            column.cell = column.judge(self.limits)?;
        }
        self.columns.iter_mut().for_each(|column| column.builder.append(&column.cell));
        self.rows += 1;
        Ok(())
    }
}
