//! The functions about the session that asks: its number, and its settings.
//!
//! They are made anew for each question, which they belong to. Those of no question, for the plans that are kept, are of no session.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::functions::{setting, text, value_by_value};
use crate::client::{ClientSession, number_of_question};

/// Which of them it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    BackendPid,
    CurrentSetting,
    SetConfig,
}

/// The functions by name. What sets something is never computed before the question runs.
const FUNCTIONS: [(&str, Kind, Volatility); 3] = [
    ("pg_backend_pid", Kind::BackendPid, Volatility::Stable),
    ("current_setting", Kind::CurrentSetting, Volatility::Stable),
    ("set_config", Kind::SetConfig, Volatility::Volatile),
];

/// Whose functions they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    /// The question's `id`.
    pub(crate) id: u64,
    pub(crate) session: Option<Arc<dyn ClientSession>>,
}

impl Own {
    /// The functions.
    pub(crate) fn functions(&self) -> impl Iterator<Item = Arc<ScalarUDF>> {
        FUNCTIONS.into_iter().map(|(name, kind, volatility)| {
            let signature = Signature::one_of(
                vec![
                    datafusion::logical_expr::TypeSignature::VariadicAny,
                    datafusion::logical_expr::TypeSignature::Nullary,
                ],
                volatility,
            );
            Arc::new(ScalarUDF::from(Function { name, kind, own: self.clone(), signature }))
        })
    }

    fn number(&self) -> i32 {
        self.session.as_ref().map_or_else(|| number_of_question(self.id), |session| session.number().get())
    }

    fn current_setting(&self, arguments: &[ScalarValue]) -> Result<ScalarValue> {
        let Some(name) = text(arguments, 0) else { return Ok(ScalarValue::Utf8(None)) };
        let missing_ok = arguments.get(1) == Some(&ScalarValue::Boolean(Some(true)));
        let value = match &self.session {
            Some(session) => session.setting(&name),
            None => setting(&name).map(str::to_owned),
        };
        match value {
            None if !missing_ok => exec_err!("there is no setting {name:?}"),
            value => Ok(ScalarValue::Utf8(value)),
        }
    }

    /// Sets, and answers what is set then.
    fn set_config(&self, arguments: &[ScalarValue]) -> Result<ScalarValue> {
        if arguments.len() != 3 {
            return exec_err!("set_config takes a name, a value, and whether it holds for the transaction alone");
        }
        let Some(name) = text(arguments, 0) else { return exec_err!("set_config needs the name of a setting") };
        let Some(session) = &self.session else {
            return exec_err!(
                "set_config({name:?}, …) sets nothing here: only PostgreSQL's protocol has sessions; write SET {name} = … before the question"
            );
        };
        let value = text(arguments, 1);
        let local = arguments[2] == ScalarValue::Boolean(Some(true));
        session.set(&name, value.as_deref(), local).map_err(DataFusionError::Execution)?;
        let kept = if local { value.or_else(|| session.setting(&name)) } else { session.setting(&name) };
        Ok(ScalarValue::Utf8(kept))
    }
}

impl Kind {
    fn returns(self) -> DataType {
        match self {
            Kind::BackendPid => DataType::Int32,
            Kind::CurrentSetting | Kind::SetConfig => DataType::Utf8,
        }
    }
}

/// Whether there is such a function here.
pub(crate) fn is_known(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

/// The functions with what they return, as `pg_proc` has them.
pub(super) fn list() -> impl Iterator<Item = (&'static str, DataType)> {
    FUNCTIONS.iter().map(|(name, kind, _)| (*name, kind.returns()))
}

struct Function {
    name: &'static str,
    kind: Kind,
    own: Own,
    signature: Signature,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.own.id) == (other.name, other.own.id)
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name, self.own.id).hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.kind.returns())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let own = &self.own;
        match self.kind {
            Kind::BackendPid => Ok(ColumnarValue::Scalar(ScalarValue::Int32(Some(own.number())))),
            Kind::CurrentSetting => value_by_value(&arguments, &DataType::Utf8, |row| own.current_setting(row)),
            Kind::SetConfig => value_by_value(&arguments, &DataType::Utf8, |row| own.set_config(row)),
        }
    }
}
