//! A view of the user's own as a table: its groups, whole, whatever part of each is in memory and in ClickHouse, and then
//! `HAVING` and the select list.
//!
//! ```text
//!  ClickHouse: rows at or below the horizon, ordered by group ─▶ merge neighbours ─┐
//!                                                  take in what memory has of each ─┴▶ finish ─▶ having, select list
//!                                                  then the groups that only memory has ─▶
//! ```
//!
//! States are merged here, by the code that merges them in the engine, so every fold means the same on both sides. Only
//! those folds are read that `HAVING` and the columns that are asked for are made of: sketches are large.
//!
//! For [`combine`](crate::combine) a table shows states themselves, as columns after those of the view.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampMicrosecondType};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use streamgauge_engine::snapshot::ViewSnapshot;
use streamgauge_engine::{RowFilter, ViewRead};
use streamgauge_schemas::state::Output;
use streamgauge_schemas::state::columns::StateColumn;
use streamgauge_schemas::value::read_keys;
use streamgauge_schemas::{Epoch, EventTime, GroupKey, Key, Layout, State, ValueType, View};

use super::merge::{series_ids, unexpected};
use super::{Statement, predicates, pushdown, write_conjuncts};
use crate::capture::ViewPlace;
use crate::clickhouse;
use crate::history::{self, conform_column};
use crate::predicate::{Predicate, bucket_range};
use crate::views::Reading;

/// About how many bytes of memory a captured row takes while it is merged, besides what its state holds.
const GROUP_BYTES: usize = 224;
/// Groups of a batch that memory makes.
const BATCH_GROUPS: usize = 8_192;
/// After so many bytes that the states of captured rows hold, their memory is asked for.
const RESERVED_AT_ONCE: usize = 1 << 20;

/// A view of the user's own as a table of one statement.
#[derive(Debug)]
pub(super) struct GroupsTable {
    statement: Statement,
    view: Arc<View>,
    reading: Arc<Reading>,
    /// Per column of the view the column of ClickHouse's table that it is, if it is one as it stands.
    plain: Vec<Option<String>>,
    /// The columns of states that are shown after those of the view.
    states: Vec<StateColumn>,
    /// All of these columns.
    schema: SchemaRef,
}

impl GroupsTable {
    pub(super) fn new(statement: Statement, view: Arc<View>, reading: Arc<Reading>) -> Self {
        let definition = &view.definition;
        let mut stored: Vec<Option<&str>> =
            definition.dimensions.iter().map(|dimension| Some(dimension.name.as_str())).collect();
        stored.extend(definition.bucket.iter().map(|bucket| Some(bucket.name.as_str())));
        let plain = |(expr, _): &(Arc<dyn PhysicalExpr>, String)| {
            let column = expr.downcast_ref::<Column>()?;
            stored.get(column.index()).copied().flatten().map(str::to_owned)
        };
        let plain = reading.columns.iter().map(plain).collect();
        let schema = reading.schema.clone();
        GroupsTable { statement, view, reading, plain, states: Vec::new(), schema }
    }

    pub(super) fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub(super) fn reading(&self) -> &Arc<Reading> {
        &self.reading
    }

    /// The same table with the states of some folds after its columns, by the names that `name` gives them.
    pub(super) fn showing(&self, folds: &[usize], name: impl Fn(&StateColumn) -> String) -> Self {
        let mut states = self.view.layout().columns();
        states.retain(|state| folds.contains(&state.fold));
        let shown = states.iter().map(|state| Arc::new(Field::new(name(state), state.kind.arrow(), false)));
        let fields: Vec<Arc<Field>> = self.reading.schema.fields().iter().cloned().chain(shown).collect();
        GroupsTable {
            statement: self.statement.clone(),
            view: self.view.clone(),
            reading: self.reading.clone(),
            plain: self.plain.clone(),
            states,
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// A filter on what names a group, with the names of ClickHouse's columns.
    fn stored(&self, predicate: &Predicate) -> Option<Predicate> {
        predicate.renamed(&|name| {
            let place = self.reading.schema.index_of(name).ok()?;
            self.plain[place].clone()
        })
    }
}

#[async_trait]
impl TableProvider for GroupsTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(pushdown(filters, &self.reading.schema, |predicate| self.stored(predicate).is_some()))
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema: SchemaRef = Arc::new(self.schema.project(&columns)?);
        let usable = predicates(filters, &self.reading.schema, |predicate| self.stored(predicate).is_some());
        let stored: Vec<Predicate> = usable.iter().filter_map(|predicate| self.stored(predicate)).collect();
        let bucket = self.view.definition.bucket.as_ref().map(|bucket| bucket.name.as_str());
        let mut filter = RowFilter::default();
        if let Some(bucket) = bucket {
            bucket_range(&stored, bucket, &mut filter);
        }
        let mut conjuncts = String::new();
        write_conjuncts(&stored, "s", &mut conjuncts);
        let groups = Groups {
            place: self.statement.capture.want_view(ViewRead { view: self.view.id, filter, follow: None }),
            table: clickhouse::table(self.statement.history.as_ref(), &self.view.states_table()),
            statement: self.statement.clone(),
            view: self.view.clone(),
            wanted: Arc::new(Wanted::new(self, &columns, &schema)?),
            conjuncts,
            schema: schema.clone(),
        };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(groups)], None, [], false, limit)?))
    }
}

/// What is read of a view, and what is made of it.
#[derive(Debug)]
struct Wanted {
    /// How all folds lie in a state, and the places of those that are read, in order.
    whole: Layout,
    folds: Vec<usize>,
    /// How these alone lie.
    layout: Layout,
    /// The results, of this layout.
    outputs: Vec<Output>,
    /// The columns of states that are shown, of this layout.
    states: Vec<StateColumn>,
    /// The columns, over dimensions, bucket, results and these states.
    reading: Reading,
}

impl Wanted {
    /// These columns of a table, which has those of the view and then `states`.
    fn new(table: &GroupsTable, columns: &[usize], schema: &SchemaRef) -> Result<Self> {
        let (definition, whole) = (&table.view.definition, table.view.layout());
        let listed = table.reading.columns.len();
        let (visible, shown): (Vec<usize>, Vec<usize>) = columns.iter().partition(|column| **column < listed);
        let keys = definition.dimensions.len() + usize::from(definition.bucket.is_some());
        let (part, results) = table.reading.part(&visible, keys)?;
        let shown: Vec<StateColumn> = shown.iter().map(|column| table.states[column - listed]).collect();
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
        let reading = Reading { base, columns, schema: schema.clone(), ..part };
        Ok(Wanted { layout: whole.of(&folds), whole, folds, outputs, states, reading })
    }

    /// The folds of a state that are read.
    fn of(&self, state: &State) -> State {
        match self.folds.len() == self.whole.folds().len() {
            true => state.clone(),
            false => self.whole.pick(&self.folds, state),
        }
    }
}

/// The rows of a view, memory merged into history.
#[derive(Debug)]
struct Groups {
    statement: Statement,
    place: ViewPlace,
    table: String,
    view: Arc<View>,
    wanted: Arc<Wanted>,
    conjuncts: String,
    schema: SchemaRef,
}

impl Groups {
    /// Rows ordered by group. The filter on the version comes after `FINAL`; `identity` keeps it from the index.
    fn sql(&self, horizon: Epoch) -> String {
        let definition = &self.view.definition;
        let column = |name: &str| format!("s.{}", clickhouse::name(name));
        let series = column(&self.view.hidden("series"));
        let bucket = definition.bucket.as_ref().map(|bucket| column(&bucket.name));
        let dimensions = definition.dimensions.iter();
        let mut selected: Vec<String> = dimensions.clone().map(|dimension| column(&dimension.name)).collect();
        selected.push(series.clone());
        selected.extend(bucket.clone());
        let states = self.view.state_columns().into_iter().zip(self.wanted.whole.columns());
        let read = states.filter(|(_, state)| self.wanted.folds.contains(&state.fold));
        selected.extend(read.map(|(name, _)| column(&name)));
        let sortable = dimensions.filter(|dimension| dimension.kind != ValueType::Map);
        let mut order: Vec<String> = sortable.map(|dimension| column(&dimension.name)).collect();
        order.push(series);
        order.extend(bucket);
        format!(
            "SELECT {} FROM {} AS s FINAL WHERE identity({}) <= {horizon}{} ORDER BY {} {}{}",
            selected.join(", "),
            self.table,
            column(&self.view.hidden("version")),
            self.conjuncts,
            order.join(", "),
            clickhouse::settings(self.statement.time_max),
            clickhouse::FINAL_SETTINGS,
        ) + clickhouse::BYTES_SETTINGS
    }
}

impl PartitionStream for Groups {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let snapshot = self.statement.capture.view(self.place);
        let reservation = MemoryConsumer::new("rows of a view in memory").register(context.memory_pool());
        let merge = match GroupMerge::new(&self.view, self.wanted.clone(), &snapshot, &reservation) {
            Ok(merge) => merge,
            Err(error) => {
                let failed = stream::once(async move { Err(error) });
                return Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), failed));
            }
        };
        let horizon = snapshot.horizon;
        let (sql, created) = (self.sql(horizon), self.view.id.created());
        // A view without a back-fill has nothing in ClickHouse until its horizon moves beyond its creation.
        let empty = horizon == Epoch::ZERO || (horizon == created && !self.view.definition.options.backfill);
        let history = (!empty && !self.statement.memory_only).then(|| self.statement.history.clone());
        let waits = self.statement.waits.clone();
        let read = async move {
            match history {
                Some(history) => Ok::<_, DataFusionError>(history::read(history, sql, horizon, waits).await?),
                None => Ok(stream::empty().boxed()),
            }
        };
        let batches = stream::once(read).map_ok(|batches| batches.map_err(DataFusionError::from)).try_flatten().boxed();
        let wanted = self.wanted.clone();
        let groups = stream::unfold(Some((batches, merge)), move |state| {
            let _held = &reservation;
            async move {
                let (mut batches, mut merge) = state?;
                match batches.next().await {
                    Some(Ok(batch)) => Some((merge.take(&batch), Some((batches, merge)))),
                    Some(Err(error)) => Some((Err(error), None)),
                    None => merge.rest().map(|rest| (rest, Some((batches, merge)))),
                }
            }
        });
        let rows = groups.map(move |groups| wanted.reading.rows(&groups?));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

/// Merges the rows of groups, those of history as they come and those of memory.
struct GroupMerge {
    wanted: Arc<Wanted>,
    kinds: Vec<ValueType>,
    has_bucket: bool,
    snapshot: Arc<ViewSnapshot>,
    /// What memory has of the groups that history has not brought yet.
    memory: HashMap<GroupKey, State>,
    left: Vec<(GroupKey, State)>,
    /// The rows of the last group of history so far, which may go on.
    open: Option<RecordBatch>,
}

impl GroupMerge {
    /// Takes what is wanted of the rows in memory, as far as the reservation may grow.
    fn new(
        view: &View,
        wanted: Arc<Wanted>,
        snapshot: &Arc<ViewSnapshot>,
        reservation: &MemoryReservation,
    ) -> Result<Self> {
        reservation.try_grow(snapshot.rows.len() * GROUP_BYTES)?;
        let mut memory: HashMap<GroupKey, State> = HashMap::with_capacity(snapshot.rows.len());
        let mut bytes = 0;
        for index in 0..snapshot.rows.len() {
            let state = wanted.of(&snapshot.rows.state[index]);
            bytes += state.heap_bytes();
            if bytes > RESERVED_AT_ONCE {
                reservation.try_grow(std::mem::take(&mut bytes))?;
            }
            match memory.entry(snapshot.rows.key(index)) {
                Entry::Occupied(mut group) => wanted.layout.merge(group.get_mut(), &state),
                Entry::Vacant(group) => {
                    group.insert(state);
                }
            }
        }
        reservation.try_grow(bytes)?;
        Ok(GroupMerge {
            wanted,
            kinds: view.definition.dimension_kinds(),
            has_bucket: view.definition.bucket.is_some(),
            snapshot: snapshot.clone(),
            memory,
            left: Vec::new(),
            open: None,
        })
    }

    /// The groups of a batch of history that are whole.
    fn take(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let batch = match self.open.take() {
            Some(open) => concat_batches(&batch.schema(), [&open, batch])?,
            None => batch.clone(),
        };
        let keys = self.keys(&batch)?;
        let closed = keys.iter().rposition(|key| Some(key) != keys.last()).map_or(0, |last| last + 1);
        self.open = (batch.num_rows() > closed).then(|| batch.slice(closed, batch.num_rows() - closed));
        self.finish_rows(&batch.slice(0, closed), &keys[..closed])
    }

    /// The next groups after the last batch of history, or `None` when there are no more.
    fn rest(&mut self) -> Option<Result<RecordBatch>> {
        if let Some(open) = self.open.take() {
            return Some(self.keys(&open).and_then(|keys| self.finish_rows(&open, &keys)));
        }
        self.left.extend(self.memory.drain());
        if self.left.is_empty() {
            return None;
        }
        let (keys, states): (Vec<GroupKey>, Vec<State>) =
            self.left.split_off(self.left.len().saturating_sub(BATCH_GROUPS)).into_iter().unzip();
        let bytes = keys.iter().map(|key| match self.snapshot.keys.get(&key.series) {
            Some(Key::Values(bytes)) => Ok(&bytes[..]),
            _ => Err(DataFusionError::Internal(format!("the dimensions of group {} are not known", key.series))),
        });
        Some(bytes.collect::<Result<Vec<&[u8]>>>().and_then(|bytes| {
            let dimensions = read_keys(bytes, &self.kinds).map_err(|e| DataFusionError::External(Box::new(e)))?;
            self.finish(dimensions, &keys, &states)
        }))
    }

    /// The groups of rows of history.
    fn keys(&self, batch: &RecordBatch) -> Result<Vec<GroupKey>> {
        let at = self.kinds.len();
        let series = series_ids(batch.column(at)).ok_or_else(|| unexpected("the series", batch))?;
        let bucket = |row| match self.has_bucket {
            true => {
                let buckets = arrow::array::AsArray::as_primitive_opt::<TimestampMicrosecondType>(batch.column(at + 1));
                buckets.map(|buckets| EventTime(buckets.value(row))).ok_or_else(|| unexpected("the bucket", batch))
            }
            false => Ok(GroupKey::NO_BUCKET),
        };
        (0..batch.num_rows()).map(|row| Ok(GroupKey { series: series(row), bucket: bucket(row)? })).collect()
    }

    /// Merges rows of history that are ordered by group, and what memory has of these groups.
    fn finish_rows(&mut self, batch: &RecordBatch, keys: &[GroupKey]) -> Result<RecordBatch> {
        let columns = batch.columns()[self.kinds.len() + 1 + usize::from(self.has_bucket)..].iter();
        let layout = &self.wanted.layout;
        let columns = columns.zip(layout.columns()).map(|(column, of)| conform_column(column, &of.kind.arrow()));
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
        let mut states = match columns.is_empty() {
            true => vec![State::empty(); batch.num_rows()],
            false => layout.read(&columns).map_err(|e| DataFusionError::External(Box::new(e)))?,
        };
        let mut firsts: Vec<u32> = Vec::new();
        let (mut groups, mut merged): (Vec<GroupKey>, Vec<State>) = (Vec::new(), Vec::new());
        for (row, key) in keys.iter().enumerate() {
            match merged.last_mut() {
                Some(state) if groups.last() == Some(key) => layout.merge(state, &states[row]),
                _ => {
                    firsts.push(row as u32);
                    groups.push(*key);
                    merged.push(std::mem::take(&mut states[row]));
                }
            }
        }
        for (key, state) in groups.iter().zip(&mut merged) {
            if let Some(partner) = self.memory.remove(key) {
                layout.merge(state, &partner);
            }
        }
        let firsts = arrow::array::UInt32Array::from(firsts);
        let dimensions = batch.columns()[..self.kinds.len()].iter().zip(&self.kinds);
        let dimensions = dimensions.map(|(column, kind)| take(&conform_column(column, &kind.arrow())?, &firsts, None));
        let dimensions = dimensions.collect::<Result<Vec<ArrayRef>, _>>()?;
        self.finish(dimensions, &groups, &merged)
    }

    /// A batch of the columns that the select list is over.
    fn finish(&self, dimensions: Vec<ArrayRef>, groups: &[GroupKey], states: &[State]) -> Result<RecordBatch> {
        let mut columns = dimensions;
        if self.has_bucket {
            let buckets = TimestampMicrosecondArray::from_iter_values(groups.iter().map(|group| group.bucket.0));
            columns.push(Arc::new(buckets.with_timezone("UTC")));
        }
        let Wanted { layout, outputs, states: shown, reading, .. } = &*self.wanted;
        columns.extend(outputs.iter().map(|output| layout.finish(output, states.iter())));
        columns.extend(shown.iter().flat_map(|state| layout.write_some(|column| column == state, states.iter())));
        let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
        Ok(RecordBatch::try_new_with_options(reading.base.clone(), columns, &options)?)
    }
}
