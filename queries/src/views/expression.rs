//! The one way in which expressions are written out, and the types that they may have.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use streamgauge_schemas::ValueType;
use streamgauge_schemas::stream::dimensions_type;

use super::error::ViewError;
use super::tables::StreamTable;

/// The events that a view's expressions are over.
pub(super) struct Scope<'a> {
    pub(super) stream: &'a StreamTable,
    pub(super) state: &'a SessionState,
    schema: DFSchemaRef,
}

/// An expression of a type that a view knows; its text is its identity.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    pub(super) expr: Expr,
    pub(super) kind: ValueType,
    pub(super) nullable: bool,
}

impl Typed {
    pub(super) fn text(&self) -> String {
        self.expr.to_string()
    }
}

impl<'a> Scope<'a> {
    pub(super) fn new(stream: &'a StreamTable, state: &'a SessionState) -> Result<Self, ViewError> {
        let schema = DFSchema::try_from_qualified_schema(stream.name.as_str(), &stream.schema)?;
        Ok(Scope { stream, state, schema: Arc::new(schema) })
    }

    /// An expression over the events, without aliases, with columns named after the stream, and simplified; so equal
    /// expressions of two views are most often the same.
    pub(super) fn normal(&self, expr: Expr) -> Result<Expr, ViewError> {
        check_pure(&expr)?;
        let simple = simplified(self.named(expr)?, &self.schema, self.state)?;
        let uncast = simple.transform_up(|expr| {
            Ok(match expr {
                Expr::Cast(cast) if cast.expr.get_type(&*self.schema)? == *cast.field.data_type() => {
                    Transformed::yes(*cast.expr)
                }
                other => Transformed::no(other),
            })
        })?;
        Ok(uncast.data)
    }

    /// The type of an expression as it was written.
    pub(super) fn type_of(&self, expr: &Expr) -> Result<DataType, ViewError> {
        Ok(self.named(expr.clone())?.get_type(&*self.schema)?)
    }

    fn named(&self, expr: Expr) -> Result<Expr, ViewError> {
        let stream = self.stream.name.as_str();
        let named = expr.transform_up(|expr| {
            Ok(match expr {
                Expr::Alias(alias) => Transformed::yes(*alias.expr),
                Expr::Column(column) => Transformed::yes(Expr::Column(Column::new(Some(stream), column.name))),
                other => Transformed::no(other),
            })
        })?;
        Ok(named.data)
    }

    /// An expression in its normal form, cast to a type that a view knows.
    ///
    /// # Errors
    /// [`ViewError::NotMaintained`] for a type that has none, with what to cast to.
    pub(super) fn typed(&self, expr: Expr) -> Result<Typed, ViewError> {
        let of = expr.get_type(&*self.schema)?;
        let kind = value_type(&of).ok_or_else(|| refused_type(&expr, &of))?;
        let nullable = expr.nullable(&*self.schema)?;
        let expr = if of == kind.arrow() { expr } else { Expr::Cast(Cast::new(Box::new(expr), kind.arrow())) };
        let expr = simplified(expr, &self.schema, self.state)?;
        Ok(Typed { expr, kind, nullable })
    }

    /// Whether an expression in its normal form may be null.
    pub(super) fn nullable(&self, expr: &Expr) -> Result<bool, ViewError> {
        Ok(expr.nullable(&*self.schema)?)
    }
}

/// Simplifies an expression over `schema`.
pub(super) fn simplified(expr: Expr, schema: &DFSchemaRef, state: &SessionState) -> Result<Expr, ViewError> {
    let context =
        SimplifyContext::builder().with_schema(schema.clone()).with_config_options(state.config_options().clone());
    Ok(ExprSimplifier::new(context.build()).simplify(expr)?)
}

/// Gives an expression over `schema` the casts that its types need, and simplifies it.
pub(crate) fn coerced(expr: Expr, schema: &DFSchemaRef, state: &SessionState) -> Result<Expr, DataFusionError> {
    let context =
        SimplifyContext::builder().with_schema(schema.clone()).with_config_options(state.config_options().clone());
    let simplifier = ExprSimplifier::new(context.build());
    simplifier.simplify(simplifier.coerce(expr, schema)?)
}

/// Refuses what has another value at another time, or needs other rows.
pub(crate) fn check_pure(expr: &Expr) -> Result<(), ViewError> {
    let mut refused = None;
    expr.apply(|part| {
        let reason = match part {
            Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                "its value is another at another time; a view must give the same whenever it is computed"
            }
            Expr::ScalarVariable(..) | Expr::Placeholder(_) => "its value is not known",
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => {
                "subqueries are not maintained"
            }
            Expr::OuterReferenceColumn(..) => "subqueries are not maintained",
            Expr::WindowFunction(_) => "windows are not maintained",
            Expr::GroupingSet(_) => "a view has one set of dimensions; make a view of each",
            Expr::Unnest(_) => "unnest is not maintained",
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        refused = Some(ViewError::not_maintained(part, reason));
        Ok(TreeNodeRecursion::Stop)
    })?;
    refused.map_or(Ok(()), Err)
}

/// The type that holds all values of an Arrow type.
fn value_type(of: &DataType) -> Option<ValueType> {
    Some(match of {
        DataType::Boolean => ValueType::Bool,
        of if of.is_integer() => ValueType::I64,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => ValueType::F64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ValueType::Text,
        DataType::Dictionary(_, values) => return value_type(values).filter(|kind| *kind == ValueType::Text),
        DataType::Timestamp(..) => ValueType::Time,
        DataType::Date32 | DataType::Date64 => ValueType::Date,
        of if *of == dimensions_type() => ValueType::Map,
        _ => return None,
    })
}

/// The type that a column of the select list comes nearest to.
pub(super) fn nearest(of: &DataType) -> ValueType {
    value_type(of).unwrap_or(if of.is_decimal() { ValueType::F64 } else { ValueType::Text })
}

fn refused_type(expr: &Expr, of: &DataType) -> ViewError {
    let instead = if of.is_decimal() { "DOUBLE or BIGINT" } else { "VARCHAR, or to numbers," };
    ViewError::not_maintained(
        expr,
        format!(
            "it is of type {of}, and what is kept are booleans, integers, floats, texts, times and dates; CAST it to {instead} \
             in the SELECT"
        ),
    )
}

/// The parts of a condition that must all be true.
pub(crate) fn conjuncts(condition: &Expr) -> Vec<&Expr> {
    datafusion::logical_expr::utils::split_conjunction(condition)
}

/// All of these, as one condition.
pub(super) fn all_of(conditions: Vec<&Expr>) -> Option<Expr> {
    conjunction(conditions.into_iter().cloned())
}
