//! `json_build_object(key, value, …)` and `json_build_array(value, …)`, and both of `jsonb_`: JSON, as texts.
//!
//! What one of these functions made, and what is taken out of JSON, goes into another as it is. Any other text is a text, also one
//! that could be read as JSON. Those of `jsonb_` keep the last of equal keys, and shorter keys come first.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion_functions_json::{JsonUnionEncoder, JsonUnionValue};

use super::column_by_column;
use crate::format::json_texts;

/// What is written in a field of texts that are JSON: of these functions, and of others.
const IS_JSON: [(&str, &str); 2] = [("streamgauge.text", "json"), ("ARROW:extension:name", "arrow.json")];

/// The functions, for a session.
pub(super) fn functions() -> [Arc<ScalarUDF>; 4] {
    [
        ("json_build_object", Form::Object { sorted: false }),
        ("jsonb_build_object", Form::Object { sorted: true }),
        ("json_build_array", Form::Array),
        ("jsonb_build_array", Form::Array),
    ]
    .map(|(name, form)| {
        let takes = vec![TypeSignature::VariadicAny, TypeSignature::Nullary];
        let signature = Signature::one_of(takes, Volatility::Immutable);
        Arc::new(ScalarUDF::from(Build { name, form, signature }))
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Object { sorted: bool },
    Array,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Build {
    name: &'static str,
    form: Form,
    signature: Signature,
}

impl ScalarUDFImpl for Build {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if matches!(self.form, Form::Object { .. }) && args.arg_fields.len() % 2 == 1 {
            return plan_err!("{0} takes a value after each key: {0}('a', 1, 'b', 2)", self.name);
        }
        let (key, value) = IS_JSON[0];
        let mark = [(key.to_owned(), value.to_owned())].into();
        Ok(Arc::new(Field::new(self.name, DataType::Utf8, false).with_metadata(mark)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        column_by_column(&args.args, |columns| {
            let texts =
                columns.iter().zip(&args.arg_fields).enumerate().map(|(place, (column, field))| match self.form {
                    Form::Object { .. } if place % 2 == 0 => self.keys(column),
                    _ => values(column, field),
                });
            let texts = texts.collect::<Result<Vec<StringArray>>>()?;
            let rows = columns.first().map_or(1, |column| column.len());
            let made = (0..rows).map(|row| Some(self.made(&texts, row)));
            Ok(Arc::new(made.collect::<StringArray>()))
        })
    }
}

impl Build {
    fn keys(&self, column: &ArrayRef) -> Result<StringArray> {
        let keys = cast(column, &DataType::Utf8)?;
        match keys.null_count() {
            0 => Ok(keys.as_string().clone()),
            _ => exec_err!("a key of {} is null", self.name),
        }
    }

    fn made(&self, texts: &[StringArray], row: usize) -> String {
        let value =
            |texts: &StringArray| if texts.is_null(row) { "null".to_owned() } else { texts.value(row).to_owned() };
        let Form::Object { sorted } = self.form else {
            return format!("[{}]", texts.iter().map(value).collect::<Vec<_>>().join(", "));
        };
        let quoted = |key: &str| serde_json::Value::from(key).to_string();
        let pairs = texts.chunks_exact(2).map(|pair| (pair[0].value(row), value(&pair[1])));
        let pairs: Vec<String> = if sorted {
            let sorted: BTreeMap<(usize, &str), String> = pairs.map(|(key, value)| ((key.len(), key), value)).collect();
            sorted.into_iter().map(|((_, key), value)| format!("{}: {value}", quoted(key))).collect()
        } else {
            pairs.map(|(key, value)| format!("{} : {value}", quoted(key))).collect()
        };
        format!("{{{}}}", pairs.join(", "))
    }
}

/// Values, each as the text of its JSON.
fn values(column: &ArrayRef, field: &FieldRef) -> Result<StringArray> {
    let is_json = IS_JSON.iter().any(|(key, value)| field.metadata().get(*key).is_some_and(|it| it == value));
    let texts = match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if is_json => cast(column, &DataType::Utf8)?,
        DataType::Union(..) => match JsonUnionEncoder::from_union(column.as_union().clone()) {
            Some(union) => return Ok((0..union.len()).map(|row| of_union(union.get_value(row))).collect()),
            None => json_texts(column)?,
        },
        _ => json_texts(column)?,
    };
    Ok(texts.as_string().clone())
}

fn of_union(value: JsonUnionValue<'_>) -> Option<String> {
    Some(match value {
        JsonUnionValue::JsonNull => return None,
        JsonUnionValue::Bool(truth) => truth.to_string(),
        JsonUnionValue::Int(number) => number.to_string(),
        JsonUnionValue::Float(number) => serde_json::Value::from(number).to_string(),
        JsonUnionValue::Str(text) => serde_json::Value::from(text).to_string(),
        JsonUnionValue::Array(json) | JsonUnionValue::Object(json) => json.to_owned(),
    })
}
