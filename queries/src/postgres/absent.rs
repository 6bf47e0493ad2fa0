//! Questions about what there never is, such as indexes and policies: `SELECT … FROM pg_index …` has no rows, whatever
//! it computes, so it need not be planned.
//!
//! Clients ask such questions in forms of SQL that only PostgreSQL knows; this is how they are answered all the same.
//! A question is about nothing when a table that never has rows stands in its `FROM` where an inner join needs a row of
//! it, and it does not count or gather what it finds.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CaseWhen, CastKind, DataType, Expr, FunctionArg, FunctionArgExpr,
    FunctionArguments, GroupByExpr, Ident, JoinOperator, ObjectName, Select, SelectItem, SetExpr, TableFactor,
    TableWithJoins, Value, Visit, Visitor,
};

use super::{catalog, information};

/// Whether it is a question about nothing.
pub(super) fn is_about_nothing(select: &Select) -> bool {
    // Without groups, what is gathered of nothing is still a row.
    let groups = match &select.group_by {
        GroupByExpr::Expressions(by, _) => !by.is_empty() && !by.iter().any(is_grouping_set),
        GroupByExpr::All(_) => false,
    };
    let plain = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => groups || !aggregates(expr),
        _ => false,
    };
    (groups || select.having.is_none()) && select.projection.iter().all(plain) && select.from.iter().any(needs_nothing)
}

fn is_grouping_set(expr: &Expr) -> bool {
    matches!(expr, Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_))
}

/// Makes it one that reads no table: the same columns and parameters, and no rows.
pub(super) fn make_empty(select: &mut Select) {
    let parameters = parameters(select);
    let mut names: Vec<String> = Vec::new();
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = &*item else { continue };
        let name = match &*item {
            SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
            _ => name_of(expr),
        };
        let repeated = names.iter().filter(|other| **other == name).count();
        names.push(name.clone());
        let alias = Ident::with_quote('"', if repeated == 0 { name } else { format!("{name}_{}", repeated + 1) });
        *item = SelectItem::ExprWithAlias { expr: nothing(), alias };
    }
    select.from = Vec::new();
    select.lateral_views = Vec::new();
    select.distinct = None;
    select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
    select.having = None;
    select.sort_by = Vec::new();
    let no_row = Expr::value(Value::Boolean(false));
    select.selection = Some(parameters.into_iter().fold(no_row, |condition, parameter| Expr::BinaryOp {
        left: Box::new(condition),
        op: BinaryOperator::And,
        right: Box::new(Expr::IsNull(Box::new(parameter))),
    }));
}

/// The parameters of a question; a client gives values for them, also when nothing is asked.
fn parameters(select: &Select) -> Vec<Expr> {
    struct Search(Vec<Expr>);
    impl Visitor for Search {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if matches!(expr, Expr::Value(value) if matches!(value.value, Value::Placeholder(_))) {
                self.0.push(expr.clone());
            }
            ControlFlow::Continue(())
        }
    }
    let mut search = Search(Vec::new());
    let _ = select.visit(&mut search);
    search.0
}

fn nothing() -> Expr {
    null_of(DataType::Text)
}

fn null_of(data_type: DataType) -> Expr {
    let (kind, expr) = (CastKind::Cast, Box::new(Expr::value(Value::Null)));
    Expr::Cast { kind, expr, data_type, array: false, format: None }
}

/// The kinds of types that there are not: composite ones, domains, enumerations, ranges.
const KINDS: [&str; 5] = ["c", "d", "e", "m", "r"];

/// What a `CASE` is when its branches for kinds of types that there are not are left out: asyncpg asks there, for each type,
/// in a form that DataFusion does not plan. `None` of one that has other branches.
pub(super) fn without_kinds(case: &mut Expr) -> Option<Expr> {
    let Expr::Case { operand: None, conditions, else_result, .. } = case else { return None };
    let (absent, others): (Vec<CaseWhen>, Vec<CaseWhen>) =
        std::mem::take(conditions).into_iter().partition(|when| is_of_absent_kind(&when.condition));
    *conditions = others;
    let last = absent.last().filter(|_| conditions.is_empty())?;
    let otherwise =
        else_result.take().filter(|other| !matches!(&**other, Expr::Value(value) if value.value == Value::Null));
    Some(otherwise.map_or_else(|| null_like(&last.result), |other| *other))
}

fn is_of_absent_kind(condition: &Expr) -> bool {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let kind = |expr: &Expr| matches!(expr, Expr::Value(value) if matches!(&value.value, Value::SingleQuotedString(text) if KINDS.contains(&text.as_str())));
            name_of(left) == "typtype" && kind(right)
        }
        Expr::Nested(inner) => is_of_absent_kind(inner),
        _ => false,
    }
}

/// Null of the type that a question for one value would have: a number of the catalogue or a text, or a list of them.
fn null_like(result: &Expr) -> Expr {
    let value = match result {
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => expr,
                _ => return nothing(),
            },
            _ => return nothing(),
        },
        other => other,
    };
    let kind = |expr: &Expr| match name_of(expr).as_str() {
        "oid" | "atttypid" => DataType::IntUnsigned(None),
        _ => DataType::Text,
    };
    let Expr::Function(function) = value else { return null_of(kind(value)) };
    match &function.args {
        FunctionArguments::List(list) if last(&function.name).eq_ignore_ascii_case("array_agg") => {
            let item = match list.args.first() {
                Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(item))) => kind(item),
                _ => DataType::Text,
            };
            null_of(DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(item), None)))
        }
        _ => nothing(),
    }
}

/// The name that PostgreSQL gives to a column without one.
pub(super) fn name_of(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(ident) => ident.value.clone(),
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.clone()).unwrap_or_default(),
        Expr::Function(function) => last(&function.name).to_lowercase(),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => name_of(expr),
        Expr::Case { .. } => "case".to_owned(),
        _ => "?column?".to_owned(),
    }
}

pub(super) fn last(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone()).unwrap_or_default()
}

/// Whether the first table or one that is joined to it by an inner join has no rows.
fn needs_nothing(tables: &TableWithJoins) -> bool {
    let inner = |operator: &JoinOperator| {
        matches!(operator, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_))
    };
    let left = |operator: &JoinOperator| {
        matches!(operator, JoinOperator::Left(_) | JoinOperator::LeftOuter(_)) || inner(operator)
    };
    let first = never_has_rows(&tables.relation) && tables.joins.iter().all(|join| left(&join.join_operator));
    let reached = tables.joins.iter().rposition(|join| !left(&join.join_operator)).map_or(0, |place| place + 1);
    let joined = tables.joins[reached..].iter();
    first || joined.filter(|join| inner(&join.join_operator)).any(|join| never_has_rows(&join.relation))
}

fn never_has_rows(table: &TableFactor) -> bool {
    match table {
        TableFactor::Table { name, args: None, .. } => {
            let parts: Vec<String> =
                name.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.to_lowercase()).collect();
            match &parts[..] {
                [name] => catalog::is_empty(name),
                [.., schema, name] if schema == catalog::PG_CATALOG => catalog::is_empty(name),
                [.., schema, name] if schema == information::INFORMATION_SCHEMA => information::is_empty(name),
                _ => false,
            }
        }
        TableFactor::Derived { subquery, .. } => match subquery.body.as_ref() {
            SetExpr::Select(select) => is_about_nothing(select),
            _ => false,
        },
        TableFactor::NestedJoin { table_with_joins, alias: None } => needs_nothing(table_with_joins),
        _ => false,
    }
}

/// Whether an expression gathers rows, apart from the questions within it.
pub(super) fn aggregates(expr: &Expr) -> bool {
    const GATHERING: [&str; 12] = [
        "count",
        "sum",
        "min",
        "max",
        "avg",
        "array_agg",
        "string_agg",
        "bool_and",
        "bool_or",
        "every",
        "json_agg",
        "first_value",
    ];
    struct Search {
        depth: usize,
    }
    impl Visitor for Search {
        type Break = ();

        fn pre_visit_query(&mut self, _: &datafusion::sql::sqlparser::ast::Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &datafusion::sql::sqlparser::ast::Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(function)
                    if self.depth == 0 && GATHERING.contains(&last(&function.name).to_lowercase().as_str()) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Search { depth: 0 }).is_break()
}
