//! The table against a plain list of rows.

use std::collections::BTreeMap;

use proptest::prelude::*;
use streamgauge_schemas::state::{Accumulator, Fold, Function, accumulator::Events};
use streamgauge_schemas::view::rollup;
use streamgauge_schemas::{EventTime, SeriesId, State, Summary, ValueType};

use super::super::partials::Spans;
use super::super::series::Series;
use super::*;

const IDLE_US: u64 = 10;

fn layout() -> Arc<Layout> {
    Arc::new(rollup("by_second", "1 second", 1).layout().unwrap())
}

fn key(number: u8) -> GroupKey {
    GroupKey { series: SeriesId::from_u128(u128::from(number % 4)), bucket: EventTime(i64::from(number / 4)) }
}

/// The state of so many events of value 1.
fn states(layout: &Arc<Layout>, count: u32) -> States {
    let mut accumulator = Accumulator::new(layout.clone());
    let values = Arc::new(arrow::array::Float64Array::from(vec![1.0; count as usize]));
    accumulator.add(1, &Events { groups: &vec![0; count as usize], times: &[], arguments: &[values] });
    accumulator.take()
}

fn row(layout: &Arc<Layout>, generation: u64, version: u64, count: u32) -> Row {
    Row { generation: Epoch(generation), version: Epoch(version), state: states(layout, count).get(0) }
}

fn count(state: &State) -> u64 {
    Summary::of_rollup(state).count
}

/// What may happen to a table, in the order of epochs.
#[derive(Clone, Debug)]
enum Step {
    /// Batches of so many events for each group, all of one epoch; with numbers for their series or without.
    Events {
        batches: Vec<(u8, u32)>,
        numbered: bool,
    },
    Pass(u64),
    /// The series are numbered anew.
    Renumber,
    Flush {
        unflushed: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::collection::vec((0u8..12, 1u32..4), 1..6), prop::bool::weighted(0.8))
            .prop_map(|(batches, numbered)| Step::Events { batches, numbered }),
        1 => Just(Step::Renumber),
        2 => (1u64..30).prop_map(Step::Pass),
        2 => (0u64..15).prop_map(|unflushed| Step::Flush { unflushed }),
    ]
}

/// The rules, said plainly: of each group its rows by generation, each with its version and how many events it has.
#[derive(Default)]
struct Model(BTreeMap<(GroupKey, u64), (u64, u64)>);

impl Model {
    fn apply(&mut self, epoch: u64, key: GroupKey, events: u64) {
        let mine = self.0.range_mut((key, 0)..=(key, epoch)).next_back();
        match mine {
            Some((_, (version, count))) if epoch - *version < IDLE_US => (*version, *count) = (epoch, *count + events),
            _ => drop(self.0.insert((key, epoch), (epoch, events))),
        }
    }
}

/// All rows, read without a flush: that would look at chunks anew.
fn rows_of(table: &Table) -> BTreeMap<(GroupKey, u64), (u64, u64)> {
    let mut rows = BTreeMap::new();
    for slot in 0..(table.chunks.len() * CHUNK) as Slot {
        let Some(row) = table.get(slot, Epoch::ZERO) else { continue };
        let was = rows.insert((table.header(slot).key, row.generation.0), (row.version.0, count(&row.state)));
        assert_eq!(was, None, "invariant 1");
    }
    if let Some(current) = &table.current {
        current.each(
            |_| true,
            |key, row| {
                let was = rows.insert((key, row.generation.0), (row.version.0, count(&row.state)));
                assert_eq!(was, None, "invariant 1");
            },
        );
    }
    rows
}

proptest! {
    #[test]
    fn rows_are_those_of_the_rules(steps in prop::collection::vec(step(), 1..80)) {
        let layout = layout();
        let (mut table, mut model, mut epoch) = (Table::new(layout.clone(), IDLE_US), Model::default(), 100u64);
        let (mut series, mut numbers) = (Series::new(), Vec::new());
        for step in steps {
            match step {
                Step::Events { batches, numbered } => {
                    epoch += 1;
                    let (before, mut began) = (table.len(), Vec::new());
                    let keys: Vec<GroupKey> = batches.iter().map(|(number, _)| key(*number)).collect();
                    let mut of_batch = States::new(&layout);
                    batches.iter().for_each(|(_, events)| of_batch.push(&states(&layout, *events), 0));
                    let places: Vec<u32> = batches.iter().map(|(number, _)| u32::from(number % 4)).collect();
                    series.number(&keys, &places, 4, &mut numbers);
                    let partials = Partials {
                        keys: &keys,
                        spans: Spans::One(Epoch(epoch)),
                        states: &of_batch,
                        numbers: numbered.then(|| series.numbers(&numbers)),
                    };
                    table.apply_all(&partials, |key, slot, _| began.push((key, slot)));
                    prop_assert_eq!(table.len() - before, began.len());
                    for (_, slot) in &began {
                        prop_assert_eq!(table.get(*slot, Epoch::ZERO).unwrap().generation, Epoch(epoch));
                    }
                    batches.iter().for_each(|(number, events)| model.apply(epoch, key(*number), u64::from(*events)));
                }
                Step::Pass(epochs) => epoch += epochs,
                Step::Renumber => series = Series::new(),
                Step::Flush { unflushed } => {
                    let flushed = epoch - unflushed;
                    let horizon = flushed.saturating_sub(IDLE_US);
                    let (mut changed, mut removed) = (BTreeMap::new(), Vec::new());
                    let change = |key, row: Row| changed.extend([((key, row.generation.0), row.version.0)]);
                    table.flush(Epoch(flushed), Epoch(horizon), change, |key, _| removed.push(key));
                    let wanted = model.0.iter().filter(|(_, (version, _))| *version > flushed);
                    prop_assert_eq!(changed, wanted.map(|(row, (version, _))| (*row, *version)).collect::<BTreeMap<_, _>>());
                    let gone: Vec<GroupKey> =
                        model.0.iter().filter(|(_, (version, _))| *version <= horizon).map(|((key, _), _)| *key).collect();
                    removed.sort();
                    prop_assert_eq!(removed, gone);
                    model.0.retain(|_, (version, _)| *version > horizon);
                }
            }
            prop_assert_eq!(&rows_of(&table), &model.0);
            prop_assert_eq!(table.len(), model.0.len());
        }
    }
}

#[test]
fn a_loaded_row_skips_what_it_has() {
    let layout = layout();
    let mut table = Table::new(layout.clone(), IDLE_US);
    let (one, events) = (key(1), states(&layout, 1));
    // Half of a flush came through: the later generation is there, and the end of the one before is not.
    table.load(one, &row(&layout, 130, 135, 5));
    table.load(one, &row(&layout, 100, 105, 7));
    for epoch in [104, 105, 108, 133, 135, 136] {
        assert_eq!(table.apply(Span::of(Epoch(epoch)), one, &events, 0), Applied::Merged);
    }
    assert_eq!(rows_of(&table), BTreeMap::from([((one, 100), (108, 8)), ((one, 130), (136, 6))]));
    // A generation between the two, which that flush did not bring.
    let mut table = Table::new(layout.clone(), IDLE_US);
    table.load(one, &row(&layout, 100, 105, 7));
    table.load(one, &row(&layout, 150, 155, 5));
    assert!(matches!(table.apply(Span::of(Epoch(120)), one, &events, 0), Applied::Began(_)));
    assert_eq!(table.apply(Span::of(Epoch(121)), one, &events, 0), Applied::Merged);
    assert_eq!(table.apply(Span::of(Epoch(152)), one, &events, 0), Applied::Merged);
    table.passed(Epoch(160));
    assert_eq!(table.apply(Span::of(Epoch(161)), one, &events, 0), Applied::Merged);
    let wanted = [((one, 100), (105, 7)), ((one, 120), (121, 2)), ((one, 150), (161, 6))];
    assert_eq!(rows_of(&table), BTreeMap::from(wanted));
    // The one in the middle leaves first, then the others.
    for (horizon, left) in [(121, 1), (200, 0)] {
        table.flush(Epoch(200), Epoch(horizon), |_, _| panic!("nothing changed"), |_, _| {});
        assert_eq!(table.len(), left);
    }
}

#[test]
fn slots_are_used_again_and_empty_chunks_are_let_go() {
    let layout = layout();
    let mut table = Table::new(layout.clone(), IDLE_US);
    let events = states(&layout, 1);
    let of = |number: usize| GroupKey { series: SeriesId::from_u128(1 << 64), bucket: EventTime(number as i64) };
    let fill = |table: &mut Table, epoch: u64| {
        for number in 0..10 * CHUNK {
            table.apply(Span::of(Epoch(epoch)), of(number), &events, 0);
        }
    };
    fill(&mut table, 100);
    assert_eq!((table.len(), table.chunks.len()), (10 * CHUNK, 10));
    for number in 9 * CHUNK..10 * CHUNK {
        table.apply(Span::of(Epoch(105)), of(number), &events, 0);
    }
    let mut removed = 0;
    table.flush(Epoch(105), Epoch(100), |_, _| {}, |_, _| removed += 1);
    assert_eq!((removed, table.len(), table.chunks.len(), table.held), (9 * CHUNK, CHUNK, 10, 1));
    fill(&mut table, 106);
    assert_eq!((table.len(), table.chunks.len(), table.held), (10 * CHUNK, 10, 10), "freed slots are taken first");
    table.flush(Epoch(200), Epoch(200), |_, _| {}, |_, _| {});
    assert_eq!((table.len(), table.chunks.len(), table.open.len(), table.held), (0, 0, 0, 0));
    assert!(table.bytes() < 64 * CHUNK, "{}", table.bytes());
}

/// Many groups, in several blocks and chunks, with numbers and without: read ahead, found again after rows have gone.
#[test]
fn many_rows_are_those_of_a_table_without_numbers() {
    let layout = layout();
    let (mut known, mut numbers) = (Series::new(), Vec::new());
    let table = || Table::new(layout.clone(), IDLE_US);
    let (mut numbered, mut plain, mut fed) = (table(), table(), table());
    fed.number_rows(known.numbering(), |_| unreachable!("there are no rows"));
    let series = 2 * NEAR_ROWS as u64;
    let event = states(&layout, 1);
    // All series, then some of them in another order while the rest goes, then all again in another bucket and in this one.
    let rounds = [(100, 1, 0), (105, 3, 0), (107, 1, 1), (109, 1, 0)];
    for (epoch, step, bucket) in rounds {
        let of_round: Vec<u64> = (0..series).step_by(step).map(|number| number * 7 % series).collect();
        let key = |number: &u64| GroupKey {
            series: SeriesId::from_u128(u128::from(*number) << 64),
            bucket: EventTime(bucket),
        };
        let mut of_batch = States::new(&layout);
        of_round.iter().for_each(|_| of_batch.push(&event, 0));
        let keys: Vec<GroupKey> = of_round.iter().map(key).collect();
        let places: Vec<u32> = (0..of_round.len() as u32).collect();
        known.number(&keys, &places, places.len(), &mut numbers);
        let partials = |numbers| Partials { keys: &keys, spans: Spans::One(Epoch(epoch)), states: &of_batch, numbers };
        let of = Some(known.numbers(&numbers));
        for (table, of) in [(&mut numbered, of), (&mut plain, None), (&mut fed, of)] {
            table.apply_all(&partials(of), |_, _, _| {});
            if epoch == 105 {
                table.flush(Epoch(105), Epoch(100), |_, _| {}, |_, _| {});
            }
        }
        assert_eq!(rows_of(&numbered), rows_of(&plain), "epoch {epoch}");
        assert_eq!(rows_of(&fed), rows_of(&plain), "epoch {epoch}");
        let current = fed.current.as_ref().map_or(0, Current::len);
        assert_eq!(current > NEAR_ROWS, epoch != 105, "so many are read ahead, and a flush has taken most");
    }
    assert_eq!(numbered.len(), 2 * series as usize);
}

/// Most chunks are passed over by a flush, and none in which there is something to do.
#[test]
fn a_flush_finds_what_changed_and_what_is_due_in_any_chunk() {
    let layout = layout();
    let (mut table, event) = (Table::new(layout.clone(), IDLE_US), states(&layout, 1));
    let key = |number: usize| GroupKey { series: SeriesId::from_u128((number as u128) << 64), bucket: EventTime(0) };
    let add = |table: &mut Table, epoch, numbers: std::ops::Range<usize>| {
        for number in numbers {
            table.apply(Span::of(Epoch(epoch)), key(number), &event, 0);
        }
    };
    let flush = |table: &mut Table, flushed, horizon| {
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        table.flush(Epoch(flushed), Epoch(horizon), |key, _| changed.push(key), |key, _| removed.push(key));
        changed.sort_unstable();
        removed.sort_unstable();
        (changed, removed)
    };
    let keys = |numbers: std::ops::Range<usize>| numbers.map(key).collect::<Vec<_>>();
    for chunk in 0..4 {
        add(&mut table, 100 + chunk as u64, chunk * CHUNK..(chunk + 1) * CHUNK);
    }
    assert_eq!(flush(&mut table, 102, 100), (keys(3 * CHUNK..4 * CHUNK), keys(0..CHUNK)));
    assert_eq!(flush(&mut table, 103, 100), (Vec::new(), Vec::new()));
    let last_of_one = 2 * CHUNK - 1;
    add(&mut table, 108, last_of_one..last_of_one + 1);
    assert_eq!(flush(&mut table, 103, 101), (keys(last_of_one..last_of_one + 1), keys(CHUNK..last_of_one)));
    add(&mut table, 109, 5 * CHUNK..5 * CHUNK + 7); // where rows are gone
    assert_eq!(flush(&mut table, 108, 103), (keys(5 * CHUNK..5 * CHUNK + 7), keys(2 * CHUNK..4 * CHUNK)));
    assert_eq!(flush(&mut table, 109, 108), (Vec::new(), keys(last_of_one..last_of_one + 1)));
    assert_eq!((flush(&mut table, 0, 0).0, table.len()), (keys(5 * CHUNK..5 * CHUNK + 7), 7));
}

/// Rows with sketches lie by number, move, are numbered anew, and go: what comes into the books goes out of them.
#[test]
fn bytes_of_sketches_are_counted_where_rows_move() {
    let mut definition = rollup("by_second", "1 second", 1);
    definition.folds.push(Fold::of(Function::Quantiles, 0, ValueType::F64));
    let layout = Arc::new(definition.layout().unwrap());
    let (mut table, mut series) = (Table::new(layout.clone(), IDLE_US), Series::new());
    table.number_rows(series.numbering(), |id| series.number_of(id));
    let mut numbers = Vec::new();
    for epoch in 1..60u64 {
        let keys: Vec<GroupKey> = (0..7u64)
            .map(|of| GroupKey {
                series: SeriesId::from_u128(u128::from(of) << 64),
                bucket: EventTime((epoch * of / 9) as i64 - i64::from(epoch % 5 == 0)),
            })
            .collect();
        let mut of_batch = States::new(&layout);
        for of in 0..7u32 {
            let count = (epoch as u32 * (of + 1)) % 90 + 1;
            let values: Vec<f64> = (0..count).map(|value| 1.1f64.powi(value as i32)).collect();
            let mut accumulator = Accumulator::new(layout.clone());
            let groups = vec![0; values.len()];
            let column = Arc::new(arrow::array::Float64Array::from(values));
            accumulator.add(1, &Events { groups: &groups, times: &[], arguments: &[column] });
            of_batch.push(&accumulator.take(), 0);
        }
        let places: Vec<u32> = (0..7).collect();
        series.number(&keys, &places, 7, &mut numbers);
        let numbers = Some(series.numbers(&numbers));
        let partials = Partials { keys: &keys, spans: Spans::One(Epoch(epoch)), states: &of_batch, numbers };
        table.apply_all(&partials, |_, _, _| {});
        match epoch % 20 {
            7 => table.flush(Epoch(epoch - 3), Epoch(epoch - 1), |_, _| {}, |_, _| {}),
            13 => {
                series = Series::new();
                let before = table.current.as_ref().map(Current::len);
                table.number_rows(series.numbering(), |id| series.number_of(id));
                assert_eq!(table.current.as_ref().map(Current::len), before);
            }
            _ => {}
        }
        assert!(table.heap_bytes > 0 && table.len() >= 7);
    }
    assert!(table.slots() > 0 && table.current.as_ref().is_some_and(|current| current.len() > 1));
    table.flush(Epoch(100), Epoch(100), |_, _| {}, |_, _| {});
    assert_eq!((table.len(), table.heap_bytes), (0, 0));
    table.flush(Epoch(100), Epoch(100), |_, _| {}, |_, _| {});
    table.give_slots(|_, _| {});
}
