//! Decoding: JSON bytes of a request become a columnar batch. The first stage of the path, and the hottest.
//!
//! Pure functions: no I/O, no clock (`now` is given), no shared state. A fault of the body as a whole is a
//! [`DecodeError`]; a fault of one event is a [`Reject`] with the event's index, and the other events stand.
//!
//! # Layout
//!
//! - [`error`](DecodeError): what makes a body unusable.
//! - `json`: a scanner that checks the grammar and gives borrowed pieces of the body.
//! - `body`: the frame: NDJSON lines, or the elements of an array.
//! - `timestamp`, `number`: exact times and numbers from their text.
//! - `metrics`: events of the stream `metrics`; `series_cache`: their series, each parsed once.
//! - `table`: events of a stream of the user's own.
//! - `describe`: how a found value is named in a reason.
//!
//! # Events of `metrics`
//!
//! | key | also | value | missing or null |
//! |---|---|---|---|
//! | `timestamp` | `ts`, `time` | RFC 3339, or a number of s, ms, µs or ns (told apart by size; decimals are read) | now |
//! | `name` | `metric` | text, not empty | reject |
//! | `value` | | a number that is finite as a 64-bit float; the nearest one is taken | reject |
//! | `dimensions` | `tags`, `labels` | an object of texts, numbers and booleans (the latter two become their JSON text); null members are dropped | none |
//! | `source` | | text | the body's `source_id`, or empty |
//!
//! Any other key makes a reject that lists the known ones: a misspelt key would otherwise vanish silently. Of a key
//! that is repeated the last value counts; two names of one key may stand together only if they agree.
//!
//! # Events of other streams
//!
//! Keys are columns; any other key makes a reject, and the first of them in a body lists the columns. A missing or null column is null, a missing time is now. Nothing is
//! converted: a number in a text column is a reject, and so is a text in a number column. `i64` is exact (`12.0` is 12;
//! `12.5`, `1e3` and 2⁶³ are rejects). A column of type `json` keeps the text of the value as it was written.
//!
//! # Frames
//!
//! A byte order mark, `\r\n`, blank lines and a missing last line end are accepted. The index of an event counts the
//! lines that are not blank, or the elements of the array. A line that is not JSON is a reject; an array that is not
//! JSON is an error, since nothing after the fault can be told apart.
//!
//! # Cost
//!
//! One pass. A scanner of our own reads the body because the events are small and of few known keys: there it is
//! faster than general parsers, it names the place of a fault, and its depth is bounded. Texts are borrowed, numbers
//! are read where they stand, and name and dimensions are looked up as written, so only the first event of a series pays
//! for parsing them.

mod body;
mod describe;
mod error;
mod json;
mod metrics;
mod number;
mod series_cache;
mod table;
mod timestamp;

#[cfg(test)]
mod tests;

use std::ops::Range;

use streamgauge_schemas::stream::Stream;
use streamgauge_schemas::{Duration, EventBatch, EventTime, Reject};

pub use error::DecodeError;

use body::{Body, Tally};
use metrics::MetricsReader;
use table::TableReader;

/// What a body held.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The accepted events; `None` when there are none.
    pub batch: Option<EventBatch>,
    /// Every event that was not accepted, by rising index.
    pub rejected: Vec<Reject>,
    /// Where in the body the text of each of them stands.
    pub places: Vec<Range<usize>>,
    /// The source that the body names for all its events; empty if it names none.
    pub source: String,
    /// How many events there were, accepted or not.
    pub total: u64,
}

/// What is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// The moment of the request: the time of events without one.
    pub now: EventTime,
    /// How far ahead of `now` the time of an event may be.
    pub skew: Duration,
    /// The longest name, dimension, source, text or JSON value, in bytes of UTF-8.
    pub text_bytes_max: usize,
    /// The most dimensions of one event.
    pub dimensions_max: usize,
    /// The most events of one body.
    pub events_max: usize,
    /// The most events of one body that are not accepted, and kept as rejects; with more, the whole body is refused.
    pub rejects_max: usize,
    /// The bytes of all reasons of one body together; beyond it, of each only the beginning is kept.
    pub reason_bytes_max: usize,
}

impl DecodeLimits {
    /// The default limits at a moment: 10 minutes ahead, texts of 1 MiB, 10,000 dimensions, 10 million events, 100,000
    /// rejects, 4 MiB of reasons.
    #[must_use]
    pub fn at(now: EventTime) -> Self {
        DecodeLimits {
            now,
            skew: Duration::from_secs(600),
            text_bytes_max: 1 << 20,
            dimensions_max: 10_000,
            events_max: 10_000_000,
            rejects_max: 100_000,
            reason_bytes_max: 4 << 20,
        }
    }
}

/// How events are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One event a line.
    Ndjson,
    /// An array of events; an object alone is an array of one.
    JsonArray,
    /// An array if the body begins with `[`; one event if the body is one object over several lines; otherwise NDJSON.
    Detect,
}

/// Decodes `{"source_id", "data_points": [{"metric", "timestamp", "value", "dimensions"}]}`.
///
/// # Errors
/// [`DecodeError`] when the body as a whole is unusable, or has keys other than these two.
pub fn decode_ingest(body: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    metrics::read_ingest(body, limits)
}

/// Decodes one event of `metrics`, or an array of them.
///
/// ```
/// use streamgauge_engine::decode::{DecodeLimits, decode_points};
/// use streamgauge_schemas::time::wall_clock;
///
/// let body = br#"{"timestamp":"2024-02-02T11:43:02.099Z","name":"temperature","value":30}"#;
/// let decoded = decode_points(body, &DecodeLimits::at(wall_clock())).unwrap();
/// assert_eq!(decoded.batch.unwrap().len(), 1);
/// ```
///
/// # Errors
/// [`DecodeError`] when the body as a whole is unusable.
pub fn decode_points(body: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    decode_metrics(body, Format::JsonArray, limits)
}

/// Decodes events of `metrics`.
///
/// # Errors
/// [`DecodeError`] when the body as a whole is unusable.
pub fn decode_metrics(body: &[u8], format: Format, limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    let text = Body::new(body)?;
    let mut reader = MetricsReader::new(body.len(), limits);
    let mut tally = Tally::new(limits);
    text.read(format, &mut reader, &mut tally)?;
    Ok(reader.finish(tally))
}

/// Decodes events of a stream of the user's own.
///
/// # Errors
/// [`DecodeError`] when the body as a whole is unusable.
pub fn decode_table(
    body: &[u8],
    format: Format,
    stream: &Stream,
    limits: &DecodeLimits,
) -> Result<Decoded, DecodeError> {
    let text = Body::new(body)?;
    let mut reader = TableReader::new(stream, limits);
    let mut tally = Tally::new(limits);
    text.read(format, &mut reader, &mut tally)?;
    Ok(reader.finish(tally))
}
