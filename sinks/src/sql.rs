//! Quoting: the only two ways a name or a text gets into a statement.

use std::fmt::Write;

/// A name in backticks.
///
/// ```
/// use streamgauge_sinks::sql::sql_name;
/// assert_eq!(sql_name("flights"), "`flights`");
/// assert_eq!(sql_name("a`b\\c"), "`a\\`b\\\\c`");
/// ```
#[must_use]
pub fn sql_name(name: &str) -> String {
    quote(name, '`')
}

/// A text literal.
///
/// ```
/// use streamgauge_sinks::sql::sql_text;
/// assert_eq!(sql_text("it's"), "'it\\'s'");
/// ```
#[must_use]
pub fn sql_text(text: &str) -> String {
    quote(text, '\'')
}

fn quote(text: &str, mark: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(mark);
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            c if c == mark => write!(quoted, "\\{mark}").expect("a String takes what is written"),
            c => quoted.push(c),
        }
    }
    quoted.push(mark);
    quoted
}
