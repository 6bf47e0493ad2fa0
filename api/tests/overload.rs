//! Overload: the program under four times the load that it takes, for a minute.
//!
//! It must push back in time (429 or 503 that say when to come again), keep its memory under a bound, go on taking what
//! it can, lose nothing that it acknowledged, and be itself again when the load ends. How fast it is is not asserted.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use streamgauge_schemas::time::wall_clock;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use support::client::{Answer, JSON, NDJSON};
use support::{Client, DataDir, PATIENCE, Program};

const MIB: u64 = 1 << 20;
/// The bounds that the program is given.
const BOUNDS: [&str; 10] = [
    "--pending-bytes-max",
    "67108864",
    "--inflight-bytes-max",
    "33554432",
    "--body-bytes-max",
    "8388608",
    "--state-bytes-max",
    "268435456",
    "--requests-max",
    "64",
];
/// What its memory may grow by: the bounds above a few times over, for decoding, encoding and flushing what they hold,
/// and the caches of the allocator and of queries.
const GROWTH_BYTES_MAX: u64 = 640 * MIB;
const EVENTS: usize = 1_000;
/// How long it is found out what the program takes, and by how many connections.
const MEASURE: Duration = Duration::from_secs(5);
const MEASURE_CONNECTIONS: usize = 4;
const OVERLOAD: Duration = Duration::from_secs(60);
const OVERLOAD_FACTOR: f64 = 4.0;
/// Requests that wait for an answer; beyond it the generator holds back, so that it stays small itself.
const OPEN_MAX: usize = 256;
/// In every one of these windows something must be acknowledged.
const WINDOW: Duration = Duration::from_secs(5);
/// The reasons to push back.
const CODES: [&str; 7] =
    ["too_fast", "busy", "too_many_requests", "bodies_full", "state_full", "log_full", "log_unavailable"];

/// What became of requests.
#[derive(Default)]
struct Tally {
    acknowledged: u64,
    /// Refused, by code.
    refused: BTreeMap<String, u64>,
    /// Without an answer, and why the last one was.
    unknown: u64,
    why_unknown: String,
    /// Not sent, since too many waited for an answer.
    held_back: u64,
    /// Acknowledged in each window.
    windows: Vec<u64>,
}

impl Tally {
    /// Counts an answer that came so long after the begin.
    fn count(&mut self, after: Duration, answer: Result<Answer, reqwest::Error>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.unknown += 1;
                self.why_unknown = format!("{error:?}");
                return;
            }
        };
        if answer.status == 200 {
            assert_eq!(answer.json()["accepted"], EVENTS, "{}", answer.text());
            let window = (after.as_secs_f64() / WINDOW.as_secs_f64()) as usize;
            self.windows.resize(self.windows.len().max(window + 1), 0);
            self.windows[window] += 1;
            self.acknowledged += 1;
        } else {
            *self.refused.entry(refusal(&answer)).or_default() += 1;
        }
    }
}

/// The code of a refusal, which must be one that says when to come again.
fn refusal(answer: &Answer) -> String {
    assert!([429, 503].contains(&answer.status), "{}: {}", answer.status, answer.text());
    assert!(answer.header("retry-after").parse::<u64>().is_ok(), "no Retry-After: {}", answer.text());
    let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
    assert!(CODES.contains(&code.as_str()), "{}", answer.text());
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn four_times_the_load_is_pushed_back_and_nothing_is_lost() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &BOUNDS).await;
    let client = program.client().clone();
    let bodies = Arc::new(bodies());
    let before = latency(&client).await;

    let measured = closed_loop(&client, &bodies).await;
    let taken_a_second = measured.acknowledged as f64 / MEASURE.as_secs_f64();
    assert!(taken_a_second >= 1.0, "it takes nothing");
    let memory_before = sample(&client).await.expect("a status without load").memory_bytes;

    let samples = Arc::new(Mutex::new(Vec::new()));
    let sampler = tokio::spawn(sample_each_second(client.clone(), samples.clone()));
    let tally = open_loop(&client, &bodies, taken_a_second * OVERLOAD_FACTOR).await;
    let after = latency(&client).await;
    sampler.abort();
    let samples = samples.lock().clone();
    let memory_max = samples.iter().map(|sample| sample.memory_bytes).max().unwrap_or(0);
    print(&tally, taken_a_second, &samples, [before, after]);

    assert!(tally.refused.values().sum::<u64>() > 0, "four times the load was not too much");
    for (index, acknowledged) in tally.windows.iter().take((OVERLOAD.as_secs() / WINDOW.as_secs()) as usize).enumerate()
    {
        assert!(*acknowledged > 0, "nothing was acknowledged in window {index}: {:?}", tally.windows);
    }
    assert!(samples.len() as u64 >= OVERLOAD.as_secs() / 2, "the status was answered {} times only", samples.len());
    let bound = memory_before + GROWTH_BYTES_MAX;
    assert!(memory_max < bound, "{} MiB of memory, and {} MiB are allowed", memory_max / MIB, bound / MIB);

    let acknowledged = (measured.acknowledged + tally.acknowledged) * EVENTS as u64;
    let unknown = (measured.unknown + tally.unknown) * EVENTS as u64;
    for sql in [
        "SELECT count(*) FROM metrics WHERE name = 'overload'",
        "SELECT sum(\"count\") FROM metrics_1s WHERE name = 'overload'",
        "SELECT sum(\"count\") FROM metrics_1d WHERE name = 'overload'",
    ] {
        let rows = client.sql(sql).await;
        let cell = &rows[0][0];
        let count = cell.as_f64().or_else(|| cell.as_str()?.parse().ok()).unwrap() as u64;
        let there = acknowledged..=acknowledged + unknown;
        assert!(there.contains(&count), "{sql}: {count}, and {acknowledged} were acknowledged ({unknown} unknown)");
    }
}

/// NDJSON of many series about now.
fn bodies() -> Vec<Bytes> {
    let now = wall_clock().0;
    let event = |number: usize| {
        let (at, host) = (now - (number % 10_000) as i64 * 1_000, number % 200);
        json!({"ts": at, "name": "overload", "value": number % 97, "dimensions": {"host": format!("host-{host}")}})
    };
    let body = |body: usize| (0..EVENTS).map(|index| format!("{}\n", event(body * EVENTS + index))).collect::<String>();
    (0..16).map(|number| Bytes::from(body(number))).collect()
}

async fn post(client: &Client, body: Bytes) -> Result<Answer, reqwest::Error> {
    client.try_request("POST", "/api/v1/streams/metrics/events", &[("content-type", NDJSON)], body).await
}

/// How long a single post takes, as a median; refusals are waited out.
async fn latency(client: &Client) -> Duration {
    let event = json!({"name": "single", "value": 1}).to_string();
    let began = Instant::now();
    let mut took = Vec::new();
    while took.len() < 21 {
        let sent = Instant::now();
        let answer = client.post("/api/v1/metrics", JSON, event.clone()).await;
        match answer.status {
            200 => took.push(sent.elapsed()),
            _ => drop(refusal(&answer)),
        }
        assert!(began.elapsed() < PATIENCE, "single posts are not taken within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    took.sort();
    took[took.len() / 2]
}

/// What the program takes when each connection waits for its answers.
async fn closed_loop(client: &Client, bodies: &Arc<Vec<Bytes>>) -> Tally {
    let (tally, began) = (Arc::new(Mutex::new(Tally::default())), Instant::now());
    let mut tasks = JoinSet::new();
    for connection in 0..MEASURE_CONNECTIONS {
        let (client, bodies, tally) = (client.clone(), bodies.clone(), tally.clone());
        tasks.spawn(async move {
            for number in connection.. {
                if began.elapsed() > MEASURE {
                    break;
                }
                let answer = post(&client, bodies[number % bodies.len()].clone()).await;
                tally.lock().count(began.elapsed(), answer);
            }
        });
    }
    finish(tasks, tally).await
}

/// What becomes of requests that come at a rate, answered or not.
async fn open_loop(client: &Client, bodies: &Arc<Vec<Bytes>>, requests_a_second: f64) -> Tally {
    let (tally, began) = (Arc::new(Mutex::new(Tally::default())), Instant::now());
    let (open, mut tasks, mut sent) = (Arc::new(Semaphore::new(OPEN_MAX)), JoinSet::new(), 0);
    while began.elapsed() < OVERLOAD {
        let due = (began.elapsed().as_secs_f64() * requests_a_second) as usize;
        for number in sent..due {
            let Ok(permit) = open.clone().try_acquire_owned() else {
                tally.lock().held_back += 1;
                continue;
            };
            let (client, body, tally) = (client.clone(), bodies[number % bodies.len()].clone(), tally.clone());
            tasks.spawn(async move {
                let answer = post(&client, body).await;
                tally.lock().count(began.elapsed(), answer);
                drop(permit);
            });
        }
        sent = due;
        while let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    finish(tasks, tally).await
}

async fn finish(mut tasks: JoinSet<()>, tally: Arc<Mutex<Tally>>) -> Tally {
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    std::mem::take(&mut *tally.lock())
}

/// What the program says of itself.
#[derive(Clone, Copy, Debug)]
struct Sample {
    memory_bytes: u64,
    pending_bytes: u64,
    state_bytes: u64,
    inflight_bytes: u64,
}

async fn sample_each_second(client: Client, samples: Arc<Mutex<Vec<Sample>>>) {
    loop {
        let sample = sample(&client).await;
        samples.lock().extend(sample);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn sample(client: &Client) -> Option<Sample> {
    let answer = client.try_request("GET", "/api/v1/status", &[], "").await.ok()?;
    let status = (answer.status == 200).then(|| answer.json())?;
    let bytes = |name: &str| status[name].as_u64().unwrap_or_else(|| panic!("no {name}: {status}"));
    Some(Sample {
        memory_bytes: bytes("memory_bytes"),
        pending_bytes: bytes("pending_bytes"),
        state_bytes: bytes("state_bytes"),
        inflight_bytes: bytes("inflight_bytes"),
    })
}

fn print(tally: &Tally, taken_a_second: f64, samples: &[Sample], [before, after]: [Duration; 2]) {
    println!("taken in a closed loop       {taken_a_second:.0} requests/s of {EVENTS} events");
    println!("driven at                    {:.0} requests/s for {OVERLOAD:?}", taken_a_second * OVERLOAD_FACTOR);
    println!("acknowledged                 {} requests, by {WINDOW:?}: {:?}", tally.acknowledged, tally.windows);
    println!("refused                      {:?}", tally.refused);
    println!("without answer               {} {}", tally.unknown, tally.why_unknown);
    println!("held back by the generator   {}", tally.held_back);
    let mib = |bytes: fn(&Sample) -> u64| samples.iter().map(|sample| bytes(sample) / MIB).collect::<Vec<_>>();
    println!("memory, MiB, each second     {:?}", mib(|sample| sample.memory_bytes));
    println!("not flushed, MiB             {:?}", mib(|sample| sample.pending_bytes));
    println!("rows of views, MiB           {:?}", mib(|sample| sample.state_bytes));
    println!("bodies, MiB                  {:?}", mib(|sample| sample.inflight_bytes));
    println!("a single post                {before:?} before, {after:?} after");
}
