//! The aggregate itself: however rows come to it, in steps, with filters and nulls, it says what one merging of all says.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, StringArray, new_null_array};
use arrow::compute::concat;
use datafusion::logical_expr::{Accumulator as _, EmitTo, GroupsAccumulator};
use streamgauge_schemas::state::Accumulator;
use streamgauge_schemas::state::accumulator::Events;
use streamgauge_schemas::stream::Catalog;
use streamgauge_schemas::{Epoch, State, View, ViewId};

use super::merge::{Groups, Merged, Single};
use crate::views::{GivenOptions, ViewPlanner, plan_view};

const SELECT: &str = "SELECT name, count(*) AS n, min(value) + 1 AS least, approx_median(value) AS half, \
                      count(DISTINCT value) AS values, max(name) AS latest, approx_top_k(name, 2) AS top \
                      FROM metrics GROUP BY name";

fn merged() -> Arc<Merged> {
    let catalog = Catalog::new(Epoch::ZERO, Vec::new(), Vec::new());
    let planner = ViewPlanner::new();
    let planned = plan_view("v", SELECT, &GivenOptions::default(), &catalog, planner.state()).unwrap();
    let columns = planned.reading.results.iter().enumerate().filter(|(_, result)| result.is_some());
    let columns: Vec<usize> = columns.map(|(column, _)| column).collect();
    assert_eq!(columns, [1, 2, 3, 4, 5, 6, 7], "all but the dimension; one says whether the values are exact");
    let view = View { id: ViewId(7_000), definition: planned.definition };
    Arc::new(Merged::new(&view, &planned.reading.results, columns.into_iter()).unwrap())
}

/// The states of so many rows as columns, each of a few events.
fn rows(merged: &Merged, count: u32) -> Vec<ArrayRef> {
    let mut accumulator = Accumulator::new(Arc::new(merged.layout.clone()));
    let events = 0..count * 3;
    let groups: Vec<u32> = events.clone().map(|at| at / 3).collect();
    let value: Float64Array = events.clone().map(|at| Some(f64::from(at * 7 % 50))).collect();
    let name: StringArray = events.map(|at| Some(["a", "b", "c", "dd"][at as usize * 5 % 7 % 4])).collect();
    let arguments: [ArrayRef; 2] = [Arc::new(value), Arc::new(name)]; // in the order in which the view meets them
    accumulator.add(count as usize, &Events { groups: &groups, times: &[], arguments: &arguments });
    merged.layout.write(accumulator.take().iter().collect::<Vec<_>>().iter())
}

fn in_one_step(
    merged: &Arc<Merged>,
    rows: &[ArrayRef],
    groups: &[usize],
    filter: Option<&BooleanArray>,
    count: usize,
) -> ArrayRef {
    let mut accumulator = Groups::new(merged.clone());
    accumulator.update_batch(rows, groups, filter, count).unwrap();
    accumulator.evaluate(EmitTo::All).unwrap()
}

#[test]
fn rows_merge_to_the_same_in_one_step_and_in_several() {
    let merged = merged();
    let rows = rows(&merged, 3_000); // more than are decoded at once
    let groups: Vec<usize> = (0..3_000).map(|row| row * row % 11).collect();
    let filter: BooleanArray = (0..3_000).map(|row| [Some(true), Some(false), None][row % 3]).collect();
    for filter in [None, Some(&filter)] {
        let wanted = in_one_step(&merged, &rows, &groups, filter, 12);
        // Aggregated partially, as states, a few groups at a time; and passed on unaggregated.
        let mut partial = Groups::new(merged.clone());
        partial.update_batch(&rows, &groups, filter, 12).unwrap();
        let first = partial.state(EmitTo::First(5)).unwrap();
        let rest = partial.state(EmitTo::All).unwrap();
        let mut last = Groups::new(merged.clone());
        last.merge_batch(&rest, &[5, 6, 7, 8, 9, 10, 11], 12).unwrap();
        last.merge_batch(&first, &[0, 1, 2, 3, 4], 12).unwrap();
        assert_eq!(&last.evaluate(EmitTo::All).unwrap(), &wanted);
        let mut last = Groups::new(merged.clone());
        let states = last.convert_to_state(&rows, filter).unwrap();
        last.merge_batch(&states, &groups, 12).unwrap();
        assert_eq!(&last.evaluate(EmitTo::All).unwrap(), &wanted);
    }
}

#[test]
fn rows_of_an_outer_join_have_no_state() {
    let merged = merged();
    let there = rows(&merged, 4);
    let with_null = |column: &ArrayRef| concat(&[column, &new_null_array(column.data_type(), 2)]).unwrap();
    let joined: Vec<ArrayRef> = there.iter().map(with_null).collect();
    let wanted = in_one_step(&merged, &there, &[0, 1, 0, 1], None, 3);
    assert_eq!(&in_one_step(&merged, &joined, &[0, 1, 0, 1, 2, 0], None, 3), &wanted);
    let none = in_one_step(&merged, &rows(&merged, 0), &[], None, 1);
    assert_eq!(&wanted.slice(2, 1), &none, "a group of no rows is that of no events");
}

#[test]
fn all_rows_as_one_group_have_one_state() {
    let merged = merged();
    let rows = rows(&merged, 50);
    let wanted = in_one_step(&merged, &rows, &[0; 50], None, 1);
    let mut single = Single::new(merged.clone());
    single.update_batch(&rows.iter().map(|column| column.slice(0, 20)).collect::<Vec<_>>()).unwrap();
    let state: Vec<ArrayRef> = single.state().unwrap().iter().map(|value| value.to_array().unwrap()).collect();
    let mut last = Single::new(merged.clone());
    last.update_batch(&rows.iter().map(|column| column.slice(20, 30)).collect::<Vec<_>>()).unwrap();
    last.merge_batch(&state).unwrap();
    assert_eq!(&last.evaluate().unwrap().to_array().unwrap(), &wanted);
}

#[test]
fn the_size_is_that_of_the_states() {
    let merged = merged();
    let rows = rows(&merged, 500);
    let states = merged.layout.read(&rows).unwrap();
    let held = |states: &[State]| states.iter().map(|state| size_of::<State>() + state.heap_bytes()).sum::<usize>();
    let mut accumulator = Groups::new(merged);
    let empty = accumulator.size();
    accumulator.update_batch(&rows, &(0..500).collect::<Vec<_>>(), None, 500).unwrap();
    assert!(
        accumulator.size() - empty >= held(&states),
        "{} bytes are more than {}",
        held(&states),
        accumulator.size()
    );
    accumulator.evaluate(EmitTo::First(499)).unwrap();
    accumulator.evaluate(EmitTo::All).unwrap();
    assert_eq!(accumulator.size(), empty, "what was given away is not held");
}
