//! Every view is DataFusion's own answer of its `SELECT` over the acknowledged events, at every epoch, for 1, 2 and 4
//! workers: random definitions over random streams with late and unordered events, views that feed each other, views made
//! in the middle with and without a back-fill, dropped and made again, flushes at any moment, half-done flushes, queries
//! that a flush overtakes, and restarts. At the end, any number of workers makes the same states of the same log.
//!
//! `VIEWS_SEED` is the first seed of those that are new each time, and `VIEWS_RUNS` how many there are.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../src/views/tests/exactly.rs"]
mod exactly;
#[path = "../src/views/tests/generator.rs"]
mod generator;
#[allow(dead_code, reason = "the tests that have no engine need more of it")]
#[path = "../src/views/tests/stream.rs"]
mod stream;
mod world;

use streamgauge_queries::views; // where `stream` looks for it
use world::run::Run;

/// Runs of a test, each of another seed: always the same, and others each time.
const RUNS: (u64, u64) = (9, 3);

fn check(metrics: bool) {
    for seed in stream::seeds(RUNS) {
        Run::new(seed, metrics).finish_all();
    }
}

#[test]
fn views_of_a_stream_equal_a_select_over_its_events_at_every_epoch() {
    check(false);
}

#[test]
fn views_of_metrics_equal_a_select_over_its_events_at_every_epoch() {
    check(true);
}
