//! The node of a plan whose rows ClickHouse has a part in.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::history::{HistoryError, conform};

/// What is to be done.
#[async_trait]
pub(super) trait Work: fmt::Debug + Send + Sync + 'static {
    /// What plans call it.
    const NAME: &'static str;

    /// Asks ClickHouse, or does the same without it. The columns may be of types that are as wide as those of the node.
    async fn begin(self: Arc<Self>, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream>;

    /// What ClickHouse is asked, without settings.
    fn sql(&self) -> String;

    /// What is read of memory.
    fn memory(&self) -> String;
}

/// See the module. A leaf of one partition.
#[derive(Debug)]
pub(super) struct ClickHouseExec<W> {
    work: Arc<W>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl<W: Work> ClickHouseExec<W> {
    pub(super) fn new(work: W, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (work, properties) = (Arc::new(work), Arc::new(properties));
        ClickHouseExec { work, properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl<W: Work> ExecutionPlan for ClickHouseExec<W> {
    fn name(&self) -> &str {
        W::NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let metrics = BaselineMetrics::new(&self.metrics, 0);
        let batches = stream::once(self.work.clone().begin(context)).try_flatten();
        let unusable = |error| DataFusionError::from(HistoryError::lasting(error));
        let rows = {
            let schema = schema.clone();
            batches.map(move |batch| {
                let batch = conform(&batch?, &schema).map_err(unusable)?;
                metrics.record_output(batch.num_rows());
                Ok(batch)
            })
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl<W: Work> DisplayAs for ClickHouseExec<W> {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sql = crate::clickhouse::shortened(self.work.sql());
        write!(f, "{}: sql={sql}, memory=[{}]", W::NAME, self.work.memory())
    }
}
