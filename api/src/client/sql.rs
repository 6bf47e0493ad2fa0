//! `streamgauge sql`: one statement, its result as a table or in a format for programs.

use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::connection::{Ask, Connection, SQL_PATH};
use super::progress::grouped;
use super::{ServerArgs, table};

/// Options of `streamgauge sql`.
#[derive(Debug, clap::Args)]
pub(crate) struct SqlArgs {
    /// The statement; read from standard input when it is left out
    statement: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Aligned columns for people
    Table,
    /// One JSON object with columns and rows
    Json,
    /// A JSON object a line
    Ndjson,
    /// Comma-separated, with a header
    Csv,
}

/// An answer in the format `json`.
#[derive(Debug, Deserialize)]
struct Answer {
    columns: Vec<AnswerColumn>,
    rows: Vec<Vec<Value>>,
    #[serde(default)]
    elapsed_ms: f64,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    partial: Option<Partial>,
}

#[derive(Debug, Deserialize)]
struct Partial {
    missing: String,
}

#[derive(Debug, Deserialize)]
struct AnswerColumn {
    name: String,
}

/// Runs the statement and prints its result; the footer goes to standard error, so that a pipe gets rows only.
pub(crate) async fn run(args: SqlArgs) -> anyhow::Result<()> {
    let statement = match args.statement {
        Some(statement) => statement,
        None => read_statement()?,
    };
    anyhow::ensure!(!statement.trim().is_empty(), "there is no statement; write streamgauge sql \"SELECT …\"");
    let connection = Connection::new(&args.server.url, Duration::ZERO, CancellationToken::new())?;
    let format = match args.format {
        Format::Table | Format::Json => "json",
        Format::Ndjson => "ndjson",
        Format::Csv => "csv",
    };
    let ask = Ask::sql(&statement, format);
    if args.format == Format::Table {
        let answer = connection.ask_json(ask).await?;
        let answer: Answer =
            serde_json::from_value(answer).map_err(|e| connection.wrong_answer(SQL_PATH, e.to_string()))?;
        let columns: Vec<String> = answer.columns.iter().map(|column| column.name.clone()).collect();
        print(table::render(&columns, &answer.rows).as_bytes())?;
        eprintln!("{}", footer(&answer));
        return Ok(());
    }
    let mut response = connection.ask(ask).await?;
    let mut ends_line = true;
    while let Some(chunk) = response.chunk().await.context("the connection ended within the result")? {
        ends_line = chunk.ends_with(b"\n");
        if !print(&chunk)? {
            return Ok(());
        }
    }
    if !ends_line {
        print(b"\n")?;
    }
    Ok(())
}

fn read_statement() -> anyhow::Result<String> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        eprintln!("reading a statement from the terminal; end it with Ctrl-D");
    }
    let mut statement = String::new();
    input.read_to_string(&mut statement).context("cannot read the statement from standard input")?;
    Ok(statement)
}

/// Writes to standard output; false when its reader has gone, as `head` does.
fn print(bytes: &[u8]) -> anyhow::Result<bool> {
    let mut output = std::io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write the result"),
    }
}

fn footer(answer: &Answer) -> String {
    let rows = answer.rows.len() as u64;
    let cut = if answer.truncated {
        ", and more that the server left out (narrow the statement or use --format csv)"
    } else {
        ""
    };
    let missing = answer.partial.as_ref().map(|partial| format!("; {}", partial.missing)).unwrap_or_default();
    let noun = if rows == 1 { "row" } else { "rows" };
    format!("{} {noun} in {:.1} ms{cut}{missing}", grouped(rows), answer.elapsed_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_footer_counts_rows_and_says_when_some_are_missing() {
        let check = |answer: Value, expected: &str| {
            let answer: Answer = serde_json::from_value(answer).unwrap();
            assert!(footer(&answer).starts_with(expected), "{}", footer(&answer));
        };
        let column = json!([{"name": "a", "type": "Int64"}]);
        check(json!({"columns": column, "rows": [[1]], "epoch": 5, "elapsed_ms": 1.25}), "1 row in 1.2 ms");
        check(json!({"columns": column, "rows": [[1], [2]], "truncated": true}), "2 rows in 0.0 ms, and more");
        check(json!({"columns": column, "rows": [], "partial": {"missing": "history"}}), "0 rows in 0.0 ms; history");
    }
}
