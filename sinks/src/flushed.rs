//! The flushed epoch of each item: what ClickHouse has confirmed.
//!
//! An item's largest row counts. A commit is a row of `streamgauge_flushed`, written after the data it speaks of; a
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
use tokio::sync::{mpsc, oneshot};

use crate::client::EXECUTE_TIMEOUT;
use crate::sql::sql_text;
use crate::{ClickHouse, SinkError};

const TABLE: &str = "streamgauge_flushed";
/// How long a commit waits for others to share its insert; nobody waits for a commit but the log's truncation.
const GATHER: Duration = Duration::from_millis(50);
const GATHER_MAX: usize = 1_000;

/// Reads the flushed epoch of every item.
///
/// # Errors
/// Any error of the query.
pub async fn read_flushed(clickhouse: &ClickHouse) -> Result<HashMap<String, Epoch>, SinkError> {
    let table = clickhouse.table(TABLE);
    let sql = format!("SELECT item, max(epoch) AS epoch FROM {table} WHERE shard = 0 GROUP BY item");
    let mut flushed = HashMap::new();
    for batch in clickhouse.query_batches(&sql).await? {
        let items = batch.column(0).as_string_opt::<i32>().ok_or_else(|| SinkError::data(&sql, "item is not text"))?;
        let epochs = batch.column(1).as_primitive_opt::<UInt64Type>();
        let epochs = epochs.ok_or_else(|| SinkError::data(&sql, "epoch is not UInt64"))?;
        flushed
            .extend(items.iter().flatten().map(str::to_owned).zip(epochs.values().iter().map(|epoch| Epoch(*epoch))));
    }
    Ok(flushed)
}

/// Writes commits at once.
///
/// # Errors
/// Any error of the insert.
pub async fn write_flushed(clickhouse: &ClickHouse, commits: &[(String, Epoch)]) -> Result<(), SinkError> {
    let rows: Vec<String> = commits.iter().map(|(item, epoch)| format!("({}, {epoch})", sql_text(item))).collect();
    let table = clickhouse.table(TABLE);
    let sql = format!("INSERT INTO {table} (item, epoch) VALUES {}", rows.join(", "));
    SinkError::fault("flush.commit")?;
    clickhouse.change(TABLE, &sql, EXECUTE_TIMEOUT).await?;
    SinkError::fault("flush.committed")
}

struct Commit {
    item: String,
    epoch: Epoch,
    answer: oneshot::Sender<Result<(), Arc<SinkError>>>,
}

/// Gathers commits of several items into one insert. Clones share the gathering; it ends with the last of them.
#[derive(Clone)]
pub(crate) struct Committer(mpsc::Sender<Commit>);

impl Committer {
    pub(crate) fn start(clickhouse: ClickHouse) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Commit>(GATHER_MAX);
        tokio::spawn(async move {
            while let Some(first) = receiver.recv().await {
                tokio::time::sleep(GATHER).await;
                let mut commits = vec![first];
                while commits.len() < GATHER_MAX
                    && let Ok(commit) = receiver.try_recv()
                {
                    commits.push(commit);
                }
                let rows: Vec<_> = commits.iter().map(|commit| (commit.item.clone(), commit.epoch)).collect();
                let result = write_flushed(&clickhouse, &rows).await.map_err(Arc::new);
                for commit in commits {
                    let _ = commit.answer.send(result.clone()); // whoever asked may be gone
                }
            }
        });
        Committer(sender)
    }

    /// Commits `epoch` for `item` (invariant 1 is the caller's to keep).
    pub(crate) async fn commit(&self, item: &str, epoch: Epoch) -> Result<(), Arc<SinkError>> {
        let (answer, result) = oneshot::channel();
        let commit = Commit { item: item.to_owned(), epoch, answer };
        // The gathering task ends before its senders only when the runtime does.
        let ending = || Arc::new(SinkError::Away { url: "streamgauge".into(), reason: "the program is ending".into() });
        self.0.send(commit).await.map_err(|_| ending())?;
        result.await.map_err(|_| ending())?
    }
}
