//! Which of the rules of physical planning a question is worth: for one that reads a few groups of a view, most of its time
//! would be spent on them.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::ensure_coop::EnsureCooperative;
use datafusion::physical_optimizer::limit_pushdown::LimitPushdown;

use crate::tables::reads_named_groups;

/// Sessions for plans that read only groups of views whose dimensions their filters name. They plan and know no tables.
pub(super) struct Narrow {
    /// Nothing is done at the same time: what it would save is less than what it takes to part and to join.
    whole: SessionState,
    /// And with those rules only that do something for a plain plan: it has no distributions, no orders that a node asks of
    /// another, no joins and no aggregates.
    plain: Arc<SessionState>,
}

impl Narrow {
    pub(super) fn new(base: &SessionState) -> Self {
        let config = base.config().clone().with_target_partitions(1);
        let mut props = ExecutionProps::new();
        props.config_options = Some(config.options().clone()); // for functions; no time, since `now()` is a value by then
        let whole = || {
            let builder = SessionStateBuilder::new_from_existing(base.clone());
            builder.with_config(config.clone()).with_execution_props(props.clone())
        };
        // What is cut off is not computed, and the work can be ended.
        let rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> =
            vec![Arc::new(LimitPushdown::new()), Arc::new(EnsureCooperative::new())];
        Narrow { whole: whole().build(), plain: Arc::new(whole().with_physical_optimizer_rules(rules).build()) }
    }

    /// The session for plans that only filter and compute rows of one table, as they come.
    pub(super) fn plain(&self) -> &Arc<SessionState> {
        &self.plain
    }

    /// The session for an optimized plan; `None` for one that may read much.
    ///
    /// # Errors
    /// DataFusion's, of a plan that cannot be walked.
    pub(super) fn session(&self, plan: &LogicalPlan) -> Result<Option<&SessionState>> {
        Ok(match reads_named_groups(plan)? {
            false => None,
            true if is_plain(plan)? => Some(&self.plain),
            true => Some(&self.whole),
        })
    }
}

/// Whether a plan only filters, orders, cuts and computes rows of one table.
fn is_plain(plan: &LogicalPlan) -> Result<bool> {
    let mut plain = true;
    plan.apply_with_subqueries(|plan| {
        plain &= matches!(
            plan,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::Sort(_)
                | LogicalPlan::Limit(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::TableScan(_)
        );
        plan.apply_expressions(|expr| {
            plain &= !expr.exists(|part| Ok(is_subquery(part)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(plain)
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_))
}
