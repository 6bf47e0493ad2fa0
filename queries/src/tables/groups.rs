//! A view of the user's own as a table: its groups, whole, whatever part of each is in memory and in ClickHouse, and then
//! `HAVING` and the select list.
//!
//! ```text
//!  ClickHouse: rows at or below the horizon, ordered by group ─▶ merge neighbours ─┐
//!                                                  take in what memory has of each ─┴▶ finish ─▶ having, select list
//!                                                  then the groups that only memory has ─▶
//! ```
//!
//! Only those folds are read that `HAVING` and the columns that are asked for are made of: sketches are large.
//!
//! For [`combine`](crate::combine) a table shows states themselves, as columns after those of the view.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use streamgauge_engine::ViewRead;
use streamgauge_engine::snapshot::ViewSnapshot;
use streamgauge_schemas::state::columns::StateColumn;
use streamgauge_schemas::{GroupKey, State, View};

use super::{Statement, predicates, pushdown, write_conjuncts};
use crate::capture::ViewPlace;
use crate::clickhouse;
use crate::groups::GroupReader;
use crate::history;
use crate::predicate::Predicate;
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
    reader: Arc<GroupReader>,
    /// The columns of states that are shown after those of the view.
    states: Vec<StateColumn>,
    /// All of these columns.
    schema: SchemaRef,
}

impl GroupsTable {
    pub(super) fn new(statement: Statement, view: Arc<View>, reading: Arc<Reading>) -> Self {
        let schema = reading.schema.clone();
        GroupsTable { statement, reader: Arc::new(GroupReader::new(view, reading)), states: Vec::new(), schema }
    }

    pub(super) fn reader(&self) -> &GroupReader {
        &self.reader
    }

    /// The same table with the states of some folds after its columns, by the names that `name` gives them.
    pub(super) fn showing(&self, folds: &[usize], name: impl Fn(&StateColumn) -> String) -> Self {
        let mut states = self.reader.layout.columns();
        states.retain(|state| folds.contains(&state.fold));
        let shown = states.iter().map(|state| Arc::new(Field::new(name(state), state.kind.arrow(), false)));
        let fields: Vec<Arc<Field>> = self.reader.reading.schema.fields().iter().cloned().chain(shown).collect();
        let schema = Arc::new(Schema::new(fields));
        GroupsTable { statement: self.statement.clone(), reader: self.reader.clone(), states, schema }
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
        Ok(pushdown(filters, &self.reader.reading.schema, |predicate| self.reader.stored(predicate).is_some()))
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (reader, view) = (&self.reader, &self.reader.view);
        let all = &reader.reading.schema;
        let columns: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema: SchemaRef = Arc::new(self.schema.project(&columns)?);
        let usable = predicates(filters, all, |predicate| reader.stored(predicate).is_some());
        let stored: Vec<Predicate> = usable.iter().filter_map(|predicate| reader.stored(predicate)).collect();
        let filter = reader.row_filter(&stored);
        let mut conjuncts = String::new();
        write_conjuncts(&stored, "s", &mut conjuncts);
        let groups = Groups {
            place: self.statement.capture.want_view(ViewRead { view: view.id, filter, follow: None }),
            table: clickhouse::table(self.statement.history.as_ref(), &view.states_table()),
            statement: self.statement.clone(),
            reader: Arc::new(reader.narrowed(&columns, &self.states, &schema)?),
            conjuncts,
            schema: schema.clone(),
        };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(groups)], None, [], false, limit)?))
    }
}

/// The rows of a view, memory merged into history.
#[derive(Debug)]
struct Groups {
    statement: Statement,
    place: ViewPlace,
    table: String,
    reader: Arc<GroupReader>,
    conjuncts: String,
    schema: SchemaRef,
}

impl PartitionStream for Groups {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let snapshot = self.statement.capture.view(self.place);
        let reservation = MemoryConsumer::new("rows of a view in memory").register(context.memory_pool());
        let merge = match GroupMerge::new(self.reader.clone(), &snapshot, &reservation) {
            Ok(merge) => merge,
            Err(error) => {
                let failed = stream::once(async move { Err(error) });
                return Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), failed));
            }
        };
        let horizon = snapshot.horizon;
        let sql = self.reader.history_sql(&self.table, &self.conjuncts, horizon, self.statement.time_max);
        let has_history = self.reader.has_history(horizon) && !self.statement.memory_only;
        let history = has_history.then(|| self.statement.history.clone());
        let waits = self.statement.waits.clone();
        let read = async move {
            match history {
                Some(history) => Ok::<_, DataFusionError>(history::read(history, sql, horizon, waits).await?),
                None => Ok(stream::empty().boxed()),
            }
        };
        let batches = stream::once(read).map_ok(|batches| batches.map_err(DataFusionError::from)).try_flatten().boxed();
        let reading = self.reader.reading.clone();
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
        let rows = groups.map(move |groups| reading.rows(&groups?));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

/// Merges the rows of groups, those of history as they come and those of memory.
struct GroupMerge {
    reader: Arc<GroupReader>,
    snapshot: Arc<ViewSnapshot>,
    /// What memory has of the groups that history has not brought yet.
    memory: HashMap<GroupKey, State>,
    left: Vec<(GroupKey, State)>,
    /// The rows of the last group of history so far, which may go on.
    open: Option<RecordBatch>,
}

impl GroupMerge {
    /// Takes what is wanted of the rows in memory, as far as the reservation may grow.
    fn new(reader: Arc<GroupReader>, snapshot: &Arc<ViewSnapshot>, reservation: &MemoryReservation) -> Result<Self> {
        reservation.try_grow(snapshot.rows.len() * GROUP_BYTES)?;
        let mut memory: HashMap<GroupKey, State> = HashMap::with_capacity(snapshot.rows.len());
        let mut bytes = 0;
        for index in 0..snapshot.rows.len() {
            let state = reader.wanted(&snapshot.rows.state[index]);
            bytes += state.heap_bytes();
            if bytes > RESERVED_AT_ONCE {
                reservation.try_grow(std::mem::take(&mut bytes))?;
            }
            match memory.entry(snapshot.rows.key(index)) {
                Entry::Occupied(mut group) => reader.layout.merge(group.get_mut(), &state),
                Entry::Vacant(group) => {
                    group.insert(state);
                }
            }
        }
        reservation.try_grow(bytes)?;
        Ok(GroupMerge { reader, snapshot: snapshot.clone(), memory, left: Vec::new(), open: None })
    }

    /// The groups of a batch of history that are whole.
    fn take(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let batch = match self.open.take() {
            Some(open) => concat_batches(&batch.schema(), [&open, batch])?,
            None => batch.clone(),
        };
        let keys = self.reader.history_keys(&batch)?;
        let closed = keys.iter().rposition(|key| Some(key) != keys.last()).map_or(0, |last| last + 1);
        self.open = (batch.num_rows() > closed).then(|| batch.slice(closed, batch.num_rows() - closed));
        self.finish_rows(&batch.slice(0, closed), &keys[..closed])
    }

    /// The next groups after the last batch of history, or `None` when there are no more.
    fn rest(&mut self) -> Option<Result<RecordBatch>> {
        if let Some(open) = self.open.take() {
            return Some(self.reader.history_keys(&open).and_then(|keys| self.finish_rows(&open, &keys)));
        }
        self.left.extend(self.memory.drain());
        if self.left.is_empty() {
            return None;
        }
        let (groups, states): (Vec<GroupKey>, Vec<State>) =
            self.left.split_off(self.left.len().saturating_sub(BATCH_GROUPS)).into_iter().unzip();
        let dimensions = self.reader.dimensions(groups.iter().map(|group| &self.snapshot.keys[&group.series]));
        Some(dimensions.and_then(|dimensions| self.reader.finish(dimensions, &groups, states.iter())))
    }

    /// Merges rows of history that are ordered by group, and what memory has of these groups.
    fn finish_rows(&mut self, batch: &RecordBatch, keys: &[GroupKey]) -> Result<RecordBatch> {
        let layout = &self.reader.layout;
        let mut states = self.reader.history_states(batch)?;
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
        let dimensions = self.reader.history_dimensions(batch)?;
        let dimensions = dimensions.iter().map(|column| take(column, &firsts, None));
        let dimensions = dimensions.collect::<Result<Vec<ArrayRef>, _>>()?;
        self.reader.finish(dimensions, &groups, merged.iter())
    }
}
