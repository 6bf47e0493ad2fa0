//! Events of `metrics`, in all the forms in which they are posted.

use std::sync::Arc;

use streamgauge_schemas::{EventBatch, EventTime, MetricsBatch};

use super::body::{Body, ReadEvent, Tally, not_an_object};
use super::describe::{clip, describe};
use super::json::{Scanner, Syntax, Text, Value};
use super::series_cache::{SeriesCache, SeriesText};
use super::timestamp::TimeRange;
use super::{DecodeError, DecodeLimits, Decoded, number};

const KNOWN_KEYS: &str = "known are timestamp (ts, time), name (metric), value, dimensions (tags, labels) and source";

/// About how long an event is, to size the columns beforehand.
const EVENT_BYTES: usize = 96;

/// Gathers events of `metrics` into a batch.
pub(super) struct MetricsReader<'a> {
    limits: &'a DecodeLimits,
    times: TimeRange,
    /// The source of events that name none.
    source: Text<'a>,
    event: EventFields<'a>,
    series: SeriesCache<'a>,
    series_index: Vec<u32>,
    ts: Vec<EventTime>,
    value: Vec<f64>,
}

/// The members of one event.
#[derive(Default)]
struct EventFields<'a> {
    time: Field<'a>,
    name: Field<'a>,
    value: Field<'a>,
    dimensions: Field<'a>,
    source: Field<'a>,
    /// The first fault that the keys showed.
    fault: Option<String>,
}

/// A member: the key that it came under, empty while there is none, and its value.
struct Field<'a> {
    key: &'static str,
    value: Value<'a>,
}

impl Default for Field<'_> {
    fn default() -> Self {
        Field { key: "", value: Value::Null }
    }
}

impl<'a> Field<'a> {
    /// Takes a value; `false` when it came under another key before and said something else.
    #[inline]
    fn set(&mut self, key: &'static str, value: Value<'a>) -> bool {
        let agrees = self.key.is_empty()
            || self.key == key
            || self.value == Value::Null
            || value == Value::Null
            || same(self.value, value);
        if self.key.is_empty() || self.key == key || self.value == Value::Null {
            *self = Field { key, value };
        }
        agrees
    }
}

/// Whether two values say the same, however they are written.
fn same(a: Value<'_>, b: Value<'_>) -> bool {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => a.decode() == b.decode(),
        _ => a == b,
    }
}

impl<'a> EventFields<'a> {
    #[inline]
    fn set(&mut self, key: Text<'a>, value: Value<'a>) {
        let (field, key) = match key.raw {
            "ts" => (&mut self.time, "ts"),
            "timestamp" => (&mut self.time, "timestamp"),
            "time" => (&mut self.time, "time"),
            "name" => (&mut self.name, "name"),
            "metric" => (&mut self.name, "metric"),
            "value" => (&mut self.value, "value"),
            "dimensions" => (&mut self.dimensions, "dimensions"),
            "tags" => (&mut self.dimensions, "tags"),
            "labels" => (&mut self.dimensions, "labels"),
            "source" => (&mut self.source, "source"),
            _ => return self.unknown(key, value),
        };
        let before = field.key;
        if !field.set(key, value) {
            self.fault.get_or_insert_with(|| format!("{before} and {key} are both given, and differ; give one"));
        }
    }

    #[cold]
    fn unknown(&mut self, key: Text<'a>, value: Value<'a>) {
        match key.decode() {
            Some(plain) if key.escaped => {
                // An escaped key is as good as a plain one, but only if it is one of the known.
                let known =
                    ["ts", "timestamp", "time", "name", "metric", "value", "dimensions", "tags", "labels", "source"];
                if let Some(raw) = known.into_iter().find(|known| *known == plain) {
                    return self.set(Text { raw, escaped: false }, value);
                }
            }
            _ => {}
        }
        self.fault.get_or_insert_with(|| format!("unknown key \"{}\"; {KNOWN_KEYS}", clip(key.raw)));
    }
}

impl<'a> ReadEvent<'a> for MetricsReader<'a> {
    #[inline]
    fn scan(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Syntax> {
        self.event = EventFields::default();
        if scanner.peek() != Some(b'{') {
            self.event.fault = Some(not_an_object(scanner.value()?));
            return Ok(());
        }
        scanner.open_object()?;
        let mut first = true;
        while let Some(key) = scanner.next_key(first)? {
            first = false;
            self.event.set(key, scanner.value()?);
        }
        Ok(())
    }

    #[inline]
    fn commit(&mut self) -> Result<(), String> {
        if let Some(fault) = self.event.fault.take() {
            return Err(fault);
        }
        let event = &self.event;
        let name = match event.name.value {
            Value::Text(name) => name,
            _ => return Err(unusable(&event.name, "name", "text")),
        };
        let time = match event.time.value {
            Value::Null => self.times.now,
            value => self.times.read(value).map_err(|fault| format!("{}: {fault}", event.time.key))?,
        };
        let value = match event.value.value {
            Value::Number(text) => number::float(text).ok_or_else(|| too_large(text))?,
            _ => return Err(unusable(&event.value, "value", "a number")),
        };
        let dimensions = match event.dimensions.value {
            Value::Object(text) => text,
            Value::Null => "",
            _ => return Err(unusable(&event.dimensions, "dimensions", "an object")),
        };
        let source = match event.source.value {
            Value::Text(source) => source,
            Value::Null => self.source,
            _ => return Err(unusable(&event.source, "source", "text")),
        };
        let index = self.series.index(SeriesText { name, dimensions, source }, self.limits)?;
        self.series_index.push(index);
        self.ts.push(time);
        self.value.push(value);
        Ok(())
    }
}

#[cold]
fn unusable(field: &Field<'_>, name: &str, wanted: &str) -> String {
    if field.key.is_empty() {
        return format!("{name}: expected {wanted}, found no such key");
    }
    format!("{}: expected {wanted}, found {}", field.key, describe(field.value))
}

#[cold]
fn too_large(text: &str) -> String {
    format!("value: number {} is too large; at most 1.7976931348623157e308 is accepted", clip(text))
}

impl<'a> MetricsReader<'a> {
    /// Begins a batch for a body of `body_bytes`.
    pub(super) fn new(body_bytes: usize, limits: &'a DecodeLimits) -> Self {
        let events = body_bytes / EVENT_BYTES;
        MetricsReader {
            limits,
            times: TimeRange { now: limits.now, skew: Some(limits.skew) },
            source: Text::default(),
            event: EventFields::default(),
            series: SeriesCache::default(),
            series_index: Vec::with_capacity(events),
            ts: Vec::with_capacity(events),
            value: Vec::with_capacity(events),
        }
    }

    /// Ends the batch.
    pub(super) fn finish(self, tally: Tally) -> Decoded {
        let MetricsReader { series, series_index, ts, value, source, .. } = self;
        let source = source.decode().unwrap_or_default().into_owned();
        let batch = MetricsBatch { series: series.series, series_index, ts, value };
        let batch = (!batch.is_empty()).then(|| EventBatch::Metrics(Arc::new(batch)));
        Decoded { batch, rejected: tally.rejected, places: tally.places, source, total: tally.total }
    }
}

/// The bytes that a body's source may take once each event has its own copy, as in ClickHouse.
const SOURCES_BYTES_MAX: usize = 64 << 20;

const INGEST_WANTED: &str = "an object with data_points, and source_id if you like";

/// Reads `{"source_id", "data_points": […]}`.
///
/// The points are read where they stand when the source is known by then, and otherwise after the rest of the object.
pub(super) fn read_ingest(bytes: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    let body = Body::new(bytes)?;
    let not_json = |syntax| body.not_json(syntax);
    let wrong = |place: &str, wanted, found| DecodeError::WrongShape { place: place.to_owned(), wanted, found };
    let mut scanner = body.scanner();
    if scanner.peek() != Some(b'{') {
        return Err(wrong("the body", INGEST_WANTED, body.scalar(scanner)?));
    }
    let mut reader = MetricsReader::new(bytes.len(), limits);
    let mut tally = Tally::new(limits);
    let (mut source, mut points) = (None, None);
    scanner.open_object().map_err(not_json)?;
    let mut first = true;
    while let Some(key) = scanner.next_key(first).map_err(not_json)? {
        first = false;
        match &*key.decode().unwrap_or_default() {
            "source_id" if source.is_none() => {
                let value = scanner.value().map_err(not_json)?;
                source = Some(source_of(value, limits)?);
            }
            "data_points" if points.is_none() => {
                let array = scanner.peek() == Some(b'[');
                let start = scanner.clone();
                match source {
                    Some(source) if array => {
                        reader.source = source;
                        body.array(&mut scanner, &mut reader, &mut tally)?;
                        points = Some(None);
                    }
                    _ => match scanner.value().map_err(not_json)? {
                        Value::Array(_) => points = Some(Some(start)),
                        other => return Err(wrong("data_points", "an array", describe(other))),
                    },
                }
            }
            "source_id" | "data_points" => {
                return Err(wrong(&format!("key \"{}\"", key.raw), "it once", "it twice".to_owned()));
            }
            _ => {
                return Err(wrong(
                    "the body",
                    "the keys source_id and data_points",
                    format!("key \"{}\"", clip(key.raw)),
                ));
            }
        }
    }
    scanner.end("the end of the body").map_err(not_json)?;
    match points {
        None => return Err(wrong("the body", INGEST_WANTED, "no data_points".to_owned())),
        Some(None) => {}
        Some(Some(mut start)) => {
            reader.source = source.unwrap_or_default();
            body.array(&mut start, &mut reader, &mut tally)?;
        }
    }
    let (bytes, events) = (reader.source.raw.len(), tally.total);
    if bytes as u64 * events > SOURCES_BYTES_MAX as u64 {
        return Err(DecodeError::SourceTooLong { bytes, events, max: SOURCES_BYTES_MAX });
    }
    Ok(reader.finish(tally))
}

fn source_of<'a>(value: Value<'a>, limits: &DecodeLimits) -> Result<Text<'a>, DecodeError> {
    let wrong =
        |found| DecodeError::WrongShape { place: "source_id".to_owned(), wanted: "text of bounded length", found };
    match value {
        Value::Null => Ok(Text::default()),
        Value::Text(text) => text.bounded(limits.text_bytes_max).map(|_| text).map_err(wrong),
        other => Err(wrong(describe(other))),
    }
}
