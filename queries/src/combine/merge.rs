//! The aggregate that merges states and finishes columns of a view over them.
//!
//! ```text
//!  columns of states ─▶ states ─▶ merged, one a group ─▶ results ─▶ the columns' expressions ─▶ a struct of them
//!                                       │  ▲
//!                                       ▼  │ between the steps of an aggregation, as columns of states again
//! ```

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, Scalar, StructArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::zip::zip;
use arrow::compute::{filter, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef, UInt64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::PhysicalExpr;
use streamgauge_schemas::state::Output;
use streamgauge_schemas::{Layout, State, View};

use crate::views::results_base;

/// Rows whose states are held apart from those of groups at a time.
const ROWS_AT_ONCE: usize = 1_024;

/// The name of a column in the struct.
pub(super) fn field_name(at: usize) -> String {
    format!("c{at}")
}

/// Columns of a view, and how they are made of merged states.
#[derive(Debug)]
pub(super) struct Merged {
    /// The places of the folds in the view, in order.
    folds: Vec<usize>,
    /// How these alone lie.
    pub(super) layout: Layout,
    /// The state of a group without rows.
    blank: State,
    outputs: Vec<Output>,
    /// A column for each of the outputs.
    base: SchemaRef,
    /// Over `base`.
    columns: Vec<Arc<dyn PhysicalExpr>>,
    /// Those of the struct.
    fields: Fields,
}

impl Merged {
    /// Columns of a view that are made of results alone; see [`Reading::results`](crate::views::Reading::results).
    pub(super) fn new(
        view: &View,
        results: &[Option<Arc<dyn PhysicalExpr>>],
        columns: impl Iterator<Item = usize>,
    ) -> Result<Self> {
        let definition = &view.definition;
        let exprs: Vec<Arc<dyn PhysicalExpr>> = columns.filter_map(|column| results[column].clone()).collect();
        let mut used: Vec<usize> = exprs.iter().flat_map(collect_columns).map(|column| column.index()).collect();
        used.sort_unstable();
        used.dedup();
        let outputs: Vec<Output> = used.into_iter().map(|output| definition.outputs[output].clone()).collect();
        let mut folds: Vec<usize> = outputs.iter().flat_map(|output| output.finish.folds()).collect();
        folds.sort_unstable();
        folds.dedup();
        let layout = view.layout().of(&folds);
        let base = results_base(&outputs);
        let over = |expr: Arc<dyn PhysicalExpr>| reassign_expr_columns(expr, &base);
        let columns: Vec<Arc<dyn PhysicalExpr>> = exprs.into_iter().map(over).collect::<Result<_>>()?;
        let field =
            |(at, expr): (usize, &Arc<dyn PhysicalExpr>)| Ok(Field::new(field_name(at), expr.data_type(&base)?, true));
        let fields = columns.iter().enumerate().map(field).collect::<Result<Fields>>()?;
        let outputs = outputs.iter().map(|output| output.among(&folds)).collect();
        Ok(Merged { blank: layout.blank(), folds, layout, outputs, base, columns, fields })
    }

    /// The places of the folds in the view.
    pub(super) fn folds(&self) -> &[usize] {
        &self.folds
    }

    /// The state of a group, or what stands for that of no rows.
    fn whole<'a>(&'a self, state: &'a State) -> &'a State {
        if state.is_empty() { &self.blank } else { state }
    }

    fn finish(&self, states: &[State]) -> Result<ArrayRef> {
        let states = states.iter().map(|state| self.whole(state));
        let rows = states.len();
        let results = self.outputs.iter().map(|output| self.layout.finish(output, states.clone())).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let results = RecordBatch::try_new_with_options(self.base.clone(), results, &options)?;
        let columns = self.columns.iter().map(|expr| expr.evaluate(&results)?.into_array(rows));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        Ok(Arc::new(StructArray::try_new(self.fields.clone(), columns, None)?))
    }

    fn write(&self, states: &[State]) -> Vec<ArrayRef> {
        self.layout.write(states.iter().map(|state| self.whole(state)))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct MergeStates {
    merged: Arc<Merged>,
    signature: Signature,
}

impl MergeStates {
    pub(super) fn new(merged: Merged) -> Self {
        let signature = Signature::any(merged.layout.columns().len(), Volatility::Immutable);
        MergeStates { merged: Arc::new(merged), signature }
    }
}

/// Each rewritten call has one of its own.
impl PartialEq for MergeStates {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.merged, &other.merged)
    }
}

impl Eq for MergeStates {}

impl Hash for MergeStates {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.merged).hash(state);
    }
}

/// Whether a function is one of these: it merges columns of states, whoever made them.
pub(crate) fn merges_states(function: &AggregateUDF) -> bool {
    function.inner().downcast_ref::<MergeStates>().is_some()
}

impl AggregateUDFImpl for MergeStates {
    fn name(&self) -> &str {
        "merge_states"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(self.merged.fields.clone()))
    }

    /// What a subquery without rows answers.
    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.merged.finish(&[State::empty()])?, 0)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let columns = self.merged.layout.columns().into_iter().enumerate();
        let field = |(at, column): (usize, streamgauge_schemas::state::columns::StateColumn)| {
            Arc::new(Field::new(format!("{}[{at}]", args.name), column.kind.arrow(), true))
        };
        Ok(columns.map(field).collect())
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Single::new(self.merged.clone())))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::new(self.merged.clone())))
    }
}

/// The merged states of groups.
#[derive(Debug)]
pub(super) struct Groups {
    merged: Arc<Merged>,
    /// By group; empty without rows.
    states: Vec<State>,
    /// What these hold outside of themselves.
    heap_bytes: usize,
}

impl Groups {
    pub(super) fn new(merged: Arc<Merged>) -> Self {
        Groups { merged, states: Vec::new(), heap_bytes: 0 }
    }

    fn grow(&mut self, groups: usize) {
        self.states.resize_with(groups.max(self.states.len()), State::empty);
    }

    /// Merges rows, which are columns of states, into their groups.
    fn merge(&mut self, columns: &[ArrayRef], groups: &[usize]) -> Result<()> {
        for from in (0..groups.len()).step_by(ROWS_AT_ONCE) {
            let rows = ROWS_AT_ONCE.min(groups.len() - from);
            let columns: Vec<ArrayRef> = columns.iter().map(|column| column.slice(from, rows)).collect();
            let states =
                self.merged.layout.read(&columns).map_err(|error| DataFusionError::External(Box::new(error)))?;
            for (group, state) in groups[from..from + rows].iter().zip(states) {
                let into = &mut self.states[*group];
                let before = into.heap_bytes();
                match into.is_empty() {
                    true => *into = state,
                    false => self.merged.layout.merge(into, &state),
                }
                self.heap_bytes = self.heap_bytes + into.heap_bytes() - before; // invariant 3
            }
        }
        Ok(())
    }

    fn take(&mut self, emit: EmitTo) -> Vec<State> {
        let states = emit.take_needed(&mut self.states);
        self.heap_bytes -= states.iter().map(State::heap_bytes).sum::<usize>();
        states
    }
}

/// The rows that count: those with a state, which an outer join may not have, that pass the filter. `None` for all.
fn counted(columns: &[ArrayRef], filter: Option<&BooleanArray>) -> Option<BooleanArray> {
    let nulls = columns.iter().fold(None, |nulls, column| NullBuffer::union(nulls.as_ref(), column.nulls()));
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
    let passed =
        filter.map(|filter| if filter.null_count() > 0 { prep_null_mask_filter(filter) } else { filter.clone() });
    match (passed, nulls) {
        (None, None) => None,
        (Some(passed), None) => Some(passed),
        (None, Some(nulls)) => Some(BooleanArray::new(nulls.into_inner(), None)),
        (Some(passed), Some(nulls)) => Some(BooleanArray::new(passed.values() & nulls.inner(), None)),
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let Some(counted) = counted(values, opt_filter) else { return self.merge(values, group_indices) };
        let values = values.iter().map(|column| filter(column, &counted)).collect::<Result<Vec<ArrayRef>, _>>()?;
        let groups = UInt64Array::from_iter_values(group_indices.iter().map(|group| *group as u64));
        let groups = filter(&groups, &counted)?;
        let groups: Vec<usize> =
            groups.as_primitive::<UInt64Type>().values().iter().map(|group| *group as usize).collect();
        self.merge(&values, &groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let states = self.take(emit_to);
        self.merged.finish(&states)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let states = self.take(emit_to);
        Ok(self.merged.write(&states))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.grow(total_num_groups);
        self.merge(values, group_indices)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let Some(counted) = counted(values, opt_filter) else { return Ok(values.to_vec()) };
        let blank = self.merged.layout.write(std::iter::once(&self.merged.blank));
        let column = |(column, blank): (&ArrayRef, ArrayRef)| zip(&counted, column, &Scalar::new(blank));
        Ok(values.iter().zip(blank).map(column).collect::<Result<Vec<ArrayRef>, _>>()?)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.states.capacity() * size_of::<State>() + self.heap_bytes
    }
}

/// The merged state of all rows.
#[derive(Debug)]
pub(super) struct Single(Groups);

impl Single {
    pub(super) fn new(merged: Arc<Merged>) -> Self {
        Single(Groups::new(merged))
    }
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |column| column.len());
        GroupsAccumulator::update_batch(&mut self.0, values, &vec![0; rows], None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.grow(1); // invariant 4
        ScalarValue::try_from_array(&GroupsAccumulator::evaluate(&mut self.0, EmitTo::All)?, 0)
    }

    fn size(&self) -> usize {
        GroupsAccumulator::size(&self.0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.grow(1);
        let state = GroupsAccumulator::state(&mut self.0, EmitTo::All)?;
        state.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}
