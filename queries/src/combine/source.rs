//! Which view's column an argument is, and how the states behind it come up to the aggregate.
//!
//! A column is followed down through whatever passes it on as it is: filters, orders, limits, aliases, joins and the lists of
//! subqueries. Its states then go the same way up.

use arrow::datatypes::Field;
use datafusion::common::{Column, JoinType};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan};
use streamgauge_schemas::state::columns::StateColumn;

use super::call::NAME;
use crate::tables::Kept;

/// Where an argument comes from.
pub(super) struct Source {
    /// From the aggregate's input to the scan, which child each time.
    pub(super) path: Vec<usize>,
    pub(super) kept: Kept,
    /// The place of the column among those of the view.
    pub(super) column: usize,
}

impl Source {
    /// Follows a column of a plan to the view that it is of.
    ///
    /// # Errors
    /// What it is instead, and what can be combined.
    pub(super) fn of(plan: &LogicalPlan, column: &Column) -> Result<Source> {
        let mut place = plan.schema().index_of_column(column)?;
        let mut path = Vec::new();
        let mut plan = plan;
        loop {
            let (child, next) = match plan {
                LogicalPlan::TableScan(scan) => {
                    let name = scan.projected_schema.field(place).name();
                    let Some(kept) = Kept::of(scan) else {
                        return refuse(column, &format!("is a column of {}, which is not a view", scan.table_name));
                    };
                    debug_assert!(scan.projection.is_none(), "nothing is optimized yet");
                    if kept.results[place].is_none() {
                        return refuse(column, &not_of_aggregates(&kept, name));
                    }
                    return Ok(Source { path, kept, column: place });
                }
                LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::Sort(_)
                | LogicalPlan::Limit(_)
                | LogicalPlan::Repartition(_) => (0, place),
                LogicalPlan::Projection(projection) => match unaliased(&projection.expr[place]) {
                    Expr::Column(inner) => (0, projection.input.schema().index_of_column(inner)?),
                    other => return refuse(column, &format!("is computed in a subquery, as {other}")),
                },
                LogicalPlan::Join(join) => {
                    let left = join.left.schema().fields().len();
                    match join.join_type {
                        JoinType::RightSemi | JoinType::RightAnti => (1, place),
                        _ if place < left => (0, place),
                        _ if place - left < join.right.schema().fields().len() => (1, place - left),
                        _ => return refuse(column, "is made by a join"),
                    }
                }
                LogicalPlan::Aggregate(_) => {
                    let reason = "comes from a subquery that groups; call combine in that subquery";
                    return refuse(column, reason);
                }
                other => {
                    let what = other.display().to_string();
                    let what = what.split(':').next().unwrap_or_default();
                    return refuse(column, &format!("comes through a subquery that makes other rows ({what})"));
                }
            };
            path.push(child);
            (plan, place) = (plan.inputs()[child], next);
        }
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

fn not_of_aggregates(kept: &Kept, name: &str) -> String {
    let columns = &kept.view.definition.columns;
    let others = columns.iter().zip(&kept.results).filter(|(_, result)| result.is_some());
    let others: Vec<&str> = others.map(|(column, _)| column.name.as_str()).collect();
    let (view, others) = (&kept.view.definition.name, others.join(", "));
    let there = if others.is_empty() { "has none that is".to_owned() } else { format!("has {others}") };
    format!(
        "is not made of aggregates alone: {name} of view {view} is or contains a dimension, the bucket or a constant, of which \
         nothing is kept; group by it, or choose a column that is made of aggregates ({view} {there})"
    )
}

/// A refusal of an argument.
pub(super) fn refuse<T>(argument: &impl std::fmt::Display, reason: &str) -> Result<T> {
    Err(DataFusionError::Plan(format!("{NAME}({argument}): {argument} {reason}; {NAME} takes a column of a view")))
}

/// The states of some folds of a source, on their way up.
pub(super) struct Shown<'a> {
    pub(super) source: &'a Source,
    /// Tells the source from the others of the statement.
    pub(super) number: usize,
    pub(super) folds: &'a [usize],
}

impl Shown<'_> {
    /// The name of a column of states; see invariant 2. Columns of views do not begin with `_`.
    pub(super) fn name(&self, state: &StateColumn) -> String {
        format!("_state_{}_{}{}", self.number, state.fold, state.suffix)
    }

    /// The plan with these states among its columns.
    pub(super) fn carry(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        self.up(plan, &self.source.path)
    }

    fn up(&self, plan: &LogicalPlan, path: &[usize]) -> Result<LogicalPlan> {
        let Some((child, rest)) = path.split_first() else {
            let LogicalPlan::TableScan(scan) = plan else {
                return Err(DataFusionError::Internal("a source is the scan of a table".into()));
            };
            return self.source.kept.show(scan, self.folds, |state| self.name(state));
        };
        let mut inputs: Vec<LogicalPlan> = plan.inputs().into_iter().cloned().collect();
        inputs[*child] = self.up(&inputs[*child], rest)?;
        let mut exprs = plan.expressions();
        if let LogicalPlan::Projection(_) = plan {
            exprs.extend(self.columns(&inputs[*child]).into_iter().map(Expr::Column));
        }
        plan.with_new_exprs(exprs, inputs)
    }

    /// The columns of these states in a plan that has them, in the order of the view's layout.
    pub(super) fn columns(&self, plan: &LogicalPlan) -> Vec<Column> {
        let states = self.source.kept.view.layout().columns();
        let names = states.iter().filter(|state| self.folds.contains(&state.fold)).map(|state| self.name(state));
        names.map(|name| self.column(plan, &name)).collect()
    }

    fn column(&self, plan: &LogicalPlan, name: &str) -> Column {
        let is_it = |field: &Field| field.name() == name;
        let mut fields = plan.schema().iter().filter(|(_, field)| is_it(field));
        let (qualifier, _) = fields.next().expect("each step of the way up carries it");
        Column::new(qualifier.cloned(), name)
    }
}
