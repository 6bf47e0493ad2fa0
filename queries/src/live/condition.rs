//! The condition of a subscription to a view: one expression in SQL over the view's columns, planned by DataFusion.
//!
//! Its parts that are over what names a group alone (dimensions and the bucket) decide once a group whether it is held at
//! all; those of them that ClickHouse understands narrow what is read there. The whole of it is asked of every row.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::PhysicalExpr;
use streamgauge_engine::RowFilter;

use crate::depth::too_deep;
use crate::error::QueryError;
use crate::groups::GroupReader;
use crate::predicate::Predicate;
use crate::views::{ViewError, check_pure, coerced, conjuncts, without_nulls};

/// The longest text.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Condition {
    rows: Option<Arc<dyn PhysicalExpr>>,
    groups: Option<GroupTest>,
    /// What ClickHouse can be asked, on its columns.
    pub(super) stored: Vec<Predicate>,
    /// What the engine can be asked.
    pub(super) filter: RowFilter,
}

/// A test of what names a group.
#[derive(Debug)]
struct GroupTest {
    /// The columns of the base that name a group.
    base: SchemaRef,
    /// The columns of the view that the test is over, over `base`.
    columns: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
    test: Arc<dyn PhysicalExpr>,
}

impl Condition {
    /// Plans a condition over a view.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] with the part that is wrong.
    pub(super) fn plan(text: &str, reader: &GroupReader, state: &SessionState) -> Result<Self, QueryError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(wrong(format!("has {} bytes, and may have {TEXT_BYTES_MAX}; make it shorter", text.len())));
        }
        let schema = &reader.reading.schema;
        let named = DFSchema::try_from_qualified_schema(reader.view.definition.name.as_str(), schema);
        let named: DFSchemaRef = Arc::new(named.map_err(unplanned)?);
        let expr = state.create_logical_expr(text, &named).map_err(unplanned)?.unalias_nested().data;
        if let Some(reason) = too_deep(&expr).map_err(unplanned)? {
            return Err(wrong(reason));
        }
        check(&expr)?;
        let expr = coerced(expr, &named, state).map_err(unplanned)?;
        let of = expr.get_type(&*named).map_err(unplanned)?;
        if !matches!(of, DataType::Boolean | DataType::Null) {
            return Err(wrong(format!("is of type {of}; write a condition, such as column = 'value'")));
        }
        let parts = conjuncts(&expr);
        let understood: Vec<Predicate> = parts.iter().filter_map(|part| Predicate::of(part, schema)).collect();
        let (stored, filter) = narrowing(&understood, reader);
        let of_groups = parts.into_iter().filter(|part| is_of_groups(part, reader)).cloned();
        let groups = conjunction(of_groups).map(|test| GroupTest::plan(test, reader, state)).transpose()?;
        let rows = state.create_physical_expr(expr, &named).map_err(unplanned)?;
        Ok(Condition { rows: Some(rows), groups, stored, filter })
    }

    /// Which of these groups may have a row at all; `None` for all. `names` are the columns of the base that name them.
    pub(super) fn admitted(&self, names: &RecordBatch) -> Result<Option<BooleanArray>, DataFusionError> {
        self.groups.as_ref().map(|test| test.passed(names)).transpose()
    }

    /// Which rows of the view pass; `None` for all.
    pub(super) fn passed(&self, rows: &RecordBatch) -> Result<Option<BooleanArray>, DataFusionError> {
        self.rows.as_ref().map(|test| evaluate(test, rows)).transpose()
    }

    /// The columns of the base that `admitted` wants.
    pub(super) fn names(&self) -> Option<&SchemaRef> {
        self.groups.as_ref().map(|test| &test.base)
    }
}

impl GroupTest {
    fn plan(test: Expr, reader: &GroupReader, state: &SessionState) -> Result<Self, QueryError> {
        let reading = &reader.reading;
        let places = (0..reading.columns.len()).filter(|place| names_a_group(*place, reader));
        let places: Vec<usize> = places.collect();
        let schema: SchemaRef = Arc::new(reading.schema.project(&places).map_err(|error| unplanned(error.into()))?);
        let named = DFSchema::try_from_qualified_schema(reader.view.definition.name.as_str(), &schema);
        let test = state.create_physical_expr(test, &named.map_err(unplanned)?).map_err(unplanned)?;
        let columns = places.iter().map(|place| reading.columns[*place].0.clone()).collect();
        let base = Arc::new(Schema::new(reading.base.fields()[..reader.named()].to_vec()));
        Ok(GroupTest { base, columns, schema, test })
    }

    fn passed(&self, names: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
        let groups = names.num_rows();
        let columns = self.columns.iter().map(|column| column.evaluate(names)?.into_array(groups));
        let columns = columns.collect::<Result<Vec<_>, DataFusionError>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(groups));
        evaluate(&self.test, &RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

fn evaluate(test: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
    let passed = test.evaluate(rows)?.into_array(rows.num_rows())?;
    match passed.as_boolean_opt() {
        Some(passed) => Ok(without_nulls(passed)),
        None => Ok(BooleanArray::from(vec![false; rows.num_rows()])), // a null without a type
    }
}

/// What of a condition ClickHouse and the engine can be asked, so that less is read.
fn narrowing(understood: &[Predicate], reader: &GroupReader) -> (Vec<Predicate>, RowFilter) {
    let stored: Vec<Predicate> = understood.iter().filter_map(|predicate| reader.stored(predicate)).collect();
    let filter = reader.row_filter(&stored);
    (stored, filter)
}

/// Whether a part of a condition is over what names a group alone.
fn is_of_groups(part: &Expr, reader: &GroupReader) -> bool {
    let columns = part.column_refs();
    let of_groups = |name: &str| reader.reading.schema.index_of(name).is_ok_and(|place| names_a_group(place, reader));
    !columns.is_empty() && columns.iter().all(|column| of_groups(&column.name))
}

/// Whether a column of the view is made of dimensions and the bucket alone.
fn names_a_group(place: usize, reader: &GroupReader) -> bool {
    let (expr, _) = &reader.reading.columns[place];
    collect_columns(expr).iter().all(|column| column.index() < reader.named())
}

/// Refuses what is not the same at every time, and what needs other rows.
fn check(expr: &Expr) -> Result<(), QueryError> {
    check_pure(expr).map_err(|error| match error {
        ViewError::NotMaintained { part, reason } => wrong(format!("cannot have {part}: {reason}")),
        other => wrong(format!("cannot be planned: {other}")),
    })?;
    let mut aggregate = None;
    let visit = expr.apply(|part| {
        let is_aggregate = matches!(part, Expr::AggregateFunction(_));
        aggregate = is_aggregate.then(|| part.to_string());
        Ok(if is_aggregate { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    visit.map_err(unplanned)?;
    aggregate.map_or(Ok(()), |part| {
        Err(wrong(format!("cannot have {part}: it is over many rows; name the column of the view that has the result")))
    })
}

fn unplanned(error: DataFusionError) -> QueryError {
    let message = ViewError::from(error).to_string();
    wrong(format!("cannot be planned: {message}"))
}

fn wrong(reason: String) -> QueryError {
    QueryError::Parameter { parameter: "where", reason }
}
