//! What a table keeps behind its columns: the states of a view, shown as columns to whoever merges them further.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, Projection, TableScan, TableScanBuilder};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::PhysicalExpr;
use streamgauge_schemas::View;
use streamgauge_schemas::state::columns::StateColumn;

use super::groups::GroupsTable;
use super::view::ViewTable;
use crate::views::results_base;

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
        if let Some(groups) = table.downcast_ref::<GroupsTable>() {
            let reader = groups.reader();
            let (view, results) = (reader.view.clone(), reader.reading.results.clone());
            return Some(Kept { table, view, results });
        }
        let view = table.downcast_ref::<ViewTable>()?.view().clone();
        let base = results_base(&view.definition.outputs);
        let result = |output| Arc::new(PhysicalColumn::new(base.field(output).name(), output)) as Arc<dyn PhysicalExpr>;
        let results = view.definition.columns.iter().map(|column| column.output.map(result)).collect();
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
        if let Some(groups) = self.table.downcast_ref::<GroupsTable>() {
            let table = provider_as_source(Arc::new(groups.showing(folds, name)));
            return Ok(LogicalPlan::TableScan(TableScanBuilder::new(scan.table_name.clone(), table).build()?));
        }
        // The states of a rollup are columns of it, or nearly so.
        let columns = scan.projected_schema.columns().into_iter().map(Expr::Column);
        let states = self.view.state_columns().into_iter().zip(self.view.layout().columns());
        let shown = states.filter(|(_, state)| folds.contains(&state.fold)).map(|(column, state)| {
            let column = Expr::Column(Column::new(Some(scan.table_name.clone()), column));
            let state_type = state.kind.arrow();
            let column = match state_type {
                DataType::UInt64 => Expr::Cast(Cast::new(Box::new(column), state_type)),
                _ => column,
            };
            column.alias_qualified(Some(scan.table_name.clone()), name(&state))
        });
        let exprs = columns.chain(shown).collect();
        let scan = Arc::new(LogicalPlan::TableScan(scan.clone()));
        Ok(LogicalPlan::Projection(Projection::try_new(exprs, scan)?))
    }
}
