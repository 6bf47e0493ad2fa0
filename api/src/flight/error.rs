//! Errors as clients of gRPC know them: a code beside our own words, and the stable name of the kind as metadata.

use arrow::error::ArrowError;
use arrow_flight::error::FlightError;
use streamgauge_queries::QueryError;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::http::problem::Problem;

/// The metadata that has the name of the kind of an error, as `code` has it over HTTP.
const CODE_HEADER: &str = "x-streamgauge-code";
/// Clients bound what comes before and after a body, some of them at 8 KiB.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// The error of a question.
pub(super) fn of(error: QueryError) -> Status {
    let mut problem = Problem::from(error);
    if problem.code.starts_with("history_") {
        let reason = problem.detail.split("; ").next().unwrap_or_default();
        problem.detail =
            format!("{reason}; ask again later, or with the header x-streamgauge-partial: true for what memory has");
    }
    of_problem(problem)
}

/// An error of ours as gRPC has it.
pub(super) fn of_problem(problem: Problem) -> Status {
    let mut metadata = MetadataMap::new();
    if let Ok(code) = MetadataValue::try_from(&problem.code) {
        metadata.insert(CODE_HEADER, code);
    }
    Status::with_metadata(code(&problem), shortened(problem.detail), metadata)
}

/// What a client sent and cannot be read.
pub(super) fn unreadable(what: &str, error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{what} cannot be read: {error}"))
}

/// What should not happen.
pub(super) fn bug(error: ArrowError) -> Status {
    of_problem(Problem::internal(&error))
}

/// An error on the way of batches.
pub(super) fn of_flight(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => of_problem(Problem::internal(&other)),
    }
}

fn code(problem: &Problem) -> Code {
    match (problem.code.as_str(), problem.status) {
        ("statement_not_allowed" | "setting_unknown", _) => Code::Unimplemented,
        ("table_unknown" | "view_unknown" | "view_dropped", _) | (_, 404) => Code::NotFound,
        ("name_taken" | "stream_exists", _) => Code::AlreadyExists,
        ("query_cancelled", _) => Code::Cancelled,
        ("query_time_exceeded", _) => Code::DeadlineExceeded,
        (_, 409) => Code::FailedPrecondition,
        (_, 413 | 422 | 429) => Code::ResourceExhausted,
        (_, 503) => Code::Unavailable,
        (_, 500) => Code::Internal,
        _ => Code::InvalidArgument,
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push_str(" …");
    }
    message
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn codes_tell_whose_fault_it_is() {
        let unknown = QueryError::UnknownTable { name: "metric".into(), hint: "did you mean metrics?".into() };
        let not_allowed = QueryError::NotAQuestion { statement: "INSERT".into() };
        for (error, code, name) in [
            (unknown, Code::NotFound, "table_unknown"),
            (not_allowed, Code::Unimplemented, "statement_not_allowed"),
            (QueryError::Sql { message: "x".into() }, Code::InvalidArgument, "sql_invalid"),
            (
                QueryError::Time { max: Duration::from_secs(1), own: true, waits_for: None },
                Code::DeadlineExceeded,
                "query_time_exceeded",
            ),
            (QueryError::Rows { max: 1, own: false }, Code::ResourceExhausted, "query_rows_exceeded"),
            (QueryError::Cancelled { id: 1 }, Code::Cancelled, "query_cancelled"),
            (QueryError::Busy { running: 1 }, Code::ResourceExhausted, "queries_busy"),
        ] {
            let (message, status) = (error.to_string(), of(error));
            assert_eq!((status.code(), status.message()), (code, message.as_str()));
            assert_eq!(status.metadata().get(CODE_HEADER).unwrap(), name);
        }
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let status = of(QueryError::Sql { message: "é".repeat(MESSAGE_BYTES_MAX) });
        assert_eq!(status.message().len(), MESSAGE_BYTES_MAX + " …".len());
    }
}
