//! What a program computes of each series or of each event: its expressions, over the columns that they need.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;

use super::error::ViewError;
use super::evaluate::Computation;
use super::expression::Scope;

/// What is computed of each series, or of each event.
#[derive(Debug)]
pub(super) struct Level {
    /// The columns that are needed, by their place.
    pub(super) columns: Vec<usize>,
    pub(super) computation: Computation,
}

impl Level {
    /// `columns` are those of the stream that this level has, in its order.
    pub(super) fn new(
        columns: &[usize],
        filter: Option<Expr>,
        expressions: Vec<Expr>,
        scope: &Scope<'_>,
    ) -> Result<Self, ViewError> {
        let used: BTreeSet<&str> =
            filter.iter().chain(&expressions).flat_map(Expr::column_refs).map(|column| column.name.as_str()).collect();
        let stream = &scope.stream.schema;
        let is_used = |place: &usize| used.contains(stream.field(columns[*place]).name().as_str());
        let places: Vec<usize> = (0..columns.len()).filter(is_used).collect();
        let fields: Vec<_> = places.iter().map(|place| stream.field(columns[*place]).clone()).collect();
        let input = Arc::new(Schema::new(fields));
        let named = DFSchema::try_from_qualified_schema(scope.stream.name.as_str(), &input)?;
        let physical = |expr: Expr| scope.state.create_physical_expr(expr, &named);
        let filter = filter.map(physical).transpose()?;
        let expressions = expressions.into_iter().map(physical).collect::<Result<Vec<_>, _>>()?;
        Ok(Level { columns: places, computation: Computation { input, filter, expressions, required: None } })
    }

    /// The columns that are needed, of a batch of all.
    pub(super) fn project(&self, all: &RecordBatch) -> RecordBatch {
        let columns = self.columns.iter().map(|place| all.column(*place).clone()).collect();
        batch(&self.computation.input, columns, all.num_rows())
    }
}

/// A batch of columns, of which there may be none.
pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).expect("the columns are those of the schema")
}
