//! `streamgauge sql`: a shell in a terminal; otherwise statements from the command line, files or the standard input.
//!
//! Answers go to the standard output and all else to standard error, so that a pipe gets rows only.
//!
//! # Layout
//!
//! - `script`: a text as statements and commands; `command`: what begins with `\`.
//! - `session`: running statements and commands; `settings`: what is set; `catalogue`: the questions behind `\d` and its like.
//! - `answer`: rows as a table; `output`: where answers go; `place`: where in a statement an error is.
//! - `shell`: the terminal; `line`: editing, with history; `complete`: what Tab offers; `names`: what the server has.

mod answer;
mod catalogue;
mod command;
mod complete;
mod line;
mod names;
mod output;
mod place;
mod script;
mod session;
mod settings;
mod shell;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use super::ServerArgs;
use super::connection::Connection;
use super::stop::EXIT_INTERRUPTED;
use output::Output;
use session::{Interrupted, Session};

/// Options of `streamgauge sql`.
///
/// It ends with 0 when all was answered, with 1 when a statement failed or the server was away (and runs no more after that),
/// with 2 when it was called in a wrong way, and with 130 after Ctrl-C.
#[derive(Debug, clap::Args)]
pub(crate) struct SqlArgs {
    /// Statements or commands; without any, and in a terminal, the shell begins, and else they are read from standard input
    statement: Option<String>,
    /// The same; may be repeated
    #[arg(long, short, value_name = "STATEMENT")]
    command: Vec<String>,
    /// Run the statements and commands of a file, after those of the command line; - is standard input
    #[arg(long, short, value_name = "FILE")]
    file: Vec<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
    /// How answers are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write answers to a file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns for people
    Table,
    /// One JSON object with columns and rows
    Json,
    /// A JSON object a line
    Ndjson,
    /// Comma-separated, with a header
    Csv,
    /// A table of Markdown
    Markdown,
    /// An Arrow IPC stream
    Arrow,
    /// A Parquet file
    Parquet,
    /// A sheet of Excel
    Xlsx,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
            Format::Markdown => "markdown",
            Format::Arrow => "arrow",
            Format::Parquet => "parquet",
            Format::Xlsx => "xlsx",
        }
    }

    /// What is asked of the server.
    fn asked(self) -> &'static str {
        match self {
            Format::Table | Format::Markdown => "json",
            other => other.name(),
        }
    }

    /// Whether it is nothing to look at.
    fn is_binary(self) -> bool {
        matches!(self, Format::Arrow | Format::Parquet | Format::Xlsx)
    }

    /// Whether a file of it holds one answer.
    fn is_whole(self) -> bool {
        self.is_binary()
    }
}

/// Runs what the command line names, or the shell.
pub(crate) async fn run(args: SqlArgs) -> anyhow::Result<()> {
    let connection = Connection::new(&args.server.url, Duration::ZERO, CancellationToken::new())?;
    let output = args.output.map_or_else(Output::default, Output::file);
    let mut session = Session::new(connection, args.format, output)?;
    let is_asked = args.statement.is_some() || !args.command.is_empty() || !args.file.is_empty();
    if !is_asked && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        return shell::run(session).await;
    }
    let mut texts: Vec<String> = args.statement.into_iter().chain(args.command).collect();
    for file in &args.file {
        texts.push(text_of(file)?);
    }
    if !is_asked {
        texts.push(standard_input()?);
    }
    anyhow::ensure!(
        texts.iter().any(|text| !text.trim().is_empty()),
        "there is no statement; write streamgauge sql \"SELECT …\""
    );
    for text in texts {
        match session.run(&text).await {
            Err(error) if error.is::<Interrupted>() => std::process::exit(EXIT_INTERRUPTED),
            done => done?,
        };
        if session.is_over() {
            break;
        }
    }
    Ok(())
}

fn text_of(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        return standard_input();
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn standard_input() -> anyhow::Result<String> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        eprintln!("reading statements from the terminal; end them with Ctrl-D");
    }
    let mut text = String::new();
    input.read_to_string(&mut text).context("cannot read statements from standard input")?;
    Ok(text)
}
