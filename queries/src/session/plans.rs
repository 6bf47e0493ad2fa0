//! The plan cache: optimized plans of questions, so that one of a shape that was asked before is given its values only.
//!
//! ```text
//!  … WHERE host = 'h7' AND bucket >= now() - interval '1 hour'     the question
//!  … WHERE host = $h0  AND bucket >= now() - interval '1 hour'     its shape ─▶ an optimized plan, kept
//!                                                                                        │
//!            this question's texts and moment, its snapshot's tables, simplified   ◀─────┘
//! ```
//!
//! Texts that a column is compared with in `WHERE`, and parameters there, are left open; everything else of the statement is
//! the shape, and `now()` stays a call. What depends on more than that is planned each time: joins and subqueries with
//! something open (what the optimizer makes of an outer join depends on values), conditions about no column, gap filling,
//! functions that look at the state of the program, and tables that are neither streams nor views.
//!
//! # Invariants
//!
//! 1. A plan is given out only for the very streams and views that it was made of: each is looked up by its name again. So
//!    nothing needs to be invalidated.
//! 2. What is kept holds no snapshot: its tables belong to a statement that is never asked.
//! 3. Whatever fails on this way is planned without it, so errors are those of the question as it was written.

mod bound;
mod shape;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use lru::LruCache;
use parking_lot::Mutex;

use super::QueryEngine;
use crate::combine;
use crate::open::is_open;
use crate::postgres::own;
use crate::question::Question;
use crate::tables::Statement;
use crate::timeseries;
use bound::{bound, typed, with_tables_of};
use shape::Shape;

/// So many plans are kept; what was not asked for longest goes first.
const PLANS_MAX: usize = 256;
/// Longer statements, and those whose plan is larger before it is optimized, are planned each time, so that what is kept
/// has a bound.
const TEXT_BYTES_MAX: usize = 8 << 10;
const NODES_MAX: usize = 500;

/// See the module.
pub(super) struct PlanCache(Mutex<LruCache<Shape, Kept>>);

#[derive(Clone)]
enum Kept {
    Plan(LogicalPlan),
    /// There is none for all values and moments.
    Never,
}

impl PlanCache {
    pub(super) fn new() -> Self {
        PlanCache(Mutex::new(LruCache::new(PLANS_MAX.try_into().expect("it is not zero"))))
    }
}

impl QueryEngine {
    /// The optimized plan of a question out of the cache, or made for it and kept; `None` when it is to be planned
    /// as it is. `state` is the session of the question.
    pub(super) async fn cached_plan(
        &self,
        state: &SessionState,
        statement: &Statement,
        question: &Question,
    ) -> Option<LogicalPlan> {
        if question.about_system || question.text_bytes > TEXT_BYTES_MAX {
            return None;
        }
        let (shape, values) = Shape::of(&question.statement, &question.parameters)?;
        let kept = self.inner.plans.0.lock().get(&shape).cloned();
        let plan = match kept {
            Some(Kept::Never) => return None,
            Some(Kept::Plan(kept)) => bound(kept, &values, statement, state).ok().flatten(),
            None => None,
        };
        ::metrics::counter!("streamgauge_plan_cache_total", "found" => if plan.is_some() { "yes" } else { "no" })
            .increment(1);
        if plan.is_some() {
            return plan;
        }
        let Some(made) = self.plan_of(&shape, statement).await? else {
            self.inner.plans.0.lock().put(shape, Kept::Never);
            return None;
        };
        let plan = bound(made.clone(), &values, statement, state).ok().flatten()?;
        let nobody = self.statement(Default::default(), Default::default(), statement.bounds, true);
        let kept = with_tables_of(made, &nobody).ok().flatten()?; // invariant 2
        self.inner.plans.0.lock().put(shape, Kept::Plan(kept));
        Some(plan)
    }

    /// The optimized plan of a shape, if it is one for all values and moments; `None` when it cannot be planned.
    async fn plan_of(&self, shape: &Shape, statement: &Statement) -> Option<Option<LogicalPlan>> {
        let state = self.session(statement.clone()); // its execution does not begin, so `now()` is no value
        let plan = self.logical_plan(&state, shape.statement()).await.ok()?;
        let plan = typed(plan, shape.kinds()).ok()?;
        if !is_for_all_moments(&plan).ok()? {
            return Some(None);
        }
        let plan = state.optimize(&combine::rewritten(plan).ok()?).ok()?;
        Some(is_bindable(&plan).ok()?.then_some(plan))
    }
}

/// Whether the plan before it is optimized says the same at any time, but for what is left open and `now()`.
fn is_for_all_moments(plan: &LogicalPlan) -> Result<bool> {
    if timeseries::fills_gaps(plan)? {
        return Ok(false);
    }
    let (mut fits, mut several, mut open, mut nodes) = (true, false, false, 0);
    plan.apply_with_subqueries(|plan| {
        nodes += 1;
        several |= matches!(plan, LogicalPlan::Join(_) | LogicalPlan::Subquery(_));
        fits &= !matches!(plan, LogicalPlan::Extension(_) | LogicalPlan::RecursiveQuery(_) | LogicalPlan::Statement(_));
        plan.apply_expressions(|expr| {
            expr.apply(|part| {
                nodes += 1;
                open |= is_open(part);
                fits &= !looks_at_the_program(part);
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(fits && !(several && open) && nodes <= NODES_MAX)
}

/// Whether an expression is a call whose answer is the same within a statement only, other than `now()` and its kind, or
/// that belongs to the session.
fn looks_at_the_program(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(call) if own::is_known(call.func.name()) => true,
        Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Stable && !is_open(expr),
        Expr::ScalarVariable(..) => true,
        _ => false,
    }
}

/// Whether an optimized plan is what it would have been with the values: what they decide is decided where they are put in.
///
/// - What occurs twice in a condition the optimizer takes out of it, and then nobody sees any more what the condition is.
/// - A condition that is about no column goes below aggregates as if it were about their groups; with its values it would
///   have been true or false before, and gone.
fn is_bindable(plan: &LogicalPlan) -> Result<bool> {
    let has_open = |expr: &Expr| expr.exists(|part| Ok(is_open(part)));
    let mut fits = true;
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            let is_common = matches!(expr, Expr::Alias(alias) if alias.name.starts_with("__common_expr"));
            fits &= !(is_common && has_open(expr)?);
            Ok(TreeNodeRecursion::Continue)
        })?;
        let conditions = match plan {
            LogicalPlan::Filter(filter) => split_conjunction(&filter.predicate),
            LogicalPlan::TableScan(scan) => scan.filters.iter().flat_map(split_conjunction).collect(),
            _ => Vec::new(),
        };
        for condition in conditions {
            fits &= !(condition.column_refs().is_empty() && has_open(condition)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(fits)
}
