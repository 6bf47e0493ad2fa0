//! Views of any dimensions and folds: their tables, rows and finished views, through repeated changes and recovery.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use streamgauge_schemas::event::dimensions_builder;
use streamgauge_schemas::state::accumulator::Events;
use streamgauge_schemas::state::{Accumulator, Finish, Fold, Function, Output};
use streamgauge_schemas::stream::CatalogChange;
use streamgauge_schemas::value::{append_key, key_id};
use streamgauge_schemas::view::{Argument, Bucket, Dimension, Failed, ViewColumn, ViewOptions, rollup};
use streamgauge_schemas::{
    Duration as Span, Epoch, EventTime, GroupKey, Key, Row, Rows, Series, SeriesId, State, StreamId, ValueType, View,
    ViewDefinition, ViewId,
};
use streamgauge_sinks::flushed::{Commit, write_flushed};
use streamgauge_sinks::states::{read_states, write_states};
use streamgauge_sinks::{
    CATALOG_ITEM, ClickHouse, Flusher, Recovered, RecoveredView, RequestWindow, backfill, catalog, recover, view_item,
};
use support::source::{Entry, Source};
use support::{aside, ask, database, epoch, keys, run, state, until};

const KINDS: [(&str, ValueType); 7] = [
    ("flag", ValueType::Bool),
    ("number", ValueType::I64),
    ("ratio", ValueType::F64),
    ("high", ValueType::Text), // also the name of a column that is read
    ("version", ValueType::Time),
    ("day", ValueType::Date),
    ("tags", ValueType::Map),
];
const ARGUMENTS: [ValueType; 6] =
    [ValueType::F64, ValueType::I64, ValueType::Text, ValueType::Bool, ValueType::Time, ValueType::Date];

/// A view with a dimension of each type and every fold of every type.
fn everything(name: &str, bucketed: bool) -> ViewDefinition {
    let dimension = |(name, kind): (&str, _)| Dimension { name: name.into(), expression: format!("s.{name}"), kind };
    let mut folds = vec![Fold::ROWS];
    let mut outputs = Vec::new();
    for (at, kind) in ARGUMENTS.into_iter().enumerate() {
        let count = folds.len();
        let mut functions = vec![Function::Count, Function::Min, Function::Max, Function::First, Function::Last];
        functions.extend(matches!(kind, ValueType::F64 | ValueType::I64).then_some(Function::Sum));
        functions.push(Function::Distinct);
        functions.extend((kind == ValueType::F64).then_some(Function::Moments));
        functions.extend((kind == ValueType::F64).then_some(Function::Quantiles));
        functions.extend((kind == ValueType::Text).then_some(Function::Top { k: 2 }));
        for function in functions {
            let fold = folds.len();
            let value = Finish::Value { fold, count };
            let mut output = |name: String, finish, kind| outputs.push(Output { name, finish, kind, nullable: true });
            match function {
                Function::Count => output(format!("count({kind:?})"), Finish::Count(fold), ValueType::I64),
                Function::Min | Function::Max if kind != ValueType::Text => {
                    output(format!("{function:?}({kind:?})"), value, kind);
                }
                Function::Sum => {
                    output(format!("Sum({kind:?})"), value, kind);
                    output(format!("avg({kind:?})"), Finish::Mean { sum: fold, count }, ValueType::F64);
                }
                Function::Moments => {
                    for (name, sample, root) in [("var_pop", false, false), ("stddev", true, true)] {
                        output(format!("{name}({kind:?})"), Finish::Spread { fold, sample, root }, ValueType::F64);
                    }
                }
                Function::Distinct => {
                    output(format!("Distinct({kind:?})"), Finish::Distinct(fold), ValueType::I64);
                    output(format!("is_exact({kind:?})"), Finish::DistinctIsExact(fold), ValueType::Bool);
                }
                Function::Quantiles => {
                    for q in [0.0, 0.5, 1.0] {
                        output(format!("quantile {q}"), Finish::Quantile { fold, q }, ValueType::F64);
                    }
                }
                Function::Top { .. } => {} // the finished view has nothing of it
                _ => output(format!("{function:?}({kind:?})"), Finish::Held(fold), kind),
            }
            folds.push(Fold::of(function, at as u16, kind));
        }
    }
    let floats = outputs.iter().position(|output| output.name == "count(F64)");
    ViewDefinition {
        name: name.into(),
        stream: StreamId::METRICS,
        select: "SELECT flag, count(F64) AS floats, Sum(I64) + 1 AS more FROM s".into(),
        filter: None,
        dimensions: KINDS.into_iter().map(dimension).collect(),
        by_series: false,
        bucket: bucketed.then(|| Bucket { name: "minute".into(), expression: "date_bin(s.at)".into(), width: None }),
        arguments: ARGUMENTS.iter().map(|kind| Argument { expression: format!("s.{kind:?}"), kind: *kind }).collect(),
        folds,
        outputs,
        columns: [("flag", None), ("floats", floats), ("more", None)]
            .map(|(name, output)| ViewColumn { name: name.into(), kind: ValueType::I64, nullable: true, output })
            .to_vec(),
        options: ViewOptions::by_bucket(Some(Span::from_secs(60))),
    }
}

/// A view by series.
fn rolled(name: &str) -> ViewDefinition {
    rollup(name, "1 minute", 60)
}

fn view(at: u64, definition: ViewDefinition) -> Arc<View> {
    Arc::new(View { id: ViewId(epoch(at).0), definition })
}

fn create(definition: &ViewDefinition, replaces: Option<ViewId>) -> CatalogChange {
    CatalogChange::CreateView { definition: Box::new(definition.clone()), replaces }
}

async fn recover_all(clickhouse: &ClickHouse) -> Recovered {
    recover(clickhouse, RequestWindow::default(), 0, &aside(clickhouse.database())).await.unwrap()
}

async fn tables(clickhouse: &ClickHouse) -> String {
    let sql = format!(
        "SELECT arrayStringConcat(arraySort(groupArray(name)), ' ') AS names FROM system.tables \
         WHERE database = '{}' AND name LIKE 'v%'",
        clickhouse.database()
    );
    ask(clickhouse, &sql).await
}

/// The dimensions of three groups: everything there, everything null, empty and odd values.
fn groups() -> (Vec<SeriesId>, HashMap<SeriesId, Key>) {
    let mut maps = dimensions_builder();
    for (pairs, there) in [(vec![("a", "it's"), ("b", "")], true), (vec![], false), (vec![], true)] {
        for (key, value) in pairs {
            maps.keys().append_value(key);
            maps.values().append_value(value);
        }
        maps.append(there).unwrap();
    }
    let times = TimestampMicrosecondArray::from(vec![Some(7), None, Some(-1)]).with_timezone("UTC");
    let columns: [ArrayRef; 7] = [
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(0)])),
        Arc::new(Float64Array::from(vec![Some(0.1), None, Some(f64::NAN)])),
        Arc::new(StringArray::from(vec![Some("grün `"), None, Some("")])),
        Arc::new(times),
        Arc::new(Date32Array::from(vec![Some(19_000), None, Some(-1)])),
        Arc::new(maps.finish()),
    ];
    let (mut ids, mut keys) = (Vec::new(), HashMap::new());
    for row in 0..3 {
        let mut bytes = Vec::new();
        columns.iter().zip(KINDS).for_each(|(column, (_, kind))| append_key(&mut bytes, column, kind, row));
        ids.push(key_id(&bytes));
        keys.insert(key_id(&bytes), Key::Values(bytes.into()));
    }
    (ids, keys)
}

/// The float made of a number; one of them is none.
fn float(number: i32) -> f64 {
    if number == 77 { f64::NAN } else { f64::from(number) / 4.0 }
}

/// The state of events, each with its time and a number of which all arguments are made; `None` is a null.
fn fold(view: &View, events: &[(i64, Option<i32>)]) -> State {
    let of = |at: usize| events[at].1;
    let all = 0..events.len();
    let times = TimestampMicrosecondArray::from_iter(all.clone().map(|at| of(at).map(i64::from)));
    let arguments: [ArrayRef; 6] = [
        Arc::new(all.clone().map(|at| of(at).map(float)).collect::<Float64Array>()),
        Arc::new(all.clone().map(|at| of(at).map(i64::from)).collect::<Int64Array>()),
        Arc::new(all.clone().map(|at| of(at).map(|n| format!("t{n}"))).collect::<StringArray>()),
        Arc::new(all.clone().map(|at| of(at).map(|n| n > 2)).collect::<BooleanArray>()),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(all.map(of).collect::<Date32Array>()),
    ];
    let times: Vec<i64> = events.iter().map(|(time, _)| *time).collect();
    let mut accumulator = Accumulator::new(Arc::new(view.layout()));
    accumulator.add(1, &Events { groups: &vec![0; events.len()], times: &times, arguments: &arguments });
    accumulator.take().get(0)
}

type Sorted = Vec<(GroupKey, Epoch, Epoch, State)>;

fn sorted(rows: &Rows) -> Sorted {
    let mut all: Sorted = rows.iter().map(|(key, row)| (key, row.generation, row.version, row.state)).collect();
    all.sort_by_key(|(key, generation, version, _)| (*key, *generation, *version));
    all
}

const PIECES: [&[(i64, Option<i32>)]; 4] =
    [&[(5, Some(2)), (6, None)], &[(4, Some(9)), (9, Some(-3))], &[(4, Some(1)), (9, Some(8))], &[(7, None)]];

#[test]
fn rows_of_any_type_written_twice_come_back_as_they_were() {
    run(async {
        let clickhouse = database("views_rows").await;
        for (at, bucketed) in [(1, true), (2, false)] {
            let view = view(at, everything(&format!("v{at}"), bucketed));
            catalog::apply_changes(&clickhouse, &[(epoch(at), create(&view.definition, None))]).await.unwrap();
            let (ids, keys) = groups();
            let mut rows = Rows::default();
            for (group, id) in ids.iter().enumerate() {
                for (piece, events) in PIECES.into_iter().enumerate() {
                    let bucket = if bucketed { EventTime(group as i64 * 60_000_000) } else { GroupKey::NO_BUCKET };
                    let (generation, version) = (epoch(10 + piece as u64), epoch(20 + piece as u64));
                    let state = fold(&view, events);
                    rows.push(GroupKey { series: *id, bucket }, Row { generation, version, state });
                }
            }
            let (rows, keys) = (Arc::new(rows), Arc::new(keys));
            for _ in 0..2 {
                write_states(&clickhouse, &view, &rows, &keys).await.unwrap();
            }
            let (found, known) = read_states(&clickhouse, &view, Epoch::ZERO).await.unwrap();
            assert_eq!(sorted(&found), sorted(&rows));
            assert_eq!(known, *keys);
            let (found, _) = read_states(&clickhouse, &view, epoch(22)).await.unwrap();
            assert_eq!(found.len(), 3); // of each group the last piece
            let dimensions = format!(
                "SELECT flag, number, ratio, high, toUnixTimestamp64Micro(version), day, toString(tags) \
                 FROM {} ORDER BY number",
                clickhouse.table(&view.definition.name)
            );
            let expected = "true -9223372036854775808 0.1 grün ` 7 2022-01-08 {'a':'it\\'s','b':''}\n\
                            false 0 NaN  -1 1969-12-31 {}\nNULL NULL NULL NULL NULL NULL {}";
            assert_eq!(ask(&clickhouse, &dimensions).await, expected);

            // What is stored is not what the group was named by.
            let table = clickhouse.table(&view.states_table());
            let change = format!(
                "INSERT INTO {table} SELECT * REPLACE (2 AS number, 99 + _version AS _version) FROM {table} LIMIT 1"
            );
            clickhouse.execute(&change).await.unwrap();
            let error = read_states(&clickhouse, &view, epoch(50)).await.unwrap_err();
            assert!(error.to_string().contains("not those that its identity was made of"), "{error}");
        }
    });
}

/// What the states of the pieces finish to, as text, by the program itself.
fn finished(view: &View, pieces: &[&[(i64, Option<i32>)]]) -> Vec<String> {
    let (layout, mut merged) = (view.layout(), State::empty());
    pieces.iter().for_each(|events| layout.merge(&mut merged, &fold(view, events)));
    let text = |output: &Output| {
        let column = layout.finish(output, std::iter::once(&merged));
        let column = match output.kind {
            ValueType::Time => arrow::compute::cast(&column, &arrow::datatypes::DataType::Int64).unwrap(),
            _ => column,
        };
        let options = arrow::util::display::FormatOptions::new().with_null("NULL");
        arrow::util::display::ArrayFormatter::try_new(&column, &options).unwrap().value(0).to_string()
    };
    view.definition.outputs.iter().map(text).collect()
}

#[test]
fn the_finished_view_gives_what_the_program_gives() {
    run(async {
        let clickhouse = database("views_finished").await;
        let view = view(1, everything("v", true));
        catalog::apply_changes(&clickhouse, &[(epoch(1), create(&view.definition, None))]).await.unwrap();
        let (ids, keys) = groups();
        type Value = (i64, Option<i32>);
        let cases: [&[&[Value]]; 3] = [&PIECES, &PIECES[3..], &[&[(1, Some(77)), (2, None)], &[(3, Some(4))]]];
        let mut rows = Rows::default();
        for (id, pieces) in ids.iter().zip(cases) {
            for (piece, events) in pieces.iter().enumerate() {
                let (generation, version) = (epoch(10 + piece as u64), epoch(20));
                let key = GroupKey { series: *id, bucket: EventTime(60_000_000) };
                rows.push(key, Row { generation, version, state: fold(&view, events) });
            }
        }
        write_states(&clickhouse, &view, &Arc::new(rows), &Arc::new(keys)).await.unwrap();
        let outputs: Vec<String> = (view.definition.outputs.iter())
            .map(|output| match (output.name.as_str(), output.kind) {
                ("count(F64)", _) => "floats".to_owned(), // selected as it is
                (name, ValueType::Time) => format!("toUnixTimestamp64Micro(`{name}`)"),
                (name, _) => format!("`{name}`"),
            })
            .collect();
        for (number, pieces) in [(format!("= {}", i64::MIN), 0), ("IS NULL".into(), 1), ("= 0".into(), 2)] {
            for (output, expected) in outputs.iter().zip(finished(&view, cases[pieces])) {
                let sql = format!("SELECT {output} AS x FROM views_finished.v WHERE number {number}");
                let (found, of) = (ask(&clickhouse, &sql).await, format!("{output} of {:?}", cases[pieces]));
                match (found.parse::<f64>(), expected.parse::<f64>()) {
                    (Ok(found), Ok(expected)) if !found.is_nan() => {
                        let error = (found - expected).abs();
                        assert!(error <= 1e-12 * expected.abs(), "{found}, not {expected}: {of}"); // another order of sums
                    }
                    _ => assert_eq!(found, expected, "{of}"),
                }
            }
        }
        let minute = "SELECT DISTINCT toUnixTimestamp64Micro(minute) AS m FROM views_finished.v";
        assert_eq!(ask(&clickhouse, minute).await, "60000000");
    });
}

#[test]
fn views_are_made_replaced_and_dropped_however_often_and_wherever_it_is_cut_off() {
    run(async {
        let clickhouse = database("views_catalog").await;
        let (first, second) = (view(1, rolled("v")), view(2, everything("v", false)));
        let series = Arc::new(Series::new("cpu", [("host", "a")]));
        let write = async |view: &Arc<View>| {
            let (mut rows, key) = (Rows::default(), GroupKey { series: series.id(), bucket: EventTime(0) });
            rows.push(key, Row { generation: epoch(5), version: epoch(5), state: state(3, 1.0, 1.0, 1.0) });
            write_states(&clickhouse, view, &Arc::new(rows), &Arc::new(keys([series.clone()]))).await.unwrap();
        };
        let rows = async || ask(&clickhouse, "SELECT count() FROM views_catalog.v_states").await;
        let own = |found: &Recovered| found.catalog.own_views().cloned().collect::<Vec<_>>();
        let commit = async |at: u64| write_flushed(&clickhouse, &[Commit::new(CATALOG_ITEM, epoch(at))]).await.unwrap();

        let changes = [(epoch(1), create(&first.definition, None))];
        for _ in 0..2 {
            catalog::apply_changes(&clickhouse, &changes).await.unwrap();
            assert!(own(&recover_all(&clickhouse).await).is_empty()); // not before it is flushed
        }
        assert_eq!(tables(&clickhouse).await, "v v_states");
        commit(1).await;
        write(&first).await;
        assert_eq!(ask(&clickhouse, "SELECT name, count, avg FROM views_catalog.v").await, "cpu 3 0.3333333333333333");
        let found = recover_all(&clickhouse).await;
        assert_eq!(own(&found), std::slice::from_ref(&first));
        assert_eq!(found.views[4].rows.len(), 1);
        assert_eq!(found.views[4].keys, keys([series.clone()]));

        // Cut off after each step of the replacement; recovery works in between, and has the old view.
        let replace = [(epoch(2), create(&second.definition, Some(first.id)))];
        let steps = [
            "SELECT 1",
            "DROP VIEW IF EXISTS {d}.v",
            "DROP TABLE IF EXISTS {d}.v_states",
            "INSERT INTO {d}.streamgauge_views SELECT id, name, definition, {e}, true FROM {d}.streamgauge_views",
            "CREATE TABLE {d}.v_states (_series UInt128) ENGINE = MergeTree ORDER BY _series", // as of another view
        ];
        for (done, step) in steps.iter().enumerate() {
            let step = step.replace("{d}", "views_catalog").replace("{e}", &epoch(2).to_string());
            clickhouse.execute(&step).await.unwrap();
            let found = recover_all(&clickhouse).await;
            assert_eq!(own(&found), std::slice::from_ref(&first));
            assert_eq!(found.views[4].rows.len(), usize::from(done < 2), "after {done} steps");
        }
        for _ in 0..3 {
            catalog::apply_changes(&clickhouse, &replace).await.unwrap();
            assert_eq!((tables(&clickhouse).await.as_str(), rows().await.as_str()), ("v v_states", "0"));
            assert_eq!(own(&recover_all(&clickhouse).await), std::slice::from_ref(&first));
        }
        commit(2).await;
        assert_eq!(own(&recover_all(&clickhouse).await), std::slice::from_ref(&second));

        // Dropped and made again in one flush, which is applied twice; the first one is dropped once more, too late.
        let third = view(11, rolled("v"));
        let changes = [(epoch(10), CatalogChange::DropView(second.id)), (epoch(11), create(&third.definition, None))];
        for _ in 0..2 {
            catalog::apply_changes(&clickhouse, &changes).await.unwrap();
        }
        commit(11).await;
        write(&third).await;
        let late = [(epoch(12), CatalogChange::DropView(first.id)), (epoch(13), CatalogChange::DropView(ViewId(1)))];
        catalog::apply_changes(&clickhouse, &late).await.unwrap();
        assert_eq!(rows().await, "1");
        assert_eq!(ask(&clickhouse, "EXISTS TABLE views_catalog.metrics_1s_states").await, "1");
        for _ in 0..2 {
            catalog::apply_changes(&clickhouse, &[(epoch(20), CatalogChange::DropView(third.id))]).await.unwrap();
            assert_eq!(own(&recover_all(&clickhouse).await), std::slice::from_ref(&third));
        }
        assert_eq!(tables(&clickhouse).await, "");
        commit(20).await;
        assert!(own(&recover_all(&clickhouse).await).is_empty());
    });
}

#[test]
fn backfilled_rows_stay_below_memory_and_are_discarded_down_to_what_was_committed() {
    run(async {
        let clickhouse = database("views_backfill").await;
        let view = view(1_000_000, rolled("v"));
        let change = (view.id.created(), create(&view.definition, None));
        catalog::apply_changes(&clickhouse, &[change]).await.unwrap();
        write_flushed(&clickhouse, &[Commit::new(CATALOG_ITEM, view.id.created())]).await.unwrap();
        let series = Arc::new(Series::new("cpu", [("host", "a")]));
        let mut rows = Rows::default();
        for at in [1, 2, 3, 1_000_000, 1_000_001] {
            let key = GroupKey { series: series.id(), bucket: EventTime(at as i64) };
            rows.push(key, Row { generation: epoch(at), version: epoch(at), state: state(1, 1.0, 1.0, 1.0) });
        }
        let known = Arc::new(keys([series]));
        write_states(&clickhouse, &view, &Arc::new(rows), &known).await.unwrap();
        // Without a flushed epoch the horizon is the creation, and so it stays while F − K is before it.
        for flushed in [None, Some(view.id.created()), Some(epoch(1_000_005))] {
            if let Some(epoch) = flushed {
                write_flushed(&clickhouse, &[Commit::new(view_item(&view), epoch)]).await.unwrap();
            }
            let found = recover_all(&clickhouse).await;
            assert_eq!(found.view_flushed(&view), flushed.unwrap_or(view.id.created()));
            let RecoveredView { id, rows, .. } = found.views.last().unwrap();
            assert_eq!((*id, &rows.version), (view.id, &vec![epoch(1_000_001)]));
        }

        let none = Failed::default();
        assert_eq!(backfill::progress(&clickhouse, &view).await.unwrap(), (Epoch::ZERO, none.clone()));
        let failed = Failed { events: 3, reason: format!("it's \\ {}", "ü".repeat(1_000)) };
        for (at, failed) in [(1, none), (2, failed)] {
            backfill::commit(&clickhouse, &view, epoch(at), failed).await.unwrap();
        }
        let (progress, failed) = backfill::progress(&clickhouse, &view).await.unwrap();
        assert_eq!((progress, failed.events), (epoch(2), 3));
        assert_eq!(failed.reason, format!("it's \\ {}", "ü".repeat(508)), "1,024 bytes of whole characters");
        let found = recover_all(&clickhouse).await;
        assert_eq!(found.failed.get(&backfill::item(&view)), Some(&failed));
        for discarded in [2, 0] {
            assert_eq!(backfill::discard_above(&clickhouse, &view, progress).await.unwrap(), discarded);
            let left = "SELECT count() FROM views_backfill.v_states";
            assert_eq!(ask(&clickhouse, left).await, "3");
        }
        let sql = "SELECT sum(count) FROM views_backfill.v";
        assert_eq!(ask(&clickhouse, sql).await, "3");
    });
}

#[test]
fn a_users_view_is_flushed_after_its_table_and_another_of_its_name_inherits_nothing() {
    run(async {
        let clickhouse = database("views_flush").await;
        // The catalog is flushed when it is asked for, and not by itself.
        let hour = Some(Duration::from_secs(3_600));
        let source = Arc::new(Source { catalog_interval: hour, ..Source::default() });
        let set_aside = aside("views_flush");
        let flusher = Flusher::start(clickhouse.clone(), source.clone(), epoch(0), &HashMap::new(), set_aside);
        source.append(1, Entry::Catalog(create(&rolled("v"), None)));
        source.append(2, Entry::State { bucket: 60, count: 5 });
        let old = source.views().remove(0);
        let flushed = async |view: &View| {
            let there = || async { source.flushed(&view_item(view)) >= epoch(2) };
            until("the rows are flushed", Duration::from_secs(20), there).await;
            assert!(source.flushed(CATALOG_ITEM) >= view.id.created());
            let sum = "SELECT sum(count) FROM views_flush.v";
            assert_eq!(ask(&clickhouse, sum).await, "5");
        };
        flushed(&old).await;
        assert!(flusher.hold(&old).await.is_some());
        source.append(3, Entry::Catalog(create(&rolled("v"), Some(old.id))));
        let new = source.views().remove(0);
        assert!(flusher.hold(&old).await.is_none());
        flushed(&new).await; // the source has all rows for a new item, and not only later ones
        assert!(flusher.hold(&new).await.is_some());
        assert_ne!(view_item(&old), view_item(&new));
        let status = flusher.status();
        assert!(status.iter().any(|status| status.item == view_item(&new)));
        assert!(!status.iter().any(|status| status.item == view_item(&old)));
        assert!(flusher.flush_now_and_stop(Duration::from_secs(10)).await);
    });
}
