//! Tries again what was set aside, at the start and then every minute, oldest first.
//!
//! A file of a stream is restored by deleting its epochs from the table and inserting its rows; one of a view by
//! inserting its rows, since a row is replaced by its version. Then the file is removed. So each step may be repeated: a
//! crash before the removal leaves a file whose rows are there already, and the next try finds that out or writes them
//! anew.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use streamgauge_schemas::stream::EPOCH_COLUMN;

use super::Shared;
use crate::client::INSERT_ROWS_MAX;
use crate::repair::{count_rows, delete_rows, end_writes};
use crate::{AsideFile, ClickHouse, SinkError};

/// How often it is tried, with jitter.
const INTERVAL: Duration = Duration::from_secs(60);

/// Restores until the flusher stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut stopping = shared.stopping.subscribe();
    let each = async {
        loop {
            restore(&shared).await;
            tokio::time::sleep(INTERVAL.mul_f64(rand::random_range(0.9..1.1))).await;
        }
    };
    tokio::select! {
        () = each => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}

/// Tries every file once; returns how many were restored.
pub(super) async fn restore(shared: &Shared) -> usize {
    let mut unanswered = shared.restoring.lock().await; // one at a time
    let mut restored = 0;
    for file in shared.aside.files() {
        match restore_file(shared, &file, &mut unanswered).await {
            Ok(done) => restored += usize::from(done),
            Err(error) if error.is_retryable() => {
                tracing::debug!(file = %file.path.display(), %error, "rows set aside cannot be restored now");
                unanswered.insert(file.table);
                break;
            }
            Err(error) if error.refuses_rows() => {
                tracing::debug!(file = %file.path.display(), %error, "rows set aside are still refused");
            }
            Err(error) => tracing::warn!(file = %file.path.display(), %error, "rows set aside cannot be restored"),
        }
    }
    let left = shared.aside.files();
    if !left.is_empty() {
        let rows: u64 = left.iter().map(|file| file.rows).sum();
        let folder = shared.aside.folder().display();
        tracing::warn!(files = left.len(), rows, %folder, "rows that ClickHouse refused are set aside and missing from answers");
    }
    restored
}

/// Restores a file; returns false when it is not its turn yet, or when it has no table any more.
///
/// `unanswered`: the tables of tries that were given up, whose writes may still be running.
async fn restore_file(shared: &Shared, file: &AsideFile, unanswered: &mut HashSet<String>) -> Result<bool, SinkError> {
    let Some(_turn) = shared.turn(&file.item).await else {
        if file.item.starts_with("stream/") {
            tracing::warn!(item = file.item, rows = file.rows, "rows set aside were of a stream that was dropped");
            remove(shared, file).await?;
        }
        return Ok(false);
    };
    if file.upto > shared.flushed(&file.item) {
        return Ok(false); // invariant 3 of the folder: the log still has them
    }
    SinkError::fault("aside.restore")?;
    let (aside, read) = (shared.aside.clone(), file.clone());
    let batches = tokio::task::spawn_blocking(move || aside.read(&read)).await;
    let batches = batches.map_err(|e| SinkError::data("reading rows set aside", e))??;
    if unanswered.contains(&file.table) {
        end_writes(&shared.clickhouse, Some(&file.table)).await?;
        unanswered.remove(&file.table);
    }
    if make_room(&shared.clickhouse, file).await? {
        insert(&shared.clickhouse, &file.table, &batches).await?;
    }
    SinkError::fault("aside.restored")?;
    remove(shared, file).await?;
    tracing::info!(item = file.item, rows = file.rows, file = %file.path.display(), "restored rows that were set aside");
    Ok(true)
}

/// Deletes what the table has of a stream's epochs; returns false when it has all of them already.
async fn make_room(clickhouse: &ClickHouse, file: &AsideFile) -> Result<bool, SinkError> {
    if file.epochs.is_empty() {
        return Ok(true);
    }
    let interval = |(first, last): &(_, _)| format!("{EPOCH_COLUMN} BETWEEN {first} AND {last}");
    let condition = file.epochs.iter().map(interval).collect::<Vec<String>>().join(" OR ");
    if count_rows(clickhouse, &file.table, &condition).await? == file.rows {
        return Ok(false); // the file holds all there are (invariant 2 of the folder), and none is there twice
    }
    delete_rows(clickhouse, &file.table, &condition).await?;
    Ok(true)
}

/// Inserts rows, each try under tokens of its own: those of an earlier one may be of rows that were deleted since.
async fn insert(clickhouse: &ClickHouse, table: &str, batches: &[RecordBatch]) -> Result<(), SinkError> {
    let token = format!("restore/{:032x}", rand::random::<u128>());
    let mut part: Vec<RecordBatch> = Vec::new();
    let mut parts = Vec::new();
    for batch in batches {
        if part.iter().map(RecordBatch::num_rows).sum::<usize>() + batch.num_rows() > INSERT_ROWS_MAX {
            parts.push(std::mem::take(&mut part));
        }
        part.push(batch.clone());
    }
    parts.push(part);
    for (number, part) in parts.iter().enumerate() {
        clickhouse.insert_arrow(table, part, Some(&format!("{token}/{number}"))).await?;
    }
    Ok(())
}

async fn remove(shared: &Shared, file: &AsideFile) -> Result<(), SinkError> {
    let (aside, file) = (shared.aside.clone(), file.clone());
    let removed = tokio::task::spawn_blocking(move || aside.remove(&file)).await;
    removed.map_err(|e| SinkError::data("removing a file of rows set aside", e))?
}
