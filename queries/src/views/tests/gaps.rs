//! A view that a version has no plan for, and what a later version that has one makes of it.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use rand::SeedableRng;
use rand::rngs::StdRng;
use streamgauge_engine::log::{Log, LogOptions};
use streamgauge_engine::program::{Planner, Program};
use streamgauge_engine::{Engine, EngineConfig, EngineError, Recovered};
use streamgauge_schemas::stream::Catalog;
use streamgauge_schemas::{StreamId, View, ViewId};

use super::stream::{metrics_batch, state};
use crate::views::{GivenOptions, ViewPlanner, plan_view};

struct Version {
    planner: ViewPlanner,
    has_plan: bool,
}

impl Planner for Version {
    fn program(&self, view: &View, catalog: &Catalog) -> Result<Arc<dyn Program>, Box<dyn Error + Send + Sync>> {
        if self.has_plan { self.planner.program(view, catalog) } else { Err("this version has no plan for it".into()) }
    }
}

fn open(log: &Path, has_plan: bool, recovered: &Recovered) -> Engine {
    let mut config = EngineConfig::new(log);
    config.planner = Some(Arc::new(Version { planner: ViewPlanner::new(), has_plan }));
    config.built_in_views = false;
    config.log_sync = false;
    config.log_segment_bytes_max = 4 << 10;
    Engine::open(&config, recovered.clone()).unwrap()
}

/// Appends so many batches, each an epoch.
fn append(engine: &Engine, count: i64) {
    let mut rng = StdRng::seed_from_u64(7);
    for batch in 0..count {
        let times = (0..20).map(|event| batch * 1_000_000 + event).collect();
        block_on(engine.append(metrics_batch(&mut rng, times))).unwrap();
    }
}

/// As if ClickHouse had the catalogue and the events.
fn flush(engine: &Engine, recovered: &mut Recovered) {
    if let Some(flush) = engine.begin_catalog_flush() {
        engine.confirm_catalog_flush(flush.upto);
        (recovered.catalog, recovered.catalog_flushed) = ((*engine.catalog()).clone(), flush.upto);
    }
    for stream in [StreamId::METRICS, StreamId::REJECTS, StreamId::REQUESTS] {
        while let Some(flush) = engine.begin_stream_flush(stream) {
            engine.confirm_stream_flush(stream, flush.upto);
            recovered.streams_flushed.insert(stream, flush.upto);
        }
    }
}

/// Lets views that have nothing to flush move on.
fn advance_views(engine: &Engine) {
    for view in engine.catalog().own_views() {
        drop(block_on(engine.begin_view_flush(view.id)));
    }
}

/// The states of a view's groups, and as if ClickHouse had them.
fn flush_view(engine: &Engine, id: ViewId, recovered: &mut Recovered) -> Vec<String> {
    let flush = block_on(engine.begin_view_flush(id)).unwrap().unwrap();
    engine.confirm_view_flush(id, flush.upto);
    recovered.views_flushed.insert(id, flush.upto);
    let rows = &flush.rows;
    let mut states: Vec<String> = (0..rows.len())
        .map(|row| format!("{:?} {:?} {:?}", rows.series[row], rows.bucket[row], rows.state[row]))
        .collect();
    states.sort();
    recovered.rows.insert(id, (flush.rows, flush.keys));
    states
}

fn create(engine: &Engine, condition: &str) -> ViewId {
    let options = GivenOptions { backfill: Some(false), ..GivenOptions::default() };
    let select =
        format!("SELECT name, count(*) AS n, sum(value) AS total FROM metrics WHERE {condition} GROUP BY name");
    let planned = plan_view("v", &select, &options, &*engine.catalog(), &state()).unwrap();
    block_on(engine.create_view(planned.definition, true)).unwrap().id
}

/// A log, the view, and what ClickHouse has: all of it.
fn a_view_of_some_events() -> (tempfile::TempDir, ViewId, Recovered) {
    let (dir, mut recovered) = (tempfile::tempdir().unwrap(), Recovered::default());
    let engine = open(dir.path(), true, &recovered);
    let id = create(&engine, "true");
    append(&engine, 3);
    flush(&engine, &mut recovered);
    flush_view(&engine, id, &mut recovered);
    (dir, id, recovered)
}

fn reason(engine: &Engine, id: ViewId) -> Option<String> {
    match block_on(engine.begin_view_flush(id)) {
        Err(EngineError::BrokenView { reason, .. }) => Some(reason),
        other => other.map(|_| None).unwrap(),
    }
}

#[test]
fn a_view_goes_on_when_the_log_has_all_that_it_missed() {
    let mut found = Vec::new();
    for has_plan in [true, false] {
        let (dir, id, mut recovered) = a_view_of_some_events();
        let engine = open(dir.path(), has_plan, &recovered);
        assert_eq!(reason(&engine, id), (!has_plan).then(|| "this version has no plan for it".to_owned()));
        append(&engine, 2);
        drop(engine);
        let engine = open(dir.path(), true, &recovered);
        found.push(flush_view(&engine, id, &mut recovered));
    }
    assert!(!found[0].is_empty());
    assert_eq!(found[0], found[1]);
}

#[test]
fn a_view_does_not_go_on_when_the_log_has_forgotten_what_it_missed() {
    let (dir, id, mut recovered) = a_view_of_some_events();
    let forgets = |recovered: &mut Recovered, has_plan: bool| {
        let before = recovered.streams_flushed[&StreamId::METRICS];
        for _ in 0..100 {
            let engine = open(dir.path(), has_plan, recovered);
            append(&engine, 20);
            flush(&engine, recovered);
            advance_views(&engine);
            flush(&engine, recovered); // streams of no events move on by themselves, and the next to be confirmed cuts the log
            append(&engine, 1);
            flush(&engine, recovered);
            append(&engine, 1); // the log is cut with the next epoch
            drop(engine);
            if Log::open(dir.path(), LogOptions::default()).unwrap().truncated_epoch() > before {
                return;
            }
        }
        panic!("the log is not cut");
    };
    forgets(&mut recovered, false);
    for _ in 0..2 {
        let engine = open(dir.path(), true, &recovered);
        assert!(reason(&engine, id).unwrap().contains("lacks the events that came since"));
    }
    // Made again, and quiet for long: what ClickHouse has of it is older than the log, and nothing is missing.
    let engine = open(dir.path(), true, &recovered);
    let again = create(&engine, "name = 'never'");
    flush(&engine, &mut recovered);
    drop(engine);
    assert!(!std::fs::read_to_string(dir.path().join("gaps")).unwrap().is_empty());
    let engine = open(dir.path(), true, &recovered);
    assert_eq!(std::fs::read_to_string(dir.path().join("gaps")).unwrap(), "");
    drop(engine);
    forgets(&mut recovered, true);
    let engine = open(dir.path(), true, &recovered);
    assert_eq!(reason(&engine, again), None);
}

#[test]
fn a_file_of_gaps_that_makes_no_sense_is_not_taken_for_none() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gaps"), "12 x\n").unwrap();
    let mut config = EngineConfig::new(dir.path());
    config.built_in_views = false;
    let told = Engine::open(&config, Recovered::default()).err().unwrap();
    let told = format!("{told}: {}", std::error::Error::source(&told).unwrap());
    assert!(told.contains("gaps"), "{told}");
}
