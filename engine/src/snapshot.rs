//! Reading: one consistent snapshot of several views and streams, and following a view from it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use streamgauge_schemas::{Epoch, EventBatch, EventTime, Rows, Series, SeriesId, State, StreamId};

/// What a query wants to see, all as of one epoch.
#[derive(Clone, Default)]
pub struct SnapshotRequest {
    /// Views, with what of each.
    pub views: Vec<ViewRead>,
    /// Streams.
    pub streams: Vec<StreamId>,
}

/// What of a view a query wants.
#[derive(Clone)]
pub struct ViewRead {
    /// The place of the view in [`Engine::views`](crate::Engine::views).
    pub view: usize,
    /// Which rows.
    pub filter: RowFilter,
    /// Where the changes after the snapshot go, if the reader stays.
    pub follow: Option<DeltaSender>,
}

/// Which rows of a view.
#[derive(Clone, Debug, Default)]
pub struct RowFilter {
    /// Which series.
    pub series: SeriesFilter,
    /// Buckets that begin at or after this time.
    pub lower: Option<EventTime>,
    /// Buckets that begin before this time.
    pub upper: Option<EventTime>,
}

impl RowFilter {
    /// Whether the bucket that begins at `bucket` is wanted.
    #[must_use]
    pub fn holds_bucket(&self, bucket: EventTime) -> bool {
        self.lower.is_none_or(|lower| lower <= bucket) && self.upper.is_none_or(|upper| bucket < upper)
    }
}

/// A test of a series.
pub type SeriesPredicate = Arc<dyn Fn(&Series) -> bool + Send + Sync>;

/// Which series.
#[derive(Clone, Default)]
pub enum SeriesFilter {
    /// All of them.
    #[default]
    All,
    /// Those of one metric.
    Name(String),
    /// Those of one metric that pass a test.
    NameAnd(String, SeriesPredicate),
    /// Those that pass a test.
    Predicate(SeriesPredicate),
}

impl SeriesFilter {
    /// Whether `series` is wanted.
    #[must_use]
    pub fn matches(&self, series: &Series) -> bool {
        match self {
            SeriesFilter::All => true,
            SeriesFilter::Name(name) => series.name() == name,
            SeriesFilter::NameAnd(name, test) => series.name() == name && test(series),
            SeriesFilter::Predicate(test) => test(series),
        }
    }
}

impl fmt::Debug for SeriesFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeriesFilter::All => f.write_str("All"),
            SeriesFilter::Name(name) => write!(f, "Name({name:?})"),
            SeriesFilter::NameAnd(name, _) => write!(f, "NameAnd({name:?}, …)"),
            SeriesFilter::Predicate(_) => f.write_str("Predicate(…)"),
        }
    }
}

/// What is in memory, all of it as of [`Snapshot::epoch`].
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// `E`: every event with an epoch at or below it is seen, and none after.
    pub epoch: Epoch,
    /// In the order of the request.
    pub views: Vec<ViewSnapshot>,
    /// In the order of the request.
    pub streams: Vec<StreamSnapshot>,
}

/// The memory part of a view; history is `… FINAL WHERE version <= horizon`.
#[derive(Clone, Debug, Default)]
pub struct ViewSnapshot {
    /// `H`.
    pub horizon: Epoch,
    /// The wanted rows with a version above the horizon; a group may have several.
    pub rows: Rows,
    /// Name and dimensions of each series in `rows`.
    pub series: HashMap<SeriesId, Arc<Series>>,
}

/// The memory part of a stream; history is `_epoch <= flushed`.
#[derive(Clone, Debug, Default)]
pub struct StreamSnapshot {
    /// Events at or below are in ClickHouse.
    pub flushed: Epoch,
    /// The events above, up to the snapshot's epoch, in order.
    pub batches: Vec<(Epoch, EventBatch)>,
}

/// The partial states of one epoch, to be merged into what a follower has.
#[derive(Clone, Debug)]
pub struct Delta {
    /// The epoch of the events.
    pub epoch: Epoch,
    /// Series, lower bound of the bucket, and the state of this epoch's events alone.
    pub changes: Vec<(Arc<Series>, EventTime, State)>,
}

/// Where a follower's changes go: a bounded channel; it is closed when the follower does not keep up.
pub type DeltaSender = futures_channel::mpsc::Sender<Delta>;
