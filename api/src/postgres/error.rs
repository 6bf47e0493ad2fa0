//! Errors as clients of PostgreSQL know them: a SQLSTATE beside our own words, with a hint and a place where known.

use streamgauge_queries::QueryError;

use super::message::Output;
use crate::http::problem::Problem;

/// An error on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PostgresError {
    /// Five letters that programs go by.
    pub(super) state: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The place in the statement, in characters from one.
    pub(super) position: Option<usize>,
    /// Whether the connection ends.
    pub(super) fatal: bool,
}

impl PostgresError {
    pub(super) fn new(state: &'static str, message: impl Into<String>) -> Self {
        PostgresError { state, message: message.into(), hint: None, position: None, fatal: false }
    }

    /// One that ends the connection.
    pub(super) fn fatal(state: &'static str, message: impl Into<String>) -> Self {
        PostgresError { fatal: true, ..PostgresError::new(state, message) }
    }

    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        PostgresError { hint: Some(hint.into()), ..self }
    }

    /// The error of a question; `sql` is its text, for the place.
    pub(super) fn of(error: QueryError, sql: &str) -> Self {
        let problem = Problem::from(error);
        let state = state(&problem.code, &problem.detail);
        let place = place(&problem.detail, sql);
        let (message, hint) = match problem.detail.split_once("; ") {
            Some((message, _)) if problem.code.starts_with("history_") => (
                message.to_owned(),
                Some("ask again later, or SET streamgauge.partial = on for what memory has".to_owned()),
            ),
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (problem.detail, None),
        };
        PostgresError { state, message, hint, position: place, fatal: false }
    }

    pub(super) fn write(&self, out: &mut Output) {
        let severity = if self.fatal { "FATAL" } else { "ERROR" };
        let position = self.position.map(|position| position.to_string());
        let mut fields = vec![(b'S', severity), (b'V', severity), (b'C', self.state), (b'M', self.message.as_str())];
        fields.extend(self.hint.as_deref().map(|hint| (b'H', hint)));
        fields.extend(position.as_deref().map(|position| (b'P', position)));
        out.fields(b'E', &fields);
    }
}

/// Tells a client something that is no error.
pub(super) fn notice(out: &mut Output, message: &str) {
    out.fields(b'N', &[(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', message)]);
}

/// The SQLSTATE of one of our codes, and of what DataFusion says most.
fn state(code: &str, detail: &str) -> &'static str {
    match code {
        "sql_invalid" if detail.starts_with("Schema error: No field named") => "42703",
        "sql_invalid" if detail.starts_with("Invalid function") => "42883",
        "sql_failed" if detail.contains("Divide by zero") => "22012",
        "sql_invalid" => "42601",
        "sql_failed" => "22000",
        "table_unknown" | "view_unknown" | "unknown_view" | "unknown_stream" | "view_dropped" => "42P01",
        "not_a_view" => "42809",
        "name_taken" | "stream_exists" => "42P07",
        "view_invalid" | "bad_definition" | "view_broken" => "42P17",
        "statement_not_allowed" | "built_in" => "0A000",
        "setting_unknown" => "42704",
        "parameter_invalid" => "22023",
        "stream_in_use" => "2BP01",
        "query_time_exceeded" | "query_cancelled" => "57014",
        "query_memory_exceeded" => "53200",
        "queries_busy" | "too_fast" | "too_many_requests" => "53300",
        "epoch_not_reached" | "view_backfilling" | "busy" => "55000",
        "history_unavailable" | "log_unavailable" => "58000",
        "stopping" | "starting" => "57P03",
        "internal" => "XX000",
        _ => "54000", // the other codes are those of bounds
    }
}

/// The place that a message speaks of, `Line: 1, Column: 8`, in characters of the statement.
fn place(message: &str, sql: &str) -> Option<usize> {
    let rest = &message[message.find("Line: ")? + "Line: ".len()..];
    let (line, rest) = rest.split_once(", Column: ")?;
    let line: usize = line.parse().ok()?;
    let column: usize = rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()?;
    let before: usize = sql.split_inclusive('\n').take(line.checked_sub(1)?).map(|line| line.chars().count()).sum();
    let position = before + column;
    (position <= sql.chars().count() + 1).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters() {
        let message = "sql parser error: Expected: an expression, found: FROM at Line: 2, Column: 8";
        assert_eq!(place(message, "SELÉCT\nSELECT FROM t"), Some(7 + 8));
        assert_eq!(place(message, "x"), None);
        assert_eq!(place("no place", "x"), None);
    }

    #[test]
    fn the_second_half_of_a_message_is_its_hint() {
        let error = QueryError::UnknownTable { name: "metric".into(), hint: "did you mean metrics?".into() };
        let error = PostgresError::of(error, "SELECT * FROM metric");
        assert_eq!((error.state, error.message.as_str()), ("42P01", "there is no table \"metric\""));
        assert_eq!(error.hint.as_deref(), Some("did you mean metrics?"));
    }
}
