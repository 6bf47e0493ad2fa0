//! An engine over a store, and how its views are read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::executor::block_on;
use futures::future::join_all;
use streamgauge_engine::{Backfill, Engine, EngineConfig, RowFilter, Snapshot, SnapshotRequest, ViewFlush, ViewRead};
use streamgauge_queries::ViewPlanner;
use streamgauge_queries::views::{GivenOptions, Reading, plan_view};
use streamgauge_schemas::value::key_id;
use streamgauge_schemas::{
    Duration, Epoch, EventBatch, EventTime, GroupKey, Key, Row, SeriesId, State, StreamId, TableBatch, View,
};

use super::store::Store;
use crate::stream::{self, Answer, FLIGHTS};

/// Starts of buckets that are tried, from the newest on.
const BUCKETS_MAX: usize = 5;

/// A view as a world knows it.
struct Maintained {
    view: Arc<View>,
    reading: Reading,
    begun: Option<ViewFlush>,
}

/// See the module.
pub(super) struct World {
    pub(super) workers: usize,
    dir: tempfile::TempDir,
    recent_bytes_max: usize,
    clock: Arc<AtomicU64>,
    planner: Arc<ViewPlanner>,
    engine: Option<Engine>,
    store: Store,
    stream: StreamId,
    /// Of every acknowledged batch.
    epochs: Vec<Epoch>,
    views: HashMap<String, Maintained>,
}

/// A row of a view with its group and the values of that.
pub(super) type Piece = ((GroupKey, Row), Key);

impl World {
    pub(super) fn new(workers: usize, metrics: bool, recent_bytes_max: usize, clock: Arc<AtomicU64>) -> Self {
        let mut world = World {
            workers,
            dir: tempfile::tempdir().unwrap(),
            recent_bytes_max,
            clock,
            planner: Arc::new(ViewPlanner::new()),
            engine: None,
            store: Store::default(),
            stream: StreamId::METRICS,
            epochs: Vec::new(),
            views: HashMap::new(),
        };
        world.open();
        if !metrics {
            let definition = stream::catalog().by_id(FLIGHTS).unwrap().definition.clone();
            world.stream = block_on(world.engine().create_stream(definition)).unwrap().0.id;
        }
        world
    }

    fn open(&mut self) {
        let clock = self.clock.clone();
        let mut config = EngineConfig::new(self.dir.path());
        config.workers = self.workers;
        config.planner = Some(self.planner.clone());
        config.built_in_views = false;
        config.recent_bytes_max = self.recent_bytes_max;
        config.log_sync = false; // the process does not die here; syncing would only make the test slow
        config.clock = Arc::new(move || clock.load(Ordering::SeqCst));
        self.engine = Some(Engine::open(&config, self.store.recover(self.recent_bytes_max > 0)).unwrap());
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    /// Ends the engine and opens it again, with the views that it had.
    pub(super) fn restart(&mut self) {
        self.engine = None;
        self.open();
        let engine = self.engine.as_ref().unwrap();
        for (name, maintained) in &mut self.views {
            assert_eq!(engine.view(name).as_ref(), Some(&maintained.view), "a restart keeps the definitions");
            maintained.begun = None;
        }
        assert_eq!(engine.catalog().own_views().count(), self.views.len(), "and has no others");
    }

    /// A world of another number of workers that has read the same log, over the same tables.
    pub(super) fn replayed(&mut self, workers: usize) -> World {
        self.engine = None; // so that the log is whole
        let dir = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(self.dir.path()).unwrap().map(Result::unwrap) {
            assert!(file.file_type().unwrap().is_file(), "a log is a folder of files");
            std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        let maintained = |(name, maintained): (&String, &Maintained)| {
            let (view, reading) = (maintained.view.clone(), maintained.reading.clone());
            (name.clone(), Maintained { view, reading, begun: None })
        };
        let mut world = World {
            workers,
            dir,
            recent_bytes_max: self.recent_bytes_max,
            clock: self.clock.clone(),
            planner: self.planner.clone(),
            engine: None,
            store: self.store.clone(),
            stream: self.stream,
            epochs: self.epochs.clone(),
            views: self.views.iter().map(maintained).collect(),
        };
        world.open();
        world
    }

    /// Appends batches of the stream at the same time.
    pub(super) fn append(&mut self, batches: &[EventBatch]) {
        let owned = |batch: &EventBatch| match batch {
            EventBatch::Metrics(_) => batch.clone(),
            EventBatch::Table(table) => {
                EventBatch::Table(Arc::new(TableBatch { stream: self.stream, rows: table.rows.clone() }))
            }
        };
        let appends = batches.iter().map(|batch| self.engine().append(owned(batch)));
        let epochs = block_on(join_all(appends)).into_iter().map(Result::unwrap);
        let epochs: Vec<Epoch> = epochs.collect();
        self.epochs.extend(epochs);
    }

    /// Makes a view, in place of the one of that name if there is one.
    pub(super) fn create(&mut self, name: &str, select: &str, idle_us: i64, backfill: bool) {
        let options = GivenOptions { backfill: Some(backfill), ..GivenOptions::default() };
        let planned = plan_view(name, select, &options, &*self.engine().catalog(), &stream::state());
        let mut planned = planned.unwrap_or_else(|error| panic!("{select}: {error}"));
        planned.definition.options.idle = Duration::from_micros(idle_us);
        let replace = self.views.contains_key(name);
        let view = block_on(self.engine().create_view(planned.definition, replace)).unwrap();
        self.views.insert(name.to_owned(), Maintained { view, reading: planned.reading, begun: None });
    }

    pub(super) fn drop_view(&mut self, name: &str) {
        block_on(self.engine().drop_view(name)).unwrap();
        self.views.remove(name);
    }

    /// Flushes the catalogue.
    pub(super) fn flush_catalog(&mut self, commit: bool) {
        if let Some(flush) = self.engine().begin_catalog_flush()
            && commit
        {
            let catalog = self.engine().catalog();
            self.store.commit_catalog(&catalog, flush.upto);
            self.engine().confirm_catalog_flush(flush.upto);
        }
    }

    /// Flushes the events of the stream.
    pub(super) fn flush_stream(&mut self, commit: bool) {
        if let Some(flush) = self.engine().begin_stream_flush(self.stream)
            && commit
        {
            self.store.commit_stream(self.stream, flush.upto);
            self.engine().confirm_stream_flush(self.stream, flush.upto);
        }
    }

    /// Begins a flush of a view, if ClickHouse knows it and none is under way.
    pub(super) fn begin(&mut self, name: &str) {
        let maintained = &self.views[name];
        if self.store.knows(&maintained.view) && maintained.begun.is_none() {
            let begun = block_on(self.engine().begin_view_flush(maintained.view.id)).unwrap();
            self.views.get_mut(name).unwrap().begun = begun;
        }
    }

    /// Writes what was begun, and confirms it; or writes every other row, and forgets it.
    pub(super) fn finish(&mut self, name: &str, half: bool) {
        let maintained = self.views.get_mut(name).unwrap();
        let Some(flush) = maintained.begun.take() else { return };
        let view = maintained.view.clone();
        self.store.write(&view, &flush.rows, &flush.keys, |index| !half || index % 2 == 0);
        if !half {
            self.store.commit_view(&view, flush.upto);
            self.engine().confirm_view_flush(view.id, flush.upto);
        }
    }

    /// Whether steps of a back-fill can be written.
    pub(super) fn can_fill(&self, name: &str) -> bool {
        self.store.knows(&self.views[name].view)
    }

    /// A step of a back-fill, over `batches` up to the acknowledged one at `end`, or up to the view's creation if `last`;
    /// the first try is left half-done.
    pub(super) fn fill(&mut self, name: &str, batches: &[EventBatch], end: usize, last: bool) {
        let view = self.views[name].view.clone();
        let begin = end - batches.len();
        // Batches that were appended at the same time may have any order.
        let epoch = |count: usize| self.epochs[..count].iter().max().copied().unwrap_or_default();
        let (done, upto) = (epoch(begin), if last { view.id.created() } else { epoch(end) });
        for half in [true, false] {
            self.store.discard_above(&view, done);
            let mut aggregate = Backfill::new(&view, &self.engine().catalog(), &*self.planner).unwrap();
            batches.iter().for_each(|batch| aggregate.add(batch.clone()));
            let step = aggregate.take(upto);
            self.store.write(&view, &step.rows, &step.keys, |index| !half || index % 2 == 0);
        }
        if last {
            let horizon = self.engine().view_status(view.id).unwrap().horizon;
            let newest = self.store.history(&view, horizon).map(|(group, ..)| group.bucket).max();
            self.engine().note_backfill_newest(view.id, newest);
        }
    }

    /// The memory part of these views.
    pub(super) fn snapshot<'a>(&self, names: impl Iterator<Item = &'a str>) -> Snapshot {
        self.snapshot_of(names, &RowFilter::default())
    }

    fn snapshot_of<'a>(&self, names: impl Iterator<Item = &'a str>, filter: &RowFilter) -> Snapshot {
        let read = |name| ViewRead { view: self.views[name].view.id, filter: filter.clone(), follow: None };
        let request = SnapshotRequest { views: names.map(read).collect(), streams: Vec::new() };
        block_on(self.engine().snapshot(request)).unwrap()
    }

    /// Rows of buckets since any time are among all rows, whether history is asked for them or not.
    pub(super) fn check_since(&self, name: &str) {
        let whole = self.pieces(name, &self.snapshot([name].into_iter()), 0);
        let mut buckets: Vec<EventTime> = whole.iter().map(|((group, _), _)| group.bucket).collect();
        buckets.sort_unstable();
        buckets.dedup();
        for lower in buckets.into_iter().rev().take(BUCKETS_MAX) {
            let filter = RowFilter { lower: Some(lower), ..RowFilter::default() };
            let mut since = self.pieces(name, &self.snapshot_of([name].into_iter(), &filter), 0);
            since.retain(|((group, _), _)| group.bucket >= lower); // history has all
            let wanted = whole.iter().filter(|((group, _), _)| group.bucket >= lower);
            assert!(wanted.eq(&since), "{name}, buckets from {lower:?} on");
        }
    }

    /// The rows of a view: memory's, which is at `index` in the snapshot, above the horizon, history's at or below.
    pub(super) fn pieces(&self, name: &str, snapshot: &Snapshot, index: usize) -> Vec<Piece> {
        let (memory, view) = (&snapshot.views[index], &self.views[name].view);
        let mut pieces: Vec<Piece> = Vec::new();
        for (key, row) in memory.rows.iter() {
            assert!(row.version > memory.horizon, "memory shows rows above the horizon only");
            pieces.push(((key, row), memory.keys[&key.series].clone()));
        }
        let history = self.store.history(view, memory.horizon);
        pieces.extend(history.map(|(key, row, values)| ((key, row), values.clone())));
        pieces.sort_by(|a, b| a.0.cmp(&b.0));
        pieces
    }

    /// The rows of all these views.
    pub(super) fn all_pieces<'a>(&self, names: &[&'a str]) -> Vec<(&'a str, GroupKey, Row)> {
        let snapshot = self.snapshot(names.iter().copied());
        let pieces = names.iter().enumerate().flat_map(|(index, name)| {
            self.pieces(name, &snapshot, index).into_iter().map(|((group, row), _)| (*name, group, row))
        });
        pieces.collect()
    }

    /// What a view answers.
    pub(super) fn answer(&self, name: &str, pieces: &[Piece], batches: &[EventBatch]) -> Answer {
        let Maintained { view, reading, .. } = &self.views[name];
        let layout = view.layout();
        let mut groups: HashMap<(SeriesId, i64), State> = HashMap::new();
        let mut keys: HashMap<SeriesId, Vec<u8>> = HashMap::new();
        for ((group, row), key) in pieces {
            layout.merge(groups.entry((group.series, group.bucket.0)).or_default(), &row.state);
            match key {
                Key::Series(series) => assert_eq!(series.id(), group.series),
                Key::Values(values) => assert_eq!(key_id(values), group.series),
            }
            if let Key::Values(values) = key {
                keys.insert(group.series, values.to_vec());
            }
        }
        let status = self.engine().view_status(view.id).unwrap();
        assert_eq!((status.failed_events, status.failure), (0, None), "{}", view.definition.select);
        stream::answer(&view.definition, reading, &groups, &keys, batches)
    }

    /// Whether a view is fed from another one.
    pub(super) fn is_fed(&self, name: &str) -> bool {
        self.engine().fed_from(self.views[name].view.id).is_some()
    }
}
