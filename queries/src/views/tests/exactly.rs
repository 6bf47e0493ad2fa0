//! What sketches are within some error of, exactly: aggregates of the same names for DataFusion's own answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Accumulator, AggregateUDF, Volatility, create_udaf};

/// From the values of a group, without NULL, and the other argument, which no values come without.
type Finish = fn(Vec<ScalarValue>, Option<ScalarValue>) -> ScalarValue;

/// `approx_percentile_cont(x, q)` of floats.
pub(super) fn quantile() -> AggregateUDF {
    aggregate("approx_percentile_cont", DataType::Float64, DataType::Float64, DataType::Float64, at_rank)
}

/// `approx_top_k(x, k)`.
pub(super) fn top_k() -> AggregateUDF {
    aggregate("approx_top_k", DataType::Utf8, DataType::Int64, DataType::Utf8, most_frequent)
}

fn aggregate(name: &str, kind: DataType, other: DataType, answer: DataType, finish: Finish) -> AggregateUDF {
    let list = DataType::List(Arc::new(Field::new_list_field(kind.clone(), true)));
    let (arguments, state) = (vec![kind.clone(), other.clone()], vec![list, other.clone()]);
    let accumulator = move |_: datafusion::logical_expr::function::AccumulatorArgs<'_>| {
        let none = ScalarValue::try_from(&other)?;
        let made = Values { kind: kind.clone(), values: Vec::new(), other: None, none, finish };
        Ok(Box::new(made) as Box<dyn Accumulator>)
    };
    create_udaf(name, arguments, Arc::new(answer), Volatility::Immutable, Arc::new(accumulator), Arc::new(state))
}

/// The value at rank `⌊q (count − 1)⌋`.
fn at_rank(values: Vec<ScalarValue>, q: Option<ScalarValue>) -> ScalarValue {
    let number = |value: ScalarValue| match value {
        ScalarValue::Float64(Some(number)) => number,
        other => panic!("{other} is not a float"),
    };
    let Some(q) = q.filter(|_| !values.is_empty()).map(number) else { return ScalarValue::Float64(None) };
    let mut values: Vec<f64> = values.into_iter().map(number).collect();
    values.sort_unstable_by(f64::total_cmp);
    let rank = q * (values.len() - 1) as f64;
    ScalarValue::Float64(Some(values[rank as usize]))
}

/// The most frequent texts, of those that are as frequent the least first.
fn most_frequent(values: Vec<ScalarValue>, k: Option<ScalarValue>) -> ScalarValue {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    values.iter().for_each(|value| *counts.entry(value.to_string()).or_default() += 1);
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count)); // stable
    if let Some(ScalarValue::Int64(Some(k))) = k {
        counts.truncate(k as usize);
    }
    let entry = |(text, count): &(String, u64)| {
        let text = serde_json::to_string(text).unwrap();
        format!(r#"{{"value":{text},"count":{count},"error":0}}"#)
    };
    let entries: Vec<String> = counts.iter().map(entry).collect();
    ScalarValue::Utf8(Some(format!("[{}]", entries.join(","))))
}

#[derive(Debug)]
struct Values {
    kind: DataType,
    values: Vec<ScalarValue>,
    other: Option<ScalarValue>,
    /// NULL, of the type of the other argument.
    none: ScalarValue,
    finish: Finish,
}

impl Values {
    fn extend(&mut self, values: &ArrayRef) -> Result<(), DataFusionError> {
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            self.values.push(ScalarValue::try_from_array(values, row)?);
        }
        Ok(())
    }

    fn note(&mut self, other: &ArrayRef) -> Result<(), DataFusionError> {
        let row = (0..other.len()).find(|row| other.is_valid(*row));
        let other = row.map(|row| ScalarValue::try_from_array(other, row)).transpose()?;
        self.other = other.or(self.other.take());
        Ok(())
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<(), DataFusionError> {
        self.extend(&arguments[0])?;
        self.note(&arguments[1])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<(), DataFusionError> {
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.extend(&values))?;
        self.note(&states[1])
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>, DataFusionError> {
        let values = ScalarValue::new_list_nullable(&self.values, &self.kind);
        Ok(vec![ScalarValue::List(values), self.other.clone().unwrap_or_else(|| self.none.clone())])
    }

    fn evaluate(&mut self) -> Result<ScalarValue, DataFusionError> {
        Ok((self.finish)(std::mem::take(&mut self.values), self.other.take()))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + ScalarValue::size_of_vec(&self.values)
    }
}
