//! What memory is asked for by a conjunction of filters: series, and a range of buckets.

use std::sync::Arc;

use streamgauge_engine::{KeyFilter, RowFilter, SeriesTest};
use streamgauge_schemas::{EventTime, Series};

use super::{Comparison, Operand, Predicate, Value};

impl Predicate {
    /// Adds the entries of maps, with their values, that are there wherever it is true.
    fn entries_to(&self, has: &mut Vec<(String, String)>) {
        match self {
            Predicate::Compare(Operand::Entry { key, .. }, Comparison::Equal, Value::Text(text)) => {
                has.push((key.clone(), text.clone()));
            }
            Predicate::And(left, right) => {
                left.entries_to(has);
                right.entries_to(has);
            }
            _ => {}
        }
    }

    /// Whether it holds of a series; `None` is null. Asked only of filters on its name and dimensions.
    fn holds(&self, series: &Series) -> Option<bool> {
        let of = |operand: &Operand| match operand {
            Operand::Entry { key, .. } => series.dimension(key).map(str::to_owned),
            Operand::Column(_) => Some(series.name().to_owned()),
        };
        match self {
            Predicate::Compare(operand, comparison, Value::Text(text)) => {
                of(operand).map(|found| comparison.holds(found.as_str().cmp(text.as_str())))
            }
            Predicate::In(operand, values) => {
                of(operand).map(|found| values.iter().any(|value| matches!(value, Value::Text(text) if *text == found)))
            }
            Predicate::StartsWith(operand, prefix) => of(operand).map(|found| found.starts_with(prefix.as_str())),
            Predicate::IsNull(operand) => Some(of(operand).is_none()),
            Predicate::Compare(..) | Predicate::Truth(_) => None,
            Predicate::Not(inner) => inner.holds(series).map(|holds| !holds),
            Predicate::And(left, right) => match (left.holds(series), right.holds(series)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Predicate::Or(left, right) => match (left.holds(series), right.holds(series)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
        }
    }
}

/// The series that pass the conjunction of `predicates`; `name` and `dimensions` are their columns.
pub(crate) fn series_filter(predicates: &[Predicate], name: &str, dimensions: &str) -> KeyFilter {
    let mut of_name = None;
    let mut tests = Vec::new();
    for predicate in predicates {
        match predicate {
            Predicate::Compare(Operand::Column(column), Comparison::Equal, Value::Text(text))
                if column == name && of_name.is_none() =>
            {
                of_name = Some(text.clone());
            }
            other if other.only(&[name, dimensions]) => tests.push(other.clone()),
            _ => {}
        }
    }
    let (none, mut has) = (tests.is_empty(), Vec::new());
    tests.iter().for_each(|test| test.entries_to(&mut has));
    let passes = Arc::new(move |series: &Series| tests.iter().all(|test| test.holds(series) == Some(true)));
    match of_name {
        Some(name) => KeyFilter::NameAnd(name, SeriesTest { has, passes }),
        None if none => KeyFilter::All,
        None => KeyFilter::Predicate(SeriesTest { has, passes }),
    }
}

/// Narrows the range of buckets by a conjunction of `predicates`; `bucket` is their column.
pub(crate) fn bucket_range(predicates: &[Predicate], bucket: &str, filter: &mut RowFilter) {
    for predicate in predicates {
        match predicate {
            Predicate::Compare(Operand::Column(column), comparison, Value::Time(time)) if column == bucket => {
                narrow(filter, *comparison, *time);
            }
            Predicate::And(left, right) => {
                bucket_range(&[(**left).clone(), (**right).clone()], bucket, filter);
            }
            _ => {}
        }
    }
}

fn narrow(filter: &mut RowFilter, comparison: Comparison, time: EventTime) {
    let after = EventTime(time.0.saturating_add(1));
    let (lower, upper) = match comparison {
        Comparison::Equal => (Some(time), Some(after)),
        Comparison::NotEqual => (None, None),
        Comparison::Less => (None, Some(time)),
        Comparison::LessOrEqual => (None, Some(after)),
        Comparison::Greater => (Some(after), None),
        Comparison::GreaterOrEqual => (Some(time), None),
    };
    filter.lower = filter.lower.max(lower);
    filter.upper = [filter.upper, upper].into_iter().flatten().min();
}
