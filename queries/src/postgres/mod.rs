//! What clients made for PostgreSQL expect of a database beside its data: the names of types, `pg_catalog`,
//! `information_schema`, some functions, and a few forms of SQL that DataFusion does not know.
//!
//! It is part of every session, so that a question means the same over every protocol. How such clients connect is not
//! here.
//!
//! # Layout
//!
//! - [`types`]: which type of PostgreSQL an Arrow type is; [`values`]: columns as those types hold them.
//! - `relations`: the tables there are, as the catalogues have them.
//! - `sheet`: small tables, written row by row.
//! - `catalog`: the tables of `pg_catalog`; `information`: those of `information_schema`.
//! - `functions`: the functions that browse them; `own`: those about the session that asks.
//! - `dialect`: from PostgreSQL's SQL to DataFusion's; `absent`: questions about what is never there.
//! - `computed`: functions that analysts write; `intervals`: intervals times numbers.

mod absent;
pub(crate) mod catalog;
pub(crate) mod computed;
pub(crate) mod dialect;
pub(crate) mod functions;
pub(crate) mod information;
mod intervals;
pub(crate) mod own;
pub(crate) mod relations;
pub(crate) mod sheet;
pub mod types;
pub mod values;

pub use functions::{SETTINGS, setting};
pub(crate) use intervals::IntervalOperators;

/// The version of PostgreSQL whose catalogues and protocol are spoken; clients choose by it what they ask.
pub const SERVER_VERSION: &str = "14.0";
/// The one role that there is.
pub const ROLE: &str = "streamgauge";
