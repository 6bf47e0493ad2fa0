//! A read of a stream or a view as a node of the plan, which `EXPLAIN` shows with the SQL that ClickHouse is asked and with what
//! is read from memory. What it does, [`StreamingTableExec`] does.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties};

use crate::clickhouse;

/// What is read, for people.
pub(super) trait Explained: fmt::Debug + Send + Sync {
    /// What ClickHouse is asked, without settings; up to where it reads is known when it is asked.
    fn sql(&self) -> String;

    /// What of memory is read.
    fn memory(&self) -> String;
}

/// See the module.
#[derive(Debug)]
pub(super) struct ReadExec {
    read: Arc<dyn ExecutionPlan>,
    explained: Arc<dyn Explained>,
}

impl ReadExec {
    pub(super) fn new(read: StreamingTableExec, explained: Arc<dyn Explained>) -> Self {
        ReadExec { read: Arc::new(read), explained }
    }

    fn with(&self, read: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(ReadExec { read, explained: self.explained.clone() })
    }
}

impl ExecutionPlan for ReadExec {
    fn name(&self) -> &str {
        "ReadExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.read.properties()
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

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.read.execute(partition, context)
    }

    fn try_swapping_with_projection(&self, projection: &ProjectionExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        Ok(self.read.try_swapping_with_projection(projection)?.map(|read| self.with(read)))
    }

    fn fetch(&self) -> Option<usize> {
        self.read.fetch()
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        self.read.with_fetch(limit).map(|read| self.with(read))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.read.metrics()
    }
}

impl DisplayAs for ReadExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sql = clickhouse::shortened(self.explained.sql());
        write!(f, "ReadExec: sql={sql}, memory=[{}]", self.explained.memory())?;
        match self.fetch() {
            Some(fetch) => write!(f, ", fetch={fetch}"),
            None => Ok(()),
        }
    }
}
