//! A source of flushes that a test controls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use async_trait::async_trait;
use parking_lot::Mutex;
use streamgauge_schemas::stream::{CatalogChange, Stream, requests};
use streamgauge_schemas::view::Failed;
use streamgauge_schemas::{
    Epoch, EventBatch, EventTime, GroupKey, Row, Rows, Series, StreamDefinition, StreamId, TableBatch, View, ViewId,
};
use streamgauge_sinks::{
    BoxError, CATALOG_ITEM, FlushItem, FlushKind, FlushSource, FlushUnit, StreamTable, stream_item, view_item,
};
use tokio::sync::Notify;

use super::{epoch, keys, second, state, until};

/// A log in memory, as simple as can be: everything since the flushed epoch of an item is its next unit.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) log: Mutex<Vec<(Epoch, Entry)>>,
    pub(crate) flushed: Mutex<BTreeMap<String, Epoch>>,
    pub(crate) begun: Mutex<BTreeMap<String, u64>>,
    pub(crate) wake: Notify,
    pub(crate) interval: Option<Duration>,
    /// As `interval`, of the catalog.
    pub(crate) catalog_interval: Option<Duration>,
}

#[derive(Clone)]
pub(crate) enum Entry {
    Events(EventBatch),
    Catalog(CatalogChange),
    /// The second that begins at `bucket` has `count` events.
    State {
        bucket: i64,
        count: u64,
    },
}

impl Source {
    pub(crate) fn append(&self, at: u64, entry: Entry) {
        self.log.lock().push((epoch(at), entry));
    }

    pub(crate) fn now(&self) -> Epoch {
        self.log.lock().last().map_or(Epoch::ZERO, |(epoch, _)| *epoch)
    }

    pub(crate) fn flushed(&self, item: &str) -> Epoch {
        self.flushed.lock().get(item).copied().unwrap_or_default()
    }

    pub(crate) fn streams(&self) -> Vec<Arc<Stream>> {
        let mut streams: Vec<Arc<Stream>> = Vec::new();
        for (epoch, entry) in self.log.lock().iter() {
            match entry {
                Entry::Catalog(CatalogChange::CreateStream(definition)) => {
                    streams.push(Arc::new(Stream { id: StreamId(epoch.0), definition: definition.clone() }));
                }
                Entry::Catalog(CatalogChange::DropStream(id)) => streams.retain(|stream| stream.id != *id),
                _ => {}
            }
        }
        streams
    }

    /// The user's views; they are flushed as the built-in one is.
    pub(crate) fn views(&self) -> Vec<Arc<View>> {
        let mut views: Vec<Arc<View>> = Vec::new();
        for (epoch, entry) in self.log.lock().iter() {
            match entry {
                Entry::Catalog(CatalogChange::CreateView { definition, replaces }) => {
                    views.retain(|view| Some(view.id) != *replaces);
                    views.push(Arc::new(View { id: ViewId(epoch.0), definition: (**definition).clone() }));
                }
                Entry::Catalog(CatalogChange::DropView(id)) => views.retain(|view| view.id != *id),
                _ => {}
            }
        }
        views
    }

    fn view(&self, item: &str) -> Arc<View> {
        self.views().into_iter().find(|view| view_item(view) == item).unwrap_or_else(second)
    }

    /// Everything of an item since its flushed epoch.
    pub(crate) fn unit(&self, item: &FlushItem) -> FlushUnit {
        let (after, upto) = (self.flushed(&item.name), self.now());
        let entries: Vec<_> =
            self.log.lock().iter().filter(|(epoch, _)| *epoch > after && *epoch <= upto).cloned().collect();
        match item.kind {
            FlushKind::Catalog => {
                let changes = entries.into_iter().filter_map(|(epoch, entry)| match entry {
                    Entry::Catalog(change) => Some((epoch, change)),
                    _ => None,
                });
                FlushUnit::Catalog { upto, changes: changes.collect(), catalog: Arc::default() }
            }
            FlushKind::Stream => {
                let mut streams = self.streams().into_iter().chain([requests()]);
                let user = streams.find(|stream| stream_item(stream.id) == item.name);
                let stream = user.map_or(StreamTable::Metrics, StreamTable::User);
                let id = if let StreamTable::User(stream) = &stream { stream.id } else { StreamId::METRICS };
                let batches = entries.into_iter().filter_map(|(epoch, entry)| match entry {
                    Entry::Events(batch) if batch.stream() == id => Some((epoch, batch)),
                    _ => None,
                });
                FlushUnit::Stream { stream, after, upto, batches: batches.collect() }
            }
            FlushKind::View => {
                let series = Arc::new(Series::new("cpu", [("host", "a")]));
                let mut rows = Rows::default();
                for (version, entry) in entries {
                    if let Entry::State { bucket, count } = entry {
                        let key = GroupKey { series: series.id(), bucket: EventTime(bucket * 1_000_000) };
                        rows.push(key, Row { generation: epoch(0), version, state: state(count, 1.0, 1.0, 1.0) });
                    }
                }
                let (view, keys) = (self.view(&item.name), keys([series]));
                FlushUnit::View { view, upto, rows, keys, failed: Failed::default() }
            }
        }
    }
}

#[async_trait]
impl FlushSource for Source {
    fn items(&self) -> Vec<FlushItem> {
        let interval = self.interval.unwrap_or(Duration::from_millis(20));
        let item = |name: String, kind| FlushItem { name, kind, interval };
        let mut items = vec![
            FlushItem {
                interval: self.catalog_interval.unwrap_or(interval),
                ..item(CATALOG_ITEM.into(), FlushKind::Catalog)
            },
            item(stream_item(StreamId::METRICS), FlushKind::Stream),
            item(view_item(&second()), FlushKind::View),
        ];
        if self
            .log
            .lock()
            .iter()
            .any(|(_, entry)| matches!(entry, Entry::Events(batch) if batch.stream() == StreamId::REQUESTS))
        {
            items.push(item(stream_item(StreamId::REQUESTS), FlushKind::Stream));
        }
        items.extend(self.views().iter().map(|view| item(view_item(view), FlushKind::View)));
        items.extend(self.streams().iter().map(|stream| item(stream_item(stream.id), FlushKind::Stream)));
        items
    }

    async fn begin(&self, item: &FlushItem) -> Result<Option<FlushUnit>, BoxError> {
        *self.begun.lock().entry(item.name.clone()).or_default() += 1;
        Ok(Some(self.unit(item)))
    }

    fn confirm(&self, item: &FlushItem, upto: Epoch) {
        let before = self.flushed.lock().insert(item.name.clone(), upto);
        assert!(before.is_none_or(|before| before <= upto));
    }

    async fn due(&self, item: &FlushItem) {
        if item.name == "stream/0" { self.wake.notified().await } else { std::future::pending().await }
    }
}

pub(crate) async fn flushed_all(source: &Source) {
    let all = || async { source.items().iter().all(|item| source.unit(item).rows() == 0) };
    until("everything is flushed", Duration::from_secs(60), all).await;
}

pub(crate) fn table_events(stream: &Stream, len: usize) -> EventBatch {
    let times = TimestampMicrosecondArray::from_iter_values(0..len as i64).with_timezone("UTC");
    let rows = RecordBatch::try_new(stream.definition.schema(), vec![Arc::new(times)]).unwrap();
    EventBatch::Table(Arc::new(TableBatch { stream: stream.id, rows }))
}

pub(crate) fn definition(name: &str) -> StreamDefinition {
    let json = format!(r#"{{"name":"{name}","time_column":"at","columns":[{{"name":"at","type":"timestamp"}}]}}"#);
    serde_json::from_str::<StreamDefinition>(&json).unwrap().validate().unwrap()
}
