//! The program of a view: its expressions on every batch of its stream.
//!
//! ```text
//!  series of the batch ─▶ filter, dimensions, arguments that need only these ─┐ once a series
//!  events of the batch ───────────────────────────────────────────────────────┴▶ filter ─▶ the others ─▶ keys, buckets
//! ```
//!
//! The upper path is for `metrics` alone. Buckets of one length are computed from the time itself.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::logical_expr::Expr;
use streamgauge_engine::program::{Computed, Failed, Keys, Prepared, Program};
use streamgauge_schemas::{GroupKey, MetricsBatch, StreamId, ValueType};

use super::bucket::Width;
use super::error::ViewError;
use super::evaluate::Outcome;
use super::expression::{Scope, Typed, all_of, conjuncts};
use super::keys;
use super::level::{Level, batch};

/// The columns of `metrics` that a series has, in the order of [`Prepared::series`].
const SERIES_COLUMNS: [&str; 3] = ["name", "dimensions", "source"];

/// What a program is made of.
pub(super) struct Parts {
    pub(super) filter: Option<Expr>,
    pub(super) dimensions: Vec<Typed>,
    pub(super) by_series: bool,
    pub(super) bucket: Option<(Typed, Width)>,
    pub(super) arguments: Vec<Typed>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct SqlProgram {
    time: usize,
    by_series: bool,
    kinds: Vec<ValueType>,
    dimensions: Vec<Place>,
    arguments: Vec<Place>,
    buckets: Buckets,
    series: Level,
    events: Level,
}

/// Where the value of an expression is computed, and which one it is there.
#[derive(Clone, Copy, Debug)]
enum Place {
    Series(usize),
    Event(usize),
}

#[derive(Clone, Copy, Debug)]
enum Buckets {
    None,
    Width(i64),
    /// An expression over the time is one of events.
    Computed(Place),
}

/// A batch after its series were looked at.
struct Chosen {
    /// The events that are left; `None` for all.
    rows: Option<Vec<u32>>,
    failed: Option<Failed>,
}

impl SqlProgram {
    pub(super) fn new(parts: Parts, scope: &Scope<'_>) -> Result<Self, ViewError> {
        let metrics = scope.stream.id == StreamId::METRICS;
        let of_series = |expr: &Expr| {
            metrics && expr.column_refs().iter().all(|column| SERIES_COLUMNS.contains(&column.name.as_str()))
        };
        let (mut series, mut events) = (Vec::new(), Vec::new());
        let mut place = |typed: &Typed| {
            let (list, place): (&mut Vec<Expr>, fn(usize) -> Place) =
                if of_series(&typed.expr) { (&mut series, Place::Series) } else { (&mut events, Place::Event) };
            list.push(typed.expr.clone());
            place(list.len() - 1)
        };
        // By series, the identities are known already.
        let by_value = if parts.by_series { &[] } else { &parts.dimensions[..] };
        let dimensions = by_value.iter().map(&mut place).collect();
        let arguments = parts.arguments.iter().map(&mut place).collect();
        let buckets = match &parts.bucket {
            None => Buckets::None,
            Some((_, Width(Some(width)))) => Buckets::Width(width.as_micros()),
            Some((typed, Width(None))) => Buckets::Computed(place(typed)),
        };
        let conditions = parts.filter.as_ref().map(conjuncts).unwrap_or_default();
        let (of_series, of_events): (Vec<&Expr>, Vec<&Expr>) = conditions.into_iter().partition(|part| of_series(part));
        let series_columns: Vec<usize> = if metrics {
            SERIES_COLUMNS.iter().map(|name| scope.stream.schema.index_of(name)).collect::<Result<_, _>>()
        } else {
            Ok(Vec::new())
        }
        .map_err(datafusion::error::DataFusionError::from)?;
        let all: Vec<usize> = (0..scope.stream.schema.fields().len()).collect();
        let time = scope.stream.schema.index_of(&scope.stream.time_column);
        let mut events = Level::new(&all, all_of(of_events), events, scope)?;
        if let Buckets::Computed(Place::Event(at)) = buckets {
            events.computation.required = Some(at);
        }
        Ok(SqlProgram {
            time: time.map_err(datafusion::error::DataFusionError::from)?,
            by_series: parts.by_series,
            kinds: parts.dimensions.iter().map(|typed| typed.kind).collect(),
            dimensions,
            arguments,
            buckets,
            series: Level::new(&series_columns, all_of(of_series), series, scope)?,
            events,
        })
    }

    /// Chooses by what is known of series; their failures are those of their events.
    fn choose(&self, metrics: &MetricsBatch, outcome: &Outcome) -> (Chosen, Vec<u32>) {
        const LEFT_OUT: u32 = u32::MAX;
        const FAILED: u32 = u32::MAX - 1;
        let mut slots: Vec<u32> = match &outcome.rows {
            None => (0..metrics.series.len() as u32).collect(),
            Some(rows) => {
                let mut slots = vec![LEFT_OUT; metrics.series.len()];
                (0..).zip(rows).for_each(|(slot, row)| slots[*row as usize] = slot);
                slots
            }
        };
        outcome.failed.iter().for_each(|row| slots[*row as usize] = FAILED);
        if outcome.rows.is_none() {
            return (Chosen { rows: None, failed: None }, slots);
        }
        let slot = |index: &u32| slots[*index as usize];
        let failures = metrics.series_index.iter().filter(|index| slot(index) == FAILED).count() as u64;
        let failed = (failures > 0).then(|| Failed { events: failures, reason: outcome.reason.clone() });
        let rows = (0..).zip(&metrics.series_index).filter(|(_, index)| slot(index) < FAILED).map(|(row, _)| row);
        (Chosen { rows: Some(rows.collect()), failed }, slots)
    }

    /// The events that are left, with the columns that are needed.
    fn input(&self, events: &Prepared, rows: Option<&[u32]>) -> RecordBatch {
        let schema = &self.events.computation.input;
        let cheap = |name: &str| name == "ts" || name == "value";
        let narrow = |metrics: &MetricsBatch| {
            let column = |field: &Arc<arrow::datatypes::Field>| -> ArrayRef {
                match field.name().as_str() {
                    "ts" => {
                        let times = metrics.ts.iter().map(|ts| ts.0);
                        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
                    }
                    _ => Arc::new(Float64Array::from(metrics.value.clone())),
                }
            };
            batch(schema, schema.fields().iter().map(column).collect(), metrics.len())
        };
        let all = match events.metrics() {
            Some(metrics) if schema.fields().iter().all(|field| cheap(field.name())) => narrow(metrics),
            _ => {
                let columns = self.events.columns.iter().map(|column| events.rows().column(*column).clone());
                batch(schema, columns.collect(), events.len())
            }
        };
        match rows {
            None => all,
            Some(rows) => take_record_batch(&all, &UInt32Array::from(rows.to_vec())).expect("rows of this batch"),
        }
    }

    fn times(&self, events: &Prepared, rows: Option<&[u32]>) -> Vec<i64> {
        match events.metrics() {
            Some(metrics) => pick(rows, metrics.len(), |row| metrics.ts[row].0),
            None => {
                let times = events.rows().column(self.time).as_primitive::<TimestampMicrosecondType>();
                pick(rows, times.len(), |row| times.value(row))
            }
        }
    }

    /// The keys of the events that are left; `slots` are those of their series.
    fn keys(&self, events: &Prepared, computed: &Levels<'_>) -> Keys {
        let count = computed.count;
        let (Some(metrics), Some(slots)) = (events.metrics(), &computed.slots) else {
            let columns: Vec<ArrayRef> = self.dimensions.iter().map(|place| computed.get(*place)).collect();
            return keys::of_columns(&columns, &self.kinds, count);
        };
        if self.by_series {
            let all: Vec<u32> = (0..metrics.series.len() as u32).collect();
            let kept = computed.series.rows.as_ref().unwrap_or(&all);
            let few = keys::of_series(kept.iter().map(|row| metrics.series[*row as usize].id));
            return keys::spread(&few, slots);
        }
        if self.dimensions.iter().all(|place| matches!(place, Place::Series(_))) {
            let columns = self.dimensions.iter().filter_map(|place| match place {
                Place::Series(at) => Some(computed.series.columns[*at].clone()),
                Place::Event(_) => None,
            });
            let columns: Vec<ArrayRef> = columns.collect();
            let few = computed.series.rows.as_ref().map_or(metrics.series.len(), Vec::len);
            return keys::spread(&keys::of_columns(&columns, &self.kinds, few), slots);
        }
        let columns: Vec<ArrayRef> = self.dimensions.iter().map(|place| computed.get(*place)).collect();
        keys::of_columns(&columns, &self.kinds, count)
    }
}

/// What was computed of series and of events, of the events that are left.
struct Levels<'a> {
    series: &'a Outcome,
    events: &'a Outcome,
    /// Per event the place of its series among those that passed; `None` when the stream has none.
    slots: Option<Vec<u32>>,
    count: usize,
}

impl Levels<'_> {
    fn get(&self, place: Place) -> ArrayRef {
        match (place, &self.slots) {
            (Place::Event(at), _) => self.events.columns[at].clone(),
            (Place::Series(at), Some(slots)) => {
                let slots = UInt32Array::from(slots.clone());
                take(&self.series.columns[at], &slots, None).expect("a slot is that of a series of this batch")
            }
            (Place::Series(_), None) => unreachable!("only `metrics` has series"),
        }
    }
}

impl Program for SqlProgram {
    fn run(&self, events: &Prepared) -> Computed {
        let series = match events.series() {
            Some(batch) if !self.series.computation.is_empty() => {
                self.series.computation.run(&self.series.project(batch))
            }
            _ => Outcome::default(),
        };
        let (chosen, slots_of_series) = match events.metrics() {
            Some(metrics) => self.choose(metrics, &series),
            None => (Chosen { rows: None, failed: None }, Vec::new()),
        };
        let outcome = match self.events.computation.is_empty() {
            true => Outcome::default(),
            false => self.events.computation.run(&self.input(events, chosen.rows.as_deref())),
        };
        let rows = match (chosen.rows, &outcome.rows) {
            (Some(before), Some(rows)) => Some(rows.iter().map(|row| before[*row as usize]).collect()),
            (Some(before), None) => Some(before),
            (None, rows) => rows.clone(),
        };
        let rows = rows.as_deref();
        let count = rows.map_or(events.len(), <[u32]>::len);
        let slots = events
            .metrics()
            .map(|metrics| pick(rows, metrics.len(), |row| slots_of_series[metrics.series_index[row] as usize]));
        let levels = Levels { series: &series, events: &outcome, slots, count };
        let times = self.times(events, rows);
        let buckets = match self.buckets {
            Buckets::None => vec![GroupKey::NO_BUCKET.0; count],
            Buckets::Width(width) => times.iter().map(|time| time - time.rem_euclid(width)).collect(),
            Buckets::Computed(place) => levels.get(place).as_primitive::<TimestampMicrosecondType>().values().to_vec(),
        };
        let failures = outcome.failed.len() as u64;
        let failed = match chosen.failed {
            Some(failed) => Some(Failed { events: failed.events + failures, ..failed }),
            None => (failures > 0).then(|| Failed { events: failures, reason: outcome.reason.clone() }),
        };
        let arguments = self.arguments.iter().map(|place| levels.get(*place)).collect();
        Computed { keys: self.keys(events, &levels), buckets, times, arguments, failed }
    }
}

fn pick<T>(rows: Option<&[u32]>, count: usize, get: impl Fn(usize) -> T) -> Vec<T> {
    match rows {
        Some(rows) => rows.iter().map(|row| get(*row as usize)).collect(),
        None => (0..count).map(get).collect(),
    }
}
