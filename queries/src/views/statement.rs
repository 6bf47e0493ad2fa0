//! The statements about views, from their text.
//!
//! ```sql
//! CREATE [OR REPLACE] MATERIALIZED VIEW [IF NOT EXISTS] name [WITH (option = value, …)] AS SELECT …
//! DROP MATERIALIZED VIEW [IF EXISTS] name
//! SHOW MATERIALIZED VIEWS
//! SHOW CREATE MATERIALIZED VIEW name
//! DESCRIBE name
//! EXPLAIN MATERIALIZED VIEW name
//! ```

use datafusion::sql::parser::{DFParserBuilder, Statement as SqlStatement};
use datafusion::sql::sqlparser::ast::{CreateView, ObjectName, Statement as Ast};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};

use super::error::ViewError;
use super::options::GivenOptions;

/// A statement about views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewStatement {
    /// `CREATE MATERIALIZED VIEW`.
    Create {
        /// The view's name.
        name: String,
        /// `OR REPLACE`.
        or_replace: bool,
        /// `IF NOT EXISTS`.
        if_not_exists: bool,
        /// `WITH (…)`.
        options: GivenOptions,
        /// The text after `AS`, written out in one way.
        select: String,
    },
    /// `DROP MATERIALIZED VIEW`.
    Drop {
        /// The view's name.
        name: String,
        /// `IF EXISTS`.
        if_exists: bool,
    },
    /// `SHOW MATERIALIZED VIEWS`.
    Show,
    /// `SHOW CREATE MATERIALIZED VIEW`.
    ShowCreate {
        /// The view's name.
        name: String,
    },
    /// `DESCRIBE name`; the name may be that of a stream.
    Describe {
        /// The name.
        name: String,
    },
    /// `EXPLAIN MATERIALIZED VIEW`.
    Explain {
        /// The view's name.
        name: String,
    },
}

const NAME_RULE: &str = "use 1 to 63 of a-z, 0-9 and _, beginning with a letter";
/// Names that other tables and schemas take.
const RESERVED: [&str; 8] =
    ["metrics", "rejects", "requests", "system", "information_schema", "pg_catalog", "streams", "default"];

impl ViewStatement {
    /// Reads a text; `None` when it is not a statement about views.
    ///
    /// # Errors
    /// [`ViewError`] when it begins like one and cannot be read.
    pub fn parse(sql: &str, recursion_limit: usize) -> Result<Option<Self>, ViewError> {
        let first = sql.trim_start().split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
        if first.eq_ignore_ascii_case("SELECT") || first.eq_ignore_ascii_case("WITH") {
            return Ok(None); // most are, and need not be taken apart to know
        }
        let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(None) };
        let tokens: Vec<Token> =
            tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_) | Token::SemiColon)).collect();
        let words: Vec<String> = tokens.iter().take(5).map(|token| token.to_string().to_uppercase()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let name = |before: usize| single_name(&tokens[before..]);
        Ok(Some(match words[..] {
            ["CREATE", "MATERIALIZED", ..] | ["CREATE", "OR", "REPLACE", "MATERIALIZED", ..] => {
                return create(sql, recursion_limit).map(Some);
            }
            ["DROP", "MATERIALIZED", "VIEW", "IF", "EXISTS", ..] => {
                ViewStatement::Drop { name: name(5)?, if_exists: true }
            }
            ["DROP", "MATERIALIZED", "VIEW", ..] => ViewStatement::Drop { name: name(3)?, if_exists: false },
            ["SHOW", "MATERIALIZED", "VIEWS"] => ViewStatement::Show,
            ["SHOW", "CREATE", "MATERIALIZED", "VIEW", ..] => ViewStatement::ShowCreate { name: name(4)? },
            ["EXPLAIN", "MATERIALIZED", "VIEW", ..] => ViewStatement::Explain { name: name(3)? },
            ["DESCRIBE" | "DESC", ..] => match name(1) {
                Ok(name) => ViewStatement::Describe { name },
                Err(_) => return Ok(None),
            },
            ["SHOW" | "DROP" | "EXPLAIN", "MATERIALIZED", ..] => {
                let message = "write DROP MATERIALIZED VIEW name, EXPLAIN MATERIALIZED VIEW name, SHOW MATERIALIZED \
                               VIEWS or SHOW CREATE MATERIALIZED VIEW name";
                return Err(ViewError::Sql { message: message.to_owned() });
            }
            _ => return Ok(None),
        }))
    }
}

fn create(sql: &str, recursion_limit: usize) -> Result<ViewStatement, ViewError> {
    let parser = DFParserBuilder::new(sql).with_recursion_limit(recursion_limit).build();
    let mut statements = parser.and_then(|mut parser| parser.parse_statements())?;
    let view = match (statements.pop_front(), statements.pop_front()) {
        (Some(SqlStatement::Statement(statement)), None) => match *statement {
            Ast::CreateView(view) => view,
            other => return Err(ViewError::Sql { message: format!("expected CREATE MATERIALIZED VIEW, not {other}") }),
        },
        (first, _) => {
            let rest = first.map(|first| format!(" after {first}")).unwrap_or_default();
            return Err(ViewError::Sql { message: format!("a text makes a single view; there is more{rest}") });
        }
    };
    check_clauses(&view)?;
    Ok(ViewStatement::Create {
        name: view_name(&view.name)?,
        or_replace: view.or_replace,
        if_not_exists: view.if_not_exists,
        options: GivenOptions::read(&view.options)?,
        select: view.query.to_string(),
    })
}

/// Refuses the clauses that other databases know.
fn check_clauses(view: &CreateView) -> Result<(), ViewError> {
    let refuse = |part: &str, reason: &str| Err(ViewError::not_maintained(part, reason));
    if view.or_replace && view.if_not_exists {
        return refuse("OR REPLACE with IF NOT EXISTS", "write one of them");
    }
    if !view.columns.is_empty() {
        let columns: Vec<String> = view.columns.iter().map(ToString::to_string).collect();
        return refuse(&format!("({})", columns.join(", ")), "name the columns in the SELECT, with AS");
    }
    let unknown = [
        (view.or_alter, "OR ALTER"),
        (view.secure, "SECURE"),
        (view.temporary, "TEMPORARY"),
        (view.copy_grants, "COPY GRANTS"),
        (!view.cluster_by.is_empty(), "CLUSTER BY"),
        (view.to.is_some(), "TO"),
        (view.comment.is_some(), "COMMENT"),
        (view.with_no_schema_binding, "WITH NO SCHEMA BINDING"),
        (view.params.is_some(), "ALGORITHM, DEFINER or SQL SECURITY"),
    ];
    match unknown.iter().find(|(there, _)| *there) {
        Some((_, clause)) => refuse(clause, "it is not known here; leave it out"),
        None => Ok(()),
    }
}

fn view_name(name: &ObjectName) -> Result<String, ViewError> {
    let refuse = |reason: &str| {
        Err(ViewError::Name { what: "view", name: name.to_string().replace('"', ""), reason: reason.to_owned() })
    };
    let part = match &name.0[..] {
        [part] => part,
        [schema, part] if schema.as_ident().is_some_and(|schema| is_public(&schema.value)) => part,
        _ => return refuse("a view has a plain name, without a schema other than public"),
    };
    let Some(ident) = part.as_ident() else { return refuse(NAME_RULE) };
    let text = if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() };
    let usable = (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !usable {
        return refuse(NAME_RULE);
    }
    if RESERVED.contains(&text.as_str()) || text.ends_with("_states") {
        return refuse("it is taken by a built-in table; choose another");
    }
    Ok(text)
}

/// Whether it is the schema in which all streams and views are.
fn is_public(schema: &str) -> bool {
    schema.eq_ignore_ascii_case("public")
}

/// The name that is all there is left of a statement.
fn single_name(tokens: &[Token]) -> Result<String, ViewError> {
    match tokens {
        [Token::Word(schema), Token::Period, rest @ ..] if is_public(&schema.value) && rest.len() == 1 => {
            single_name(rest)
        }
        [Token::Word(Word { value, quote_style, .. })] => {
            Ok(if quote_style.is_some() { value.clone() } else { value.to_lowercase() })
        }
        other => {
            let rest: Vec<String> = other.iter().map(ToString::to_string).collect();
            Err(ViewError::Sql {
                message: format!("expected the name of a view and nothing more, not {:?}", rest.join(" ")),
            })
        }
    }
}
