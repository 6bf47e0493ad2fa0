//! What can go wrong in the engine.

use streamgauge_schemas::SchemaError;
use thiserror::Error;

use crate::log::{LogError, SubmitError};

/// An append, a read or a change of the catalogue that failed.
#[derive(Clone, Debug, Error)]
pub enum EngineError {
    /// More unflushed events in memory than the bound; the producer should wait and retry.
    #[error("{pending_bytes} bytes of events wait for ClickHouse, more than the bound of {bound_bytes}; retry later")]
    Busy {
        /// What waits.
        pending_bytes: usize,
        /// The configured bound.
        bound_bytes: usize,
    },
    /// The rows of the views take more memory than the bound; the producer should wait and retry.
    #[error("the rows of the views take about {state_bytes} bytes, more than the bound of {bound_bytes}; retry later")]
    StateFull {
        /// What they take.
        state_bytes: usize,
        /// The configured bound.
        bound_bytes: usize,
    },
    /// A view is at its own bound; the producer should wait and retry.
    #[error(
        "the view {view:?} takes about {bytes} bytes of memory, more than its bound of {bound_bytes}; retry later, or make \
         it again with a larger memory or fewer groups"
    )]
    ViewFull {
        /// The view's name.
        view: String,
        /// What it takes.
        bytes: usize,
        /// The bound in its definition.
        bound_bytes: u64,
    },
    /// The name of a request was used for another one.
    #[error("the name of the request was used before, with another stream or body; a new request needs a new name")]
    NameReused,
    /// A sequence number so old that it is not known what became of its request.
    #[error(
        "the sequence number is too old: it lies at or below {forgotten}, the newest of this producer that is no longer known; \
         whether its request was taken before is not known any more, unless the table requests still tells"
    )]
    SequenceTooOld {
        /// The largest sequence number of the producer that was forgotten.
        forgotten: u64,
    },
    /// The events would bring more series than the bound.
    #[error(
        "the events bring more than {max} series in all, and none was taken; events of known series are. Waiting does not help \
         before somebody raises series_max; or send fewer distinct dimensions"
    )]
    TooManySeries {
        /// The configured bound.
        max: usize,
    },
    /// The log did not take the events.
    #[error("the log did not take the events")]
    Submit(#[from] SubmitError),
    /// The log could not make the events durable.
    #[error("the log could not make the events durable")]
    Log(#[from] LogError),
    /// The stream is not there.
    #[error("there is no stream {0:?}")]
    UnknownStream(String),
    /// The stream is there with another definition.
    #[error("stream {0:?} exists with another definition; delete it first or choose another name")]
    StreamExists(String),
    /// The name is taken by another stream or view.
    #[error("the name {0:?} is taken by another stream or view; delete that first or choose another name")]
    NameTaken(String),
    /// The stream cannot be deleted while views are over it.
    #[error("stream {stream:?} cannot be deleted: {} over it; drop {} first", views.join(", "), if views.len() == 1 { "it" } else { "them" })]
    StreamInUse {
        /// The stream's name.
        stream: String,
        /// The names of the views.
        views: Vec<String>,
    },
    /// The view is not there.
    #[error("there is no materialized view {0:?}")]
    UnknownView(String),
    /// The view is built in, and stays.
    #[error("the view {0:?} is built in and cannot be changed")]
    BuiltInView(String),
    /// The view cannot be maintained by this version.
    #[error("the view {view:?} is not maintained: {reason}")]
    BrokenView {
        /// The view's name.
        view: String,
        /// Why.
        reason: String,
    },
    /// The definition does not make sense.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The log was truncated because ClickHouse had confirmed, and now ClickHouse does not have it.
    #[error(
        "the log begins after epoch {truncated}, but ClickHouse has events up to {flushed} only: it was emptied, replaced \
         by an older copy, or another one is used; give back the ClickHouse that had them, or start with a new data folder"
    )]
    HistoryLost {
        /// The last epoch that the log has given away.
        truncated: streamgauge_schemas::Epoch,
        /// The newest epoch that ClickHouse knows of.
        flushed: streamgauge_schemas::Epoch,
    },
    /// The threads of the workers could not be started.
    #[error("the workers could not be started")]
    Workers(#[source] std::sync::Arc<std::io::Error>),
    /// The engine is stopping, or a worker has died.
    #[error("the engine has stopped")]
    Stopped,
}
