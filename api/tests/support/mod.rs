//! The real program, and a client of it.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod client;
pub(crate) mod program;

use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use client::Client;
pub(crate) use program::{DataDir, Program};

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Asks until the answer is the expected one, and fails with the last answer when that takes too long.
pub(crate) async fn eventually<T, F>(what: &str, expected: T, mut ask: impl FnMut() -> F)
where
    T: PartialEq + std::fmt::Debug,
    F: Future<Output = T>,
{
    let began = Instant::now();
    loop {
        let found = ask().await;
        if found == expected {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: expected {expected:?}, and after {PATIENCE:?} found {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The value with every number as a float, so that 5 and 5.0 are the same.
pub(crate) fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(members) => members.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        other => other,
    }
}

/// Where two values differ first, and how; for answers that are too long to be printed whole.
pub(crate) fn difference(found: &Value, expected: &Value) -> Option<String> {
    match (found, expected) {
        (Value::Array(a), Value::Array(b)) => {
            let inside = a.iter().zip(b).enumerate();
            let inside =
                inside.filter_map(|(index, (a, b))| difference(a, b).map(|text| format!("[{index}]{text}"))).next();
            inside.or_else(|| (a.len() != b.len()).then(|| format!(": {} items, expected {}", a.len(), b.len())))
        }
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            a.iter().find_map(|(key, value)| difference(value, &b[key]).map(|text| format!(".{key}{text}")))
        }
        _ => (found != expected).then(|| format!(": {found}, expected {expected}")),
    }
}
