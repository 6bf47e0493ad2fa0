//! The functions as they stand in a question. None of them runs: the rewriting replaces them, or says where they belong.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::timeseries::bucket::time_type;

/// The functions, for a session.
pub(in crate::timeseries) fn functions() -> [Arc<ScalarUDF>; 3] {
    [Call::GapFill, Call::Locf, Call::Interpolate].map(|call| {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(ScalarUDF::from(Function { call, signature }))
    })
}

/// Which function it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Call {
    GapFill,
    Locf,
    Interpolate,
}

impl Call {
    pub(super) fn name(self) -> &'static str {
        match self {
            Call::GapFill => "time_bucket_gapfill",
            Call::Locf => "locf",
            Call::Interpolate => "interpolate",
        }
    }

    /// The error of a call that is elsewhere than it belongs.
    pub(super) fn misplaced(self, call: &str) -> DataFusionError {
        let place = match self {
            Call::GapFill => "stands in GROUP BY, alone and once, and not in grouping sets",
            Call::Locf | Call::Interpolate => {
                "stands in the select list of a SELECT that groups by time_bucket_gapfill(…), around its aggregates"
            }
        };
        DataFusionError::Plan(format!("{call}: {} {place}", self.name()))
    }
}

/// The call that an expression is, with its arguments.
pub(super) fn call_of(expr: &Expr) -> Option<(Call, &[Expr])> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return None };
    let function = func.inner().downcast_ref::<Function>()?;
    Some((function.call, args))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    call: Call,
    signature: Signature,
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.call.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let fail = |form: &str| DataFusionError::Plan(format!("{} is called as {form}", self.call.name()));
        match (self.call, arguments) {
            (Call::GapFill, [_, time, ..]) => {
                time_type(time).ok_or_else(|| DataFusionError::Plan(format!("{time} is no time")))
            }
            (Call::GapFill, _) => Err(fail("time_bucket_gapfill(width, ts [, zone] [, start, finish])")),
            (Call::Locf, [value] | [value, DataType::Boolean]) => Ok(value.clone()),
            (Call::Locf, _) => Err(fail("locf(aggregate [, treat_null_as_missing])")),
            (Call::Interpolate, [value]) if value.is_numeric() || value.is_null() => Ok(DataType::Float64),
            (Call::Interpolate, _) => Err(fail("interpolate(aggregate), of a number")),
        }
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(self.call.misplaced("a call"))
    }
}
