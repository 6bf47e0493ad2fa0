//! Why a statement about a view is refused.

use datafusion::error::DataFusionError;
use streamgauge_schemas::SchemaError;

/// A statement about a view that is not carried out. All of these are the caller's to mend, but [`ViewError::Changed`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// SQL that cannot be read or planned.
    #[error("{message}")]
    Sql {
        /// What is wrong, and where.
        message: String,
    },
    /// A name that a view or its columns cannot have.
    #[error("{what} name {name:?} is not usable: {reason}")]
    Name {
        /// `view` or `column`.
        what: &'static str,
        /// The name as given.
        name: String,
        /// What a usable name looks like.
        reason: String,
    },
    /// A value in `WITH (…)` that is not accepted, or an option that is not known.
    #[error("option {name} = {value} is not accepted: {reason}")]
    Option {
        /// The option.
        name: String,
        /// The value as given.
        value: String,
        /// What is accepted.
        reason: String,
    },
    /// A view over what is not a stream.
    #[error("a view is over one stream, and {name:?} is none; {hint}")]
    NotAStream {
        /// The name as given.
        name: String,
        /// What it is, or which streams there are.
        hint: String,
    },
    /// What cannot be maintained.
    #[error("{part} cannot be maintained: {reason}")]
    NotMaintained {
        /// The part of the text.
        part: String,
        /// Why, and what can.
        reason: String,
    },
    /// A stored view that this version understands in another way.
    #[error(
        "view {view:?} cannot be maintained any longer: its {what} was stored as {stored} and is now {now}; make it again with CREATE OR REPLACE MATERIALIZED VIEW"
    )]
    Changed {
        /// The view's name.
        view: String,
        /// Which part of the definition.
        what: &'static str,
        /// As it was.
        stored: String,
        /// As it is.
        now: String,
    },
}

impl ViewError {
    /// What cannot be maintained, and why.
    pub(super) fn not_maintained(part: impl ToString, reason: impl Into<String>) -> Self {
        ViewError::NotMaintained { part: part.to_string(), reason: reason.into() }
    }
}

impl From<DataFusionError> for ViewError {
    fn from(error: DataFusionError) -> Self {
        let text = match error.find_root() {
            DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) => text.clone(),
            root => root.strip_backtrace(),
        };
        let message = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().to_owned();
        ViewError::Sql { message }
    }
}

impl From<SchemaError> for ViewError {
    fn from(error: SchemaError) -> Self {
        ViewError::Sql { message: error.to_string() }
    }
}
