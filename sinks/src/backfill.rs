//! What is kept of the back-fill of a view: how far it is, and the rows of a step that was cut off.
//!
//! A back-fill counts the events up to the view's creation, in steps of epochs. The rows of a step have the last epoch of
//! the step as generation and version, which is at or below the creation: so they are final, and never in memory.
//!
//! ```text
//!   discard_above(progress) ─▶ write the rows of (progress, upto] ─▶ commit(upto) ─▶ … until upto is the creation
//! ```
//!
//! # Invariants
//!
//! 1. Rows are written, and discarded, while [`Flusher::hold`](crate::Flusher::hold) keeps the view's table where it is.
//! 2. `commit` comes after the rows it speaks of. Rows of a step that was not committed are discarded before the step is
//!    made again, since it may then be cut in another way.

use streamgauge_schemas::view::Failed;
use streamgauge_schemas::{Epoch, View};

use crate::flushed::{Commit, read_flushed, write_flushed};
use crate::repair::{delete_rows, end_writes};
use crate::sql::sql_name;
use crate::{ClickHouse, SinkError};

/// The item of a view's back-fill in `streamgauge_flushed`.
#[must_use]
pub fn item(view: &View) -> String {
    format!("backfill/{}", view.id.0)
}

/// Up to which epoch events are counted by back-filled rows (zero when nothing is, the view's creation when all are), and
/// those of them that the view could not be computed of.
///
/// # Errors
/// Any error of the query.
pub async fn progress(clickhouse: &ClickHouse, view: &View) -> Result<(Epoch, Failed), SinkError> {
    let commit = read_flushed(clickhouse).await?.remove(&item(view)).unwrap_or_default();
    Ok((commit.epoch, commit.failed))
}

/// Says that the events up to `epoch` are counted by back-filled rows, but those that failed (invariant 2).
///
/// # Errors
/// Any error of the insert.
pub async fn commit(clickhouse: &ClickHouse, view: &View, epoch: Epoch, failed: Failed) -> Result<(), SinkError> {
    debug_assert!(epoch <= view.id.created(), "what is later is the flow's to count");
    write_flushed(clickhouse, &[Commit { item: item(view), epoch, failed }]).await
}

/// Deletes the back-filled rows above `epoch`, also those of a write that still runs; returns how many there were.
///
/// # Errors
/// Any error of a statement, after which it may be called again.
pub async fn discard_above(clickhouse: &ClickHouse, view: &View, epoch: Epoch) -> Result<u64, SinkError> {
    let (table, generation) = (view.states_table(), sql_name(&view.hidden("generation")));
    end_writes(clickhouse, Some(&table)).await?;
    let condition = format!("{generation} > {epoch} AND {generation} <= {}", view.id.created());
    delete_rows(clickhouse, &table, &condition).await
}
