//! Calls of aggregates as folds of arguments, and results of folds.
//!
//! | call | folds | result |
//! |---|---|---|
//! | `count(*)`, `count(x)` | count | the count |
//! | `sum(x)`, `min(x)`, `max(x)` | itself and count | null when nothing was counted |
//! | `avg(x)` | sum of floats and count | their quotient |
//! | `stddev…`, `var…` | moments | the variance, or its root |
//! | `min`, `max` of texts, `first_value`, `last_value`, `first`, `last` | itself | what it holds |
//! | `count(DISTINCT x)`, quantiles and the like | sketches | see [`sketches`] |
//!
//! With a `FILTER`, the argument is null for the events that it leaves out; to a first or last value a null is a value, so
//! their filter is an argument of its own. A fold of the same argument is kept once,
//! and a count of what is never null is the count of rows.

use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, NullTreatment, Sort};
use datafusion::logical_expr::{Cast, Expr, lit, when};
use streamgauge_schemas::ValueType;
use streamgauge_schemas::state::{Finish, Fold, Function, Output};
use streamgauge_schemas::view::Argument;

use super::error::ViewError;
use super::expression::{Scope, Typed, check_pure};
use crate::{combine, timeseries};

pub(super) mod sketches;

const KEPT: &str = "there are count, sum, avg, min, max, stddev, stddev_pop, var, var_pop, first_value, last_value, first, last, count(DISTINCT …), \
                    approx_distinct, approx_percentile_cont, approx_median and approx_top_k";

/// What the aggregates of a view need, as it grows.
#[derive(Default)]
pub(super) struct Aggregates {
    pub(super) arguments: Vec<Typed>,
    pub(super) folds: Vec<Fold>,
    pub(super) outputs: Vec<Output>,
}

impl Aggregates {
    /// Adds a call, by the name that DataFusion has for it; the place of its result.
    ///
    /// # Errors
    /// [`ViewError::NotMaintained`] for a call whose result cannot be kept.
    pub(super) fn add(&mut self, name: &str, call: &Expr, scope: &Scope<'_>) -> Result<usize, ViewError> {
        check_pure(call)?;
        let call = timeseries::in_order_of_time(call.clone().unalias_nested().data);
        let Expr::AggregateFunction(AggregateFunction { func, params }) = &call else {
            return Err(ViewError::not_maintained(&call, KEPT));
        };
        let refuse = |reason: &str| Err(ViewError::not_maintained(&call, reason));
        let mut params = params.clone();
        let filter = params.filter.take().map(|filter| scope.normal(*filter)).transpose()?;
        let ordered = matches!(func.name(), "first_value" | "last_value");
        if params.distinct && !matches!(func.name(), "min" | "max" | "count") {
            return refuse("distinct values are counted, and nothing else is made of them");
        }
        let ignore_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
        if !ordered && !params.order_by.is_empty() && !sketches::is_of_group(func.name()) {
            return refuse("the order of events makes no difference to it; leave out ORDER BY");
        }
        let (finish, kind, nullable) = match func.name() {
            combine::NAME => {
                return refuse(
                    "it merges what a view keeps, and a view is over events; call it in the SELECT that reads the view",
                );
            }
            name if sketches::is_sketch(name, params.distinct) => self.sketch(name, &call, params, filter, scope)?,
            "count" => (Finish::Count(self.count(&params, filter, scope)?), ValueType::I64, false),
            "sum" | "avg" | "min" | "max" => {
                let argument = argument(&call, params, filter, scope)?;
                // As DataFusion's: a sum of integers may wrap, and a mean must not.
                let argument = if func.name() == "avg" { float(argument, scope)? } else { argument };
                let (nullable, of) = (argument.nullable, argument.kind);
                let (finish, kind) = self.value(func.name(), argument, of);
                (finish, kind, nullable)
            }
            "stddev" | "stddev_pop" | "var" | "var_pop" => {
                let argument = float(argument(&call, params, filter, scope)?, scope)?;
                let sample = !func.name().ends_with("_pop");
                let nullable = sample || argument.nullable;
                let fold = self.fold(Function::Moments, argument);
                (Finish::Spread { fold, sample, root: func.name().starts_with("stddev") }, ValueType::F64, nullable)
            }
            "first_value" | "last_value" => {
                let Some(rises) = by_time(&params.order_by, &scope.stream.time_column) else {
                    let time = &scope.stream.time_column;
                    return refuse(&format!(
                        "the first and the last value are those by event time; write ORDER BY {time}"
                    ));
                };
                let mut argument = argument(&call, params, None, scope)?;
                if let Some(filter) = &filter
                    && !matches!(argument.expr, Expr::Column(_))
                {
                    // A filter also keeps an expression from events on which it would fail.
                    argument = scope.typed(scope.normal(when(filter.clone(), argument.expr).end()?)?)?;
                }
                let given = (ignore_nulls && argument.nullable).then(|| argument.expr.clone().is_not_null());
                let filter = filter.into_iter().chain(given).reduce(Expr::and);
                let filter = filter.map(|filter| scope.normal(filter)).transpose()?;
                let (nullable, kind) = (argument.nullable || filter.is_some(), argument.kind);
                let function = if (func.name() == "first_value") == rises { Function::First } else { Function::Last };
                let condition = filter.map(|filter| scope.typed(filter)).transpose()?;
                (Finish::Held(self.fold_if(function, argument, condition)), kind, nullable)
            }
            _ => return refuse(KEPT),
        };
        let same = |output: &Output| output.finish == finish && output.kind == kind;
        if let Some(place) = self.outputs.iter().position(same) {
            return Ok(place);
        }
        self.check(&call)?;
        // DataFusion counts ones when rows are counted.
        let name = name.replacen("count(Int64(1))", "count(*)", 1);
        self.outputs.push(Output { name, finish, kind, nullable });
        Ok(self.outputs.len() - 1)
    }

    /// A view without aggregates counts its rows, for a state of an event must not be that of none.
    pub(super) fn at_least_a_count(&mut self) {
        if self.folds.is_empty() {
            self.row_count();
        }
    }

    /// The arguments as they are stored.
    pub(super) fn stored_arguments(&self) -> Vec<Argument> {
        self.arguments.iter().map(|typed| Argument { expression: typed.text(), kind: typed.kind }).collect()
    }

    fn value(&mut self, name: &str, argument: Typed, of: ValueType) -> (Finish, ValueType) {
        let function = match name {
            "min" => Function::Min,
            "max" => Function::Max,
            _ => Function::Sum,
        };
        if of == ValueType::Text {
            return (Finish::Held(self.fold(function, argument)), of);
        }
        let counted = argument.clone();
        let fold = self.fold(function, argument);
        let count = self.count_of(counted);
        match name {
            "avg" => (Finish::Mean { sum: fold, count }, ValueType::F64),
            _ => (Finish::Value { fold, count }, of),
        }
    }

    /// The fold of `count(…)`.
    fn count(
        &mut self,
        params: &AggregateFunctionParams,
        filter: Option<Expr>,
        scope: &Scope<'_>,
    ) -> Result<usize, ViewError> {
        let args = params.args.iter().map(|arg| scope.normal(arg.clone())).collect::<Result<Vec<Expr>, _>>()?;
        let mut conditions: Vec<Expr> = filter.into_iter().collect();
        if let ([arg], []) = (&args[..], &conditions[..])
            && let Ok(typed) = scope.typed(arg.clone())
        {
            return Ok(self.count_of(typed));
        }
        for arg in args {
            if scope.nullable(&arg)? {
                conditions.push(arg.is_not_null());
            }
        }
        let Some(condition) = conditions.into_iter().reduce(Expr::and) else { return Ok(self.row_count()) };
        let counted = scope.normal(when(condition, lit(true)).end()?)?;
        Ok(self.count_of(scope.typed(counted)?))
    }

    fn count_of(&mut self, argument: Typed) -> usize {
        if argument.nullable { self.fold(Function::Count, argument) } else { self.row_count() }
    }

    fn row_count(&mut self) -> usize {
        self.keep(Fold::ROWS)
    }

    fn fold(&mut self, function: Function, argument: Typed) -> usize {
        self.fold_if(function, argument, None)
    }

    fn fold_if(&mut self, function: Function, argument: Typed, condition: Option<Typed>) -> usize {
        let kind = argument.kind;
        let argument = Some(self.argument(argument));
        let condition = condition.map(|condition| self.argument(condition));
        self.keep(Fold { function, argument, kind, condition })
    }

    /// The place of an argument; the same one is kept once.
    fn argument(&mut self, argument: Typed) -> u16 {
        let text = argument.text();
        let place = self.arguments.iter().position(|other| other.text() == text).unwrap_or_else(|| {
            self.arguments.push(argument);
            self.arguments.len() - 1
        });
        place as u16
    }

    fn keep(&mut self, fold: Fold) -> usize {
        self.folds.iter().position(|other| *other == fold).unwrap_or_else(|| {
            self.folds.push(fold);
            self.folds.len() - 1
        })
    }

    /// Refuses folds that are not kept of their type, and more of them than can be numbered.
    fn check(&self, call: &Expr) -> Result<(), ViewError> {
        let laid_out = streamgauge_schemas::Layout::new(&self.folds);
        let few = self.arguments.len() <= usize::from(u16::MAX);
        let error = laid_out.err().map(|error| error.to_string());
        let error = error.or_else(|| (!few).then(|| "the view has too many aggregates".to_owned()));
        error.map_or(Ok(()), |reason| Err(ViewError::not_maintained(call, reason)))
    }
}

/// The single argument of a call, null where its filter is not true.
fn argument(
    call: &Expr,
    params: AggregateFunctionParams,
    filter: Option<Expr>,
    scope: &Scope<'_>,
) -> Result<Typed, ViewError> {
    let Ok([argument]) = <[Expr; 1]>::try_from(params.args) else {
        return Err(ViewError::not_maintained(call, "it is kept of one argument"));
    };
    let argument = scope.typed(scope.normal(argument)?)?;
    match filter {
        None => Ok(argument),
        Some(filter) => scope.typed(scope.normal(when(filter, argument.expr).end()?)?),
    }
}

fn float(argument: Typed, scope: &Scope<'_>) -> Result<Typed, ViewError> {
    match argument.kind {
        ValueType::I64 => {
            let cast = Cast::new(Box::new(argument.expr), ValueType::F64.arrow());
            scope.typed(scope.normal(Expr::Cast(cast))?)
        }
        _ => Ok(argument),
    }
}

/// Whether an order that is none or that of event time rises; `None` of another.
fn by_time(order: &[Sort], time_column: &str) -> Option<bool> {
    let is_time = |sort: &Sort| matches!(&sort.expr, Expr::Column(column) if column.name == time_column);
    match order {
        [] => Some(true),
        [sort] if is_time(sort) => Some(sort.asc),
        _ => None,
    }
}
