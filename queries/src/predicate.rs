//! Filters: from DataFusion's expressions to ClickHouse's SQL and to the engine's row filter.
//!
//! Only what means the same on both sides is translated; the rest is left to DataFusion. A filter that a view keeps exactly
//! (`GroupReader::is_exact`) is true for the very same rows; every other one DataFusion applies again, so it may keep a row too many,
//! and must never lose one.
//!
//! # Invariants
//!
//! 1. Where the expression is true, the translation is true. Where it is null, the translation is null or anything:
//!    three-valued logic is monotone, so an outer expression that is true in spite of the null stays true.
//! 2. Floats are compared in ClickHouse by value and in Arrow by bits; they differ at zero and not-a-number only, and
//!    those are not translated.
//!
//! # Layout
//!
//! - `memory`: what memory is asked for.
//! - `words`: a filter for people to read.

mod memory;
mod words;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Like, Operator};
use streamgauge_schemas::stream::{dimensions_type, timestamp_type};
use streamgauge_schemas::{Duration, EventTime, ValueType};

use crate::clickhouse;
pub(crate) use memory::{bucket_range, series_filter};

/// The most members of an `IN` that is worth sending.
const MEMBERS_MAX: usize = 1_000;

/// A filter that ClickHouse and memory understand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Predicate {
    Compare(Operand, Comparison, Value),
    In(Operand, Vec<Value>),
    StartsWith(Operand, String),
    IsNull(Operand),
    /// A boolean column.
    Truth(Operand),
    Not(Box<Predicate>),
    And(Box<Predicate>, Box<Predicate>),
    Or(Box<Predicate>, Box<Predicate>),
}

/// What is compared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Column(String),
    /// What a map has at a key.
    Entry {
        map: String,
        key: String,
    },
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// With what.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Time(EventTime),
}

impl Value {
    /// A column of this value alone; `None` when it is of another type.
    pub(crate) fn column(&self, kind: ValueType) -> Option<ArrayRef> {
        Some(match (self, kind) {
            (Value::Text(text), ValueType::Text) => Arc::new(StringArray::from(vec![text.as_str()])),
            (Value::Integer(number), ValueType::I64) => Arc::new(Int64Array::from(vec![*number])),
            (Value::Float(number), ValueType::F64) => Arc::new(Float64Array::from(vec![*number])),
            (Value::Boolean(truth), ValueType::Bool) => Arc::new(BooleanArray::from(vec![*truth])),
            (Value::Time(time), ValueType::Time) => {
                Arc::new(TimestampMicrosecondArray::from(vec![time.0]).with_timezone("UTC"))
            }
            _ => return None,
        })
    }
}

impl Predicate {
    /// The values that it lets a column have, if it is about nothing else and they are few.
    pub(crate) fn values_of(&self, name: &str) -> Option<Vec<&Value>> {
        match self {
            Predicate::Compare(Operand::Column(column), Comparison::Equal, value) if column == name => {
                Some(vec![value])
            }
            Predicate::In(Operand::Column(column), values) if column == name => Some(values.iter().collect()),
            Predicate::Or(left, right) => Some([left.values_of(name)?, right.values_of(name)?].concat()),
            _ => None,
        }
    }

    /// Translates a filter on a table of `schema`; `None` when it is to be left to DataFusion.
    pub(crate) fn of(expr: &Expr, schema: &Schema) -> Option<Predicate> {
        let not =
            |predicate: Predicate, negated: bool| if negated { Predicate::Not(Box::new(predicate)) } else { predicate };
        Some(match expr {
            Expr::Alias(alias) => Predicate::of(&alias.expr, schema)?,
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::And => {
                    Predicate::And(Box::new(Predicate::of(left, schema)?), Box::new(Predicate::of(right, schema)?))
                }
                Operator::Or => {
                    Predicate::Or(Box::new(Predicate::of(left, schema)?), Box::new(Predicate::of(right, schema)?))
                }
                _ => compare(left, Comparison::of(*op)?, right, schema)
                    .or_else(|| compare(right, Comparison::of(*op)?.flipped(), left, schema))?,
            },
            Expr::Not(inner) => not(Predicate::of(inner, schema)?, true),
            Expr::IsNull(inner) => Predicate::IsNull(operand(inner, schema)?.0),
            Expr::IsNotNull(inner) => not(Predicate::IsNull(operand(inner, schema)?.0), true),
            Expr::Column(_) => match operand(expr, schema)? {
                (operand, DataType::Boolean) => Predicate::Truth(operand),
                _ => return None,
            },
            Expr::Between(between) => {
                let low = compare(&between.expr, Comparison::GreaterOrEqual, &between.low, schema)?;
                let high = compare(&between.expr, Comparison::LessOrEqual, &between.high, schema)?;
                not(Predicate::And(Box::new(low), Box::new(high)), between.negated)
            }
            Expr::InList(list) if list.list.len() <= MEMBERS_MAX => {
                let (operand, kind) = operand(&list.expr, schema)?;
                let values = list.list.iter().map(|member| value(member, &kind)).collect::<Option<Vec<_>>>()?;
                not(Predicate::In(operand, values), list.negated)
            }
            Expr::Like(like) => not(starts_with(like, schema)?, like.negated),
            _ => return None,
        })
    }

    /// Appends the filter in ClickHouse's SQL; columns are those of the table named `alias`.
    pub(crate) fn write_sql(&self, alias: &str, out: &mut String) {
        let of = |operand: &Operand| operand.sql(alias);
        match self {
            Predicate::Compare(operand, comparison, value) => {
                out.push_str(&format!("{} {} {}", of(operand), comparison.sql(), value.sql()));
            }
            Predicate::In(operand, values) => {
                let values: Vec<String> = values.iter().map(Value::sql).collect();
                out.push_str(&format!("{} IN ({})", of(operand), values.join(", ")));
            }
            Predicate::StartsWith(operand, prefix) => {
                out.push_str(&format!("startsWith({}, {})", of(operand), clickhouse::text(prefix)));
            }
            Predicate::IsNull(Operand::Entry { map, key }) => {
                out.push_str(&format!("NOT mapContains({}, {})", column_sql(alias, map), clickhouse::text(key)));
            }
            Predicate::IsNull(operand) => out.push_str(&format!("{} IS NULL", of(operand))),
            Predicate::Truth(operand) => out.push_str(&of(operand)),
            Predicate::Not(inner) => {
                out.push_str("NOT (");
                inner.write_sql(alias, out);
                out.push(')');
            }
            Predicate::And(left, right) => write_pair(left, "AND", right, alias, out),
            Predicate::Or(left, right) => write_pair(left, "OR", right, alias, out),
        }
    }

    /// Whether every column named is one of `columns`.
    pub(crate) fn only(&self, columns: &[&str]) -> bool {
        self.all(&|operand| columns.contains(&operand.column()))
    }

    /// Whether it is about what a map has at a key.
    pub(crate) fn has_entries(&self) -> bool {
        !self.all(&|operand| matches!(operand, Operand::Column(_)))
    }

    fn all(&self, test: &impl Fn(&Operand) -> bool) -> bool {
        match self {
            Predicate::Compare(operand, ..)
            | Predicate::In(operand, _)
            | Predicate::StartsWith(operand, _)
            | Predicate::IsNull(operand)
            | Predicate::Truth(operand) => test(operand),
            Predicate::Not(inner) => inner.all(test),
            Predicate::And(left, right) | Predicate::Or(left, right) => left.all(test) && right.all(test),
        }
    }

    /// The same with other names of its columns; `None` when one has no other name, or is a map.
    pub(crate) fn renamed(&self, name: &dyn Fn(&str) -> Option<String>) -> Option<Predicate> {
        let of = |operand: &Operand| match operand {
            Operand::Column(column) => Some(Operand::Column(name(column)?)),
            Operand::Entry { map, key } => Some(Operand::Entry { map: name(map)?, key: key.clone() }),
        };
        let both =
            |left: &Predicate, right: &Predicate| Some((Box::new(left.renamed(name)?), Box::new(right.renamed(name)?)));
        Some(match self {
            Predicate::Compare(operand, comparison, value) => {
                Predicate::Compare(of(operand)?, *comparison, value.clone())
            }
            Predicate::In(operand, values) => Predicate::In(of(operand)?, values.clone()),
            Predicate::StartsWith(operand, prefix) => Predicate::StartsWith(of(operand)?, prefix.clone()),
            Predicate::IsNull(operand) => Predicate::IsNull(of(operand)?),
            Predicate::Truth(operand) => Predicate::Truth(of(operand)?),
            Predicate::Not(inner) => Predicate::Not(Box::new(inner.renamed(name)?)),
            Predicate::And(left, right) => {
                let (left, right) = both(left, right)?;
                Predicate::And(left, right)
            }
            Predicate::Or(left, right) => {
                let (left, right) = both(left, right)?;
                Predicate::Or(left, right)
            }
        })
    }

    /// The same of a column that has multiples of `width` only: a bound that lies between two of them becomes the lower one, so that
    /// bounds by the time of the question are the same text for as long as they mean the same.
    pub(crate) fn aligned(self, column: &str, width: Duration) -> Predicate {
        match self {
            Predicate::Compare(Operand::Column(name), comparison, Value::Time(time))
                if name == column && time >= EventTime::EARLIEST && time.floor(width) != time =>
            {
                let comparison = match comparison {
                    Comparison::Less | Comparison::LessOrEqual => Comparison::LessOrEqual,
                    Comparison::Greater | Comparison::GreaterOrEqual => Comparison::Greater,
                    Comparison::Equal | Comparison::NotEqual => {
                        return Predicate::Compare(Operand::Column(name), comparison, Value::Time(time));
                    }
                };
                Predicate::Compare(Operand::Column(name), comparison, Value::Time(time.floor(width)))
            }
            Predicate::And(left, right) => {
                Predicate::And(Box::new(left.aligned(column, width)), Box::new(right.aligned(column, width)))
            }
            other => other,
        }
    }
}

fn write_pair(left: &Predicate, word: &str, right: &Predicate, alias: &str, out: &mut String) {
    out.push('(');
    left.write_sql(alias, out);
    out.push_str(&format!(" {word} "));
    right.write_sql(alias, out);
    out.push(')');
}

fn column_sql(alias: &str, column: &str) -> String {
    format!("{alias}.{}", clickhouse::name(column))
}

impl Operand {
    fn column(&self) -> &str {
        match self {
            Operand::Column(name) => name,
            Operand::Entry { map, .. } => map,
        }
    }

    fn sql(&self, alias: &str) -> String {
        match self {
            Operand::Column(name) => column_sql(alias, name),
            // ClickHouse answers a missing key with an empty text; here it is null.
            Operand::Entry { map, key } => {
                let (map, key) = (column_sql(alias, map), clickhouse::text(key));
                format!("if(mapContains({map}, {key}), {map}[{key}], NULL)")
            }
        }
    }
}

impl Comparison {
    pub(crate) fn of(operator: Operator) -> Option<Self> {
        Some(match operator {
            Operator::Eq => Comparison::Equal,
            Operator::NotEq => Comparison::NotEqual,
            Operator::Lt => Comparison::Less,
            Operator::LtEq => Comparison::LessOrEqual,
            Operator::Gt => Comparison::Greater,
            Operator::GtEq => Comparison::GreaterOrEqual,
            _ => return None,
        })
    }

    pub(crate) fn flipped(self) -> Self {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            same => same,
        }
    }

    pub(crate) fn sql(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "<>",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }

    fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Value {
    fn sql(&self) -> String {
        match self {
            Value::Text(text) => clickhouse::text(text),
            Value::Integer(integer) => format!("toInt64({integer})"),
            Value::Float(float) => format!("{float:e}"),
            Value::Boolean(boolean) => boolean.to_string(),
            Value::Time(time) => clickhouse::time(*time),
        }
    }
}

/// A column or an entry of a map, with its type.
fn operand(expr: &Expr, schema: &Schema) -> Option<(Operand, DataType)> {
    match expr {
        Expr::Alias(alias) => operand(&alias.expr, schema),
        Expr::Column(column) => {
            let field = schema.field_with_name(&column.name).ok()?;
            Some((Operand::Column(column.name.clone()), field.data_type().clone()))
        }
        Expr::ScalarFunction(call) if call.name() == "get_field" => match call.args.as_slice() {
            [Expr::Column(column), Expr::Literal(key, _)] => {
                let is_map = *schema.field_with_name(&column.name).ok()?.data_type() == dimensions_type();
                let key = key.try_as_str().flatten().filter(|_| is_map)?.to_owned();
                Some((Operand::Entry { map: column.name.clone(), key }, DataType::Utf8))
            }
            _ => None,
        },
        _ => None,
    }
}

fn value(expr: &Expr, kind: &DataType) -> Option<Value> {
    let Expr::Literal(literal, _) = expr else { return None };
    match (literal, kind) {
        (ScalarValue::Int64(Some(integer)), DataType::Int64) => Some(Value::Integer(*integer)),
        // Invariant 2.
        (ScalarValue::Float64(Some(float)), DataType::Float64) if float.is_finite() && *float != 0.0 => {
            Some(Value::Float(*float))
        }
        (ScalarValue::Boolean(Some(boolean)), DataType::Boolean) => Some(Value::Boolean(*boolean)),
        (ScalarValue::TimestampMicrosecond(Some(micros), _), kind) if *kind == timestamp_type() => time(*micros),
        (text, DataType::Utf8) => Some(Value::Text(text.try_as_str().flatten()?.to_owned())),
        _ => None,
    }
}

/// A time that ClickHouse can hold.
fn time(micros: i64) -> Option<Value> {
    (EventTime::EARLIEST.0..=EventTime::LATEST.0).contains(&micros).then_some(Value::Time(EventTime(micros)))
}

fn compare(left: &Expr, comparison: Comparison, right: &Expr, schema: &Schema) -> Option<Predicate> {
    if let Some((operand, kind)) = operand(left, schema) {
        return Some(Predicate::Compare(operand, comparison, value(right, &kind)?));
    }
    compare_nanos(left, comparison, right, schema)
}

/// `CAST(ts AS nanoseconds) ≷ literal`, as it comes from `now()`: the same in microseconds.
///
/// With `literal = 1000 q + r`, `0 < r < 1000`: `1000 ts < literal` is `ts <= q`, and `1000 ts > literal` is `ts > q`.
fn compare_nanos(left: &Expr, comparison: Comparison, right: &Expr, schema: &Schema) -> Option<Predicate> {
    let (Expr::Cast(cast), Expr::Literal(ScalarValue::TimestampNanosecond(Some(nanos), _), _)) = (left, right) else {
        return None;
    };
    let (operand, kind) = operand(&cast.expr, schema)?;
    let to_nanos = matches!(cast.field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, Some(_)));
    if kind != timestamp_type() || !to_nanos {
        return None;
    }
    let (comparison, micros) = micros_bound(comparison, *nanos)?;
    Some(Predicate::Compare(operand, comparison, time(micros)?))
}

/// The comparison of a time in microseconds that means the same as one of its nanoseconds with a bound.
pub(crate) fn micros_bound(comparison: Comparison, nanos: i64) -> Option<(Comparison, i64)> {
    let comparison = match (comparison, nanos.rem_euclid(1_000)) {
        (same, 0) => same,
        (Comparison::Less | Comparison::LessOrEqual, _) => Comparison::LessOrEqual,
        (Comparison::Greater | Comparison::GreaterOrEqual, _) => Comparison::Greater,
        (Comparison::Equal | Comparison::NotEqual, _) => return None,
    };
    Some((comparison, nanos.div_euclid(1_000)))
}

/// `LIKE 'prefix%'`; other patterns are left alone, since their characters are counted differently.
fn starts_with(like: &Like, schema: &Schema) -> Option<Predicate> {
    let (operand, kind) = operand(&like.expr, schema)?;
    let Value::Text(pattern) = value(&like.pattern, &kind)? else { return None };
    let prefix = pattern.strip_suffix('%')?;
    let plain = !like.case_insensitive && like.escape_char.is_none() && !prefix.contains(['%', '_', '\\']);
    plain.then(|| Predicate::StartsWith(operand, prefix.to_owned()))
}

#[cfg(test)]
mod tests;
