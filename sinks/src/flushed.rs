//! The flushed epoch of each item: what ClickHouse has confirmed.
//!
//! An item's largest row counts. With the epoch of a view goes how many events up to it the view could not be computed of:
//! one row, so the two never disagree. A commit is a row of `streamgauge_flushed`, written after the data it speaks of; a
//! small insert costs ClickHouse about as much as a thousand rows of data, so commits that come close together share one.
//!
//! # Invariants
//!
//! 1. A row says `epoch` only after every change of the item up to `epoch` was confirmed, or set aside.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use streamgauge_schemas::Epoch;
use streamgauge_schemas::view::Failed;
use tokio::sync::{mpsc, oneshot};

use crate::client::EXECUTE_TIMEOUT;
use crate::sql::sql_text;
use crate::{ClickHouse, SinkError};

const TABLE: &str = "streamgauge_flushed";
/// How long a commit waits for others to share its insert; nobody waits for a commit but the log's truncation.
const GATHER: Duration = Duration::from_millis(50);
const GATHER_MAX: usize = 1_000;

/// A longer reason is cut.
const REASON_BYTES_MAX: usize = 1_024;

/// How far an item is flushed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The item's name.
    pub item: String,
    /// Its flushed epoch.
    pub epoch: Epoch,
    /// Of a view: all events up to the epoch that it could not be computed of. Of a back-fill: of those that it counts.
    pub failed: Failed,
}

impl Commit {
    /// One of an item without failures.
    #[must_use]
    pub fn new(item: impl Into<String>, epoch: Epoch) -> Self {
        Commit { item: item.into(), epoch, failed: Failed::default() }
    }

    fn sql(&self) -> String {
        let Failed { events, reason } = &self.failed;
        let end = (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
        let reason = sql_text(&reason[..end.unwrap_or_default()]);
        format!("({}, {}, {events}, {reason})", sql_text(&self.item), self.epoch)
    }
}

/// Reads how far every item is flushed.
///
/// # Errors
/// Any error of the query.
pub async fn read_flushed(clickhouse: &ClickHouse) -> Result<HashMap<String, Commit>, SinkError> {
    let table = clickhouse.table(TABLE);
    let sql = format!(
        "SELECT item, max(epoch) AS epoch, argMax(failed_events, t.epoch) AS events, argMax(failed_reason, t.epoch) AS reason \
         FROM {table} AS t WHERE shard = 0 GROUP BY item"
    );
    let wrong = || SinkError::data(&sql, "a column is of another type");
    let mut flushed = HashMap::new();
    for batch in clickhouse.query_batches(&sql).await? {
        let text = |column: usize| batch.column(column).as_string_opt::<i32>().ok_or_else(wrong);
        let number = |column: usize| batch.column(column).as_primitive_opt::<UInt64Type>().ok_or_else(wrong);
        let (items, epochs, events, reasons) = (text(0)?, number(1)?, number(2)?, text(3)?);
        flushed.extend((0..batch.num_rows()).map(|row| {
            let failed = Failed { events: events.value(row), reason: reasons.value(row).to_owned() };
            let item = items.value(row).to_owned();
            (item.clone(), Commit { item, epoch: Epoch(epochs.value(row)), failed })
        }));
    }
    Ok(flushed)
}

/// Writes commits at once.
///
/// # Errors
/// Any error of the insert.
pub async fn write_flushed(clickhouse: &ClickHouse, commits: &[Commit]) -> Result<(), SinkError> {
    let rows: Vec<String> = commits.iter().map(Commit::sql).collect();
    let table = clickhouse.table(TABLE);
    let sql = format!("INSERT INTO {table} (item, epoch, failed_events, failed_reason) VALUES {}", rows.join(", "));
    SinkError::fault("flush.commit")?;
    clickhouse.change(TABLE, &sql, EXECUTE_TIMEOUT).await?;
    SinkError::fault("flush.committed")
}

struct Asked {
    commit: Commit,
    answer: oneshot::Sender<Result<(), Arc<SinkError>>>,
}

/// Gathers commits of several items into one insert. Clones share the gathering; it ends with the last of them.
#[derive(Clone)]
pub(crate) struct Committer(mpsc::Sender<Asked>);

impl Committer {
    pub(crate) fn start(clickhouse: ClickHouse) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Asked>(GATHER_MAX);
        tokio::spawn(async move {
            while let Some(first) = receiver.recv().await {
                tokio::time::sleep(GATHER).await;
                let mut all = vec![first];
                while all.len() < GATHER_MAX
                    && let Ok(asked) = receiver.try_recv()
                {
                    all.push(asked);
                }
                let (commits, answers): (Vec<Commit>, Vec<_>) =
                    all.into_iter().map(|asked| (asked.commit, asked.answer)).unzip();
                let result = write_flushed(&clickhouse, &commits).await.map_err(Arc::new);
                for answer in answers {
                    let _ = answer.send(result.clone()); // whoever asked may be gone
                }
            }
        });
        Committer(sender)
    }

    /// Commits (invariant 1 is the caller's to keep).
    pub(crate) async fn commit(&self, commit: Commit) -> Result<(), Arc<SinkError>> {
        let (answer, result) = oneshot::channel();
        // The gathering task ends before its senders only when the runtime does.
        let ending = || Arc::new(SinkError::Away { url: "streamgauge".into(), reason: "the program is ending".into() });
        self.0.send(Asked { commit, answer }).await.map_err(|_| ending())?;
        result.await.map_err(|_| ending())?
    }
}
