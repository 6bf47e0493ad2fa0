//! The shared words of Streamgauge, in the order of the path of an event.
//!
//! Every other crate speaks in these types; this one does no I/O and nothing asynchronous.
//!
//! # Layout
//!
//! - [`epoch`]: the version number of the whole system.
//! - [`time`]: event time, durations such as `5m`, and moments such as `now-1h`.
//! - [`series`]: a metric's name with its dimensions, and its stable identity.
//! - [`stream`]: the definition of a stream and its columns.
//! - [`event`]: batches of events, columnar, as they travel from the decoder to ClickHouse.
//! - [`reject`]: an event that was not accepted, with its position and reason.
//! - [`value`]: types of dimensions and arguments, and the bytes that name a group's dimensions.
//! - [`state`]: mergeable partial aggregates; [`summary`]: count, sum, minimum and maximum alone.
//! - [`sketch`]: mergeable sketches: quantiles, distinct values, the most frequent texts.
//! - [`view`]: maintained queries and their pace.
//! - [`row`]: the rows of a view: group, generation, version and state.
//! - [`ddl`]: the ClickHouse schema as numbered migrations.
//! - [`fault`]: places where a test makes a durable step fail.
//! - [`error`]: what can be wrong with the words themselves.

pub mod ddl;
pub mod epoch;
pub mod error;
pub mod event;
pub mod fault;
pub mod reject;
pub mod row;
pub mod series;
pub mod sketch;
pub mod state;
pub mod stream;
pub mod summary;
pub mod time;
pub mod value;
pub mod view;

pub use epoch::Epoch;
pub use error::SchemaError;
pub use event::{EventBatch, MetricsBatch, TableBatch};
pub use reject::Reject;
pub use row::{GroupKey, Key, Row, Rows};
pub use series::{Series, SeriesId};
pub use state::{Layout, State};
pub use stream::{Column, ColumnType, StreamDefinition, StreamId};
pub use summary::Summary;
pub use time::{Duration, EventTime};
pub use value::ValueType;
pub use view::{View, ViewDefinition, ViewId};
