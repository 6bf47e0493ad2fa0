//! Random views over `flights`, and coarser questions over them.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

/// Expressions over aggregates; `{f}` is where a call is filtered, and `{g}` where one is that filters by `ok` itself.
const AGGREGATES: [&str; 28] = [
    "count(*){f}",
    "count(delay){f}",
    "count(*){g}",
    "count(origin, n){f}",
    "sum(n){f}",
    "sum(n){g}",
    "sum(delay){f}",
    "avg(n){f}",
    "avg(delay){g}",
    "min(delay){f}",
    "max(n){f}",
    "max(ok){f}",
    "min(at){f}",
    "max(seen){f}",
    "min(origin){f}",
    "max(upper(payload)){f}",
    "stddev(delay){f}",
    "var_pop(n){f}",
    "first_value(n ORDER BY at){f}",
    "last_value(origin ORDER BY at){f}",
    "count(DISTINCT origin){f}",
    "count(DISTINCT seen){g}",
    "CAST(sum(n){f} AS DOUBLE) / nullif(count(*){f}, 0)",
    "CASE WHEN count(*){f} > 3 THEN max(delay){f} END",
    "coalesce(sum(n){f}, 7) * 2",
    "coalesce(max(at){f}, TIMESTAMP '2001-01-01T00:00:00Z')",
    "max(n){f} - min(n){f}",
    "CAST(coalesce(sum(n){g}, 0) AS VARCHAR)",
];

const DIMENSIONS: [&str; 6] =
    ["carrier", "ok", "n % 3", "upper(origin)", "coalesce(carrier, 'none') || '!'", "delay > 0"];

/// A fine bucket with coarser ones over it.
const BUCKETS: [(&str, [&str; 3]); 3] = [
    (
        "date_trunc('minute', at)",
        ["date_trunc('hour', {b})", "date_bin(INTERVAL '7 minutes', {b})", "date_trunc('day', {b})"],
    ),
    ("date_bin(INTERVAL '1 second', at)", ["date_trunc('minute', {b})", "date_trunc('month', {b})", "{b}"]),
    ("date_trunc('day', at)", ["date_trunc('week', {b})", "extract(dow FROM {b})", "date_trunc('year', {b})"]),
];

/// A view and a question over it, and the same over the events.
pub(crate) struct Case {
    pub(crate) view: String,
    pub(crate) combined: String,
    pub(crate) over_events: String,
}

/// A random one over `flights`; `name` is that of the view.
pub(crate) fn case(rng: &mut StdRng, name: &str) -> Case {
    let mut dimensions = DIMENSIONS.to_vec();
    dimensions.shuffle(rng);
    dimensions.truncate(rng.random_range(0..4));
    let mut aggregates = AGGREGATES.to_vec();
    aggregates.shuffle(rng);
    aggregates.truncate(rng.random_range(1..9));
    let bucket = BUCKETS.choose(rng).unwrap();
    let own = |call: &str| call.replace("{f}", "").replace("{g}", " FILTER (WHERE ok)");
    let where_events = rng.random_bool(0.3).then_some("n > -15");
    // The view: d0, d1 …, b, a0, a1 …
    let mut list: Vec<String> = dimensions.iter().enumerate().map(|(at, of)| format!("{of} AS d{at}")).collect();
    list.push(format!("{} AS b", bucket.0));
    list.extend(aggregates.iter().enumerate().map(|(at, of)| format!("{} AS a{at}", own(of))));
    let by: Vec<String> = (1..=dimensions.len() + 1).map(|place| place.to_string()).collect();
    let filter = where_events.map(|filter| format!(" WHERE {filter}")).unwrap_or_default();
    let view = format!("SELECT {} FROM flights{filter} GROUP BY {}", list.join(", "), by.join(", "));
    // The question, by names of the view's columns, and by what these are.
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (at, of) in dimensions.iter().enumerate().filter(|_| rng.random_bool(0.5)) {
        pairs.push((format!("d{at}"), (*of).to_owned()));
    }
    if rng.random_bool(0.7) {
        let coarse = bucket.1.choose(rng).unwrap();
        pairs.push((coarse.replace("{b}", "b"), coarse.replace("{b}", bucket.0)));
    }
    let conditions = [(
        "b > TIMESTAMP '1970-01-01T00:10:00Z'".to_owned(),
        format!("{} > TIMESTAMP '1970-01-01T00:10:00Z'", bucket.0),
    )];
    let of_dimension = dimensions.first().map(|of| ("d0 IS NOT NULL".to_owned(), format!("{of} IS NOT NULL")));
    let conditions: Vec<(String, String)> = conditions.into_iter().chain(of_dimension).collect();
    let condition = conditions.choose(rng).unwrap().clone();
    let groups = pairs.len();
    for (at, of) in aggregates.iter().enumerate() {
        if rng.random_bool(0.3) {
            let (view, events) = &condition;
            let filtered = of.replace("{f}", &format!(" FILTER (WHERE {events})"));
            let filtered = filtered.replace("{g}", &format!(" FILTER (WHERE ok AND ({events}))"));
            pairs.push((format!("combine(a{at}) FILTER (WHERE {view})"), filtered));
        }
        pairs.push((format!("combine(a{at})"), own(of)));
    }
    let list = |of: fn(&(String, String)) -> &String| -> String {
        let list = pairs.iter().enumerate().map(|(at, pair)| format!("{} AS c{at}", of(pair)));
        list.collect::<Vec<_>>().join(", ")
    };
    let by: Vec<String> = (1..=groups).map(|place| place.to_string()).collect();
    let by = if by.is_empty() { String::new() } else { format!(" GROUP BY {}", by.join(", ")) };
    let where_view = rng.random_bool(0.4).then(|| condition.clone());
    let view_filter = where_view.as_ref().map(|(view, _)| format!(" WHERE {view}")).unwrap_or_default();
    let both: Vec<String> =
        where_events.map(str::to_owned).into_iter().chain(where_view.map(|(_, events)| events)).collect();
    let events_filter = if both.is_empty() { String::new() } else { format!(" WHERE {}", both.join(" AND ")) };
    let having = aggregates.iter().position(|of| *of == "count(*){f}").filter(|_| rng.random_bool(0.7));
    let (view_having, events_having) =
        having.map(|at| (format!(" HAVING combine(a{at}) > 2"), " HAVING count(*) > 2".to_owned())).unwrap_or_default();
    let tables = [name.to_owned(), format!("{name} AS x"), format!("(SELECT * FROM {name}) AS x")];
    let from = tables.choose(rng).unwrap();
    Case {
        view,
        combined: format!("SELECT {} FROM {from}{view_filter}{by}{view_having}", list(|pair| &pair.0)),
        over_events: format!("SELECT {} FROM flights{events_filter}{by}{events_having}", list(|pair| &pair.1)),
    }
}
