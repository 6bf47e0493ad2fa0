//! `streamgauge rejects replay`: sends rejects again, each in a request of its own.
//!
//! Each request is named by the reject's id, so one that was accepted is not accepted again, however often and from
//! wherever it is sent. One that is refused again stays in the table as it is; no second reject is made of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::super::connection::{Ask, Connection};
use super::super::error::ClientError;
use super::super::progress::grouped;
use super::super::{ServerArgs, stop};
use super::{Filter, KEY_PREFIX, Reject};

/// Rejects that are read at a time.
const PAGE_REJECTS: u64 = 1_000;
/// Requests at a time.
const REQUESTS_MAX: usize = 16;
/// How long to try again while the server is away or busy.
const RETRY_FOR: Duration = Duration::from_secs(60);
/// Reasons that are printed.
const REASONS_PRINTED: usize = 10;
/// Different reasons that are counted apart.
const REASONS_MAX: usize = 10_000;
const INGEST: &str = "/api/v1/ingest";
const METRICS: &str = "metrics";

/// Options of `streamgauge rejects replay`.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    filter: Filter,
    /// Send nothing; say what would be sent
    #[arg(long)]
    dry_run: bool,
}

/// What became of a reject.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Accepted,
    /// By an earlier request of the same name.
    AcceptedBefore,
    /// For this reason.
    Refused(String),
    /// The stream of this name is not there.
    NoStream(String),
    /// Nothing was sent.
    Counted {
        stream: String,
        reason: String,
    },
}

/// What became of all of them.
#[derive(Debug, Default)]
struct Report {
    accepted: u64,
    accepted_before: u64,
    refused: u64,
    counted: u64,
    reasons: BTreeMap<String, u64>,
    no_stream: BTreeMap<String, u64>,
}

/// Sends the rejects and prints what became of them; ends well when none is refused.
pub(super) async fn run(args: ReplayArgs) -> anyhow::Result<()> {
    let connection = Connection::new(&args.server.url, RETRY_FOR, stop::on_signal()?)?;
    let mut report = Report::default();
    let outcome = replay(&connection, &args, &mut report).await;
    println!("{}", report.describe(args.dry_run));
    match outcome {
        Ok(()) | Err(ClientError::Stopped) => {}
        Err(error) => return Err(error.into()),
    }
    anyhow::ensure!(report.refused == 0, "{} still refused; they stay in the table rejects", grouped(report.refused));
    Ok(())
}

async fn replay(connection: &Connection, args: &ReplayArgs, report: &mut Report) -> Result<(), ClientError> {
    let mut left = args.filter.limit.unwrap_or(u64::MAX);
    let mut last = None;
    while left > 0 {
        let limit = left.min(PAGE_REJECTS);
        let page = args.filter.page(connection, last.as_ref(), limit).await?;
        left = if (page.len() as u64) < limit { 0 } else { left - limit };
        last = page.last().cloned();
        let mut outcomes =
            stream::iter(page).map(|reject| send(connection, reject, args.dry_run)).buffer_unordered(REQUESTS_MAX);
        while let Some(outcome) = outcomes.next().await {
            report.add(outcome?);
        }
    }
    Ok(())
}

async fn send(connection: &Connection, reject: Reject, dry_run: bool) -> Result<Outcome, ClientError> {
    let stream = reject.stream.clone().unwrap_or_default();
    if dry_run {
        return Ok(Outcome::Counted { stream, reason: reject.reason.unwrap_or_default() });
    }
    if !is_name(&stream) {
        return Ok(Outcome::NoStream(stream));
    }
    let path = path(&stream, &reject);
    let ask = if path == INGEST {
        Ask::post_document(&path, document(&reject))
    } else {
        Ask::post_events(&path, line(&reject))
    };
    let ask = ask.named(format!("{KEY_PREFIX}{}", reject.id.unwrap_or_default())).with(&[("rejects", "report")]);
    match connection.send_events(ask).await {
        Ok(answer) if answer.accepted > 0 && answer.replayed => Ok(Outcome::AcceptedBefore),
        Ok(answer) if answer.accepted > 0 => Ok(Outcome::Accepted),
        Ok(answer) => {
            let reason = answer.rejected.into_iter().next().map(|rejected| rejected.reason);
            Ok(Outcome::Refused(reason.unwrap_or_else(|| "the server found no event in it".to_owned())))
        }
        Err(ClientError::Refused(problem)) if problem.code == "unknown_stream" => Ok(Outcome::NoStream(stream)),
        Err(ClientError::Refused(problem)) if (400..429).contains(&problem.status) => {
            Ok(Outcome::Refused(problem.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// Whether a stream can have the name; no other text becomes part of a path.
fn is_name(stream: &str) -> bool {
    !stream.is_empty() && stream.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Where the event goes: an event of metrics whose source was told goes where it can be told again.
fn path(stream: &str, reject: &Reject) -> String {
    match reject.source.as_deref() {
        Some(source) if stream == METRICS && !source.is_empty() => INGEST.to_owned(),
        _ => format!("/api/v1/streams/{stream}/events"),
    }
}

/// The event on one line. In JSON a line can only end between tokens, where a space is as good; its numbers and texts
/// stay as they were written. In what is no JSON it does not matter.
fn line(reject: &Reject) -> Bytes {
    let mut line = reject.event.clone().unwrap_or_default().replace(['\n', '\r'], " ");
    line.push('\n');
    line.into()
}

/// The event with its source.
fn document(reject: &Reject) -> Bytes {
    let source = serde_json::Value::from(reject.source.as_deref().unwrap_or_default());
    format!("{{\"source_id\":{source},\"data_points\":[{}]}}", reject.event.as_deref().unwrap_or_default()).into()
}

impl Report {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Accepted => self.accepted += 1,
            Outcome::AcceptedBefore => self.accepted_before += 1,
            Outcome::NoStream(name) => *self.no_stream.entry(name).or_default() += 1,
            Outcome::Refused(reason) => {
                self.refused += 1;
                self.count(reason);
            }
            Outcome::Counted { stream, reason } => {
                self.counted += 1;
                self.count(format!("{stream}: {reason}"));
            }
        }
    }

    fn count(&mut self, reason: String) {
        if let Some(count) = self.reasons.get_mut(&reason) {
            *count += 1;
        } else if self.reasons.len() < REASONS_MAX {
            self.reasons.insert(reason, 1);
        }
    }

    fn describe(&self, dry_run: bool) -> String {
        let mut text = match dry_run {
            true => format!("rejects replay: {} would be sent again", grouped(self.counted)),
            false => format!("rejects replay: {} accepted", grouped(self.accepted)),
        };
        let mut say = |count: u64, what: &str| {
            if count > 0 {
                let _ = write!(text, ", {} {what}", grouped(count)); // writing to a String cannot fail
            }
        };
        say(self.accepted_before, "accepted before");
        say(self.refused, "still refused");
        let names: Vec<&str> = self.no_stream.keys().map(String::as_str).take(REASONS_PRINTED).collect();
        say(self.no_stream.values().sum(), &format!("left out, of streams that are not there: {}", names.join(", ")));
        let mut reasons: Vec<(&String, u64)> = self.reasons.iter().map(|(reason, count)| (reason, *count)).collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (reason, count) in reasons.iter().take(REASONS_PRINTED) {
            let _ = write!(text, "\n  {}: {reason}", grouped(*count));
        }
        let named: u64 = reasons.iter().take(REASONS_PRINTED).map(|(_, count)| count).sum();
        let others = (self.refused + self.counted).saturating_sub(named);
        if others > 0 {
            let _ = write!(text, "\n  {}: other reasons", grouped(others));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(stream: &str, source: &str, event: &str) -> Reject {
        let some = |text: &str| Some(text.to_owned());
        Reject { stream: some(stream), source: some(source), event: some(event), ..Reject::default() }
    }

    #[test]
    fn an_event_goes_where_it_came_from_and_as_it_was_written() {
        let sent = |reject: Reject| {
            let path = path(reject.stream.as_deref().unwrap(), &reject);
            let body = if path == INGEST { document(&reject) } else { line(&reject) };
            (path, String::from_utf8(body.to_vec()).unwrap())
        };
        let check =
            |reject: Reject, path: &str, body: &str| assert_eq!(sent(reject), (path.to_owned(), body.to_owned()));
        let events = |stream: &str| format!("/api/v1/streams/{stream}/events");
        let text = "{\r\n \"value\": 1.000000000000000000001,\n\"x\":\"a\\nb\"}";
        check(
            reject("orders", "a", text),
            &events("orders"),
            "{   \"value\": 1.000000000000000000001, \"x\":\"a\\nb\"}\n",
        );
        check(reject("metrics", "", "{\"value\":"), &events("metrics"), "{\"value\":\n");
        check(
            reject("metrics", "a \"b\"", "{\"value\": NaN}"),
            INGEST,
            "{\"source_id\":\"a \\\"b\\\"\",\"data_points\":[{\"value\": NaN}]}",
        );
        for (name, usable) in [("orders_2", true), ("", false), ("../x", false), ("A", false), ("a b", false)] {
            assert_eq!(is_name(name), usable, "{name}");
        }
    }

    #[test]
    fn a_report_counts_and_names_the_most_frequent_reasons() {
        let mut report = Report::default();
        [Outcome::Accepted, Outcome::AcceptedBefore, Outcome::Accepted].into_iter().for_each(|o| report.add(o));
        assert_eq!(report.describe(false), "rejects replay: 2 accepted, 1 accepted before");
        for index in 0..15 {
            (0..=index).for_each(|_| report.add(Outcome::Refused(format!("reason {index}"))));
        }
        report.add(Outcome::NoStream("old".into()));
        let text = report.describe(false);
        assert!(text.contains(", 120 still refused, 1 left out, of streams that are not there: old\n"), "{text}");
        assert!(
            text.contains("\n  15: reason 14\n  14: reason 13\n") && text.ends_with("\n  15: other reasons"),
            "{text}"
        );
        let mut dry = Report::default();
        dry.add(Outcome::Counted { stream: "orders".into(), reason: "too far".into() });
        assert_eq!(dry.describe(true), "rejects replay: 1 would be sent again\n  1: orders: too far");
    }
}
