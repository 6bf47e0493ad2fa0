//! The names of columns.

use datafusion::sql::parser::Statement as SqlStatement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement};

use super::super::absent;

/// The names that PostgreSQL gives to the columns of a statement as it is written; `None` of those that have a name.
/// Empty when the columns are not listed one by one.
pub(crate) fn names(statement: &SqlStatement) -> Vec<Option<String>> {
    let SqlStatement::Statement(inner) = statement else { return Vec::new() };
    let Statement::Query(query) = inner.as_ref() else { return Vec::new() };
    let mut body = query.body.as_ref();
    let select = loop {
        body = match body {
            SetExpr::Select(select) => break select,
            SetExpr::Query(query) => query.body.as_ref(),
            SetExpr::SetOperation { left, .. } => left.as_ref(),
            _ => return Vec::new(),
        }
    };
    let mut found = Vec::new();
    for item in &select.projection {
        found.push(match item {
            SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_))
            | SelectItem::ExprWithAlias { .. } => None,
            SelectItem::UnnamedExpr(expr) => Some(absent::name_of(expr)),
            _ => return Vec::new(),
        });
    }
    found
}

/// Gives columns that are there twice another name, from the second on. DataFusion names a cast as what is cast, and
/// `*` brings the columns of its tables.
pub(super) fn name_once(projection: &mut [SelectItem]) {
    let all = projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_)));
    let of = |item: &SelectItem| match item {
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(table), _) => Some(table.to_string()),
        _ => None,
    };
    let tables: Vec<String> = projection.iter().filter_map(of).collect();
    let mut seen: Vec<String> = Vec::new();
    for item in projection {
        let (name, told) = match &*item {
            SelectItem::UnnamedExpr(expr) => (plain_name(expr), absent::name_of(expr)),
            SelectItem::ExprWithAlias { alias, .. } => (alias.value.clone(), alias.value.clone()),
            _ => continue,
        };
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = &*item else { continue };
        let brought = match expr {
            Expr::Identifier(_) => all,
            Expr::CompoundIdentifier(parts) => {
                let table: Vec<String> = parts[..parts.len() - 1].iter().map(ToString::to_string).collect();
                all || tables.contains(&table.join("."))
            }
            _ => false,
        };
        let brought = brought && matches!(&*item, SelectItem::UnnamedExpr(_));
        let repeated = seen.iter().filter(|other| **other == name).count() + usize::from(brought);
        if repeated > 0 {
            let told = if told == "?column?" { &name } else { &told };
            let alias = Ident::with_quote('"', format!("{told}_{}", repeated + 1));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
        seen.push(name);
    }
}

/// The name that DataFusion gives to a column, about.
pub(super) fn plain_name(expr: &Expr) -> String {
    match expr {
        Expr::Cast { expr, .. } | Expr::AtTimeZone { timestamp: expr, .. } | Expr::Nested(expr) => plain_name(expr),
        other => other.to_string(),
    }
}
