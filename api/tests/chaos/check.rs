//! The comparison: every stream and every view against the recomputation from what was acknowledged.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use streamgauge_schemas::view::built_in_rollups;

use crate::ledger::Ledger;
use crate::producers::Producers;
use crate::refusals;
use crate::report::Report;
use crate::requests::{METRICS_VIEW, STREAMS, UNNAMED, VIEW_SUFFIX};
use crate::site::Site;
use crate::support::{Client, PATIENCE};
use crate::tables::Table;

/// The place of the sum among the numbers of a row.
const SUM: &[usize] = &[1];
/// How long ClickHouse may take to have everything after the load has ended.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(120);

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    /// The program, over memory and history.
    Program,
    /// ClickHouse, behind its back.
    ClickHouse,
}

/// Compares while part of everything is in memory and part in ClickHouse, when what was set aside is back. Producers stay
/// paused.
pub(crate) async fn across_the_seam(site: &mut Site, producers: &Producers, report: &mut Report) -> anyhow::Result<()> {
    report.restored(&refusals::until_restored(site).await?);
    producers.pause().await?;
    site.check_alive()?;
    compare(Whom::Program, site.client(), producers).await
}

/// Compares across the seam, when all was flushed by itself, and after a graceful end and another start; in the end
/// also what ClickHouse itself says.
pub(crate) async fn everything(site: &mut Site, producers: &Producers, report: &mut Report) -> anyhow::Result<()> {
    across_the_seam(site, producers, report).await.context("across the seam")?;
    let epoch = producers.ledger().epoch;
    caught_up(site.client(), epoch).await?;
    compare(Whom::Program, site.client(), producers).await.context("when all was flushed")?;
    site.terminate().await?;
    site.start(None).await?;
    compare(Whom::ClickHouse, site.client(), producers).await.context("in ClickHouse, after a graceful end")?;
    compare(Whom::Program, site.client(), producers).await.context("after a graceful end")?;
    site.terminate().await
}

/// Waits until ClickHouse has everything up to an epoch.
async fn caught_up(client: &Client, epoch: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let status = client.get("/api/v1/status").await.json();
        let items = status["flush"].as_array().with_context(|| format!("no flushes in {status}"))?;
        let behind: Vec<&Value> = items.iter().filter(|item| item["epoch"].as_u64() < Some(epoch)).collect();
        if behind.is_empty() {
            return Ok(());
        }
        ensure!(began.elapsed() < CAUGHT_UP_WITHIN, "not flushed up to {epoch} in {CAUGHT_UP_WITHIN:?}: {behind:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn compare(whom: Whom, client: &Client, producers: &Producers) -> anyhow::Result<()> {
    let mut differences = settle(whom, client, producers).await?;
    let made = producers.ledger().made.clone();
    differences.extend(missing_streams(client, &made).await);
    for question in questions(whom) {
        let found = ask(whom, client, &question.sql, question.names).await?;
        let found = if question.table == "rejects" { by_mark(&found) } else { found };
        let expected = (question.expected)(&producers.ledger());
        differences.extend(found.differences(&question.table, &expected, question.sums));
    }
    ensure!(
        differences.is_empty(),
        "{} differences, as {whom:?} says:\n  {}",
        differences.len(),
        differences.join("\n  ")
    );
    Ok(())
}

/// Settles what became of requests without a key, as the raw events show it.
async fn settle(whom: Whom, client: &Client, producers: &Producers) -> anyhow::Result<Vec<String>> {
    let sql = format!("SELECT dimensions['host'], count(*) FROM metrics WHERE name = '{UNNAMED}' GROUP BY 1");
    let found = ask(whom, client, &sql, 1).await?;
    let found: BTreeMap<String, u64> = found.rows().map(|(name, n)| (name[0].clone(), n[0] as u64)).collect();
    Ok(producers.ledger().settle(&found))
}

/// Streams that were made and are not listed.
async fn missing_streams(client: &Client, made: &[String]) -> Vec<String> {
    let listed = client.get("/api/v1/streams").await.json();
    let is_listed =
        |name: &&String| listed["streams"].as_array().is_some_and(|all| all.iter().any(|s| s["name"] == **name));
    made.iter().filter(|name| !is_listed(name)).map(|name| format!("the stream {name} is gone")).collect()
}

/// A question, and what must be answered.
struct Question {
    table: String,
    sql: String,
    /// Columns that name a row.
    names: usize,
    /// Places of sums among the other columns.
    sums: &'static [usize],
    expected: Box<dyn Fn(&Ledger) -> Table + Send>,
}

fn questions(whom: Whom) -> Vec<Question> {
    let mut questions = Vec::new();
    let mut question = |table: &str, sql: String, names, sums, expected: Box<dyn Fn(&Ledger) -> Table + Send>| {
        questions.push(Question { table: table.to_owned(), sql, names, sums, expected });
    };
    let raw =
        "SELECT name, dimensions['host'], count(*), sum(value), min(value), max(value) FROM metrics GROUP BY 1, 2";
    question("metrics", raw.to_owned(), 2, SUM, Box::new(Ledger::series));
    for view in built_in_rollups() {
        let bucket = match whom {
            Whom::Program => "CAST(bucket AS BIGINT)",
            Whom::ClickHouse => "toUnixTimestamp64Micro(bucket)",
        };
        let columns = r#""count", "sum", "min", "max""#;
        let sql = format!("SELECT {bucket}, name, dimensions['host'], {columns} FROM {}", view.definition.name);
        let width = view.definition.bucket.as_ref().and_then(|bucket| bucket.width).unwrap();
        question(&view.definition.name, sql, 3, SUM, Box::new(move |ledger| ledger.buckets(width)));
    }
    for stream in STREAMS {
        // Numbers are all different, so their count shows a repeat.
        let sql = format!(
            "SELECT producer, count(DISTINCT n), sum(value), min(value), max(value) FROM {stream} GROUP BY producer"
        );
        question(stream, sql, 1, SUM, Box::new(move |ledger| ledger.stream(stream)));
        let sql = sql_of_count(stream);
        question(stream, sql, 1, &[], Box::new(move |ledger| counts(&ledger.stream(stream))));
        let view = format!("{stream}{VIEW_SUFFIX}");
        let sql = format!("SELECT producer, events, total, least, most FROM {view}");
        question(&view, sql, 1, SUM, Box::new(move |ledger| ledger.stream(stream)));
    }
    let sql = format!(
        "SELECT name, host, sum(events), sum(total), min(least), max(most) FROM {METRICS_VIEW} GROUP BY name, host"
    );
    question(METRICS_VIEW, sql, 2, SUM, Box::new(Ledger::series));
    let rejects = "SELECT stream, event, 1, position FROM rejects";
    question("rejects", rejects.to_owned(), 2, &[], Box::new(Ledger::rejects));
    let name = match whom {
        Whom::Program => r#"coalesce("key", concat(producer, '/', CAST("sequence" AS VARCHAR)))"#,
        Whom::ClickHouse => r#"coalesce("key", concat(producer, '/', toString("sequence")))"#,
    };
    // A reject is {"index": …, "reason": …}, so their number is that of a key which reasons do not quote.
    let rejected = r#"(length(rejected) - length(replace(rejected, '"index":', ''))) / 8"#;
    let requests = format!("SELECT stream, {name}, 1, accepted, {rejected} FROM requests");
    question("requests", requests, 2, &[], Box::new(Ledger::requests));
    questions
}

fn sql_of_count(stream: &str) -> String {
    format!("SELECT producer, count(*) FROM {stream} GROUP BY producer")
}

fn counts(states: &Table) -> Table {
    Table::of_rows(states.rows().map(|(name, numbers)| (name.to_vec(), vec![numbers[0]])))
}

/// Names each reject by the mark in its event instead of by its whole text.
fn by_mark(rejects: &Table) -> Table {
    let mark = |event: &str| {
        let (_, rest) = event.split_once("mark-")?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
        Some(format!("mark-{}", &rest[..end]))
    };
    let rename = |(name, numbers): (&[String], &[f64])| {
        (vec![name[0].clone(), mark(&name[1]).unwrap_or_else(|| name[1].clone())], numbers.to_vec())
    };
    Table::of_rows(rejects.rows().map(rename))
}

/// Asks, and asks again while ClickHouse is on its way back.
async fn ask(whom: Whom, client: &Client, sql: &str, names: usize) -> anyhow::Result<Table> {
    let began = Instant::now();
    loop {
        let answer = match whom {
            Whom::Program => {
                let question = json!({"sql": sql, "format": "csv"}).to_string();
                client.try_request("POST", "/api/v1/sql", &[("content-type", "application/json")], question).await
            }
            Whom::ClickHouse => client.ask_clickhouse(&format!("{sql} FORMAT CSV")).await,
        };
        match answer {
            Ok(answer) if answer.status == 200 => {
                return Table::read(&answer.body, whom == Whom::Program, names).with_context(|| sql.to_owned());
            }
            Ok(answer) if answer.status < 500 && answer.status != 429 => bail!("{sql}\n{}", answer.text()),
            answer if began.elapsed() > PATIENCE => {
                let said = answer.map_or_else(|error| error.to_string(), |answer| answer.text().to_owned());
                bail!("{sql}\nnot answered in {PATIENCE:?}: {said}");
            }
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
