//! States against a plain recomputation: however events are cut into states, and however these are merged.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use proptest::prelude::*;

use super::accumulator::Events;
use super::fold::TOP_TEXT_MAX;
use super::*;
use crate::ValueType;

/// An event: its group, time, and the arguments, each of which may be null.
type Event = (u32, i64, Option<i32>, Option<i64>, Option<String>);

const QUANTILES: [f64; 4] = [0.0, 0.3, 0.5, 1.0];

fn folds() -> Vec<Fold> {
    let fold = Fold::of;
    let mut folds = vec![Fold::ROWS];
    for (argument, kind) in [(0, ValueType::F64), (1, ValueType::I64), (2, ValueType::Text)] {
        for function in [Function::Count, Function::Min, Function::Max, Function::First, Function::Last] {
            folds.push(fold(function, argument, kind));
        }
    }
    folds.push(fold(Function::Sum, 0, ValueType::F64));
    folds.push(fold(Function::Sum, 1, ValueType::I64));
    folds.push(fold(Function::Moments, 0, ValueType::F64));
    for (argument, kind) in [(0, ValueType::F64), (1, ValueType::I64), (2, ValueType::Text)] {
        folds.push(fold(Function::Distinct, argument, kind));
    }
    folds.push(fold(Function::Quantiles, 0, ValueType::F64));
    folds.push(fold(Function::Top { k: 3 }, 2, ValueType::Text));
    folds
}

fn outputs() -> Vec<Output> {
    let output = |finish, kind| Output { name: String::new(), finish, kind, nullable: true };
    let mut outputs = vec![output(Finish::Count(0), ValueType::I64)];
    for (argument, kind) in [ValueType::F64, ValueType::I64, ValueType::Text].into_iter().enumerate() {
        let count = 1 + 5 * argument;
        outputs.push(output(Finish::Count(count), ValueType::I64));
        for fold in [count + 1, count + 2] {
            let value = Finish::Value { fold, count };
            outputs.push(output(if kind == ValueType::Text { Finish::Held(fold) } else { value }, kind));
        }
        outputs.push(output(Finish::Held(count + 3), kind));
        outputs.push(output(Finish::Held(count + 4), kind));
    }
    outputs.push(output(Finish::Value { fold: 16, count: 1 }, ValueType::F64));
    outputs.push(output(Finish::Value { fold: 17, count: 6 }, ValueType::I64));
    outputs.push(output(Finish::Mean { sum: 17, count: 6 }, ValueType::F64));
    for (sample, root) in [(false, false), (true, true)] {
        outputs.push(output(Finish::Spread { fold: 18, sample, root }, ValueType::F64));
    }
    for fold in [19, 20, 21] {
        outputs.push(output(Finish::Distinct(fold), ValueType::I64));
        outputs.push(output(Finish::DistinctIsExact(fold), ValueType::Bool));
    }
    outputs.extend(QUANTILES.map(|q| output(Finish::Quantile { fold: 22, q }, ValueType::F64)));
    outputs.push(output(Finish::Top { fold: 23, k: 3 }, ValueType::Text));
    outputs
}

fn add(accumulator: &mut Accumulator, events: &[Event], groups: usize) {
    let of = |event: &Event| event.2.map(|value| f64::from(value) / 4.0);
    let arguments: [ArrayRef; 3] = [
        Arc::new(events.iter().map(of).collect::<Float64Array>()),
        Arc::new(events.iter().map(|event| event.3).collect::<Int64Array>()),
        Arc::new(events.iter().map(|event| event.4.clone()).collect::<StringArray>()),
    ];
    let indexes: Vec<u32> = events.iter().map(|event| event.0).collect();
    let times: Vec<i64> = events.iter().map(|event| event.1).collect();
    accumulator.add(groups, &Events { groups: &indexes, times: &times, arguments: &arguments });
}

/// Each result of a group, computed from its events alone, as text.
fn plain(events: &[&Event]) -> Vec<String> {
    fn text<T: std::fmt::Debug>(value: Option<T>) -> String {
        value.map_or("null".into(), |value| format!("{value:?}"))
    }
    fn five<T: PartialOrd + Clone + std::fmt::Debug>(
        events: &[&Event],
        of: impl Fn(&Event) -> Option<T>,
    ) -> Vec<String> {
        let values: Vec<T> = events.iter().filter_map(|event| of(event)).collect();
        let least = values.iter().cloned().reduce(|a, b| if b < a { b } else { a });
        let most = values.iter().cloned().reduce(|a, b| if b > a { b } else { a });
        let first = events.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a });
        let last = events.iter().copied().reduce(|a, b| if b.1 >= a.1 { b } else { a });
        let count = values.len().to_string();
        vec![count, text(least), text(most), text(first.and_then(&of)), text(last.and_then(&of))]
    }
    let floats: Vec<f64> = events.iter().filter_map(|event| event.2).map(|value| f64::from(value) / 4.0).collect();
    let wholes: Vec<i64> = events.iter().filter_map(|event| event.3).collect();
    let mut results = vec![events.len().to_string()];
    results.extend(five(events, |event| event.2.map(|value| f64::from(value) / 4.0)));
    results.extend(five(events, |event| event.3));
    results.extend(five(events, |event| event.4.clone()));
    results.push(text((!floats.is_empty()).then(|| floats.iter().sum::<f64>())));
    let sum = wholes.iter().fold(0i64, |sum, value| sum.wrapping_add(*value));
    results.push(text((!wholes.is_empty()).then_some(sum)));
    results.push(text((!wholes.is_empty()).then(|| sum as f64 / wholes.len() as f64)));
    let mean = floats.iter().sum::<f64>() / floats.len() as f64;
    let m2: f64 = floats.iter().map(|value| (value - mean).powi(2)).sum();
    results.push(text((!floats.is_empty()).then(|| m2 / floats.len() as f64)));
    results.push(text((floats.len() > 1).then(|| (m2 / (floats.len() - 1) as f64).sqrt())));
    let mut sorted = floats;
    sorted.sort_by(f64::total_cmp);
    let texts: Vec<&str> = events.iter().filter_map(|event| event.4.as_deref()).collect();
    let distinct_floats: HashSet<u64> = sorted.iter().map(|value| value.to_bits()).collect();
    let distinct_wholes: HashSet<i64> = wholes.into_iter().collect();
    let distinct_texts: HashSet<&str> = texts.iter().copied().collect();
    for count in [distinct_floats.len(), distinct_wholes.len(), distinct_texts.len()] {
        results.extend([count.to_string(), "true".to_owned()]);
    }
    let rank = |q: f64| (q * (sorted.len() as f64 - 1.0)).floor() as usize;
    results.extend(QUANTILES.map(|q| text(sorted.get(rank(q)))));
    let mut top: Vec<(usize, &str)> =
        distinct_texts.into_iter().map(|text| (texts.iter().filter(|other| **other == text).count(), text)).collect();
    top.sort_by_key(|(count, text)| (Reverse(*count), *text));
    let entry = |(count, text): &(usize, &str)| format!("{{\"value\":\"{text}\",\"count\":{count},\"error\":0}}");
    let top: Vec<String> = top.iter().take(3).map(entry).collect();
    results.push(format!("{:?}", format!("[{}]", top.join(","))));
    results
}

/// The results of states, as text; floats that are not exact are compared apart.
fn finished(layout: &Layout, states: &[State]) -> Vec<Vec<String>> {
    let mut rows = vec![Vec::new(); states.len()];
    for output in outputs() {
        let column = layout.finish(&output, states.iter());
        assert_eq!(*column.data_type(), output.kind.arrow());
        for (row, results) in rows.iter_mut().enumerate() {
            results.push(match output.kind {
                _ if column.is_null(row) => "null".to_owned(),
                ValueType::F64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
                ValueType::I64 => column.as_primitive::<Int64Type>().value(row).to_string(),
                ValueType::Bool => column.as_boolean().value(row).to_string(),
                _ => format!("{:?}", column.as_string::<i32>().value(row)),
            });
        }
    }
    rows
}

fn assert_close(found: &[String], wanted: &[String]) {
    assert_eq!(found.len(), wanted.len());
    for (place, ((found, wanted), output)) in found.iter().zip(wanted).zip(outputs()).enumerate() {
        let close = match (found.parse::<f64>(), wanted.parse::<f64>()) {
            (Ok(found), Ok(wanted)) => {
                let by = match output.finish {
                    Finish::Quantile { .. } => 0.01 * wanted.abs(),
                    _ => 1e-9 * wanted.abs().max(1.0),
                };
                (found - wanted).abs() <= by
            }
            _ => found == wanted,
        };
        assert!(close, "result {place}: {found}, not {wanted}");
    }
}

fn event() -> impl Strategy<Value = Event> {
    let text = prop::option::of(prop::sample::select(vec!["", "a", "b", "ä"]).prop_map(str::to_owned));
    let whole = prop::option::of(prop_oneof![Just(i64::MAX), Just(i64::MIN), -9i64..9]);
    (0u32..3, -5i64..5, prop::option::of(-40i32..40), whole, text)
}

proptest! {
    #[test]
    fn states_equal_a_recomputation_however_they_are_cut_and_kept(
        cuts in prop::collection::vec(prop::collection::vec(event(), 0..9), 1..6)
    ) {
        let layout = Arc::new(Layout::new(&folds()).unwrap());
        let mut merged = vec![State::empty(); 3];
        for events in &cuts {
            let mut accumulator = Accumulator::new(layout.clone());
            // In two calls, as a batch may come in pieces.
            let (early, late) = events.split_at(events.len() / 2);
            add(&mut accumulator, early, 2 + usize::from(early.iter().any(|event| event.0 == 2)));
            add(&mut accumulator, late, 3);
            let states: Vec<State> = accumulator.take().iter().collect();
            prop_assert_eq!(&layout.read(&layout.write(states.iter())).unwrap(), &states, "through columns");
            for (group, state) in states.iter().enumerate() {
                if events.iter().any(|event| event.0 as usize == group) {
                    layout.merge(&mut merged[group], state);
                }
            }
        }
        let all: Vec<&Event> = cuts.iter().flatten().collect();
        for (group, state) in merged.iter().enumerate() {
            let mine: Vec<&Event> = all.iter().copied().filter(|event| event.0 as usize == group).collect();
            if !mine.is_empty() {
                assert_close(&finished(&layout, std::slice::from_ref(state))[0], &plain(&mine));
            }
        }
    }
}

proptest! {
    #[test]
    fn some_of_the_folds_say_what_they_say_among_all(
        events in prop::collection::vec(event(), 1..20),
        chosen in prop::collection::btree_set(0..outputs().len(), 1..6),
    ) {
        let whole = Arc::new(Layout::new(&folds()).unwrap());
        let mut accumulator = Accumulator::new(whole.clone());
        add(&mut accumulator, &events, 3);
        let states: Vec<State> = accumulator.take().iter().collect();
        let outputs: Vec<Output> = chosen.into_iter().map(|output| outputs().swap_remove(output)).collect();
        let mut folds: Vec<usize> = outputs.iter().flat_map(|output| output.finish.folds()).collect();
        folds.sort_unstable();
        folds.dedup();
        let few = whole.of(&folds);
        let picked: Vec<State> = states.iter().map(|state| whole.pick(&folds, state)).collect();
        for output in &outputs {
            let found = few.finish(&output.among(&folds), picked.iter());
            prop_assert_eq!(&found, &whole.finish(output, states.iter()), "{:?}", output);
        }
        let columns = whole.write_some(|column| folds.contains(&column.fold), states.iter());
        prop_assert_eq!(&few.write(picked.iter()), &columns);
        prop_assert_eq!(&few.read(&columns).unwrap(), &picked);
        for state in &picked {
            let mut merged = few.blank();
            few.merge(&mut merged, state);
            few.merge(&mut merged, &few.blank());
            prop_assert_eq!(&merged, state, "a blank state is neutral");
        }
    }
}

/// The folds of a rollup merge in one step, and by another fold beside them one after the other.
#[test]
fn a_summary_merges_as_its_folds_do() {
    let of = |function| Fold::of(function, 0, ValueType::F64);
    let four = vec![Fold::ROWS, of(Function::Sum), of(Function::Min), of(Function::Max)];
    let five: Vec<Fold> = four.iter().cloned().chain([of(Function::Count)]).collect();
    let (summary, general) = (Layout::new(&four).unwrap(), Layout::new(&five).unwrap());
    assert!(summary.is_summary && !general.is_summary);
    let blank = summary.blank().cells().to_vec();
    let of_value = |value: f64| [vec![1], vec![value.to_bits(); 3]].concat();
    let values = [0.0, -0.0, 1.5, -7.25, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN];
    let states: Vec<Vec<u64>> = values.map(of_value).into_iter().chain([blank, vec![u64::MAX; 4]]).collect();
    for one in &states {
        for other in &states {
            let mut merged = one.clone();
            summary.merge_cells(&mut merged, other);
            let mut same = [one.as_slice(), &[0]].concat();
            general.merge_cells(&mut same, &[other.as_slice(), &[0]].concat());
            assert_eq!(merged, same[..4], "{one:x?} and {other:x?}");
        }
    }
}

#[test]
fn a_nan_is_greater_than_all_numbers() {
    let fold = |function| Fold::of(function, 0, ValueType::F64);
    let layout = Arc::new(Layout::new(&[fold(Function::Min), fold(Function::Max)]).unwrap());
    let mut accumulator = Accumulator::new(layout.clone());
    let values: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 1.0, f64::NEG_INFINITY, f64::NAN]));
    accumulator.add(2, &Events { groups: &[0, 0, 0, 1], times: &[], arguments: &[values] });
    let states: Vec<State> = accumulator.take().iter().collect();
    let cells = |state: &State| state.cells.iter().map(|cell| f64::from_bits(*cell)).collect::<Vec<_>>();
    assert_eq!(cells(&states[0])[0], f64::NEG_INFINITY);
    assert!(cells(&states[0])[1].is_nan());
    assert!(cells(&states[1])[0].is_nan());
}

#[test]
fn a_function_that_is_not_kept_of_a_type_is_refused() {
    for (function, kind) in [
        (Function::Sum, ValueType::Text),
        (Function::Moments, ValueType::I64),
        (Function::Min, ValueType::Map),
        (Function::Quantiles, ValueType::I64),
        (Function::Top { k: 3 }, ValueType::Bool),
    ] {
        let error = Layout::new(&[Fold::of(function, 0, kind)]).unwrap_err();
        assert!(error.to_string().contains("cannot be maintained"), "{error}");
    }
}

/// The state of a single fold over one column.
fn folded(function: Function, kind: ValueType, column: ArrayRef) -> (Layout, State) {
    let layout = Layout::new(&[Fold::of(function, 0, kind)]).unwrap();
    let mut accumulator = Accumulator::new(Arc::new(layout.clone()));
    accumulator.add(1, &Events { groups: &vec![0; column.len()], times: &[], arguments: &[column] });
    (layout, accumulator.take().get(0))
}

fn result(layout: &Layout, finish: Finish, kind: ValueType, state: &State) -> ArrayRef {
    layout.finish(&Output { name: String::new(), finish, kind, nullable: true }, std::iter::once(state))
}

#[test]
fn many_distinct_values_are_estimated_and_the_row_says_so() {
    let count =
        |from: i64, to: i64| folded(Function::Distinct, ValueType::I64, Arc::new(Int64Array::from_iter(from..to)));
    let told = |layout: &Layout, state: &State| {
        let distinct = result(layout, Finish::Distinct(0), ValueType::I64, state);
        let exact = result(layout, Finish::DistinctIsExact(0), ValueType::Bool, state);
        (distinct.as_primitive::<Int64Type>().value(0), exact.as_boolean().value(0))
    };
    let (layout, mut few) = count(0, 1_000);
    assert_eq!(told(&layout, &few), (1_000, true));
    let bytes = few.heap_bytes();
    layout.merge(&mut few, &count(500, 20_000).1);
    let (estimate, exact) = told(&layout, &few);
    assert!(!exact && (estimate - 20_000).abs() < 600, "{estimate}, {exact}"); // 3.7 standard errors
    assert!(few.heap_bytes() > bytes && few.heap_bytes() < 20_000, "{} bytes", few.heap_bytes());
    assert_eq!(layout.read(&layout.write([&few].into_iter())).unwrap(), [few]);
}

#[test]
fn a_distinct_value_is_one_however_it_is_written() {
    let floats: ArrayRef =
        Arc::new(Float64Array::from(vec![Some(0.0), Some(-0.0), Some(f64::NAN), Some(-f64::NAN), None]));
    let (layout, state) = folded(Function::Distinct, ValueType::F64, floats);
    assert_eq!(result(&layout, Finish::Distinct(0), ValueType::I64, &state).as_primitive::<Int64Type>().value(0), 2);
}

#[test]
fn quantiles_leave_nan_and_null_out() {
    let q = |values: Vec<Option<f64>>| {
        let (layout, state) = folded(Function::Quantiles, ValueType::F64, Arc::new(Float64Array::from(values)));
        let column = result(&layout, Finish::Quantile { fold: 0, q: 1.0 }, ValueType::F64, &state);
        column.is_valid(0).then(|| column.as_primitive::<Float64Type>().value(0))
    };
    assert_eq!(q(vec![None, Some(f64::NAN)]), None);
    let most = q(vec![Some(f64::NAN), Some(8.0), None, Some(2.0)]).unwrap();
    assert!((most - 8.0).abs() <= 0.08, "{most}");
}

#[test]
fn the_most_frequent_texts_are_an_array_in_json() {
    let texts = vec![Some("b"), Some("a\"\n"), None, Some("b"), Some("a\"\n"), Some("c")];
    let (layout, state) = folded(Function::Top { k: 2 }, ValueType::Text, Arc::new(StringArray::from(texts)));
    let top = result(&layout, Finish::Top { fold: 0, k: 2 }, ValueType::Text, &state);
    let expected = r#"[{"value":"a\"\n","count":2,"error":0},{"value":"b","count":2,"error":0}]"#;
    assert_eq!(top.as_string::<i32>().value(0), expected);
    let (layout, none) =
        folded(Function::Top { k: 2 }, ValueType::Text, Arc::new(StringArray::from(vec![None::<&str>])));
    let top = result(&layout, Finish::Top { fold: 0, k: 2 }, ValueType::Text, &none);
    assert_eq!(top.as_string::<i32>().value(0), "[]");
}

#[test]
fn a_long_text_counts_by_its_begin() {
    let long = |end: &str| format!("{}ä{end}", "x".repeat(TOP_TEXT_MAX - 1)); // the ä would go beyond
    let texts = vec![long("1"), long("2"), "x".repeat(TOP_TEXT_MAX - 1)];
    let (layout, state) = folded(Function::Top { k: 1 }, ValueType::Text, Arc::new(StringArray::from(texts)));
    let top = result(&layout, Finish::Top { fold: 0, k: 1 }, ValueType::Text, &state);
    let expected = format!(r#"[{{"value":"{}","count":3,"error":0}}]"#, "x".repeat(TOP_TEXT_MAX - 1));
    assert_eq!(top.as_string::<i32>().value(0), expected);
}

#[test]
fn bytes_that_are_no_sketch_are_refused() {
    for (function, kind) in [
        (Function::Distinct, ValueType::I64),
        (Function::Quantiles, ValueType::F64),
        (Function::Top { k: 3 }, ValueType::Text),
    ] {
        let layout = Layout::new(&[Fold::of(function, 0, kind)]).unwrap();
        let damaged: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"\xff"]));
        assert!(layout.read(&[damaged]).is_err(), "{function:?}");
    }
}
