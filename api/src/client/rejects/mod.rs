//! `streamgauge rejects`: the events that were not accepted, and what becomes of them after a fix.
//!
//! The server keeps them in its table `rejects`. One that was sent again and accepted left its key in the table
//! `requests`, and is not listed any more.
//!
//! # Layout
//!
//! - this file: which rejects, and `streamgauge rejects list`.
//! - [`replay`]: `streamgauge rejects replay`.

mod replay;

use std::time::Duration as StdDuration;

use serde::Deserialize;
use serde_json::Value;
use streamgauge_schemas::Duration;
use tokio_util::sync::CancellationToken;

use super::ServerArgs;
use super::connection::{Ask, Connection, SQL_PATH};
use super::error::ClientError;
use super::progress::grouped;
use super::table::Table;

/// Rejects that are listed when no limit is given.
const LISTED_MAX: u64 = 100;

/// What the key of a reject that is sent again begins with; its id follows.
const KEY_PREFIX: &str = "reject/";

/// Options of `streamgauge rejects`.
#[derive(Debug, clap::Args)]
pub(crate) struct RejectsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show rejects that were not accepted since, newest first
    List(ListArgs),
    /// Send rejects again, such as after a fix of the stream or of the clock; what is accepted counts once
    Replay(replay::ReplayArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    filter: Filter,
}

/// Which rejects.
#[derive(Clone, Debug, Default, clap::Args)]
struct Filter {
    /// Only those that were meant for this stream
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Only those with this text in their reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only those that arrived within this time before now, such as 1h
    #[arg(long, value_name = "TIME")]
    since: Option<Duration>,
    /// So many at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// A row of the table `rejects`.
#[derive(Clone, Debug, Default, Deserialize)]
struct Reject {
    at: String,
    stream: Option<String>,
    source: Option<String>,
    reason: Option<String>,
    event: Option<String>,
    id: Option<String>,
}

const COLUMNS: [&str; 7] = ["at", "stream", "source", "position", "reason", "event", "id"];

/// Runs one of the commands.
pub(crate) async fn run(args: RejectsArgs) -> anyhow::Result<()> {
    match args.command {
        Command::List(args) => list(args).await,
        Command::Replay(args) => replay::run(args).await,
    }
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let connection = Connection::new(&args.server.url, StdDuration::ZERO, CancellationToken::new())?;
    let limit = args.filter.limit.unwrap_or(LISTED_MAX);
    let sql = args.filter.sql("", "ORDER BY r.at DESC, r.id DESC", limit.saturating_add(1));
    let answer = connection.ask_json(Ask::sql(&sql, "json")).await?;
    let rows = serde_json::from_value(answer["rows"].clone());
    let mut rows: Vec<Vec<Value>> = rows.map_err(|e| connection.wrong_answer(SQL_PATH, e.to_string()))?;
    let more = if rows.len() as u64 > limit { ", and more: use --limit" } else { "" };
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    if rows.is_empty() {
        println!("no rejects");
        return Ok(());
    }
    print!("{}", Table::of_values(&COLUMNS, &rows).aligned(None).0);
    eprintln!("{} {}{more}", grouped(rows.len() as u64), if rows.len() == 1 { "reject" } else { "rejects" });
    Ok(())
}

impl Filter {
    /// The rejects that pass and were not accepted since; `condition` is more to pass, beginning with AND.
    ///
    /// None is older than 30 days: ClickHouse may keep a reject for longer than the request that sent it again.
    fn sql(&self, condition: &str, order: &str, limit: u64) -> String {
        let columns = COLUMNS.map(|column| format!("r.{column}")).join(", ");
        let mut sql = format!(
            "SELECT {columns} FROM rejects r WHERE NOT EXISTS \
             (SELECT 1 FROM requests q WHERE q.key = '{KEY_PREFIX}' || r.id AND q.key LIKE '{KEY_PREFIX}%' AND q.accepted > 0) \
             AND r.at > now() - INTERVAL '30 days'"
        );
        if let Some(stream) = &self.stream {
            sql.push_str(&format!(" AND r.stream = {}", literal(stream)));
        }
        if let Some(reason) = &self.reason {
            sql.push_str(&format!(" AND strpos(r.reason, {}) > 0", literal(reason)));
        }
        if let Some(since) = self.since {
            sql.push_str(&format!(" AND r.at > now() - INTERVAL '{} microseconds'", since.as_micros()));
        }
        format!("{sql}{condition} {order} LIMIT {limit}")
    }

    /// The first `limit` rejects after another one, oldest first.
    async fn page(
        &self,
        connection: &Connection,
        after: Option<&Reject>,
        limit: u64,
    ) -> Result<Vec<Reject>, ClientError> {
        let condition = after.map(|last| {
            let (at, id) = (literal(&last.at), literal(last.id.as_deref().unwrap_or_default()));
            format!(" AND (r.at > {at} OR (r.at = {at} AND r.id > {id}))")
        });
        let sql = self.sql(&condition.unwrap_or_default(), "ORDER BY r.at, r.id", limit);
        let lines = connection.ask_bytes(Ask::sql(&sql, "ndjson")).await?;
        let rejects = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice);
        rejects
            .collect::<Result<_, _>>()
            .map_err(|e| connection.wrong_answer(SQL_PATH, format!("expected rejects: {e}")))
    }
}

/// A text in SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        args: RejectsArgs,
    }

    #[test]
    fn filters_become_conditions() {
        let line = ["rejects", "list", "--stream", "it's", "--reason", "too 'far'", "--since", "1h", "--limit", "5"];
        let Command::List(args) = Program::try_parse_from(line).unwrap().args.command else { panic!("it lists") };
        let sql = args.filter.sql("", "ORDER BY r.at", 6);
        for part in [
            "r.stream = 'it''s'",
            "strpos(r.reason, 'too ''far''') > 0",
            "r.at > now() - INTERVAL '3600000000 microseconds'",
            "q.key = 'reject/' || r.id",
        ] {
            assert!(sql.contains(part), "{part}: {sql}");
        }
        assert!(sql.ends_with("ORDER BY r.at LIMIT 6"), "{sql}");
        let all = Filter::default().sql("", "", 1);
        assert!(!all.contains("strpos") && !all.contains("r.stream =") && all.contains("INTERVAL '30 days'"), "{all}");
        for wrong in [&["rejects"][..], &["rejects", "list", "--limit", "0"], &["rejects", "replay", "--since", "soon"]]
        {
            assert!(Program::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }
}
