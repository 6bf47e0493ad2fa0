//! What can go wrong between Streamgauge and ClickHouse.
//!
//! Each variant is one thing that an operator can understand and act on. [`SinkError::kind`] says whose fault it
//! is, [`SinkError::is_retryable`] whether the same attempt may succeed later. No message holds a password.

use std::path::PathBuf;

use thiserror::Error;

use crate::flusher::BoxError;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was asked for or configured cannot work.
    Caller,
    /// ClickHouse, the network or the disk did not do its part.
    Upstream,
    /// What was stored or received does not make sense.
    Corrupt,
    /// Streamgauge made a statement that cannot work.
    Bug,
}

/// An operation on ClickHouse that failed.
#[derive(Debug, Error)]
pub enum SinkError {
    /// There is no ClickHouse library to run, nor a binary.
    #[error(
        "no ClickHouse to run: the library is not at {path}; run scripts/fetch-clickhouse, name it with \
         --clickhouse-library, put the official clickhouse binary on the PATH, or use a server with --clickhouse-url"
    )]
    LibraryMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The named ClickHouse binary does not exist.
    #[error("the ClickHouse binary {path} does not exist or cannot be run")]
    BinaryMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The library is there but is not a ClickHouse that can be run.
    #[error("the ClickHouse library {path} cannot be used: {reason}")]
    Library {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The configured port of the child is in use.
    #[error(
        "port {port} on 127.0.0.1, configured for ClickHouse, is taken by another program; choose another port or none"
    )]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// Another process holds the data folder.
    #[error("the ClickHouse data folder {path} is in use by {holder}; end it first")]
    DataInUse {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, as far as is known.
        holder: String,
    },
    /// The child ended, or did not answer in time.
    #[error("ClickHouse did not start: {reason}; its log is {log}")]
    Start {
        /// The last it said.
        reason: String,
        /// Where to read more.
        log: PathBuf,
    },
    /// A file or process operation failed.
    #[error("cannot {operation}")]
    Io {
        /// What was tried, with its object.
        operation: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The URL is not one that can be used.
    #[error("the ClickHouse URL {url:?} cannot be used: {reason}")]
    Url {
        /// The URL, without a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing answers, or the connection broke.
    #[error("ClickHouse at {url} is away: {reason}")]
    Away {
        /// Where it was expected.
        url: String,
        /// What the connection said.
        reason: String,
    },
    /// The server refused the user or the password.
    #[error("ClickHouse at {url} refuses user {user:?}: wrong user or password")]
    Access {
        /// The server.
        url: String,
        /// The user.
        user: String,
    },
    /// The server is older than what the statements need.
    #[error("ClickHouse at {url} is too old: it is {found}, and {needed} or newer is needed")]
    TooOld {
        /// The server.
        url: String,
        /// Its version.
        found: String,
        /// The oldest version that works.
        needed: String,
    },
    /// The database was made by a newer Streamgauge.
    #[error(
        "database {database} has schema {found}, and this version of Streamgauge knows up to {known}; use a newer Streamgauge"
    )]
    NewerSchema {
        /// The database.
        database: String,
        /// The version found.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// An operation took longer than it may.
    #[error("ClickHouse did not finish in {seconds} s: {operation}")]
    Timeout {
        /// What was tried.
        operation: String,
        /// The bound.
        seconds: u64,
    },
    /// The server refused or failed a statement.
    #[error("ClickHouse refused {operation} with code {code}: {message}")]
    Statement {
        /// The beginning of the statement.
        operation: String,
        /// ClickHouse's error code; 0 when it gave none.
        code: u32,
        /// What it said.
        message: String,
    },
    /// An answer or a stored value is not what it must be.
    #[error("unexpected data from ClickHouse in {operation}: {reason}")]
    Data {
        /// What was read.
        operation: String,
        /// What was found.
        reason: String,
    },
    /// The source of a flush could not say what to write.
    #[error("the engine cannot begin a flush of {item}")]
    Source {
        /// The item.
        item: String,
        /// The cause.
        source: BoxError,
    },
}

/// Codes that tell of a passing state of the server: overload, limits, merges behind, shutdown, a broken connection.
const PASSING: &[u32] = &[
    3, 32, 33, 159, 173, 202, 203, 209, 210, 236, 241, 242, 243, 252, 285, 319, 341, 394, 425, 439, 473, 735, 745, 999,
];

/// ClickHouse's code for a table that is not there.
const UNKNOWN_TABLE: u32 = 60;
/// The user lacks a right.
const ACCESS_DENIED: u32 = 497;

impl SinkError {
    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            SinkError::LibraryMissing { .. }
            | SinkError::BinaryMissing { .. }
            | SinkError::Library { .. }
            | SinkError::PortTaken { .. }
            | SinkError::DataInUse { .. }
            | SinkError::Url { .. }
            | SinkError::Access { .. }
            | SinkError::TooOld { .. }
            | SinkError::NewerSchema { .. } => ErrorKind::Caller,
            SinkError::Start { .. } | SinkError::Io { .. } | SinkError::Away { .. } | SinkError::Timeout { .. } => {
                ErrorKind::Upstream
            }
            SinkError::Statement { code, .. } if PASSING.contains(code) => ErrorKind::Upstream,
            SinkError::Statement { code: ACCESS_DENIED, .. } => ErrorKind::Caller,
            SinkError::Statement { .. } | SinkError::Source { .. } => ErrorKind::Bug,
            SinkError::Data { .. } => ErrorKind::Corrupt,
        }
    }

    /// Whether the same attempt may succeed later without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            SinkError::Away { .. } | SinkError::Timeout { .. } => true,
            SinkError::Statement { code, .. } => PASSING.contains(code),
            _ => false,
        }
    }

    /// Whether ClickHouse says that a table is not there.
    #[must_use]
    pub fn is_unknown_table(&self) -> bool {
        matches!(self, SinkError::Statement { code: UNKNOWN_TABLE, .. })
    }

    pub(crate) fn io(operation: impl Into<String>) -> impl FnOnce(std::io::Error) -> SinkError {
        let operation = operation.into();
        move |source| SinkError::Io { operation, source }
    }

    pub(crate) fn data(operation: &str, reason: impl ToString) -> SinkError {
        SinkError::Data { operation: operation.to_owned(), reason: reason.to_string() }
    }
}
