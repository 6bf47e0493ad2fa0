//! A view as a table: its groups, whole, whatever part of each is in memory and in ClickHouse, and then
//! `HAVING` and the select list.
//!
//! ```text
//!  ClickHouse: rows at or below the horizon, ordered by group ─▶ merge neighbours ─┐
//!                                                  take in what memory has of each ─┴▶ finish ─▶ having, select list
//!                                                  then the groups that only memory has ─▶
//! ```
//!
//! Only those dimensions and folds are read that `HAVING` and the columns that are asked for are made of: maps and sketches
//! are large. A group has several pieces (generations), some in memory and others in ClickHouse, so only filters on what
//! names a group narrow what is read.
//!
//! For [`combine`](crate::combine) a table shows states themselves, as columns after those of the view.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt, stream};
use streamgauge_engine::{KeyFilter, ViewRead};
use streamgauge_schemas::View;
use streamgauge_schemas::state::columns::StateColumn;

use super::apart::{ApartView, Seam};
use super::merge::GroupMerge;
use super::read::{Explained, ReadExec};
use super::{Statement, predicates, pushdown, write_conjuncts};
use crate::capture::ViewPlace;
use crate::clickhouse;
use crate::groups::GroupReader;
use crate::history;
use crate::open::is_open;
use crate::predicate::Predicate;
use crate::views::Reading;

/// A view as a table of one statement.
#[derive(Clone, Debug)]
pub(super) struct GroupsTable {
    statement: Statement,
    reader: Arc<GroupReader>,
    /// The columns of states that are shown after those of the view.
    states: Vec<StateColumn>,
    /// All of these columns.
    schema: SchemaRef,
    /// With whom it shares the reading, if it does.
    seam: Option<Arc<Seam>>,
}

impl GroupsTable {
    pub(super) fn new(statement: Statement, view: Arc<View>, reading: Arc<Reading>) -> Self {
        let schema = reading.schema.clone();
        let reader = Arc::new(GroupReader::new(view, reading));
        GroupsTable { statement, reader, states: Vec::new(), schema, seam: None }
    }

    /// The same view as a table of another statement; `None` when its name means another by now.
    ///
    /// # Errors
    /// When its back-fill is not done.
    pub(super) fn of(&self, statement: &Statement) -> Result<Option<Self>> {
        let known = &self.reader.view;
        let Some(view) = statement.engine.view(&known.definition.name).filter(|view| view.id == known.id) else {
            return Ok(None);
        };
        statement.backfills.check(&view)?;
        Ok(Some(GroupsTable { statement: statement.clone(), ..self.clone() }))
    }

    /// The same table, whose history somebody else may read.
    pub(super) fn apart(&self, seam: Arc<Seam>) -> Self {
        GroupsTable { seam: Some(seam), ..self.clone() }
    }

    /// What is to be known to read memory and history apart.
    pub(super) fn read_apart(&self, filters: &[Expr]) -> ApartView {
        ApartView::new(self.statement.clone(), self.reader.clone(), self.states.clone(), self.stored(filters))
    }

    /// Whether these filters name values of dimensions of the groups that are read, so that they are probably few.
    pub(super) fn names_groups(&self, filters: &[Expr]) -> bool {
        match self.reader.row_filter(&self.stored(filters)).keys {
            KeyFilter::Only(_) => true,
            KeyFilter::NameAnd(_, test) | KeyFilter::Predicate(test) => !test.has.is_empty(),
            KeyFilter::All | KeyFilter::Name(_) => false,
        }
    }

    /// Whether only groups that meet a filter are read, whatever texts it leaves open: nobody needs to test them again.
    pub(super) fn is_exact(&self, filter: &Expr) -> Result<bool> {
        let filter = match filter.exists(|part| Ok(is_open(part)))? {
            true => &with_texts(filter.clone())?,
            false => filter,
        };
        let predicate = Predicate::of(filter, &self.reader.reading.schema);
        Ok(predicate.is_some_and(|predicate| self.reader.is_exact(&predicate)))
    }

    /// What of these filters is about stored columns.
    fn stored(&self, filters: &[Expr]) -> Vec<Predicate> {
        let reader = &self.reader;
        let usable = predicates(filters, &reader.reading.schema, |predicate| reader.stored(predicate).is_some());
        usable.iter().filter_map(|predicate| reader.stored(predicate)).collect()
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
        GroupsTable { states, schema, ..self.clone() }
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
        let schema = &self.reader.reading.schema;
        let mut answers = pushdown(filters, schema, |predicate| self.reader.stored(predicate).is_some())?;
        for (answer, filter) in answers.iter_mut().zip(filters) {
            if self.is_exact(filter)? {
                *answer = TableProviderFilterPushDown::Exact;
            }
        }
        Ok(answers)
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (reader, view) = (&self.reader, &self.reader.view);
        let columns: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema: SchemaRef = Arc::new(self.schema.project(&columns)?);
        let stored = self.stored(filters);
        let filter = reader.row_filter(&stored);
        let keys = filter.keys.clone();
        let place = self.statement.capture.want_view(ViewRead { view: view.id, filter, follow: None });
        if let Some(seam) = &self.seam {
            seam.reads(place);
        }
        let groups = Arc::new(Groups {
            place,
            seam: self.seam.clone(),
            table: clickhouse::table(self.statement.history.as_ref(), &view.states_table()),
            statement: self.statement.clone(),
            reader: Arc::new(reader.narrowed(&columns, &self.states, &schema)?),
            stored,
            keys,
            all: limit.is_none(),
            schema: schema.clone(),
        });
        let read = StreamingTableExec::try_new(schema, vec![groups.clone()], None, [], false, limit)?;
        Ok(Arc::new(ReadExec::new(read, groups)))
    }
}

/// A filter with some text for each open value.
fn with_texts(filter: Expr) -> Result<Expr> {
    let filter = filter.transform_up(|part| match part {
        Expr::Placeholder(_) if is_open(&part) => Ok(Transformed::yes(lit(""))),
        part => Ok(Transformed::no(part)),
    })?;
    Ok(filter.data)
}

/// The rows of a view, memory merged into history.
#[derive(Debug)]
struct Groups {
    statement: Statement,
    place: ViewPlace,
    seam: Option<Arc<Seam>>,
    table: String,
    reader: Arc<GroupReader>,
    /// Which groups, by the names of ClickHouse's columns.
    stored: Vec<Predicate>,
    /// The same, of memory.
    keys: KeyFilter,
    /// Whether all groups are wanted, as without a limit.
    all: bool,
    schema: SchemaRef,
}

impl Groups {
    fn conjuncts(&self) -> String {
        let mut sql = String::new();
        write_conjuncts(&self.stored, "s", &mut sql);
        sql.push_str(&self.reader.of_series(&self.statement.engine, &self.keys));
        sql
    }
}

impl Explained for Groups {
    fn sql(&self) -> String {
        self.reader.history_select(&self.table, &self.conjuncts(), "horizon")
    }

    fn memory(&self) -> String {
        self.reader.memory_words(&self.stored)
    }
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
        let is_apart = self.seam.as_ref().is_some_and(|seam| seam.is_apart());
        let has_history = self.reader.has_history(horizon) && !self.statement.memory_only && !is_apart;
        let history = has_history.then(|| {
            let conjuncts = self.conjuncts();
            let sql = self.reader.history_sql(&self.table, &conjuncts, horizon, self.statement.bounds, self.all);
            (self.statement.history.clone(), sql)
        });
        let waits = self.statement.waits.clone();
        let cache = self.statement.backfills.is_done(&self.reader.view).then(|| self.statement.cache.clone());
        let read = async move {
            match history {
                Some((history, sql)) if let Some(cache) = cache => {
                    Ok::<_, DataFusionError>(cache.read(history, sql, horizon, waits).await?)
                }
                Some((history, sql)) => Ok(history::read(history, sql, horizon, waits).await?),
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
