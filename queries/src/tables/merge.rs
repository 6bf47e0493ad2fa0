//! Joins the pieces of a group: each group of history takes in what memory has of it; then the rest of memory follows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Float64Type, SchemaRef, TimestampMicrosecondType, UInt64Type};
use datafusion::error::Result;
use hashbrown::HashMap;
use streamgauge_engine::snapshot::ViewSnapshot;
use streamgauge_schemas::event::{append_dimensions, dimensions_builder};
use streamgauge_schemas::{EventTime, GroupKey, Key, Series, SeriesId, Summary};

use crate::groups::{series_ids, unexpected};
use crate::history::conform_column;

/// Rows of a batch that memory makes.
const BATCH_ROWS: usize = 8_192;

/// A column of a rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ViewColumn {
    Bucket,
    Name,
    Dimensions,
    Count,
    Sum,
    Min,
    Max,
    Avg,
}

impl ViewColumn {
    /// In the order of the table.
    pub(super) const ALL: [ViewColumn; 8] = [
        ViewColumn::Bucket,
        ViewColumn::Name,
        ViewColumn::Dimensions,
        ViewColumn::Count,
        ViewColumn::Sum,
        ViewColumn::Min,
        ViewColumn::Max,
        ViewColumn::Avg,
    ];
}

/// What to select from the states `s` to fill `columns`; `partners` when memory has rows to find the groups of.
pub(super) fn history_columns(columns: &[ViewColumn], partners: bool) -> String {
    use ViewColumn::{Avg, Count, Dimensions, Max, Min, Name, Sum};
    let any = |wanted: &[ViewColumn]| columns.iter().any(|column| wanted.contains(column));
    let mut selected = vec!["s.bucket AS g_bucket"];
    let mut select = |wanted: bool, sql| {
        if wanted {
            selected.push(sql);
        }
    };
    select(any(&[Name]), "s.name AS g_name");
    select(any(&[Dimensions]), "any(s.dimensions) AS g_dimensions");
    select(partners, "s.series AS g_series");
    select(any(&[Count, Avg]), "sum(s.count) AS g_count");
    select(any(&[Sum, Avg]), "sum(s.sum) AS g_sum");
    select(any(&[Min]), "min(s.min) AS g_min");
    select(any(&[Max]), "max(s.max) AS g_max");
    selected.join(", ")
}

/// The groups of memory that history has not brought yet.
pub(super) struct MemoryGroups {
    snapshot: Arc<ViewSnapshot>,
    groups: HashMap<GroupKey, Summary>,
    /// Those left when history has ended.
    rest: Vec<(GroupKey, Summary)>,
    columns: Vec<ViewColumn>,
    schema: SchemaRef,
}

impl MemoryGroups {
    /// Merges the generations that memory holds of each group.
    pub(super) fn new(snapshot: Arc<ViewSnapshot>, columns: Vec<ViewColumn>, schema: SchemaRef) -> Self {
        let mut groups: HashMap<GroupKey, Summary> = HashMap::with_capacity(snapshot.rows.len());
        for (index, state) in snapshot.rows.state.iter().enumerate() {
            groups.entry(snapshot.rows.key(index)).or_default().merge(&Summary::of_rollup(state));
        }
        MemoryGroups { snapshot, groups, rest: Vec::new(), columns, schema }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The groups of a batch of history, each with what memory has of it.
    pub(super) fn merge(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let history = HistoryGroups::of(batch)?;
        let mut states = history.states();
        if let (Some(series), false) = (&history.series, self.groups.is_empty()) {
            for (index, state) in states.iter_mut().enumerate() {
                let bucket = EventTime(history.bucket.value(index));
                if let Some(partner) = self.groups.remove(&GroupKey { series: series(index), bucket }) {
                    state.merge(&partner);
                }
            }
        }
        self.batch(&states, |column| match column {
            ViewColumn::Bucket => conform_column(&batch.columns()[0], self.field_type(column)),
            ViewColumn::Name => conform_column(named(batch, "g_name")?, self.field_type(column)),
            _ => conform_column(named(batch, "g_dimensions")?, self.field_type(column)),
        })
    }

    /// The next groups that only memory has, or `None` when there are no more.
    pub(super) fn rest(&mut self) -> Option<Result<RecordBatch>> {
        self.rest.extend(self.groups.drain());
        if self.rest.is_empty() {
            return None;
        }
        let (keys, states): (Vec<GroupKey>, Vec<Summary>) =
            self.rest.split_off(self.rest.len().saturating_sub(BATCH_ROWS)).into_iter().unzip();
        let series = |key: &GroupKey| -> &Series {
            match &self.snapshot.keys[&key.series] {
                Key::Series(series) => series,
                Key::Values(_) => unreachable!("the groups of a rollup by series are series"),
            }
        };
        Some(self.batch(&states, |column| {
            Ok(match column {
                ViewColumn::Bucket => {
                    let buckets = TimestampMicrosecondArray::from_iter_values(keys.iter().map(|key| key.bucket.0));
                    Arc::new(buckets.with_timezone("UTC")) as ArrayRef
                }
                ViewColumn::Name => {
                    let mut names = StringBuilder::new();
                    keys.iter().for_each(|key| names.append_value(series(key).name()));
                    Arc::new(names.finish())
                }
                _ => {
                    let mut dimensions = dimensions_builder();
                    keys.iter().for_each(|key| append_dimensions(&mut dimensions, series(key)));
                    Arc::new(dimensions.finish())
                }
            })
        }))
    }

    fn field_type(&self, column: ViewColumn) -> &DataType {
        let place =
            self.columns.iter().position(|other| *other == column).expect("only columns of the schema are made");
        self.schema.field(place).data_type()
    }

    /// A batch of the table's columns: aggregates from `states`, and what names a group from `key_column`.
    fn batch(
        &self,
        states: &[Summary],
        key_column: impl Fn(ViewColumn) -> Result<ArrayRef, arrow::error::ArrowError>,
    ) -> Result<RecordBatch> {
        let floats =
            |of: fn(&Summary) -> f64| Arc::new(Float64Array::from_iter_values(states.iter().map(of))) as ArrayRef;
        let columns = self.columns.iter().map(|column| match column {
            ViewColumn::Count => {
                Ok(Arc::new(Int64Array::from_iter_values(states.iter().map(|state| state.count as i64))) as _)
            }
            ViewColumn::Sum => Ok(floats(|state| state.sum)),
            ViewColumn::Min => Ok(floats(|state| state.min)),
            ViewColumn::Max => Ok(floats(|state| state.max)),
            ViewColumn::Avg => Ok(floats(|state| state.sum / state.count as f64)),
            key => key_column(*key),
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(states.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// The columns of a batch of history, as far as they were selected.
struct HistoryGroups<'a> {
    bucket: arrow::array::PrimitiveArray<TimestampMicrosecondType>,
    series: Option<Box<dyn Fn(usize) -> SeriesId + 'a>>,
    count: Option<&'a arrow::array::UInt64Array>,
    sum: Option<&'a Float64Array>,
    min: Option<&'a Float64Array>,
    max: Option<&'a Float64Array>,
}

impl<'a> HistoryGroups<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        let bucket = named(batch, "g_bucket")?.as_primitive_opt::<TimestampMicrosecondType>();
        let floats =
            |name: &str| batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Float64Type>());
        Ok(HistoryGroups {
            bucket: bucket.ok_or_else(|| unexpected("g_bucket", batch))?.clone(),
            series: match batch.column_by_name("g_series") {
                Some(column) => Some(series_ids(column).ok_or_else(|| unexpected("g_series", batch))?),
                None => None,
            },
            count: batch.column_by_name("g_count").and_then(|column| column.as_primitive_opt::<UInt64Type>()),
            sum: floats("g_sum"),
            min: floats("g_min"),
            max: floats("g_max"),
        })
    }

    /// The states; what was not selected is as in [`Summary::EMPTY`].
    fn states(&self) -> Vec<Summary> {
        let state = |index: usize| Summary {
            count: self.count.map_or(Summary::EMPTY.count, |count| count.value(index)),
            sum: self.sum.map_or(Summary::EMPTY.sum, |sum| sum.value(index)),
            min: self.min.map_or(Summary::EMPTY.min, |min| min.value(index)),
            max: self.max.map_or(Summary::EMPTY.max, |max| max.value(index)),
        };
        (0..self.bucket.len()).map(state).collect()
    }
}

fn named<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, arrow::error::ArrowError> {
    let missing = || arrow::error::ArrowError::SchemaError(format!("ClickHouse answered without {name}"));
    batch.column_by_name(name).ok_or_else(missing)
}
