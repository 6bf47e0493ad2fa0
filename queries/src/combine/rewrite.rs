//! From a question with calls of `combine` to one that merges states.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunctionDefinition};
use datafusion::logical_expr::{Aggregate, AggregateUDF, Expr, LogicalPlan, Projection};

use super::call::{NAME, is_combine};
use super::merge::{MergeStates, Merged, field_name};
use super::source::{Shown, Source, refuse};

/// The plan without calls of `combine`.
///
/// # Errors
/// A plan error that names the call that cannot be answered, and says why.
pub(crate) fn rewritten(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !is_there(&plan)? {
        return Ok(plan);
    }
    let mut sources = 0;
    let plan = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Aggregate(aggregate) => match aggregate.aggr_expr.iter().any(|expr| call_of(expr).is_some()) {
            true => rewrite(&aggregate, &mut sources).map(Transformed::yes),
            false => Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

/// Whether a plan has calls.
///
/// # Errors
/// For calls as window functions.
fn is_there(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::AggregateFunction(call) if is_combine(&call.func) => found = true,
                    Expr::WindowFunction(window) => match &window.fun {
                        WindowFunctionDefinition::AggregateUDF(function) if is_combine(function) => {
                            let reason = "is not a window function: it merges the rows of a group; use GROUP BY";
                            return Err(plan_error(format!("{expr}: {NAME} {reason}")));
                        }
                        _ => {}
                    },
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

fn plan_error(message: String) -> DataFusionError {
    DataFusionError::Plan(message)
}

/// The call that an expression of an aggregate is.
fn call_of(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::Alias(alias) => call_of(&alias.expr),
        Expr::AggregateFunction(call) => Some(call).filter(|call| is_combine(&call.func)),
        _ => None,
    }
}

/// The column that a call is of.
fn argument(call: &AggregateFunction) -> Result<&Column> {
    let params = &call.params;
    let [argument] = &params.args[..] else {
        return Err(plan_error(format!("{NAME} takes one column of a view, not {} arguments", params.args.len())));
    };
    if params.distinct || !params.order_by.is_empty() || params.null_treatment.is_some() {
        let reason =
            "merging has no order and knows no equal values; leave out DISTINCT, ORDER BY and the treatment of nulls";
        return Err(plan_error(format!("{NAME}({argument}): {reason}")));
    }
    match argument {
        Expr::Column(column) => Ok(column),
        other => refuse(
            other,
            "is an expression, of which nothing is kept; write it into the SELECT of the view, or around the call",
        ),
    }
}

/// Calls over one source with one filter.
struct Merge {
    /// The place of its source.
    source: usize,
    filter: Option<Box<Expr>>,
    /// The columns of the view, and the places of the calls of each.
    columns: Vec<(usize, Vec<usize>)>,
}

/// The sources of an aggregate's calls, and what is merged of each.
#[derive(Default)]
struct Merges {
    sources: Vec<Source>,
    merges: Vec<Merge>,
}

impl Merges {
    fn of(aggregate: &Aggregate) -> Result<Self> {
        let mut merges = Merges::default();
        for (place, expr) in aggregate.aggr_expr.iter().enumerate() {
            if let Some(call) = call_of(expr) {
                let source = Source::of(&aggregate.input, argument(call)?)?;
                merges.add(place, source, call.params.filter.clone());
            }
        }
        Ok(merges)
    }

    fn add(&mut self, call: usize, source: Source, filter: Option<Box<Expr>>) {
        let column = source.column;
        let source = self.sources.iter().position(|other| other.path == source.path).unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        });
        let same = |merge: &&mut Merge| merge.source == source && merge.filter == filter;
        match self.merges.iter_mut().find(same) {
            None => self.merges.push(Merge { source, filter, columns: vec![(column, vec![call])] }),
            Some(merge) => match merge.columns.iter_mut().find(|(other, _)| *other == column) {
                None => merge.columns.push((column, vec![call])),
                Some((_, calls)) => calls.push(call),
            },
        }
    }
}

/// The aggregate with calls of `combine` replaced; `numbered` counts the sources of the statement.
fn rewrite(aggregate: &Aggregate, numbered: &mut usize) -> Result<LogicalPlan> {
    let Merges { sources, merges } = Merges::of(aggregate)?;
    let merged = |merge: &Merge| {
        let kept = &sources[merge.source].kept;
        Merged::new(&kept.view, &kept.results, merge.columns.iter().map(|(column, _)| *column))
    };
    let merged: Vec<Merged> = merges.iter().map(merged).collect::<Result<_>>()?;
    let mut input = aggregate.input.as_ref().clone();
    let first = *numbered;
    for (at, source) in sources.iter().enumerate() {
        let of_source = merges.iter().zip(&merged).filter(|(merge, _)| merge.source == at);
        let folds: Vec<usize> = of_source.flat_map(|(_, merged)| merged.folds().to_vec()).collect();
        input = Shown { source, number: first + at, folds: &folds }.carry(&input)?;
    }
    *numbered += sources.len();
    let kept = aggregate.aggr_expr.iter().filter(|expr| call_of(expr).is_none()).cloned();
    let mut calls: Vec<Expr> = kept.collect();
    let mut results: Vec<Option<Expr>> = vec![None; aggregate.aggr_expr.len()];
    for (number, (merge, merged)) in merges.into_iter().zip(merged).enumerate() {
        let shown = Shown { source: &sources[merge.source], number: first + merge.source, folds: merged.folds() };
        let states = shown.columns(&input).into_iter().map(Expr::Column).collect();
        let function = Arc::new(AggregateUDF::from(MergeStates::new(merged)));
        let call = AggregateFunction::new_udf(function, states, false, merge.filter, Vec::new(), None);
        let name = format!("_combined_{number}");
        calls.push(Expr::AggregateFunction(call).alias(&name));
        for (at, (_, places)) in merge.columns.into_iter().enumerate() {
            let result = get_field(Expr::Column(Column::new_unqualified(&name)), field_name(at));
            places.into_iter().for_each(|place| results[place] = Some(result.clone()));
        }
    }
    let groups = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    // Invariant 1.
    let columns = aggregate.schema.iter().enumerate().map(|(at, (qualifier, field))| {
        match at.checked_sub(groups).and_then(|call| results[call].take()) {
            Some(result) => result.alias_qualified(qualifier.cloned(), field.name()),
            None => Expr::Column(Column::new(qualifier.cloned(), field.name())),
        }
    });
    let columns: Vec<Expr> = columns.collect();
    let aggregate = Aggregate::try_new(Arc::new(input), aggregate.group_expr.clone(), calls)?;
    let aggregate = Arc::new(LogicalPlan::Aggregate(aggregate));
    Ok(LogicalPlan::Projection(Projection::try_new(columns, aggregate)?))
}
