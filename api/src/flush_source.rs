//! Joins the engine, which knows what changed, to the flusher, which writes it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use streamgauge_engine::{Engine, EngineError};
use streamgauge_schemas::view::Failed;
use streamgauge_schemas::{Epoch, StreamId, View};
use streamgauge_sinks::{
    BoxError, CATALOG_ITEM, FlushItem, FlushKind, FlushSource, FlushUnit, StreamTable, stream_item, view_item,
};

/// How often new events are written: ClickHouse likes few large inserts.
const STREAM_INTERVAL: Duration = Duration::from_secs(1);
/// How often changes of the set of streams are written; a stream's first events ask for it at once.
const CATALOG_INTERVAL: Duration = Duration::from_secs(1);
/// With so many events waiting, a stream is flushed at once.
const STREAM_ROWS_DUE: usize = 500_000;
const DUE_INTERVAL: Duration = Duration::from_millis(50);

/// The engine as the flusher sees it.
pub(crate) struct EngineFlushes {
    engine: Engine,
}

/// An item's name, taken apart.
enum Item {
    Catalog,
    Stream(StreamId),
    View(Arc<View>),
}

impl EngineFlushes {
    pub(crate) fn new(engine: Engine) -> Self {
        EngineFlushes { engine }
    }

    fn item(&self, item: &FlushItem) -> Option<Item> {
        match item.kind {
            FlushKind::Catalog => Some(Item::Catalog),
            FlushKind::Stream => item.name.rsplit('/').next()?.parse().ok().map(|id| Item::Stream(StreamId(id))),
            FlushKind::View => {
                self.engine.views().into_iter().find(|view| view_item(view) == item.name).map(Item::View)
            }
        }
    }

    /// How far an item is flushed in memory: without changes it moves on there by itself.
    fn nothing(&self, item: &Item) -> Option<FlushUnit> {
        let of_events = |upto| FlushUnit::Nothing { upto, failed: Failed::default() };
        match item {
            Item::Catalog => Some(of_events(self.engine.flushed().catalog)),
            Item::Stream(id) => self.engine.flushed().streams.get(id).copied().map(of_events),
            Item::View(view) => {
                self.engine.view_flushed(view.id).map(|(upto, failed)| FlushUnit::Nothing { upto, failed })
            }
        }
    }

    fn stream(&self, id: StreamId) -> Option<FlushUnit> {
        let catalog = self.engine.catalog();
        let stream = match id {
            StreamId::METRICS => StreamTable::Metrics,
            id => StreamTable::User(catalog.by_id(id)?.clone()),
        };
        let flush = self.engine.begin_stream_flush(id)?;
        Some(FlushUnit::Stream { stream, after: flush.after, upto: flush.upto, batches: flush.batches })
    }

    async fn view(&self, view: &Arc<View>) -> Result<Option<FlushUnit>, EngineError> {
        let flush = match self.engine.begin_view_flush(view.id).await {
            // It was dropped meanwhile, or is not maintained: there is nothing to write.
            Err(EngineError::UnknownView(_) | EngineError::BrokenView { .. }) => return Ok(None),
            flush => flush?,
        };
        let unit = |flush: streamgauge_engine::ViewFlush| FlushUnit::View {
            view: view.clone(),
            upto: flush.upto,
            rows: flush.rows,
            keys: flush.keys,
            failed: flush.failed,
        };
        Ok(flush.map(unit))
    }
}

#[async_trait]
impl FlushSource for EngineFlushes {
    fn items(&self) -> Vec<FlushItem> {
        let catalog = self.engine.catalog();
        let streams = std::iter::once(StreamId::METRICS).chain(catalog.streams.iter().map(|stream| stream.id));
        let stream = |id| FlushItem { name: stream_item(id), interval: STREAM_INTERVAL, kind: FlushKind::Stream };
        let mut items =
            vec![FlushItem { name: CATALOG_ITEM.into(), interval: CATALOG_INTERVAL, kind: FlushKind::Catalog }];
        items.extend(streams.map(stream));
        items.extend(self.engine.views().iter().map(|view| FlushItem {
            name: view_item(view),
            interval: view.definition.options.flush_interval.into(),
            kind: FlushKind::View,
        }));
        items
    }

    async fn begin(&self, item: &FlushItem) -> Result<Option<FlushUnit>, BoxError> {
        let Some(found) = self.item(item) else { return Ok(None) }; // a stream that was deleted meanwhile
        let unit = match found {
            Item::Catalog => self.engine.begin_catalog_flush().map(|flush| FlushUnit::Catalog {
                upto: flush.upto,
                changes: flush.changes,
                catalog: self.engine.catalog(),
            }),
            Item::Stream(id) => self.stream(id),
            Item::View(ref view) => self.view(view).await?,
        };
        Ok(unit.or_else(|| self.nothing(&found)))
    }

    fn confirm(&self, item: &FlushItem, upto: Epoch) {
        match self.item(item) {
            Some(Item::Catalog) => self.engine.confirm_catalog_flush(upto),
            Some(Item::Stream(id)) => self.engine.confirm_stream_flush(id, upto),
            Some(Item::View(view)) => self.engine.confirm_view_flush(view.id, upto),
            None => {}
        }
    }

    async fn due(&self, item: &FlushItem) {
        let Some(Item::Stream(id)) = self.item(item) else { return std::future::pending().await };
        while self.engine.stream_rows_pending(id) < STREAM_ROWS_DUE {
            tokio::time::sleep(DUE_INTERVAL).await;
        }
    }
}
