//! Batches of events: columnar, as they travel from the decoder through log and dataflow to ClickHouse.
//!
//! Events of `metrics` have a form of their own, because they are the hot path: a batch holds each distinct
//! series once, and per event only a small index into it, a time and a value (20 bytes). Events of a user's
//! stream are an Arrow record batch. Both encode to bytes for the log and back.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, MapBuilder, RecordBatch, StringBuilder, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use arrow::ipc::{reader::StreamReader, writer::StreamWriter};

use crate::{EventTime, SchemaError, Series, SeriesId, StreamDefinition, StreamId};

/// Events of one stream that one request brought.
#[derive(Clone, Debug)]
pub enum EventBatch {
    /// Events of the built-in stream `metrics`.
    Metrics(Arc<MetricsBatch>),
    /// Events of a stream of the user's own.
    Table(Arc<TableBatch>),
}

impl EventBatch {
    /// The stream that the events belong to.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        match self {
            EventBatch::Metrics(_) => StreamId::METRICS,
            EventBatch::Table(table) => table.stream,
        }
    }

    /// How many events.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            EventBatch::Metrics(metrics) => metrics.len(),
            EventBatch::Table(table) => table.rows.num_rows(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes the batch holds in memory.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            EventBatch::Metrics(metrics) => metrics.len() * 20 + metrics.series.len() * 160,
            EventBatch::Table(table) => table.rows.get_array_memory_size(),
        }
    }

    /// About how many bytes [`to_record_batch`](EventBatch::to_record_batch) makes: there, every event has its own texts.
    #[must_use]
    pub fn spread_bytes(&self) -> usize {
        match self {
            EventBatch::Metrics(metrics) => metrics.spread_bytes(),
            EventBatch::Table(table) => table.rows.get_array_memory_size(),
        }
    }

    /// Appends the log's form of the batch to `out`.
    ///
    /// # Errors
    /// [`SchemaError::Encoding`] when Arrow cannot write the batch; a bug, since every column type can be written.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), SchemaError> {
        match self {
            EventBatch::Metrics(metrics) => {
                metrics.encode(out);
                Ok(())
            }
            EventBatch::Table(table) => table.encode(out),
        }
    }

    /// Reads the log's form of a batch of `stream`.
    ///
    /// # Errors
    /// [`SchemaError::Encoding`] with the place where the bytes stop making sense.
    pub fn decode(stream: StreamId, bytes: &[u8]) -> Result<Self, SchemaError> {
        if stream == StreamId::METRICS {
            Ok(EventBatch::Metrics(Arc::new(MetricsBatch::decode(bytes)?)))
        } else {
            Ok(EventBatch::Table(Arc::new(TableBatch::decode(stream, bytes)?)))
        }
    }

    /// The events as an Arrow record batch in the stream's schema.
    #[must_use]
    pub fn to_record_batch(&self) -> RecordBatch {
        match self {
            EventBatch::Metrics(metrics) => metrics.to_record_batch(),
            EventBatch::Table(table) => table.rows.clone(),
        }
    }
}

/// A distinct series of a batch, with the source that sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSeries {
    /// The stable identity of `series`.
    pub id: SeriesId,
    /// Name and dimensions.
    pub series: Arc<Series>,
    /// Who sent it; empty when not said. Not part of the identity.
    pub source: Arc<str>,
}

/// Events of `metrics`: three columns of one length, and the distinct series they point into.
#[derive(Clone, Debug, Default)]
pub struct MetricsBatch {
    /// The distinct (series, source) pairs.
    pub series: Vec<BatchSeries>,
    /// Per event: its place in `series`.
    pub series_index: Vec<u32>,
    /// Per event: its time.
    pub ts: Vec<EventTime>,
    /// Per event: its value; finite.
    pub value: Vec<f64>,
}

impl MetricsBatch {
    /// How many events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    fn spread_bytes(&self) -> usize {
        let pair = |(key, value): &(String, String)| 8 + key.len() + value.len();
        let texts = |entry: &BatchSeries| {
            let dimensions = entry.series.dimensions().iter().map(pair).sum::<usize>();
            32 + entry.series.name().len() + entry.source.len() + dimensions
        };
        let texts: Vec<usize> = self.series.iter().map(texts).collect();
        self.series_index.iter().map(|index| texts[*index as usize]).sum()
    }

    /// Reads events from a record batch with [`StreamDefinition::metrics_schema`].
    ///
    /// # Errors
    /// [`SchemaError::Encoding`] when the columns are others.
    pub fn of_record_batch(rows: &RecordBatch) -> Result<Self, SchemaError> {
        let wrong = || SchemaError::Encoding { offset: 0, reason: "the columns are not those of metrics".into() };
        if rows.schema().fields() != StreamDefinition::metrics_schema().fields() {
            return Err(wrong());
        }
        let texts = |at: usize| rows.column(at).as_string_opt::<i32>().ok_or_else(wrong);
        let (names, sources) = (texts(1)?, texts(4)?);
        let maps = rows.column(3).as_map_opt().ok_or_else(wrong)?;
        let (keys, values) = (maps.keys().as_string::<i32>(), maps.values().as_string::<i32>());
        let times = rows.column(0).as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?;
        let numbers = rows.column(2).as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        let mut batch = MetricsBatch {
            ts: times.values().iter().map(|time| EventTime(*time)).collect(),
            value: numbers.values().to_vec(),
            ..MetricsBatch::default()
        };
        let mut places: HashMap<(SeriesId, &str), u32> = HashMap::new();
        for row in 0..rows.num_rows() {
            let entries = maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize;
            let pairs = entries.map(|entry| (keys.value(entry), values.value(entry)));
            let series = Series::new(names.value(row), pairs);
            let (id, source) = (series.id(), sources.value(row));
            batch.series_index.push(*places.entry((id, source)).or_insert_with(|| {
                batch.series.push(BatchSeries { id, series: Arc::new(series), source: source.into() });
                batch.series.len() as u32 - 1
            }));
        }
        Ok(batch)
    }

    /// The events as an Arrow record batch with [`StreamDefinition::metrics_schema`].
    #[must_use]
    pub fn to_record_batch(&self) -> RecordBatch {
        let mut names = StringBuilder::new();
        let mut sources = StringBuilder::new();
        let mut dimensions = dimensions_builder();
        for entry in &self.series {
            names.append_value(entry.series.name());
            sources.append_value(&entry.source);
            append_dimensions(&mut dimensions, &entry.series);
        }
        let index = UInt32Array::from(self.series_index.clone());
        let spread = |values: ArrayRef| take(&values, &index, None).expect("an index points into its batch's series");
        let ts = TimestampMicrosecondArray::from_iter_values(self.ts.iter().map(|t| t.0)).with_timezone("UTC");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ts),
            spread(Arc::new(names.finish())),
            Arc::new(Float64Array::from(self.value.clone())),
            spread(Arc::new(dimensions.finish())),
            spread(Arc::new(sources.finish())),
        ];
        RecordBatch::try_new(StreamDefinition::metrics_schema(), columns).expect("the columns are those of the schema")
    }

    /// Layout, all integers little-endian: `u32` series, `u32` events; per series three texts (`u32` length, bytes):
    /// name, source, then `u32` dimensions with two texts each; then the columns `u32` index, `i64` time, `f64` value.
    fn encode(&self, out: &mut Vec<u8>) {
        fn text(out: &mut Vec<u8>, text: &str) {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.reserve(self.len() * 20 + self.series.len() * 96 + 8);
        out.extend_from_slice(&(self.series.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.len() as u32).to_le_bytes());
        for entry in &self.series {
            text(out, entry.series.name());
            text(out, &entry.source);
            out.extend_from_slice(&(entry.series.dimensions().len() as u32).to_le_bytes());
            for (key, value) in entry.series.dimensions() {
                text(out, key);
                text(out, value);
            }
        }
        self.series_index.iter().for_each(|index| out.extend_from_slice(&index.to_le_bytes()));
        self.ts.iter().for_each(|ts| out.extend_from_slice(&ts.0.to_le_bytes()));
        self.value.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    }

    fn decode(bytes: &[u8]) -> Result<Self, SchemaError> {
        let mut reader = Reader { bytes, offset: 0 };
        let series_len = reader.u32("the number of series")?;
        let len = reader.u32("the number of events")? as usize;
        let mut batch = MetricsBatch::default();
        let mut sources: HashMap<String, Arc<str>> = HashMap::new();
        for _ in 0..series_len {
            let name = reader.text("a name")?.to_owned();
            let source = reader.text("a source")?.to_owned();
            let dimensions_len = reader.u32("the number of dimensions")?;
            let mut dimensions = Vec::new();
            for _ in 0..dimensions_len {
                dimensions
                    .push((reader.text("a dimension")?.to_owned(), reader.text("a dimension's value")?.to_owned()));
            }
            let series = Arc::new(Series::new(name, dimensions));
            let source = sources.entry(source).or_insert_with_key(|text| text.as_str().into()).clone();
            batch.series.push(BatchSeries { id: series.id(), series, source });
        }
        let index = reader.take(len.saturating_mul(4), "the index column")?;
        batch.series_index = index.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        if let Some(wrong) = batch.series_index.iter().find(|index| **index >= series_len) {
            return Err(reader.wrong(format!("series {wrong} of {series_len}")));
        }
        let ts = reader.take(len.saturating_mul(8), "the time column")?;
        batch.ts = ts.as_chunks::<8>().0.iter().map(|b| EventTime(i64::from_le_bytes(*b))).collect();
        let value = reader.take(len.saturating_mul(8), "the value column")?;
        batch.value = value.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
        if reader.offset != bytes.len() {
            return Err(reader.wrong("the end of the batch".into()));
        }
        Ok(batch)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, reason: String) -> SchemaError {
        SchemaError::Encoding { offset: self.offset, reason: format!("expected {reason}") }
    }

    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], SchemaError> {
        let rest = &self.bytes[self.offset..];
        let taken = rest.get(..len).ok_or_else(|| self.wrong(what.to_owned()))?;
        self.offset += len;
        Ok(taken)
    }

    fn u32(&mut self, what: &str) -> Result<u32, SchemaError> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes were taken")))
    }

    fn text(&mut self, what: &str) -> Result<&'a str, SchemaError> {
        let len = self.u32(what)? as usize;
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map_err(|_| self.wrong(format!("{what} in UTF-8")))
    }
}

/// A builder for the column `dimensions`.
#[must_use]
pub fn dimensions_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    use arrow::array::MapFieldNames;
    use arrow::datatypes::{DataType, Field};
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new()).with_values_field(Field::new(
        "value",
        DataType::Utf8,
        false,
    ))
}

/// Appends the dimensions of a series to the column `dimensions`.
pub fn append_dimensions(builder: &mut MapBuilder<StringBuilder, StringBuilder>, series: &Series) {
    for (key, value) in series.dimensions() {
        builder.keys().append_value(key);
        builder.values().append_value(value);
    }
    builder.append(true).expect("keys and values were appended in pairs");
}

/// Events of a stream of the user's own.
#[derive(Clone, Debug)]
pub struct TableBatch {
    /// The stream.
    pub stream: StreamId,
    /// The events, with [`StreamDefinition::schema`].
    pub rows: RecordBatch,
}

impl TableBatch {
    /// Layout: an Arrow IPC stream of one record batch.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), SchemaError> {
        let wrong = |e: arrow::error::ArrowError| SchemaError::Encoding { offset: 0, reason: e.to_string() };
        let mut writer = StreamWriter::try_new(out, &self.rows.schema()).map_err(wrong)?;
        writer.write(&self.rows).map_err(wrong)?;
        writer.finish().map_err(wrong)
    }

    fn decode(stream: StreamId, bytes: &[u8]) -> Result<Self, SchemaError> {
        let wrong = |reason: String| SchemaError::Encoding { offset: 0, reason };
        let mut reader = StreamReader::try_new(bytes, None).map_err(|e| wrong(e.to_string()))?;
        let rows = reader.next().ok_or_else(|| wrong("expected a record batch".into()))?;
        Ok(TableBatch { stream, rows: rows.map_err(|e| wrong(e.to_string()))? })
    }
}
