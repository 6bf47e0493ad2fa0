//! `mode() WITHIN GROUP (ORDER BY x)`: the value that comes most often, and `percentile_disc(share) WITHIN GROUP (ORDER BY x)`:
//! the first value in the order that so large a share of all comes up to. Both are of values of any type that has an order.
//!
//! They keep each value once, with how often it came; the bound on memory counts that.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, EmitTo, GroupsAccumulator, Signature, Volatility,
};

use super::tally::{Choice, Tally, Values, state_fields};

/// The functions, for a session.
pub(super) fn functions() -> [Arc<AggregateUDF>; 2] {
    [Kind::Mode, Kind::Percentile].map(|kind| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::from(Ordered { kind, signature }))
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Mode,
    Percentile,
}

/// See the module. Its first argument is what it is ordered by.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ordered {
    kind: Kind,
    signature: Signature,
}

impl Ordered {
    fn choice(&self, args: &AccumulatorArgs<'_>) -> Result<Choice> {
        let [_, share] = args.exprs else { return Ok(Choice::Mode) };
        let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
        match share.evaluate(&nothing) {
            Ok(ColumnarValue::Scalar(ScalarValue::Float64(share))) => match share {
                Some(share) if !(0.0..=1.0).contains(&share) => {
                    plan_err!("percentile_disc takes a share from 0 to 1, and not {share}")
                }
                share => Ok(Choice::Share(share)),
            },
            _ => plan_err!("percentile_disc takes a share that is the same for all rows"),
        }
    }

    fn values(args: &AccumulatorArgs<'_>) -> Result<Values> {
        let descending = args.order_bys.first().is_some_and(|by| by.options.descending);
        Values::new(args.expr_fields[0].data_type(), descending)
    }
}

impl AggregateUDFImpl for Ordered {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Mode => "mode",
            Kind::Percentile => "percentile_disc",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match (self.kind, arguments) {
            (Kind::Mode, [value]) => Ok(vec![value.clone()]),
            (Kind::Mode, _) => plan_err!("mode is written mode() WITHIN GROUP (ORDER BY value)"),
            (Kind::Percentile, [value, share]) if share.is_numeric() || share.is_null() => {
                Ok(vec![value.clone(), DataType::Float64])
            }
            (Kind::Percentile, _) => {
                plan_err!("percentile_disc is written percentile_disc(0.9) WITHIN GROUP (ORDER BY value)")
            }
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    /// Rows may come in any order: the values are sorted here.
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(state_fields(args.name, args.input_fields[0].data_type()))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let (choice, values) = (self.choice(&args)?, Self::values(&args)?);
        Ok(Box::new(Single { choice, values, tally: Tally::default() }))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let (choice, values) = (self.choice(&args)?, Self::values(&args)?);
        Ok(Box::new(Groups { choice, values, tallies: Vec::new(), heap_bytes: 0 }))
    }
}

/// The values of all rows.
#[derive(Debug)]
struct Single {
    choice: Choice,
    values: Values,
    tally: Tally,
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.read(&values[0], |_, value| self.tally.add(value, 1))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let chosen = self.values.chosen(std::slice::from_ref(&self.tally), self.choice)?;
        ScalarValue::try_from_array(&chosen, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.values.size() + self.tally.heap_bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let state = self.values.state(std::slice::from_ref(&self.tally))?;
        state.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.values.merge(states, |_, value, times| self.tally.add(value, times))
    }
}

/// The values of groups.
#[derive(Debug)]
struct Groups {
    choice: Choice,
    values: Values,
    tallies: Vec<Tally>,
    /// What these hold outside of themselves.
    heap_bytes: usize,
}

impl Groups {
    fn take(&mut self, emit: EmitTo) -> Vec<Tally> {
        let tallies = emit.take_needed(&mut self.tallies);
        self.heap_bytes -= tallies.iter().map(Tally::heap_bytes).sum::<usize>();
        tallies
    }
}

fn add(tally: &mut Tally, value: &[u8], times: u64, heap_bytes: &mut usize) {
    let before = tally.heap_bytes();
    tally.add(value, times);
    *heap_bytes += tally.heap_bytes() - before;
}

fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.tallies.resize_with(total_num_groups.max(self.tallies.len()), Tally::default);
        self.values.read(&values[0], |row, value| {
            if passes(opt_filter, row) {
                add(&mut self.tallies[group_indices[row]], value, 1, &mut self.heap_bytes);
            }
        })
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let tallies = self.take(emit_to);
        self.values.chosen(&tallies, self.choice)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let tallies = self.take(emit_to);
        self.values.state(&tallies)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.tallies.resize_with(total_num_groups.max(self.tallies.len()), Tally::default);
        self.values.merge(values, |row, value, times| {
            add(&mut self.tallies[group_indices[row]], value, times, &mut self.heap_bytes);
        })
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut alone: Vec<Tally> = Vec::new();
        alone.resize_with(values[0].len(), Tally::default);
        self.values.read(&values[0], |row, value| {
            if passes(opt_filter, row) {
                alone[row].add(value, 1);
            }
        })?;
        self.values.state(&alone)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.values.size() + self.tallies.capacity() * size_of::<Tally>() + self.heap_bytes
    }
}
