//! Expressions over a batch; rows on which one fails are left out, and the others are computed nevertheless.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat, take_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::PhysicalExpr;

/// What is computed of every row of a batch that passes a filter.
#[derive(Debug)]
pub(super) struct Computation {
    /// The columns that the expressions are over.
    pub(super) input: SchemaRef,
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    pub(super) expressions: Vec<Arc<dyn PhysicalExpr>>,
    /// The expression that must not be null.
    pub(super) required: Option<usize>,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Outcome {
    /// The rows that passed, in order; `None` for all of them.
    pub(super) rows: Option<Vec<u32>>,
    /// The expressions, of those rows.
    pub(super) columns: Vec<ArrayRef>,
    /// The rows that could not be computed, in order.
    pub(super) failed: Vec<u32>,
    /// Why, of the first of them.
    pub(super) reason: String,
}

impl Computation {
    /// Whether there is nothing to compute.
    pub(super) fn is_empty(&self) -> bool {
        self.filter.is_none() && self.expressions.is_empty()
    }

    /// Computes a batch of `input`.
    pub(super) fn run(&self, batch: &RecordBatch) -> Outcome {
        match self.at_once(batch) {
            Ok((rows, columns)) => Outcome { rows, columns, ..Outcome::default() },
            Err(error) => self.in_pieces(batch, error),
        }
    }

    fn at_once(&self, batch: &RecordBatch) -> Result<(Option<Vec<u32>>, Vec<ArrayRef>), DataFusionError> {
        let rows = match &self.filter {
            Some(filter) => passed(&filter.evaluate(batch)?.into_array(batch.num_rows())?),
            None => None,
        };
        let kept;
        let batch = match &rows {
            Some(rows) => {
                kept = take_record_batch(batch, &UInt32Array::from(rows.clone()))?;
                &kept
            }
            None => batch,
        };
        let value = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(batch.num_rows());
        let columns = self.expressions.iter().map(value).collect::<Result<Vec<ArrayRef>, _>>()?;
        if self.required.is_some_and(|at| columns[at].null_count() > 0) {
            return Err(DataFusionError::Execution("the time bucket is null".to_owned()));
        }
        Ok((rows, columns))
    }

    /// Halves what fails until it is a row that does. A batch with `f` such rows takes about `f log n` evaluations.
    fn in_pieces(&self, batch: &RecordBatch, error: DataFusionError) -> Outcome {
        let mut rows = Vec::new();
        let mut pieces: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.expressions.len()];
        let mut outcome = Outcome::default();
        // The next piece is the last one: from, length, and why it failed when it did.
        let mut open = vec![(0, batch.num_rows(), Some(error))];
        while let Some((from, len, failed)) = open.pop() {
            match failed {
                Some(error) if len <= 1 => {
                    if outcome.failed.is_empty() {
                        outcome.reason = error.strip_backtrace();
                    }
                    outcome.failed.push(from as u32);
                }
                Some(_) => open.extend([(from + len / 2, len - len / 2, None), (from, len / 2, None)]),
                None => match self.at_once(&batch.slice(from, len)) {
                    Ok((passed, columns)) => {
                        let passed = passed.unwrap_or_else(|| (0..len as u32).collect());
                        rows.extend(passed.into_iter().map(|row| row + from as u32));
                        pieces.iter_mut().zip(columns).for_each(|(pieces, column)| pieces.push(column));
                    }
                    Err(error) => open.push((from, len, Some(error))),
                },
            }
        }
        let joined = |(pieces, expr): (&Vec<ArrayRef>, &Arc<dyn PhysicalExpr>)| {
            let of = expr.data_type(&self.input).expect("it was planned over these columns");
            let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
            match pieces.is_empty() {
                true => arrow::array::new_empty_array(&of),
                false => concat(&pieces).expect("an expression has one type"),
            }
        };
        outcome.columns = pieces.iter().zip(&self.expressions).map(joined).collect();
        outcome.rows = Some(rows);
        outcome
    }
}

/// The rows where a condition is true; `None` when it is everywhere.
fn passed(condition: &ArrayRef) -> Option<Vec<u32>> {
    let condition = condition.as_boolean();
    if condition.true_count() == condition.len() {
        return None;
    }
    let is_true = |row: &u32| condition.is_valid(*row as usize) && condition.value(*row as usize);
    Some((0..condition.len() as u32).filter(is_true).collect())
}
