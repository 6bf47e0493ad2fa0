//! Streams and views as tables of one statement.
//!
//! # Layout
//!
//! - [`stream`]: the events of a stream, from memory and from history.
//! - [`groups`]: the rows of a view; `merge` joins the pieces of a group that memory and history hold.
//! - [`kept`]: the states behind these rows, for [`combine`](crate::combine).
//! - [`apart`]: the rows of a view of which ClickHouse adds its part up, for [`pushdown`](crate::pushdown).
//! - `read`: how `EXPLAIN` shows what of both is read.
//! - [`catalog`]: which table a name means.

mod apart;
mod catalog;
mod groups;
mod kept;
mod merge;
mod read;
mod stream;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableSource};
use streamgauge_engine::Engine;

use crate::cache::Cache;
use crate::capture::Capture;
use crate::clickhouse::Bounds;
use crate::history::{History, Waits};
use crate::open::is_open;
use crate::predicate::Predicate;
use crate::pushdown::Parts;
use crate::system::System;
use crate::views::{Backfills, Readings};

pub(crate) use apart::{ApartView, ScanColumn};
pub(crate) use catalog::{CATALOG, SCHEMA, StatementCatalog, table_names};
use groups::GroupsTable;
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
    /// What each read of ClickHouse may take.
    pub(crate) bounds: Bounds,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Statement")
    }
}

/// The same stream or view as a table of another statement; `None` when its name means another by now, or it is of neither.
///
/// # Errors
/// Those of a view that cannot be read now.
pub(crate) fn of_statement(
    source: &Arc<dyn TableSource>,
    statement: &Statement,
) -> Result<Option<Arc<dyn TableSource>>> {
    let Ok(table) = source_as_provider(source) else { return Ok(None) };
    if let Some(stream) = table.downcast_ref::<StreamTable>() {
        return Ok(stream.of(statement).map(|table| provider_as_source(Arc::new(table))));
    }
    match table.downcast_ref::<GroupsTable>() {
        Some(view) => Ok(view.of(statement)?.map(|table| provider_as_source(Arc::new(table)))),
        None => Ok(None),
    }
}

/// Of each filter of a scan, whether the table gives only rows that meet it, whatever texts it leaves open.
///
/// # Errors
/// DataFusion's, of an expression that cannot be walked.
pub(crate) fn exact(source: &Arc<dyn TableSource>, filters: &[Expr]) -> Result<Vec<bool>> {
    let table = source_as_provider(source)?;
    match table.downcast_ref::<GroupsTable>() {
        Some(view) => filters.iter().map(|filter| view.is_exact(filter)).collect(),
        None => Ok(vec![false; filters.len()]),
    }
}

/// Whether a plan reads nothing but views, and of each only groups that its filters name.
pub(crate) fn reads_named_groups(plan: &LogicalPlan) -> Result<bool> {
    let (mut scans, mut named) = (0, true);
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan {
            scans += 1;
            let table = source_as_provider(&scan.source)?;
            named &= table.downcast_ref::<GroupsTable>().is_some_and(|table| table.names_groups(&scan.filters));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(scans > 0 && named)
}

/// The filters that a table can narrow its rows by, and DataFusion applies again. Of one with something left open it
/// is not known yet, so the table is told of it.
fn pushdown(
    filters: &[&Expr],
    schema: &Schema,
    usable: impl Fn(&Predicate) -> bool,
) -> Result<Vec<TableProviderFilterPushDown>> {
    let answer = |filter: &&Expr| match Predicate::of(filter, schema) {
        Some(predicate) if usable(&predicate) => Ok(TableProviderFilterPushDown::Inexact),
        _ if filter.exists(|part| Ok(is_open(part)))? => Ok(TableProviderFilterPushDown::Inexact),
        _ => Ok(TableProviderFilterPushDown::Unsupported),
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
