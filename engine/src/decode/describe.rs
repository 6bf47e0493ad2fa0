//! How values of a body are named in the reason of a reject.

use super::json::Value;

/// The most characters of a found text that a reason repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// Names a value: its kind, and what it is where that is short.
pub(super) fn describe(value: Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(text) => format!("number {}", clip(text)),
        Value::Text(text) => format!("text \"{}\"", clip(text.raw)),
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "an array".to_owned(),
    }
}

/// The beginning of a text.
pub(super) fn clip(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
