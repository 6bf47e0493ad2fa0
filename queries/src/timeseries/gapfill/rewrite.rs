//! From a question that groups by `time_bucket_gapfill` to one that groups by `time_bucket` and fills what is missing.

use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, Extension, Filter, LogicalPlan, lit};

use super::call::{Call, call_of};
use super::node::{GapFill, gap_fill};
use super::range::{Range, constant, ticks};
use crate::timeseries::bucket::{Spec, TIME_BUCKET, function};
use crate::timeseries::buckets::{Buckets, zone};

const FORMS: &str =
    "it is called as time_bucket_gapfill(width, ts [, zone] [, start, finish]); all but ts are constants";

/// The plan without calls of `time_bucket_gapfill`, `locf` and `interpolate`; it is for a session with the planner of
/// [`with_planner`](crate::timeseries::with_planner).
///
/// # Errors
/// A plan error that names the call that cannot be answered, and says why.
pub fn rewritten(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    if calls_in(&plan)?.is_none() {
        return Ok(plan);
    }
    let plan = plan.transform_up_with_subqueries(|plan| Ok(Transformed::yes(step(plan, state)?)))?.data;
    match calls_in(&plan)? {
        Some((call, text)) => Err(call.misplaced(&text)),
        None => Ok(plan),
    }
}

/// Whether a plan is for [`rewritten`] to change.
///
/// # Errors
/// DataFusion's, of a plan that cannot be walked.
pub(crate) fn fills_gaps(plan: &LogicalPlan) -> Result<bool> {
    Ok(calls_in(plan)?.is_some())
}

/// The first call of a plan.
fn calls_in(plan: &LogicalPlan) -> Result<Option<(Call, String)>> {
    let mut found = None;
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Some((call, _)) = call_of(part) {
                    found.get_or_insert_with(|| (call, part.human_display().to_string()));
                }
                Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })?;
    Ok(found)
}

/// A node over inputs that are rewritten already.
fn step(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.iter().any(is_gapfill) => grouped(&aggregate, state),
        LogicalPlan::Filter(filter) => match gap_fill(&filter.input) {
            // HAVING is about groups of events, so what it leaves out is a gap.
            Some(node) => {
                let input = Filter::try_new(filter.predicate.clone(), node.input.clone().into())?;
                extension(node.over(LogicalPlan::Filter(input))?)
            }
            None => LogicalPlan::Filter(filter).recompute_schema(),
        },
        other => {
            let calls = fills_of(&other)?;
            if calls.is_empty() {
                return other.recompute_schema();
            }
            let input = match other.inputs()[..] {
                [input] => with_fills(input, &calls)?,
                _ => return Err(misplaced(&calls[0])),
            };
            let exprs = other.expressions().into_iter().map(by_name).collect::<Result<_>>()?;
            other.with_new_exprs(exprs, vec![input])
        }
    }
}

fn extension(node: GapFill) -> Result<LogicalPlan> {
    Ok(LogicalPlan::Extension(Extension { node: std::sync::Arc::new(node) }))
}

fn misplaced(call: &Expr) -> DataFusionError {
    let text = call.human_display().to_string();
    call_of(call).map_or(Call::Locf, |(call, _)| call).misplaced(&text)
}

fn is_gapfill(expr: &Expr) -> bool {
    matches!(call_of(expr), Some((Call::GapFill, _)))
}

/// The calls of `locf` and `interpolate` in a node, each once.
fn fills_of(plan: &LogicalPlan) -> Result<Vec<Expr>> {
    let mut calls: Vec<Expr> = Vec::new();
    plan.apply_expressions(|expr| {
        expr.apply(|part| match call_of(part) {
            Some((Call::Locf | Call::Interpolate, _)) => {
                if !calls.contains(part) {
                    calls.push(part.clone());
                }
                Ok(TreeNodeRecursion::Jump)
            }
            _ => Ok(TreeNodeRecursion::Continue),
        })
    })?;
    Ok(calls)
}

/// An expression over the columns that its calls have become.
fn by_name(expr: Expr) -> Result<Expr> {
    let renamed = expr.transform_down(|part| match call_of(&part) {
        Some((Call::Locf | Call::Interpolate, _)) => {
            let name = part.schema_name().to_string();
            Ok(Transformed::new(Expr::Column(Column::new_unqualified(name)), true, TreeNodeRecursion::Jump))
        }
        _ => Ok(Transformed::no(part)),
    })?;
    Ok(renamed.data)
}

/// A plan with a column for each of the calls.
fn with_fills(plan: &LogicalPlan, calls: &[Expr]) -> Result<LogicalPlan> {
    if let Some(node) = gap_fill(plan) {
        return extension(node.filling(calls)?);
    }
    match plan {
        LogicalPlan::Window(_) | LogicalPlan::Filter(_) | LogicalPlan::Sort(_) => {
            let input = with_fills(plan.inputs()[0], calls)?;
            plan.with_new_exprs(plan.expressions(), vec![input])
        }
        _ => Err(misplaced(&calls[0])),
    }
}

/// What a call says.
struct Asked {
    buckets: Buckets,
    time: Expr,
    width: ScalarValue,
    zone: Option<String>,
    range: Range,
}

fn grouped(aggregate: &Aggregate, state: &SessionState) -> Result<LogicalPlan> {
    let place = aggregate.group_expr.iter().position(is_gapfill).unwrap_or_default();
    let expr = &aggregate.group_expr[place];
    let asked = Asked::of(expr, &aggregate.input, state)?;
    let mut group_expr = aggregate.group_expr.clone();
    let args = [Some(lit(asked.width)), Some(asked.time), asked.zone.map(lit)].into_iter().flatten().collect();
    let bucket = Expr::ScalarFunction(ScalarFunction::new_udf(function(TIME_BUCKET), args));
    group_expr[place] = bucket.alias(expr.schema_name().to_string());
    let groups = group_expr.len();
    let aggregate = Aggregate::try_new(aggregate.input.clone(), group_expr, aggregate.aggr_expr.clone())?;
    let mut columns = aggregate.schema.columns();
    columns.truncate(groups);
    let bucket = columns.remove(place);
    extension(GapFill::new(LogicalPlan::Aggregate(aggregate), bucket, columns, asked.buckets, asked.range)?)
}

impl Asked {
    fn of(call: &Expr, input: &LogicalPlan, state: &SessionState) -> Result<Self> {
        let fail = |reason: &str| DataFusionError::Plan(format!("{}: {reason}", call.human_display()));
        let Some((_, [width, time, rest @ ..])) = call_of(call) else { return Err(fail(FORMS)) };
        let DataType::Timestamp(unit, _) = time.get_type(input.schema())? else {
            return Err(fail("its second argument is a column of times"));
        };
        let given = |expr: &Expr| constant(expr, state)?.filter(|value| !value.is_null()).ok_or_else(|| fail(FORMS));
        let width = given(width)?;
        let (mut in_zone, mut ends) = (None, Vec::new());
        for argument in rest {
            let value = given(argument)?;
            match value.try_as_str().flatten() {
                Some(name) if zone(name).is_ok() && in_zone.is_none() => in_zone = Some(name.to_owned()),
                _ => ends.push(value),
            }
        }
        let mut spec = Spec::new(&width, unit)?;
        if let Some(zone) = &in_zone {
            spec.take(&zone.as_str().into())?;
        }
        let instant = |end: &ScalarValue| {
            let time = instant(end, in_zone.as_deref().unwrap_or("UTC"), unit);
            time.ok_or_else(|| fail(&format!("{end} is neither a time zone nor a time; {FORMS}")))
        };
        let range = match &ends[..] {
            [] => match time {
                Expr::Column(column) => Range::of(input, column, state)?,
                _ => Range::default(),
            },
            [start, finish] => Range { lower: Some(instant(start)?), upper: Some(instant(finish)?) },
            [one] => {
                instant(one)?;
                return Err(fail("a start has a finish beside it; both may be left out, and are taken from WHERE"));
            }
            _ => return Err(fail(FORMS)),
        };
        Ok(Asked { buckets: spec.buckets()?, time: time.clone(), width, zone: in_zone, range })
    }
}

/// A time as its column counts it; one without a zone is on the wall clock of `zone`.
fn instant(time: &ScalarValue, in_zone: &str, unit: TimeUnit) -> Option<i64> {
    let time = match time.try_as_str() {
        Some(text) => {
            let time = string_to_datetime(&zone(in_zone).ok()?, text?).ok()?;
            ScalarValue::TimestampMicrosecond(Some(time.timestamp_micros()), Some("UTC".into()))
        }
        None => time.clone(),
    };
    ticks(&time.cast_to(&DataType::Timestamp(unit, Some(in_zone.into()))).ok()?)
}
