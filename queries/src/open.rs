//! What a kept plan leaves open: values that each question gives, and what time it is.

use datafusion::logical_expr::Expr;

/// What an open value is called, with a number from 0 behind it; parameters are `$` and a number from 1.
const OPEN: &str = "$h";
/// The functions that say what time it is when the statement begins.
const CLOCKS: [&str; 3] = ["now", "current_date", "current_time"];

/// The name of an open value.
pub(crate) fn name(number: usize) -> String {
    format!("{OPEN}{number}")
}

/// The number of the open value of that name.
pub(crate) fn number(name: &str) -> Option<usize> {
    name.strip_prefix(OPEN)?.parse().ok()
}

/// Whether an expression of a plan is left open.
pub(crate) fn is_open(expr: &Expr) -> bool {
    match expr {
        Expr::Placeholder(placeholder) => number(&placeholder.id).is_some(),
        Expr::ScalarFunction(call) => CLOCKS.contains(&call.name()),
        _ => false,
    }
}
