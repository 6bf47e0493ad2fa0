//! Random `SELECT`s that can be maintained.
//!
//! DataFusion calls `CAST(x AS …)` by the name of `x`, and has no plan when both are grouped or aggregated; so no cast is
//! over what is there by itself.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

/// What expressions over a stream are made of.
struct Words {
    stream: &'static str,
    time: &'static str,
    dimensions: &'static [&'static str],
    conditions: &'static [&'static str],
    numbers: &'static [&'static str],
    /// Any type that has an order.
    values: &'static [&'static str],
    texts: &'static [&'static str],
}

const FLIGHTS: Words = Words {
    stream: "flights",
    time: "at",
    dimensions: &[
        "carrier",
        "origin",
        "ok",
        "n",
        "delay",
        "n % 5",
        "n / 3",
        "upper(carrier)",
        "coalesce(origin, '?')",
        "CASE WHEN delay > 10 THEN 'late' WHEN delay IS NULL THEN NULL ELSE 'fine' END",
        "length(payload)",
        "substr(payload, 1, 2)",
        "payload ->> 'a'",
        "CAST(seen AS DATE)",
        "date_trunc('hour', seen)",
        "regexp_replace(origin, '[aeiou]', '_')",
        "carrier || '-' || origin",
        "extract(dow FROM at)",
        "CAST(n - 1 AS SMALLINT)",
        "CAST(delay + 1 AS REAL)",
        "nullif(carrier, 'AA')",
        "n > 0 OR ok",
        "CAST(carrier AS VARCHAR) LIKE 'A%'",
        "octet_length(origin) = 3",
        "abs(n)",
    ],
    conditions: &[
        "delay > 5",
        "carrier IN ('AA', 'cc')",
        "ok",
        "NOT ok",
        "n BETWEEN -5 AND 12",
        "origin LIKE 'a%'",
        "seen > at",
        "carrier IS NOT NULL",
        "payload <> 'null'",
        "json_contains(payload, 'a')",
        "n % 2 = 0",
        "coalesce(delay, 0) < 20",
        "regexp_like(origin, '^[a-z]+$')",
        "at > TIMESTAMP '1970-01-01T00:00:00Z'",
        "upper(carrier) = 'CC'",
        "CASE WHEN ok THEN n > 0 ELSE delay < 0 END",
    ],
    numbers: &[
        "n",
        "delay",
        "n + 1",
        "delay * 2",
        "n * delay",
        "length(origin)",
        "CASE WHEN ok THEN delay END",
        "coalesce(n, 0)",
        "CAST(delay + 3 AS BIGINT)",
        "abs(n)",
        "CAST(n + 2 AS INT)",
        "CAST(NOT ok AS INT)",
    ],
    values: &[
        "carrier",
        "origin",
        "ok",
        "seen",
        "at",
        "CAST(seen + INTERVAL '1 day' AS DATE)",
        "upper(payload)",
        "carrier || origin",
    ],
    texts: &["carrier", "origin", "upper(origin)", "CASE WHEN ok THEN carrier ELSE origin END", "payload ->> 'a'"],
};

const METRICS: Words = Words {
    stream: "metrics",
    time: "ts",
    dimensions: &[
        "name",
        "source",
        "dimensions['host']",
        "coalesce(dimensions['zone'], 'none')",
        "name || source",
        "value > 0",
        "CAST(value AS BIGINT) % 3",
        "upper(name)",
        "CASE WHEN value > 10 THEN name ELSE dimensions['host'] END",
        "map_keys(dimensions)[1]",
        "extract(hour FROM ts)",
        "cardinality(dimensions)",
    ],
    conditions: &[
        "value > 5",
        "name = 'cpu'",
        "dimensions['host'] = 'a'",
        "source <> ''",
        "dimensions['zone'] IS NOT NULL",
        "name = 'mem' AND value < 20",
        "value <> 0 OR source = 's1'",
        "ts > TIMESTAMP '1970-01-01T00:00:00Z'",
    ],
    numbers: &[
        "value",
        "value * 2",
        "length(name)",
        "CASE WHEN name = 'cpu' THEN value END",
        "length(dimensions['zone'])",
        "CAST(value - 1 AS BIGINT)",
    ],
    values: &["name", "dimensions['zone']", "ts", "source", "value > 0", "name || source"],
    texts: &["name", "source", "dimensions['host']", "coalesce(dimensions['zone'], name)"],
};

const BUCKETS: [&str; 16] = [
    "date_bin(INTERVAL '1 minute', $t)",
    "date_bin(INTERVAL '5 seconds', $t)",
    "date_bin(INTERVAL '7 days', $t)",
    "date_bin(INTERVAL '1 month', $t)",
    "date_bin(INTERVAL '90 seconds', $t, TIMESTAMP '2001-01-01T00:00:07Z')",
    "date_bin(INTERVAL '15 minutes', $t, TIMESTAMP '2001-01-01T00:00:00Z')",
    "date_trunc('second', $t)",
    "date_trunc('minute', $t)",
    "date_trunc('hour', $t)",
    "date_trunc('day', $t)",
    "date_trunc('week', $t)",
    "date_trunc('month', $t)",
    "date_trunc('day', $t AT TIME ZONE 'Europe/Berlin')",
    "date_trunc('hour', $t AT TIME ZONE 'UTC')",
    "date_bin(INTERVAL '1 day', to_local_time($t AT TIME ZONE 'America/New_York'))",
    "date_bin(INTERVAL '1 hour 30 minutes', $t)",
];

fn one<'a>(rng: &mut StdRng, of: &[&'a str]) -> &'a str {
    of.choose(rng).expect("there are some")
}

fn condition(rng: &mut StdRng, words: &Words) -> String {
    let (left, right) = (one(rng, words.conditions), one(rng, words.conditions));
    match rng.random_range(0..6) {
        0 => format!("{left} AND {right}"),
        1 => format!("({left}) OR ({right})"),
        2 => format!("NOT ({left})"),
        _ => left.to_owned(),
    }
}

/// An aggregate, and whether it is a number that is the same to the last bit however it is summed.
fn aggregate(rng: &mut StdRng, words: &Words) -> (String, bool) {
    let number = one(rng, words.numbers);
    let any = if rng.random_bool(0.5) { number } else { one(rng, words.values) };
    let time = words.time;
    let (call, exact) = match rng.random_range(0..16) {
        0 | 1 => ("count(*)".to_owned(), true),
        2 => (format!("count({any})"), true),
        3 | 4 => (format!("sum({number})"), true),
        5 => (format!("avg({number})"), false),
        6 => (format!("min({any})"), false),
        7 => (format!("max({any})"), false),
        8 => {
            let spread = one(rng, &["stddev", "stddev_samp", "stddev_pop", "var", "var_samp", "var_pop"]);
            (format!("{spread}({number})"), false)
        }
        9 | 10 => {
            let (call, order) = (one(rng, &["first_value", "last_value"]), one(rng, &["", "", " DESC"]));
            (format!("{call}({any} ORDER BY {time}{order})"), false)
        }
        // Not of floats, of which DataFusion tells 0 and -0 apart.
        11 => (format!("count(DISTINCT {})", one(rng, words.values)), true),
        12 => (format!("count({number}, {any})"), true),
        13 | 14 => {
            let q = one(rng, &["0", "0.05", "0.5", "0.9", "0.99", "1"]);
            (format!("approx_percentile_cont(({number}) * 1.0, {q})"), false)
        }
        _ => (format!("approx_top_k({}, {})", one(rng, words.texts), one(rng, &["1", "3", "100"])), false),
    };
    let filter = match rng.random_range(0..3) {
        0 => format!(" FILTER (WHERE {})", condition(rng, words)),
        _ => String::new(),
    };
    let nulls = if call.contains("_value(") { one(rng, &["", "", " IGNORE NULLS"]) } else { "" };
    (format!("{call}{filter}{nulls}"), exact)
}

/// An expression over aggregates.
fn result(rng: &mut StdRng, words: &Words) -> String {
    let (call, exact) = aggregate(rng, words);
    let number = one(rng, words.numbers);
    match rng.random_range(0..8) {
        0 if exact => format!("{call} + 1"),
        1 if exact => format!("CAST({call} AS DOUBLE) / nullif(count(*), 3)"),
        2 => format!("CASE WHEN count(*) > 2 THEN {call} END"),
        3 if exact => format!("coalesce({call}, 0) * 2"),
        4 => format!("max({number}) - min({number})"),
        5 => format!("CAST(coalesce(sum({number}), 0) AS VARCHAR)"),
        _ => call,
    }
}

/// A `SELECT` over `flights` or `metrics`.
pub(super) fn select(rng: &mut StdRng, metrics: bool) -> String {
    let words = if metrics { &METRICS } else { &FLIGHTS };
    let mut groups: Vec<String> = Vec::new();
    for _ in 0..rng.random_range(0..4) {
        groups.push(one(rng, words.dimensions).to_owned());
    }
    if metrics && rng.random_bool(0.4) {
        groups = vec!["name".into(), "dimensions".into()];
    }
    if rng.random_bool(0.6) {
        groups.push(one(rng, &BUCKETS).replace("$t", words.time));
    }
    groups.sort();
    groups.dedup();
    groups.shuffle(rng);
    let mut columns: Vec<(String, bool)> =
        groups.iter().filter(|_| rng.random_bool(0.9)).map(|g| (g.clone(), true)).collect();
    let results = rng.random_range(if columns.is_empty() { 1..5 } else { 0..5 });
    columns.extend((0..results).map(|_| (result(rng, words), false)));
    columns.shuffle(rng);
    let mut list: Vec<String> = Vec::new();
    let mut by: Vec<String> = groups.clone();
    for (at, (expr, grouped)) in columns.iter().enumerate() {
        let name = if expr.contains("approx_percentile") { "quantile" } else { "c" };
        list.push(format!("{expr} AS {name}{at}"));
        // Groups are named by their expression, alias or place.
        if *grouped {
            let name = [expr.clone(), format!("c{at}"), format!("{}", at + 1)];
            let place = groups.iter().position(|group| group == expr).expect("it came from there");
            by[place] = name.choose(rng).expect("there are three").clone();
        }
    }
    let alias = if rng.random_bool(0.2) { " AS e" } else { "" };
    let mut sql = format!("SELECT {} FROM {}{alias}", list.join(", "), words.stream);
    if rng.random_bool(0.5) {
        sql.push_str(&format!(" WHERE {}", condition(rng, words)));
    }
    if !by.is_empty() {
        sql.push_str(&format!(" GROUP BY {}", by.join(", ")));
    }
    let exact = [format!("count(*) > {}", rng.random_range(0..4)), format!("sum({}) > 3", one(rng, words.numbers))];
    if rng.random_bool(0.3) {
        sql.push_str(&format!(" HAVING {}", exact.choose(rng).expect("there are two")));
    }
    sql
}
