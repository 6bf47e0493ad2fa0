//! A `SELECT` as DataFusion understands it, taken apart: scan, filter, aggregate, filter, projection.

use std::sync::Arc;

use datafusion::catalog::memory::{MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider};
use datafusion::common::Column;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::sql::parser::Statement as SqlStatement;
use datafusion::sql::sqlparser::ast::{ObjectName, Query, Statement as Ast};
use futures::FutureExt;

use super::error::ViewError;
use super::shape;
use super::tables::{StreamTable, Tables};

/// A grouped `SELECT`, analysed; names and types are resolved, and nothing is simplified yet.
pub(super) struct Analysis {
    pub(super) stream: StreamTable,
    /// The condition of `WHERE`.
    pub(super) filter: Option<Expr>,
    /// The expressions of `GROUP BY`, each with the column by which the select list knows it.
    pub(super) groups: Vec<(Column, Expr)>,
    /// The calls of aggregates, as `groups`.
    pub(super) calls: Vec<(Column, Expr)>,
    /// The condition of `HAVING`, over those columns.
    pub(super) having: Option<Expr>,
    /// The select list, over those columns, with the names of its own.
    pub(super) columns: Vec<(String, Expr)>,
}

impl Analysis {
    /// All of its expressions.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &Expr> {
        let named = self.groups.iter().chain(&self.calls).map(|(_, expr)| expr);
        named.chain(self.columns.iter().map(|(_, expr)| expr)).chain(&self.filter).chain(&self.having)
    }
}

/// Analyses a query over a stream of `tables`.
///
/// # Errors
/// [`ViewError`] when it cannot be planned, or is not of the shape that can be maintained.
pub(super) fn analyse(query: Query, tables: &dyn Tables, state: &SessionState) -> Result<Analysis, ViewError> {
    let stream = resolve(shape::stream_of(&query)?, tables, state)?;
    let text = query.to_string();
    let statement = SqlStatement::Statement(Box::new(Ast::Query(Box::new(query))));
    let state = with_only(&stream, state)?;
    let plan = state.statement_to_plan(statement).now_or_never();
    let plan = plan.expect("tables in memory are there at once")?;
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    take_apart(plan, stream, &text)
}

/// The stream that a name in `FROM` means.
fn resolve(name: &ObjectName, tables: &dyn Tables, state: &SessionState) -> Result<StreamTable, ViewError> {
    let parts: Option<Vec<String>> = name
        .0
        .iter()
        .map(|part| part.as_ident())
        .map(|ident| {
            ident
                .map(|ident| if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() })
        })
        .collect();
    let parts = parts.unwrap_or_default();
    let places = &state.config_options().catalog;
    let here = match &parts[..] {
        [_] => true,
        [schema, _] => *schema == places.default_schema,
        [catalog, schema, _] => *catalog == places.default_catalog && *schema == places.default_schema,
        _ => false,
    };
    let last = parts.last().filter(|_| here);
    if let Some(stream) = last.and_then(|name| tables.stream(name)) {
        return Ok(stream);
    }
    let hint = match last {
        Some(name) if tables.is_view(name) => "it is a view; write its SELECT over the stream itself".to_owned(),
        _ => format!("there are {}", tables.streams().join(", ")),
    };
    Err(ViewError::NotAStream { name: name.to_string(), hint })
}

/// The session with the stream, empty, as its only table.
fn with_only(stream: &StreamTable, state: &SessionState) -> Result<SessionState, ViewError> {
    let places = &state.config_options().catalog;
    let schema = Arc::new(MemorySchemaProvider::new());
    schema.register_table(stream.name.clone(), Arc::new(EmptyTable::new(stream.schema.clone())))?;
    let catalog = Arc::new(MemoryCatalogProvider::new());
    catalog.register_schema(&places.default_schema, schema)?;
    let catalogs = Arc::new(MemoryCatalogProviderList::new());
    catalogs.register_catalog(places.default_catalog.clone(), catalog);
    let mut state = state.clone();
    state.register_catalog_list(catalogs);
    Ok(state)
}

fn take_apart(plan: LogicalPlan, stream: StreamTable, text: &str) -> Result<Analysis, ViewError> {
    let LogicalPlan::Projection(projection) = plan else { return Err(other_shape(&plan, text)) };
    let names = projection.schema.fields().iter().map(|field| field.name().clone());
    let columns = names.zip(projection.expr.clone()).collect();
    let (having, input) = filtered(&projection.input);
    let aggregate = match input {
        LogicalPlan::Aggregate(aggregate) => aggregate,
        LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_) => {
            let reason = "a view has groups; name them in GROUP BY, or call an aggregate such as count(*)";
            return Err(ViewError::not_maintained(text, reason));
        }
        other => return Err(other_shape(other, text)),
    };
    let (filter, mut input) = filtered(&aggregate.input);
    while let LogicalPlan::SubqueryAlias(alias) = input {
        input = &alias.input;
    }
    let LogicalPlan::TableScan(_) = input else { return Err(other_shape(input, text)) };
    let (groups, calls) = columns_of(aggregate);
    Ok(Analysis { stream, filter, groups, calls, having, columns })
}

/// Columns of a plan with what they stand for.
type Named = Vec<(Column, Expr)>;

/// The expressions of an aggregate with the columns that they become.
fn columns_of(aggregate: &Aggregate) -> (Named, Named) {
    let mut columns = aggregate.schema.columns().into_iter();
    let groups = aggregate.group_expr.iter().map(|expr| (columns.next(), expr));
    let groups: Vec<(Option<Column>, &Expr)> = groups.collect();
    let calls = aggregate.aggr_expr.iter().map(|expr| (columns.next(), expr));
    let named = |(column, expr): (Option<Column>, &Expr)| {
        (column.expect("an aggregate has a column for each of its expressions"), expr.clone())
    };
    let calls = calls.map(named).collect();
    (groups.into_iter().map(named).collect(), calls)
}

fn filtered(plan: &LogicalPlan) -> (Option<Expr>, &LogicalPlan) {
    match plan {
        LogicalPlan::Filter(filter) => (Some(filter.predicate.clone()), &filter.input),
        other => (None, other),
    }
}

fn other_shape(plan: &LogicalPlan, text: &str) -> ViewError {
    let (part, reason) = match plan {
        LogicalPlan::Window(window) => {
            (window.window_expr.first().map(ToString::to_string), "windows are not maintained")
        }
        LogicalPlan::Unnest(_) => (None, "unnest is not maintained"),
        _ => (None, "a view is a plain SELECT … FROM … WHERE … GROUP BY … HAVING …"),
    };
    ViewError::not_maintained(part.unwrap_or_else(|| text.to_owned()), reason)
}
