//! The rows of a view: `(group, generation) → (version, state)`.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::{Epoch, EventTime, Series, SeriesId, State};

/// A group of a view: its dimension values, by their identity, and the lower bound of its bucket.
///
/// A view without a time bucket has one bucket, [`GroupKey::NO_BUCKET`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The dimension values; of the built-in rollups these are a series.
    pub series: SeriesId,
    /// The lower bound of the bucket `[lower, upper)`.
    pub bucket: EventTime,
}

impl GroupKey {
    /// The bucket of a view that has no time bucket.
    pub const NO_BUCKET: EventTime = EventTime(0);
}

/// The dimension values behind a [`SeriesId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A metric's name with its dimensions.
    Series(Arc<Series>),
    /// Values in the form of [`append_key`](crate::value::append_key), in the order of the view's dimensions.
    Values(Arc<[u8]>),
}

/// One independent piece of a group's state.
///
/// Ordered by generation first, so the last row of a group is the one that may still change. The state takes no part in
/// order and equality: a group has one state at a generation and version.
#[derive(Clone, Debug)]
pub struct Row {
    /// The epoch of the first event of the piece: its name.
    pub generation: Epoch,
    /// The epoch of the last event merged in.
    pub version: Epoch,
    /// The aggregate of the piece's events.
    pub state: State,
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Row {}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Row {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.generation, self.version).cmp(&(other.generation, other.version))
    }
}

/// Many rows of one view, one vector a column, all of one length.
///
/// What travels from a worker to a query or a sink, and from ClickHouse back at start.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Group: dimension values.
    pub series: Vec<SeriesId>,
    /// Group: lower bound of the bucket.
    pub bucket: Vec<EventTime>,
    /// Name of the piece.
    pub generation: Vec<Epoch>,
    /// Last change of the piece.
    pub version: Vec<Epoch>,
    /// Its aggregate.
    pub state: Vec<State>,
}

impl Rows {
    /// Appends a row.
    pub fn push(&mut self, key: GroupKey, row: Row) {
        self.series.push(key.series);
        self.bucket.push(key.bucket);
        self.generation.push(row.generation);
        self.version.push(row.version);
        self.state.push(row.state);
    }

    /// Appends all rows of `other`.
    pub fn append(&mut self, other: &mut Rows) {
        self.series.append(&mut other.series);
        self.bucket.append(&mut other.bucket);
        self.generation.append(&mut other.generation);
        self.version.append(&mut other.version);
        self.state.append(&mut other.state);
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The group of the row at `index`.
    #[must_use]
    pub fn key(&self, index: usize) -> GroupKey {
        GroupKey { series: self.series[index], bucket: self.bucket[index] }
    }

    /// The row at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> (GroupKey, Row) {
        let row =
            Row { generation: self.generation[index], version: self.version[index], state: self.state[index].clone() };
        (self.key(index), row)
    }

    /// All rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = (GroupKey, Row)> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }
}
