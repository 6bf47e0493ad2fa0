//! Views with the same dimensions and condition, from fine buckets to coarse ones, each with some of the aggregates of the
//! first: so every other one can be fed from it.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

struct Words {
    stream: &'static str,
    time: &'static str,
    dimensions: &'static [&'static str],
    conditions: &'static [&'static str],
    aggregates: &'static [&'static str],
}

const FLIGHTS: Words = Words {
    stream: "flights",
    time: "at",
    dimensions: &["", "carrier", "origin, carrier", "n % 3", "ok", "delay, upper(carrier)"],
    conditions: &["n > -10", "carrier <> 'BB'", "ok OR delay > 0"],
    aggregates: &[
        "count(*)",
        "count(origin)",
        "sum(n)",
        "sum(delay)",
        "sum(n) FILTER (WHERE ok)",
        "avg(n)",
        "min(delay)",
        "max(origin)",
        "min(seen)",
        "max(ok)",
        "stddev(delay)",
        "first_value(n ORDER BY at)",
        "last_value(origin ORDER BY at)",
        "last_value(delay ORDER BY at) FILTER (WHERE ok)",
        "count(DISTINCT origin) FILTER (WHERE n > 0)",
        "approx_percentile_cont(delay, 0.9) AS quantile",
        "approx_top_k(origin, 2) FILTER (WHERE ok)",
    ],
};

const METRICS: Words = Words {
    stream: "metrics",
    time: "ts",
    dimensions: &["", "name, dimensions", "dimensions, name", "name", "source, dimensions['host']", "value > 0"],
    conditions: &["value > -20", "name = 'cpu'", "dimensions['zone'] IS NOT NULL"],
    aggregates: &[
        "count(*)",
        "count(dimensions['zone'])",
        "sum(value)",
        "sum(value) FILTER (WHERE source = 's1')",
        "avg(value)",
        "min(value)",
        "max(source)",
        "var_pop(value)",
        "first_value(value ORDER BY ts)",
        "last_value(dimensions['host'] ORDER BY ts)",
        "first_value(value ORDER BY ts) FILTER (WHERE source = 's1')",
        "count(DISTINCT source)",
        "approx_percentile_cont(value, 0.5) FILTER (WHERE source <> '') AS quantile",
        "approx_top_k(dimensions['host'], 2)",
    ],
};

/// From fine to coarse; the last has one bucket.
const BUCKETS: [&str; 5] = [
    "date_bin(INTERVAL '1 second', $t)",
    "date_bin(INTERVAL '1 minute', $t)",
    "date_bin(INTERVAL '1 hour', $t)",
    "date_trunc('day', $t)",
    "",
];

/// How many there are in a family.
pub(super) const MEMBERS: usize = BUCKETS.len();

/// The `SELECT`s of a family, finest first.
pub(super) fn family(rng: &mut StdRng, metrics: bool) -> Vec<String> {
    let words = if metrics { &METRICS } else { &FLIGHTS };
    let mut aggregates: Vec<&str> = words.aggregates.to_vec();
    aggregates.shuffle(rng);
    aggregates.truncate(rng.random_range(2..7));
    let dimensions = words.dimensions.choose(rng).unwrap();
    let filter = if rng.random_bool(0.4) { words.conditions.choose(rng).copied() } else { None };
    let select = |(member, bucket): (usize, &&str)| {
        let mut list: Vec<&str> = aggregates.clone();
        if member > 0 {
            list.shuffle(rng);
            list.truncate(rng.random_range(1..=aggregates.len()));
        }
        let bucket = bucket.replace("$t", words.time);
        let groups: Vec<&str> = [*dimensions, &bucket].into_iter().filter(|group| !group.is_empty()).collect();
        let columns = groups.iter().chain(&list).copied().collect::<Vec<_>>().join(", ");
        let filter = filter.map(|filter| format!(" WHERE {filter}")).unwrap_or_default();
        let by = if groups.is_empty() { String::new() } else { format!(" GROUP BY {}", groups.join(", ")) };
        format!("SELECT {columns} FROM {}{filter}{by}", words.stream)
    };
    BUCKETS.iter().enumerate().map(select).collect()
}
