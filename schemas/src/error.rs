//! What can be wrong with a definition, a duration or stored bytes.

use thiserror::Error;

use crate::ValueType;
use crate::state::Function;

/// A definition, a duration, a moment or stored bytes that do not make sense.
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
    /// Bytes that are not an encoded batch or sketch.
    #[error("stored bytes are not readable at byte {offset}: {reason}")]
    Encoding {
        /// Where in the payload.
        offset: usize,
        /// What was expected.
        reason: String,
    },
    /// A view definition whose parts do not fit together.
    #[error("view {view:?} cannot be defined: {reason}")]
    View {
        /// The view's name.
        view: String,
        /// What does not fit.
        reason: String,
    },
    /// A function that is not kept of a type.
    #[error("{function:?} of {kind:?} cannot be maintained")]
    Fold {
        /// The function.
        function: Function,
        /// The type of its argument.
        kind: ValueType,
    },
}
