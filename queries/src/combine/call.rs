//! The function as it stands in a question: it has the type of its argument, and never runs.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

/// Its name.
pub(crate) const NAME: &str = "combine";

/// The function, for a session.
pub(crate) fn function() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Combine { signature: Signature::variadic_any(Volatility::Immutable) }))
}

/// See the module. How many arguments there are is said by the rewriting, in its own words.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Combine {
    signature: Signature,
}

impl AggregateUDFImpl for Combine {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Err(DataFusionError::Plan(format!("{NAME} is answered of the columns of views only")))
    }
}

/// Whether a function is this one.
pub(super) fn is_combine(function: &AggregateUDF) -> bool {
    function.inner().downcast_ref::<Combine>().is_some()
}
