//! What is posted: requests in every form, made from a seed, each with what it must add and what must be rejected of it.
//!
//! The bytes of a request are made once, so a repeat says exactly the same.

use std::io::Write;

use anyhow::ensure;
use flate2::{Compression, write::GzEncoder};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value, json};
use streamgauge_schemas::EventTime;
use streamgauge_schemas::time::{to_rfc3339, wall_clock};

use crate::support::Client;
use crate::support::client::{JSON, NDJSON};

/// The streams that are made beside `metrics`.
pub(crate) const STREAMS: [&str; 2] = ["chaos_doors", "chaos_orders"];
/// The metric whose every series is one request that has no key.
pub(crate) const UNNAMED: &str = "chaos_unnamed";

const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND_US;
const DAY_US: i64 = 24 * HOUR_US;

/// How a request names itself, so that a repeat is known.
#[derive(Clone, Debug)]
pub(crate) enum Naming {
    Key(String),
    Sequence { producer: String, sequence: u64 },
    Unnamed,
}

/// A request, and what must come of it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) naming: Naming,
    pub(crate) stream: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Events that it adds.
    pub(crate) good: Vec<Good>,
    /// Events that are rejected: position and mark.
    pub(crate) bad: Vec<(u64, String)>,
}

/// An event that is added: for `metrics` the series is name and host, for another stream its producer and nothing.
#[derive(Clone, Debug)]
pub(crate) struct Good {
    pub(crate) series: (String, String),
    pub(crate) at: EventTime,
    pub(crate) value: f64,
}

/// The view that is made over each of [`STREAMS`], and the one over `metrics`.
pub(crate) const VIEW_SUFFIX: &str = "_by_producer";
/// See [`VIEW_SUFFIX`].
pub(crate) const METRICS_VIEW: &str = "chaos_hosts";

/// Makes the streams of these requests, and views over them.
pub(crate) async fn make_streams(client: &Client) -> anyhow::Result<()> {
    for name in STREAMS {
        let definition = json!({"name": name, "time_column": "at", "columns": [
            {"name": "producer", "type": "text"}, {"name": "n", "type": "i64"}, {"name": "value", "type": "f64"}]});
        let answer = client.post_json("/api/v1/streams", &definition).await;
        ensure!(answer.status == 201, "the stream {name} was not made: {}", answer.text());
        let numbers = "count(*) AS events, sum(value) AS total, min(value) AS least, max(value) AS most";
        make_view(
            client,
            &format!("{name}{VIEW_SUFFIX}"),
            &format!("producer, {numbers} FROM {name} GROUP BY producer"),
        )
        .await?;
    }
    let select = "name, dimensions['host'] AS host, date_bin(INTERVAL '10 minutes', ts) AS bucket, count(*) AS events, \
                  sum(value) AS total, min(value) AS least, max(value) AS most FROM metrics GROUP BY 1, 2, 3";
    make_view(client, METRICS_VIEW, select).await
}

/// Makes a view whose rows leave memory within seconds.
async fn make_view(client: &Client, name: &str, select: &str) -> anyhow::Result<()> {
    let with = "flush_interval = '500ms', idle = '2s'";
    let sql = format!("CREATE MATERIALIZED VIEW {name} WITH ({with}) AS SELECT {select}");
    let answer = client.post_json("/api/v1/sql", &json!({"sql": sql})).await;
    ensure!(answer.status == 200, "the view {name} was not made: {}", answer.text());
    Ok(())
}

/// Makes the requests of one producer, one after the other.
pub(crate) struct Generator {
    pub(crate) producer: usize,
    pub(crate) sequenced: bool,
    pub(crate) seed: u64,
    pub(crate) number: u64,
}

impl Generator {
    /// The next request; `random` alone decides about it, but for the time.
    pub(crate) fn next(&mut self, random: &mut StdRng) -> Request {
        self.number += 1;
        let naming = self.naming(random);
        let stream = match random.random_range(0..10) {
            0..7 => "metrics",
            _ => *STREAMS.choose(random).unwrap(),
        };
        let events = match (&naming, random.random_range(0..10)) {
            (Naming::Unnamed, _) | (_, 0..5) => random.random_range(1..=20),
            _ => random.random_range(20..=200),
        };
        let stream = if matches!(naming, Naming::Unnamed) { "metrics" } else { stream };
        let spoiled = !matches!(naming, Naming::Unnamed) && random.random_bool(0.1);
        let (mut good, mut bad, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for position in 0..events {
            if spoiled && random.random_bool(0.1) {
                let mark = format!("mark-{}-{}-{position}", self.producer, self.number);
                texts.push(bad_event(stream, &mark, random));
                bad.push((position, mark));
            } else {
                let event = self.good_event(stream, &naming, random);
                texts.push(self.text(stream, position, &event, random));
                good.push(event);
            }
        }
        let (path, mut headers, body) = form(stream, &texts, random);
        match &naming {
            Naming::Key(key) => headers.push(("idempotency-key", key.clone())),
            Naming::Sequence { producer, sequence } => {
                headers.push(("x-streamgauge-producer", producer.clone()));
                headers.push(("x-streamgauge-sequence", sequence.to_string()));
            }
            Naming::Unnamed => {}
        }
        Request { naming, stream, path, headers, body, good, bad }
    }

    fn naming(&self, random: &mut StdRng) -> Naming {
        let unnamed = random.random_bool(0.05);
        match self.sequenced {
            true => Naming::Sequence { producer: format!("chaos-{}", self.producer), sequence: self.number },
            false if unnamed => Naming::Unnamed,
            false => Naming::Key(format!("chaos-{:x}-{}-{}", self.seed, self.producer, self.number)),
        }
    }

    fn good_event(&self, stream: &str, naming: &Naming, random: &mut StdRng) -> Good {
        let host = random.random_range(0..6);
        let series = match (stream, naming) {
            ("metrics", Naming::Unnamed) => (UNNAMED.to_owned(), format!("{}-{}", self.producer, self.number)),
            ("metrics", _) => (format!("chaos_{}", random.random_range(0..6)), format!("h{host}")),
            _ => (format!("p{}", self.producer), String::new()),
        };
        // Of one sign a series, so that a sum is never small by cancellation.
        let sign = if stream == "metrics" && host % 2 == 1 { -1.0 } else { 1.0 };
        let value = match random.random_range(0..5) {
            0 => f64::from(random.random_range(0..1_000_000)) / 7.0,
            _ => f64::from(random.random_range(0..4_000)) * 0.25,
        };
        Good { series, at: event_time(random), value: sign * value }
    }

    /// The event as it is posted.
    fn text(&self, stream: &str, position: u64, event: &Good, random: &mut StdRng) -> Value {
        // A number below 10¹¹ would be taken for seconds.
        let at = match random.random_bool(0.5) && event.at.0 > 1_000_000_000_000_000 {
            true => json!(event.at.0),
            false => json!(to_rfc3339(event.at)),
        };
        if stream != "metrics" {
            let n = (self.number * 1_000 + position) * 100 + self.producer as u64;
            return json!({"at": at, "producer": event.series.0, "n": n, "value": event.value});
        }
        let (name, host) = &event.series;
        let key = ["dimensions", "tags", "labels"].choose(random).unwrap();
        let mut text = json!({"name": name, "value": event.value, "ts": at});
        text[*key] = json!({"host": host});
        text
    }
}

/// Mostly about now, and sometimes late by anything up to the year 1970.
fn event_time(random: &mut StdRng) -> EventTime {
    let now = wall_clock().0;
    let within = |random: &mut StdRng, seconds: i64| random.random_range(0..seconds * SECOND_US);
    EventTime(match random.random_range(0..100) {
        0..70 => now + within(random, 5) - 3 * SECOND_US,
        70..82 => now - within(random, 120),
        82..90 => (now / HOUR_US - random.random_range(1..48)) * HOUR_US + within(random, 5),
        90..96 => (now / DAY_US - [1, 2, 7, 30, 365].choose(random).unwrap()) * DAY_US + within(random, 5),
        _ => within(random, 20),
    })
}

/// An event that must be rejected, short enough that its mark is in what is kept of it.
fn bad_event(stream: &str, mark: &str, random: &mut StdRng) -> Value {
    let mut event = Map::new();
    let (name, value) = if stream == "metrics" { ("name", "value") } else { ("producer", "n") };
    event.insert(name.to_owned(), json!(mark));
    match random.random_range(0..3) {
        0 => event.extend([(value.to_owned(), json!("NaN"))]),
        1 => event.extend([(value.to_owned(), json!(1)), ("colour".to_owned(), json!("red"))]),
        _ => {
            let time = if stream == "metrics" { "ts" } else { "at" };
            event.extend([(value.to_owned(), json!(1)), (time.to_owned(), json!("2290-01-01T00:00:00Z"))]);
        }
    }
    Value::Object(event)
}

/// The events in one of the forms in which they may be posted: path, headers, body.
fn form(stream: &str, events: &[Value], random: &mut StdRng) -> (String, Vec<(&'static str, String)>, Vec<u8>) {
    let of_stream = format!("/api/v1/streams/{stream}/events");
    let lines = || events.iter().map(|event| format!("{event}\n")).collect::<String>();
    let forms = if stream == "metrics" { 5 } else { 3 };
    let (path, kind, body) = match random.random_range(0..forms) {
        0 => (of_stream, NDJSON, lines()),
        1 => (of_stream, JSON, json!(events).to_string()),
        2 => {
            let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
            packer.write_all(lines().as_bytes()).unwrap();
            let headers = vec![("content-type", NDJSON.to_owned()), ("content-encoding", "gzip".to_owned())];
            return (of_stream, headers, packer.finish().unwrap());
        }
        3 => ("/api/v1/metrics".to_owned(), JSON, json!(events).to_string()),
        _ => ("/api/v1/ingest".to_owned(), JSON, json!({"source_id": "chaos", "data_points": events}).to_string()),
    };
    (path, vec![("content-type", kind.to_owned())], body.into_bytes())
}
