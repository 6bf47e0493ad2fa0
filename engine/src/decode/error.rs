//! What makes a whole body unusable. Every variant is the caller's fault; sending the same body again fails again.

use thiserror::Error;

/// A body from which no event could be told apart.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Some byte does not belong to UTF-8.
    #[error("the body is not UTF-8 at byte {offset}")]
    NotUtf8 {
        /// The first wrong byte, from 0.
        offset: usize,
    },
    /// The body as a whole is not JSON.
    #[error("the body is not JSON at byte {offset} (line {line}, column {column}): {reason}")]
    NotJson {
        /// The first wrong byte, from 0.
        offset: usize,
        /// Its line, from 1.
        line: usize,
        /// Its column in characters, from 1.
        column: usize,
        /// What was expected there, and what was found.
        reason: String,
    },
    /// There is nothing in the body.
    #[error("the body is empty")]
    Empty,
    /// The body is JSON of another shape.
    #[error("{place}: expected {wanted}, found {found}")]
    WrongShape {
        /// Where: `the body`, or a key in it.
        place: String,
        /// What would be accepted there.
        wanted: &'static str,
        /// What stands there.
        found: String,
    },
    /// The body holds more events than one request may.
    #[error("the body holds more than {max} events; send fewer in one request")]
    TooManyEvents {
        /// The most that is accepted.
        max: usize,
    },
    /// So many events of the body are not accepted that it is another kind of data; each would be kept with its reason.
    #[error(
        "more than {max} events of the body are not accepted, so none was taken; the first of them, at index {index}: {reason}"
    )]
    TooManyRejects {
        /// The most that are kept of one body.
        max: usize,
        /// The position of the first.
        index: u64,
        /// What was wrong with it.
        reason: String,
    },
    /// The body names one long source for many events, each of which is kept with it.
    #[error(
        "source_id has {bytes} bytes, which for {events} events is more than {max} bytes in all; shorten it, or send fewer \
         events in one request"
    )]
    SourceTooLong {
        /// Its length.
        bytes: usize,
        /// How many events there are.
        events: u64,
        /// The most that all copies of it may take.
        max: usize,
    },
    /// The body is larger than a batch can be.
    #[error("the body is larger than {max} bytes; send less in one request")]
    TooLarge {
        /// The most that is accepted.
        max: usize,
    },
}
