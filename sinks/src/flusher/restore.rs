//! Tries again what was set aside: at the start, when it is asked for, and now and then by itself, oldest first.
//!
//! A file of a stream is restored by deleting its epochs from the table and inserting its rows; one of a view by
//! inserting its rows, since a row is replaced by its version. Then the file is removed. So each step may be repeated: a
//! crash before the removal leaves a file whose rows are there already, and the next try finds that out or writes them
//! anew.
//!
//! A file that is still refused is cut in halves, as in `narrow`, at most [`CUTS_MAX`] times a try: what is accepted of
//! it leaves the file, which is replaced by a smaller one. So a row that fits again neither waits for those that do not,
//! nor is it sent again with them. A file of which nothing is accepted is left alone for longer and longer, up to
//! [`PAUSE_MAX`], since it is a human who has to mend the table.
//!
//! # Invariants
//!
//! 1. Rows leave a file only when ClickHouse has them, on disk.
//! 2. Of an epoch of a stream, the table has all rows or none when a piece of the file is done.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use streamgauge_schemas::Epoch;
use streamgauge_schemas::stream::EPOCH_COLUMN;

use super::Shared;
use super::source::can_be_dropped;
use crate::backoff::Backoff;
use crate::client::INSERT_ROWS_MAX;
use crate::repair::{count_rows, delete_rows, end_writes};
use crate::{AsideFile, ClickHouse, SinkError};

/// How often it is looked for files that are due, with jitter.
const LOOK: Duration = Duration::from_secs(60);
/// How long a file that was refused is left alone, at first,
const PAUSE_FIRST: Duration = Duration::from_secs(60);
/// and at most.
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// How many times a file is cut in one try.
const CUTS_MAX: usize = 64;
/// So many pieces refused and none accepted: the table is not mended yet.
const HOPELESS: usize = 8;
/// A file of more intervals of epochs than this is not made; the conditions of statements would grow too long.
const INTERVALS_MAX: usize = 1_000;

/// What is known of the tries so far.
#[derive(Default)]
pub(super) struct Tries {
    /// The tables of tries that were given up, whose writes may still be running.
    unanswered: HashSet<String>,
    refused: Pauses,
}

/// The files of which nothing was accepted, and when each is due again.
#[derive(Default)]
struct Pauses(HashMap<PathBuf, (Instant, Backoff)>);

impl Pauses {
    fn is_due(&self, file: &Path, now: Instant) -> bool {
        self.0.get(file).is_none_or(|(due, _)| *due <= now)
    }

    fn refused(&mut self, file: &Path, now: Instant) {
        let (due, backoff) =
            self.0.entry(file.to_owned()).or_insert_with(|| (now, Backoff::new(PAUSE_FIRST, PAUSE_MAX)));
        *due = now + backoff.next();
    }

    fn forget(&mut self, file: &Path) {
        self.0.remove(file);
    }
}

/// Which files are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that are due.
    Due,
    /// All, since somebody asks for it.
    All,
}

/// How a try went that met no error but refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// All rows are in ClickHouse.
    Restored,
    /// Some are.
    Shrunk,
    /// None are.
    Refused,
    /// It is not the file's turn: the log still has its rows. Or it had no table any more.
    Nothing,
}

/// Restores until the flusher stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut stopping = shared.stopping.subscribe();
    let each = async {
        loop {
            restore(&shared, Which::Due).await;
            tokio::time::sleep(LOOK.mul_f64(rand::random_range(0.9..1.1))).await;
        }
    };
    tokio::select! {
        () = each => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}

/// Tries files once; returns how many were restored whole.
pub(super) async fn restore(shared: &Shared, which: Which) -> usize {
    let mut tries = shared.restoring.lock().await; // one at a time
    let (mut restored, mut tried) = (0, 0);
    for file in shared.aside.files() {
        if which == Which::Due && !tries.refused.is_due(&file.path, Instant::now()) {
            continue;
        }
        tried += 1;
        match restore_file(shared, &file, &mut tries.unanswered).await {
            Ok(Outcome::Restored) => {
                restored += 1;
                tries.refused.forget(&file.path);
            }
            Ok(Outcome::Shrunk | Outcome::Nothing) => tries.refused.forget(&file.path),
            Ok(Outcome::Refused) => tries.refused.refused(&file.path, Instant::now()),
            Err(error) if error.is_retryable() => {
                tracing::debug!(file = %file.path.display(), %error, "rows set aside cannot be restored now");
                tries.unanswered.insert(file.table);
                break;
            }
            Err(error) => {
                tracing::warn!(file = %file.path.display(), %error, "rows set aside cannot be restored");
                tries.refused.refused(&file.path, Instant::now());
            }
        }
    }
    let left = shared.aside.files();
    if tried > 0 && !left.is_empty() {
        let rows: u64 = left.iter().map(|file| file.rows).sum();
        let folder = shared.aside.folder().display();
        tracing::warn!(files = left.len(), rows, %folder, "rows that ClickHouse refused are set aside and missing from answers");
    }
    restored
}

/// Tries a file: as a whole, and if that is refused, in pieces.
async fn restore_file(
    shared: &Shared,
    file: &AsideFile,
    unanswered: &mut HashSet<String>,
) -> Result<Outcome, SinkError> {
    let Some(turn) = shared.turn(&file.item).await else {
        if can_be_dropped(&file.item) {
            tracing::warn!(item = file.item, rows = file.rows, "rows set aside were of what was dropped");
            remove(shared, file).await?;
        }
        return Ok(Outcome::Nothing);
    };
    if file.upto > shared.flushed(&file.item) {
        return Ok(Outcome::Nothing); // invariant 3 of the folder
    }
    SinkError::fault("aside.restore")?;
    let (aside, read) = (shared.aside.clone(), file.clone());
    let rows = tokio::task::spawn_blocking(move || Ok(FileRows::new(aside.read(&read)?, &read))).await;
    let rows = rows.map_err(|e| SinkError::data("reading rows set aside", e))??;
    if unanswered.contains(&file.table) {
        end_writes(&shared.clickhouse, Some(&file.table)).await?;
        unanswered.remove(&file.table);
    }
    drop(turn);
    let mut pieces = Pieces::of(rows.len());
    let stopped = write_pieces(shared, file, &rows, &mut pieces).await;
    if matches!(stopped, Ok(false)) {
        return Ok(Outcome::Nothing);
    }
    if pieces.left().is_empty() {
        SinkError::fault("aside.restored")?;
        remove(shared, file).await?;
        tracing::info!(item = file.item, rows = file.rows, file = %file.path.display(), "restored rows that were set aside");
        return Ok(Outcome::Restored);
    }
    let shrunk = !pieces.accepted.is_empty() && keep(shared, file, rows, &pieces).await?;
    stopped?;
    Ok(if shrunk { Outcome::Shrunk } else { Outcome::Refused })
}

/// The pieces of a file: runs of its units, each either accepted, refused or still to be tried.
struct Pieces {
    /// The next one last.
    to_try: Vec<Range<usize>>,
    accepted: Vec<Range<usize>>,
    refused: Vec<Range<usize>>,
    cuts_left: usize,
    /// What ClickHouse said last.
    reason: Option<String>,
}

impl Pieces {
    fn of(units: usize) -> Self {
        let whole = std::iter::once(0..units).collect();
        Pieces { to_try: whole, accepted: Vec::new(), refused: Vec::new(), cuts_left: CUTS_MAX, reason: None }
    }

    /// The next piece was refused: it is replaced by its halves, or given up for this time.
    fn cut(&mut self, reason: String) {
        let Some(piece) = self.to_try.pop() else { return };
        self.reason = Some(reason);
        let hopeless = self.accepted.is_empty() && self.refused.len() >= HOPELESS;
        if piece.len() > 1 && self.cuts_left > 0 && !hopeless {
            self.cuts_left -= 1;
            let middle = piece.start + piece.len() / 2;
            self.to_try.extend([middle..piece.end, piece.start..middle]);
        } else {
            self.refused.push(piece);
        }
    }

    /// What was not accepted, in order, in as few runs as possible.
    fn left(&self) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = self.refused.iter().chain(&self.to_try).cloned().collect();
        runs.sort_by_key(|run| run.start);
        runs.dedup_by(|next, run| {
            let adjoins = run.end == next.start;
            if adjoins {
                run.end = next.end;
            }
            adjoins
        });
        runs
    }
}

/// Writes pieces until each is accepted or refused; returns false when the item is no more.
async fn write_pieces(
    shared: &Shared,
    file: &AsideFile,
    rows: &FileRows,
    pieces: &mut Pieces,
) -> Result<bool, SinkError> {
    while let Some(piece) = pieces.to_try.last().cloned() {
        let Some(_turn) = shared.turn(&file.item).await else { return Ok(false) };
        match write(&shared.clickhouse, &file.table, rows, &piece).await {
            Ok(()) => pieces.accepted.extend(pieces.to_try.pop()),
            Err(error) if error.refuses_rows() => {
                if let Some(condition) = rows.condition(&piece) {
                    delete_rows(&shared.clickhouse, &file.table, &condition).await?; // invariant 2
                }
                pieces.cut(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Puts a piece into the table, in place of what the table may have of it.
async fn write(clickhouse: &ClickHouse, table: &str, rows: &FileRows, piece: &Range<usize>) -> Result<(), SinkError> {
    let batches = rows.batches(piece);
    if let Some(condition) = rows.condition(piece) {
        let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if count_rows(clickhouse, table, &condition).await? == count as u64 {
            return Ok(()); // the file holds all there are (invariant 2 of the folder), and none is there twice
        }
        delete_rows(clickhouse, table, &condition).await?;
    }
    insert(clickhouse, table, &batches).await
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

/// Replaces the file by one of what was not accepted; returns false when that one cannot be made.
async fn keep(shared: &Shared, file: &AsideFile, rows: FileRows, pieces: &Pieces) -> Result<bool, SinkError> {
    let left = pieces.left();
    let epochs: Vec<(Epoch, Epoch)> = left.iter().flat_map(|piece| rows.intervals(piece)).collect();
    if epochs.len() > INTERVALS_MAX {
        return Ok(false);
    }
    let reason = pieces.reason.clone().unwrap_or_else(|| file.reason.clone());
    let smaller = AsideFile { epochs, reason, ..file.clone() };
    let aside = shared.aside.clone();
    let replace = move || {
        let batches: Vec<RecordBatch> = left.iter().flat_map(|piece| rows.batches(piece)).collect();
        aside.replace(&smaller, &batches)
    };
    let replaced = tokio::task::spawn_blocking(replace).await;
    let smaller = replaced.map_err(|e| SinkError::data("keeping rows set aside", e))??;
    let restored = file.rows - smaller.rows;
    tracing::info!(item = file.item, restored, left = smaller.rows, file = %file.path.display(), "restored some of the rows that were set aside");
    Ok(true)
}

async fn remove(shared: &Shared, file: &AsideFile) -> Result<(), SinkError> {
    let (aside, file) = (shared.aside.clone(), file.clone());
    let removed = tokio::task::spawn_blocking(move || aside.remove(&file)).await;
    removed.map_err(|e| SinkError::data("removing a file of rows set aside", e))?
}

/// The rows of a file, in units that can be written apart: those of one epoch of a stream, or one row of a view.
struct FileRows {
    batches: Vec<RecordBatch>,
    units: Units,
}

enum Units {
    /// The runs of rows of each epoch, by epoch; `starts` are the places in `runs` where an epoch begins, and the end.
    Stream { runs: Vec<Run>, starts: Vec<usize>, intervals: Vec<(Epoch, Epoch)> },
    /// How many rows.
    View(usize),
}

/// Rows of one epoch that lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    epoch: Epoch,
    batch: usize,
    from: usize,
    len: usize,
}

impl FileRows {
    fn new(batches: Vec<RecordBatch>, file: &AsideFile) -> Self {
        let units = match Self::runs(&batches) {
            Some(mut runs) if !file.epochs.is_empty() => {
                runs.sort_unstable();
                let begins = |at: &usize| *at == 0 || runs[*at].epoch != runs[*at - 1].epoch;
                let starts = (0..runs.len()).filter(begins).chain([runs.len()]).collect();
                Units::Stream { runs, starts, intervals: file.epochs.clone() }
            }
            _ => Units::View(batches.iter().map(RecordBatch::num_rows).sum()),
        };
        FileRows { batches, units }
    }

    fn runs(batches: &[RecordBatch]) -> Option<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        for (batch, rows) in batches.iter().enumerate() {
            let epochs = rows.column_by_name(EPOCH_COLUMN)?.as_primitive_opt::<UInt64Type>()?;
            for (from, epoch) in epochs.values().iter().enumerate() {
                match runs.last_mut() {
                    Some(run) if run.batch == batch && run.epoch.0 == *epoch => run.len += 1,
                    _ => runs.push(Run { epoch: Epoch(*epoch), batch, from, len: 1 }),
                }
            }
        }
        Some(runs)
    }

    /// How many units.
    fn len(&self) -> usize {
        match &self.units {
            Units::Stream { starts, .. } => starts.len() - 1,
            Units::View(rows) => *rows,
        }
    }

    /// The rows of some units.
    fn batches(&self, piece: &Range<usize>) -> Vec<RecordBatch> {
        match &self.units {
            Units::Stream { runs, starts, .. } => {
                let runs = &runs[starts[piece.start]..starts[piece.end]];
                let adjoin = |a: &Run, b: &Run| a.batch == b.batch && a.from + a.len == b.from;
                let slice = |runs: &[Run]| {
                    self.batches[runs[0].batch].slice(runs[0].from, runs.iter().map(|run| run.len).sum())
                };
                runs.chunk_by(adjoin).map(slice).collect()
            }
            Units::View(_) => {
                let (mut before, mut cut) = (0, Vec::new());
                for batch in &self.batches {
                    let (from, to) = (piece.start.max(before), piece.end.min(before + batch.num_rows()));
                    if from < to {
                        cut.push(batch.slice(from - before, to - from));
                    }
                    before += batch.num_rows();
                }
                cut
            }
        }
    }

    /// Of a stream: the intervals of epochs, both ends included, of which these units are all events.
    fn intervals(&self, piece: &Range<usize>) -> Vec<(Epoch, Epoch)> {
        let Units::Stream { runs, starts, intervals } = &self.units else { return Vec::new() };
        if piece.is_empty() {
            return Vec::new();
        }
        let (first, last) = (runs[starts[piece.start]].epoch, runs[starts[piece.end] - 1].epoch);
        let inside = |(from, to): &(Epoch, Epoch)| ((*from).max(first), (*to).min(last));
        intervals.iter().map(inside).filter(|(from, to)| from <= to).collect()
    }

    /// Of a stream: what is true of these events alone.
    fn condition(&self, piece: &Range<usize>) -> Option<String> {
        let interval = |(first, last): &(_, _)| format!("{EPOCH_COLUMN} BETWEEN {first} AND {last}");
        let intervals: Vec<String> = self.intervals(piece).iter().map(interval).collect();
        (!intervals.is_empty()).then(|| format!("({})", intervals.join(" OR ")))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::UInt64Array;

    use super::*;

    #[test]
    fn a_file_that_is_refused_is_left_alone_for_longer_and_longer() {
        let (file, mut pauses, start) = (Path::new("f"), Pauses::default(), Instant::now());
        assert!(pauses.is_due(file, start));
        let mut now = start;
        for longest in [60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
            pauses.refused(file, now);
            let longest = Duration::from_secs(longest);
            assert!(!pauses.is_due(file, now + longest.mul_f64(0.49)) && pauses.is_due(file, now + longest));
            now += longest;
        }
        assert!(pauses.is_due(Path::new("other"), start));
        pauses.forget(file);
        assert!(pauses.is_due(file, start));
    }

    /// Cuts `units` of which some are refused, as ClickHouse would; answers the runs that are left, and the inserts.
    fn cut(units: usize, bad: impl Fn(usize) -> bool) -> (Vec<Range<usize>>, usize) {
        let (mut pieces, mut inserts) = (Pieces::of(units), 0);
        while let Some(piece) = pieces.to_try.last().cloned() {
            inserts += 1;
            if piece.clone().any(&bad) {
                pieces.cut("no".into());
            } else {
                pieces.accepted.extend(pieces.to_try.pop());
            }
        }
        let all: usize = pieces.accepted.iter().chain(&pieces.refused).map(ExactSizeIterator::len).sum();
        assert_eq!(all, units);
        (pieces.left(), inserts)
    }

    #[test]
    fn pieces_narrow_down_to_what_is_refused_at_a_bounded_cost() {
        assert_eq!(cut(1_000, |_| false), (vec![], 1));
        let (left, inserts) = cut(100_000, |unit| unit == 70_001);
        assert_eq!(left, vec![70_001..70_002; 1]);
        assert!(inserts < 40, "{inserts}");
        assert_eq!(cut(8, |unit| unit == 2 || unit == 3 || unit == 7).0, [2..4, 7..8]);
        let (left, inserts) = cut(100_000, |_| true);
        assert!(left == vec![0..100_000; 1] && inserts < 60, "{left:?} {inserts}");
        let (left, inserts) = cut(100_000, |unit| unit % 10 == 9);
        assert!(inserts <= 2 * CUTS_MAX + 1 && left.len() > 1, "{inserts}");
    }

    #[test]
    fn rows_of_an_epoch_stay_together_and_others_are_not_touched() {
        let batch = |epochs: &[u64]| {
            let epochs = Arc::new(UInt64Array::from(epochs.to_vec())) as _;
            RecordBatch::try_from_iter([(EPOCH_COLUMN, epochs)]).unwrap()
        };
        let intervals = vec![(Epoch(1), Epoch(4)), (Epoch(7), Epoch(9))];
        let file = AsideFile {
            path: "f".into(),
            item: "stream/0".into(),
            table: "metrics".into(),
            after: Epoch(0),
            upto: Epoch(9),
            epochs: intervals,
            rows: 7,
            bytes: 1,
            reason: String::new(),
        };
        let rows = FileRows::new(vec![batch(&[1, 1, 3]), batch(&[3, 8, 8, 7])], &file);
        assert_eq!(rows.len(), 4); // epochs 1, 3, 7, 8
        let counts = |piece: Range<usize>| rows.batches(&piece).iter().map(RecordBatch::num_rows).collect::<Vec<_>>();
        assert_eq!((counts(0..1), counts(1..2), counts(2..4)), (vec![2], vec![1, 1], vec![1, 2]));
        assert_eq!(rows.intervals(&(1..3)), [(Epoch(3), Epoch(4)), (Epoch(7), Epoch(7))]);
        assert_eq!(rows.condition(&(0..1)).unwrap(), "(_epoch BETWEEN 1 AND 1)");
        let view = FileRows::new(vec![batch(&[1, 1, 3]), batch(&[3, 8])], &AsideFile { epochs: Vec::new(), ..file });
        assert_eq!((view.len(), view.condition(&(0..2))), (5, None));
        assert_eq!(view.batches(&(2..4)), [batch(&[3]), batch(&[3])]);
    }
}
