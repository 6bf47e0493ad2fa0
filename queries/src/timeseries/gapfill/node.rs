//! The node of a plan that fills gaps, and how it is planned.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{Column, DFSchema, DFSchemaRef, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Expr, LogicalPlan, Projection, UserDefinedLogicalNode, UserDefinedLogicalNodeCore, cast,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::call::{Call, call_of};
use super::exec::GapFillExec;
use super::fill::{Fill, Shape};
use super::range::Range;
use crate::timeseries::buckets::Buckets;

/// See the module above.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GapFill {
    pub(super) input: LogicalPlan,
    /// Columns: the bucket, the other keys, and those that are filled.
    bucket: Expr,
    keys: Vec<Expr>,
    filled: Vec<Expr>,
    /// How, of each of these.
    fills: Vec<Fill>,
    buckets: Buckets,
    range: Range,
    schema: DFSchemaRef,
}

/// The node that a plan is.
pub(super) fn gap_fill(plan: &LogicalPlan) -> Option<&GapFill> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

impl GapFill {
    /// Over groups by these columns.
    pub(super) fn new(
        input: LogicalPlan,
        bucket: Column,
        keys: Vec<Column>,
        buckets: Buckets,
        range: Range,
    ) -> Result<Self> {
        let keys = keys.into_iter().map(Expr::Column).collect();
        let (bucket, schema) = (Expr::Column(bucket), input.schema().clone());
        let (filled, fills) = (Vec::new(), Vec::new());
        GapFill { input: input.clone(), bucket, keys, filled, fills, buckets, range, schema }.over(input)
    }

    /// The same over another input with the same columns, and maybe more.
    pub(super) fn over(&self, input: LogicalPlan) -> Result<Self> {
        let kept: Vec<&Expr> = std::iter::once(&self.bucket).chain(&self.keys).collect();
        let field =
            |(qualifier, field): (Option<&datafusion::common::TableReference>, &Arc<arrow::datatypes::Field>)| {
                let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
                let may_be_null = field.is_nullable() || !kept.contains(&&column); // invariant 2
                (qualifier.cloned(), Arc::new(field.as_ref().clone().with_nullable(may_be_null)))
            };
        let fields = input.schema().iter().map(field).collect();
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(GapFill { input, schema: Arc::new(schema), ..self.clone() })
    }

    /// The same with a column for each call.
    pub(super) fn filling(&self, calls: &[Expr]) -> Result<Self> {
        let mut node = self.clone();
        let mut exprs: Vec<Expr> = self.input.schema().columns().into_iter().map(Expr::Column).collect();
        for call in calls {
            let name = call.schema_name().to_string();
            let column = Expr::Column(Column::new_unqualified(&name));
            if self.filled.contains(&column) {
                continue;
            }
            let (argument, fill) = fill_of(call)?;
            exprs.push(argument.alias(name));
            node.filled.push(column);
            node.fills.push(fill);
        }
        node.over(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(self.input.clone()))?))
    }

    fn shape(&self) -> Result<Shape> {
        let schema = self.input.schema();
        let place = |expr: &Expr| match expr {
            Expr::Column(column) => schema.index_of_column(column),
            other => Err(DataFusionError::Internal(format!("{other} of a gap-filling node is no column"))),
        };
        let keys = self.keys.iter().map(place).collect::<Result<_>>()?;
        let fills = self.filled.iter().map(place).collect::<Result<Vec<usize>>>()?;
        let fills = fills.into_iter().zip(self.fills.iter().copied()).collect();
        let (bucket, buckets, range) = (place(&self.bucket)?, self.buckets.clone(), self.range);
        Ok(Shape { bucket, keys, fills, buckets, range })
    }
}

/// What a call fills, and how.
fn fill_of(call: &Expr) -> Result<(Expr, Fill)> {
    let fail = |reason: &str| Err(DataFusionError::Plan(format!("{}: {reason}", call.human_display())));
    match call_of(call) {
        Some((Call::Interpolate, [value])) => Ok((cast(value.clone(), DataType::Float64), Fill::Interpolate)),
        Some((Call::Locf, [value])) => Ok((value.clone(), Fill::Locf { over_nulls: false })),
        Some((Call::Locf, [value, over_nulls])) => match over_nulls.as_literal() {
            Some(ScalarValue::Boolean(Some(over_nulls))) => Ok((value.clone(), Fill::Locf { over_nulls: *over_nulls })),
            _ => fail("its second argument, treat_null_as_missing, is true or false"),
        },
        _ => fail("it takes an aggregate"),
    }
}

impl PartialOrd for GapFill {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let key = |node: &Self| (node.bucket.clone(), node.keys.clone(), node.filled.clone());
        match self.input.partial_cmp(&other.input) {
            Some(Ordering::Equal) => key(self).partial_cmp(&key(other)),
            order => order,
        }
        .filter(|order| *order != Ordering::Equal || self == other)
    }
}

impl UserDefinedLogicalNodeCore for GapFill {
    fn name(&self) -> &str {
        "GapFill"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.bucket).chain(&self.keys).chain(&self.filled).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |exprs: &[Expr]| exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "GapFill: {} by [{}], filled [{}]", self.bucket, list(&self.keys), list(&self.filled))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Some(input), true) = (inputs.pop(), exprs.len() == 1 + self.keys.len() + self.filled.len()) else {
            return Err(DataFusionError::Internal("a gap-filling node has one input, and keeps its columns".into()));
        };
        let mut exprs = exprs.into_iter();
        let bucket = exprs.next().unwrap_or_else(|| self.bucket.clone());
        let keys = exprs.by_ref().take(self.keys.len()).collect();
        GapFill { bucket, keys, filled: exprs.collect(), ..self.clone() }.over(input)
    }
}

/// Plans statements that may have such nodes.
pub(in crate::timeseries) fn query_planner() -> Arc<dyn QueryPlanner + Send + Sync> {
    Arc::new(WithGapFill)
}

#[derive(Debug)]
struct WithGapFill;

#[async_trait]
impl QueryPlanner for WithGapFill {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(WithGapFill)]);
        planner.create_physical_plan(plan, session).await
    }
}

#[async_trait]
impl ExtensionPlanner for WithGapFill {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<GapFill>() else { return Ok(None) };
        let exec = GapFillExec::new(physical_inputs[0].clone(), Arc::new(node.shape()?))?;
        Ok(Some(Arc::new(exec)))
    }
}
