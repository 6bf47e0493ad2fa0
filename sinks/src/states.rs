//! Writes the rows of a view to its table of states, and reads them back.
//!
//! A row is written whole: its group, its generation, its version and its state. The table keeps of each
//! `(series, bucket, shard, generation)` the row with the largest version, so writing a row twice is writing it once,
//! and no token is needed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, FixedSizeBinaryArray, Float64Array, RecordBatch, StringBuilder, TimestampMicrosecondArray,
    UInt32Array, UInt64Array,
};
use arrow::buffer::Buffer;
use arrow::compute::take;
use arrow::datatypes::{Float64Type, TimestampMicrosecondType, UInt64Type};
use futures::StreamExt;
use streamgauge_schemas::event::{append_dimensions, dimensions_builder};
use streamgauge_schemas::{Epoch, EventTime, GroupKey, Row, Rows, Series, SeriesId, State, ViewDefinition};

use crate::client::INSERT_ROWS_MAX;
use crate::{ClickHouse, SinkError};

/// Rows of one Arrow batch on the wire.
const CHUNK_ROWS: usize = 65_536;

const COLUMNS: [&str; 10] =
    ["name", "dimensions", "series", "bucket", "generation", "version", "count", "sum", "min", "max"];

/// Writes rows of a view; `series` must hold every series that they name.
///
/// # Errors
/// [`SinkError::Data`] for a row whose series is missing; any error of an insert, after which the rows may be written
/// again.
pub async fn write_states(
    clickhouse: &ClickHouse,
    view: &ViewDefinition,
    rows: &Arc<Rows>,
    series: &Arc<HashMap<SeriesId, Arc<Series>>>,
) -> Result<(), SinkError> {
    write_range(clickhouse, view, rows, 0..rows.len(), series).await
}

/// Writes some of the rows, as [`write_states`] does.
pub(crate) async fn write_range(
    clickhouse: &ClickHouse,
    view: &ViewDefinition,
    rows: &Arc<Rows>,
    range: Range<usize>,
    series: &Arc<HashMap<SeriesId, Arc<Series>>>,
) -> Result<(), SinkError> {
    let table = view.states_table();
    for part in range.clone().step_by(INSERT_ROWS_MAX) {
        let part_end = range.end.min(part + INSERT_ROWS_MAX);
        SinkError::fault("flush.insert")?;
        let mut insert = clickhouse.begin_insert(&table, &COLUMNS, None);
        for from in (part..part_end).step_by(CHUNK_ROWS) {
            let to = part_end.min(from + CHUNK_ROWS);
            let (rows, series) = (rows.clone(), series.clone());
            let made = tokio::task::spawn_blocking(move || make_chunk(&rows, from..to, &series)).await;
            insert.write(&made.map_err(|e| SinkError::data("making a batch of states", e))??).await?;
        }
        insert.end().await?;
        SinkError::fault("flush.inserted")?;
    }
    Ok(())
}

/// Makes the Arrow batch of some rows. Texts are written once a series, then spread over the rows.
pub(crate) fn make_chunk(
    rows: &Rows,
    range: Range<usize>,
    series: &HashMap<SeriesId, Arc<Series>>,
) -> Result<RecordBatch, SinkError> {
    let wrong = |reason: String| SinkError::data("making a batch of states", reason);
    let mut places: HashMap<SeriesId, u32> = HashMap::new();
    let (mut names, mut dimensions) = (StringBuilder::new(), dimensions_builder());
    let mut index = Vec::with_capacity(range.len());
    for id in &rows.series[range.clone()] {
        let next = places.len() as u32;
        index.push(match places.entry(*id) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(free) => {
                let found = series.get(id).ok_or_else(|| wrong(format!("series {id} is not known")))?;
                names.append_value(found.name());
                append_dimensions(&mut dimensions, found);
                *free.insert(next)
            }
        });
    }
    let index = UInt32Array::from(index);
    let spread = |values: ArrayRef| take(&values, &index, None).map_err(|e| wrong(e.to_string()));
    let ids: Vec<u8> = rows.series[range.clone()].iter().flat_map(|id| id.as_u128().to_le_bytes()).collect();
    let epochs = |epochs: &[Epoch]| Arc::new(UInt64Array::from_iter_values(epochs.iter().map(|epoch| epoch.0)));
    let states = &rows.state[range.clone()];
    let buckets = rows.bucket[range.clone()].iter().map(|bucket| bucket.0);
    let floats = |of: fn(&State) -> f64| Arc::new(Float64Array::from_iter_values(states.iter().map(of)));
    let columns: [ArrayRef; 10] = [
        spread(Arc::new(names.finish()))?,
        spread(Arc::new(dimensions.finish()))?,
        Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(ids), None)),
        Arc::new(TimestampMicrosecondArray::from_iter_values(buckets).with_timezone("UTC")),
        epochs(&rows.generation[range.clone()]),
        epochs(&rows.version[range.clone()]),
        Arc::new(UInt64Array::from_iter_values(states.iter().map(|state| state.count))),
        floats(|state| state.sum),
        floats(|state| state.min),
        floats(|state| state.max),
    ];
    RecordBatch::try_from_iter(COLUMNS.into_iter().zip(columns)).map_err(|e| wrong(e.to_string()))
}

/// Reads the newest row of each group and generation whose version is above `horizon`, with their series.
///
/// No `FINAL` is needed: if any row of a key is above the horizon, the newest is, and the largest version is kept
/// here. So the index on `version` may skip what is old, and a start reads little.
///
/// # Errors
/// Any error of the query; [`SinkError::Data`] when a column has another type than the schema says.
pub async fn read_states(
    clickhouse: &ClickHouse,
    view: &ViewDefinition,
    horizon: Epoch,
) -> Result<(Rows, HashMap<SeriesId, Arc<Series>>), SinkError> {
    read_states_and(clickhouse, view, horizon, &[]).await
}

/// Reads rows as [`read_states`] does, together with rows that are set aside.
pub(crate) async fn read_states_and(
    clickhouse: &ClickHouse,
    view: &ViewDefinition,
    horizon: Epoch,
    aside: &[RecordBatch],
) -> Result<(Rows, HashMap<SeriesId, Arc<Series>>), SinkError> {
    let table = clickhouse.table(&view.states_table());
    let sql = format!(
        "SELECT name, dimensions, toUInt64(bitShiftRight(series, 64)) AS high, toUInt64(series) AS low, bucket, \
         generation, version, count, sum, min, max FROM {table} WHERE shard = 0 AND version > {horizon}"
    );
    let wrong = |what: &str| SinkError::data(what, "a column of another type");
    let mut newest = Newest::default();
    let mut stream = clickhouse.query_arrow(&sql).await?;
    while let Some(batch) = stream.next().await {
        newest.read_answer(&batch?).ok_or_else(|| wrong(&sql))?;
    }
    for batch in aside {
        newest.read_aside(batch, horizon).ok_or_else(|| wrong("reading states that were set aside"))?;
    }
    Ok((newest.rows, newest.series))
}

/// The newest row so far of each group and generation.
#[derive(Default)]
struct Newest {
    rows: Rows,
    places: HashMap<(GroupKey, Epoch), usize>,
    series: HashMap<SeriesId, Arc<Series>>,
}

impl Newest {
    /// Reads a batch of ClickHouse's answer. `None` when a column does not have the type that it must have.
    fn read_answer(&mut self, batch: &RecordBatch) -> Option<()> {
        let half = |at: usize| Some(batch.column(at).as_primitive_opt::<UInt64Type>()?.values());
        let ids: Vec<SeriesId> =
            half(2)?.iter().zip(half(3)?).map(|(high, low)| SeriesId { high: *high, low: *low }).collect();
        self.read(batch, &ids, 4, Epoch::ZERO)
    }

    /// Reads a batch of the form that is inserted, [`COLUMNS`].
    fn read_aside(&mut self, batch: &RecordBatch, horizon: Epoch) -> Option<()> {
        let ids = batch.column(2).as_fixed_size_binary_opt()?.iter();
        let id = |bytes: Option<&[u8]>| Some(SeriesId::from_u128(u128::from_le_bytes(bytes?.try_into().ok()?)));
        let ids: Vec<SeriesId> = ids.map(id).collect::<Option<_>>()?;
        self.read(batch, &ids, 3, horizon)
    }

    /// Reads rows above the horizon: name and dimensions first, the series as given, the rest from column `rest` on.
    fn read(&mut self, batch: &RecordBatch, ids: &[SeriesId], rest: usize, horizon: Epoch) -> Option<()> {
        let number = |at: usize| Some(batch.column(rest + at).as_primitive_opt::<UInt64Type>()?.values());
        let float = |at: usize| Some(batch.column(rest + at).as_primitive_opt::<Float64Type>()?.values());
        let names = batch.column(0).as_string_opt::<i32>()?;
        let dimensions = batch.column(1).as_map_opt()?;
        let (keys, values) = (dimensions.keys().as_string_opt::<i32>()?, dimensions.values().as_string_opt::<i32>()?);
        let buckets = batch.column(rest).as_primitive_opt::<TimestampMicrosecondType>()?.values();
        let (generations, versions, counts) = (number(1)?, number(2)?, number(3)?);
        let (sums, mins, maxs) = (float(4)?, float(5)?, float(6)?);
        for at in (0..batch.num_rows()).filter(|at| versions[*at] > horizon.0) {
            let id = ids[at];
            self.series.entry(id).or_insert_with(|| {
                let range = dimensions.value_offsets()[at] as usize..dimensions.value_offsets()[at + 1] as usize;
                let pairs = range.map(|entry| (keys.value(entry), values.value(entry)));
                Arc::new(Series::new(names.value(at), pairs))
            });
            let state = State { count: counts[at], sum: sums[at], min: mins[at], max: maxs[at] };
            let row = Row { generation: Epoch(generations[at]), version: Epoch(versions[at]), state };
            self.keep(GroupKey { series: id, bucket: EventTime(buckets[at]) }, row);
        }
        Some(())
    }

    fn keep(&mut self, key: GroupKey, row: Row) {
        match self.places.entry((key, row.generation)) {
            Entry::Vacant(free) => {
                free.insert(self.rows.len());
                self.rows.push(key, row);
            }
            Entry::Occupied(place) if self.rows.version[*place.get()] < row.version => {
                self.rows.version[*place.get()] = row.version;
                self.rows.state[*place.get()] = row.state;
            }
            Entry::Occupied(_) => {}
        }
    }
}
