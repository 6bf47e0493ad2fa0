//! History: what ClickHouse holds, asked for in its SQL and streamed back as Arrow.
//!
//! # Failure
//!
//! A ClickHouse that hangs neither answers nor fails. So while one is waited for, it is asked now and then whether it is
//! there at all; when it does not say so several times in a row, the question fails, long before its time is over. One
//! that says that it is there and still does not send what was asked of it is found by `Waits`, when time is over.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use streamgauge_schemas::Epoch;
use tokio::sync::watch;
use tokio::time::Instant;

/// A stream of rows from ClickHouse.
pub type HistoryStream = BoxStream<'static, Result<RecordBatch, HistoryError>>;

/// A table that is sent along with a query.
#[derive(Clone, Debug)]
pub struct ExternalTable {
    /// Its name in the query.
    pub name: String,
    /// Its columns in ClickHouse's SQL, such as `ts DateTime64(6, 'UTC'), x Nullable(Int64)`.
    pub structure: String,
    /// Its rows, at least one batch, with columns of these names.
    pub batches: Vec<RecordBatch>,
}

/// Reads from ClickHouse.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// Runs a query that only reads.
    ///
    /// Texts come as `Utf8`, also those of `LowCardinality`; `Map` as an Arrow map; `DateTime64(6, 'UTC')` as a
    /// timestamp in µs; `UInt128` as sixteen bytes, lowest first. Dropping the stream ends the query in ClickHouse.
    async fn query(&self, sql: &str) -> Result<HistoryStream, HistoryError>;

    /// As [`query`](Self::query), with tables of ours that the query may name.
    async fn query_with(&self, sql: &str, tables: Vec<ExternalTable>) -> Result<HistoryStream, HistoryError>;

    /// Whether ClickHouse answers; says so within about a second.
    async fn available(&self) -> Result<(), HistoryError>;

    /// Whether ClickHouse has all rows that were flushed: of some it may be that they are set aside, and come later.
    fn is_whole(&self) -> bool {
        true
    }

    /// The plain name of the database that holds the tables.
    fn database(&self) -> &str;
}

/// The pause before a ClickHouse that is waited for is asked whether it is there.
const WATCH_PAUSE: Duration = Duration::from_secs(1);
/// So many times in a row it may fail to say so.
const SILENCES_MAX: u32 = 3;

/// The reads of one question that wait for ClickHouse now; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(Arc<Reads>);

#[derive(Debug, Default)]
struct Reads {
    waiting: watch::Sender<Waiting>,
    /// Bytes that came.
    bytes: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    reads: usize,
    /// What was waited for at last: what ClickHouse has up to here.
    upto: Epoch,
}

/// A read that waits, until it is dropped.
struct Wait<'a>(&'a Waits);

impl Waits {
    fn begin(&self, upto: Epoch) -> Wait<'_> {
        self.0.waiting.send_modify(|waiting| *waiting = Waiting { reads: waiting.reads + 1, upto });
        Wait(self)
    }

    /// Returns as soon as, at `at` or later, a read waits: ClickHouse has not sent everything within `time`.
    pub(crate) async fn late(&self, at: Instant, time: Duration) -> HistoryError {
        tokio::time::sleep_until(at).await;
        let mut changes = self.0.waiting.subscribe();
        let waiting = changes.wait_for(|waiting| waiting.reads > 0).await;
        let waiting = *waiting.expect("the sender is part of what waits here");
        HistoryError::late(time).up_to(waiting.upto)
    }

    /// Up to where it reads what is waited for now; `None` when nothing is.
    pub(crate) fn upto(&self) -> Option<Epoch> {
        let waiting = *self.0.waiting.borrow();
        (waiting.reads > 0).then_some(waiting.upto)
    }

    /// The bytes that came from ClickHouse, unpacked.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    fn came(&self, batch: &RecordBatch) {
        let bytes = batch.columns().iter().filter_map(|column| column.to_data().get_slice_memory_size().ok());
        self.0.bytes.fetch_add(bytes.sum::<usize>() as u64, Ordering::Relaxed);
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.0.waiting.send_modify(|waiting| waiting.reads -= 1);
    }
}

/// Runs a query for what ClickHouse has up to an epoch; fails soon when ClickHouse hangs.
pub(crate) async fn read(
    history: Arc<dyn History>,
    sql: String,
    upto: Epoch,
    waits: Waits,
) -> Result<HistoryStream, HistoryError> {
    read_with(history, sql, Vec::new(), upto, waits).await
}

/// As [`read`], with `tables` of ours.
pub(crate) async fn read_with(
    history: Arc<dyn History>,
    sql: String,
    tables: Vec<ExternalTable>,
    upto: Epoch,
    waits: Waits,
) -> Result<HistoryStream, HistoryError> {
    let batches = {
        let _wait = waits.begin(upto);
        let query = match tables.is_empty() {
            true => history.query(&sql),
            false => history.query_with(&sql, tables),
        };
        watched(history.as_ref(), query).await.and_then(|answer| answer)
    };
    let batches = batches.map_err(|error| error.up_to(upto))?;
    let rest = stream::unfold(Some(batches), move |batches| {
        let (history, waits) = (history.clone(), waits.clone());
        async move {
            let mut batches = batches?;
            let _wait = waits.begin(upto);
            match watched(history.as_ref(), batches.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(batch))) => {
                    waits.came(&batch);
                    Some((Ok(batch), Some(batches)))
                }
                Ok(Some(Err(error))) | Err(error) => Some((Err(error.up_to(upto)), None)),
            }
        }
    });
    Ok(rest.boxed())
}

async fn watched<T>(history: &dyn History, work: impl Future<Output = T>) -> Result<T, HistoryError> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        error = gone(history) => Err(error),
    }
}

/// Returns once ClickHouse has been silent for long.
async fn gone(history: &dyn History) -> HistoryError {
    let mut silences = 0;
    loop {
        tokio::time::sleep(WATCH_PAUSE).await;
        match history.available().await {
            Err(error) if error.is_retryable() => {
                silences += 1;
                if silences == SILENCES_MAX {
                    return error;
                }
            }
            Ok(()) | Err(_) => silences = 0, // whatever it says, it is there
        }
    }
}

/// ClickHouse did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the history in ClickHouse{} could not be read", upto.map(|upto| format!(" up to epoch {upto}")).unwrap_or_default())]
pub struct HistoryError {
    upto: Option<Epoch>,
    #[source]
    source: Arc<dyn Error + Send + Sync>,
    why: Why,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Passing,
    Lasting,
    TableMissing,
    Late,
    Memory,
}

impl HistoryError {
    fn new(why: Why, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        HistoryError { upto: None, source: source.into().into(), why }
    }

    /// An error that may be gone when the same is asked again.
    pub fn retryable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        HistoryError::new(Why::Passing, source)
    }

    /// An error that will be there again.
    pub fn lasting(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        HistoryError::new(Why::Lasting, source)
    }

    /// The table is not there (ClickHouse's code 60): of a stream that was made a moment ago it means that nothing was
    /// flushed to it yet.
    pub fn table_missing(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        HistoryError::new(Why::TableMissing, source)
    }

    /// ClickHouse was too slow, by its own clock.
    pub fn timed_out(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        HistoryError::new(Why::Late, source)
    }

    /// The query would take more memory in ClickHouse than it may itself.
    pub fn beyond_memory(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        HistoryError::new(Why::Memory, source)
    }

    /// ClickHouse was too slow, by ours.
    fn late(time: Duration) -> Self {
        HistoryError::timed_out(format!("ClickHouse did not send all that was asked of it within {time:?}"))
    }

    /// The error of a question that needed what ClickHouse has up to this epoch.
    pub(crate) fn up_to(self, upto: Epoch) -> Self {
        HistoryError { upto: Some(upto), ..self }
    }

    /// Why, with all causes.
    pub(crate) fn reason(&self) -> String {
        let causes = std::iter::successors(self.source(), |cause| (*cause).source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    /// Whether to ask again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.why != Why::Lasting
    }

    /// Whether ClickHouse was too slow.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        self.why == Why::Late
    }

    /// Whether the query would take more memory in ClickHouse than it may itself.
    #[must_use]
    pub fn is_beyond_memory(&self) -> bool {
        self.why == Why::Memory
    }

    /// Up to where what ClickHouse has was needed.
    pub(crate) fn upto(&self) -> Option<Epoch> {
        self.upto
    }

    /// Whether the table is not there.
    #[must_use]
    pub fn is_table_missing(&self) -> bool {
        self.why == Why::TableMissing
    }
}

/// Gives a batch from ClickHouse, column by column, the types and names of `schema`.
///
/// # Errors
/// [`ArrowError`] when a column cannot have the type.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = (batch.columns().iter().zip(schema.fields()))
        .map(|(column, field)| conform_column(column, field.data_type()))
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

/// Gives a column from ClickHouse the type `wanted`.
pub(crate) fn conform_column(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == wanted {
        return Ok(column.clone());
    }
    match (column.data_type(), wanted) {
        // A cast of maps would compare field names, and those of the server are its own.
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let map = column.as_map();
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(ArrowError::CastError(format!("{wanted} has no entries")));
            };
            let keys = conform_column(map.keys(), fields[0].data_type())?;
            let values = conform_column(map.values(), fields[1].data_type())?;
            let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
            let map = MapArray::try_new(entries.clone(), map.offsets().clone(), pairs, map.nulls().cloned(), *sorted)?;
            Ok(Arc::new(map))
        }
        // What does not fit is an error, as it is where DataFusion casts.
        _ => cast_with_options(column, wanted, &CastOptions { safe: false, ..CastOptions::default() }),
    }
}
