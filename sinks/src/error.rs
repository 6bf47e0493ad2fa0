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
        /// Whether the next start may succeed: it was killed, took too long, or met a full disk.
        passing: bool,
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

/// ClickHouse's codes, with its names, for what passes without anybody's help: overload, limits, merges behind, a disk
/// that is full or fails, a broken connection, a start or an end of the server.
///
/// A full disk is somebody's to empty, but nothing here has to be changed for it, so it is waited for all the same.
pub const PASSING_CODES: &[(u32, &str)] = &[
    (3, "UNEXPECTED_END_OF_FILE"),
    (32, "ATTEMPT_TO_READ_AFTER_EOF"),
    (33, "CANNOT_READ_ALL_DATA"),
    (74, "CANNOT_READ_FROM_FILE_DESCRIPTOR"),
    (75, "CANNOT_WRITE_TO_FILE_DESCRIPTOR"),
    (76, "CANNOT_OPEN_FILE"),
    (77, "CANNOT_CLOSE_FILE"),
    (88, "CANNOT_TRUNCATE_FILE"),
    (95, "CANNOT_READ_FROM_SOCKET"),
    (96, "CANNOT_WRITE_TO_SOCKET"),
    (159, "TIMEOUT_EXCEEDED"),
    (172, "CANNOT_CREATE_DIRECTORY"),
    (173, "CANNOT_ALLOCATE_MEMORY"),
    (198, "DNS_ERROR"),
    (201, "QUOTA_EXCEEDED"),
    (202, "TOO_MANY_SIMULTANEOUS_QUERIES"),
    (203, "NO_FREE_CONNECTION"),
    (204, "CANNOT_FSYNC"),
    (209, "SOCKET_TIMEOUT"),
    (210, "NETWORK_ERROR"),
    (214, "CANNOT_STATVFS"),
    (225, "NO_ZOOKEEPER"),
    (236, "ABORTED"), // also: the server is shutting down
    (241, "MEMORY_LIMIT_EXCEEDED"),
    (242, "TABLE_IS_READ_ONLY"),
    (243, "NOT_ENOUGH_SPACE"),
    (244, "UNEXPECTED_ZOOKEEPER_ERROR"),
    (252, "TOO_MANY_PARTS"),
    (254, "NO_ACTIVE_REPLICAS"),
    (279, "ALL_CONNECTION_TRIES_FAILED"),
    (285, "TOO_FEW_LIVE_REPLICAS"),
    (286, "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE"),
    (319, "UNKNOWN_STATUS_OF_INSERT"),
    (341, "UNFINISHED"),
    (364, "RECEIVED_ERROR_TOO_MANY_REQUESTS"),
    (384, "PART_IS_TEMPORARILY_LOCKED"),
    (394, "QUERY_WAS_CANCELLED"),
    (400, "CANNOT_STAT"),
    (424, "CANNOT_LINK"),
    (425, "SYSTEM_ERROR"),
    (439, "CANNOT_SCHEDULE_TASK"),
    (458, "CANNOT_UNLINK"),
    (473, "DEADLOCK_AVOIDED"),
    (499, "S3_ERROR"),
    (517, "CANNOT_ASSIGN_ALTER"),
    (531, "CANNOT_FSTAT"),
    (692, "TOO_MANY_MUTATIONS"),
    (735, "QUERY_WAS_CANCELLED_BY_CLIENT"),
    (745, "SERVER_OVERLOADED"),
    (999, "KEEPER_EXCEPTION"),
];

/// `POCO_EXCEPTION`, `STD_EXCEPTION`, `UNKNOWN_EXCEPTION`: errors of libraries, told apart by their text alone.
const FOREIGN: std::ops::RangeInclusive<u32> = 1_000..=1_002;
/// What such an error, or a child that ends, says when disk, memory or network fail.
const PASSING_TEXTS: &[&str] = &[
    "No space left on device",
    "Disk quota exceeded",
    "Input/output error",
    "Read-only file system",
    "Too many open files",
    "Cannot allocate memory",
    "bad_alloc",
    "Resource temporarily unavailable",
    "Connection reset",
    "Connection refused",
    "Broken pipe",
    "Timeout",
    "(NOT_ENOUGH_SPACE)",
    "(MEMORY_LIMIT_EXCEEDED)",
    "(CANNOT_ALLOCATE_MEMORY)",
];

/// ClickHouse's code for a table that is not there.
const UNKNOWN_TABLE: u32 = 60;
/// `TIMEOUT_EXCEEDED`.
const TIMEOUT_EXCEEDED: u32 = 159;
/// `MEMORY_LIMIT_EXCEEDED`.
const MEMORY_LIMIT_EXCEEDED: u32 = 241;
/// How it is told that the limit is that of one query, and not that of a user or of the server; the second by older versions.
const OF_QUERY: &[&str] = &["Query memory limit exceeded", "(for query)"];
/// The user lacks a right.
const ACCESS_DENIED: u32 = 497;
/// Refusals that no row is the cause of: an answer without a code (a proxy's), `UNKNOWN_TABLE`, `UNKNOWN_DATABASE`,
/// `UNKNOWN_SETTING`, `TOO_MANY_ROWS`, `READONLY`, `TABLE_IS_DROPPED`, `LIMIT_EXCEEDED`, `TOO_MANY_BYTES`,
/// `SETTING_CONSTRAINT_VIOLATION`, `ACCESS_DENIED`.
const NOT_OF_ROWS: &[u32] = &[0, UNKNOWN_TABLE, 81, 115, 158, 164, 218, 290, 307, 452, ACCESS_DENIED];

fn is_passing(code: u32, message: &str) -> bool {
    PASSING_CODES.iter().any(|(passing, _)| *passing == code)
        || (FOREIGN.contains(&code) && PASSING_TEXTS.iter().any(|text| message.contains(text)))
}

/// Whether an operation on a file or a process may succeed later: a full disk, or a limit of the system.
fn is_passing_io(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, OutOfMemory, QuotaExceeded, StorageFull, TimedOut, WouldBlock};
    matches!(error.kind(), StorageFull | QuotaExceeded | OutOfMemory | Interrupted | WouldBlock | TimedOut)
        || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::EIO))
}

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
            SinkError::Statement { code, message, .. } if is_passing(*code, message) => ErrorKind::Upstream,
            SinkError::Statement { code: ACCESS_DENIED, .. } => ErrorKind::Caller,
            SinkError::Statement { .. } | SinkError::Source { .. } => ErrorKind::Bug,
            SinkError::Data { .. } => ErrorKind::Corrupt,
        }
    }

    /// Whether the same attempt may succeed later without anybody's help; at start: whether to wait and try again.
    ///
    /// | waited for | not waited for |
    /// |---|---|
    /// | a server that is away, overloaded, out of memory or disk, starting or ending | a wrong user or password, a missing right |
    /// | a child that did not answer in time, was killed, or met a full disk or a taken port of its own choice | a missing or broken library, a taken port that was configured |
    /// | a full disk, a limit of the system | a newer schema, a server that is too old, a URL that cannot be used |
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            SinkError::Away { .. } | SinkError::Timeout { .. } => true,
            SinkError::Start { passing, .. } => *passing,
            SinkError::Statement { code, message, .. } => is_passing(*code, message),
            SinkError::Io { source, .. } => is_passing_io(source),
            _ => false,
        }
    }

    /// Whether ClickHouse refused a write for its rows, as far as can be told, so that other rows may be accepted.
    ///
    /// Not so for what heals by itself, for a missing right, table or database, and for what did not come from
    /// ClickHouse.
    #[must_use]
    pub fn refuses_rows(&self) -> bool {
        match self {
            SinkError::Statement { code, .. } => !self.is_retryable() && !NOT_OF_ROWS.contains(code),
            _ => false,
        }
    }

    /// Whether ClickHouse says that a table is not there.
    #[must_use]
    pub fn is_unknown_table(&self) -> bool {
        matches!(self, SinkError::Statement { code: UNKNOWN_TABLE, .. })
    }

    /// Whether ClickHouse took longer than it may, by our clock or by its own.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        matches!(self, SinkError::Timeout { .. } | SinkError::Statement { code: TIMEOUT_EXCEEDED, .. })
    }

    /// Whether a statement would take more memory than it may itself; what others fill, ClickHouse tells in other words.
    #[must_use]
    pub fn exceeds_query_memory(&self) -> bool {
        match self {
            SinkError::Statement { code: MEMORY_LIMIT_EXCEEDED, message, .. } => {
                OF_QUERY.iter().any(|of_query| message.contains(of_query))
            }
            _ => false,
        }
    }

    /// Whether what a child said last is of a passing kind.
    pub(crate) fn is_passing_text(text: &str) -> bool {
        PASSING_TEXTS.iter().any(|passing| text.contains(passing))
    }

    /// Passes a fault point; an error injected there heals by itself, like that of a server that is away.
    pub(crate) fn fault(point: &'static str) -> Result<(), SinkError> {
        let away = |error: std::io::Error| SinkError::Away { url: "a fault point".into(), reason: error.to_string() };
        streamgauge_schemas::fault::point(point).map_err(away)
    }

    pub(crate) fn io(operation: impl Into<String>) -> impl FnOnce(std::io::Error) -> SinkError {
        let operation = operation.into();
        move |source| SinkError::Io { operation, source }
    }

    pub(crate) fn data(operation: &str, reason: impl ToString) -> SinkError {
        SinkError::Data { operation: operation.to_owned(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(code: u32, message: &str) -> SinkError {
        SinkError::Statement { operation: "INSERT".into(), code, message: message.into() }
    }

    #[test]
    fn what_passes_is_told_from_what_rows_cause_and_from_the_rest() {
        for (code, message, retryable, of_rows) in [
            (252, "Too many parts (300)", true, false),
            (241, "(total) memory limit exceeded", true, false),
            (159, "Timeout exceeded", true, false),
            (243, "Cannot reserve 1.00 MiB, not enough space", true, false),
            (75, "Cannot write to file, errno: 28, strerror: No space left on device", true, false),
            (204, "Cannot fsync", true, false),
            (202, "Too many simultaneous queries", true, false),
            (236, "Server is shutting down", true, false),
            (242, "Table is in readonly mode", true, false),
            (32, "Attempt to read after eof", true, false),
            (439, "Cannot schedule a task: no free thread", true, false),
            (1_001, "filesystem error: in create_directories: No space left on device", true, false),
            (1_001, "std::length_error", false, true),
            (469, "Constraint `c` is violated: text = 'No space left on device'", false, true),
            (321, "Value is out of range of the data type", false, true),
            (349, "Cannot convert NULL value to non-Nullable type", false, true),
            (60, "Table d.t does not exist", false, false),
            (81, "Database d does not exist", false, false),
            (497, "Not enough privileges", false, false),
            (0, "404 Not Found", false, false),
        ] {
            let error = statement(code, message);
            assert_eq!((error.is_retryable(), error.refuses_rows()), (retryable, of_rows), "{error}");
            assert!(!(retryable && error.kind() != ErrorKind::Upstream), "{error}");
        }
    }

    #[test]
    fn the_memory_of_a_query_is_told_from_that_of_others() {
        for (code, message, of_query) in [
            (241, "Query memory limit exceeded: would use 67.23 MiB (attempt to allocate chunk of 4.13 MiB)", true),
            (241, "Memory limit (for query) exceeded: would use 67.23 MiB", true),
            (
                241,
                "User memory limit exceeded: would use 67.22 MiB. OvercommitTracker decision: Query was selected",
                false,
            ),
            (241, "Memory limit (for user) exceeded: would use 67.22 MiB", false),
            (241, "(total) memory limit exceeded: would use 4.01 GiB", false),
            (241, "Memory limit (total) exceeded: would use 4.01 GiB", false),
            (159, "Query memory limit exceeded", false),
        ] {
            assert_eq!(statement(code, message).exceeds_query_memory(), of_query, "{message}");
        }
    }

    #[test]
    fn what_only_somebody_can_repair_is_not_waited_for() {
        let path = || PathBuf::from("/p");
        let start = |passing| SinkError::Start { reason: "it ended".into(), log: path(), passing };
        let io = |code| SinkError::io("write")(std::io::Error::from_raw_os_error(code));
        for (error, retryable) in [
            (SinkError::Away { url: "u".into(), reason: "refused".into() }, true),
            (SinkError::Timeout { operation: "SELECT".into(), seconds: 1 }, true),
            (start(true), true),
            (start(false), false),
            (io(libc::ENOSPC), true),
            (io(libc::EDQUOT), true),
            (io(libc::EMFILE), true),
            (io(libc::EACCES), false),
            (SinkError::LibraryMissing { path: path() }, false),
            (SinkError::BinaryMissing { path: path() }, false),
            (SinkError::Library { path: path(), reason: "no".into() }, false),
            (SinkError::PortTaken { port: 1 }, false),
            (SinkError::DataInUse { path: path(), holder: "process 1".into() }, false),
            (SinkError::Url { url: "u".into(), reason: "no".into() }, false),
            (SinkError::Access { url: "u".into(), user: "me".into() }, false),
            (SinkError::TooOld { url: "u".into(), found: "1".into(), needed: "2".into() }, false),
            (SinkError::NewerSchema { database: "d".into(), found: 9, known: 2 }, false),
            (SinkError::data("SELECT", "no"), false),
        ] {
            assert_eq!(error.is_retryable(), retryable, "{error}");
            assert!(!error.refuses_rows(), "{error}");
        }
    }
}
