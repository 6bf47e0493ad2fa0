//! `pg_cancel_backend(number)` and `pg_terminate_backend(number)`: end a question that runs, by its `id` in `system.queries`,
//! or by the number of its session, which is the `pid` in `pg_stat_activity`.
//!
//! They are functions so that they can be called over every protocol, and for all questions of a condition at once; the
//! names are those that PostgreSQL's tools call. They answer whether there was such a question. The session itself goes on.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::activity::Activity;

const NAMES: [&str; 2] = ["pg_cancel_backend", "pg_terminate_backend"];

/// The functions.
pub(crate) fn functions(activity: &Arc<Activity>) -> impl Iterator<Item = Arc<ScalarUDF>> {
    let signature = || Signature::exact(vec![DataType::Int64], Volatility::Volatile);
    NAMES
        .into_iter()
        .map(move |name| Arc::new(ScalarUDF::from(Cancel { name, activity: activity.clone(), signature: signature() })))
}

/// Whether a statement calls one of them.
pub(crate) fn is_called(statement: &str) -> bool {
    let statement = statement.to_lowercase();
    NAMES.iter().any(|name| statement.contains(name))
}

struct Cancel {
    name: &'static str,
    activity: Arc<Activity>,
    signature: Signature,
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Cancel {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Cancel {}

impl Hash for Cancel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Cancel {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ids = ColumnarValue::values_to_arrays(&arguments.args)?;
        let cancel = |number: Option<i64>| number.map(|number| self.activity.cancel(number));
        let done: BooleanArray = ids[0].as_primitive::<Int64Type>().iter().map(cancel).collect();
        Ok(ColumnarValue::Array(Arc::new(done)))
    }
}
