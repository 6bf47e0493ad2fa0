//! Sinks: the ClickHouse that Streamgauge runs or talks to, and everything written to it.
//!
//! On the path of an event this is the last durable step: the engine decides what changed, a sink writes it,
//! and only what ClickHouse has confirmed is called flushed. History is read back here too, as Arrow.
//!
//! # Layout
//!
//! - [`server`]: the ClickHouse that runs: a child process of our own, or a server that the user runs.
//! - [`client`]: [`ClickHouse`], the one small interface over the official client.
//! - `sent`: queries over rows that are sent along.
//! - [`sql`]: quoting of names and texts.
//! - [`migrations`]: brings a database to the schema of this version.
//! - [`raw`]: writes the events of a stream, once each.
//! - [`states`]: writes and reads the rows of a view.
//! - `view_table`: the statements that make the tables of a view.
//! - [`catalog`]: makes and drops the tables of the user's streams and views.
//! - [`backfill`]: keeps how far the back-fill of a view is.
//! - [`flushed`]: keeps the flushed epoch of each item.
//! - [`aside`]: keeps rows that ClickHouse refuses in files.
//! - `repair`: ends writes that still run, and deletes events.
//! - [`requests`]: reads back the requests that named themselves.
//! - [`recovery`]: repairs a half-done flush and loads what memory must hold, at start.
//! - [`flusher`]: the loops that write what changed, at the pace of each item.
//! - `backoff`: how long to wait before the next attempt.
//! - [`error`]: what can go wrong, of which kind it is, and whether to try again.

pub mod aside;
pub mod backfill;
mod backoff;
pub mod catalog;
pub mod client;
pub mod error;
pub mod flushed;
pub mod flusher;
pub mod migrations;
pub mod raw;
pub mod recovery;
mod repair;
pub mod requests;
mod sent;
pub mod server;
pub mod sql;
pub mod states;
mod view_table;

pub use aside::{Aside, AsideFile};
pub use client::ClickHouse;
pub use error::{ErrorKind, SinkError};
pub use flusher::{
    BoxError, CATALOG_ITEM, FlushItem, FlushKind, FlushSource, FlushStatus, FlushUnit, Flusher, Hold, LastFlush,
    StreamTable, stream_item, view_item,
};
pub use recovery::{Recovered, RecoveredView, recover};
pub use requests::{RecoveredRequest, RecoveredSequence, RequestWindow};
pub use sent::SentTable;
pub use server::{Server, ServerConfig, ServerMode, ServerState};

/// The database of the first tenant.
pub const DEFAULT_DATABASE: &str = "streamgauge_default";
