//! The statements about streams: their text, and how they are carried out.
//!
//! ```sql
//! CREATE STREAM [IF NOT EXISTS] name (column type, …) [WITH (time_column = …, order_by = 'column, …', retention = '90d')]
//! DROP STREAM [IF EXISTS] name
//! ```
//!
//! A stream whose only time is one of its columns need not name it.

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast::{DataType as SqlType, Expr, Ident, ObjectNamePart, SqlOption};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use streamgauge_engine::{Engine, EngineError};
use streamgauge_schemas::stream::METRICS;
use streamgauge_schemas::{Column, ColumnType, Duration, StreamDefinition};

use crate::error::QueryError;
use crate::views::{said, text_of};

/// A statement about streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamStatement {
    /// `CREATE STREAM`.
    Create { definition: StreamDefinition, if_not_exists: bool },
    /// `DROP STREAM`.
    Drop { name: String, if_exists: bool },
}

const FORM: &str = "write CREATE STREAM name (column type, …) WITH (time_column = …), or DROP STREAM name";
const TYPES: &str = "there are text, bigint, double, boolean, timestamp and json";
const OPTIONS: &str = "there are time_column, order_by and retention";

impl StreamStatement {
    /// Reads a text; `None` when it is not a statement about streams.
    ///
    /// # Errors
    /// [`QueryError::Sql`] when it begins like one and cannot be read.
    pub(crate) fn parse(sql: &str) -> Result<Option<Self>, QueryError> {
        let first = sql.trim_start().split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
        if first.eq_ignore_ascii_case("SELECT") || first.eq_ignore_ascii_case("WITH") {
            return Ok(None); // most are, and need not be taken apart to know
        }
        let Ok(mut parser) = Parser::new(&GenericDialect {}).try_with_sql(sql) else { return Ok(None) };
        let creates = parser.parse_keyword(Keyword::CREATE);
        if !creates && !parser.parse_keyword(Keyword::DROP) {
            return Ok(None);
        }
        if !matches!(parser.next_token().token, Token::Word(word) if word.value.eq_ignore_ascii_case("STREAM")) {
            return Ok(None);
        }
        let statement = if creates { create(&mut parser)? } else { drop_stream(&mut parser).map_err(unread)? };
        while parser.consume_token(&Token::SemiColon) {}
        match parser.peek_token().token {
            Token::EOF => Ok(Some(statement)),
            more => Err(invalid(format!("the statement goes on with {more}; {FORM}"))),
        }
    }

    /// Carries it out.
    ///
    /// # Errors
    /// [`QueryError::Engine`] for what the engine does not take.
    pub(crate) async fn run(self, engine: &Engine) -> Result<RecordBatch, QueryError> {
        let answer = |what, name: &str| Ok(said("stream", what, name));
        match self {
            StreamStatement::Create { definition, if_not_exists } => {
                let name = definition.name.clone();
                match engine.create_stream(definition).await {
                    Ok((_, true)) => answer("was made", &name),
                    Ok((_, false)) | Err(EngineError::StreamExists(_))
                        if if_not_exists && engine.stream(&name).is_some() =>
                    {
                        answer("is there already, and was left as it is", &name)
                    }
                    Ok((_, false)) => Err(EngineError::StreamExists(name).into()),
                    Err(error) => Err(error.into()),
                }
            }
            StreamStatement::Drop { name, if_exists } => {
                let is_built_in = name == METRICS || engine.stream(&name).is_some_and(|stream| stream.id.is_built_in());
                if is_built_in {
                    return Err(invalid(format!("the stream {name} is part of the program and cannot be dropped")));
                }
                match engine.drop_stream(&name).await {
                    Ok(()) => answer("was dropped", &name),
                    Err(EngineError::UnknownStream(_)) if if_exists => answer("is not there", &name),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

fn create(parser: &mut Parser<'_>) -> Result<StreamStatement, QueryError> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = stream_name(parser).map_err(unread)?;
    parser.expect_token(&Token::LParen).map_err(unread)?;
    let (mut columns, mut never_null) = (Vec::new(), Vec::new());
    loop {
        let name = folded(&parser.parse_identifier().map_err(unread)?);
        let kind = column_type(&name, &parser.parse_data_type().map_err(unread)?)?;
        if parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]) {
            never_null.push(name.clone());
        } else {
            let _may_be_null = parser.parse_keyword(Keyword::NULL); // it may be so in any case
        }
        columns.push(Column { name, kind });
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    parser.expect_token(&Token::RParen).map_err(unread)?;
    let Options { time_column, order_by, retention } = options(parser)?;
    let time_column = match time_column {
        None => only_time(&columns)?,
        Some(name) if columns.iter().any(|column| column.name == name) => name,
        Some(name) => return Err(invalid(format!("time_column names {name}, which is not a column"))),
    };
    if let Some(column) = never_null.iter().find(|column| **column != time_column) {
        let reason = "leave NOT NULL out: every column but the time may be null, so that no event is refused for it";
        return Err(invalid(format!("column {column}: {reason}")));
    }
    let definition = StreamDefinition { name, time_column, columns, order_by: order_by.unwrap_or_default(), retention };
    Ok(StreamStatement::Create { definition, if_not_exists })
}

/// What `WITH (…)` says.
#[derive(Default)]
struct Options {
    time_column: Option<String>,
    order_by: Option<Vec<String>>,
    retention: Option<Duration>,
}

fn options(parser: &mut Parser<'_>) -> Result<Options, QueryError> {
    let mut given = Options::default();
    for option in parser.parse_options(Keyword::WITH).map_err(unread)? {
        let SqlOption::KeyValue { key, value } = &option else {
            return Err(invalid(format!("{option} is not an option; write name = value: {OPTIONS}")));
        };
        let text = match value {
            Expr::Identifier(ident) => folded(ident),
            other => text_of(other),
        };
        let is_twice = match key.value.to_lowercase().as_str() {
            "time_column" => given.time_column.replace(text).is_some(),
            "order_by" => {
                let columns = text.split(',').map(|column| column.trim().to_owned()).collect();
                given.order_by.replace(columns).is_some()
            }
            "retention" => {
                let refused = |_| invalid(format!("retention = {value} is no duration; write one such as '90d'"));
                given.retention.replace(text.parse().map_err(refused)?).is_some()
            }
            other => return Err(invalid(format!("the option {other} is not known; {OPTIONS}"))),
        };
        if is_twice {
            return Err(invalid(format!("the option {key} is there twice")));
        }
    }
    Ok(given)
}

fn drop_stream(parser: &mut Parser<'_>) -> Result<StreamStatement, ParserError> {
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    Ok(StreamStatement::Drop { name: stream_name(parser)?, if_exists })
}

/// A name, which may stand in the schema of streams.
fn stream_name(parser: &mut Parser<'_>) -> Result<String, ParserError> {
    let name = parser.parse_object_name(false)?;
    let idents: Vec<String> = name.0.iter().filter_map(ObjectNamePart::as_ident).map(folded).collect();
    match &idents[..] {
        [name] => Ok(name.clone()),
        [schema, name] if schema == "public" => Ok(name.clone()),
        _ => Err(ParserError::ParserError(format!(
            "{name} is no name of a stream; it has a plain name, without a schema"
        ))),
    }
}

/// The name as SQL means it: without quotes, case does not matter.
fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn only_time(columns: &[Column]) -> Result<String, QueryError> {
    let times: Vec<&Column> = columns.iter().filter(|column| column.kind == ColumnType::Timestamp).collect();
    match times[..] {
        [time] => Ok(time.name.clone()),
        [] => Err(invalid("a stream has a time for each event: add a column such as at timestamp".to_owned())),
        _ => {
            let names: Vec<&str> = times.iter().map(|column| column.name.as_str()).collect();
            Err(invalid(format!(
                "which of {} is the time of an event? Say so: WITH (time_column = {})",
                names.join(", "),
                names[0]
            )))
        }
    }
}

fn column_type(column: &str, kind: &SqlType) -> Result<ColumnType, QueryError> {
    let text = if matches!(kind, SqlType::Array(_)) { String::new() } else { kind.to_string().to_uppercase() };
    match text.split(['(', '<']).next().unwrap_or_default().trim() {
        "TEXT" | "STRING" | "VARCHAR" | "CHARACTER VARYING" | "CHAR VARYING" | "CHAR" | "CHARACTER" | "UUID" => {
            Ok(ColumnType::Text)
        }
        "BIGINT" | "INT" | "INTEGER" | "SMALLINT" | "TINYINT" | "INT2" | "INT4" | "INT8" | "INT64" | "I64" => {
            Ok(ColumnType::I64)
        }
        "DOUBLE" | "DOUBLE PRECISION" | "FLOAT" | "REAL" | "FLOAT4" | "FLOAT8" | "FLOAT64" | "F64" => {
            Ok(ColumnType::F64)
        }
        "BOOL" | "BOOLEAN" => Ok(ColumnType::Bool),
        "TIMESTAMP" | "TIMESTAMPTZ" | "TIMESTAMP WITH TIME ZONE" | "TIMESTAMP WITHOUT TIME ZONE" | "DATETIME" => {
            Ok(ColumnType::Timestamp)
        }
        "JSON" | "JSONB" => Ok(ColumnType::Json),
        _ => Err(invalid(format!("column {column} cannot be of type {kind}; {TYPES}"))),
    }
}

fn unread(error: ParserError) -> QueryError {
    match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => invalid(format!("{text}; {FORM}")),
        ParserError::RecursionLimitExceeded => invalid(format!("it is nested too deep; {FORM}")),
    }
}

fn invalid(message: String) -> QueryError {
    QueryError::Sql { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> Result<Option<StreamStatement>, String> {
        StreamStatement::parse(sql).map_err(|error| error.to_string())
    }

    fn columns(columns: &[(&str, ColumnType)]) -> Vec<Column> {
        columns.iter().map(|(name, kind)| Column { name: (*name).into(), kind: *kind }).collect()
    }

    #[test]
    fn streams_are_defined_in_sql() {
        let all = "-- a stream\ncreate Stream IF NOT EXISTS public.Orders (At timestamp with time zone not null, customer VARCHAR(20), \
                   amount double precision, lines INTEGER NULL, paid boolean, \"details\" jsonb) \
                   WITH (retention = '90d', order_by = 'customer, at', time_column = AT);";
        let definition = StreamDefinition {
            name: "orders".into(),
            time_column: "at".into(),
            columns: columns(&[
                ("at", ColumnType::Timestamp),
                ("customer", ColumnType::Text),
                ("amount", ColumnType::F64),
                ("lines", ColumnType::I64),
                ("paid", ColumnType::Bool),
                ("details", ColumnType::Json),
            ]),
            order_by: vec!["customer".into(), "at".into()],
            retention: Some("90d".parse().unwrap()),
        };
        assert_eq!(read(all), Ok(Some(StreamStatement::Create { definition, if_not_exists: true })));
        let definition = StreamDefinition {
            name: "s".into(),
            time_column: "t".into(),
            columns: columns(&[("n", ColumnType::I64), ("t", ColumnType::Timestamp)]),
            order_by: vec![],
            retention: None,
        };
        let short = read("CREATE STREAM s (n i64, t timestamptz)");
        assert_eq!(short, Ok(Some(StreamStatement::Create { definition, if_not_exists: false })));
        let dropped = |name: &str, if_exists| Ok(Some(StreamStatement::Drop { name: name.into(), if_exists }));
        assert_eq!(read("DROP STREAM orders"), dropped("orders", false));
        assert_eq!(read("drop stream if exists \"Orders\" ;"), dropped("Orders", true));
    }

    #[test]
    fn other_statements_are_left_alone() {
        for sql in [
            "SELECT 1",
            "CREATE TABLE stream (n int)",
            "DROP TABLE stream",
            "CREATE MATERIALIZED VIEW stream AS SELECT 1",
            "stream",
            "",
        ] {
            assert_eq!(read(sql), Ok(None), "{sql}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_place_and_what_would_be_taken() {
        for (sql, says) in [
            ("CREATE STREAM", "CREATE STREAM name (column type, …)"),
            ("CREATE STREAM s", "Expected: (, found: EOF"),
            ("CREATE STREAM s (at timestamp", "Expected: ), found: EOF"),
            ("CREATE STREAM s ()", "Expected: identifier, found: ) at Line: 1, Column: 18"),
            ("CREATE STREAM a.b.s (at timestamp)", "without a schema"),
            ("CREATE STREAM s (at timestamp, x bytea)", "column x cannot be of type BYTEA; there are text, bigint"),
            ("CREATE STREAM s (n bigint)", "add a column such as at timestamp"),
            (
                "CREATE STREAM s (a timestamp, b timestamp)",
                "which of a, b is the time of an event? Say so: WITH (time_column = a)",
            ),
            ("CREATE STREAM s (at timestamp, n bigint NOT NULL)", "column n: leave NOT NULL out"),
            ("CREATE STREAM s (at timestamp PRIMARY KEY)", "Expected: ), found: PRIMARY"),
            ("CREATE STREAM s (at timestamp) WITH (ttl = '1d')", "the option ttl is not known; there are time_column"),
            ("CREATE STREAM s (at timestamp) WITH (retention = 'long')", "retention = 'long' is no duration"),
            ("CREATE STREAM s (at timestamp) WITH (retention)", "Expected: =, found: )"),
            ("CREATE STREAM s (at timestamp) WITH (time_column = ts)", "time_column names ts, which is not a column"),
            ("CREATE STREAM s (at timestamp) WITH (retention = '1d', retention = '2d')", "retention is there twice"),
            ("CREATE STREAM s (at timestamp, x varchar(20)[])", "column x cannot be of type"),
            ("CREATE STREAM s (at timestamp) AS SELECT 1", "goes on with AS"),
            ("DROP STREAM", "DROP STREAM name"),
            ("DROP STREAM a, b", "goes on with ,"),
            ("DROP STREAM a CASCADE", "goes on with CASCADE"),
        ] {
            let error = read(sql).expect_err(sql);
            assert!(error.contains(says), "{sql}: {error}");
        }
    }
}
