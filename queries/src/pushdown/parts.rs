//! Which parts of a stream's table have only events up to an epoch, so that a question need not read each event's.
//!
//! Parts of a table never change: they are merged into others of other names. So what was once found of a part holds for as
//! long as it is there; and one that is not known is read with its events' epochs. What is known may be old: names of
//! parts that are gone mean nothing.
//!
//! # Invariants
//!
//! 1. Both readings of a table in one query see the same parts ([`SETTING`]); a server without that has no settled parts.
//! 2. `indexHint(_part IN (…))` reads those parts and no others, although no row is tested: so no event is counted twice. A server
//!    that reads something for a part of no name has no settled parts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use futures::TryStreamExt;
use parking_lot::Mutex;
use streamgauge_schemas::stream::EPOCH_COLUMN;
use streamgauge_schemas::{Epoch, StreamId};

use crate::clickhouse::{self, Bounds};
use crate::history::{self, History, HistoryError, Waits};

/// Smaller parts are read with their epochs: that costs less than to know them.
const ROWS_MIN: u64 = 500_000;
/// How long the list of a table's parts is used; and while nothing is flushed to it, so that parts only merge.
const FRESH: Duration = Duration::from_secs(2);
const FRESH_IN_PEACE: Duration = Duration::from_secs(30);

/// What ClickHouse may take to say.
const BOUNDS: Bounds = Bounds { time_max: Duration::from_secs(5), memory_bytes_max: 64 << 20 };

/// The setting by which both readings of a table in one query see the same parts.
pub(super) const SETTING: &str = "enable_shared_storage_snapshot_in_query";

/// Names of parts come again after a restart of ClickHouse; their files do not.
type Part = (String, String);

/// What is known of the parts of all streams.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    streams: Mutex<HashMap<StreamId, Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    /// Of each large part its least and its greatest epoch.
    parts: Arc<HashMap<Part, (Epoch, Epoch)>>,
    at: Instant,
    flushed: Epoch,
}

impl Known {
    fn is_fresh(&self, flushed: Epoch) -> bool {
        self.at.elapsed() < if self.flushed == flushed { FRESH_IN_PEACE } else { FRESH }
    }
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
            Some(known) if known.is_fresh(read.flushed) => known,
            known => {
                let parts = known.map(|known| known.parts).unwrap_or_default();
                let parts = refreshed(&parts, read).await.unwrap_or_default(); // one that does not say is not asked each time
                let known = Known { parts: Arc::new(parts), at: Instant::now(), flushed: read.flushed };
                self.streams.lock().insert(read.stream, known.clone());
                known
            }
        };
        let is_settled = |(least, greatest): &(Epoch, Epoch)| least.0 > read.stream.0 && *greatest <= read.flushed;
        let mut settled: Vec<String> =
            known.parts.iter().filter(|(_, range)| is_settled(range)).map(|((name, _), _)| name.clone()).collect();
        settled.sort();
        settled
    }
}

async fn refreshed(
    known: &HashMap<Part, (Epoch, Epoch)>,
    read: &Read<'_>,
) -> Result<HashMap<Part, (Epoch, Epoch)>, HistoryError> {
    let there = format!(
        "SELECT name, hash_of_all_files, toUInt64(1), toUInt64(1) FROM system.parts WHERE active AND rows >= {ROWS_MIN} AND concat('`', database, '`.`', \
         table, '`') = {} AND (SELECT count() FROM system.settings WHERE name = '{SETTING}') > 0",
        clickhouse::text(read.table)
    );
    let there = ask(read, there).await?;
    let (mut parts, mut unknown) = (HashMap::new(), Vec::new());
    for (part, _) in there {
        match known.get(&part) {
            Some(range) => drop(parts.insert(part, *range)),
            None => unknown.push(part),
        }
    }
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|(name, _)| clickhouse::text(name)).collect();
        // Invariant 2: nothing is said of parts where a hint leaves out none.
        let ranges = format!(
            "SELECT toString(_part), '', min({EPOCH_COLUMN}), max({EPOCH_COLUMN}) FROM {table} WHERE _part IN ({}) AND (SELECT count() FROM (SELECT \
             p.{EPOCH_COLUMN} FROM {table} AS p WHERE indexHint(p._part IN ('of no name')) AND p.{EPOCH_COLUMN} > 0 LIMIT 1)) = 0 GROUP BY _part",
            names.join(", "),
            table = read.table
        );
        let ranges: HashMap<Part, _> = ask(read, ranges).await?.into_iter().collect();
        for part in unknown {
            if let Some(range) = ranges.get(&(part.0.clone(), String::new())) {
                parts.insert(part, *range);
            }
        }
    }
    Ok(parts)
}

/// Parts, each with two epochs.
async fn ask(read: &Read<'_>, sql: String) -> Result<Vec<(Part, (Epoch, Epoch))>, HistoryError> {
    let sql = format!("{sql} {}", clickhouse::settings(BOUNDS));
    let batches = history::read(read.history.clone(), sql, read.flushed, read.waits.clone()).await?;
    let mut answer = Vec::new();
    for batch in batches.try_collect::<Vec<_>>().await? {
        let text = |column: usize, at| batch.column(column).as_string::<i32>().value(at).to_owned();
        let epoch = |column: usize, at| Epoch(batch.column(column).as_primitive::<UInt64Type>().value(at));
        answer.extend((0..batch.num_rows()).map(|at| ((text(0, at), text(1, at)), (epoch(2, at), epoch(3, at)))));
    }
    Ok(answer)
}
