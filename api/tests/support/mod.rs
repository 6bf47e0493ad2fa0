//! The real program, and a client of it. Each test binary uses a part of this.
#![allow(dead_code)]

pub(crate) mod client;
pub(crate) mod program;

use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use client::{Answer, Client};
pub(crate) use program::{DataDir, Program};

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

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
