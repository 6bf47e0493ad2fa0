//! The log: the durable, ordered record of epochs, and the truth until ClickHouse has confirmed.
//!
//! It stands between the decoder and the dataflow. Submissions of many requests become one **group** with one
//! epoch, one write and one `fdatasync`; only then are they acknowledged and handed to the dataflow. At start
//! the groups after the flushed epoch are read back. The log does not look into events, and knows no ClickHouse.
//!
//! ```text
//!  submit ──encode──▶ queue ──▶ thread "log": group ─▶ append ─▶ fdatasync ─▶ Sequence::committed ─▶ answers
//!                                               │
//!                     segment files  00000000001700000000000000.log …  ◀── read_after (start, replay)
//! ```
//!
//! # Layout
//!
//! - [`error`]: what can go wrong with the log, and with a submission.
//! - `frame`: the bytes of segment headers, groups and records; pure functions.
//! - `segment`: segment files: names, creation, the directory.
//! - `recovery`: the end of the newest segment after a crash: torn or corrupt.
//! - [`writer`]: [`Log`], the single writer.
//! - [`reader`]: [`LogReader`], records after an epoch.
//! - [`submission`]: what is submitted, and its form in the log.
//! - `queue`: submissions that wait, bounded in bytes.
//! - [`committer`]: [`Committer`], group commit on a thread of its own.
//!
//! The format is written down bit by bit in `docs/log-format.md`.
//!
//! # Invariants
//!
//! 1. Epochs rise strictly from group to group, across segments too.
//! 2. A group is there whole or not at all.
//! 3. Every epoch in a segment is at or above the one that names it, and above all those of earlier segments.
//! 4. A group is handed on and acknowledged only after `fdatasync` has succeeded for it.
//! 5. At most one group is written and not yet synced (the committer syncs each), so only the last can be torn.
//! 6. A segment ends with the group that the next one names as `previous`; what follows was never acknowledged.
//!
//! # Failure
//!
//! A failed write is undone by cutting the file back, and the log goes on. A failed sync, or a cut that fails,
//! poisons the log: what is on disk is no longer known, so every later append or sync is an error, until
//! [`Log::heal`] has begun a new segment.

pub mod committer;
pub mod error;
mod frame;
mod queue;
pub mod reader;
mod recovery;
mod segment;
pub mod submission;
pub mod writer;

#[cfg(test)]
mod tests;

use streamgauge_schemas::{Epoch, StreamId};

pub use committer::{Committer, CommitterOptions, Sequence};
pub use error::{LogError, SubmitError};
pub use reader::LogReader;
pub use recovery::Recovery;
pub use submission::{Request, Submission};
pub use writer::{Log, LogOptions};

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// Events of one stream: an encoded [`EventBatch`](streamgauge_schemas::EventBatch).
    Events = 1,
    /// A change to the set of streams: a [`CatalogChange`](streamgauge_schemas::stream::CatalogChange) as JSON.
    Catalog = 2,
}

/// A record as read from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The epoch of the record's group.
    pub epoch: Epoch,
    /// What the payload is.
    pub kind: RecordKind,
    /// The stream that it belongs to; 0 for a catalog change.
    pub stream: StreamId,
    /// The bytes, whose CRC has been checked.
    pub payload: Vec<u8>,
}

/// A record to append.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// What the payload is.
    pub kind: RecordKind,
    /// The stream that it belongs to; 0 for a catalog change.
    pub stream: StreamId,
    /// The bytes.
    pub payload: &'a [u8],
}
