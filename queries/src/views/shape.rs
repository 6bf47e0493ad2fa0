//! Which `SELECT`s can be maintained, by their text: one stream, grouped, and nothing that orders or limits rows.

use datafusion::sql::parser::{DFParserBuilder, Statement as SqlStatement};
use datafusion::sql::sqlparser::ast::{
    GroupByExpr, ObjectName, Query, Select, SetExpr, Statement as Ast, TableFactor, TableWithJoins,
};

use super::error::ViewError;
use crate::depth::too_much;
use crate::misread::{Kind, Misread, misread_in};
use crate::postgres::dialect::adapt_patterns;

/// Why a pattern of times is refused: of every time it would say the same.
const UNKNOWN_FIELDS: &str = "its pattern has no field that is known; those of PostgreSQL that are known are listed in docs/sql.md, and fields such as \
                              %Y-%m-%d are taken as they are";

/// A statement that is one query, written out in one way.
pub(super) fn parse(select: &str, recursion_limit: usize) -> Result<Query, ViewError> {
    if let Some(reason) = too_much(select) {
        return Err(ViewError::Sql { message: format!("the SELECT of the view {reason}") });
    }
    let parser = DFParserBuilder::new(select).with_recursion_limit(recursion_limit).build();
    let mut statements = parser.and_then(|mut parser| parser.parse_statements())?;
    match (statements.pop_front(), statements.pop_front()) {
        (Some(SqlStatement::Statement(statement)), None) => match *statement {
            Ast::Query(query) => Ok(*query),
            other => Err(ViewError::not_maintained(other, "a view is a SELECT")),
        },
        _ => Err(ViewError::not_maintained(select, "a view is one SELECT")),
    }
}

/// A new view's `SELECT` as it is stored: patterns of times that PostgreSQL knows are DataFusion's from then on. `kind` knows the
/// functions.
pub(super) fn written(select: &str, recursion_limit: usize, kind: &dyn Fn(&str) -> Kind) -> Result<String, ViewError> {
    let mut query = parse(select, recursion_limit)?;
    stream_of(&query)?; // which has more to say of what is refused
    if let Some(Misread { part, reason }) = misread_in(&query, kind) {
        return refuse(part, reason);
    }
    match adapt_patterns(&mut query) {
        Some(call) => Err(ViewError::not_maintained(call, UNKNOWN_FIELDS)),
        None => Ok(query.to_string()),
    }
}

/// The name of the stream that a query is over.
///
/// # Errors
/// [`ViewError::NotMaintained`] with the part that is not to be maintained.
pub(super) fn stream_of(query: &Query) -> Result<&ObjectName, ViewError> {
    check_query(query)?;
    let select = match query.body.as_ref() {
        SetExpr::Select(select) => select,
        SetExpr::SetOperation { op, .. } => return refuse(op, "make a view of each SELECT"),
        other => return refuse(other, "a view is a SELECT"),
    };
    check_select(select)?;
    match &select.from[..] {
        [TableWithJoins { relation, joins }] => match joins.first() {
            Some(join) => refuse(join, "a view is over one stream; joins are not maintained"),
            None => table(relation),
        },
        [] => refuse(select, "a view is over a stream; say which with FROM"),
        [_, more, ..] => refuse(more, "a view is over one stream; joins are not maintained"),
    }
}

fn refuse<T>(part: impl ToString, reason: &str) -> Result<T, ViewError> {
    Err(ViewError::not_maintained(part, reason))
}

fn check_query(query: &Query) -> Result<(), ViewError> {
    if let Some(with) = &query.with {
        return refuse(with, "write the expressions into the SELECT itself");
    }
    if let Some(order) = &query.order_by {
        return refuse(order, "the rows of a view have no order; order the SELECT that reads it");
    }
    if let Some(limit) = &query.limit_clause {
        return refuse(limit.to_string().trim(), "all rows of a view are kept; limit the SELECT that reads it");
    }
    if let Some(fetch) = &query.fetch {
        return refuse(fetch, "all rows of a view are kept; limit the SELECT that reads it");
    }
    let unknown = query.locks.is_empty()
        && query.for_clause.is_none()
        && query.settings.is_none()
        && query.format_clause.is_none()
        && query.pipe_operators.is_empty();
    if unknown { Ok(()) } else { refuse(query, "a view is a plain SELECT, without FOR, SETTINGS, FORMAT and |>") }
}

fn check_select(select: &Select) -> Result<(), ViewError> {
    if let Some(distinct) = &select.distinct {
        return refuse(distinct, "name the columns in GROUP BY instead");
    }
    if let Some(top) = &select.top {
        return refuse(top, "all rows of a view are kept; limit the SELECT that reads it");
    }
    if let Some(into) = &select.into {
        return refuse(into, "the view itself is where its rows go");
    }
    if let Some(qualify) = &select.qualify {
        return refuse(format!("QUALIFY {qualify}"), "windows are not maintained");
    }
    if let Some(window) = select.named_window.first() {
        return refuse(window, "windows are not maintained");
    }
    if let GroupByExpr::Expressions(_, modifiers) | GroupByExpr::All(modifiers) = &select.group_by
        && let Some(modifier) = modifiers.first()
    {
        return refuse(modifier, "a view has one set of dimensions; make a view of each");
    }
    let plain = select.lateral_views.is_empty()
        && select.prewhere.is_none()
        && select.connect_by.is_empty()
        && select.cluster_by.is_empty()
        && select.distribute_by.is_empty()
        && select.sort_by.is_empty()
        && select.value_table_mode.is_none()
        && select.exclude.is_none();
    if plain {
        Ok(())
    } else {
        refuse(select, "a view is a plain SELECT … FROM … WHERE … GROUP BY … HAVING …")
    }
}

fn table(relation: &TableFactor) -> Result<&ObjectName, ViewError> {
    match relation {
        TableFactor::Table { name, args: None, version: None, sample: None, .. } => Ok(name),
        TableFactor::Table { .. } => refuse(relation, "a view is over a stream as it is"),
        TableFactor::Derived { .. } => {
            refuse(relation, "a view is over a stream itself; subqueries are not maintained")
        }
        other => refuse(other, "a view is over one stream"),
    }
}
