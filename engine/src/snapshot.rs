//! Reading: one consistent snapshot of several views and streams, and following a view from it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use streamgauge_schemas::value::key_id;
use streamgauge_schemas::{Epoch, EventBatch, EventTime, Key, Rows, Series, SeriesId, State, StreamId, ViewId};

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
    /// The view.
    pub view: ViewId,
    /// Which rows.
    pub filter: RowFilter,
    /// Where the changes after the snapshot go, if the reader stays.
    pub follow: Option<DeltaSender>,
}

/// Which rows of a view: these, and no others, since not every reader tests them again.
#[derive(Clone, Debug, Default)]
pub struct RowFilter {
    /// Which dimension values.
    pub keys: KeyFilter,
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

/// A test of series.
#[derive(Clone)]
pub struct SeriesTest {
    /// Dimensions, with their values, that each series that passes has: only series with them are tested.
    pub has: Vec<(String, String)>,
    /// Whether a series passes.
    pub passes: Arc<dyn Fn(&Series) -> bool + Send + Sync>,
}

/// Which dimension values.
#[derive(Clone, Default)]
pub enum KeyFilter {
    /// All of them.
    #[default]
    All,
    /// Of a view by series: those of one metric.
    Name(String),
    /// Of a view by series: those of one metric that pass a test.
    NameAnd(String, SeriesTest),
    /// Of a view by series: those that pass a test.
    Predicate(SeriesTest),
    /// Those of these identities.
    Only(Arc<[SeriesId]>),
}

impl KeyFilter {
    /// Whether `key` is wanted; a filter of another kind than the view's keys matches none.
    #[must_use]
    pub fn matches(&self, key: &Key) -> bool {
        match (self, key) {
            (KeyFilter::All, _) => true,
            (KeyFilter::Name(name), Key::Series(series)) => series.name() == name,
            (KeyFilter::NameAnd(name, test), Key::Series(series)) => series.name() == name && (test.passes)(series),
            (KeyFilter::Predicate(test), Key::Series(series)) => (test.passes)(series),
            (KeyFilter::Only(ids), Key::Values(bytes)) => ids.contains(&key_id(bytes)),
            (KeyFilter::Only(ids), Key::Series(series)) => ids.contains(&series.id()),
            _ => false,
        }
    }
}

impl fmt::Debug for KeyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFilter::All => f.write_str("All"),
            KeyFilter::Name(name) => write!(f, "Name({name:?})"),
            KeyFilter::NameAnd(name, _) => write!(f, "NameAnd({name:?}, …)"),
            KeyFilter::Predicate(_) => f.write_str("Predicate(…)"),
            KeyFilter::Only(ids) => write!(f, "Only({ids:?})"),
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
    /// `H`; zero when history has no row that is wanted.
    pub horizon: Epoch,
    /// The wanted rows with a version above the horizon; a group may have several.
    pub rows: Rows,
    /// The dimension values of each group in `rows`.
    pub keys: HashMap<SeriesId, Key>,
}

/// The memory part of a stream; history is `_epoch <= flushed`.
#[derive(Clone, Debug, Default)]
pub struct StreamSnapshot {
    /// Events at or below are in ClickHouse; it does not move while no events come.
    pub flushed: Epoch,
    /// The events above, up to the snapshot's epoch, in order.
    pub batches: Vec<(Epoch, EventBatch)>,
}

/// Partial states of one epoch, to be merged into what a follower has.
///
/// Workers send theirs as they come to them, so those of a later epoch may come first. All up to an epoch have been sent
/// when [`Engine::settled`](crate::Engine::settled) answers it. While it is held, it counts among what waits for its follower.
#[derive(Debug)]
pub struct Delta {
    /// The epoch of the events.
    pub epoch: Epoch,
    /// The place of their batch in the epoch; partial states of a group are merged in this order.
    pub batch: u32,
    /// Dimension values, lower bound of the bucket, and the state of some of this epoch's events alone.
    pub changes: Vec<(Key, EventTime, State)>,
    pub(crate) _waiting: Waiting,
}

/// Bytes that wait for a follower, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Waiting {
    /// Adds to `all`.
    pub(crate) fn new(bytes: usize, all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        Waiting { bytes, all: all.clone() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where a follower's changes go: a channel that is bounded, and closed when the follower does not keep up, in changes or in
/// their bytes, or when the view is no more.
pub type DeltaSender = futures_channel::mpsc::Sender<Delta>;
