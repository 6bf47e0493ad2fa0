//! Streams of events for tests, and what is made of them by a view and by DataFusion.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, StringBuilder};
use arrow::array::{AsArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use streamgauge_engine::program::{Prepared, Program};
use streamgauge_schemas::event::{BatchSeries, append_dimensions, dimensions_builder};
use streamgauge_schemas::state::Accumulator;
use streamgauge_schemas::state::accumulator::Events;
use streamgauge_schemas::stream::{Catalog, Stream, timestamp_type};
use streamgauge_schemas::value::read_keys;
use streamgauge_schemas::view::IS_EXACT_SUFFIX;
use streamgauge_schemas::{
    Column, ColumnType, Epoch, EventBatch, EventTime, MetricsBatch, Series, SeriesId, State, StreamDefinition,
    StreamId, TableBatch, ViewDefinition,
};

use super::exactly;
use crate::views::Reading;

pub(super) const FLIGHTS: StreamId = StreamId(100);
const COLUMNS: [(&str, ColumnType); 8] = [
    ("at", ColumnType::Timestamp),
    ("carrier", ColumnType::Text),
    ("origin", ColumnType::Text),
    ("n", ColumnType::I64),
    ("delay", ColumnType::F64),
    ("ok", ColumnType::Bool),
    ("seen", ColumnType::Timestamp),
    ("payload", ColumnType::Json),
];

/// Seeds for a test: from 0 always the same, and others each time, `VIEWS_RUNS` of them from `VIEWS_SEED` on.
pub(super) fn seeds((fixed, fresh): (u64, u64)) -> impl Iterator<Item = u64> {
    let given = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let fresh: u64 = given("VIEWS_RUNS").unwrap_or(fresh);
    let first: u64 = given("VIEWS_SEED").unwrap_or_else(|| rand::random_range(1_000..1_000_000_000));
    println!("to run the same again: VIEWS_SEED={first} VIEWS_RUNS={fresh}");
    (0..fixed).chain(first..first + fresh)
}

pub(super) fn catalog() -> Catalog {
    let definition = StreamDefinition {
        name: "flights".into(),
        time_column: "at".into(),
        columns: COLUMNS.iter().map(|(name, kind)| Column { name: (*name).into(), kind: *kind }).collect(),
        order_by: Vec::new(),
        retention: None,
    };
    Catalog::new(Epoch(1_000), vec![Arc::new(Stream { id: FLIGHTS, definition })], Vec::new())
}

pub(super) fn state() -> SessionState {
    let mut config =
        SessionConfig::new().with_default_catalog_and_schema("streamgauge", "public").with_target_partitions(2);
    config.options_mut().execution.time_zone = Some("UTC".into());
    let mut state = SessionStateBuilder::new().with_default_features().with_config(config).build();
    datafusion_functions_json::register_all(&mut state).unwrap();
    state.register_udaf(Arc::new(exactly::top_k())).unwrap(); // which DataFusion does not have
    state
}

/// Event times: each another one, around 1970, crowded in parts; over two months, times `spread`.
fn times(rng: &mut StdRng, count: usize, spread: i64) -> Vec<i64> {
    let spans = [10_000_000, 7_200_000_000, 60 * 86_400_000_000];
    let mut times: Vec<i64> = (0..count as i64)
        .map(|at| {
            rng.random_range(-spans[at as usize % 3]..spans[at as usize % 3]) * 1_000 / 1_000 * spread % (1 << 50) + at
        })
        .collect();
    times.sort_unstable();
    times.dedup();
    while times.len() < count {
        times.push(times.last().copied().unwrap_or(0) + 1);
    }
    times.shuffle(rng);
    times
}

/// A few batches of flights or metrics.
pub(super) fn batches(rng: &mut StdRng, metrics: bool) -> Vec<EventBatch> {
    let counts: Vec<usize> = (0..rng.random_range(1..4)).map(|_| rng.random_range(0..80)).collect();
    batches_of(rng, metrics, counts, 997)
}

/// Batches of so many events each, no two of the same time; see `times` for `spread`.
pub(super) fn batches_of(rng: &mut StdRng, metrics: bool, counts: Vec<usize>, spread: i64) -> Vec<EventBatch> {
    let mut times = times(rng, counts.iter().sum(), spread);
    let mut batch = |count: usize| {
        let times = times.split_off(times.len() - count);
        if metrics { metrics_batch(rng, times) } else { flights_batch(rng, times) }
    };
    counts.into_iter().map(&mut batch).collect()
}

fn flights_batch(rng: &mut StdRng, times: Vec<i64>) -> EventBatch {
    fn some<T>(rng: &mut StdRng, value: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
        if rng.random_bool(0.15) { None } else { Some(value(rng)) }
    }
    let count = times.len();
    fn text(rng: &mut StdRng, count: usize, of: &[&str]) -> ArrayRef {
        let texts = (0..count).map(|_| some(rng, |rng| (*of.choose(rng).unwrap()).to_owned()));
        Arc::new(texts.collect::<StringArray>())
    }
    let carrier = text(rng, count, &["AA", "BB", "cc", ""]);
    let origin = text(rng, count, &["ams", "zürich", "abc", "x"]);
    let payload = text(rng, count, &["{\"a\":1}", "[1,2]", "null", "12"]);
    let n: Int64Array = (0..count).map(|_| some(rng, |rng| rng.random_range(-20..20))).collect();
    let delay: Float64Array =
        (0..count).map(|_| some(rng, |rng| f64::from(rng.random_range(-200..200)) / 4.0)).collect();
    let ok: BooleanArray = (0..count).map(|_| some(rng, |rng| rng.random_bool(0.6))).collect();
    let seen = times.iter().map(|time| some(rng, |rng| time + rng.random_range(-90_000_000..90_000_000)));
    let seen: TimestampMicrosecondArray = seen.collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        carrier,
        origin,
        Arc::new(n),
        Arc::new(delay),
        Arc::new(ok),
        Arc::new(seen.with_timezone("UTC")),
        payload,
    ];
    let rows = RecordBatch::try_new(catalog().by_id(FLIGHTS).unwrap().definition.schema(), columns).unwrap();
    EventBatch::Table(Arc::new(TableBatch { stream: FLIGHTS, rows }))
}

pub(super) fn metrics_batch(rng: &mut StdRng, times: Vec<i64>) -> EventBatch {
    let mut batch = MetricsBatch::default();
    for _ in 0..rng.random_range(1..9) {
        let dimensions = [("host", ["a", "b", "10"]), ("zone", ["eu", "us", ""])];
        let pair = |(key, of): (&str, [&str; 3])| {
            rng.random_bool(0.7).then(|| (key.to_owned(), (*of.choose(rng).unwrap()).to_owned()))
        };
        let pairs: Vec<(String, String)> = dimensions.into_iter().filter_map(pair).collect();
        let series = Arc::new(Series::new((*["cpu", "mem"].choose(rng).unwrap()).to_owned(), pairs));
        let source: Arc<str> = (*["", "s1", "s2"].choose(rng).unwrap()).into();
        let entry = BatchSeries { id: series.id(), series, source };
        if !batch.series.contains(&entry) {
            batch.series.push(entry);
        }
    }
    batch.series_index = times.iter().map(|_| rng.random_range(0..batch.series.len() as u32)).collect();
    batch.value = times.iter().map(|_| f64::from(rng.random_range(-200..200)) / 4.0).collect();
    batch.ts = times.into_iter().map(EventTime).collect();
    EventBatch::Metrics(Arc::new(batch))
}

/// A cell of an answer; floats are compared with a tolerance.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Float(f64),
    Other(String),
}

pub(super) type Answer = (Vec<(String, DataType)>, Vec<Vec<Cell>>);

fn cells(batch: &RecordBatch) -> Vec<Vec<Cell>> {
    let options = FormatOptions::new().with_null("∅");
    let mut rows: Vec<Vec<Cell>> = (0..batch.num_rows()).map(|_| Vec::new()).collect();
    for column in batch.columns() {
        let formatter = ArrayFormatter::try_new(column, &options).unwrap();
        for (row, cells) in rows.iter_mut().enumerate() {
            cells.push(match column.data_type() {
                DataType::Float64 if column.is_valid(row) => {
                    Cell::Float(column.as_primitive::<arrow::datatypes::Float64Type>().value(row))
                }
                _ => Cell::Other(formatter.value(row).to_string()),
            });
        }
    }
    rows
}

/// The names and types; times in UTC are all the same, whatever they are counted in.
fn columns(batch: &RecordBatch) -> Vec<(String, DataType)> {
    let kind = |of: &DataType| match of {
        DataType::Timestamp(_, Some(zone)) if matches!(zone.as_ref(), "UTC" | "+00:00") => timestamp_type(),
        other => other.clone(),
    };
    batch.schema().fields().iter().map(|field| (field.name().clone(), kind(field.data_type()))).collect()
}

/// The answer that a batch is.
pub(super) fn answer_of(batch: &RecordBatch) -> Answer {
    (columns(batch), cells(batch))
}

/// DataFusion's answer over the rows of the batches.
pub(super) fn plain(select: &str, batches: &[EventBatch]) -> Answer {
    let context = SessionContext::new_with_state(state());
    context.register_udaf(exactly::quantile());
    let rows: Vec<RecordBatch> = batches.iter().map(EventBatch::to_record_batch).collect();
    let (name, schema) = match batches[0].stream() {
        StreamId::METRICS => ("metrics", StreamDefinition::metrics_schema()),
        _ => ("flights", rows[0].schema()),
    };
    context.register_table(name, Arc::new(MemTable::try_new(schema, vec![rows]).unwrap())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answer = runtime.block_on(async {
        let frame = context.sql(select).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let answer = frame.collect().await?;
        Ok::<_, datafusion::error::DataFusionError>(concat_batches(&schema, &answer)?)
    });
    let answer = answer.unwrap_or_else(|error| panic!("{select}: {error}"));
    answer_of(&answer)
}

/// The view's answer: every batch computed and folded, the states merged and finished, and the rows read.
pub(super) fn maintained(
    definition: &ViewDefinition,
    program: &dyn Program,
    reading: &Reading,
    batches: &[EventBatch],
) -> (Answer, u64) {
    let layout = Arc::new(definition.layout().unwrap());
    let mut groups: HashMap<(SeriesId, i64), State> = HashMap::new();
    let mut keys: HashMap<SeriesId, Vec<u8>> = HashMap::new();
    let mut failed = 0;
    for batch in batches {
        let computed = program.run(&Prepared::new(batch.clone()));
        failed += computed.failed.as_ref().map_or(0, |failed| failed.events);
        let rows = computed.times.len();
        assert_eq!((computed.buckets.len(), computed.keys.of_row.len()), (rows, rows));
        let mut used = vec![false; computed.keys.ids.len()];
        computed.keys.of_row.iter().for_each(|key| used[*key as usize] = true);
        assert!(used.iter().all(|used| *used), "a key of no event");
        for (at, id) in computed.keys.ids.iter().enumerate() {
            assert!(!computed.keys.ids[..at].contains(id), "an id is there once");
            keys.entry(*id).or_insert_with(|| computed.keys.get(at).unwrap_or_default().to_vec());
        }
        for (argument, typed) in computed.arguments.iter().zip(&definition.arguments) {
            assert_eq!((argument.data_type(), argument.len()), (&typed.kind.arrow(), rows), "{}", typed.expression);
        }
        let mut places: HashMap<(SeriesId, i64), u32> = HashMap::new();
        let mut order = Vec::new();
        let group = |row: usize| {
            let group = (computed.keys.ids[computed.keys.of_row[row] as usize], computed.buckets[row]);
            *places.entry(group).or_insert_with(|| {
                order.push(group);
                order.len() as u32 - 1
            })
        };
        let of_row: Vec<u32> = (0..rows).map(group).collect();
        let mut accumulator = Accumulator::new(layout.clone());
        let events = Events { groups: &of_row, times: &computed.times, arguments: &computed.arguments };
        accumulator.add(order.len(), &events);
        for (group, state) in order.iter().zip(accumulator.take().iter()) {
            layout.merge(groups.entry(*group).or_default(), &state);
        }
    }
    (answer(definition, reading, &groups, &keys, batches), failed)
}

/// What these groups say as rows of the view; series are looked for in the batches.
pub(super) fn answer(
    definition: &ViewDefinition,
    reading: &Reading,
    groups: &HashMap<(SeriesId, i64), State>,
    keys: &HashMap<SeriesId, Vec<u8>>,
    batches: &[EventBatch],
) -> Answer {
    let base = base(definition, &definition.layout().unwrap(), reading, groups, keys, batches);
    let rows = reading.rows(&base).unwrap_or_else(|error| panic!("{}: {error}", definition.select));
    answer_of(&rows)
}

/// An answer without the columns that say that a number of distinct values is exact, which all of them do.
pub(super) fn without_exactness(answer: Answer) -> Answer {
    let (columns, rows) = answer;
    let is_listed = |column: usize| !columns[column].0.ends_with(IS_EXACT_SUFFIX);
    let listed = |row: Vec<Cell>| -> Vec<Cell> {
        let cells = row.into_iter().enumerate();
        let check = |(column, cell): (usize, Cell)| {
            assert!(is_listed(column) || matches!(&cell, Cell::Other(text) if text == "true"), "{cell:?}");
            is_listed(column).then_some(cell)
        };
        cells.filter_map(check).collect()
    };
    let rows = rows.into_iter().map(listed).collect();
    let names = columns.iter().enumerate().filter(|(column, _)| is_listed(*column));
    (names.map(|(_, column)| column.clone()).collect(), rows)
}

fn base(
    definition: &ViewDefinition,
    layout: &streamgauge_schemas::Layout,
    reading: &Reading,
    groups: &HashMap<(SeriesId, i64), State>,
    keys: &HashMap<SeriesId, Vec<u8>>,
    batches: &[EventBatch],
) -> RecordBatch {
    let list: Vec<(&(SeriesId, i64), &State)> = groups.iter().collect();
    let mut columns = if definition.by_series {
        series_columns(list.iter().map(|(group, _)| group.0), batches)
    } else {
        read_keys(list.iter().map(|(group, _)| keys[&group.0].as_slice()), &definition.dimension_kinds()).unwrap()
    };
    if definition.bucket.is_some() {
        let buckets = list.iter().map(|(group, _)| group.1);
        columns.push(Arc::new(TimestampMicrosecondArray::from_iter_values(buckets).with_timezone("UTC")));
    }
    for output in &definition.outputs {
        columns.push(layout.finish(output, list.iter().map(|(_, state)| *state)));
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(list.len()));
    RecordBatch::try_new_with_options(reading.base.clone(), columns, &options).unwrap()
}

fn series_columns(ids: impl Iterator<Item = SeriesId>, batches: &[EventBatch]) -> Vec<ArrayRef> {
    let mut known: HashMap<SeriesId, Arc<Series>> = HashMap::new();
    for batch in batches {
        let EventBatch::Metrics(metrics) = batch else { continue };
        known.extend(metrics.series.iter().map(|entry| (entry.id, entry.series.clone())));
    }
    let (mut names, mut dimensions) = (StringBuilder::new(), dimensions_builder());
    for id in ids {
        names.append_value(known[&id].name());
        append_dimensions(&mut dimensions, &known[&id]);
    }
    vec![Arc::new(names.finish()), Arc::new(dimensions.finish())]
}

/// Whether a column is of a quantile, which is within 1 %; whoever asks for one calls it so.
fn is_quantile((name, _): &(String, DataType)) -> bool {
    name.starts_with("quantile")
}

/// Asserts that answers have the same columns and rows, in whatever order.
pub(super) fn assert_same(what: &str, found: Answer, wanted: Answer) {
    assert_eq!(found.0, wanted.0, "columns of {what}");
    let errors: Vec<f64> = wanted.0.iter().map(|column| if is_quantile(column) { 0.010_001 } else { 1e-9 }).collect();
    let close = |found: &Cell, wanted: &Cell, error: f64| match (found, wanted) {
        (Cell::Float(found), Cell::Float(wanted)) => {
            (found - wanted).abs() <= error * wanted.abs().max(1.0) || (found.is_nan() && wanted.is_nan())
        }
        (Cell::Other(found), Cell::Other(wanted)) => found == wanted,
        _ => false,
    };
    let mut rest = found.1;
    let count = rest.len();
    for row in &wanted.1 {
        let cells = row.iter().zip(&errors);
        let same = |other: &Vec<Cell>| {
            std::iter::zip(other, cells.clone()).all(|(found, (wanted, error))| close(found, wanted, *error))
        };
        let place = rest.iter().position(same);
        let place = place.unwrap_or_else(|| panic!("{what}\n  lacks {row:?}\n  among {rest:?}"));
        rest.swap_remove(place);
    }
    assert_eq!(count, wanted.1.len(), "{what}\n  has too many rows: {rest:?}");
}
