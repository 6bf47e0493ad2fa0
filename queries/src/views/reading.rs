//! From finished groups to the rows of a view: `HAVING` and the select list, over dimensions, bucket and results.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::PhysicalExpr;
use streamgauge_schemas::EventTime;
use streamgauge_schemas::state::Output;

use super::error::ViewError;
use super::expression::{check_pure, simplified};

/// How the rows of a view are made of its finished groups.
#[derive(Clone, Debug)]
pub struct Reading {
    /// A column for each dimension, named by its expression, then the bucket, if any, then one for each result.
    pub base: SchemaRef,
    /// The condition of `HAVING`, over `base`.
    pub having: Option<Arc<dyn PhysicalExpr>>,
    /// The select list with its names, over `base`.
    pub columns: Vec<(Arc<dyn PhysicalExpr>, String)>,
    /// The columns of the view.
    pub schema: SchemaRef,
    /// For each column the same expression over the results alone, which may all be null there; `None` for a column that
    /// also depends on something else, or on no result.
    pub results: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// The beginning of the bucket that holds a time, of a view with a bucket: over that time, `at`, alone.
    pub(crate) bucket: Option<BucketAt>,
}

/// The expression of a view's bucket, and the one column that it is over.
#[derive(Clone, Debug)]
pub(crate) struct BucketAt {
    pub(super) expr: Arc<dyn PhysicalExpr>,
    pub(super) time: SchemaRef,
}

impl Reading {
    /// The reading of some columns, in that order, over the columns of the base that these and `HAVING` need; and the
    /// places that these had.
    ///
    /// # Errors
    /// [`DataFusionError`] when an expression is not over the base, which none is.
    pub fn part(&self, columns: &[usize]) -> Result<(Reading, Vec<usize>), DataFusionError> {
        let exprs = columns.iter().map(|column| &self.columns[*column].0).chain(&self.having);
        let needed: BTreeSet<usize> = exprs.flat_map(collect_columns).map(|column| column.index()).collect();
        let kept: Vec<usize> = needed.into_iter().collect();
        let base: SchemaRef = Arc::new(self.base.project(&kept)?);
        let over = |expr: &Arc<dyn PhysicalExpr>| reassign_expr_columns(expr.clone(), &base);
        let named = |column: &usize| Ok((over(&self.columns[*column].0)?, self.columns[*column].1.clone()));
        let reading = Reading {
            having: self.having.as_ref().map(over).transpose()?,
            columns: columns.iter().map(named).collect::<Result<_, DataFusionError>>()?,
            schema: Arc::new(self.schema.project(columns)?),
            results: columns.iter().map(|column| self.results[*column].clone()).collect(),
            bucket: self.bucket.clone(),
            base,
        };
        Ok((reading, kept))
    }

    /// The rows of the view that these groups are; fewer than groups when there is a `HAVING`.
    ///
    /// # Errors
    /// [`DataFusionError`] when an expression cannot be computed, such as a division by zero.
    pub fn rows(&self, groups: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        match self.passed(groups)? {
            Some(passed) => self.columns_of(&filter_record_batch(groups, &passed)?),
            None => self.columns_of(groups),
        }
    }

    /// Which groups pass the condition of `HAVING`; `None` for all of them.
    ///
    /// # Errors
    /// As [`Reading::rows`].
    pub fn passed(&self, groups: &RecordBatch) -> Result<Option<BooleanArray>, DataFusionError> {
        let Some(having) = &self.having else { return Ok(None) };
        let passed = having.evaluate(groups)?.into_array(groups.num_rows())?;
        Ok(Some(without_nulls(passed.as_boolean())))
    }

    /// The select list of groups that have passed.
    ///
    /// # Errors
    /// As [`Reading::rows`].
    pub fn columns_of(&self, groups: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let value = |(expr, _): &(Arc<dyn PhysicalExpr>, String)| expr.evaluate(groups)?.into_array(groups.num_rows());
        let columns = self.columns.iter().map(value).collect::<Result<Vec<ArrayRef>, DataFusionError>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(groups.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// The beginning of the bucket that holds `time`; `None` of a view without a bucket, or for a time that has none.
    #[must_use]
    pub fn bucket_at(&self, time: EventTime) -> Option<EventTime> {
        let BucketAt { expr, time: schema } = self.bucket.as_ref()?;
        let times = TimestampMicrosecondArray::from_value(time.0, 1).with_timezone("UTC");
        let event = RecordBatch::try_new(schema.clone(), vec![Arc::new(times)]).ok()?;
        let bucket = expr.evaluate(&event).ok()?.into_array(1).ok()?;
        bucket.as_primitive_opt::<TimestampMicrosecondType>().map(|bucket| EventTime(bucket.value(0)))
    }
}

/// A mask in which a null counts as false.
pub(crate) fn without_nulls(mask: &BooleanArray) -> BooleanArray {
    if mask.null_count() == 0 { mask.clone() } else { prep_null_mask_filter(mask) }
}

/// What the select list calls a dimension, the bucket or a result: its column in `base`, and its type there.
pub(super) struct Names {
    of: HashMap<Column, (String, DataType)>,
    base: DFSchemaRef,
}

impl Names {
    /// The columns of `base`, and for each column of the select list the place there with the type that it had.
    pub(super) fn new(
        base: &SchemaRef,
        places: impl IntoIterator<Item = (Column, usize, DataType)>,
    ) -> Result<Self, ViewError> {
        let of = places.into_iter().map(|(column, place, of)| (column, (base.field(place).name().clone(), of)));
        Ok(Names { of: of.collect(), base: Arc::new(DFSchema::try_from(base.clone())?) })
    }

    /// A column of the select list over `base`.
    ///
    /// A bucket or a time that stands by itself stays in microseconds: DataFusion bins in nanoseconds, which end in 2262.
    pub(super) fn column(&self, expr: Expr, state: &SessionState) -> Result<Arc<dyn PhysicalExpr>, ViewError> {
        let alone = match unaliased(&expr) {
            Expr::Column(column) => self.of.get(column),
            _ => None,
        };
        match alone {
            Some((name, DataType::Timestamp(_, Some(zone)))) if matches!(zone.as_ref(), "UTC" | "+00:00") => {
                let base = Expr::Column(Column::new_unqualified(name));
                Ok(state.create_physical_expr(base, &self.base)?)
            }
            _ => self.compile(expr, state),
        }
    }

    /// An expression of the select list over `base`.
    pub(super) fn compile(&self, expr: Expr, state: &SessionState) -> Result<Arc<dyn PhysicalExpr>, ViewError> {
        check_pure(&expr)?;
        let over_base = expr.unalias_nested().data.transform_up(|expr| {
            let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
            let Some((name, of)) = self.of.get(column) else { return Ok(Transformed::no(expr)) };
            let base = Expr::Column(Column::new_unqualified(name));
            let same = base.get_type(&*self.base)? == *of;
            Ok(Transformed::yes(if same { base } else { Expr::Cast(Cast::new(Box::new(base), of.clone())) }))
        })?;
        let expr = simplified(over_base.data, &self.base, state)?;
        Ok(state.create_physical_expr(expr, &self.base)?)
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// The columns that results are, for expressions over these alone: of no events, any of them may be null.
pub(crate) fn results_base(outputs: &[Output]) -> SchemaRef {
    let fields = outputs.iter().map(|output| Field::new(&output.name, output.kind.arrow(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The schema of a select list over `base`.
pub(super) fn schema_of(columns: &[(Arc<dyn PhysicalExpr>, String)], base: &Schema) -> Result<SchemaRef, ViewError> {
    let field = |(expr, name): &(Arc<dyn PhysicalExpr>, String)| {
        Ok(Field::new(name, expr.data_type(base)?, expr.nullable(base)?))
    };
    let fields = columns.iter().map(field).collect::<Result<Vec<Field>, DataFusionError>>()?;
    Ok(Arc::new(Schema::new(fields)))
}
