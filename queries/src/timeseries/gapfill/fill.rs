//! The rows of some groups with those that they lack.

use std::ops::Range as Rows;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef};
use datafusion::error::Result;

use super::ROWS_MAX;
use super::range::Range;
use crate::error::QueryError;
use crate::timeseries::buckets::Buckets;

/// How a column has values in rows that are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Hash)]
pub(super) enum Fill {
    /// The last one, also past nulls of events.
    Locf { over_nulls: bool },
    /// On the line from the last to the next; of floats.
    Interpolate,
}

/// Which columns are what, by their places.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) bucket: usize,
    pub(super) keys: Vec<usize>,
    pub(super) fills: Vec<(usize, Fill)>,
    pub(super) buckets: Buckets,
    pub(super) range: Range,
}

impl Shape {
    /// The beginnings of the range's buckets; an end that is not known is that of `first` or `last`.
    ///
    /// # Errors
    /// When these are more than may be made.
    pub(super) fn starts(&self, first: Option<i64>, last: Option<i64>) -> Result<Vec<i64>> {
        let lower = self.range.lower.or(first);
        let upper = self.range.upper.or_else(|| last.map(|last| last.saturating_add(1)));
        let (Some(lower), Some(upper)) = (lower, upper) else { return Ok(Vec::new()) };
        if lower >= upper {
            return Ok(Vec::new());
        }
        let clock = self.buckets.clock().map_err(|message| QueryError::Sql { message })?;
        let starts = clock.starts(lower, upper, ROWS_MAX);
        Ok(starts.ok_or(QueryError::GapFill { max: ROWS_MAX })?)
    }
}

/// Fills groups, one after the other.
#[derive(Debug)]
pub(super) struct Filler {
    shape: Arc<Shape>,
    schema: SchemaRef,
    starts: Vec<i64>,
    /// How many rows were made.
    made: usize,
}

/// The rows of an answer: where each comes from.
#[derive(Default)]
struct Plan {
    /// The row with the values of events; none of a row that is made.
    event: Vec<Option<u32>>,
    /// A row of the same group.
    group: Vec<Option<u32>>,
    bucket: Vec<Option<i64>>,
    /// The rows of each group.
    groups: Vec<Rows<usize>>,
}

impl Filler {
    pub(super) fn new(shape: Arc<Shape>, schema: SchemaRef, starts: Vec<i64>) -> Self {
        Filler { shape, schema, starts, made: 0 }
    }

    /// How many rows a group has at least.
    pub(super) fn group_rows_min(&self) -> usize {
        self.starts.len()
    }

    /// Whole groups of sorted rows, filled. An empty range of rows is a group without events, of a question without keys.
    pub(super) fn fill(&mut self, rows: &RecordBatch, groups: &[Rows<usize>]) -> Result<RecordBatch> {
        let plan = self.plan(rows, groups)?;
        let by_event = UInt32Array::from(plan.event.clone());
        let by_group = UInt32Array::from(plan.group.clone());
        let mut columns = Vec::with_capacity(rows.num_columns());
        for (place, column) in rows.columns().iter().enumerate() {
            let fill = self.shape.fills.iter().find(|(filled, _)| *filled == place);
            columns.push(match fill {
                Some((_, Fill::Locf { over_nulls })) => take(column, &carried(&plan, column, *over_nulls), None)?,
                Some((_, Fill::Interpolate)) => interpolated(&plan, column),
                None if place == self.shape.bucket => cast(&Int64Array::from(plan.bucket.clone()), column.data_type())?,
                None if self.shape.keys.contains(&place) => take(column, &by_group, None)?,
                None => take(column, &by_event, None)?,
            });
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Merges the rows of each group with the buckets of the range.
    fn plan(&mut self, rows: &RecordBatch, groups: &[Rows<usize>]) -> Result<Plan> {
        let buckets = cast(rows.column(self.shape.bucket), &DataType::Int64)?;
        let buckets = buckets.as_primitive::<Int64Type>();
        let mut plan = Plan::default();
        for group in groups {
            let begin = plan.event.len();
            let of_group = (!group.is_empty()).then_some(group.start as u32);
            let mut starts = self.starts.iter().copied().peekable();
            let mut make = |plan: &mut Plan, start: i64| {
                self.made += 1;
                plan.push(None, of_group, Some(start));
                if self.made > ROWS_MAX { Err(QueryError::GapFill { max: ROWS_MAX }) } else { Ok(()) } // invariant 1
            };
            for row in group.clone() {
                let bucket = buckets.is_valid(row).then(|| buckets.value(row));
                while let Some(start) = starts.next_if(|start| bucket.is_some_and(|bucket| *start < bucket)) {
                    make(&mut plan, start)?;
                }
                starts.next_if(|start| Some(*start) == bucket);
                plan.push(Some(row as u32), of_group, bucket);
            }
            for start in starts {
                make(&mut plan, start)?;
            }
            plan.groups.push(begin..plan.event.len());
        }
        Ok(plan)
    }
}

impl Plan {
    fn push(&mut self, event: Option<u32>, group: Option<u32>, bucket: Option<i64>) {
        self.event.push(event);
        self.group.push(group);
        self.bucket.push(bucket);
    }
}

/// The row whose value each row has, if rows that are made have the last one.
fn carried(plan: &Plan, column: &ArrayRef, over_nulls: bool) -> UInt32Array {
    let mut from = Vec::with_capacity(plan.event.len());
    for group in &plan.groups {
        let mut last = None;
        for row in group.clone() {
            let is_timed = plan.bucket[row].is_some();
            match plan.event[row] {
                Some(event) if !is_timed => from.push(Some(event)),
                Some(event) if !over_nulls || column.is_valid(event as usize) => {
                    last = Some(event);
                    from.push(last);
                }
                _ => from.push(last),
            }
        }
    }
    UInt32Array::from(from)
}

/// A column of floats, with those of rows that are made on the line between their neighbours.
fn interpolated(plan: &Plan, column: &ArrayRef) -> ArrayRef {
    let known = column.as_primitive::<Float64Type>();
    let value = |event: u32| known.is_valid(event as usize).then(|| known.value(event as usize));
    let mut values: Vec<Option<f64>> = plan.event.iter().map(|event| event.and_then(value)).collect();
    for group in &plan.groups {
        let mut before: Option<usize> = None;
        for row in group.clone().filter(|row| plan.event[*row].is_some() && plan.bucket[*row].is_some()) {
            if let Some(from) = before
                && let (Some(one), Some(other)) = (values[from], values[row])
                && let (Some(start), Some(end)) = (plan.bucket[from], plan.bucket[row])
            {
                for (value, at) in values[from + 1..row].iter_mut().zip(&plan.bucket[from + 1..row]) {
                    let passed = at.map_or(0, |at| at - start);
                    *value = Some(one + (other - one) * (passed as f64 / (end - start) as f64));
                }
            }
            before = Some(row);
        }
    }
    Arc::new(Float64Array::from(values))
}
