//! The text of a SQL request: settings, if any, and then one question.
//!
//! ```sql
//! SET streamgauge.epoch = 1714521600000000;
//! SET streamgauge.partial = true;
//! SET streamgauge.pushdown = false;
//! SELECT count(*) FROM metrics
//! ```

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::sql::parser::{DFParserBuilder, Statement as SqlStatement};
use datafusion::sql::sqlparser::ast::{Expr, ObjectName, Set, Statement as Ast, Value};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Tokenizer;
use streamgauge_schemas::Epoch;

use crate::asker::OwnLimits;
use crate::error::QueryError;
use crate::options::AskOptions;
use crate::postgres::dialect;

const EPOCH: &str = "streamgauge.epoch";
const PARTIAL: &str = "streamgauge.partial";
const PUSHDOWN: &str = "streamgauge.pushdown";

/// A statement that only reads, and how it is asked.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) statement: SqlStatement,
    /// The length of its text.
    pub(crate) text_bytes: usize,
    pub(crate) options: AskOptions,
    /// The bounds that its text sets.
    pub(crate) limits: OwnLimits,
    pub(crate) parameters: Parameters,
    /// Whether it reads no tables but those that describe the program, or cancels another; whoever read it says so.
    pub(crate) about_system: bool,
    /// The names that PostgreSQL gives to its columns, as far as they have none of their own.
    pub(crate) names: Vec<Option<String>>,
}

impl Question {
    /// The columns of its answer under the names that PostgreSQL gives them.
    pub(crate) fn named(&self, schema: &SchemaRef) -> SchemaRef {
        if self.names.len() != schema.fields().len() {
            return schema.clone();
        }
        let named = |(field, name): (&Arc<Field>, &Option<String>)| match name {
            Some(name) => field.as_ref().clone().with_name(name),
            None => field.as_ref().clone(),
        };
        Arc::new(Schema::new(schema.fields().iter().zip(&self.names).map(named).collect::<Vec<_>>()))
    }
}

/// Values for the parameters of a question, `$1`, `$2`, ….
#[derive(Clone, Debug, Default)]
pub struct Parameters(Vec<ScalarValue>);

impl Parameters {
    /// From arrays, each with one value.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] for one that is no value of SQL.
    pub fn from_arrays(values: &[ArrayRef]) -> Result<Self, QueryError> {
        let value = |array: &ArrayRef| ScalarValue::try_from_array(array, 0);
        let values = values.iter().map(value).collect::<Result<_, _>>();
        values.map(Parameters).map_err(|error| QueryError::Parameter {
            parameter: "params",
            reason: format!("cannot be read: {}", error.strip_backtrace()),
        })
    }

    /// From JSON: texts, whole numbers, floats, truths and nulls; what has parts goes as the text of its JSON. A text
    /// is read as what its place needs, such as a time.
    #[must_use]
    pub fn from_json(values: &[serde_json::Value]) -> Self {
        let value = |value: &serde_json::Value| match value {
            serde_json::Value::Null => ScalarValue::Null,
            serde_json::Value::Bool(truth) => ScalarValue::Boolean(Some(*truth)),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => ScalarValue::Int64(Some(whole)),
                (None, float) => ScalarValue::Float64(float),
            },
            serde_json::Value::String(text) => ScalarValue::Utf8(Some(text.clone())),
            parts => ScalarValue::Utf8(Some(parts.to_string())),
        };
        Parameters(values.iter().map(value).collect())
    }

    pub(crate) fn values(&self) -> &[ScalarValue] {
        &self.0
    }
}

impl Question {
    /// Reads a text; its settings go before those of `options`.
    ///
    /// # Errors
    /// [`QueryError::Sql`], [`QueryError::NotAQuestion`], [`QueryError::UnknownSetting`] or [`QueryError::Parameter`].
    pub(crate) fn parse(sql: &str, options: AskOptions, recursion_limit: usize) -> Result<Self, QueryError> {
        let fail = |error| QueryError::from_datafusion(error, 0); // reading a text takes none of the bounded memory
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location();
        let tokens = tokens.map_err(|error| fail(ParserError::from(error).into()))?;
        let parser = DFParserBuilder::new(dialect::spelled_out(tokens)).with_recursion_limit(recursion_limit).build();
        let mut statements = parser.and_then(|mut parser| parser.parse_statements()).map_err(fail)?;
        let (mut options, mut limits) = (options, OwnLimits::default());
        while let Some(SqlStatement::Statement(first)) = statements.front()
            && let Ast::Set(set) = first.as_ref()
        {
            apply(set, &mut options, &mut limits)?;
            statements.pop_front();
        }
        let message = match (statements.pop_front(), statements.len()) {
            (Some(mut statement), 0) => {
                check_question(&statement)?;
                let names = dialect::names(&statement);
                dialect::adapt(&mut statement);
                let parameters = Parameters::default();
                let text_bytes = sql.len();
                return Ok(Question { statement, text_bytes, options, limits, parameters, about_system: false, names });
            }
            (Some(_), more) => {
                format!("a text asks a single question, after its settings; this one goes on with {more} more")
            }
            (None, _) => "no SQL question in the text; write one, such as SELECT count(*) FROM metrics".to_owned(),
        };
        Err(QueryError::Sql { message })
    }
}

/// Refuses statements that are not questions by their first word; the plan is looked at again later.
fn check_question(statement: &SqlStatement) -> Result<(), QueryError> {
    let inner = match statement {
        SqlStatement::Explain(explain) => return check_question(&explain.statement),
        SqlStatement::Statement(inner) => inner.as_ref(),
        other => return Err(not_a_question(other)),
    };
    match inner {
        Ast::Query(_)
        | Ast::ExplainTable { .. }
        | Ast::ShowTables { .. }
        | Ast::ShowColumns { .. }
        | Ast::ShowFunctions { .. }
        | Ast::ShowVariable { .. } => Ok(()),
        Ast::Explain { statement, .. } => check_question(&SqlStatement::Statement(statement.clone())),
        other => Err(not_a_question(other)),
    }
}

/// Refuses a statement, by its first word.
pub(crate) fn not_a_question(statement: &impl ToString) -> QueryError {
    let text = statement.to_string();
    QueryError::NotAQuestion { statement: text.split_whitespace().next().unwrap_or_default().to_uppercase() }
}

fn apply(set: &Set, options: &mut AskOptions, limits: &mut OwnLimits) -> Result<(), QueryError> {
    let (name, value) = match set {
        Set::SingleAssignment { variable, values, .. } if values.len() == 1 => (name(variable), word(&values[0])),
        other => return Err(QueryError::UnknownSetting { name: other.to_string() }),
    };
    let wrong = |parameter, expected| QueryError::Parameter {
        parameter,
        reason: format!("must be set to {expected}, and {value} is not"),
    };
    match name.as_str() {
        EPOCH => {
            let epoch = value.parse().map_err(|_| wrong(EPOCH, "an epoch, a whole number from an acknowledgement"))?;
            options.min_epoch = Some(Epoch(epoch));
        }
        PARTIAL => {
            options.partial = value.to_lowercase().parse().map_err(|_| wrong(PARTIAL, "true or false"))?;
        }
        PUSHDOWN => {
            let pushed: bool = value.to_lowercase().parse().map_err(|_| wrong(PUSHDOWN, "true or false"))?;
            options.unpushed = !pushed;
        }
        own => match limits.set(own, Some(&value)) {
            None => return Err(QueryError::UnknownSetting { name }),
            Some(Ok(())) => {}
            Some(Err(expected)) => {
                return Err(QueryError::Parameter {
                    parameter: "SET",
                    reason: format!("{name} must be set to {expected}, and {value} is not"),
                });
            }
        },
    }
    Ok(())
}

fn name(name: &ObjectName) -> String {
    let parts: Vec<String> = name
        .0
        .iter()
        .map(|part| part.as_ident().map_or_else(|| part.to_string(), |ident| ident.value.clone()))
        .collect();
    parts.join(".").to_lowercase()
}

/// A value as it was meant, with quotes or without.
fn word(value: &Expr) -> String {
    match value {
        Expr::Value(literal) => match &literal.value {
            Value::SingleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        Expr::Identifier(ident) => ident.value.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(sql: &str) -> Result<(String, Option<u64>, bool), QueryError> {
        let options = AskOptions { min_epoch: Some(Epoch(7)), ..AskOptions::default() };
        let question = Question::parse(sql, options, 50)?;
        Ok((question.statement.to_string(), question.options.min_epoch.map(|epoch| epoch.0), question.options.partial))
    }

    #[test]
    fn settings_stand_before_the_question_and_win() {
        for (sql, epoch, partial) in [
            ("SELECT 1", 7, false),
            ("SET streamgauge.epoch = 123; SELECT 1", 123, false),
            ("set StreamGauge.Epoch TO '123';;\n-- now\nSELECT 1;", 123, false),
            ("SET streamgauge.partial = true; SET streamgauge.epoch = 18446744073709551615; SELECT 1", u64::MAX, true),
            ("SET statement_timeout = '5s'; SET streamgauge.rows_max TO 10; SELECT 1", 7, false),
            ("SET streamgauge.partial = TRUE; SET streamgauge.partial = 'false'; SELECT 1", 7, false),
            ("SET SESSION \"streamgauge\".\"partial\" = true; SELECT 1", 7, true),
        ] {
            assert_eq!(parse(sql).expect(sql), ("SELECT 1".to_owned(), Some(epoch), partial), "{sql}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_what_would_be_taken() {
        for (sql, says) in [
            (
                "SET datafusion.execution.batch_size = 1; SELECT 1",
                "streamgauge.epoch, streamgauge.partial and streamgauge.pushdown",
            ),
            ("SET TIME ZONE 'UTC'; SELECT 1", "streamgauge.epoch, streamgauge.partial and streamgauge.pushdown"),
            ("SET streamgauge.epoch = 'now'; SELECT 1", "streamgauge.epoch must be set to an epoch"),
            ("SET streamgauge.epoch = -1; SELECT 1", "-1 is not"),
            ("SET statement_timeout = soon; SELECT 1", "statement_timeout must be set to a time"),
            ("SET streamgauge.epoch = 1.5; SELECT 1", "1.5 is not"),
            ("SET streamgauge.partial = 1; SELECT 1", "true or false"),
            ("SET streamgauge.pushdown = 1; SELECT 1", "true or false"),
            ("SET streamgauge.partial = true", "no SQL question"),
            ("", "no SQL question"),
            ("SELECT 1; SELECT 2", "a single question"),
            ("SELECT 1; SET streamgauge.partial = true", "a single question"),
            ("SET streamgauge.partial = true; DROP TABLE metrics", "DROP is not answered here"),
            ("RESET streamgauge.partial", "RESET is not answered here"),
        ] {
            let error = parse(sql).expect_err(sql).to_string();
            assert!(error.contains(says), "{sql}: {error}");
        }
    }
}
