//! Expressions: from DataFusion's to ClickHouse's SQL, exactly or not at all.
//!
//! # Invariants
//!
//! 1. A translation has the value of the expression for every row, null where that is null. It differs from
//!    [`predicate`](crate::predicate), whose translations may keep a row too many.
//! 2. Each part of an expression has a type that both sides hold alike; other types are not translated.
//! 3. Both sides compare and order floats by value, but not-a-number in ways of their own. No stored float is one, and what makes
//!    one of others (quotients, roots) is not translated; sums beyond the largest float are left out of account.
//! 4. A translation is short: some forms write a part twice, and nested they would grow without end.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Case, Cast, Expr, ExprSchemable, Like, Operator};
use streamgauge_schemas::EventTime;
use streamgauge_schemas::stream::timestamp_type;

use super::time;
use crate::clickhouse;
use crate::predicate::{Comparison, micros_bound};

/// The longest translation of an expression.
const BYTES_MAX: usize = 32 << 10;
/// The most members of an `IN` that is worth sending.
const MEMBERS_MAX: usize = 1_000;

/// The columns that an expression may name, and what they are in ClickHouse.
pub(super) struct Scope<'a> {
    pub(super) schema: &'a DFSchema,
    pub(super) columns: &'a [String],
}

impl Scope<'_> {
    /// The type of an expression, if both sides hold it alike.
    pub(super) fn kind(&self, expr: &Expr) -> Option<DataType> {
        let kind = expr.get_type(self.schema).ok()?;
        is_known(&kind).then_some(kind)
    }

    /// An expression in ClickHouse's SQL; `None` when it is left to DataFusion.
    pub(super) fn scalar(&self, expr: &Expr) -> Option<String> {
        self.translated(expr).filter(|sql| sql.len() <= BYTES_MAX) // invariant 4
    }

    /// Whether a float is surely not the negative zero: whole numbers, and seconds since 1970 with what dashboards do to make
    /// buckets of them.
    pub(super) fn has_no_negative_zero(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Alias(alias) => self.has_no_negative_zero(&alias.expr),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide | Operator::Multiply, right }) => {
                is_scale(right) && self.is_far_from_zero(left)
            }
            _ => self.is_far_from_zero(expr),
        }
    }

    /// Whether a float is zero, or farther from it than a millionth, and not the negative zero.
    fn is_far_from_zero(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Cast(cast) => matches!(self.kind(&cast.expr), Some(DataType::Int32 | DataType::Int64)),
            Expr::ScalarFunction(call) => match (call.name(), call.args.as_slice()) {
                ("date_part", _) => true,
                ("floor", [arg]) => self.has_no_negative_zero(arg),
                _ => false,
            },
            _ => false,
        }
    }

    fn translated(&self, expr: &Expr) -> Option<String> {
        let kind = self.kind(expr)?;
        Some(match expr {
            Expr::Alias(alias) => self.scalar(&alias.expr)?,
            Expr::Column(column) => self.columns.get(self.schema.index_of_column(column).ok()?)?.clone(),
            Expr::Literal(value, _) => literal(value)?,
            Expr::BinaryExpr(binary) => self.binary(binary)?,
            Expr::Not(inner) => format!("(NOT {})", self.scalar(inner)?),
            Expr::IsNull(inner) => format!("isNull({})", self.scalar(inner)?),
            Expr::IsNotNull(inner) => format!("isNotNull({})", self.scalar(inner)?),
            Expr::IsTrue(inner) => format!("ifNull({}, false)", self.scalar(inner)?),
            Expr::IsNotTrue(inner) => format!("(NOT ifNull({}, false))", self.scalar(inner)?),
            Expr::IsFalse(inner) => format!("(NOT ifNull({}, true))", self.scalar(inner)?),
            Expr::IsNotFalse(inner) => format!("ifNull({}, true)", self.scalar(inner)?),
            Expr::IsUnknown(inner) => format!("isNull({})", self.scalar(inner)?),
            Expr::IsNotUnknown(inner) => format!("isNotNull({})", self.scalar(inner)?),
            Expr::Negative(inner) if kind == DataType::Float64 => format!("(-{})", self.scalar(inner)?),
            Expr::Between(between) => {
                let low = self.compare(&between.expr, Comparison::GreaterOrEqual, &between.low)?;
                let high = self.compare(&between.expr, Comparison::LessOrEqual, &between.high)?;
                let not = if between.negated { "NOT " } else { "" };
                format!("({not}({low} AND {high}))")
            }
            Expr::Case(case) => self.case(case)?,
            Expr::Cast(cast) => self.cast(cast, &kind)?,
            Expr::InList(list) => self.in_list(list)?,
            Expr::Like(like) => self.like(like)?,
            Expr::ScalarFunction(call) => self.function(call, &kind)?,
            _ => return None,
        })
    }

    fn binary(&self, binary: &BinaryExpr) -> Option<String> {
        let BinaryExpr { left, op, right } = binary;
        if let Some(comparison) = Comparison::of(*op) {
            return self.compare(left, comparison, right);
        }
        if let Some(shifted) = time::shifted(self, left, *op, right) {
            return Some(shifted);
        }
        let (left_kind, right_kind) = (self.kind(left)?, self.kind(right)?);
        if left_kind != right_kind {
            return None;
        }
        let (left, divisor, right) = (self.scalar(left)?, right.as_ref(), self.scalar(right)?);
        Some(match (op, &left_kind) {
            (Operator::And, _) => format!("({left} AND {right})"),
            (Operator::Or, _) => format!("({left} OR {right})"),
            (Operator::Plus, DataType::Int64 | DataType::Float64) => format!("({left} + {right})"),
            (Operator::Minus, DataType::Int64 | DataType::Float64) => format!("({left} - {right})"),
            (Operator::Multiply, DataType::Int64 | DataType::Float64) => format!("({left} * {right})"),
            // Invariant 3.
            (Operator::Divide, DataType::Float64) if is_not_zero(divisor) => format!("({left} / {right})"),
            (Operator::Divide, DataType::Int64) if divides(divisor) => format!("intDiv({left}, {right})"),
            (Operator::Modulo, DataType::Int64) if divides(divisor) => format!("modulo({left}, {right})"),
            (Operator::StringConcat, kind) if is_text(kind) => format!("concat({left}, {right})"),
            _ => return None,
        })
    }

    fn compare(&self, left: &Expr, comparison: Comparison, right: &Expr) -> Option<String> {
        if let (Expr::Literal(..), Expr::Cast(_)) = (left, right) {
            return self.compare(right, comparison.flipped(), left);
        }
        // `CAST(ts AS nanoseconds) ≷ literal`, as it comes from `now()`.
        if let (Expr::Cast(cast), Expr::Literal(ScalarValue::TimestampNanosecond(Some(nanos), Some(_)), _)) =
            (left, right)
            && matches!(cast.field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, Some(_)))
            && self.kind(&cast.expr)? == timestamp_type()
        {
            let (comparison, micros) = micros_bound(comparison, *nanos)?;
            let (left, right) = (self.scalar(&cast.expr)?, time_literal(micros)?);
            return Some(format!("({left} {} {right})", comparison.sql()));
        }
        let (left_kind, right_kind) = (self.kind(left)?, self.kind(right)?);
        if left_kind != right_kind && !(is_text(&left_kind) && is_text(&right_kind)) {
            return None;
        }
        Some(format!("({} {} {})", self.scalar(left)?, comparison.sql(), self.scalar(right)?))
    }

    fn case(&self, case: &Case) -> Option<String> {
        let mut sql = "CASE".to_owned();
        for (when, then) in &case.when_then_expr {
            let when = match &case.expr {
                Some(expr) => self.compare(expr, Comparison::Equal, when)?,
                None => self.scalar(when)?,
            };
            sql.push_str(&format!(" WHEN {when} THEN {}", self.scalar(then)?));
        }
        let otherwise = match &case.else_expr {
            Some(otherwise) => self.scalar(otherwise)?,
            None => "NULL".to_owned(),
        };
        Some(format!("({sql} ELSE {otherwise} END)"))
    }

    fn cast(&self, cast: &Cast, wanted: &DataType) -> Option<String> {
        let (kind, inner) = (self.kind(&cast.expr)?, self.scalar(&cast.expr)?);
        Some(match (&kind, wanted) {
            (same, wanted) if same == wanted => inner,
            (text, wanted) if is_text(text) && is_text(wanted) => inner,
            (DataType::Int64 | DataType::Int32, DataType::Float64) => format!("toFloat64({inner})"),
            (DataType::Int32, DataType::Int64) => format!("toInt64({inner})"),
            (DataType::Int64 | DataType::Int32, text) if is_text(text) => format!("toString({inner})"),
            (time, DataType::Date32) if *time == timestamp_type() => format!("toDate32({inner})"),
            _ => return None,
        })
    }

    /// ClickHouse finds no null in any list.
    fn in_list(&self, list: &InList) -> Option<String> {
        let kind = self.kind(&list.expr)?;
        if list.list.len() > MEMBERS_MAX || kind == DataType::Float64 {
            return None;
        }
        let member = |member: &Expr| match member {
            Expr::Literal(value, _) if !value.is_null() && self.kind(member)? == kind => literal(value),
            _ => None,
        };
        let members = list.list.iter().map(member).collect::<Option<Vec<_>>>()?.join(", ");
        let (value, not) = (self.scalar(&list.expr)?, if list.negated { "NOT " } else { "" });
        Some(format!("if(isNull({value}), NULL, {value} {not}IN ({members}))"))
    }

    /// Patterns of `%` alone: other characters of a pattern are counted differently.
    fn like(&self, like: &Like) -> Option<String> {
        let Expr::Literal(pattern, _) = like.pattern.as_ref() else { return None };
        let pattern = pattern.try_as_str().flatten()?;
        if like.case_insensitive || like.escape_char.is_some() || pattern.contains(['_', '\\']) {
            return None;
        }
        let not = if like.negated { "NOT " } else { "" };
        Some(format!("({} {not}LIKE {})", self.scalar(&like.expr)?, clickhouse::text(pattern)))
    }

    fn function(&self, call: &ScalarFunction, kind: &DataType) -> Option<String> {
        let args = || call.args.iter().map(|arg| self.scalar(arg)).collect::<Option<Vec<_>>>();
        let is_float = *kind == DataType::Float64;
        Some(match (call.name(), call.args.as_slice()) {
            ("date_bin" | "date_trunc" | "date_part", _) => time::function(self, call, kind)?,
            ("get_field", [Expr::Column(map), Expr::Literal(key, _)]) => {
                let map = self.columns.get(self.schema.index_of_column(map).ok()?)?;
                let key = clickhouse::text(key.try_as_str().flatten()?);
                format!("if(mapContains({map}, {key}), {map}[{key}], NULL)")
            }
            ("coalesce", _) => format!("coalesce({})", args()?.join(", ")),
            ("nullif", [left, right]) if !is_float => {
                let equal = self.compare(left, Comparison::Equal, right)?;
                format!("if({equal}, NULL, {})", self.scalar(left)?)
            }
            (name @ ("abs" | "floor" | "ceil"), [arg]) if is_float => format!("{name}({})", self.scalar(arg)?),
            ("character_length", [arg]) => format!("toInt32(lengthUTF8({}))", self.scalar(arg)?),
            ("octet_length", [arg]) => format!("toInt32(length({}))", self.scalar(arg)?),
            ("starts_with", [_, _]) => format!("startsWith({})", args()?.join(", ")),
            _ => return None,
        })
    }
}

/// Whether both sides hold values of this type alike.
pub(super) fn is_known(kind: &DataType) -> bool {
    let number = matches!(kind, DataType::Int32 | DataType::Int64 | DataType::UInt64 | DataType::Float64);
    number || matches!(kind, DataType::Boolean | DataType::Date32) || is_text(kind) || *kind == timestamp_type()
}

pub(super) fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

/// Whether something is divided by a number for which both sides do the same.
fn divides(divisor: &Expr) -> bool {
    matches!(divisor, Expr::Literal(ScalarValue::Int64(Some(divisor)), _) if ![0, -1].contains(divisor))
}

/// Whether something is divided by a float that makes no not-a-number.
fn is_not_zero(divisor: &Expr) -> bool {
    matches!(divisor, Expr::Literal(ScalarValue::Float64(Some(divisor)), _) if divisor.is_finite() && *divisor != 0.0)
}

/// Whether something is multiplied or divided by a number by which no whole number, and no part of a second, becomes a zero.
fn is_scale(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Float64(Some(scale)), _) if (1e-6..=1e12).contains(scale))
}

fn literal(value: &ScalarValue) -> Option<String> {
    Some(match value {
        ScalarValue::Int64(Some(number)) => format!("toInt64({number})"),
        ScalarValue::Int32(Some(number)) => format!("toInt32({number})"),
        ScalarValue::Float64(Some(number)) if number.is_finite() => format!("toFloat64({number:e})"),
        ScalarValue::Boolean(Some(truth)) => truth.to_string(),
        ScalarValue::TimestampMicrosecond(Some(micros), Some(_)) => time_literal(*micros)?,
        ScalarValue::Int64(None) => "CAST(NULL, 'Nullable(Int64)')".to_owned(),
        ScalarValue::Float64(None) => "CAST(NULL, 'Nullable(Float64)')".to_owned(),
        ScalarValue::Boolean(None) => "CAST(NULL, 'Nullable(Bool)')".to_owned(),
        ScalarValue::Utf8(None) | ScalarValue::Utf8View(None) => "CAST(NULL, 'Nullable(String)')".to_owned(),
        text => clickhouse::text(text.try_as_str().flatten()?),
    })
}

/// A time that ClickHouse can hold.
fn time_literal(micros: i64) -> Option<String> {
    (EventTime::EARLIEST.0..=EventTime::LATEST.0).contains(&micros).then(|| clickhouse::time(EventTime(micros)))
}
