//! The node as it runs: one partition, sorted by the other keys and then by time.
//!
//! Rows are held until their group is whole, and all of them when an end of the range is that of the data.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range as Rows;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{SortOptions, cast, concat_batches, max, min, partition};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, Partitioning,
    PhysicalExpr, PlanProperties,
};
use futures::{StreamExt, stream};

use super::fill::{Filler, Shape};

/// An answer is given in batches of about this many rows; a group is not split.
const BATCH_ROWS: usize = 8_192;

/// See the module.
#[derive(Debug)]
pub(super) struct GapFillExec {
    input: Arc<dyn ExecutionPlan>,
    shape: Arc<Shape>,
    ordering: LexOrdering,
    properties: Arc<PlanProperties>,
}

impl GapFillExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, shape: Arc<Shape>) -> Result<Self> {
        let schema = schema(&input.schema(), &shape);
        let by = |place: usize| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(schema.field(place).name(), place));
            PhysicalSortExpr::new(column, SortOptions::default())
        };
        let sorts: Vec<PhysicalSortExpr> = shape.keys.iter().chain([&shape.bucket]).map(|place| by(*place)).collect();
        let ordering = LexOrdering::new(sorts.clone());
        let ordering = ordering.ok_or_else(|| DataFusionError::Internal("a gap is in an order of time".into()))?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, [sorts]),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(GapFillExec { input, shape, ordering, properties: Arc::new(properties) })
    }
}

/// The columns, of which only the keys and the bucket are as they were: the others may be null.
fn schema(input: &Schema, shape: &Shape) -> SchemaRef {
    let field = |(place, field): (usize, &Arc<arrow::datatypes::Field>)| {
        let may_be_null = field.is_nullable() || !(place == shape.bucket || shape.keys.contains(&place));
        field.as_ref().clone().with_nullable(may_be_null)
    };
    let fields: Vec<_> = input.fields().iter().enumerate().map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()))
}

impl DisplayAs for GapFillExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GapFillExec: by [{}]", self.ordering)
    }
}

impl ExecutionPlan for GapFillExec {
    fn name(&self) -> &str {
        "GapFillExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![Some(self.ordering.clone().into())]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut go_on = TreeNodeRecursion::Continue;
        for sort in self.ordering.iter() {
            go_on = go_on.visit_sibling(|| f(&sort.expr))?;
        }
        Ok(go_on)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) => Ok(Arc::new(GapFillExec::new(input, self.shape.clone())?)),
            None => Err(DataFusionError::Internal("a gap-filling node has an input".into())),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context.clone())?;
        let schema = self.properties.eq_properties.schema().clone();
        let reservation = MemoryConsumer::new("gap filling").register(context.memory_pool());
        let shape = self.shape.clone();
        let (held, filler, whole, is_done) = (Vec::new(), None, None, false);
        let filling = Filling { input, shape, schema: schema.clone(), held, filler, whole, is_done, reservation };
        let batches = stream::try_unfold(filling, Filling::next);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// An answer on its way.
struct Filling {
    input: SendableRecordBatchStream,
    shape: Arc<Shape>,
    schema: SchemaRef,
    /// Rows whose last group may go on.
    held: Vec<RecordBatch>,
    /// Once the range is known.
    filler: Option<Filler>,
    /// Rows of groups that are whole, and those to come.
    whole: Option<(RecordBatch, VecDeque<Rows<usize>>)>,
    /// The input has no more rows.
    is_done: bool,
    reservation: MemoryReservation,
}

impl Filling {
    /// The next rows.
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        if self.filler.is_none() && self.shape.range.lower.is_some() && self.shape.range.upper.is_some() {
            self.begin(self.shape.starts(None, None)?);
        }
        loop {
            if let Some(batch) = self.fill()? {
                return Ok(Some((batch, self)));
            }
            if self.is_done {
                return Ok(None);
            }
            match self.input.next().await.transpose()? {
                Some(batch) => self.take(batch)?,
                None => self.finish()?,
            }
        }
    }

    fn begin(&mut self, starts: Vec<i64>) {
        self.filler = Some(Filler::new(self.shape.clone(), self.schema.clone(), starts));
    }

    /// Fills some of the groups that are whole.
    fn fill(&mut self) -> Result<Option<RecordBatch>> {
        let (Some(filler), Some((rows, groups))) = (&mut self.filler, &mut self.whole) else { return Ok(None) };
        let (mut some, mut count) = (Vec::new(), 0);
        while count < BATCH_ROWS
            && let Some(group) = groups.pop_front()
        {
            count += group.len().max(filler.group_rows_min());
            some.push(group);
        }
        if some.is_empty() {
            self.whole = None;
            return Ok(None);
        }
        filler.fill(rows, &some).map(Some)
    }

    /// Takes rows in; groups are whole when another has begun.
    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        self.reservation.try_grow(batch.get_array_memory_size())?;
        self.held.push(batch);
        if self.filler.is_none() || self.shape.keys.is_empty() {
            return Ok(());
        }
        let rows = concat_batches(&self.input.schema(), &self.held)?;
        let mut groups = self.groups(&rows)?;
        self.held = match groups.pop_back() {
            Some(last) => vec![rows.slice(last.start, last.len())],
            None => Vec::new(),
        };
        self.reservation.try_resize(rows.get_array_memory_size())?;
        self.whole = Some((rows, groups));
        Ok(())
    }

    /// All rows are here.
    fn finish(&mut self) -> Result<()> {
        self.is_done = true;
        let rows = concat_batches(&self.input.schema(), &self.held)?;
        self.held = Vec::new();
        if self.filler.is_none() {
            let buckets = cast(rows.column(self.shape.bucket), &DataType::Int64)?;
            let buckets = buckets.as_primitive::<Int64Type>();
            self.begin(self.shape.starts(min(buckets), max(buckets))?);
        }
        let mut groups = self.groups(&rows)?;
        if groups.is_empty() && self.shape.keys.is_empty() {
            groups.push_back(0..0); // a question without other keys has one group, also without events
        }
        self.reservation.try_resize(rows.get_array_memory_size())?;
        self.whole = Some((rows, groups));
        Ok(())
    }

    fn groups(&self, rows: &RecordBatch) -> Result<VecDeque<Rows<usize>>> {
        if self.shape.keys.is_empty() || rows.num_rows() == 0 {
            return Ok(std::iter::once(0..rows.num_rows()).filter(|all| !all.is_empty()).collect());
        }
        let keys: Vec<_> = self.shape.keys.iter().map(|place| rows.column(*place).clone()).collect();
        Ok(partition(&keys)?.ranges().into())
    }
}
