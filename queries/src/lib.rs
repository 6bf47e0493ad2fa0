//! Questions over live and history: SQL, series of a metric, and following them live.
//!
//! A question is answered as of one epoch `E`. What memory holds is captured once; what it no longer holds is read from
//! ClickHouse at or below the horizon of that same capture; the two together are exact (DESIGN section 5).
//!
//! It knows the engine's read interface and, of ClickHouse, only its SQL: whoever composes the program implements
//! [`History`]. Neither network protocols nor ClickHouse connections are here.
//!
//! # Layout
//!
//! - [`history`]: the interface to ClickHouse.
//! - [`asker`]: who asks; [`client`]: in which session; [`options`]: how a question is asked; `question`: the text of a SQL request; `wait`: until an epoch is visible.
//! - `depth`: how deep a text nests.
//! - `clickhouse`: names, literals and settings in ClickHouse's SQL.
//! - `predicate`: filters, for ClickHouse and for memory.
//! - `capture`: the one snapshot of a statement.
//! - `open`: what a kept plan leaves open.
//! - `groups`: the groups of a view, out of ClickHouse and memory.
//! - `tables`: streams and views as tables of DataFusion.
//! - `command`: statements that are carried out; `streams`: those about streams.
//! - [`views`]: from the statement of a view to its program.
//! - `combine`: coarser questions over a view.
//! - `pushdown`: parts of a plan that ClickHouse computes.
//! - [`timeseries`]: buckets in zones, gap filling, counters, first and last values.
//! - `zeros`: the order of zeros of either sign.
//! - `threads`, `yielding`: where questions are computed, and how they can be ended.
//! - `turns`: how many run at a time; [`memory`]: what they share; `activity`: those that run, and that ran.
//! - [`session`]: one SQL statement from text to batches.
//! - [`mod@format`]: batches as JSON, NDJSON, CSV, Arrow, Parquet and XLSX.
//! - [`series`]: the series of a metric at a granularity.
//! - [`live`]: following such series, and views.
//! - [`metrics`]: which metrics and dimensions there are.
//! - [`system`]: tables about the program itself.
//! - [`postgres`]: what clients made for PostgreSQL expect: its catalogues, functions and forms of SQL.
//! - [`limits`], [`error`].

mod activity;
pub mod asker;
mod cache;
mod capture;
mod clickhouse;
pub mod client;
mod combine;
mod command;
mod depth;
pub mod error;
pub mod format;
mod groups;
pub mod history;
mod identities;
pub mod limits;
pub mod live;
pub mod memory;
pub mod metrics;
mod misread;
mod open;
pub mod options;
pub mod postgres;
mod predicate;
mod pushdown;
mod question;
pub mod series;
pub mod session;
mod streams;
pub mod system;
mod tables;
mod threads;
pub mod timeseries;
mod turns;
pub mod views;
mod wait;
mod yielding;
mod zeros;

pub use asker::{Asker, OwnLimits};
pub use client::{ClientSession, SessionNumber};
pub use error::{ErrorKind, QueryError};
pub use format::Format;
pub use history::{ExternalTable, History, HistoryError};
pub use limits::QueryLimits;
pub use live::view::{FollowView, LiveView, RowKey, ViewAnswer, ViewChange, ViewRow};
pub use live::{Change, FollowQuery, LiveSeries};
pub use memory::MemoryOf;
pub use metrics::MetricDimensions;
pub use options::{AskOptions, Partial};
pub use question::Parameters;
pub use series::{Aggregation, DimensionFilter, SeriesAnswer, SeriesPoints, SeriesQuery};
pub use session::{CATALOG_NAME, Described, QueryEngine, QueryStream, SCHEMA_NAMES, Table, TableKind};
pub use views::{BackfillProgress, Backfills, ViewError, ViewPlanner};
