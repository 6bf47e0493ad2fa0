//! Writes the rows of a view to its table of states, and reads them back.
//!
//! A row is written whole: its group, its generation, its version and its state. The table keeps of each
//! `(dimensions, series, bucket, shard, generation)` the row with the largest version, so writing a row twice is writing
//! it once, and no token is needed.
//!
//! On the wire, and in files of rows set aside: the dimensions, the series, the bucket if the view has one, generation,
//! version, and the columns of the state.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, MapArray, RecordBatch, StringBuilder, TimestampMicrosecondArray,
    UInt32Array, UInt64Array, new_null_array,
};
use arrow::buffer::Buffer;
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType, UInt64Type};
use futures::StreamExt;
use streamgauge_schemas::event::{append_dimensions, dimensions_builder};
use streamgauge_schemas::value::{append_key, key_id, read_keys};
use streamgauge_schemas::{
    Duration, Epoch, EventTime, GroupKey, Key, Layout, Row, Rows, Series, SeriesId, ValueType, View, ViewDefinition,
};

use crate::client::INSERT_ROWS_MAX;
use crate::sql::sql_name;
use crate::{ClickHouse, SinkError};

/// Rows of one Arrow batch on the wire.
const CHUNK_ROWS: usize = 16_384;
/// Buckets that are older than this are no recent ones.
const RECENT: Duration = Duration::from_secs(62 * 86_400);
/// So many maps of one group are looked at for whether they are null or empty.
const EMPTY_MAPS_MAX: usize = 8;

const MAKING: &str = "making a batch of states";

/// The columns that are written, in order.
fn columns(view: &View) -> Vec<String> {
    let definition = &view.definition;
    let mut columns: Vec<String> = definition.dimensions.iter().map(|dimension| dimension.name.clone()).collect();
    columns.push(view.hidden("series"));
    columns.extend(definition.bucket.iter().map(|bucket| bucket.name.clone()));
    columns.extend([view.hidden("generation"), view.hidden("version")]);
    columns.extend(view.state_columns());
    columns
}

/// Writes rows of a view; `keys` must hold every group's dimensions that they name.
///
/// # Errors
/// [`SinkError::Data`] for a row whose dimensions are missing; any error of an insert, after which the rows may be
/// written again.
pub async fn write_states(
    clickhouse: &ClickHouse,
    view: &Arc<View>,
    rows: &Arc<Rows>,
    keys: &Arc<HashMap<SeriesId, Key>>,
) -> Result<(), SinkError> {
    write_range(clickhouse, view, rows, 0..rows.len(), keys).await
}

/// Writes some of the rows, as [`write_states`] does.
pub(crate) async fn write_range(
    clickhouse: &ClickHouse,
    view: &Arc<View>,
    rows: &Arc<Rows>,
    range: Range<usize>,
    keys: &Arc<HashMap<SeriesId, Key>>,
) -> Result<(), SinkError> {
    let (table, columns) = (view.states_table(), columns(view));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    for part in range.clone().step_by(INSERT_ROWS_MAX) {
        let part_end = range.end.min(part + INSERT_ROWS_MAX);
        SinkError::fault("flush.insert")?;
        let mut insert = clickhouse.begin_insert(&table, &columns, None);
        for from in (part..part_end).step_by(CHUNK_ROWS) {
            let to = part_end.min(from + CHUNK_ROWS);
            let (view, rows, keys) = (view.clone(), rows.clone(), keys.clone());
            let made = tokio::task::spawn_blocking(move || make_chunk(&view, &rows, from..to, &keys)).await;
            insert.write(&made.map_err(|e| SinkError::data(MAKING, e))??).await?;
        }
        insert.end().await?;
        SinkError::fault("flush.inserted")?;
    }
    Ok(())
}

/// Makes the Arrow batch of some rows. Dimensions are written once a group's, then spread over the rows.
pub(crate) fn make_chunk(
    view: &View,
    rows: &Rows,
    range: Range<usize>,
    keys: &HashMap<SeriesId, Key>,
) -> Result<RecordBatch, SinkError> {
    let wrong = |e: arrow::error::ArrowError| SinkError::data(MAKING, e);
    let mut places: HashMap<SeriesId, u32> = HashMap::new();
    let (mut index, mut distinct) = (Vec::with_capacity(range.len()), Vec::new());
    for id in &rows.series[range.clone()] {
        let next = places.len() as u32;
        index.push(match places.entry(*id) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(free) => {
                distinct.push(keys.get(id).ok_or_else(|| SinkError::data(MAKING, format!("group {id} is not known")))?);
                *free.insert(next)
            }
        });
    }
    let index = UInt32Array::from(index);
    let mut columns: Vec<ArrayRef> = Vec::new();
    for dimension in dimension_columns(&view.definition, &distinct)? {
        columns.push(take(&dimension, &index, None).map_err(wrong)?);
    }
    let ids: Vec<u8> = rows.series[range.clone()].iter().flat_map(|id| id.as_u128().to_le_bytes()).collect();
    columns.push(Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(ids), None)));
    if view.definition.bucket.is_some() {
        let buckets = rows.bucket[range.clone()].iter().map(|bucket| bucket.0);
        columns.push(Arc::new(TimestampMicrosecondArray::from_iter_values(buckets).with_timezone("UTC")));
    }
    let epochs = |epochs: &[Epoch]| Arc::new(UInt64Array::from_iter_values(epochs.iter().map(|epoch| epoch.0)));
    columns.extend([epochs(&rows.generation[range.clone()]) as ArrayRef, epochs(&rows.version[range.clone()])]);
    columns.extend(view.layout().write(rows.state[range].iter()));

    // One schema for all chunks, whether there are nulls in them or not.
    let nullable = |at: usize| {
        let dimension = view.definition.dimensions.get(at);
        dimension.is_some_and(|dimension| dimension.kind != ValueType::Map && !view.id.is_built_in())
    };
    let fields = self::columns(view).into_iter().zip(&columns).enumerate();
    let fields = fields.map(|(at, (name, column))| Field::new(name, column.data_type().clone(), nullable(at)));
    RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns).map_err(wrong)
}

/// The dimensions of some groups, one column a dimension.
fn dimension_columns(view: &ViewDefinition, keys: &[&Key]) -> Result<Vec<ArrayRef>, SinkError> {
    let wrong = || SinkError::data(MAKING, format!("a group of {} that is named in another way", view.name));
    if view.by_series {
        let (mut names, mut maps) = (StringBuilder::new(), dimensions_builder());
        for key in keys {
            let Key::Series(series) = key else { return Err(wrong()) };
            names.append_value(series.name());
            append_dimensions(&mut maps, series);
        }
        let (names, maps): (ArrayRef, ArrayRef) = (Arc::new(names.finish()), Arc::new(maps.finish()));
        let of = |kind| if kind == ValueType::Map { maps.clone() } else { names.clone() };
        return Ok(view.dimensions.iter().map(|dimension| of(dimension.kind)).collect());
    }
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        let Key::Values(bytes) = key else { return Err(wrong()) };
        values.push(&**bytes);
    }
    let columns = read_keys(values, &view.dimension_kinds()).map_err(|e| SinkError::data(MAKING, e))?;
    Ok(columns.into_iter().map(without_null_maps).collect())
}

/// A column in which a map that is null is an empty one (see [`view_table`](crate::view_table)).
fn without_null_maps(column: ArrayRef) -> ArrayRef {
    let Some(maps) = column.as_map_opt().filter(|maps| maps.null_count() > 0) else { return column };
    let DataType::Map(entries, ordered) = maps.data_type() else { return column };
    let (offsets, values) = (maps.offsets().clone(), maps.entries().clone());
    Arc::new(MapArray::new(entries.clone(), offsets, values, None, *ordered))
}

/// How often the time for which final rows are loaded is halved before none are.
const HALVINGS: u32 = 6;

/// The horizon above which there are no more than about `rows_max` final rows.
pub(crate) async fn recent_horizon(
    clickhouse: &ClickHouse,
    view: &View,
    flushed: Epoch,
    rows_max: usize,
) -> Result<Epoch, SinkError> {
    let of = |halving: u32| view.horizon_keeping(flushed, Duration::from_micros(view.recent().as_micros() >> halving));
    let horizons: Vec<Epoch> = (0..=HALVINGS).map(of).collect();
    let version = sql_name(&view.hidden("version"));
    let counts =
        horizons.iter().map(|horizon| format!("countIf({version} > {horizon})")).collect::<Vec<_>>().join(", ");
    let table = clickhouse.table(&view.states_table());
    let sql = format!("SELECT [{counts}] AS counts FROM {table} WHERE {version} > {}", horizons[0]);
    let batches = clickhouse.query_batches(&sql).await?;
    let counts = batches.first().and_then(|batch| batch.column(0).as_list_opt::<i32>()).map(|counts| counts.value(0));
    let counts = counts.as_ref().and_then(|counts| counts.as_primitive_opt::<UInt64Type>());
    let counts = counts.ok_or_else(|| SinkError::data(&sql, "no list of numbers"))?;
    let fits = counts.values().iter().position(|count| *count as usize <= rows_max);
    Ok(fits.and_then(|at| horizons.get(at).copied()).unwrap_or_else(|| view.horizon(flushed)))
}

/// A time that no row at or below `horizon` has a newer bucket than, the newest one of them if it is recent; `None` when there are
/// no rows at all. All rows at or below must be in ClickHouse.
///
/// # Errors
/// Any error of the query.
pub async fn newest_bucket(
    clickhouse: &ClickHouse,
    view: &View,
    horizon: Epoch,
) -> Result<Option<EventTime>, SinkError> {
    let table = clickhouse.table(&view.states_table());
    let Some(bucket) = &view.definition.bucket else { return Ok(Some(EventTime(i64::MAX))) };
    let (bucket, version) = (sql_name(&bucket.name), sql_name(&view.hidden("version")));
    // Of what is older than this it does not matter how old it is; the index on buckets finds what is not.
    let recent = (horizon.0 as i64).saturating_sub(RECENT.as_micros()).clamp(0, EventTime::LATEST.0);
    let sql = format!(
        "SELECT (SELECT count() FROM {table}) AS rows, toInt64(max(toUnixTimestamp64Micro({bucket}))) AS newest FROM {table} \
         WHERE {bucket} > fromUnixTimestamp64Micro({recent}, 'UTC') AND {version} <= {horizon}"
    );
    let batches = clickhouse.query_batches(&sql).await?;
    let number = |at: usize| {
        let column = batches.first()?.columns().get(at)?;
        cast_with_options(column, &DataType::Int64, &CastOptions::default()).ok()
    };
    let (Some(rows), Some(newest)) = (number(0), number(1)) else { return Err(SinkError::data(&sql, "no numbers")) };
    let value = |column: &ArrayRef| column.as_primitive::<Int64Type>().value(0);
    Ok((value(&rows) > 0).then(|| EventTime(value(&newest).max(recent))))
}

/// Reads the newest row of each group and generation whose version is above `horizon`, with their dimensions.
///
/// No `FINAL` is needed: if any row of a key is above the horizon, the newest is, and the largest version is kept
/// here. So the index on `version` may skip what is old, and a start reads little.
///
/// # Errors
/// Any error of the query; [`SinkError::Data`] when a column has another type than the schema says, or a group's
/// dimensions are not those that its identity was made of.
pub async fn read_states(
    clickhouse: &ClickHouse,
    view: &View,
    horizon: Epoch,
) -> Result<(Rows, HashMap<SeriesId, Key>), SinkError> {
    read_states_and(clickhouse, view, horizon, &[]).await
}

/// Reads rows as [`read_states`] does, together with rows that are set aside.
pub(crate) async fn read_states_and(
    clickhouse: &ClickHouse,
    view: &View,
    horizon: Epoch,
    aside: &[RecordBatch],
) -> Result<(Rows, HashMap<SeriesId, Key>), SinkError> {
    let sql = select(clickhouse, view, horizon);
    let mut newest = Newest::of(view);
    let mut stream = clickhouse.query_arrow(&sql).await?;
    while let Some(batch) = stream.next().await {
        newest.read_answer(&batch?, horizon).map_err(|reason| SinkError::data(&sql, reason))?;
    }
    for batch in aside {
        let wrong = |reason| SinkError::data("reading states that were set aside", reason);
        newest.read_aside(batch, horizon).map_err(wrong)?;
    }
    Ok((newest.rows, newest.keys))
}

/// The query for rows above the horizon: the columns that are written, but the series in two halves. All `String`s come
/// as bytes, since those of states are no texts.
fn select(clickhouse: &ClickHouse, view: &View, horizon: Epoch) -> String {
    let mut columns: Vec<String> = columns(view).iter().map(|column| sql_name(column)).collect();
    let (shard, version) = (sql_name(&view.hidden("shard")), sql_name(&view.hidden("version")));
    let series = &mut columns[view.definition.dimensions.len()];
    *series = format!("toUInt64(bitShiftRight({series}, 64)) AS _high, toUInt64({series}) AS _low");
    format!(
        "SELECT {} FROM {} WHERE {shard} = 0 AND {version} > {horizon} SETTINGS output_format_arrow_string_as_string = 0",
        columns.join(", "),
        clickhouse.table(&view.states_table()),
    )
}

/// The newest row so far of each group and generation.
struct Newest<'a> {
    view: &'a ViewDefinition,
    layout: Layout,
    rows: Rows,
    places: HashMap<(GroupKey, Epoch), usize>,
    keys: HashMap<SeriesId, Key>,
}

impl<'a> Newest<'a> {
    fn of(view: &'a View) -> Self {
        let (view, layout) = (&view.definition, view.layout());
        Newest { view, layout, rows: Rows::default(), places: HashMap::new(), keys: HashMap::new() }
    }

    /// Reads a batch of ClickHouse's answer.
    fn read_answer(&mut self, batch: &RecordBatch, horizon: Epoch) -> Result<(), String> {
        let at = self.view.dimensions.len();
        let (high, low) = (epochs(batch, at)?, epochs(batch, at + 1)?);
        let ids: Vec<SeriesId> = high.iter().zip(low).map(|(high, low)| SeriesId { high: *high, low: *low }).collect();
        self.read(batch, &ids, at + 2, horizon)
    }

    /// Reads a batch of the form that is inserted.
    fn read_aside(&mut self, batch: &RecordBatch, horizon: Epoch) -> Result<(), String> {
        let at = self.view.dimensions.len();
        let ids = batch.columns().get(at).and_then(|column| column.as_fixed_size_binary_opt());
        let id = |bytes: Option<&[u8]>| Some(SeriesId::from_u128(u128::from_le_bytes(bytes?.try_into().ok()?)));
        let ids: Option<Vec<SeriesId>> = ids.and_then(|ids| ids.iter().map(id).collect());
        self.read(batch, &ids.ok_or("no identities of groups")?, at + 1, horizon)
    }

    /// Reads rows above the horizon: the dimensions come first, the identities as given, the rest from column `rest` on.
    fn read(&mut self, batch: &RecordBatch, ids: &[SeriesId], rest: usize, horizon: Epoch) -> Result<(), String> {
        let bucketed = usize::from(self.view.bucket.is_some());
        let states = rest + bucketed + 2;
        if batch.num_columns() != states + self.layout.columns().len() {
            return Err(format!("{} columns of rows of {}", batch.num_columns(), self.view.name));
        }
        let dimensions = self.dimensions(batch)?;
        let buckets = match bucketed {
            0 => None,
            _ => Some(
                batch.column(rest).as_primitive_opt::<TimestampMicrosecondType>().ok_or("a bucket of another type")?,
            ),
        };
        let (generations, versions) = (epochs(batch, rest + bucketed)?, epochs(batch, rest + bucketed + 1)?);
        let read = self.layout.read(&batch.columns()[states..]).map_err(|e| e.to_string())?;
        for (at, state) in read.into_iter().enumerate().filter(|(at, _)| versions[*at] > horizon.0) {
            let id = ids[at];
            if !self.keys.contains_key(&id) {
                self.keys.insert(id, self.key(&dimensions, at, id)?);
            }
            let bucket = buckets.map_or(GroupKey::NO_BUCKET, |buckets| EventTime(buckets.value(at)));
            let row = Row { generation: Epoch(generations[at]), version: Epoch(versions[at]), state };
            self.keep(GroupKey { series: id, bucket }, row);
        }
        Ok(())
    }

    /// The columns of the dimensions, with texts where they came as bytes.
    fn dimensions(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, String> {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let column = |(at, kind): (usize, ValueType)| {
            cast_with_options(batch.column(at), &kind.arrow(), &options).map_err(|e| e.to_string())
        };
        self.view.dimension_kinds().into_iter().enumerate().map(column).collect()
    }

    /// The dimensions of the group in a row.
    fn key(&self, dimensions: &[ArrayRef], row: usize, id: SeriesId) -> Result<Key, String> {
        if self.view.by_series {
            let of = |map| {
                let mut found = self.view.dimensions.iter().zip(dimensions);
                found.find(|(dimension, _)| (dimension.kind == ValueType::Map) == map).map(|(_, column)| column)
            };
            let (names, maps) = of(false).zip(of(true)).ok_or("a series has a name and dimensions")?;
            let entries = maps.as_map().value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
            let pairs = (0..entries.len()).map(|entry| (keys.value(entry), values.value(entry)));
            return Ok(Key::Series(Arc::new(Series::new(names.as_string::<i32>().value(row), pairs))));
        }
        let kinds = self.view.dimension_kinds();
        let is_empty_map = |at: &usize| kinds[*at] == ValueType::Map && dimensions[*at].as_map().value_length(row) == 0;
        let maps: Vec<usize> = (0..kinds.len()).filter(is_empty_map).take(EMPTY_MAPS_MAX).collect();
        for nulls in 0..1_usize << maps.len() {
            let is_null = |at: usize| maps.iter().position(|map| *map == at).is_some_and(|bit| nulls >> bit & 1 == 1);
            let mut bytes = Vec::new();
            for (at, (column, kind)) in dimensions.iter().zip(&kinds).enumerate() {
                match is_null(at) {
                    true => append_key(&mut bytes, &new_null_array(&kind.arrow(), 1), *kind, 0),
                    false => append_key(&mut bytes, column, *kind, row),
                }
            }
            if key_id(&bytes) == id {
                return Ok(Key::Values(bytes.into()));
            }
        }
        Err(format!("the dimensions of group {id} of {} are not those that its identity was made of", self.view.name))
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

/// A column of numbers.
fn epochs(batch: &RecordBatch, at: usize) -> Result<&[u64], String> {
    let column = batch.columns().get(at).and_then(|column| column.as_primitive_opt::<UInt64Type>());
    column.map(|column| &column.values()[..]).ok_or_else(|| format!("column {at} is not of type UInt64"))
}
