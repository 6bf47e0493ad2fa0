//! Joins the pieces of a group: each group of history takes in what memory has of it; then the rest of memory follows.
//!
//! # Invariants
//!
//! 1. History comes in the order of groups, and of a group in that of generations; so the last group of a batch may go on
//!    in the next one, and no other.
//! 2. A group of memory is given once: with its part of history, or with the rest.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use streamgauge_engine::snapshot::ViewSnapshot;
use streamgauge_schemas::{Epoch, GroupKey, State};

use crate::groups::GroupReader;
use crate::history::HistoryError;

/// About how many bytes of memory a captured row takes while it is merged, besides what its state holds.
const GROUP_BYTES: usize = 224;
/// Groups of a batch that memory makes.
const BATCH_GROUPS: usize = 8_192;
/// After so many bytes that the states of captured rows hold, their memory is asked for.
const RESERVED_AT_ONCE: usize = 1 << 20;

/// The last row of its group.
const LAST: u32 = u32::MAX;

/// Merges the rows of groups, those of history as they come and those of memory.
pub(super) struct GroupMerge {
    reader: Arc<GroupReader>,
    memory: MemoryGroups,
    /// The rows of the last group of history so far (invariant 1).
    open: Option<RecordBatch>,
}

/// The rows that memory has, by group.
struct MemoryGroups {
    snapshot: Arc<ViewSnapshot>,
    /// The first row and the last one of each group.
    groups: HashMap<GroupKey, (u32, u32)>,
    /// After each row the next one of its group.
    next: Vec<u32>,
    /// The rows with which a group begins that was not given yet.
    begins: Vec<bool>,
    /// All groups that begin before were given.
    at: usize,
}

/// Rows of history, in the order of groups.
struct HistoryRows {
    keys: Vec<GroupKey>,
    dimensions: Vec<ArrayRef>,
    states: Vec<State>,
}

impl GroupMerge {
    /// Takes what memory has, as far as the reservation may grow.
    pub(super) fn new(
        reader: Arc<GroupReader>,
        snapshot: &Arc<ViewSnapshot>,
        reservation: &MemoryReservation,
    ) -> Result<Self> {
        Ok(GroupMerge { reader, memory: MemoryGroups::new(snapshot.clone(), reservation)?, open: None })
    }

    /// The groups of a batch of history that are whole.
    pub(super) fn take(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let unusable = unusable(self.memory.snapshot.horizon);
        let batch = match self.open.take() {
            Some(open) => concat_batches(&batch.schema(), [&open, batch])?,
            None => batch.clone(),
        };
        let keys = self.reader.history_keys(&batch).map_err(&unusable)?;
        let closed = keys.iter().rposition(|key| Some(key) != keys.last()).map_or(0, |last| last + 1);
        self.open = (batch.num_rows() > closed).then(|| batch.slice(closed, batch.num_rows() - closed));
        let rows = HistoryRows::of(&self.reader, &batch.slice(0, closed)).map_err(unusable)?;
        self.finish(rows)
    }

    /// The next groups after the last batch of history, or `None` when there are no more.
    pub(super) fn rest(&mut self) -> Option<Result<RecordBatch>> {
        if let Some(open) = self.open.take() {
            let rows = HistoryRows::of(&self.reader, &open).map_err(unusable(self.memory.snapshot.horizon));
            return Some(rows.and_then(|rows| self.finish(rows)));
        }
        let (groups, states) = self.memory.rest(&self.reader)?;
        let keys = &self.memory.snapshot.keys;
        let dimensions = self.reader.dimensions(groups.iter().map(|group| &keys[&group.series]));
        Some(dimensions.and_then(|dimensions| self.reader.finish(dimensions, &groups, states.iter())))
    }

    /// Merges rows of history, and what memory has of their groups.
    fn finish(&mut self, rows: HistoryRows) -> Result<RecordBatch> {
        let layout = &self.reader.layout;
        let HistoryRows { keys, dimensions, mut states } = rows;
        let mut firsts: Vec<u32> = Vec::with_capacity(keys.len());
        let (mut groups, mut merged): (Vec<GroupKey>, Vec<State>) = (Vec::new(), Vec::new());
        for (row, key) in keys.iter().enumerate() {
            match merged.last_mut() {
                Some(state) if groups.last() == Some(key) => layout.merge(state, &states[row]),
                _ => {
                    firsts.push(row as u32);
                    groups.push(*key);
                    merged.push(std::mem::take(&mut states[row]));
                }
            }
        }
        for (key, state) in groups.iter().zip(&mut merged) {
            self.memory.give(key, |partner| layout.merge(state, &self.reader.wanted(partner)));
        }
        let dimensions = match firsts.len() == keys.len() {
            true => dimensions,
            false => {
                let firsts = UInt32Array::from(firsts);
                let firsts = dimensions.iter().map(|column| take(column, &firsts, None));
                firsts.collect::<Result<_, _>>()?
            }
        };
        self.reader.finish(dimensions, &groups, merged.iter())
    }
}

impl MemoryGroups {
    fn new(snapshot: Arc<ViewSnapshot>, reservation: &MemoryReservation) -> Result<Self> {
        let rows = &snapshot.rows;
        reservation.try_grow(rows.len() * GROUP_BYTES)?;
        let mut groups: HashMap<GroupKey, (u32, u32)> = HashMap::with_capacity(rows.len());
        let (mut next, mut begins) = (vec![LAST; rows.len()], vec![true; rows.len()]);
        let mut bytes = 0;
        for (row, state) in rows.state.iter().enumerate() {
            bytes += state.heap_bytes();
            if bytes > RESERVED_AT_ONCE {
                reservation.try_grow(std::mem::take(&mut bytes))?;
            }
            match groups.entry(rows.key(row)) {
                Entry::Occupied(mut group) => {
                    let (_, last) = group.get_mut();
                    next[*last as usize] = row as u32;
                    *last = row as u32;
                    begins[row] = false;
                }
                Entry::Vacant(group) => {
                    group.insert((row as u32, row as u32));
                }
            }
        }
        reservation.try_grow(bytes)?;
        Ok(MemoryGroups { groups, next, begins, at: 0, snapshot })
    }

    /// Visits the states of a group, in order of age (invariant 2).
    fn give(&mut self, key: &GroupKey, visit: impl FnMut(&State)) {
        if let Some((first, _)) = self.groups.get(key) {
            self.begins[*first as usize] = false;
            self.each(*first, visit);
        }
    }

    fn each(&self, first: u32, mut visit: impl FnMut(&State)) {
        let mut row = first;
        while row != LAST {
            visit(&self.snapshot.rows.state[row as usize]);
            row = self.next[row as usize];
        }
    }

    /// The next groups of those that were not given, with what is wanted of their states.
    fn rest(&mut self, reader: &GroupReader) -> Option<(Vec<GroupKey>, Vec<State>)> {
        let (mut groups, mut states) = (Vec::new(), Vec::new());
        while self.at < self.begins.len() && groups.len() < BATCH_GROUPS {
            if self.begins[self.at] {
                let mut merged: Option<State> = None;
                self.each(self.at as u32, |state| match &mut merged {
                    Some(merged) => reader.layout.merge(merged, &reader.wanted(state)),
                    None => merged = Some(reader.wanted(state)),
                });
                groups.push(self.snapshot.rows.key(self.at));
                states.extend(merged);
            }
            self.at += 1;
        }
        (!groups.is_empty()).then_some((groups, states))
    }
}

impl HistoryRows {
    fn of(reader: &GroupReader, batch: &RecordBatch) -> Result<Self> {
        Ok(HistoryRows {
            keys: reader.history_keys(batch)?,
            dimensions: reader.history_dimensions(batch)?,
            states: reader.history_states(batch)?,
        })
    }
}

/// The error of what ClickHouse sent up to an epoch, when it is of no use.
fn unusable(upto: Epoch) -> impl Fn(DataFusionError) -> DataFusionError {
    move |error| HistoryError::lasting(error).up_to(upto).into()
}
