//! Names, literals and settings in ClickHouse's SQL: the only ways a value gets into a statement.

use std::fmt::Write;
use std::time::Duration;

use streamgauge_schemas::EventTime;

use crate::history::History;

/// A name in backticks.
pub(crate) fn name(name: &str) -> String {
    quoted(name, '`')
}

/// A text literal.
pub(crate) fn text(text: &str) -> String {
    quoted(text, '\'')
}

/// A time literal.
pub(crate) fn time(time: EventTime) -> String {
    format!("fromUnixTimestamp64Micro(toInt64({}), 'UTC')", time.0)
}

/// The full name of a table.
pub(crate) fn table(history: &dyn History, table: &str) -> String {
    format!("{}.{}", name(history.database()), name(table))
}

/// The settings of a question that may take `time_max`; ClickHouse has a moment more, so that the question's own clock
/// speaks first, and says whom it waited for.
pub(crate) fn settings(time_max: Duration) -> String {
    format!("SETTINGS max_execution_time = {}", time_max.as_secs() + 1)
}

/// What a query on states adds to [`settings`]: a row's versions share its partition, since they share its generation.
pub(crate) const FINAL_SETTINGS: &str = ", do_not_merge_across_partitions_select_final = 1";

/// What a query on states in order adds when all of its rows are read and small: `FINAL` and a sort of what is almost in order take a
/// third of the time of reading in order, which sends the first row at once and holds few.
pub(crate) const SORT_SETTINGS: &str = ", optimize_read_in_order = 0";

/// What a query for states of any fold adds: texts come as bytes, since those of states are none.
pub(crate) const BYTES_SETTINGS: &str = ", output_format_arrow_string_as_string = 0";

fn quoted(text: &str, mark: char) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting() {
        assert_eq!(name("a`b\\c"), "`a\\`b\\\\c`");
        assert_eq!(text("it's \0"), "'it\\'s \\0'");
        assert_eq!(time(EventTime(-1)), "fromUnixTimestamp64Micro(toInt64(-1), 'UTC')");
    }
}
