//! What can be wrong with a definition, a duration or a stored batch.

use thiserror::Error;

/// A definition, a duration, a moment or a stored batch that does not make sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// A name that cannot be a stream or a column.
    #[error("{what} name {name:?} is not usable: {reason}")]
    Name {
        /// `stream` or `column`.
        what: &'static str,
        /// The name as given.
        name: String,
        /// What a usable name looks like.
        reason: &'static str,
    },
    /// A stream definition whose parts do not fit together.
    #[error("stream {stream:?} cannot be defined: {reason}")]
    Definition {
        /// The stream's name.
        stream: String,
        /// What does not fit, and what would.
        reason: String,
    },
    /// Text that is not a duration.
    #[error("{text:?} is not a duration; write a number and a unit, such as 30s, 5m, 1h, 7d or 2w")]
    Duration {
        /// The text as given.
        text: String,
    },
    /// Text that is not a moment.
    #[error("{text:?} is not a time; write RFC 3339 (2024-05-01T00:00:00Z), an epoch number, or now-1h")]
    Moment {
        /// The text as given.
        text: String,
    },
    /// Bytes that are not an encoded batch.
    #[error("a stored batch is not readable at byte {offset}: {reason}")]
    Encoding {
        /// Where in the payload.
        offset: usize,
        /// What was expected.
        reason: String,
    },
}
