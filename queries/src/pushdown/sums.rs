//! Which aggregates over a view may be added up in parts, and the parts in ClickHouse's SQL.
//!
//! ```text
//!  rows of states in ClickHouse ─▶ a row for each group of the question ─┐
//!                      groups of the view that memory has a piece of ────┴▶ the same aggregate, in DataFusion
//! ```
//!
//! | aggregate | of | why it may be applied to pieces, and then to what comes of these |
//! |---|---|---|
//! | `sum` | a count or a sum | a sum of sums |
//! | `min`, `max` | a smallest or largest value of the same kind | the least of the least |
//! | `min`, `max` | what names a group | all pieces of a group have it |
//! | `combine` | counts, sums, smallest and largest values | states merge |
//!
//! Anything else is about whole groups. When a group has a piece in memory and others in ClickHouse, neither side knows its count, so
//! neither knows which count is the greatest.
//!
//! # Invariants
//!
//! 1. A part is null where it is one of nothing, and then the aggregate does not see it.
//! 2. Of states, what stands for nothing (see `Layout::blank`) is as neutral here as it is to a merge.
//! 3. No float that ClickHouse compares is not-a-number: no event has one, but what a view computes of events may be one.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Case, Expr, TableScan};
use streamgauge_schemas::state::columns::StateColumn;
use streamgauge_schemas::state::{Finish, Fold, Function, Output};
use streamgauge_schemas::{ValueType, View};

use super::aggregate::aggregate;
use super::scalar::Scope;
use crate::clickhouse;
use crate::combine;
use crate::groups::Shown;
use crate::tables::{ApartView, ScanColumn};

/// The columns of a scan of a view, over the rows of its table in ClickHouse.
pub(super) struct Pieces<'a> {
    view: &'a View,
    schema: &'a DFSchema,
    kinds: Vec<Kind>,
    /// Of each column its value in a row; without meaning where that has none.
    columns: Vec<String>,
}

/// What a column of the scan is to an aggregate.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// It names the group.
    Name,
    /// It adds up.
    Sum,
    /// The least of it is the least of all.
    Min,
    /// The greatest of it is the greatest of all.
    Max,
    /// A column of the state of a fold.
    State(Fold),
    /// Something of whole groups.
    Whole,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(apart: &'a ApartView, scan: &'a TableScan) -> Self {
        let view = apart.view();
        let mut pieces = Pieces { view, schema: &scan.projected_schema, kinds: Vec::new(), columns: Vec::new() };
        for place in 0..scan.projected_schema.fields().len() {
            let is_float = *scan.projected_schema.field(place).data_type() == DataType::Float64;
            let (kind, column) = match apart.column(scan, place) {
                Some(ScanColumn::Shown(Some(Shown::Name(_)))) if is_float => (Kind::Whole, String::new()), // invariant 3
                Some(ScanColumn::Shown(Some(Shown::Name(name)))) => {
                    (Kind::Name, format!("s.{}", clickhouse::name(name)))
                }
                Some(ScanColumn::Shown(Some(Shown::Result(output)))) => {
                    pieces.result(output).unwrap_or((Kind::Whole, String::new()))
                }
                Some(ScanColumn::State(state)) => pieces.state(state).unwrap_or((Kind::Whole, String::new())),
                _ => (Kind::Whole, String::new()),
            };
            pieces.kinds.push(kind);
            pieces.columns.push(column);
        }
        pieces
    }

    pub(super) fn scope(&self) -> Scope<'_> {
        Scope { schema: self.schema, columns: &self.columns }
    }

    /// Whether an expression is about nothing but what names a group.
    pub(super) fn is_of_names(&self, expr: &Expr) -> bool {
        expr.column_refs()
            .into_iter()
            .all(|column| self.schema.index_of_column(column).is_ok_and(|place| self.kinds[place] == Kind::Name))
    }

    /// The parts of a call, one for each of its arguments: over the rows of a group of the question, where its filter holds.
    pub(super) fn parts(&self, call: &AggregateFunction) -> Option<Vec<String>> {
        let params = &call.params;
        if params.filter.as_ref().is_some_and(|filter| !self.is_of_names(filter)) {
            return None;
        }
        if combine::merges_states(&call.func) {
            return self.merged(call);
        }
        let plain = !params.distinct && params.order_by.is_empty() && params.null_treatment.is_none();
        let [argument] = &params.args[..] else { return None };
        let fits = match call.func.name() {
            "sum" => self.is_made_of(argument, Kind::Sum),
            "min" => self.is_of_names(argument) || self.is_made_of(argument, Kind::Min),
            "max" => self.is_of_names(argument) || self.is_made_of(argument, Kind::Max),
            _ => false,
        };
        (plain && fits)
            .then(|| aggregate(&self.scope(), &Expr::AggregateFunction(call.clone())).map(|part| vec![part]))?
    }

    /// Whether an expression is a column of that kind, or one of several such, nothing, or a zero to be added, by the names of a group.
    fn is_made_of(&self, expr: &Expr, kind: Kind) -> bool {
        match expr {
            Expr::Alias(alias) => self.is_made_of(&alias.expr, kind),
            Expr::Column(column) => self.schema.index_of_column(column).is_ok_and(|place| self.kinds[place] == kind),
            Expr::Literal(value, _) => value.is_null() || kind == Kind::Sum && is_zero(value),
            Expr::Case(Case { expr, when_then_expr, else_expr }) => {
                expr.iter().all(|expr| self.is_of_names(expr))
                    && when_then_expr.iter().all(|(when, then)| self.is_of_names(when) && self.is_made_of(then, kind))
                    && else_expr.iter().all(|other| self.is_made_of(other, kind))
            }
            _ => false,
        }
    }

    /// The column of a fold.
    fn fold(&self, fold: usize, suffix: &str) -> Option<String> {
        let columns = self.view.layout().columns();
        let place = columns.iter().position(|column| (column.fold, column.suffix) == (fold, suffix))?;
        Some(format!("s.{}", clickhouse::name(&self.view.state_columns()[place])))
    }

    /// Whether a fold is of a column of the stream as it is.
    fn is_of_column(&self, fold: usize) -> bool {
        let definition = &self.view.definition;
        let argument =
            definition.folds.get(fold).and_then(|fold| definition.arguments.get(usize::from(fold.argument?)));
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '"');
        argument.is_some_and(|argument| argument.expression.chars().all(is_name))
    }

    /// A result of a row; null when nothing was counted.
    fn result(&self, output: &Output) -> Option<(Kind, String)> {
        let layout = self.view.layout();
        let function = |fold: usize| layout.folds()[fold].function;
        match output.finish {
            Finish::Count(fold) if function(fold) == Function::Count => {
                Some((Kind::Sum, format!("toInt64({})", self.fold(fold, "")?)))
            }
            Finish::Value { fold, count } => {
                let kind = match function(fold) {
                    Function::Sum => Kind::Sum,
                    Function::Min => Kind::Min,
                    Function::Max => Kind::Max,
                    _ => return None,
                };
                if output.kind == ValueType::F64 && kind != Kind::Sum && !self.is_of_column(fold) {
                    return None; // invariant 3
                }
                let (value, count) = (self.fold(fold, "")?, self.fold(count, "")?);
                let value = match output.kind {
                    ValueType::I64 | ValueType::F64 => value,
                    ValueType::Bool => format!("toBool({value})"),
                    ValueType::Time => format!("fromUnixTimestamp64Micro({value}, 'UTC')"),
                    _ => return None, // ClickHouse knows dates of a few centuries only
                };
                Some((kind, format!("if({count} > 0, {value}, NULL)")))
            }
            // A tag, and the text.
            Finish::Held(fold) if output.kind == ValueType::Text => {
                let kind = match function(fold) {
                    Function::Min => Kind::Min,
                    Function::Max => Kind::Max,
                    _ => return None,
                };
                let bytes = self.fold(fold, "")?;
                Some((kind, format!("if(ascii({bytes}) = 2, substring({bytes}, 2), NULL)")))
            }
            _ => None,
        }
    }

    /// A column of states of a row.
    fn state(&self, state: StateColumn) -> Option<(Kind, String)> {
        let fold = self.view.layout().folds()[state.fold];
        Some((Kind::State(fold), self.fold(state.fold, state.suffix)?))
    }

    /// The merged states of rows, one for each column of states.
    fn merged(&self, call: &AggregateFunction) -> Option<Vec<String>> {
        let condition = match &call.params.filter {
            Some(filter) => Some(format!("ifNull({}, false)", self.scope().scalar(filter)?)),
            None => None,
        };
        let merged = |argument: &Expr| {
            let Expr::Column(column) = argument else { return None };
            let place = self.schema.index_of_column(column).ok()?;
            let Kind::State(fold) = self.kinds[place] else { return None };
            let merged = merged(fold, &self.columns[place], condition.as_deref())?;
            Some(match &condition {
                Some(condition) => format!("if(countIf({condition}) > 0, {merged}, NULL)"), // invariant 1
                None => merged,
            })
        };
        call.params.args.iter().map(merged).collect()
    }
}

/// A column of states, merged over rows.
fn merged(fold: Fold, column: &str, condition: Option<&str>) -> Option<String> {
    let (suffix, condition) = match condition {
        Some(condition) => ("If", format!(", {condition}")),
        None => ("", String::new()),
    };
    // Not-a-numbers have an order here, of which that of nothing is an end (invariant 2): the order of bits.
    let bits = format!("reinterpretAsInt64({column})");
    let order = format!("if({bits} < 0, bitXor({bits}, toInt64({})), {bits})", i64::MAX);
    Some(match (fold.function, fold.kind) {
        (Function::Count, _) => format!("toUInt64(sum{suffix}({column}{condition}))"),
        (Function::Sum, _) => format!("sum{suffix}({column}{condition})"),
        (Function::Min, ValueType::F64) => format!("argMin{suffix}({column}, {order}{condition})"),
        (Function::Max, ValueType::F64) => format!("argMax{suffix}({column}, {order}{condition})"),
        (Function::Min | Function::Max, ValueType::Text) => return None,
        (Function::Min, _) => format!("min{suffix}({column}{condition})"),
        (Function::Max, _) => format!("max{suffix}({column}{condition})"),
        _ => return None,
    })
}

fn is_zero(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Int64(Some(number)) => *number == 0,
        ScalarValue::Float64(Some(number)) => *number == 0.0,
        _ => false,
    }
}
