//! The rows of a view: `(group, generation) → (version, state)`.

use crate::{Epoch, EventTime, SeriesId, State};

/// A group of a rollup: a series and the lower bound of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The series.
    pub series: SeriesId,
    /// The lower bound of the bucket `[lower, upper)`.
    pub bucket: EventTime,
}

/// One independent piece of a group's state.
///
/// Ordered by generation first, so the last row of a group is the one that may still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The epoch of the first event of the piece: its name.
    pub generation: Epoch,
    /// The epoch of the last event merged in.
    pub version: Epoch,
    /// The aggregate of the piece's events.
    pub state: State,
}

/// Many rows of one view, one vector a column, all of one length.
///
/// What travels from a worker to a query or a sink, and from ClickHouse back at start.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Group: series.
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

    /// The row at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> (GroupKey, Row) {
        (
            GroupKey { series: self.series[index], bucket: self.bucket[index] },
            Row { generation: self.generation[index], version: self.version[index], state: self.state[index] },
        )
    }

    /// All rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = (GroupKey, Row)> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }
}
