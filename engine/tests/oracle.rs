//! Every view equals a plain recomputation, at every epoch, for 1, 2 and 4 workers: with late and unordered events,
//! flushes at any moment, queries that a flush overtakes, half-done flushes, requests that are sent again, and restarts.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::executor::block_on;
use proptest::prelude::*;
use streamgauge_engine::decode::Decoded;
use streamgauge_engine::requests::body_hash;
use streamgauge_engine::{
    Claimed, Engine, EngineConfig, EngineError, Ingest, Ingested, KnownRequest, RequestName, RowFilter,
    SnapshotRequest, ViewFlush, ViewRead,
};
use streamgauge_schemas::{Duration, EventTime, Reject, StreamId, View, ViewDefinition, view};
use support::{Event, Store, batch, recompute};

#[derive(Clone, Debug)]
enum Step {
    /// Append events after the clock moved on; what is not read waits for the next read or flush.
    Append { after_us: u64, events: Vec<Event>, is_read: bool },
    /// Send a request with a name; if the name was used before, the same request again.
    Send { name: u8, after_us: u64, events: Vec<Event> },
    /// Flush the rows of named requests; the crash may come between write and commit.
    Requests { commit: bool },
    /// Begin a flush of a view.
    Begin(usize),
    /// Write what was begun, and confirm it.
    Finish(usize),
    /// Write every other row of what was begun, and forget it, as a crash would.
    Half(usize),
    /// Flush the raw events; the crash may come between write and commit.
    Raw { commit: bool },
    /// Take the memory part of a snapshot; history is read at the end, after all flushes that follow.
    Query,
    /// End the engine and open it again.
    Restart { is_read: bool },
}

fn definitions() -> Vec<ViewDefinition> {
    let view = |name: &str, text: &str, bucket_s: i64, idle_us: i64| {
        let mut definition = view::rollup(name, text, bucket_s);
        definition.options.idle = Duration::from_micros(idle_us);
        definition
    };
    vec![
        view("v_1s", "1 second", 1, 300),
        view("v_1m", "1 minute", 60, 1_000),
        view("v_1h", "1 hour", 3_600, 40),
        view("v_1d", "1 day", 86_400, 5_000),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    // Near bucket edges of each length, before and after 1970, with disorder of up to a day.
    let base = prop_oneof![
        Just(0i64),
        Just(59),
        Just(60),
        Just(3_599),
        Just(3_600),
        Just(86_399),
        Just(-1),
        Just(-86_400),
        0i64..90_000
    ];
    (0u8..6, base, prop_oneof![Just(0i64), Just(999_999), Just(1), 0i64..1_000_000], -40i32..40).prop_map(
        |(series, s, us, v)| Event {
            series,
            ts: EventTime(s * 1_000_000 + us),
            value: f64::from(v) / 4.0, // sums of quarters are exact, whatever their order
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![4 => 0u64..20, 2 => 30u64..400, 1 => 900u64..6_000];
    prop_oneof![
        12 => (after, prop::collection::vec(event(), 1..12), prop::bool::weighted(0.3))
            .prop_map(|(after_us, events, is_read)| Step::Append { after_us, events, is_read }),
        4 => (0u8..5, 0u64..20, prop::collection::vec(event(), 1..6))
            .prop_map(|(name, after_us, events)| Step::Send { name, after_us, events }),
        1 => any::<bool>().prop_map(|commit| Step::Requests { commit }),
        4 => (0usize..4).prop_map(Step::Begin),
        4 => (0usize..4).prop_map(Step::Finish),
        1 => (0usize..4).prop_map(Step::Half),
        2 => any::<bool>().prop_map(|commit| Step::Raw { commit }),
        2 => Just(Step::Query),
        1 => any::<bool>().prop_map(|is_read| Step::Restart { is_read }),
    ]
}

struct Run {
    dir: tempfile::TempDir,
    clock: Arc<AtomicU64>,
    workers: usize,
    engine: Option<Engine>,
    views: Vec<Arc<View>>,
    store: Store,
    acknowledged: Vec<Event>,
    begun: Vec<Option<ViewFlush>>,
    /// Named requests: what they brought, and what was answered.
    sent: HashMap<u8, (Vec<Event>, Ingested)>,
}

impl Run {
    fn new(workers: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let mut run = Run {
            dir,
            clock,
            workers,
            engine: None,
            views: Vec::new(),
            store: Store::default(),
            acknowledged: Vec::new(),
            begun: vec![None; 4],
            sent: HashMap::new(),
        };
        run.open();
        run.create_views();
        run
    }

    fn create_views(&mut self) {
        let create = |definition| block_on(self.engine().create_view(definition, false)).unwrap();
        self.views = definitions().into_iter().map(create).collect();
        let flush = self.engine().begin_catalog_flush().unwrap();
        (self.store.catalog, self.store.catalog_flushed) = ((*self.engine().catalog()).clone(), flush.upto);
        self.engine().confirm_catalog_flush(flush.upto);
    }

    fn open(&mut self) {
        let clock = self.clock.clone();
        let mut config = EngineConfig::new(self.dir.path());
        config.workers = self.workers;
        config.built_in_views = false;
        config.log_sync = false; // the process does not die here; syncing would only make the test slow
        config.clock = Arc::new(move || clock.load(Ordering::SeqCst));
        self.engine = Some(Engine::open(&config, self.store.recover()).unwrap());
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn snapshot(&self) -> streamgauge_engine::Snapshot {
        let read = |view: &Arc<View>| ViewRead { view: view.id, filter: RowFilter::default(), follow: None };
        let streams = vec![StreamId::METRICS, StreamId::REJECTS];
        let request = SnapshotRequest { views: self.views.iter().map(read).collect(), streams };
        block_on(self.engine().snapshot(request)).unwrap()
    }

    fn check(&self, snapshot: &streamgauge_engine::Snapshot, acknowledged: usize) {
        let events = &self.acknowledged[..acknowledged];
        for (index, view) in self.views.iter().enumerate() {
            let name = &view.definition.name;
            assert_eq!(self.store.answer(index, view, snapshot), recompute(view, events), "view {name}");
        }
        assert_eq!(self.store.count_raw(snapshot), events.len(), "raw events");
        let rejects: usize = snapshot.streams[1].batches.iter().map(|(_, batch)| batch.len()).sum();
        let sent = self.store.requests.iter().filter(|known| known.epoch <= snapshot.epoch).count();
        assert_eq!(rejects, sent, "each named request brings one reject, and none is flushed here");
    }

    fn send(&mut self, index: u8, events: Vec<Event>) {
        let name = RequestName::Key(format!("request-{index}").into());
        let known = self.sent.get(&index).cloned();
        let events = known.as_ref().map_or(events, |(events, _)| events.clone());
        let body = format!("{events:?}");
        let hash = body_hash("metrics", body.as_bytes());
        match (block_on(self.engine().claim(&name, hash)).unwrap(), known) {
            (Claimed::Repeat(known), Some((_, first))) => {
                let again =
                    Ingested { epoch: Some(known.epoch), accepted: known.accepted, rejected: known.rejected.clone() };
                assert_eq!(again, first, "a repeat is answered as the first time");
                let other = block_on(self.engine().claim(&name, hash ^ 1)).unwrap_err();
                assert!(matches!(other, EngineError::NameReused), "{other}");
            }
            (Claimed::New(claim), None) => {
                let rejected = vec![Reject { index: 7, reason: "no value".into() }];
                let decoded = Decoded {
                    batch: Some(batch(&events)),
                    rejected,
                    places: std::iter::once(0..3).collect(),
                    source: String::new(),
                    total: events.len() as u64 + 1,
                };
                let (stream, body, source) = ("metrics", body.as_bytes(), "test");
                let (at, keep_rejects, claim) = (EventTime(0), true, Some(claim));
                let ingest = Ingest { stream, at, body, decoded, source, keep_rejects, claim };
                let ingested = block_on(self.engine().ingest(ingest)).unwrap();
                self.store.requests.push(KnownRequest {
                    epoch: ingested.epoch.unwrap(),
                    name,
                    body_hash: hash,
                    accepted: ingested.accepted,
                    rejected: ingested.rejected.clone(),
                });
                self.acknowledged.extend(&events);
                self.sent.insert(index, (events, ingested));
            }
            (claimed, known) => panic!("{claimed:?} of a request that was sent: {}", known.is_some()),
        }
    }

    fn take(&mut self, step: Step, open_queries: &mut Vec<(streamgauge_engine::Snapshot, usize)>) {
        match step {
            Step::Append { after_us, events, is_read } => {
                self.clock.fetch_add(after_us, Ordering::SeqCst);
                block_on(self.engine().append(batch(&events))).unwrap();
                self.acknowledged.extend(events);
                if is_read {
                    self.check(&self.snapshot(), self.acknowledged.len());
                }
            }
            Step::Send { name, after_us, events } => {
                self.clock.fetch_add(after_us, Ordering::SeqCst);
                self.send(name, events);
            }
            Step::Requests { commit } => {
                if let Some(flush) = self.engine().begin_stream_flush(StreamId::REQUESTS)
                    && commit
                {
                    self.store.commit_requests(flush.upto);
                    self.engine().confirm_stream_flush(StreamId::REQUESTS, flush.upto);
                }
            }
            Step::Begin(view) => {
                if self.begun[view].is_none() {
                    self.begun[view] = block_on(self.engine().begin_view_flush(self.views[view].id)).unwrap();
                }
            }
            Step::Finish(view) => {
                if let Some(flush) = self.begun[view].take() {
                    let view = self.views[view].clone();
                    self.store.write_view(&view, &flush, |_| true);
                    self.store.commit_view(&view, flush.upto);
                    self.engine().confirm_view_flush(view.id, flush.upto);
                }
            }
            Step::Half(view) => {
                if let Some(flush) = self.begun[view].take() {
                    let view = self.views[view].clone();
                    self.store.write_view(&view, &flush, |index| index % 2 == 0);
                }
            }
            Step::Raw { commit } => {
                if let Some(flush) = self.engine().begin_stream_flush(StreamId::METRICS) {
                    self.store.write_stream(&flush);
                    if commit {
                        self.store.commit_stream(flush.upto);
                        self.engine().confirm_stream_flush(StreamId::METRICS, flush.upto);
                    }
                }
            }
            Step::Query => open_queries.push((self.snapshot(), self.acknowledged.len())),
            Step::Restart { is_read } => {
                // A query of the old process ends with it.
                open_queries.drain(..).for_each(|(snapshot, acknowledged)| self.check(&snapshot, acknowledged));
                self.engine = None;
                self.begun = vec![None; 4];
                self.open();
                if is_read {
                    self.check(&self.snapshot(), self.acknowledged.len());
                }
            }
        }
    }
}

fn run(workers: usize, steps: Vec<Step>) {
    let mut run = Run::new(workers);
    let mut open_queries = Vec::new();
    for step in steps {
        run.take(step, &mut open_queries);
    }
    open_queries.iter().for_each(|(snapshot, acknowledged)| run.check(snapshot, *acknowledged));
    run.check(&run.snapshot(), run.acknowledged.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_worker_equals_recomputation(steps in prop::collection::vec(step(), 1..60)) {
        run(1, steps);
    }

    #[test]
    fn two_workers_equal_recomputation(steps in prop::collection::vec(step(), 1..40)) {
        run(2, steps);
    }

    #[test]
    fn four_workers_equal_recomputation(steps in prop::collection::vec(step(), 1..30)) {
        run(4, steps);
    }
}
