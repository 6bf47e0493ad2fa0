//! The oracle: a random `SELECT` as a view equals DataFusion's own answer over the same rows.

use rand::SeedableRng;
use rand::rngs::StdRng;
use streamgauge_schemas::{View, ViewId};

use super::generator::select;
use super::stream::{assert_same, batches, catalog, maintained, plain, seeds, state, without_exactness};
use crate::views::{GivenOptions, plan_view, program_of};

/// Always the same, and others each time.
const STATEMENTS: (u64, u64) = (120, 60);

fn check(sql: &str, rng: &mut StdRng, metrics: bool) {
    let (catalog, state) = (catalog(), state());
    let planned = plan_view("v", sql, &GivenOptions::default(), &catalog, &state);
    let planned = planned.unwrap_or_else(|error| panic!("{sql}: {error}"));
    // What runs is what a restart makes of the stored definition.
    let stored = serde_json::to_string(&planned.definition).unwrap();
    let view = View { id: ViewId(7_000), definition: serde_json::from_str(&stored).unwrap() };
    assert_eq!(view.definition, planned.definition);
    let (program, reading) = program_of(&view, &catalog, &state).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let batches = batches(rng, metrics);
    let (found, failed) = maintained(&view.definition, &*program, &reading, &batches);
    assert_eq!(failed, 0, "{sql}");
    let wanted = plain(sql, &batches);
    let whole = view.definition.dimensions.is_empty() && view.definition.bucket.is_none();
    if whole && found.1.is_empty() {
        return; // without groups, SQL has one row of no events; a view has none before the first
    }
    assert_same(sql, without_exactness(found), wanted);
}

fn check_many(metrics: bool) {
    for seed in seeds(STATEMENTS) {
        let mut rng = StdRng::seed_from_u64(seed);
        let sql = select(&mut rng, metrics);
        check(&sql, &mut rng, metrics);
    }
}

#[test]
fn views_of_a_stream_equal_a_select_over_its_rows() {
    check_many(false);
}

#[test]
fn views_of_metrics_equal_a_select_over_its_rows() {
    check_many(true);
}
