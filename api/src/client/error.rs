//! What can go wrong between a command and its server, or with a file that it reads.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use streamgauge_schemas::SchemaError;
use thiserror::Error;

/// An error of a client command.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// The address cannot be that of a server.
    #[error("{url:?} is not the address of a server: {reason}")]
    Address {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection came about, so nothing was sent.
    #[error("no connection to {url} ({reason}); is `streamgauge serve` running there?")]
    Unreachable {
        /// The server's address.
        url: String,
        /// Why.
        reason: String,
    },
    /// The connection ended after the request was sent and before its answer, also when it was sent again if that did no
    /// harm, so what became of it is unknown.
    #[error("the connection to {url} ended before the answer: {reason}")]
    Broken {
        /// The server's address.
        url: String,
        /// Why.
        reason: String,
    },
    /// The server refused the request and said why.
    #[error("{0}")]
    Refused(Problem),
    /// The server answered something that is not its protocol.
    #[error("{url} answered what a Streamgauge server would not: {reason}")]
    Answer {
        /// What was asked.
        url: String,
        /// What was expected, and what came.
        reason: String,
    },
    /// The command was asked to stop while it waited.
    #[error("stopped")]
    Stopped,
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content is not what its name says.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What was expected, and what was found.
        reason: String,
    },
    /// A file as a whole cannot be replayed.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why, and what would help.
        reason: String,
    },
    /// A definition that does not make sense.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

/// What is at the bottom of an error; the layers above it only repeat the address.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

/// The body of an error answer (RFC 9457).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    /// The HTTP status.
    pub(crate) status: u16,
    /// What went wrong, in a few words.
    pub(crate) title: String,
    /// What went wrong with this request.
    pub(crate) detail: String,
    /// A stable name of the kind of error.
    pub(crate) code: String,
}

impl Problem {
    /// The problem of an answer with that status and body; a body of another form is quoted.
    pub(crate) fn read(status: reqwest::StatusCode, body: &[u8]) -> Problem {
        let read: Option<Problem> = serde_json::from_slice(body).ok();
        let text = || String::from_utf8_lossy(&body[..body.len().min(500)]).trim().to_owned();
        let mut problem = read.unwrap_or_else(|| Problem { detail: text(), ..Problem::default() });
        problem.status = status.as_u16();
        if problem.title.is_empty() {
            problem.title = status.canonical_reason().unwrap_or("refused").to_owned();
        }
        problem
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.detail.as_str(), self.title.as_str()) {
            ("", title) => f.write_str(title)?,
            (detail, title) if detail.starts_with(title) => f.write_str(detail)?,
            (detail, title) => write!(f, "{title}: {detail}")?,
        }
        match self.code.as_str() {
            "" => write!(f, " (status {})", self.status),
            code => write!(f, " ({code})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::StatusCode;

    #[test]
    fn a_problem_reads_as_one_line() {
        let check = |status: u16, body: &str, expected: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Problem::read(status, body.as_bytes()).to_string(), expected, "{body}");
        };
        let body = r#"{"type":"about:blank","title":"Unknown table","status":400,"detail":"no table \"x\"","code":"unknown_table"}"#;
        check(400, body, "Unknown table: no table \"x\" (unknown_table)");
        check(400, r#"{"title":"Bad","code":"bad"}"#, "Bad (bad)");
        check(400, r#"{"title":"Bad","detail":"Bad luck","code":"bad"}"#, "Bad luck (bad)");
        check(502, "<html>oops</html>\n", "Bad Gateway: <html>oops</html> (status 502)");
        check(503, "", "Service Unavailable (status 503)");
    }
}
