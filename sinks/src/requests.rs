//! Reads back the ingest requests that named themselves, so that a repeat is known after a restart too.
//!
//! ```text
//!              older, or too many                the window
//!   ├──────────────────────────────────┼──────────────────────────────┤────────────────▶ epoch
//!     of each producer: the largest      each request as it was         above F: the log
//!     sequence number, and when          answered                       will say it again
//! ```
//!
//! ClickHouse finds where the window begins from lengths alone, so that neither it nor this program ever holds more of
//! the rows than the window may take.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, UInt64Type};
use futures::TryStreamExt;
use streamgauge_schemas::Epoch;
use streamgauge_schemas::stream::{EPOCH_COLUMN, requests};

use crate::sql::sql_text;
use crate::{ClickHouse, SinkError};

/// Which requests are still known one by one; by default none, and nothing is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestWindow {
    /// Only those after this epoch.
    pub from: Epoch,
    /// Only so many, the newest; and of no more producers the largest sequence number.
    pub keys_max: usize,
    /// Only so many that they take no more than this in memory, counted as [`RecoveredRequest::bytes`].
    pub bytes_max: usize,
}

/// A request of the window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecoveredRequest {
    /// When it was acknowledged.
    pub epoch: Epoch,
    /// Where its events went.
    pub stream: String,
    /// Its key, if it had one.
    pub key: Option<String>,
    /// Who sent it, if they counted,
    pub producer: Option<String>,
    /// and as which of theirs.
    pub sequence: Option<u64>,
    /// The hash of stream and body.
    pub body_hash: String,
    /// How many events were accepted.
    pub accepted: u64,
    /// The others, as JSON.
    pub rejected: String,
}

/// How the list of rejects begins each of them.
const REJECT_BEGINS: &str = "{\"index\":";

impl RecoveredRequest {
    /// About what it takes in memory once it is read, and a little more: 300 bytes, and its rejects with 20 bytes each
    /// beside their JSON.
    #[must_use]
    pub fn bytes(&self) -> usize {
        300 + self.rejected.len() + 20 * self.rejected.matches(REJECT_BEGINS).count()
    }
}

/// Of a producer, what is known of the requests that are not known one by one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecoveredSequence {
    /// The producer.
    pub producer: String,
    /// The largest sequence number.
    pub sequence: u64,
    /// When the newest of these requests was acknowledged.
    pub epoch: Epoch,
}

/// What recovery reads of `requests`.
#[derive(Debug, Default)]
pub(crate) struct RequestsRead {
    /// The window, in order of epoch.
    pub(crate) requests: Vec<RecoveredRequest>,
    /// Of each producer, what is known of the requests that are not in the window.
    pub(crate) sequences: Vec<RecoveredSequence>,
}

/// Per producer the largest sequence number and the newest epoch.
type Sequences = HashMap<String, (u64, Epoch)>;

/// Reads the window as of the flushed epoch of `requests`; `aside` are rows of it that are set aside.
pub(crate) async fn read_requests(
    clickhouse: &ClickHouse,
    flushed: Epoch,
    window: &RequestWindow,
    aside: &[RecordBatch],
) -> Result<RequestsRead, SinkError> {
    if window.keys_max == 0 {
        return Ok(RequestsRead::default());
    }
    let from = read_beginning(clickhouse, flushed, window).await?; // whole epochs
    let mut found = read_after(clickhouse, from, flushed).await?;
    let mut sequences = read_sequences(clickhouse, from.min(flushed), window.keys_max).await?;
    for batch in aside {
        let wrong = || SinkError::data("reading requests that were set aside", "a column of another type");
        found.extend(read_batch(batch).ok_or_else(wrong)?);
    }
    found.sort();
    found.dedup(); // set aside, and restored before the file was removed
    let mut bytes = 0;
    let mut fits = |request: &RecoveredRequest| {
        bytes += request.bytes();
        request.epoch > window.from && bytes <= window.bytes_max
    };
    let first = found.len() - found.iter().rev().take(window.keys_max).map_while(|it| fits(it).then_some(())).count();
    for old in found.drain(..first) {
        if let (Some(producer), Some(sequence)) = (old.producer, old.sequence) {
            let known = sequences.entry(producer).or_default();
            *known = (sequence.max(known.0), old.epoch.max(known.1));
        }
    }
    let known = |(producer, (sequence, epoch))| RecoveredSequence { producer, sequence, epoch };
    let mut sequences: Vec<RecoveredSequence> = sequences.into_iter().map(known).collect();
    sequences.sort();
    Ok(RequestsRead { requests: found, sequences })
}

/// The epoch after which the window begins: after the newest epoch that begins beyond one of its bounds.
///
/// An epoch that lies across the bound of the number is still read; it is cut later, by the order of its rows.
async fn read_beginning(clickhouse: &ClickHouse, flushed: Epoch, window: &RequestWindow) -> Result<Epoch, SinkError> {
    let RequestWindow { from, keys_max, bytes_max } = window;
    let begins = sql_text(REJECT_BEGINS);
    let sql = format!(
        "SELECT toUInt64(max(epoch)) FROM (SELECT epoch, sum(n) OVER newer AS number, sum(b) OVER newer AS bytes, n \
         FROM (SELECT {EPOCH_COLUMN} AS epoch, count() AS n, \
         sum(300 + length(ifNull(rejected, '')) + 20 * countSubstrings(ifNull(rejected, ''), {begins})) AS b \
         FROM {} WHERE {EPOCH_COLUMN} > {from} AND {EPOCH_COLUMN} <= {flushed} GROUP BY epoch) \
         WINDOW newer AS (ORDER BY epoch DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)) \
         WHERE number - n >= {keys_max} OR bytes > {bytes_max}",
        clickhouse.table(&requests().definition.name),
    );
    let mut beyond = *from;
    for batch in clickhouse.query_batches(&sql).await? {
        let wrong = || SinkError::data(&sql, "a column of another type");
        let epochs = batch.column(0).as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?;
        beyond = epochs.values().iter().fold(beyond, |beyond, epoch| beyond.max(Epoch(*epoch)));
    }
    Ok(beyond)
}

/// The requests of `(after, flushed]`.
async fn read_after(clickhouse: &ClickHouse, after: Epoch, flushed: Epoch) -> Result<Vec<RecoveredRequest>, SinkError> {
    let stream = requests();
    let columns: Vec<&str> = stream.definition.columns.iter().map(|column| column.name.as_str()).collect();
    let sql = format!(
        "SELECT {}, {EPOCH_COLUMN} FROM {} WHERE {EPOCH_COLUMN} > {after} AND {EPOCH_COLUMN} <= {flushed}",
        columns.join(", "),
        clickhouse.table(&stream.definition.name),
    );
    let mut found = Vec::new();
    let mut answer = clickhouse.query_arrow(&sql).await?;
    while let Some(batch) = answer.try_next().await? {
        found.extend(read_batch(&batch).ok_or_else(|| SinkError::data(&sql, "a column of another type"))?);
    }
    Ok(found)
}

/// Of the producers whose requests up to an epoch are the newest, the largest sequence number among these.
async fn read_sequences(clickhouse: &ClickHouse, upto: Epoch, producers_max: usize) -> Result<Sequences, SinkError> {
    let sql = format!(
        "SELECT assumeNotNull(producer) AS name, toUInt64(max(assumeNotNull(sequence))) AS largest, \
         toUInt64(max({EPOCH_COLUMN})) AS newest FROM {} \
         WHERE {EPOCH_COLUMN} <= {upto} AND producer IS NOT NULL AND sequence IS NOT NULL GROUP BY name \
         ORDER BY newest DESC LIMIT {producers_max}",
        clickhouse.table(&requests().definition.name),
    );
    let mut sequences = HashMap::new();
    let mut answer = clickhouse.query_arrow(&sql).await?;
    while let Some(batch) = answer.try_next().await? {
        let wrong = || SinkError::data(&sql, "a column of another type");
        let names = batch.column(0).as_string_opt::<i32>().ok_or_else(wrong)?;
        let largest = batch.column(1).as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?;
        let newest = batch.column(2).as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?;
        let one = |at: usize| (names.value(at).to_owned(), (largest.value(at), Epoch(newest.value(at))));
        sequences.extend((0..batch.num_rows()).map(one));
    }
    Ok(sequences)
}

/// Reads rows of the stream's columns and `_epoch`; `None` when a column is missing or has another type.
fn read_batch(batch: &RecordBatch) -> Option<Vec<RecoveredRequest>> {
    let text = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
    let number = |name: &str| batch.column_by_name(name)?.as_primitive_opt::<Int64Type>();
    let epochs = batch.column_by_name(EPOCH_COLUMN)?.as_primitive_opt::<UInt64Type>()?;
    let (streams, keys, producers) = (text("stream")?, text("key")?, text("producer")?);
    let (sequences, hashes) = (number("sequence")?, text("body_hash")?);
    let (accepted, rejected) = (number("accepted")?, text("rejected")?);
    let text_at = |column: &StringArray, at: usize| column.is_valid(at).then(|| column.value(at).to_owned());
    let number_at = |column: &Int64Array, at: usize| u64::try_from(column.is_valid(at).then(|| column.value(at))?).ok();
    let request = |at: usize| RecoveredRequest {
        epoch: Epoch(epochs.value(at)),
        stream: text_at(streams, at).unwrap_or_default(),
        key: text_at(keys, at),
        producer: text_at(producers, at),
        sequence: number_at(sequences, at),
        body_hash: text_at(hashes, at).unwrap_or_default(),
        accepted: number_at(accepted, at).unwrap_or_default(),
        rejected: text_at(rejected, at).unwrap_or_else(|| "[]".to_owned()),
    };
    Some((0..batch.num_rows()).map(request).collect())
}
