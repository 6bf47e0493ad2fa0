//! A stand-in for ClickHouse's tables that keeps the rules of DESIGN (rows replaced by version, raw events by epoch),
//! and a plain recomputation to compare with. Crashes and half-done flushes are the tests' to make.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use streamgauge_engine::{KnownRequest, Recovered, Snapshot, ViewFlush};
use streamgauge_schemas::event::BatchSeries;
use streamgauge_schemas::stream::Catalog;
use streamgauge_schemas::{
    Epoch, EventBatch, EventTime, GroupKey, Key, MetricsBatch, Row, Rows, Series, SeriesId, State, StreamId, Summary,
    View, ViewId,
};

/// An event of a test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) series: u8,
    pub(crate) ts: EventTime,
    pub(crate) value: f64,
}

pub(crate) fn series(index: u8) -> Arc<Series> {
    Arc::new(Series::new(format!("metric-{}", index % 2), [("host", format!("host-{index}"))]))
}

pub(crate) fn batch(events: &[Event]) -> EventBatch {
    let mut batch = MetricsBatch::default();
    for event in events {
        let series = series(event.series);
        let id = series.id();
        let index = batch.series.iter().position(|entry| entry.id == id).unwrap_or_else(|| {
            batch.series.push(BatchSeries { id, series, source: "test".into() });
            batch.series.len() - 1
        });
        batch.series_index.push(index as u32);
        batch.ts.push(event.ts);
        batch.value.push(event.value);
    }
    EventBatch::Metrics(Arc::new(batch))
}

pub(crate) type Groups = BTreeMap<(SeriesId, EventTime), Summary>;

/// Recomputes a view from scratch.
pub(crate) fn recompute(view: &View, events: &[Event]) -> Groups {
    let mut groups = Groups::new();
    for event in events {
        let bucket = view.definition.bucket_of(event.ts).expect("the buckets of these views have one length");
        groups.entry((series(event.series).id(), bucket)).or_default().add(event.value);
    }
    groups
}

/// The tables of a ClickHouse that obeys.
#[derive(Default)]
pub(crate) struct Store {
    states: HashMap<ViewId, HashMap<(SeriesId, EventTime, Epoch), Row>>,
    flushed: HashMap<ViewId, Epoch>,
    /// The catalogue, and its flushed epoch.
    pub(crate) catalog: Catalog,
    pub(crate) catalog_flushed: Epoch,
    raw: Vec<(Epoch, EventBatch)>,
    raw_flushed: Epoch,
    /// Named requests, as their rows say.
    pub(crate) requests: Vec<KnownRequest>,
    requests_flushed: Epoch,
}

impl Store {
    /// Writes the rows of a flush, only those with `keep`; a replaced row wins by version.
    pub(crate) fn write_view(&mut self, view: &View, flush: &ViewFlush, mut keep: impl FnMut(usize) -> bool) {
        let table = self.states.entry(view.id).or_default();
        for (index, (key, row)) in flush.rows.iter().enumerate() {
            if keep(index) {
                let slot = table.entry((key.series, key.bucket, row.generation)).or_insert_with(|| row.clone());
                if slot.version <= row.version {
                    *slot = row;
                }
            }
        }
    }

    pub(crate) fn commit_view(&mut self, view: &View, upto: Epoch) {
        self.flushed.insert(view.id, upto);
    }

    pub(crate) fn write_stream(&mut self, flush: &streamgauge_engine::StreamFlush) {
        assert!(
            flush.after >= self.raw_flushed || flush.after == Epoch::ZERO,
            "a flush continues where the last ended"
        );
        assert!(flush.batches.iter().all(|(epoch, _)| *epoch > flush.after && *epoch <= flush.upto));
        self.raw.retain(|(epoch, _)| *epoch <= flush.after); // the same range again replaces itself
        self.raw.extend(flush.batches.iter().cloned());
    }

    pub(crate) fn commit_stream(&mut self, upto: Epoch) {
        self.raw_flushed = upto;
    }

    pub(crate) fn commit_requests(&mut self, upto: Epoch) {
        self.requests_flushed = upto;
    }

    /// What a restart finds.
    pub(crate) fn recover(&mut self) -> Recovered {
        let raw_flushed = self.raw_flushed;
        self.raw.retain(|(epoch, _)| *epoch <= raw_flushed);
        let mut recovered = Recovered { views_flushed: self.flushed.clone(), ..Recovered::default() };
        (recovered.catalog, recovered.catalog_flushed) = (self.catalog.clone(), self.catalog_flushed);
        recovered.streams_flushed.insert(StreamId::METRICS, raw_flushed);
        recovered.streams_flushed.insert(StreamId::REQUESTS, self.requests_flushed);
        let flushed = self.requests.iter().filter(|known| known.epoch <= self.requests_flushed);
        recovered.requests = flushed.cloned().collect();
        recovered.series = (0..8).map(series).collect();
        for view in self.catalog.own_views() {
            let horizon = view.horizon(self.flushed.get(&view.id).copied().unwrap_or(view.id.created()));
            let (mut rows, mut keys) = (Rows::default(), HashMap::new());
            for ((id, bucket, _), row) in self.states.get(&view.id).into_iter().flatten() {
                if row.version > horizon {
                    rows.push(GroupKey { series: *id, bucket: *bucket }, row.clone());
                    let known = (0..8).map(series).find(|series| series.id() == *id).expect("a test has these series");
                    keys.insert(*id, Key::Series(known));
                }
            }
            recovered.rows.insert(view.id, (rows, keys));
        }
        recovered
    }

    /// Memory above the horizon, history at or below: what a query answers.
    pub(crate) fn answer(&self, index: usize, view: &View, snapshot: &Snapshot) -> Groups {
        let memory = &snapshot.views[index];
        let layout = view.layout();
        let mut groups: BTreeMap<(SeriesId, EventTime), State> = BTreeMap::new();
        for (key, row) in memory.rows.iter() {
            assert!(row.version > memory.horizon, "memory shows rows above the horizon only");
            assert!(memory.keys.contains_key(&key.series), "each row comes with its key");
            layout.merge(groups.entry((key.series, key.bucket)).or_default(), &row.state);
        }
        for ((series, bucket, _), row) in self.states.get(&view.id).into_iter().flatten() {
            if row.version <= memory.horizon {
                layout.merge(groups.entry((*series, *bucket)).or_default(), &row.state);
            }
        }
        groups.into_iter().map(|(key, state)| (key, Summary::of_rollup(&state))).collect()
    }

    /// All events of `metrics` that a query sees, memory and history.
    pub(crate) fn count_raw(&self, snapshot: &Snapshot) -> usize {
        let memory = &snapshot.streams[0];
        let history = self.raw.iter().filter(|(epoch, _)| *epoch <= memory.flushed);
        history.chain(&memory.batches).map(|(_, batch)| batch.len()).sum()
    }
}
