//! Names, literals and settings in ClickHouse's SQL: the only ways a value gets into a statement.

use std::fmt::Write;
use std::time::Duration;

use streamgauge_schemas::EventTime;

use crate::history::History;

/// Of a longer statement people see the beginning.
const SHOWN_BYTES_MAX: usize = 16 << 10;

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

/// A statement for people to read, cut off if it is enormous.
pub(crate) fn shortened(mut sql: String) -> String {
    if sql.len() > SHOWN_BYTES_MAX {
        sql.truncate(sql.floor_char_boundary(SHOWN_BYTES_MAX));
        sql.push_str(" …");
    }
    sql
}

/// What a read may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) time_max: Duration,
    pub(crate) memory_bytes_max: usize,
}

/// Every read may take so much memory: what streams through it is not counted here either.
const MEMORY_BYTES_MIN: usize = 64 << 20;

/// Its share of ClickHouse's memory when that is full; that of others is 1 GiB.
const MEMORY_SHARE_BYTES: usize = 1 << 20;

/// The settings of a read.
///
/// - Of time ClickHouse has a moment more, so that the question's own clock speaks first, and says whom it waited for.
/// - Groups and sorts go on on disk at half of the memory: merging what is there needs some, too.
/// - When all of ClickHouse's memory is full, whoever exceeds his share of it most is ended; that of a read is so small that it is
///   hardly ever a flush.
pub(crate) fn settings(bounds: Bounds) -> String {
    let memory = bounds.memory_bytes_max.max(MEMORY_BYTES_MIN);
    let on_disk = memory / 2;
    format!(
        "SETTINGS max_execution_time = {}, max_memory_usage = {memory}, max_bytes_before_external_group_by = {on_disk}, \
         max_bytes_before_external_sort = {on_disk}, memory_overcommit_ratio_denominator = {MEMORY_SHARE_BYTES}",
        bounds.time_max.as_secs() + 1
    )
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
