//! Writes the events of a stream to its table, once each.
//!
//! A flush covers the epochs `(after, upto]`. It is cut into parts of at most [`INSERT_ROWS_MAX`] rows, each one insert
//! with one token:
//!
//! ```text
//!   batches (epoch, events)   ──cut──▶  part 0      part 1   …        token  boot/item/after/upto/part
//!                                       chunk chunk  chunk            a chunk is one Arrow batch on the wire
//! ```
//!
//! # Invariants
//!
//! 1. The cut depends on the batches alone, so a repeated attempt makes the same parts with the same tokens.
//! 2. A token names the start of the program (`boot`), so it never means other rows after a restart. What a flush left
//!    behind when the program ended is deleted by [`recovery`](crate::recovery), not recognised by its tokens.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use streamgauge_schemas::stream::{EPOCH_COLUMN, METRICS};
use streamgauge_schemas::{Epoch, EventBatch, MetricsBatch};

use crate::client::INSERT_ROWS_MAX;
use crate::{ClickHouse, SinkError, StreamTable};

/// Rows of one Arrow batch on the wire: enough to be fast, few enough that no thread is busy with them for long.
const CHUNK_ROWS: usize = 16_384;
/// About how many bytes one insert may hold, for streams with long texts; a column of texts must stay below 2 GiB.
const INSERT_BYTES_MAX: usize = 256 << 20;

/// A run of rows of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    batch: usize,
    from: usize,
    len: usize,
}

/// A flush under way; it remembers which parts have arrived, so that an attempt goes on where the last one failed.
pub struct RawFlush {
    table: StreamTable,
    batches: Arc<Vec<(Epoch, EventBatch)>>,
    token: String,
    parts: Vec<Vec<Run>>,
    done: usize,
}

impl RawFlush {
    /// Cuts the batches of a flush; `token` is `boot/item/after/upto`.
    #[must_use]
    pub fn new(table: StreamTable, batches: Vec<(Epoch, EventBatch)>, token: String) -> Self {
        let parts = cut(&batches, INSERT_ROWS_MAX, INSERT_BYTES_MAX);
        RawFlush { table, batches: Arc::new(batches), token, parts, done: 0 }
    }

    /// Where the events go.
    pub(crate) fn table(&self) -> &StreamTable {
        &self.table
    }

    /// The events.
    pub(crate) fn batches(&self) -> &Arc<Vec<(Epoch, EventBatch)>> {
        &self.batches
    }

    /// How many rows in all.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.batches.iter().map(|(_, batch)| batch.len() as u64).sum()
    }

    /// Writes the parts that have not arrived yet. May be called again after an error.
    ///
    /// # Errors
    /// Any error of an insert.
    pub async fn write(&mut self, clickhouse: &ClickHouse) -> Result<(), SinkError> {
        while let Some(part) = self.parts.get(self.done) {
            let token = format!("{}/{}", self.token, self.done);
            SinkError::fault("flush.insert")?;
            let columns = self.columns();
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            let mut insert = clickhouse.begin_insert(self.table.name(), &columns, Some(&token));
            for chunk in chunks(part) {
                let (table, batches) = (self.table.clone(), self.batches.clone());
                let made = tokio::task::spawn_blocking(move || make_chunk(&table, &batches, &chunk)).await;
                insert.write(&made.map_err(|e| SinkError::data("making a batch of events", e))??).await?;
            }
            insert.end().await?;
            SinkError::fault("flush.inserted")?;
            self.done += 1;
        }
        Ok(())
    }

    fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = match &self.table {
            StreamTable::Metrics => ["ts", "name", "value", "dimensions", "source"].map(str::to_owned).to_vec(),
            StreamTable::User(stream) => stream.definition.columns.iter().map(|column| column.name.clone()).collect(),
        };
        columns.push(EPOCH_COLUMN.to_owned());
        columns
    }
}

impl StreamTable {
    /// The name of the table.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            StreamTable::Metrics => METRICS,
            StreamTable::User(stream) => &stream.definition.name,
        }
    }
}

/// The rows of a stream's events as they are inserted, `_epoch` last; all events, so only for few.
pub(crate) fn record_batches(
    table: &StreamTable,
    batches: &[(Epoch, EventBatch)],
) -> Result<Vec<RecordBatch>, SinkError> {
    let parts = cut(batches, INSERT_ROWS_MAX, INSERT_BYTES_MAX);
    parts.iter().flat_map(|part| chunks(part)).map(|chunk| make_chunk(table, batches, &chunk)).collect()
}

/// Cuts batches into parts of at most so many rows, and of about so many bytes (a single row may be larger).
fn cut(batches: &[(Epoch, EventBatch)], rows_max: usize, bytes_max: usize) -> Vec<Vec<Run>> {
    let mut parts: Vec<Vec<Run>> = Vec::new();
    let (mut rows_left, mut bytes_left) = (0, 0);
    for (batch, (_, events)) in batches.iter().enumerate().filter(|(_, (_, events))| !events.is_empty()) {
        let row_bytes = events.spread_bytes().div_ceil(events.len()).max(1);
        let mut from = 0;
        while from < events.len() {
            if rows_left == 0 || bytes_left < row_bytes {
                parts.push(Vec::new());
                (rows_left, bytes_left) = (rows_max, bytes_max.max(row_bytes));
            }
            let len = (events.len() - from).min(rows_left).min(bytes_left / row_bytes);
            parts.last_mut().expect("one was pushed").push(Run { batch, from, len });
            from += len;
            rows_left -= len;
            bytes_left -= len * row_bytes;
        }
    }
    parts
}

/// Groups the runs of a part into chunks, splitting long runs.
fn chunks(part: &[Run]) -> Vec<Vec<Run>> {
    let mut chunks: Vec<Vec<Run>> = Vec::new();
    let mut left = 0;
    for run in part {
        let mut run = *run;
        while run.len > 0 {
            if left == 0 {
                chunks.push(Vec::new());
                left = CHUNK_ROWS;
            }
            let len = run.len.min(left);
            chunks.last_mut().expect("one was pushed").push(Run { len, ..run });
            run = Run { from: run.from + len, len: run.len - len, ..run };
            left -= len;
        }
    }
    chunks
}

/// Makes the Arrow batch of a chunk: the stream's columns and `_epoch`.
fn make_chunk(table: &StreamTable, batches: &[(Epoch, EventBatch)], runs: &[Run]) -> Result<RecordBatch, SinkError> {
    let wrong = |e: arrow::error::ArrowError| SinkError::data("making a batch of events", e);
    let rows = match table {
        StreamTable::Metrics => join_metrics(batches, runs)?,
        StreamTable::User(stream) => {
            let slices: Result<Vec<RecordBatch>, SinkError> = (runs.iter())
                .map(|run| match &batches[run.batch].1 {
                    EventBatch::Table(table) => Ok(table.rows.slice(run.from, run.len)),
                    EventBatch::Metrics(_) => {
                        Err(SinkError::data("making a batch of events", "metrics in a user's stream"))
                    }
                })
                .collect();
            concat_batches(&stream.definition.schema(), &slices?).map_err(wrong)?
        }
    };
    let mut epochs = Vec::with_capacity(rows.num_rows());
    for run in runs {
        epochs.extend(std::iter::repeat_n(batches[run.batch].0.0, run.len));
    }
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(EPOCH_COLUMN, DataType::UInt64, false)));
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns.push(Arc::new(UInt64Array::from(epochs)));
    RecordBatch::try_new(Arc::new(Schema::new(Fields::from(fields))), columns).map_err(wrong)
}

/// Joins runs of metrics into one batch first, so that texts are spread over the rows once, in one vectorised step.
fn join_metrics(batches: &[(Epoch, EventBatch)], runs: &[Run]) -> Result<RecordBatch, SinkError> {
    let mut joined = MetricsBatch::default();
    let mut last: Option<(usize, u32)> = None;
    for run in runs {
        let EventBatch::Metrics(metrics) = &batches[run.batch].1 else {
            return Err(SinkError::data("making a batch of events", "a user's stream in metrics"));
        };
        let offset = match last {
            Some((batch, offset)) if batch == run.batch => offset,
            _ => {
                let offset = joined.series.len() as u32;
                joined.series.extend_from_slice(&metrics.series);
                offset
            }
        };
        last = Some((run.batch, offset));
        let rows = run.from..run.from + run.len;
        joined.series_index.extend(metrics.series_index[rows.clone()].iter().map(|index| index + offset));
        joined.ts.extend_from_slice(&metrics.ts[rows.clone()]);
        joined.value.extend_from_slice(&metrics.value[rows]);
    }
    Ok(joined.to_record_batch())
}

#[cfg(test)]
mod tests {
    use streamgauge_schemas::event::BatchSeries;
    use streamgauge_schemas::{EventTime, Series};

    use super::*;

    fn metrics(epoch: u64, len: usize) -> (Epoch, EventBatch) {
        let series = Arc::new(Series::new(format!("m{epoch}"), [("host", "a")]));
        let batch = MetricsBatch {
            series: vec![BatchSeries { id: series.id(), series, source: "test".into() }],
            series_index: vec![0; len],
            ts: (0..len).map(|at| EventTime(at as i64)).collect(),
            value: vec![1.0; len],
        };
        (Epoch(epoch), EventBatch::Metrics(Arc::new(batch)))
    }

    fn lens(parts: &[Vec<Run>]) -> Vec<usize> {
        parts.iter().map(|part| part.iter().map(|run| run.len).sum()).collect()
    }

    #[test]
    fn parts_hold_every_row_once_and_not_too_many() {
        let batches = [metrics(1, 3), metrics(2, 0), metrics(3, 10), metrics(4, 1)];
        assert_eq!(lens(&cut(&batches, 4, usize::MAX)), [4, 4, 4, 2]);
        assert_eq!(lens(&cut(&batches, 100, usize::MAX)), [14]);
        assert_eq!(lens(&cut(&batches, 100, 1)).len(), 14); // a row that is too large goes alone
        assert!(cut(&[], 4, 4).is_empty());
        let runs = cut(&batches, 4, usize::MAX);
        assert_eq!(runs[0], [Run { batch: 0, from: 0, len: 3 }, Run { batch: 2, from: 0, len: 1 }]);
        assert_eq!(runs[1], [Run { batch: 2, from: 1, len: 4 }]);
    }

    /// A batch holds a text once, and an insert holds it for each event.
    #[test]
    fn parts_of_long_texts_are_cut_by_what_they_become() {
        let (_, EventBatch::Metrics(batch)) = metrics(1, 100) else { unreachable!() };
        let series = Arc::new(Series::new("x".repeat(1_000), [("host", "a")]));
        let long = BatchSeries { id: series.id(), series, source: "s".repeat(1_000).into() };
        let long = MetricsBatch { series: vec![long], ..(*batch).clone() };
        let long = EventBatch::Metrics(Arc::new(long));
        assert!(long.size_bytes() < 10_000 && long.spread_bytes() > 200_000, "{}", long.spread_bytes());
        let parts = cut(&[(Epoch(1), long)], usize::MAX, 50_000);
        assert!(parts.len() >= 4, "{}", parts.len());
    }

    #[test]
    fn chunks_split_long_runs() {
        let part = [Run { batch: 0, from: 5, len: CHUNK_ROWS + 1 }, Run { batch: 1, from: 0, len: 2 }];
        let chunks = chunks(&part);
        assert_eq!(lens(&chunks), [CHUNK_ROWS, 3]);
        assert_eq!(chunks[1][0], Run { batch: 0, from: 5 + CHUNK_ROWS, len: 1 });
    }

    #[test]
    fn a_chunk_keeps_series_and_epochs_together() {
        use arrow::array::AsArray;
        use arrow::datatypes::UInt64Type;
        let batches = [metrics(1, 3), metrics(2, 2)];
        let runs =
            [Run { batch: 0, from: 1, len: 1 }, Run { batch: 0, from: 2, len: 1 }, Run { batch: 1, from: 0, len: 2 }];
        let chunk = make_chunk(&StreamTable::Metrics, &batches, &runs).unwrap();
        let names: Vec<_> = chunk.column(1).as_string::<i32>().iter().flatten().collect();
        assert_eq!(names, ["m1", "m1", "m2", "m2"]);
        assert_eq!(chunk.column(5).as_primitive::<UInt64Type>().values(), &[1, 1, 2, 2]);
    }
}
