//! What can go wrong with the log, and with a submission to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use streamgauge_schemas::{Epoch, SchemaError};
use thiserror::Error;

/// The log could not do what was asked. Cheap to clone, since one failed group answers many submitters.
#[derive(Clone, Debug, Error)]
pub enum LogError {
    /// The file system refused.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried: a verb with its object.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// Another process, or another [`Log`](super::Log) of this one, has the directory.
    #[error("the log in {dir} is in use by {holder}; stop that first, or choose another data directory")]
    Locked {
        /// The log's directory.
        dir: PathBuf,
        /// Who holds it, as far as known.
        holder: String,
    },
    /// Bytes that were durable once no longer make sense.
    #[error("log segment {segment} is corrupt at byte {offset}: {reason}")]
    Corrupt {
        /// The segment's file.
        segment: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A segment that a newer program wrote.
    #[error("log segment {segment} has format version {found}, and this program reads up to {known}; use a newer one")]
    Version {
        /// The segment's file.
        segment: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// A record that is whole, but whose payload cannot be read.
    #[error("the log's record of epoch {epoch} is not readable")]
    Payload {
        /// The record's epoch.
        epoch: Epoch,
        /// What is wrong with it.
        source: SchemaError,
    },
    /// An epoch that does not follow the last one; a bug of the caller.
    #[error("epoch {epoch} is not after the log's last epoch {last}")]
    EpochOrder {
        /// The epoch as given.
        epoch: Epoch,
        /// The last one in the log.
        last: Epoch,
    },
    /// A group that would not fit a frame.
    #[error("a group of {bytes} bytes is larger than the largest, {bytes_max}")]
    GroupTooLarge {
        /// The size of the group.
        bytes: u64,
        /// The size of the largest group.
        bytes_max: u64,
    },
    /// An earlier failure left the log in doubt; only opening it again helps.
    #[error("the log takes no more since an earlier failure: {reason}")]
    Poisoned {
        /// The earlier failure with its cause.
        reason: String,
    },
}

impl LogError {
    /// An error of the file system.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError + use<> {
        let path = path.to_owned();
        move |source| LogError::Io { operation, path, source: Arc::new(source) }
    }

    /// Whether the same request may succeed later without a restart: the disk was full, for example.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, LogError::Io { .. })
    }
}

/// A submission was not taken; nothing of it is in the log.
#[derive(Clone, Debug, Error)]
pub enum SubmitError {
    /// As many bytes wait as may wait; try again a moment later.
    #[error("the log's queue is full: {bytes_pending} of {bytes_pending_max} bytes wait")]
    Full {
        /// Bytes that wait now.
        bytes_pending: u64,
        /// Bytes that may wait.
        bytes_pending_max: u64,
    },
    /// The log on disk is as long as it may be, since ClickHouse has not confirmed what is in it.
    #[error(
        "the log has {log_bytes} bytes on disk, and {log_bytes_max} are allowed; it is shortened once ClickHouse has taken its events"
    )]
    LogFull {
        /// The size of the log now.
        log_bytes: u64,
        /// The size at which no more is taken.
        log_bytes_max: u64,
    },
    /// A submission that would never fit; send it in parts.
    #[error("a submission of {bytes} bytes is larger than the largest, {bytes_max}")]
    TooLarge {
        /// The size of the submission.
        bytes: u64,
        /// The size of the largest.
        bytes_max: u64,
    },
    /// The log is being closed.
    #[error("the log is stopped")]
    Stopped,
    /// The log is poisoned.
    #[error("the log has failed")]
    Failed(#[source] LogError),
    /// The submission could not be encoded; a bug.
    #[error("a submission cannot be encoded")]
    Encode(#[source] SchemaError),
}
