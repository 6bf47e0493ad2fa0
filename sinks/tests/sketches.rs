//! The finished view reads, merges and answers sketches as the program does, in every form that they have.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{Float64Type, Int64Type};
use streamgauge_schemas::state::accumulator::Events;
use streamgauge_schemas::state::{Accumulator, Finish, Fold, Function, Output};
use streamgauge_schemas::stream::CatalogChange;
use streamgauge_schemas::value::{append_key, key_id};
use streamgauge_schemas::view::{Argument, Dimension, ViewColumn, ViewOptions};
use streamgauge_schemas::{
    EventTime, GroupKey, Key, Row, Rows, State, StreamId, ValueType, View, ViewDefinition, ViewId,
};
use streamgauge_sinks::catalog;
use streamgauge_sinks::states::write_states;
use support::{database, epoch, run};

const QUANTILES: [f64; 8] = [0.0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0];

/// Distinct values and quantiles of a float, by a number.
fn definition() -> ViewDefinition {
    let mut outputs = vec![("values", Finish::Distinct(1), ValueType::I64)];
    outputs.push(("is_exact", Finish::DistinctIsExact(1), ValueType::Bool));
    let names = ["q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7"];
    outputs.extend(
        names.into_iter().zip(QUANTILES).map(|(name, q)| (name, Finish::Quantile { fold: 2, q }, ValueType::F64)),
    );
    let output = |(name, finish, kind): (&str, _, _)| Output { name: name.into(), finish, kind, nullable: true };
    let outputs: Vec<Output> = outputs.into_iter().map(output).collect();
    let columns = outputs.iter().enumerate().map(|(at, output)| ViewColumn {
        name: output.name.clone(),
        kind: output.kind,
        nullable: true,
        output: Some(at),
    });
    ViewDefinition {
        name: "v".into(),
        stream: StreamId::METRICS,
        select: "SELECT …".into(),
        filter: None,
        dimensions: vec![Dimension { name: "number".into(), expression: "s.number".into(), kind: ValueType::I64 }],
        by_series: false,
        bucket: None,
        arguments: vec![Argument { expression: "s.x".into(), kind: ValueType::F64 }],
        folds: vec![
            Fold::ROWS,
            Fold::of(Function::Distinct, 0, ValueType::F64),
            Fold::of(Function::Quantiles, 0, ValueType::F64),
        ],
        columns: columns.collect(),
        outputs,
        options: ViewOptions::by_bucket(None),
    }
}

fn fold(view: &View, values: &[f64]) -> State {
    let column: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
    let mut accumulator = Accumulator::new(Arc::new(view.layout()));
    accumulator.add(1, &Events { groups: &vec![0; values.len()], times: &[], arguments: &[column] });
    accumulator.take().get(0)
}

/// Numbers that do not follow each other in any way that matters here, from 0 to 1.
fn spread(seed: u64, many: usize) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..many).map(|_| next()).collect()
}

/// Groups as the values of their pieces.
fn cases() -> Vec<Vec<Vec<f64>>> {
    let upto = |from: i32, to: i32| (from..to).map(f64::from).collect::<Vec<f64>>();
    let wide = |seed, many| spread(seed, many).into_iter().map(|x| (x * 1_400.0 - 700.0).exp()).collect::<Vec<f64>>();
    let extremes = vec![
        f64::MIN,
        -1.0,
        -f64::MIN_POSITIVE / 4.0,
        -0.0,
        0.0,
        5e-324,
        1e-300,
        1e300,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    vec![
        vec![vec![f64::NAN]], // no quantile has it, and it is a value
        vec![vec![1.5]],
        vec![extremes.clone(), vec![0.0, 3.0]],
        vec![upto(0, 10), upto(5, 20), upto(-100, 3)],
        vec![upto(0, 1_024)],                                           // as many as are exact
        vec![upto(0, 600), upto(300, 1_024)],                           // the same in two pieces
        vec![upto(0, 600), upto(300, 1_025)],                           // one more, and each piece is exact
        vec![upto(0, 1_025)],                                           // registers one by one
        vec![upto(0, 3_000), upto(2_500, 2_600)],                       // these, and hashes
        vec![spread(1, 40_000), spread(2, 5_000)],                      // registers packed
        vec![spread(3, 40_000), upto(0, 1_500), upto(9, 99), extremes], // every form
        vec![wide(4, 60_000), wide(5, 60_000), wide(6, 60_000).into_iter().map(|x| -x).collect()], // bins collapse
    ]
}

#[test]
fn sketches_in_the_finished_view_are_those_of_the_program() {
    run(async {
        let clickhouse = database("sketches").await;
        let view = Arc::new(View { id: ViewId(epoch(1).0), definition: definition() });
        let change = CatalogChange::CreateView { definition: Box::new(view.definition.clone()), replaces: None };
        catalog::apply_changes(&clickhouse, &[(epoch(1), change)]).await.unwrap();
        let (mut rows, mut keys, mut merged) = (Rows::default(), HashMap::new(), Vec::new());
        for (number, pieces) in (0..).zip(cases()) {
            let mut key = Vec::new();
            let column: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![number]));
            append_key(&mut key, &column, ValueType::I64, 0);
            let id = key_id(&key);
            keys.insert(id, Key::Values(key.into()));
            let mut all = State::empty();
            for (piece, values) in pieces.iter().enumerate() {
                let state = fold(&view, values);
                view.layout().merge(&mut all, &state);
                let (generation, version) = (epoch(10 + piece as u64), epoch(20));
                let group = GroupKey { series: id, bucket: EventTime(GroupKey::NO_BUCKET.0) };
                rows.push(group, Row { generation, version, state });
            }
            merged.push(all);
        }
        write_states(&clickhouse, &view, &Arc::new(rows), &Arc::new(keys)).await.unwrap();
        let names: Vec<String> = view.definition.outputs.iter().map(|output| output.name.clone()).collect();
        let sql = format!("SELECT {} FROM sketches.v ORDER BY number", names.join(", "));
        let found = clickhouse.query_batches(&sql).await.unwrap();
        assert_eq!(found.iter().map(|batch| batch.num_rows()).sum::<usize>(), merged.len());
        let found = arrow::compute::concat_batches(&found[0].schema(), &found).unwrap();
        for (output, column) in view.definition.outputs.iter().zip(found.columns()) {
            let expected = view.layout().finish(output, merged.iter());
            match output.kind {
                ValueType::I64 => {
                    assert_eq!(column.as_primitive::<Int64Type>(), expected.as_primitive::<Int64Type>(), "{output:?}");
                }
                ValueType::F64 => {
                    let (found, expected) =
                        (column.as_primitive::<Float64Type>(), expected.as_primitive::<Float64Type>());
                    assert_eq!(found, expected, "{output:?}");
                }
                _ => {
                    let found = arrow::compute::cast(column, expected.data_type()).unwrap();
                    assert_eq!(found.as_boolean(), expected.as_boolean(), "{output:?}");
                }
            }
        }
        let estimates = view.layout().finish(&view.definition.outputs[0], merged.iter());
        let largest = estimates.as_primitive::<Int64Type>().values().iter().max().copied();
        assert!(largest > Some(40_000), "the forms are reached: {estimates:?}");
    });
}
