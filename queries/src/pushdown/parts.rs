//! Which parts of a stream's table have only events up to an epoch, so that a question need not read each event's.
//!
//! Parts of a table never change: they are merged into others of other names. So what was once found of a part holds for as
//! long as it is there; and one that is not known is read with its events' epochs. What is known may be old: names of
//! parts that are gone mean nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;
use parking_lot::Mutex;
use streamgauge_schemas::stream::EPOCH_COLUMN;
use streamgauge_schemas::{Epoch, StreamId};

use crate::clickhouse;
use crate::history::{self, History, HistoryError, Waits};

/// Smaller parts are read with their epochs: that costs less than to know them.
const ROWS_MIN: u64 = 500_000;
/// How long the list of a table's parts is used.
const FRESH: Duration = Duration::from_secs(2);

/// The setting by which both readings of a table in one query see the same parts.
pub(super) const SETTING: &str = "enable_shared_storage_snapshot_in_query";

/// What is known of the parts of all streams.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    streams: Mutex<HashMap<StreamId, Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    /// Of each large part its least and its greatest epoch.
    parts: Arc<HashMap<String, (Epoch, Epoch)>>,
    at: Instant,
}

/// A stream's table, and what a question may see of it.
pub(super) struct Read<'a> {
    pub(super) history: &'a Arc<dyn History>,
    pub(super) waits: &'a Waits,
    pub(super) stream: StreamId,
    pub(super) table: &'a str,
    pub(super) flushed: Epoch,
}

impl Parts {
    /// The parts whose events are all of this stream and up to `flushed`; none when ClickHouse does not say, or does not promise
    /// that a query sees one state of a table.
    pub(super) async fn settled(&self, read: &Read<'_>) -> Vec<String> {
        let known = self.streams.lock().get(&read.stream).cloned();
        let known = match known {
            Some(known) if known.at.elapsed() < FRESH => known,
            known => {
                let parts = known.map(|known| known.parts).unwrap_or_default();
                let Ok(parts) = refreshed(&parts, read).await else { return Vec::new() };
                let known = Known { parts: Arc::new(parts), at: Instant::now() };
                self.streams.lock().insert(read.stream, known.clone());
                known
            }
        };
        let is_settled = |(least, greatest): &(Epoch, Epoch)| least.0 > read.stream.0 && *greatest <= read.flushed;
        let mut settled: Vec<String> =
            known.parts.iter().filter(|(_, range)| is_settled(range)).map(|(name, _)| name.clone()).collect();
        settled.sort();
        settled
    }
}

async fn refreshed(
    known: &HashMap<String, (Epoch, Epoch)>,
    read: &Read<'_>,
) -> Result<HashMap<String, (Epoch, Epoch)>, HistoryError> {
    let there = format!(
        "SELECT name, toUInt64(1), toUInt64(1) FROM system.parts WHERE active AND rows >= {ROWS_MIN} AND concat('`', database, '`.`', \
         table, '`') = {} AND (SELECT count() FROM system.settings WHERE name = '{SETTING}') > 0",
        clickhouse::text(read.table)
    );
    let there = ask(read, there).await?;
    let (mut parts, mut unknown) = (HashMap::new(), Vec::new());
    for (name, _) in there {
        match known.get(&name) {
            Some(range) => drop(parts.insert(name, *range)),
            None => unknown.push(clickhouse::text(&name)),
        }
    }
    if !unknown.is_empty() {
        let ranges = format!(
            "SELECT toString(_part), min({EPOCH_COLUMN}), max({EPOCH_COLUMN}) FROM {} WHERE _part IN ({}) GROUP BY _part",
            read.table,
            unknown.join(", ")
        );
        parts.extend(ask(read, ranges).await?);
    }
    Ok(parts)
}

/// Names, each with two epochs.
async fn ask(read: &Read<'_>, sql: String) -> Result<Vec<(String, (Epoch, Epoch))>, HistoryError> {
    let batches = history::read(read.history.clone(), sql, read.flushed, read.waits.clone()).await?;
    let mut answer = Vec::new();
    for batch in batches.try_collect::<Vec<_>>().await? {
        let (names, least) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<UInt64Type>());
        let greatest = batch.column(2).as_primitive::<UInt64Type>();
        for at in 0..batch.num_rows() {
            answer.push((names.value(at).to_owned(), (Epoch(least.value(at)), Epoch(greatest.value(at)))));
        }
    }
    Ok(answer)
}
