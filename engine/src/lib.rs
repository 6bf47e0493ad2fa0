//! The engine of Streamgauge: events in, durable, folded into maintained views, read as of one epoch.
//!
//! It knows neither HTTP nor ClickHouse: what to flush it hands out, and what was flushed it is told.
//!
//! # Layout
//!
//! - [`decode`]: JSON to batches of events.
//! - [`log`]: the durable, ordered record of epochs, and its group commit.
//! - `sequencer`: the one order of epochs, reads and flushes; `waits`: who waits for an epoch.
//! - [`requests`]: requests that named themselves, so that a repeat is known; `rejects`: events that were not accepted.
//! - `pending`, `tail`: events in memory that ClickHouse does not have, and the bound on them.
//! - `workers`, `dataflow`: timely workers that maintain the views.
//! - [`program`]: what a view computes of a batch.
//! - [`registry`]: names and dimensions of series; `keys`: the dimension values of other views.
//! - [`backfill`]: events that were there before a view.
//! - [`snapshot`]: consistent reads, and following a view.
//! - [`recovery`]: what a restart does.
//! - [`engine`]: all of it behind one type.
//! - [`config`], [`error`].

pub mod backfill;
pub mod config;
mod dataflow;
pub mod decode;
pub mod engine;
pub mod error;
mod gaps;
mod keys;
pub mod log;
mod pending;
pub mod program;
pub mod recovery;
pub mod registry;
mod rejects;
pub mod requests;
mod sequencer;
pub mod snapshot;
mod tail;
mod waits;
mod workers;

pub use backfill::{Backfill, Step};
pub use config::EngineConfig;
pub use engine::{CatalogFlush, Engine, EngineStatus, Flushed, Ingest, Ingested, StreamStatus, ViewFlush, ViewStatus};
pub use error::EngineError;
pub use program::{Computed, Failed, Keys, Planner, Prepared, Program};
pub use recovery::{Recovered, ViewHistory};
pub use registry::{MetricSummary, SeriesRegistry};
pub use requests::{Claim, Claimed, KnownRequest, RequestName};
pub use snapshot::{Delta, KeyFilter, RowFilter, SeriesTest, Snapshot, SnapshotRequest, ViewRead};
pub use tail::StreamFlush;
