//! Reads back the ingest requests that named themselves, so that a repeat is known after a restart too.
//!
//! ```text
//!              older, or too many                the window
//!   ├──────────────────────────────────┼──────────────────────────────┤────────────────▶ epoch
//!     of each producer: the largest      each request as it was         above F: the log
//!     sequence number                    answered                       will say it again
//! ```

use std::collections::HashMap;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, UInt64Type};
use futures::TryStreamExt;
use streamgauge_schemas::Epoch;
use streamgauge_schemas::stream::{EPOCH_COLUMN, requests};

use crate::{ClickHouse, SinkError};

/// Which requests are still known one by one; by default none, and nothing is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestWindow {
    /// Only those after this epoch.
    pub from: Epoch,
    /// Only so many, the newest.
    pub keys_max: usize,
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

/// What recovery reads of `requests`.
#[derive(Debug, Default)]
pub(crate) struct RequestsRead {
    /// The window, in order of epoch.
    pub(crate) requests: Vec<RecoveredRequest>,
    /// Of each producer, the largest sequence number among the requests that are not in the window.
    pub(crate) sequences: Vec<(String, u64)>,
}

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
    let mut found = read_newest(clickhouse, flushed, window).await?;
    // What the query left out is at or below this epoch: it reads whole epochs.
    let below = match found.iter().map(|request| request.epoch).min() {
        Some(oldest) if found.len() >= window.keys_max => oldest.minus(1),
        _ => window.from,
    };
    let mut sequences = read_sequences(clickhouse, below.min(flushed)).await?;
    for batch in aside {
        let wrong = || SinkError::data("reading requests that were set aside", "a column of another type");
        found.extend(read_batch(batch).ok_or_else(wrong)?);
    }
    found.sort();
    found.dedup(); // set aside, and restored before the file was removed
    let recent = found.partition_point(|request| request.epoch <= window.from);
    let first = recent.max(found.len().saturating_sub(window.keys_max));
    for old in found.drain(..first) {
        if let (Some(producer), Some(sequence)) = (old.producer, old.sequence) {
            let largest = sequences.entry(producer).or_default();
            *largest = sequence.max(*largest);
        }
    }
    let mut sequences: Vec<_> = sequences.into_iter().collect();
    sequences.sort();
    Ok(RequestsRead { requests: found, sequences })
}

/// The newest requests up to `keys_max`, and the others of the oldest epoch among them.
async fn read_newest(
    clickhouse: &ClickHouse,
    flushed: Epoch,
    window: &RequestWindow,
) -> Result<Vec<RecoveredRequest>, SinkError> {
    let stream = requests();
    let columns: Vec<&str> = stream.definition.columns.iter().map(|column| column.name.as_str()).collect();
    let sql = format!(
        "SELECT {}, {EPOCH_COLUMN} FROM {} WHERE {EPOCH_COLUMN} > {} AND {EPOCH_COLUMN} <= {flushed} \
         ORDER BY {EPOCH_COLUMN} DESC LIMIT {} WITH TIES",
        columns.join(", "),
        clickhouse.table(&stream.definition.name),
        window.from,
        window.keys_max,
    );
    let mut found = Vec::new();
    let mut answer = clickhouse.query_arrow(&sql).await?;
    while let Some(batch) = answer.try_next().await? {
        found.extend(read_batch(&batch).ok_or_else(|| SinkError::data(&sql, "a column of another type"))?);
    }
    Ok(found)
}

/// Of each producer, the largest sequence number up to an epoch.
async fn read_sequences(clickhouse: &ClickHouse, upto: Epoch) -> Result<HashMap<String, u64>, SinkError> {
    let sql = format!(
        "SELECT assumeNotNull(producer) AS name, toUInt64(max(assumeNotNull(sequence))) AS largest FROM {} \
         WHERE {EPOCH_COLUMN} <= {upto} AND producer IS NOT NULL AND sequence IS NOT NULL GROUP BY name",
        clickhouse.table(&requests().definition.name),
    );
    let mut sequences = HashMap::new();
    let mut answer = clickhouse.query_arrow(&sql).await?;
    while let Some(batch) = answer.try_next().await? {
        let wrong = || SinkError::data(&sql, "a column of another type");
        let names = batch.column(0).as_string_opt::<i32>().ok_or_else(wrong)?;
        let largest = batch.column(1).as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?;
        sequences.extend((0..batch.num_rows()).map(|at| (names.value(at).to_owned(), largest.value(at))));
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
