//! From PostgreSQL's SQL to DataFusion's: forms that clients write in the questions with which they browse.
//!
//! | written | planned as |
//! |---|---|
//! | `pg_class` | `pg_catalog.pg_class` |
//! | `pg_catalog.format_type(…)` | `format_type(…)` |
//! | `current_schema`, `current_user` | `current_schema()`, `current_user()` |
//! | `'t'::regclass`, `oid::regclass` | the number of a table, its name; so for types and schemas |
//! | `x::oid`, `x::name`, `x::json` | `x::bigint`, `x::text` |
//! | `a OPERATOR(pg_catalog.~) b` | `a ~ b` |
//! | `a COLLATE c` | `a` |
//! | `x = ANY ('{a,b}')` | `x = ANY (ARRAY['a', 'b'])` |
//! | `array(SELECT x FROM …)` | `(SELECT array_agg(x) FROM …)` |
//! | `(SELECT x FROM pg_class …)` as a value | `(SELECT first_value(x) FROM pg_class …)`: one row at most, as is said |
//! | `a LIKE 'x/_%' ESCAPE '/'` | `a LIKE 'x\_%'` |
//! | `s IN (SELECT … current_setting('search_path') …)` | `s IN ('public')` |
//! | `SELECT 1, 1` | `SELECT 1, 1 AS …`: names of columns are there once |
//! | `SELECT … FROM pg_index …` | no rows; see [`absent`](super::absent) |
//!
//! A statement that has none of these is left as it is.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as SqlStatement;
use datafusion::sql::sqlparser::ast::{
    Array, ArrayElemTypeDef, BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, TableWithJoins, TimezoneInfo, Value,
    ValueWithSpan, Values, VisitMut, VisitorMut,
};

use super::absent;
use super::catalog::{PG_CATALOG, table_names};
use super::functions;

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

struct Adapter;

impl VisitorMut for Adapter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_ref()
            && absent::is_about_nothing(select)
        {
            query.order_by = None; // it may be by columns that are gone
        }
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
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
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

/// Gives columns that are there twice another name, from the second on. DataFusion names a cast as what is cast, and
/// `*` brings the columns of its tables.
fn name_once(projection: &mut [SelectItem]) {
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
fn plain_name(expr: &Expr) -> String {
    match expr {
        Expr::Cast { expr, .. } | Expr::AtTimeZone { timestamp: expr, .. } | Expr::Nested(expr) => plain_name(expr),
        other => other.to_string(),
    }
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

/// A question that is only there to be replaced.
fn no_query() -> Box<Query> {
    Box::new(Query {
        with: None,
        body: Box::new(SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows: Vec::new() })),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    })
}

/// A list that is not there.
fn no_items() -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::value(Value::Null)),
        data_type: DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(DataType::Text), None)),
        array: false,
        format: None,
    }
}

/// What stands for a call; the call itself may be changed as well.
fn of_function(function: &mut Function) -> Option<Expr> {
    unqualified(&mut function.name);
    let parts = &mut function.name.0;
    let [ObjectNamePart::Identifier(name)] = &mut parts[..] else { return None };
    let lower = name.value.to_lowercase();
    if functions::is_known(&lower) {
        name.value.clone_from(&lower);
        if matches!(function.args, FunctionArguments::None) {
            function.args = list(Vec::new());
        }
    }
    match lower.as_str() {
        "current_schemas" => Some(array(vec![PG_CATALOG.to_owned(), "public".to_owned()])),
        "parse_ident" => {
            let FunctionArguments::List(arguments) = &function.args else { return None };
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(name))] = &arguments.args[..] else { return None };
            let parts = text_of(name)?.split('.').map(|part| part.trim_matches('"').to_owned()).collect();
            Some(array(parts))
        }
        "array_lower" => Some(Expr::value(Value::Number("1".to_owned(), false))),
        "array_upper" => {
            name.value = "array_length".to_owned();
            let length = Box::new(Expr::Function(function.clone()));
            let (kind, data_type) = (CastKind::Cast, DataType::BigInt(None));
            Some(Expr::Cast { kind, expr: length, data_type, array: false, format: None })
        }
        _ => None,
    }
}

/// What stands for a cast to a type that DataFusion does not know; the type itself may be changed instead.
fn of_cast(inner: &mut Box<Expr>, to: &mut DataType) -> Option<Expr> {
    let name = match &*to {
        DataType::Regclass => "regclass".to_owned(),
        DataType::JSON | DataType::JSONB => "json".to_owned(),
        DataType::Uuid => "uuid".to_owned(),
        DataType::Custom(name, _) => name.0.last()?.as_ident()?.value.to_lowercase(),
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) => {
            if let Some(items) = text_of(inner).and_then(|text| items_of(&text)) {
                **inner = array(items);
            }
            let mut item = (**item).clone();
            if let DataType::Custom(name, _) = &item {
                item = plain_type(&name.0.last()?.as_ident()?.value.to_lowercase())?;
            }
            *to = DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(item), None));
            return None;
        }
        _ => return None,
    };
    let (to_number, to_name) = match name.as_str() {
        "regclass" => ("to_regclass", "regclass_name"),
        "regtype" => ("to_regtype", "format_type"),
        "regnamespace" => ("to_regnamespace", "regnamespace_name"),
        "int2vector" | "oidvector" | "anyarray" => return Some(taken(inner)),
        other => {
            if let Some(plain) = plain_type(other) {
                *to = plain;
            }
            return None;
        }
    };
    let is_name = is_name(inner);
    let operand = taken(inner);
    Some(match to_name {
        _ if is_name => call(to_number, vec![operand]),
        "format_type" => call(to_name, vec![operand, Expr::value(Value::Null)]),
        _ => call(to_name, vec![operand]),
    })
}

/// Whether an expression is a name rather than a number of the catalogue.
fn is_name(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => !matches!(value.value, Value::Number(..)),
        Expr::BinaryOp { op: BinaryOperator::StringConcat, .. } | Expr::Function(_) => true,
        Expr::Nested(inner) => is_name(inner),
        Expr::Cast { data_type, .. } => matches!(data_type, DataType::Text | DataType::Varchar(_)),
        _ => false,
    }
}

/// DataFusion's type of that name, where it differs from PostgreSQL's.
fn plain_type(name: &str) -> Option<DataType> {
    Some(match name {
        "oid" | "xid" | "int8" | "cardinal_number" => DataType::BigInt(None),
        "int2" => DataType::SmallInt(None),
        "int4" => DataType::Integer(None),
        "float4" => DataType::Real,
        "float8" => DataType::DoublePrecision,
        "bool" => DataType::Boolean,
        "date" => DataType::Date,
        "timestamp" => DataType::Timestamp(None, TimezoneInfo::None),
        "timestamptz" => DataType::Timestamp(None, TimezoneInfo::Tz),
        "numeric" => DataType::Numeric(ExactNumberInfo::None),
        "name" | "char" | "text" | "varchar" | "bpchar" | "cstring" | "json" | "jsonb" | "uuid" | "xml" | "inet"
        | "unknown" | "regproc" | "regprocedure" | "regrole" | "regoper" | "sql_identifier" | "character_data"
        | "yes_or_no" | "aclitem" => DataType::Text,
        _ => return None,
    })
}

/// Writes a pattern that has another escape with the backslash; whether it could be.
fn escape_with_backslash(pattern: &mut Expr, escape: &str) -> bool {
    match pattern {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => {
            let mut made = String::new();
            let mut characters = text.chars();
            while let Some(character) = characters.next() {
                match character {
                    '\\' => made.push_str("\\\\"),
                    other if escape.chars().eq([other]) => {
                        made.push('\\');
                        made.extend(characters.next());
                    }
                    other => made.push(other),
                }
            }
            *text = made;
            true
        }
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
            escape_with_backslash(left, escape) && escape_with_backslash(right, escape)
        }
        Expr::Nested(inner) => escape_with_backslash(inner, escape),
        _ => false,
    }
}

fn taken(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Null))
}

fn text_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        Expr::Nested(inner) => text_of(inner),
        _ => None,
    }
}

/// The items of an array that is written as a text, `{a,b}`.
fn items_of(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    if inner.contains(['{', '\\']) {
        return None;
    }
    let items = inner.split(',').filter(|item| !item.is_empty());
    Some(items.map(|item| item.trim().trim_matches('"').to_owned()).collect())
}

fn array(items: Vec<String>) -> Expr {
    let elem = items.into_iter().map(|item| Expr::value(Value::SingleQuotedString(item))).collect();
    Expr::Array(Array { elem, named: true })
}

fn list(arguments: Vec<Expr>) -> FunctionArguments {
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() })
}

fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: list(arguments),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    #[test]
    fn columns_are_named_as_postgres_names_them() {
        let names = |sql: &str| {
            let statement = DFParser::parse_sql(sql).expect(sql).pop_front().expect(sql);
            let names = names(&statement).into_iter().map(|name| name.unwrap_or_else(|| "-".to_owned()));
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names("SELECT 1, a, t.a, count(*), pg_catalog.version(), a::text, a + 1, x AS y FROM t"),
            "?column? - - count version a ?column? -"
        );
        assert_eq!(names("(SELECT sum(a) FROM t) UNION ALL SELECT b FROM t"), "sum");
        assert_eq!((names("SELECT 1, * FROM t"), names("EXPLAIN SELECT 1")), (String::new(), String::new()));
    }

    #[test]
    fn forms_of_postgres_become_datafusions() {
        for (sql, expected) in [
            ("SELECT oid FROM pg_class", "SELECT oid FROM pg_catalog.pg_class"),
            ("SELECT a FROM pg_mine", "SELECT a FROM pg_mine"),
            ("SELECT pg_catalog.format_type(1, 2)", "SELECT format_type(1, 2)"),
            ("SELECT current_user, current_schema", "SELECT current_user(), current_schema()"),
            ("SELECT 'public.t'::regclass", "SELECT to_regclass('public.t')"),
            ("SELECT c.oid::pg_catalog.regclass FROM c", "SELECT regclass_name(c.oid) FROM c"),
            ("SELECT t.x::pg_catalog.regtype::pg_catalog.text FROM t", "SELECT format_type(t.x, NULL)::TEXT FROM t"),
            ("SELECT x::oid, y::\"char\", z::jsonb FROM t", "SELECT x::BIGINT, y::TEXT, z::TEXT FROM t"),
            (
                "SELECT a FROM t WHERE a OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default",
                "SELECT a FROM t WHERE a ~ '^(t)$'",
            ),
            ("SELECT a FROM t WHERE k = ANY ('{r,v}')", "SELECT a FROM t WHERE k = ANY(ARRAY['r', 'v'])"),
            ("SELECT 1, 1, a AS b, c AS b FROM t", "SELECT 1, 1 AS \"1_2\", a AS b, c AS \"b_2\" FROM t"),
            (
                "SELECT indkey AS k FROM pg_index WHERE indrelid = $1 AND indkey[$2::int] > 0",
                "SELECT CAST(NULL AS TEXT) AS \"k\" WHERE false AND $1 IS NULL AND $2 IS NULL",
            ),
            (
                "SELECT indkey, pg_get_indexdef(i.indexrelid), NULL, NULL FROM pg_index i, t",
                "SELECT CAST(NULL AS TEXT) AS \"indkey\", CAST(NULL AS TEXT) AS \"pg_get_indexdef\", CAST(NULL AS \
                 TEXT) AS \"?column?\", CAST(NULL AS TEXT) AS \"?column?_2\" WHERE false",
            ),
            ("SELECT count(*) FROM pg_index", "SELECT count(*) FROM pg_catalog.pg_index"),
            (
                "SELECT a FROM t LEFT JOIN pg_index i ON i.x = t.x",
                "SELECT a FROM t LEFT JOIN pg_catalog.pg_index i ON i.x = t.x",
            ),
            (
                "SELECT a FROM t JOIN pg_catalog.pg_index i ON i.x = t.x",
                "SELECT CAST(NULL AS TEXT) AS \"a\" WHERE false",
            ),
            (
                "SELECT a FROM pg_catalog.pg_index i RIGHT JOIN t ON i.x = t.x",
                "SELECT a FROM pg_catalog.pg_index i RIGHT JOIN t ON i.x = t.x",
            ),
            (
                "SELECT array(SELECT a FROM t WHERE t.b = u.b ORDER BY 1) FROM u",
                "SELECT (SELECT array_agg(a) FROM t WHERE t.b = u.b) FROM u",
            ),
            (
                "SELECT (SELECT n.nspname FROM pg_namespace n WHERE n.oid = c.x), (SELECT a FROM t) FROM c",
                "SELECT (SELECT first_value(n.nspname) FROM pg_catalog.pg_namespace n WHERE n.oid = c.x), (SELECT a \
                 FROM t) FROM c",
            ),
            (
                "SELECT array(SELECT x FROM pg_catalog.unnest(c.o) x), array(SELECT 1 FROM pg_policy) FROM c",
                "SELECT CAST(NULL AS TEXT[]), CAST(NULL AS TEXT[]) AS \"NULL_2\" FROM c",
            ),
            (
                "SELECT oid FROM pg_class, pg_inherits ORDER BY inhseqno",
                "SELECT CAST(NULL AS TEXT) AS \"oid\" WHERE false",
            ),
            (
                "SELECT a FROM t WHERE a LIKE 'pg/_\\' || '%' ESCAPE '/'",
                "SELECT a FROM t WHERE a LIKE 'pg\\_\\\\' || '%'",
            ),
            (
                "SELECT a FROM t WHERE s IN (SELECT x FROM f(current_setting('search_path')) x)",
                "SELECT a FROM t WHERE s IN ('public')",
            ),
            ("SELECT db.oid, db.*, x.oid FROM db, x", "SELECT db.oid AS \"oid_2\", db.*, x.oid FROM db, x"),
            ("SELECT ts, * FROM t", "SELECT ts AS \"ts_2\", * FROM t"),
            ("SELECT ts, ts::date, t.a, u.a FROM t, u", "SELECT ts, ts::DATE AS \"ts_2\", t.a, u.a FROM t, u"),
            ("SELECT (parse_ident('public.t'))[2]", "SELECT (ARRAY['public', 't'])[2]"),
            (
                "SELECT k, bool_and(i) FROM (SELECT k, i FROM pg_index) x GROUP BY k ORDER BY z",
                "SELECT CAST(NULL AS TEXT) AS \"k\", CAST(NULL AS TEXT) AS \"bool_and\" WHERE false",
            ),
            ("SELECT sum(value) FROM metrics WHERE name = 'x'", "SELECT sum(value) FROM metrics WHERE name = 'x'"),
        ] {
            let mut statement = DFParser::parse_sql(sql).expect(sql).pop_front().expect(sql);
            adapt(&mut statement);
            assert_eq!(statement.to_string(), expected, "{sql}");
        }
    }
}
