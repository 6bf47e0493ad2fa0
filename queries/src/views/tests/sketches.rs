//! Aggregates that are answered by sketches.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::prelude::SessionContext;
use streamgauge_schemas::{EventBatch, TableBatch, View, ViewDefinition, ViewId};

use super::stream::{Cell, FLIGHTS, catalog, maintained};
use crate::views::{GivenOptions, Planned, ViewError, ViewPlanner, plan_view, program_of};

fn planned(select: &str) -> Result<Planned, ViewError> {
    plan_view("v", select, &GivenOptions::default(), &catalog(), ViewPlanner::new().state())
}

fn refused(select: &str) -> String {
    planned(select).err().unwrap_or_else(|| panic!("{select} was planned")).to_string()
}

/// A flight a second: as many origins as flights, three carriers, delays from 1 up, and `n` from 0 up.
fn flights(count: i64) -> Vec<EventBatch> {
    let times = TimestampMicrosecondArray::from_iter_values((0..count).map(|at| at * 1_000_000)).with_timezone("UTC");
    let none = TimestampMicrosecondArray::from(vec![None; count as usize]).with_timezone("UTC");
    let carrier = |at: i64| if at % 2 == 0 { "AA" } else { ["BB", "CC"][usize::from(at % 8 == 1)] };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times),
        Arc::new((0..count).map(|at| Some(carrier(at))).collect::<StringArray>()),
        Arc::new((0..count).map(|at| Some(format!("o{at}"))).collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(0..count)),
        Arc::new(Float64Array::from_iter_values((1..=count).map(|at| at as f64))),
        Arc::new((0..count).map(|at| Some(at < count / 10)).collect::<BooleanArray>()),
        Arc::new(none),
        Arc::new(StringArray::from(vec![None::<&str>; count as usize])),
    ];
    let rows = RecordBatch::try_new(catalog().by_id(FLIGHTS).unwrap().definition.schema(), columns).unwrap();
    let half = rows.num_rows() / 2;
    let pieces = [rows.slice(0, half), rows.slice(half, rows.num_rows() - half)];
    pieces.map(|rows| EventBatch::Table(Arc::new(TableBatch { stream: FLIGHTS, rows }))).into()
}

/// The only row of a view over some flights, by the names of its columns; the view as a restart makes it again.
fn only_row(select: &str, count: i64) -> (HashMap<String, Cell>, ViewDefinition) {
    let definition = planned(select).unwrap_or_else(|error| panic!("{select}: {error}")).definition;
    let stored = serde_json::to_string(&definition).unwrap();
    let view = View { id: ViewId(7_000), definition: serde_json::from_str(&stored).unwrap() };
    let planner = ViewPlanner::new();
    let again = program_of(&view, &catalog(), planner.state());
    let (program, reading) = again.unwrap_or_else(|error| panic!("{select}: {error}"));
    let ((columns, mut rows), failed) = maintained(&view.definition, &*program, &reading, &flights(count));
    assert_eq!((failed, rows.len()), (0, 1), "{select}");
    let columns = columns.into_iter().map(|(name, _)| name);
    (columns.zip(rows.remove(0)).collect(), view.definition)
}

fn float(row: &HashMap<String, Cell>, name: &str) -> f64 {
    match &row[name] {
        Cell::Float(value) => *value,
        Cell::Other(text) => text.parse().unwrap_or_else(|_| panic!("{name} is {text}")),
    }
}

fn text<'a>(row: &'a HashMap<String, Cell>, name: &str) -> &'a str {
    match &row[name] {
        Cell::Other(text) => text,
        Cell::Float(value) => panic!("{name} is {value}"),
    }
}

#[test]
fn a_number_of_distinct_values_comes_with_whether_it_is_exact() {
    let select = "SELECT count(DISTINCT carrier) AS carriers, count(*) AS flights, count(DISTINCT origin) AS origins, \
                  approx_distinct(origin) AS about, count(DISTINCT n) FILTER (WHERE ok) AS early, \
                  count(DISTINCT origin) + 1 AS more FROM flights";
    let (row, definition) = only_row(select, 4_000);
    let names: Vec<&str> = definition.columns.iter().map(|column| column.name.as_str()).collect();
    let listed = ["carriers", "flights", "origins", "about", "early", "more"];
    assert_eq!(names, [&listed[..], &["carriers_is_exact", "origins_is_exact", "early_is_exact"]].concat());
    assert_eq!(["carriers", "flights", "early"].map(|name| text(&row, name)), ["3", "4000", "400"]);
    let exact = ["carriers_is_exact", "origins_is_exact", "early_is_exact"].map(|name| text(&row, name));
    assert_eq!(exact, ["true", "false", "true"]);
    assert!((float(&row, "origins") - 4_000.0).abs() < 160.0, "{row:?}"); // five standard errors
    assert_eq!(float(&row, "about"), float(&row, "origins"));
    assert_eq!(float(&row, "more"), float(&row, "origins") + 1.0);
    assert_eq!(definition.folds.len(), 4, "origin is kept once: {:?}", definition.folds);
}

#[test]
fn quantiles_of_an_argument_share_a_sketch() {
    let select = "SELECT approx_percentile_cont(delay, 0.99) AS p99, approx_percentile_cont(0.05) WITHIN GROUP (ORDER BY delay) AS p5, \
                  approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY delay DESC) AS also5, approx_median(delay) AS half, \
                  approx_percentile_cont(delay, 1) FILTER (WHERE ok) AS early, approx_percentile_cont(n, 0.123456789012345) AS n \
                  FROM flights";
    let (row, definition) = only_row(select, 1_001);
    for (name, wanted) in
        [("p99", 991.0), ("p5", 51.0), ("also5", 51.0), ("half", 501.0), ("early", 100.0), ("n", 123.0)]
    {
        let found = float(&row, name);
        assert!((found - wanted).abs() <= 0.01 * wanted, "{name}: {found}, not {wanted}");
    }
    assert_eq!(definition.folds.len(), 3, "delay, delay where ok, and n: {:?}", definition.folds);
}

#[test]
fn the_most_frequent_texts_come_with_their_counts() {
    let select =
        "SELECT approx_top_k(carrier, 2) AS top, approx_top_k(carrier, 3) FILTER (WHERE NOT ok) AS late FROM flights";
    let (row, _) = only_row(select, 80);
    assert_eq!(text(&row, "top"), r#"[{"value":"AA","count":40,"error":0},{"value":"BB","count":30,"error":0}]"#);
    let late = r#"[{"value":"AA","count":36,"error":0},{"value":"BB","count":27,"error":0},{"value":"CC","count":9,"error":0}]"#;
    assert_eq!(text(&row, "late"), late);
}

#[test]
fn coarser_views_are_fed_with_sketches() {
    let select = |bucket: &str, k: u32| {
        format!(
            "SELECT date_bin(INTERVAL '{bucket}', at) AS bucket, count(DISTINCT origin) AS origins, \
             approx_percentile_cont(delay, 0.{k}) AS p, approx_top_k(carrier, {k}) AS top FROM flights GROUP BY 1"
        )
    };
    let definition = |bucket, k| planned(&select(bucket, k)).unwrap().definition;
    let finer = definition("1 second", 5);
    assert!(definition("1 minute", 5).is_fed_by(&finer));
    assert!(!definition("1 minute", 6).is_fed_by(&finer), "another k");
}

#[test]
fn what_sketches_do_not_answer_is_refused_with_what_does() {
    for (call, reason) in [
        ("median(delay)", "approx_median is within 1 %"),
        ("percentile_cont(delay, 0.5)", "approx_percentile_cont is within 1 %"),
        ("approx_percentile_cont_with_weight(delay, n, 0.5)", "weights are not kept"),
        ("approx_percentile_cont(delay, 0.5, 200)", "leave out the number of centroids"),
        ("approx_percentile_cont(delay, 1.5)", "a number from 0 to 1"),
        ("approx_percentile_cont(delay, n)", "a number from 0 to 1"),
        ("approx_top_k(carrier, 0)", "a number k from 1 to 1000"),
        ("approx_top_k(carrier, n)", "a number k from 1 to 1000"),
        ("approx_top_k(n, 3)", "CAST its argument to VARCHAR"),
        ("sum(DISTINCT n)", "distinct values are counted"),
    ] {
        let error = refused(&format!("SELECT {call} AS x FROM flights"));
        assert!(error.contains("cannot be maintained") && error.contains(reason), "{call}: {error}");
    }
    let error = refused("SELECT count(DISTINCT n) AS a, count(*) AS a_is_exact FROM flights");
    assert!(error.contains("a_is_exact") && error.contains("give one another with AS"), "{error}");
}

#[tokio::test]
async fn top_k_is_not_run() {
    let context = SessionContext::new_with_state(ViewPlanner::new().state().clone());
    context.state_ref().write().register_catalog_list(SessionContext::new().state().catalog_list().clone());
    let answer = match context.sql("SELECT approx_top_k(x, 2) FROM (VALUES ('a')) AS t(x)").await {
        Ok(frame) => frame.collect().await,
        Err(error) => Err(error),
    };
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("maintained in views only"), "{error}");
}
