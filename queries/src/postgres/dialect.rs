//! From PostgreSQL's SQL to DataFusion's: forms that clients write in the questions with which they browse.
//!
//! | written | planned as |
//! |---|---|
//! | `pg_class` | `pg_catalog.pg_class` |
//! | `pg_catalog.format_type(…)` | `format_type(…)` |
//! | `current_schema`, `current_user` | `current_schema()`, `current_user()` |
//! | `'t'::regclass`, `oid::regclass` | the number of a table, its name; so for types and schemas |
//! | `x::oid`, `x::name`, `x::json` | `x::int unsigned`, `x::text` |
//! | `a OPERATOR(pg_catalog.~) b` | `a ~ b` |
//! | `a COLLATE c` | `a` |
//! | `x = ANY ('{a,b}')` | `x = ANY (ARRAY['a', 'b'])` |
//! | `array(SELECT x FROM …)` | `(SELECT array_agg(x) FROM …)` |
//! | `(SELECT x FROM pg_class …)` as a value | `(SELECT first_value(x) FROM pg_class …)`: one row at most, as is said |
//! | `a LIKE 'x/_%' ESCAPE '/'` | `a LIKE 'x\_%'` |
//! | `to_timestamp(x, 'YYYY-MM-DD')`, so `to_date`, `to_char` | `to_timestamp(x, '%Y-%m-%d')` |
//! | `s IN (SELECT … current_setting('search_path') …)` | `s IN ('public')` |
//! | `FETCH FIRST 10 ROWS ONLY` | `LIMIT 10` |
//! | `TABLE t` | `SELECT * FROM t` |
//! | `FROM generate_series(1, 3) AS n` | `FROM generate_series(1, 3) AS n (n)` |
//! | `localtimestamp`, `localtime` | `now()::timestamp`, `current_time()` |
//! | `statement_timestamp()`, `transaction_timestamp()` | `now()` |
//! | `age(t)`, `make_interval(days => 10)` | `age(current_date(), t)`, `make_interval(0, 0, 0, 10, 0, 0, 0)` |
//! | `SELECT 1, 1` | `SELECT 1, 1 AS …`: names of columns are there once |
//! | `CASE WHEN typtype = 'c' THEN … END` | null: there are no types of that kind |
//! | `SELECT … FROM pg_index …` | no rows; see [`absent`](super::absent) |
//!
//! A statement that has none of these is left as it is.
//!
//! # Layout
//!
//! - `whole`: `TABLE`; `names`: of columns; `series`: the column of `generate_series`.
//! - `calls`: functions, casts and patterns; `times`: calls about times; `patterns`: of times; `trees`: small ones, made and looked into.

mod calls;
mod names;
mod patterns;
mod series;
#[cfg(test)]
mod tests;
mod times;
mod trees;
mod whole;

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as SqlStatement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Fetch, Function, FunctionArguments, Ident, LimitClause, ObjectName, ObjectNamePart, Query,
    Select, SelectItem, SetExpr, TableFactor, TableWithJoins, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use super::absent;
use super::catalog::{PG_CATALOG, table_names};
use calls::{escape_with_backslash, has_no_field, of_cast, of_function, translate_pattern};
use names::name_once;
pub(crate) use names::names;
use trees::{array, call, items_of, no_items, no_query, taken, text_of};
pub(crate) use whole::spelled_out;

/// Rewrites a statement.
pub(crate) fn adapt(statement: &mut SqlStatement) {
    match statement {
        SqlStatement::Statement(inner) => {
            let _ = inner.visit(&mut Adapter);
        }
        SqlStatement::Explain(explain) => adapt(&mut explain.statement),
        _ => {}
    }
}

/// Rewrites the patterns of times in the query of a view, and nothing else of it: views are DataFusion's SQL. Answers a call whose
/// pattern has fields that are not known.
pub(crate) fn adapt_patterns(query: &mut Query) -> Option<Function> {
    query.visit(&mut Patterns).break_value()
}

struct Patterns;

impl VisitorMut for Patterns {
    type Break = Function;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Function> {
        if let Expr::Function(function) = expr {
            translate_pattern(function);
            if has_no_field(function) {
                return ControlFlow::Break(function.clone());
            }
        }
        ControlFlow::Continue(())
    }
}

struct Adapter;

impl VisitorMut for Adapter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_ref()
            && absent::is_about_nothing(select)
        {
            query.order_by = None; // it may be by columns that are gone
        }
        first_rows(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } = table {
            unqualified(name);
        }
        if let TableFactor::Table { name, args, .. } = table
            && args.is_some()
            && absent::last(name) == "pg_get_keywords"
        {
            *args = None;
            name.0.insert(0, ObjectNamePart::Identifier(Ident::new(PG_CATALOG)));
        }
        series::name_column(table);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(other) = absent::without_kinds(expr) {
            *expr = other;
        }
        if let Expr::Function(function) = expr
            && let FunctionArguments::Subquery(query) = &mut function.args
            && absent::last(&function.name).eq_ignore_ascii_case("array")
        {
            *expr = match gathered(query, "array_agg") {
                true => Expr::Subquery(std::mem::replace(query, no_query())),
                false => no_items(),
            };
        } else if let Expr::Subquery(query) = expr
            && let SetExpr::Select(select) = query.body.as_ref()
            && is_browsing(select)
        {
            gathered(query, "first_value");
        } else if let Expr::InSubquery { expr: inner, subquery, negated } = expr
            && subquery.to_string().contains("current_setting('search_path')")
        {
            // Grafana reads the search path so; it is the same for every session.
            let list = vec![Expr::value(Value::SingleQuotedString("public".to_owned()))];
            *expr = Expr::InList { expr: Box::new(taken(inner)), list, negated: *negated };
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if absent::is_about_nothing(select) {
            absent::make_empty(select);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        name_once(&mut select.projection);
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        if let [ObjectNamePart::Identifier(name)] = &relation.0[..]
            && name.value.starts_with("pg_")
            && table_names().any(|known| known == name.value)
        {
            relation.0.insert(0, ObjectNamePart::Identifier(Ident::new(PG_CATALOG)));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Collate { expr: inner, .. } => *expr = std::mem::replace(&mut **inner, Expr::value(Value::Null)),
            Expr::BinaryOp { op, .. } => {
                if let Some(plain) = plain_operator(op) {
                    *op = plain;
                }
            }
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                if let Some(ValueWithSpan { value: Value::SingleQuotedString(escape), .. }) = escape_char
                    && escape != "\\"
                    && escape_with_backslash(pattern, escape)
                {
                    *escape_char = None;
                }
            }
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => {
                if let Some(items) = text_of(right).and_then(|text| items_of(&text)) {
                    **right = array(items);
                }
            }
            Expr::Identifier(name)
                if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("current_schema") =>
            {
                *expr = call("current_schema", Vec::new());
            }
            Expr::Function(function) => {
                if let Some(other) = of_function(function) {
                    *expr = other;
                }
            }
            Expr::Cast { expr: inner, data_type, .. } => {
                if let Some(other) = of_cast(inner, data_type) {
                    *expr = other;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `FETCH FIRST n ROWS ONLY` as a `LIMIT`.
fn first_rows(query: &mut Query) {
    let Some(Fetch { with_ties: false, percent: false, quantity }) = &query.fetch else { return };
    let one = || Expr::value(Value::Number("1".to_owned(), false));
    let rows = quantity.clone().unwrap_or_else(one);
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows),
        Some(_) => return,
        none => *none = Some(LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: Vec::new() }),
    }
    query.fetch = None;
}

fn plain_operator(op: &BinaryOperator) -> Option<BinaryOperator> {
    let BinaryOperator::PGCustomBinaryOperator(parts) = op else { return None };
    Some(match parts.last()?.as_str() {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "||" => BinaryOperator::StringConcat,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        _ => return None,
    })
}

/// Takes the schema from the name of a function.
fn unqualified(name: &mut ObjectName) {
    let first = name.0.first().and_then(|part| part.as_ident()).map(|ident| ident.value.to_lowercase());
    if name.0.len() > 1 && matches!(first.as_deref(), Some("pg_catalog" | "information_schema" | "public")) {
        name.0.drain(..name.0.len() - 1);
    }
}

/// Whether a question reads the catalogues.
fn is_browsing(select: &Select) -> bool {
    let browses = |table: &TableWithJoins| match &table.relation {
        TableFactor::Table { name, args: None, .. } => {
            let last = absent::last(name);
            table_names().any(|known| known == last) && (name.0.len() > 1 || last.starts_with("pg_"))
        }
        _ => false,
    };
    select.from.first().is_some_and(browses)
}

/// Puts the one column of a question into an aggregate; whether it has rows at all.
fn gathered(query: &mut Query, function: &str) -> bool {
    let SetExpr::Select(select) = query.body.as_mut() else { return false };
    if absent::is_about_nothing(select) {
        return false;
    }
    // The items of a list that belongs to the row outside: those of the catalogues are never there.
    let unnests = |table: &TableWithJoins| match &table.relation {
        TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
            name.0.len() > 1 && absent::last(name).eq_ignore_ascii_case("unnest")
        }
        _ => false,
    };
    if select.from.iter().any(unnests) {
        return false;
    }
    let [SelectItem::UnnamedExpr(column) | SelectItem::ExprWithAlias { expr: column, .. }] = &mut select.projection[..]
    else {
        return true;
    };
    if !absent::aggregates(column) {
        *column = call(function, vec![taken(column)]);
        query.order_by = None;
    }
    true
}
