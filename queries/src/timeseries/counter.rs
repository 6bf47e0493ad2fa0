//! Counters: `rate(value, ts)`, `increase(value, ts)` (also called `delta`) and `resets(value, ts)`, as aggregates and in
//! windows.
//!
//! A counter rises, and begins again at 0 when its program does. So where it falls from one event to the next, all of the later
//! value is new. Nothing is extrapolated: what is said is of the time from the first event to the last, and the rate is per
//! second of that time. Of fewer than two events nothing is known, and the answer is null.
//!
//! An event that is counted elsewhere may lie between two that are counted here, so what is merged are the events
//! themselves: 16 bytes each, which the bound on memory counts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

use super::bucket::{per_second, time_type, unit_of};
use super::samples::{Run, Sample, Samples};

/// The functions, for a session.
pub(super) fn functions() -> Vec<Arc<AggregateUDF>> {
    let signature = Signature::user_defined(Volatility::Immutable);
    let function = |(name, says)| Arc::new(AggregateUDF::from(Counter { name, says, signature: signature.clone() }));
    let all = [("rate", Says::Rate), ("increase", Says::Increase), ("delta", Says::Increase), ("resets", Says::Resets)];
    all.into_iter().map(function).collect()
}

/// What is said of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Says {
    Rate,
    Increase,
    Resets,
}

impl Says {
    fn of(self, run: Option<Run>, per_second: i64) -> Option<f64> {
        let run = run.filter(|run| run.samples > 1)?;
        match self {
            Says::Increase => Some(run.increase),
            Says::Resets => Some(run.resets as f64),
            Says::Rate => match run.last.time - run.first.time {
                0 => None,
                time => Some(run.increase / (time as f64 / per_second as f64)),
            },
        }
    }

    fn kind(self) -> DataType {
        match self {
            Says::Resets => DataType::Int64,
            Says::Rate | Says::Increase => DataType::Float64,
        }
    }

    fn column(self, answers: impl Iterator<Item = Option<f64>>) -> ArrayRef {
        match self {
            Says::Resets => Arc::new(answers.map(|answer| answer.map(|resets| resets as i64)).collect::<Int64Array>()),
            Says::Rate | Says::Increase => Arc::new(answers.collect::<Float64Array>()),
        }
    }
}

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Counter {
    name: &'static str,
    says: Says,
    signature: Signature,
}

impl Counter {
    fn per_second(args: &AccumulatorArgs<'_>) -> Result<i64> {
        let time = args.expr_fields.get(1).map(|field| field.data_type().clone()).unwrap_or(DataType::Null);
        Ok(per_second(unit_of(&time)?))
    }
}

/// A column of lists, one a group.
fn lists(lengths: impl Iterator<Item = usize>, values: ArrayRef) -> ArrayRef {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), false));
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), values, None))
}

/// Groups of samples as columns of times and of values.
fn written(groups: &[Vec<Sample>]) -> Vec<ArrayRef> {
    let all = || groups.iter().flatten();
    let times: ScalarBuffer<i64> = all().map(|sample| sample.time).collect();
    let values: ScalarBuffer<f64> = all().map(|sample| sample.value).collect();
    let lengths = || groups.iter().map(Vec::len);
    vec![
        lists(lengths(), Arc::new(Int64Array::new(times, None))),
        lists(lengths(), Arc::new(Float64Array::new(values, None))),
    ]
}

/// What is written of samples, by row.
fn read(states: &[ArrayRef], mut each: impl FnMut(usize, Sample)) {
    let (times, values) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
    for row in (0..times.len()).filter(|row| times.is_valid(*row)) {
        let (times, values) = (times.value(row), values.value(row));
        let pairs =
            times.as_primitive::<Int64Type>().values().iter().zip(values.as_primitive::<Float64Type>().values());
        pairs.for_each(|(time, value)| each(row, Sample { time: *time, value: *value }));
    }
}

fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

/// The samples of rows that have a value and a time, by row.
fn sampled(columns: &[ArrayRef], mut each: impl FnMut(usize, Sample)) -> Result<()> {
    let times = cast(&columns[1], &DataType::Int64)?;
    let (values, times) = (columns[0].as_primitive::<Float64Type>(), times.as_primitive::<Int64Type>());
    for row in (0..values.len()).filter(|row| values.is_valid(*row) && times.is_valid(*row)) {
        each(row, Sample { time: times.value(row), value: values.value(row) });
    }
    Ok(())
}

impl AggregateUDFImpl for Counter {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name;
        let fail = || DataFusionError::Plan(format!("{name} takes a number and a time: {name}(value, ts)"));
        let [value, time] = arguments else { return Err(fail()) };
        let time = time_type(time).filter(|_| value.is_numeric() || value.is_null()).ok_or_else(fail)?;
        Ok(vec![DataType::Float64, time])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.says.kind())
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |(suffix, kind)| {
            let list = DataType::List(Arc::new(Field::new_list_field(kind, false)));
            Arc::new(Field::new(format!("{}[{suffix}]", args.name), list, true))
        };
        Ok([("times", DataType::Int64), ("values", DataType::Float64)].map(field).to_vec())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let per_second = Self::per_second(&args)?;
        Ok(Box::new(Single { says: self.says, per_second, samples: Samples::default() }))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let per_second = Self::per_second(&args)?;
        Ok(Box::new(Groups { says: self.says, per_second, groups: Vec::new(), heap_bytes: 0 }))
    }
}

/// The samples of all rows, or of those in a window.
#[derive(Debug)]
struct Single {
    says: Says,
    per_second: i64,
    samples: Samples,
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        sampled(values, |_, sample| self.samples.push(sample))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        sampled(values, |_, _| self.samples.pop())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let answer = self.says.of(self.samples.run(), self.per_second);
        ScalarValue::try_from_array(&self.says.column(std::iter::once(answer)), 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.samples.heap_bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let states = written(&[self.samples.all().collect()]);
        states.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        read(states, |_, sample| self.samples.push(sample));
        Ok(())
    }
}

/// The samples of groups.
#[derive(Debug)]
struct Groups {
    says: Says,
    per_second: i64,
    groups: Vec<Vec<Sample>>,
    /// What these hold outside of themselves.
    heap_bytes: usize,
}

impl Groups {
    fn grow(&mut self, groups: usize) {
        self.groups.resize_with(groups.max(self.groups.len()), Vec::new);
    }

    fn push(&mut self, group: usize, sample: Sample) {
        let samples = &mut self.groups[group];
        let before = samples.capacity();
        samples.push(sample);
        self.heap_bytes += (samples.capacity() - before) * size_of::<Sample>();
    }

    fn take(&mut self, emit: EmitTo) -> Vec<Vec<Sample>> {
        let groups = emit.take_needed(&mut self.groups);
        self.heap_bytes -= groups.iter().map(|samples| samples.capacity() * size_of::<Sample>()).sum::<usize>();
        groups
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
        sampled(values, |row, sample| {
            if passes(opt_filter, row) {
                self.push(group_indices[row], sample);
            }
        })
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut groups = self.take(emit_to);
        let answers = groups.iter_mut().map(|samples| self.says.of(Run::sorted(samples), self.per_second));
        Ok(self.says.column(answers))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(written(&self.take(emit_to)))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.grow(total_num_groups);
        read(values, |row, sample| self.push(group_indices[row], sample));
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut alone: Vec<Vec<Sample>> = vec![Vec::new(); values[0].len()];
        sampled(values, |row, sample| {
            if passes(opt_filter, row) {
                alone[row].push(sample);
            }
        })?;
        Ok(written(&alone))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<Vec<Sample>>() + self.heap_bytes
    }
}
