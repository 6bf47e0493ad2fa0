//! What a table keeps behind its columns: the states of a view, shown as columns to whoever merges them further.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::{LogicalPlan, TableScan, TableScanBuilder};
use datafusion::physical_plan::PhysicalExpr;
use streamgauge_schemas::View;
use streamgauge_schemas::state::columns::StateColumn;

use super::groups::GroupsTable;

/// A table that has states.
pub(crate) struct Kept {
    table: Arc<dyn TableProvider>,
    pub(crate) view: Arc<View>,
    /// As [`Reading::results`](crate::views::Reading::results).
    pub(crate) results: Vec<Option<Arc<dyn PhysicalExpr>>>,
}

impl Kept {
    /// What the table of a scan keeps; `None` when it is that of no view.
    pub(crate) fn of(scan: &TableScan) -> Option<Kept> {
        let table = source_as_provider(&scan.source).ok()?;
        let reader = table.downcast_ref::<GroupsTable>()?.reader();
        let (view, results) = (reader.view.clone(), reader.reading.results.clone());
        Some(Kept { table, view, results })
    }

    /// The scan with the states of some folds after the view's columns, by the names that `name` gives them.
    ///
    /// # Errors
    /// DataFusion's, when it has another idea of the table.
    pub(crate) fn show(
        &self,
        scan: &TableScan,
        folds: &[usize],
        name: impl Fn(&StateColumn) -> String,
    ) -> Result<LogicalPlan> {
        let groups = self.table.downcast_ref::<GroupsTable>().expect("it was one when this was made");
        let table = provider_as_source(Arc::new(groups.showing(folds, name)));
        Ok(LogicalPlan::TableScan(TableScanBuilder::new(scan.table_name.clone(), table).build()?))
    }
}
