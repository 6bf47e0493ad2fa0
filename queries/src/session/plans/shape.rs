//! The shape of a question: its statement with the values left open that may differ from one time to the next.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::parser::Statement as SqlStatement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr as Ast, SetExpr, Statement, UnaryOperator, Value, visit_expressions,
};

use crate::open;
use crate::question::Parameters;
use crate::session::parameters::place;

/// See the module.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Shape {
    statement: Statement,
    /// The types of what is open.
    kinds: Vec<DataType>,
}

impl Shape {
    /// The shape of a question and the values for what it leaves open; `None` when it is planned as it is.
    pub(super) fn of(statement: &SqlStatement, parameters: &Parameters) -> Option<(Shape, Vec<ScalarValue>)> {
        let SqlStatement::Statement(statement) = statement else { return None };
        let mut used = vec![0_usize; parameters.values().len()];
        let visited = visit_expressions(statement.as_ref(), |expr| match placeholder(expr) {
            None => ControlFlow::Continue(()),
            Some(id) => match place(id).ok().and_then(|place| used.get_mut(place)) {
                Some(used) => {
                    *used += 1;
                    ControlFlow::Continue(())
                }
                None => ControlFlow::Break(()),
            },
        });
        if visited.is_break() || used.contains(&0) || !matches!(statement.as_ref(), Statement::Query(_)) {
            return None; // a parameter that is not given, or one that is given in vain
        }
        let mut statement = statement.as_ref().clone();
        let Statement::Query(query) = &mut statement else { return None };
        let mut opening = Opening { parameters, used, values: Vec::new() };
        if let SetExpr::Select(select) = query.body.as_mut()
            && let [table] = &select.from[..]
            && table.joins.is_empty()
            && let Some(condition) = &mut select.selection
        {
            opening.open(condition);
        }
        let Opening { used, values, .. } = opening;
        if used.iter().any(|more| *more > 0) || values.iter().any(ScalarValue::is_null) {
            return None; // a parameter that is elsewhere too, and null compares as nothing else does
        }
        let kinds = values.iter().map(ScalarValue::data_type).collect();
        Some((Shape { statement, kinds }, values))
    }

    pub(super) fn statement(&self) -> SqlStatement {
        SqlStatement::Statement(Box::new(self.statement.clone()))
    }

    pub(super) fn kinds(&self) -> &[DataType] {
        &self.kinds
    }
}

struct Opening<'a> {
    parameters: &'a Parameters,
    /// How often each parameter is still in the statement.
    used: Vec<usize>,
    values: Vec<ScalarValue>,
}

impl Opening<'_> {
    /// Opens the comparisons of a condition.
    fn open(&mut self, condition: &mut Ast) {
        match condition {
            Ast::Nested(inner) | Ast::UnaryOp { op: UnaryOperator::Not, expr: inner } => self.open(inner),
            Ast::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
                self.open(left);
                self.open(right);
            }
            Ast::BinaryOp { left, op, right } if compares(op) => {
                self.take(left);
                self.take(right);
            }
            Ast::Between { low, high, .. } => {
                self.take(low);
                self.take(high);
            }
            _ => {}
        }
    }

    /// Takes a value out, if it is one.
    fn take(&mut self, expr: &mut Ast) {
        let Ast::Value(literal) = expr else { return };
        let value = match &literal.value {
            Value::SingleQuotedString(text) => ScalarValue::Utf8(Some(text.clone())),
            Value::Placeholder(id) => {
                let Ok(place) = place(id) else { return };
                let Some(value) = self.parameters.values().get(place) else { return };
                self.used[place] -= 1;
                value.clone()
            }
            _ => return,
        };
        literal.value = Value::Placeholder(open::name(self.values.len()));
        self.values.push(value);
    }
}

fn compares(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

fn placeholder(expr: &Ast) -> Option<&str> {
    match expr {
        Ast::Value(literal) => match &literal.value {
            Value::Placeholder(id) => Some(id),
            _ => None,
        },
        _ => None,
    }
}
