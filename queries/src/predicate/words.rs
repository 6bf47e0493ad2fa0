//! A filter in SQL as people write it, for them to read.

use streamgauge_schemas::time::to_rfc3339;

use super::{Operand, Predicate, Value};
use crate::clickhouse;

impl Predicate {
    /// The filter in SQL.
    pub(crate) fn words(&self) -> String {
        match self {
            Predicate::Compare(operand, comparison, value) => {
                format!("{} {} {}", operand.words(), comparison.sql(), value.words())
            }
            Predicate::In(operand, values) => {
                let values: Vec<String> = values.iter().map(Value::words).collect();
                format!("{} IN ({})", operand.words(), values.join(", "))
            }
            Predicate::StartsWith(operand, prefix) => {
                format!("starts_with({}, {})", operand.words(), clickhouse::text(prefix))
            }
            Predicate::IsNull(operand) => format!("{} IS NULL", operand.words()),
            Predicate::Truth(operand) => operand.words(),
            Predicate::Not(inner) => format!("NOT ({})", inner.words()),
            Predicate::And(left, right) => format!("({} AND {})", left.words(), right.words()),
            Predicate::Or(left, right) => format!("({} OR {})", left.words(), right.words()),
        }
    }
}

impl Operand {
    fn words(&self) -> String {
        match self {
            Operand::Column(column) => column.clone(),
            Operand::Entry { map, key } => format!("{map}[{}]", clickhouse::text(key)),
        }
    }
}

impl Value {
    fn words(&self) -> String {
        match self {
            Value::Text(text) => clickhouse::text(text),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            Value::Time(time) => format!("'{}'", to_rfc3339(*time)),
        }
    }
}
