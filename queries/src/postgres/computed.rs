//! Functions of PostgreSQL that analysts write and DataFusion does not have. Questions have them, and views do not.
//!
//! Those here say the same of the same values, and compute column by column.
//!
//! # Layout
//!
//! - `ages`: `age`; `spans`: intervals, made and justified; `seconds`: how many seconds an interval has.
//! - `histogram`: `width_bucket`; `clock`: `clock_timestamp`; `objects`: JSON, built of values.
//! - `ordered`: `mode` and `percentile_disc`; `tally`: the values that they count.

mod ages;
mod clock;
mod histogram;
mod objects;
mod ordered;
mod seconds;
mod spans;
mod tally;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::functions::string::uuid;
use datafusion::functions_aggregate::bool_and_or::bool_and_udaf;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const DAY_NS: i64 = 86_400 * SECOND_NS;
const SECOND_NS: i64 = 1_000_000_000;

/// Adds the functions to a session, and PostgreSQL's names of some that DataFusion has.
///
/// # Errors
/// When the session takes no functions.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    for function in [ages::age(), histogram::width_bucket()].into_iter().chain(spans::functions()) {
        state.register_udf(function.function())?;
    }
    for function in objects::functions().into_iter().chain([clock::clock_timestamp()]) {
        state.register_udf(function)?;
    }
    for function in ordered::functions() {
        state.register_udaf(function)?;
    }
    state.register_udf(Arc::new(uuid().as_ref().clone().with_aliases(["gen_random_uuid"])))?;
    state.register_udaf(Arc::new(bool_and_udaf().as_ref().clone().with_aliases(["every"])))?;
    state.register_function_rewrite(Arc::new(seconds::OfIntervals::new()))
}

/// A function.
struct Computed {
    name: &'static str,
    /// How it is written, for errors.
    form: &'static str,
    /// The types that its arguments are read as; `None` of arguments that it does not take.
    takes: fn(&[DataType]) -> Option<Vec<DataType>>,
    gives: DataType,
    /// A value for each row of arguments that have these types.
    work: fn(&[ArrayRef]) -> Result<ArrayRef>,
}

impl Computed {
    fn function(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Function { of: self, signature: Signature::user_defined(Volatility::Immutable) }))
    }
}

struct Function {
    of: Computed,
    signature: Signature,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.of.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.of.name == other.of.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.of.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.of.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match (self.of.takes)(arguments) {
            Some(types) => Ok(types),
            None => plan_err!("{} is written {}", self.of.name, self.of.form),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.of.gives.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        column_by_column(&args.args, |columns| (self.of.work)(columns))
    }
}

/// Computes a function, once if its arguments are the same for all rows.
fn column_by_column(
    arguments: &[ColumnarValue],
    work: impl FnOnce(&[ArrayRef]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let constant = arguments.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
    let values = work(&ColumnarValue::values_to_arrays(arguments)?)?;
    match constant {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)),
        false => Ok(ColumnarValue::Array(values)),
    }
}
