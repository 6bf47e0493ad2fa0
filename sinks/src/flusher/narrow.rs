//! Narrows a unit that ClickHouse refuses down to what it refuses, and sets that aside.
//!
//! ```text
//!   unit, refused ASIDE_AFTER times
//!     └─ take back what arrived ─▶ cut in two ─▶ first half ─accepted─▶ done
//!                                      └───────▶ second half ─refused─▶ take back, cut in two ─▶ … ─▶ one epoch or row
//!                                                                                                       └─▶ set aside
//! ```
//!
//! A stream is cut between epochs, a view anywhere between rows. After [`CUTS_MAX`] cuts, or when the first
//! [`HOPELESS`] pieces that cannot be cut were all refused, what is refused is cut no more and set aside with what may be
//! good in it: a table that refuses everything costs a bounded number of inserts, and one file a flush.
//!
//! # Invariants
//!
//! 1. Each piece has a token of its own, made of its place in the unit, and is never sent again under that token after
//!    it was taken back: ClickHouse would take it for a repetition and drop it.
//! 2. Everything here may be called again after an error that heals, and goes on where it was.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use streamgauge_schemas::stream::EPOCH_COLUMN;
use streamgauge_schemas::{Epoch, EventBatch, Key, Rows, SeriesId, View};

use super::Shared;
use crate::aside::AsideRows;
use crate::raw::{RawFlush, record_batches};
use crate::repair::{delete_rows, end_writes};
use crate::states::{make_chunk, write_range};
use crate::{AsideFile, ClickHouse, SinkError, StreamTable};

/// How many times a unit is cut.
const CUTS_MAX: usize = 1_000;
/// So many pieces refused and none accepted: it is not the rows but the table.
const HOPELESS: usize = 16;
/// Rows of one Arrow batch in a file.
const CHUNK_ROWS: usize = 65_536;

/// What is cut: a run of epochs or of rows.
pub(super) enum Whole {
    /// The events of a stream; `starts` are the places in `batches` where an epoch begins, and the end.
    Stream { table: StreamTable, batches: Arc<Vec<(Epoch, EventBatch)>>, starts: Vec<usize>, token: String },
    /// The rows of a view.
    View { view: Arc<View>, rows: Arc<Rows>, keys: Arc<HashMap<SeriesId, Key>> },
}

impl Whole {
    /// The events of a stream, in order of epoch.
    pub(super) fn stream(table: StreamTable, batches: Arc<Vec<(Epoch, EventBatch)>>, token: String) -> Self {
        let begins = |at: &usize| *at == 0 || batches[*at].0 != batches[*at - 1].0;
        let mut starts: Vec<usize> = (0..batches.len()).filter(begins).collect();
        starts.push(batches.len());
        Whole::Stream { table, batches, starts, token }
    }

    /// How many pieces it can be cut into.
    fn len(&self) -> usize {
        match self {
            Whole::Stream { starts, .. } => starts.len() - 1,
            Whole::View { rows, .. } => rows.len(),
        }
    }

    fn table(&self) -> String {
        match self {
            Whole::Stream { table, .. } => table.name().to_owned(),
            Whole::View { view, .. } => view.states_table(),
        }
    }

    async fn write(&self, clickhouse: &ClickHouse, piece: Range<usize>) -> Result<(), SinkError> {
        match self {
            Whole::Stream { table, batches, starts, token } => {
                let token = format!("{token}/{}-{}", piece.start, piece.end); // invariant 1
                let batches = batches[starts[piece.start]..starts[piece.end]].to_vec();
                RawFlush::new(table.clone(), batches, token).write(clickhouse).await
            }
            Whole::View { view, rows, keys } => write_range(clickhouse, view, rows, piece, keys).await,
        }
    }

    /// Deletes what may have arrived of a piece. Rows of a view may stay, since they are written again whole.
    async fn take_back(&self, clickhouse: &ClickHouse, piece: Range<usize>) -> Result<(), SinkError> {
        let Some((first, last)) = self.epochs(&piece) else { return Ok(()) };
        let table = self.table();
        end_writes(clickhouse, Some(&table)).await?; // an attempt that was given up may still be running
        delete_rows(clickhouse, &table, &format!("{EPOCH_COLUMN} BETWEEN {first} AND {last}")).await?;
        Ok(())
    }

    /// The first and the last epoch of a stream's piece.
    fn epochs(&self, piece: &Range<usize>) -> Option<(Epoch, Epoch)> {
        match self {
            Whole::Stream { batches, starts, .. } => {
                Some((batches[starts[piece.start]].0, batches[starts[piece.end] - 1].0))
            }
            Whole::View { .. } => None,
        }
    }

    /// The rows of pieces, as they would have been inserted.
    fn rows(&self, pieces: &[Range<usize>]) -> Result<Vec<arrow::array::RecordBatch>, SinkError> {
        let mut made = Vec::new();
        for piece in pieces {
            match self {
                Whole::Stream { table, batches, starts, .. } => {
                    made.extend(record_batches(table, &batches[starts[piece.start]..starts[piece.end]])?);
                }
                Whole::View { view, rows, keys } => {
                    for from in piece.clone().step_by(CHUNK_ROWS) {
                        made.push(make_chunk(view, rows, from..piece.end.min(from + CHUNK_ROWS), keys)?);
                    }
                }
            }
        }
        Ok(made)
    }
}

/// A piece still to be written; `refusal` is set while what arrived of it is to be taken back.
struct Piece {
    range: Range<usize>,
    refusal: Option<String>,
}

/// The narrowing of one unit.
pub(super) struct Narrowing {
    whole: Arc<Whole>,
    item: String,
    after: Epoch,
    upto: Epoch,
    /// The next one last.
    pieces: Vec<Piece>,
    refused: Vec<Range<usize>>,
    reason: String,
    accepted: bool,
    cuts_left: usize,
    file: Option<AsideFile>,
}

impl Narrowing {
    /// Begins with a unit of `(after, upto]` that was refused as a whole.
    pub(super) fn new(whole: Whole, item: &str, after: Epoch, upto: Epoch, reason: String) -> Self {
        let range = 0..whole.len();
        Narrowing {
            whole: Arc::new(whole),
            item: item.to_owned(),
            after,
            upto,
            pieces: vec![Piece { range, refusal: Some(reason) }],
            refused: Vec::new(),
            reason: String::new(),
            accepted: false,
            cuts_left: CUTS_MAX,
            file: None,
        }
    }

    /// Writes what is accepted and sets the rest aside. Returns false when the item is no more (then nothing is owed).
    pub(super) async fn advance(&mut self, shared: &Shared) -> Result<bool, SinkError> {
        while let Some(piece) = self.pieces.last_mut() {
            let Some(_turn) = shared.turn(&self.item).await else { return Ok(false) };
            if piece.refusal.is_none() {
                match self.whole.write(&shared.clickhouse, piece.range.clone()).await {
                    Ok(()) => {
                        self.accept_last();
                        continue;
                    }
                    Err(error) if error.refuses_rows() => piece.refusal = Some(error.to_string()),
                    Err(error) => return Err(error),
                }
            }
            self.whole.take_back(&shared.clickhouse, piece.range.clone()).await?;
            self.cut_last();
        }
        if self.file.is_none() && !self.refused.is_empty() {
            self.set_aside(shared).await?;
        }
        Ok(true)
    }

    fn accept_last(&mut self) {
        self.pieces.pop();
        self.accepted = true;
    }

    /// Replaces the last piece, which was refused, by its halves, or gives it up.
    fn cut_last(&mut self) {
        let Some(Piece { range, refusal }) = self.pieces.pop() else { return };
        let hopeless = !self.accepted && self.refused.len() >= HOPELESS;
        if range.len() > 1 && self.cuts_left > 0 && !hopeless {
            self.cuts_left -= 1;
            let middle = range.start + range.len() / 2;
            self.pieces.push(Piece { range: middle..range.end, refusal: None });
            self.pieces.push(Piece { range: range.start..middle, refusal: None });
        } else {
            self.refused.push(range);
            self.reason = refusal.unwrap_or_default();
        }
    }

    async fn set_aside(&mut self, shared: &Shared) -> Result<(), SinkError> {
        let head = AsideRows {
            item: self.item.clone(),
            table: self.whole.table(),
            after: self.after,
            upto: self.upto,
            epochs: self.refused.iter().filter_map(|piece| self.whole.epochs(piece)).collect(),
            reason: self.reason.clone(),
        };
        let (whole, refused, aside) = (self.whole.clone(), self.refused.clone(), shared.aside.clone());
        let write = move || aside.write(&head, &whole.rows(&refused)?);
        let written = tokio::task::spawn_blocking(write).await;
        let file = written.map_err(|e| SinkError::data("setting rows aside", e))??;
        tracing::error!(
            item = self.item,
            rows = file.rows,
            file = %file.path.display(),
            reason = file.reason,
            "ClickHouse refuses rows; they were set aside, are safe, and are missing from answers until they are restored. \
             What to do: change the table so that it takes them (the reason says what it objects to); they are restored \
             within a minute, without a restart"
        );
        metrics::counter!("streamgauge_set_aside_total", "item" => self.item.clone()).increment(file.rows);
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use streamgauge_schemas::MetricsBatch;

    use super::*;

    fn narrowing(len: usize) -> Narrowing {
        let batch = || EventBatch::Metrics(Arc::new(MetricsBatch::default()));
        let batches = (0..len as u64).flat_map(|at| [(Epoch(at), batch()), (Epoch(at), batch())]).collect();
        let whole = Whole::stream(StreamTable::Metrics, Arc::new(batches), "t".into());
        Narrowing::new(whole, "stream/0", Epoch(0), Epoch(len as u64), "refused".into())
    }

    /// Narrows with a table that refuses some epochs; returns what was accepted and how many inserts it took.
    fn play(narrowing: &mut Narrowing, refused: impl Fn(usize) -> bool) -> (Vec<usize>, usize) {
        let (mut accepted, mut inserts) = (Vec::new(), 0);
        while let Some(piece) = narrowing.pieces.last_mut() {
            if piece.refusal.is_none() {
                inserts += 1;
                if !piece.range.clone().any(&refused) {
                    accepted.extend(piece.range.clone());
                    narrowing.accept_last();
                    continue;
                }
                piece.refusal = Some("refused".into());
            }
            narrowing.cut_last();
        }
        (accepted, inserts)
    }

    #[test]
    fn only_what_is_refused_is_left_over() {
        for (len, refused) in [(1, vec![0]), (2, vec![1]), (100, vec![0, 50, 99]), (37, vec![])] {
            let mut narrowing = narrowing(len);
            let (accepted, _) = play(&mut narrowing, |at| refused.contains(&at));
            let left: Vec<usize> = narrowing.refused.iter().flat_map(Clone::clone).collect();
            assert_eq!(left, refused);
            assert_eq!(accepted, (0..len).filter(|at| !refused.contains(at)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_unit_that_is_refused_all_over_costs_a_bounded_number_of_inserts() {
        type Refused = fn(usize) -> bool;
        let cases: [(Refused, usize); 2] = [(|_| true, 4 * HOPELESS), (|at| at % 2 == 0, 2 * CUTS_MAX + 1)];
        for (refused, inserts_max) in cases {
            let mut narrowing = narrowing(50_000);
            let (mut all, inserts) = play(&mut narrowing, refused);
            assert!(inserts <= inserts_max, "{inserts}");
            assert!(narrowing.refused.len() <= CUTS_MAX + 1);
            all.extend(narrowing.refused.iter().flat_map(Clone::clone));
            all.sort_unstable();
            assert_eq!(all, (0..50_000).collect::<Vec<_>>());
            let last = narrowing.refused.last().unwrap();
            assert_eq!(narrowing.whole.epochs(last), Some((Epoch(last.start as u64), Epoch(last.end as u64 - 1))));
        }
    }
}
