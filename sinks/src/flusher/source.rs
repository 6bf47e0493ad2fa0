//! What the flusher asks of the engine: which items there are, and what of each is to be written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use streamgauge_schemas::stream::{Catalog, CatalogChange, Stream};
use streamgauge_schemas::view::Failed;
use streamgauge_schemas::{Epoch, EventBatch, Key, Rows, SeriesId, StreamId, View};

/// Any error of a source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The name of the catalog's item.
pub const CATALOG_ITEM: &str = "catalog";

/// The name of a stream's item.
#[must_use]
pub fn stream_item(stream: StreamId) -> String {
    format!("stream/{}", stream.0)
}

/// The name of a view's item. A view that is dropped and made again gets another, so it inherits nothing.
#[must_use]
pub fn view_item(view: &View) -> String {
    if view.id.is_built_in() { format!("view/{}", view.definition.name) } else { format!("view/{}", view.id.0) }
}

/// Whether an item that is no more is so because its stream or view was dropped: a built-in one stays.
pub(super) fn can_be_dropped(item: &str) -> bool {
    let number = item.strip_prefix("stream/").or(item.strip_prefix("view/"));
    number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

/// Which kind of thing an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushKind {
    /// The set of streams and views.
    Catalog,
    /// The events of a stream.
    Stream,
    /// The states of a view.
    View,
}

/// A thing that is flushed on its own and has a flushed epoch of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushItem {
    /// Its name in `streamgauge_flushed`: [`CATALOG_ITEM`], [`stream_item`] or [`view_item`].
    pub name: String,
    /// How often it is flushed.
    pub interval: Duration,
    /// What it is.
    pub kind: FlushKind,
}

/// The table of a stream.
#[derive(Clone, Debug)]
pub enum StreamTable {
    /// The built-in stream `metrics`.
    Metrics,
    /// A stream of the user's own, or a built-in one of the same form (`rejects`, `requests`).
    User(Arc<Stream>),
}

/// What is to be written for an item, and up to which epoch.
#[derive(Debug)]
pub enum FlushUnit {
    /// The whole rows of a view that changed.
    View {
        /// The view.
        view: Arc<View>,
        /// Every change up to here is in `rows` or was flushed before.
        upto: Epoch,
        /// The changed rows.
        rows: Rows,
        /// The dimensions of every group that `rows` names.
        keys: HashMap<SeriesId, Key>,
        /// All events up to `upto` that the view could not be computed of; without `rows`, these have changed.
        failed: Failed,
    },
    /// The events of a stream in `(after, upto]`.
    Stream {
        /// Where they belong.
        stream: StreamTable,
        /// The flushed epoch so far.
        after: Epoch,
        /// The flushed epoch to be.
        upto: Epoch,
        /// The events, in order of epoch.
        batches: Vec<(Epoch, EventBatch)>,
    },
    /// The changes of the catalog since it was flushed.
    Catalog {
        /// Every change up to here is in `changes` or was flushed before.
        upto: Epoch,
        /// The changes, in order.
        changes: Vec<(Epoch, CatalogChange)>,
        /// The catalog as of `upto`.
        catalog: Arc<Catalog>,
    },
    /// Nothing changed; only the flushed epoch moves on.
    Nothing {
        /// The flushed epoch to be.
        upto: Epoch,
        /// Of a view: all events up to the flushed epoch that it could not be computed of.
        failed: Failed,
    },
}

impl FlushUnit {
    /// The flushed epoch to be.
    #[must_use]
    pub fn upto(&self) -> Epoch {
        match self {
            FlushUnit::View { upto, .. }
            | FlushUnit::Stream { upto, .. }
            | FlushUnit::Catalog { upto, .. }
            | FlushUnit::Nothing { upto, .. } => *upto,
        }
    }

    /// How many rows, events or changes there are to write.
    #[must_use]
    pub fn rows(&self) -> u64 {
        match self {
            FlushUnit::View { rows, .. } => rows.len() as u64,
            FlushUnit::Stream { batches, .. } => batches.iter().map(|(_, batch)| batch.len() as u64).sum(),
            FlushUnit::Catalog { changes, .. } => changes.len() as u64,
            FlushUnit::Nothing { .. } => 0,
        }
    }

    /// What of the item's events failed, as far as it is a view.
    #[must_use]
    pub fn failed(&self) -> Failed {
        match self {
            FlushUnit::View { failed, .. } | FlushUnit::Nothing { failed, .. } => failed.clone(),
            FlushUnit::Stream { .. } | FlushUnit::Catalog { .. } => Failed::default(),
        }
    }
}

/// Where flushes come from; the engine, behind a small adapter.
///
/// # Contract
///
/// - A unit that was begun is either confirmed, or begun again: then with everything that was not confirmed. (A unit without
///   rows or new failures may be left unconfirmed, since an empty commit is not worth an insert each time.)
/// - For one item there is one `begin` at a time, and no `begin` between a `begin` and its `confirm`.
/// - `confirm` is called after ClickHouse has both the unit and its epoch, on disk.
#[async_trait]
pub trait FlushSource: Send + Sync + 'static {
    /// All items there are now: one a view, one a stream, and the catalog.
    fn items(&self) -> Vec<FlushItem>;

    /// What is to be written for an item; `None` when its flushed epoch cannot move.
    async fn begin(&self, item: &FlushItem) -> Result<Option<FlushUnit>, BoxError>;

    /// Says that everything of the item up to `upto` is in ClickHouse.
    fn confirm(&self, item: &FlushItem, upto: Epoch);

    /// Resolves when an item should not wait for its interval, because a bound on what is pending was passed.
    async fn due(&self, _item: &FlushItem) {
        std::future::pending().await
    }
}
