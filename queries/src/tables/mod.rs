//! Streams and views as tables of one statement.
//!
//! # Layout
//!
//! - [`stream`]: the events of a stream, from memory and from history.
//! - [`groups`]: the rows of a view; `merge` joins the pieces of a group that memory and history hold.
//! - [`kept`]: the states behind these rows, for [`combine`](crate::combine).
//! - [`catalog`]: which table a name means.

mod catalog;
mod groups;
mod kept;
mod merge;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use streamgauge_engine::Engine;

use crate::cache::Cache;
use crate::capture::Capture;
use crate::history::{History, Waits};
use crate::predicate::Predicate;
use crate::pushdown::Parts;
use crate::system::System;
use crate::views::{Backfills, Readings};

pub(crate) use catalog::{CATALOG, SCHEMA, StatementCatalog, table_names};
pub(crate) use kept::Kept;
pub(crate) use stream::{StreamTable, memory_batches};

/// What the tables of one statement share.
#[derive(Clone)]
pub(crate) struct Statement {
    pub(crate) engine: Engine,
    pub(crate) history: Arc<dyn History>,
    /// ClickHouse is away, and an answer without its part was asked for.
    pub(crate) memory_only: bool,
    pub(crate) capture: Arc<Capture>,
    pub(crate) readings: Arc<Readings>,
    pub(crate) backfills: Arc<Backfills>,
    pub(crate) parts: Arc<Parts>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) system: Arc<System>,
    pub(crate) waits: Waits,
    pub(crate) time_max: Duration,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Statement")
    }
}

/// The filters that a table can narrow its rows by; DataFusion applies all of them again.
fn pushdown(
    filters: &[&Expr],
    schema: &Schema,
    usable: impl Fn(&Predicate) -> bool,
) -> Vec<TableProviderFilterPushDown> {
    let answer = |filter: &&Expr| match Predicate::of(filter, schema) {
        Some(predicate) if usable(&predicate) => TableProviderFilterPushDown::Inexact,
        _ => TableProviderFilterPushDown::Unsupported,
    };
    filters.iter().map(answer).collect()
}

/// The usable ones of `filters`, translated.
fn predicates(filters: &[Expr], schema: &Schema, usable: impl Fn(&Predicate) -> bool) -> Vec<Predicate> {
    filters.iter().filter_map(|filter| Predicate::of(filter, schema)).filter(usable).collect()
}

/// Appends ` AND …` for each predicate.
pub(crate) fn write_conjuncts(predicates: &[Predicate], alias: &str, sql: &mut String) {
    for predicate in predicates {
        sql.push_str(" AND (");
        predicate.write_sql(alias, sql);
        sql.push(')');
    }
}
