//! The groups of a view: out of ClickHouse and out of memory, and finished into the columns that the select list is over.
//!
//! ```text
//!  ClickHouse: dimensions…, series, bucket?, states… ─▶ keys, states ─┐
//!  memory:     identity, key, state                  ─▶ dimensions   ─┴▶ (merged by the caller) ─▶ finish ─▶ Reading
//! ```
//!
//! Tables and followers of views share this; how much is held, and in which order, is theirs. States are merged by the
//! code that merges them in the engine, so every fold means the same on both sides.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::PhysicalExpr;
use streamgauge_engine::{Engine, KeyFilter, RowFilter};
use streamgauge_schemas::event::{append_dimensions, dimensions_builder};
use streamgauge_schemas::state::Output;
use streamgauge_schemas::state::columns::{CellKind, StateColumn};
use streamgauge_schemas::time::to_rfc3339;
use streamgauge_schemas::value::{append_key, key_id, read_keys};
use streamgauge_schemas::{Epoch, EventTime, GroupKey, Key, Layout, Series, SeriesId, State, ValueType, View};

use crate::clickhouse::{self, Bounds};
use crate::history::conform_column;
use crate::identities;
use crate::predicate::{Comparison, Operand, Predicate, Value, bucket_range, series_filter};
use crate::views::Reading;

/// So many groups are asked for by their identities at most.
const IDENTITIES_MAX: usize = 1_000;

/// What a column of a view is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shown<'a> {
    /// A dimension or the bucket, by the name of ClickHouse's column.
    Name(&'a str),
    /// A result as it is.
    Result(&'a Output),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct GroupReader {
    pub(crate) view: Arc<View>,
    /// The columns that are wanted, over dimensions, bucket, results and states.
    pub(crate) reading: Arc<Reading>,
    /// How the folds that are read lie in a state.
    pub(crate) layout: Layout,
    kinds: Vec<ValueType>,
    /// The places of the dimensions that are wanted, in order, and whether the bucket is.
    dimensions: Vec<usize>,
    bucket: bool,
    /// How all folds lie, and the places of those that are read, in order.
    whole: Layout,
    folds: Vec<usize>,
    /// The results that are wanted, of `layout`.
    outputs: Vec<Output>,
    /// The columns of states that are wanted, of `layout`.
    states: Vec<StateColumn>,
}

impl GroupReader {
    /// One of all columns of a view.
    pub(crate) fn new(view: Arc<View>, reading: Arc<Reading>) -> Self {
        let (layout, kinds) = (view.layout(), view.definition.dimension_kinds());
        let (outputs, folds) = (view.definition.outputs.clone(), (0..layout.folds().len()).collect());
        let (dimensions, bucket) = ((0..kinds.len()).collect(), view.definition.bucket.is_some());
        let (whole, states) = (layout.clone(), Vec::new());
        GroupReader { view, reading, layout, kinds, dimensions, bucket, whole, folds, outputs, states }
    }

    /// One of some columns of a table that has those of the view and then `states`, with their schema; it reads the dimensions
    /// and folds that these and `HAVING` are made of.
    pub(crate) fn narrowed(&self, columns: &[usize], states: &[StateColumn], schema: &SchemaRef) -> Result<Self> {
        let (definition, whole) = (&self.view.definition, self.view.layout());
        let listed = self.reading.columns.len();
        let (visible, shown): (Vec<usize>, Vec<usize>) = columns.iter().partition(|column| **column < listed);
        let (part, kept) = self.reading.part(&visible)?;
        let dimensions: Vec<usize> = kept.iter().copied().filter(|place| *place < self.kinds.len()).collect();
        let bucket = self.has_bucket() && kept.contains(&self.kinds.len());
        let results = kept.iter().filter_map(|place| place.checked_sub(self.named()));
        let results: Vec<usize> = results.collect();
        let shown: Vec<StateColumn> = shown.iter().map(|column| states[column - listed]).collect();
        let outputs = || results.iter().map(|result| &definition.outputs[*result]);
        let used = outputs().flat_map(|output| output.finish.folds()).chain(shown.iter().map(|state| state.fold));
        let mut folds: Vec<usize> = used.collect();
        folds.sort_unstable();
        folds.dedup();
        let place = |fold: usize| folds.iter().position(|other| *other == fold).expect("what is used is kept");
        let states = shown.iter().map(|state| StateColumn { fold: place(state.fold), ..*state }).collect();
        let outputs = outputs().map(|output| output.among(&folds)).collect();
        let mut base: Vec<Arc<Field>> = part.base.fields().iter().cloned().collect();
        let mut of_view = part.columns.into_iter();
        let column = |(column, field): (&usize, &Arc<Field>)| {
            if *column < listed {
                return of_view.next().expect("the part has those of the view");
            }
            base.push(field.clone());
            (Arc::new(Column::new(field.name(), base.len() - 1)) as Arc<dyn PhysicalExpr>, field.name().clone())
        };
        let columns = columns.iter().zip(schema.fields()).map(column).collect();
        let base = Arc::new(Schema::new(base));
        let reading = Arc::new(Reading { base, columns, schema: schema.clone(), ..part });
        let (view, kinds) = (self.view.clone(), self.kinds.clone());
        let layout = whole.of(&folds);
        Ok(GroupReader { view, reading, layout, kinds, dimensions, bucket, whole, folds, outputs, states })
    }

    /// The folds of a whole state that are read.
    pub(crate) fn wanted(&self, state: &State) -> State {
        match self.folds.len() == self.whole.folds().len() {
            true => state.clone(),
            false => self.whole.pick(&self.folds, state),
        }
    }

    /// How many columns of the base name a group: the dimensions and the bucket, as far as they are wanted.
    pub(crate) fn named(&self) -> usize {
        self.dimensions.len() + usize::from(self.bucket)
    }

    pub(crate) fn has_bucket(&self) -> bool {
        self.view.definition.bucket.is_some()
    }

    /// What a column of the view is, of a reader of all columns; `None` when it is an expression.
    pub(crate) fn shown(&self, column: usize) -> Option<Shown<'_>> {
        let definition = &self.view.definition;
        let place = self.reading.columns.get(column)?.0.downcast_ref::<Column>()?.index();
        if let Some(dimension) = definition.dimensions.get(place) {
            return Some(Shown::Name(&dimension.name));
        }
        match &definition.bucket {
            Some(bucket) if place == self.kinds.len() => Some(Shown::Name(&bucket.name)),
            bucket => {
                let named = self.kinds.len() + usize::from(bucket.is_some());
                definition.outputs.get(place.checked_sub(named)?).map(Shown::Result)
            }
        }
    }

    /// A filter on what names a group, with the names of ClickHouse's columns; `None` when it is on anything else.
    pub(crate) fn stored(&self, predicate: &Predicate) -> Option<Predicate> {
        let definition = &self.view.definition;
        if predicate.has_entries() && !definition.by_series {
            return None;
        }
        let stored = predicate.renamed(&|name| match self.shown(self.reading.schema.index_of(name).ok()?)? {
            Shown::Name(stored) => Some(stored.to_owned()),
            Shown::Result(_) => None,
        })?;
        let bucket = definition.bucket.as_ref().and_then(|bucket| Some((&bucket.name, bucket.width?)));
        Some(match bucket {
            Some((name, width)) => stored.aligned(name, width),
            None => stored,
        })
    }

    /// Whether a filter is such that exactly the groups that meet it are read, from ClickHouse and from memory: what a view by series has
    /// as a name or an entry of its dimensions, and ranges of buckets.
    pub(crate) fn is_exact(&self, predicate: &Predicate) -> bool {
        let definition = &self.view.definition;
        let series = match &definition.dimensions[..] {
            [name, dimensions] if definition.by_series => Some((&name.name, &dimensions.name)),
            _ => None,
        };
        match self.stored(predicate) {
            Some(Predicate::Compare(Operand::Column(column), comparison, Value::Time(_))) => {
                let is_bucket = definition.bucket.as_ref().is_some_and(|bucket| bucket.name == column);
                is_bucket && comparison != Comparison::NotEqual
            }
            Some(Predicate::Compare(Operand::Column(column), Comparison::Equal, Value::Text(_))) => {
                series.is_some_and(|(name, _)| *name == column)
            }
            Some(Predicate::Compare(Operand::Entry { map, .. }, Comparison::Equal, Value::Text(_))) => {
                series.is_some_and(|(_, dimensions)| *dimensions == map)
            }
            _ => false,
        }
    }

    /// What of a conjunction of `stored` filters memory can be asked: a range of buckets; of a view by series those that
    /// pass; of any other groups by their identity when every dimension is one of a few values. What is exact
    /// ([`is_exact`](Self::is_exact)) nobody tests again: here no row too many may come of it.
    pub(crate) fn row_filter(&self, stored: &[Predicate]) -> RowFilter {
        let mut filter = RowFilter::default();
        let definition = &self.view.definition;
        if let Some(bucket) = &definition.bucket {
            bucket_range(stored, &bucket.name, &mut filter);
        }
        filter.keys = match &definition.dimensions[..] {
            [name, dimensions] if definition.by_series => series_filter(stored, &name.name, &dimensions.name),
            _ => self.identities(stored).map_or(KeyFilter::All, |ids| KeyFilter::Only(ids.into())),
        };
        filter
    }

    /// The condition on `s` of the series that memory is asked for with `keys`, if it knows them all and they are few.
    pub(crate) fn of_series(&self, engine: &Engine, keys: &KeyFilter) -> String {
        match self.view.definition.by_series {
            true => {
                identities::condition(engine, keys, &format!("s.{}", clickhouse::name(&self.view.hidden("series"))))
            }
            false => String::new(),
        }
    }

    /// What [`row_filter`](Self::row_filter) asks of memory, for people.
    pub(crate) fn memory_words(&self, stored: &[Predicate]) -> String {
        let (definition, filter) = (&self.view.definition, self.row_filter(stored));
        let is_of_groups = |predicate: &&Predicate| match &definition.dimensions[..] {
            [name, dimensions] if definition.by_series => predicate.only(&[&name.name, &dimensions.name]),
            all => {
                let is_of = |dimension: &str| predicate.values_of(dimension).is_some();
                matches!(filter.keys, KeyFilter::Only(_)) && all.iter().any(|dimension| is_of(&dimension.name))
            }
        };
        let mut words: Vec<String> = stored.iter().filter(is_of_groups).map(Predicate::words).collect();
        if let Some(bucket) = &definition.bucket {
            let bounds = [(">=", filter.lower), ("<", filter.upper)].into_iter();
            let bounds = bounds.filter_map(|(sign, bound)| Some((sign, to_rfc3339(bound?))));
            words.extend(bounds.map(|(sign, bound)| format!("{} {sign} '{bound}'", bucket.name)));
        }
        match words.is_empty() {
            true => definition.name.clone(),
            false => format!("{} where {}", definition.name, words.join(" AND ")),
        }
    }

    fn identities(&self, stored: &[Predicate]) -> Option<Vec<SeriesId>> {
        if self.kinds.is_empty() {
            return None;
        }
        let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
        for dimension in &self.view.definition.dimensions {
            let values = stored.iter().find_map(|predicate| predicate.values_of(&dimension.name))?;
            let columns = values.iter().map(|value| value.column(dimension.kind)).collect::<Option<Vec<ArrayRef>>>()?;
            if keys.len() * columns.len() > IDENTITIES_MAX {
                return None;
            }
            let with = |key: &Vec<u8>| -> Vec<Vec<u8>> {
                let appended = columns.iter().map(|column| {
                    let mut key = key.clone();
                    append_key(&mut key, column, dimension.kind, 0);
                    key
                });
                appended.collect()
            };
            keys = keys.iter().flat_map(with).collect();
        }
        Some(keys.iter().map(|key| key_id(key)).collect())
    }

    /// Whether ClickHouse has anything at or below the horizon: a view without a back-fill has nothing there until its
    /// horizon moves beyond its creation.
    pub(crate) fn has_history(&self, horizon: Epoch) -> bool {
        horizon > Epoch::ZERO && (horizon != self.view.id.created() || self.view.definition.options.backfill)
    }

    /// Rows of `table` as of `horizon`, ordered by group; `conjuncts` are on the columns of `s`; `all`: of which no first few
    /// may be enough.
    pub(crate) fn history_sql(
        &self,
        table: &str,
        conjuncts: &str,
        horizon: Epoch,
        bounds: Bounds,
        all: bool,
    ) -> String {
        let small = self.layout.columns().iter().all(|column| column.kind != CellKind::Bytes);
        format!(
            "{} {}{}{}{}",
            self.history_select(table, conjuncts, horizon),
            clickhouse::settings(bounds),
            clickhouse::FINAL_SETTINGS,
            if all && small { clickhouse::SORT_SETTINGS } else { "" },
            clickhouse::BYTES_SETTINGS
        )
    }

    /// The same without settings.
    pub(crate) fn history_select(&self, table: &str, conjuncts: &str, horizon: impl fmt::Display) -> String {
        let definition = &self.view.definition;
        let column = |name: &str| format!("s.{}", clickhouse::name(name));
        let series = column(&self.view.hidden("series"));
        let bucket = definition.bucket.as_ref().map(|bucket| column(&bucket.name));
        let dimensions = definition.dimensions.iter();
        let wanted = self.dimensions.iter().map(|place| &definition.dimensions[*place]);
        let mut selected: Vec<String> = wanted.map(|dimension| column(&dimension.name)).collect();
        selected.push(series.clone());
        selected.extend(bucket.clone());
        let states = self.view.state_columns().into_iter().zip(self.whole.columns());
        selected.extend(states.filter(|(_, of)| self.folds.contains(&of.fold)).map(|(name, _)| column(&name)));
        let sortable = dimensions.filter(|dimension| dimension.kind != ValueType::Map);
        let mut order: Vec<String> = sortable.map(|dimension| column(&dimension.name)).collect();
        order.push(series);
        order.extend(bucket);
        order.push(column(&self.view.hidden("generation"))); // the order in which they merge
        let from = self.history_from(table, conjuncts, horizon);
        format!("SELECT {} {from} ORDER BY {}", selected.join(", "), order.join(", "))
    }

    /// What rows of history are selected from. The filter on the version comes after `FINAL`; `identity` keeps it from the index.
    pub(crate) fn history_from(&self, table: &str, conjuncts: &str, horizon: impl fmt::Display) -> String {
        let version = clickhouse::name(&self.view.hidden("version"));
        format!("FROM {table} AS s FINAL WHERE identity(s.{version}) <= {horizon}{conjuncts}")
    }

    /// The groups of rows of history.
    pub(crate) fn history_keys(&self, batch: &RecordBatch) -> Result<Vec<GroupKey>> {
        let at = self.dimensions.len();
        let series = series_ids(batch.column(at)).ok_or_else(|| unexpected("the series", batch))?;
        if !self.has_bucket() {
            let key = |row| GroupKey { series: series(row), bucket: GroupKey::NO_BUCKET };
            return Ok((0..batch.num_rows()).map(key).collect());
        }
        let buckets = batch.column(at + 1).as_primitive_opt::<TimestampMicrosecondType>();
        let buckets = buckets.ok_or_else(|| unexpected("the bucket", batch))?;
        let key = |row| GroupKey { series: series(row), bucket: EventTime(buckets.value(row)) };
        Ok((0..batch.num_rows()).map(key).collect())
    }

    /// The wanted dimension values of rows of history, one column a dimension.
    pub(crate) fn history_dimensions(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let columns = batch.columns().iter().zip(&self.dimensions);
        let columns = columns.map(|(column, place)| conform_column(column, &self.kinds[*place].arrow()));
        Ok(columns.collect::<Result<_, _>>()?)
    }

    /// The states of rows of history.
    pub(crate) fn history_states(&self, batch: &RecordBatch) -> Result<Vec<State>> {
        let at = self.dimensions.len() + 1 + usize::from(self.has_bucket());
        let columns = batch.columns()[at..].iter();
        let columns = columns.zip(self.layout.columns()).map(|(column, of)| conform_column(column, &of.kind.arrow()));
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
        if columns.is_empty() {
            return Ok(vec![State::empty(); batch.num_rows()]); // no fold is wanted
        }
        self.layout.read(&columns).map_err(|error| DataFusionError::External(Box::new(error)))
    }

    /// The wanted dimension values of keys, one column a dimension.
    pub(crate) fn dimensions<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Result<Vec<ArrayRef>> {
        if self.dimensions.is_empty() {
            return Ok(Vec::new());
        }
        let other = || DataFusionError::Internal("a key is of another kind than its view's".into());
        if self.view.definition.by_series {
            let (mut names, mut dimensions) = (StringBuilder::new(), dimensions_builder());
            let [of_names, of_dimensions] = [0, 1].map(|place| self.dimensions.contains(&place));
            for key in keys {
                let Key::Series(series) = key else { return Err(other()) };
                of_names.then(|| names.append_value(series.name()));
                of_dimensions.then(|| append_dimensions(&mut dimensions, series));
            }
            let names = of_names.then(|| Arc::new(names.finish()) as ArrayRef);
            let dimensions = of_dimensions.then(|| Arc::new(dimensions.finish()) as ArrayRef);
            return Ok(names.into_iter().chain(dimensions).collect());
        }
        let bytes = keys.map(|key| match key {
            Key::Values(bytes) => Ok(&bytes[..]),
            Key::Series(_) => Err(other()),
        });
        let bytes = bytes.collect::<Result<Vec<&[u8]>>>()?;
        let all = read_keys(bytes, &self.kinds).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(self.dimensions.iter().map(|place| all[*place].clone()).collect())
    }

    /// The key of a row of dimension values; the inverse of `dimensions`.
    pub(crate) fn key(&self, dimensions: &[ArrayRef], row: usize) -> Key {
        if !self.view.definition.by_series {
            let mut bytes = Vec::new();
            dimensions.iter().zip(&self.kinds).for_each(|(column, kind)| append_key(&mut bytes, column, *kind, row));
            return Key::Values(bytes.into());
        }
        let pairs = dimensions[1].as_map().value(row);
        let (names, values) = (pairs.column(0).as_string::<i32>(), pairs.column(1).as_string::<i32>());
        let pairs = (0..pairs.len()).map(|pair| (names.value(pair), values.value(pair)));
        Key::Series(Arc::new(Series::new(dimensions[0].as_string::<i32>().value(row), pairs)))
    }

    /// The columns of the base that name groups, of these groups; `schema` is that part of the base.
    pub(crate) fn names(
        &self,
        schema: SchemaRef,
        dimensions: Vec<ArrayRef>,
        groups: &[GroupKey],
    ) -> Result<RecordBatch> {
        let mut columns = dimensions;
        columns.extend(self.bucket.then(|| buckets(groups)));
        batch(schema, columns, groups.len())
    }

    /// A batch of the columns that the select list is over.
    pub(crate) fn finish<'a>(
        &self,
        dimensions: Vec<ArrayRef>,
        groups: &[GroupKey],
        states: impl Iterator<Item = &'a State> + Clone,
    ) -> Result<RecordBatch> {
        let mut columns = dimensions;
        columns.extend(self.bucket.then(|| buckets(groups)));
        columns.extend(self.outputs.iter().map(|output| self.layout.finish(output, states.clone())));
        let state = |state: &StateColumn| self.layout.write_some(|column| column == state, states.clone());
        columns.extend(self.states.iter().flat_map(state));
        batch(self.reading.base.clone(), columns, groups.len())
    }
}

fn buckets(groups: &[GroupKey]) -> ArrayRef {
    let buckets = TimestampMicrosecondArray::from_iter_values(groups.iter().map(|group| group.bucket.0));
    Arc::new(buckets.with_timezone("UTC"))
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// `UInt128` as sixteen bytes, lowest first.
pub(crate) fn series_ids(column: &ArrayRef) -> Option<Box<dyn Fn(usize) -> SeriesId + '_>> {
    let bytes = column.as_fixed_size_binary_opt().filter(|bytes| bytes.value_length() == 16)?;
    Some(Box::new(move |index| {
        let bytes: [u8; 16] = bytes.value(index).try_into().expect("the width was looked at");
        SeriesId::from_u128(u128::from_le_bytes(bytes))
    }))
}

/// The error of a column that ClickHouse answered in another type than it was asked for.
pub(crate) fn unexpected(name: &str, batch: &RecordBatch) -> DataFusionError {
    let found: Vec<&DataType> = batch.schema_ref().fields().iter().map(|field| field.data_type()).collect();
    DataFusionError::Internal(format!("ClickHouse answered {name} in another type: {found:?}"))
}
