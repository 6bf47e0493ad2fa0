//! From acknowledgement to visibility, while events arrive at a steady pace.
//!
//! The load is open: bodies are posted by the clock, whether or not earlier ones were answered, and their latency counts
//! from the moment that the clock says. Beside it, probes post one event each to a bucket of its own and ask until
//! they see it, by turns at the data endpoint and over SQL. So the time of a question under load is part of the latency.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::json;
use streamgauge_schemas::EventTime;
use streamgauge_schemas::time::to_rfc3339;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::program::{Cpu, Program};
use crate::workload::{Bodies, Body};

/// The metric of the probes.
const MARKER: &str = "bench_marker";
/// How often a probe begins.
const PROBE_INTERVAL: Duration = Duration::from_millis(25);
/// How long a probe may take until it counts as lost.
const PROBE_PATIENCE: Duration = Duration::from_secs(60);
/// Requests of the load that may be on their way at once; beyond, the pace cannot be held and the measurement fails.
const IN_FLIGHT_MAX: usize = 256;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latency {
    /// The pace that was asked for, in events per second.
    pub(crate) wanted_events_per_second: f64,
    /// The pace that was reached.
    pub(crate) events_per_second: f64,
    /// From the moment at which a body was due to its acknowledgement.
    pub(crate) body_acknowledged: Quantiles,
    /// From the first byte of a probe to its acknowledgement.
    pub(crate) probe_acknowledged: Quantiles,
    /// From a probe's acknowledgement until the data endpoint showed it.
    pub(crate) visible_to_data: Quantiles,
    /// From a probe's acknowledgement until SQL showed it.
    pub(crate) visible_to_sql: Quantiles,
    /// From the first byte of a probe until either showed it.
    pub(crate) sent_to_visible: Quantiles,
    /// Processor time during the measurement.
    pub(crate) cpu: Cpu,
}

/// The distribution of a latency, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    /// How many were measured.
    pub(crate) count: usize,
    /// Half of them were at most this.
    pub(crate) p50_ms: f64,
    /// 99 of 100 were at most this.
    pub(crate) p99_ms: f64,
    /// None was more.
    pub(crate) max_ms: f64,
}

impl Quantiles {
    /// By nearest rank.
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let rank = |q: f64| times.get(((times.len() as f64 * q).ceil() as usize).saturating_sub(1));
        let ms = |q: f64| rank(q).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        Quantiles { count: times.len(), p50_ms: ms(0.5), p99_ms: ms(0.99), max_ms: ms(1.0) }
    }
}

struct Probe {
    over_sql: bool,
    acknowledged: Duration,
    visible: Duration,
}

/// Posts `bodies` at `pace` events a second, and probes meanwhile.
///
/// # Errors
/// When an event is refused, a probe is never seen, or the pace cannot be held.
pub(crate) async fn measure(program: &Program, bodies: &Bodies, pace: f64) -> Result<Latency> {
    let cpu_before = program.cpu()?;
    let began = Instant::now();
    let load = tokio::spawn(post_by_the_clock(program.client().apart()?, bodies.bodies.clone(), pace));
    let probes = probe_until(&load, program.client().apart()?).await?;
    let posted = load.await??;
    let seconds = began.elapsed().as_secs_f64();
    let of = |of: &dyn Fn(&Probe) -> Option<Duration>| Quantiles::of(probes.iter().filter_map(of).collect());
    let after_acknowledgement = |probe: &Probe| probe.visible - probe.acknowledged;
    Ok(Latency {
        wanted_events_per_second: pace,
        events_per_second: bodies.events as f64 / seconds,
        body_acknowledged: Quantiles::of(posted),
        probe_acknowledged: of(&|probe| Some(probe.acknowledged)),
        visible_to_data: of(&|probe| (!probe.over_sql).then(|| after_acknowledgement(probe))),
        visible_to_sql: of(&|probe| probe.over_sql.then(|| after_acknowledgement(probe))),
        sent_to_visible: of(&|probe| Some(probe.visible)),
        cpu: program.cpu()?.since(&cpu_before),
    })
}

async fn post_by_the_clock(client: Client, bodies: Vec<Body>, pace: f64) -> Result<Vec<Duration>> {
    let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut tasks = JoinSet::new();
    let (began, mut events) = (tokio::time::Instant::now(), 0);
    for body in bodies {
        let due = began + Duration::from_secs_f64(events as f64 / pace.max(1.0));
        events += body.events;
        tokio::time::sleep_until(due).await;
        let Ok(place) = places.clone().try_acquire_owned() else {
            bail!("the pace of {pace:.0} events per second cannot be held: {IN_FLIGHT_MAX} requests wait");
        };
        let client = client.clone();
        tasks.spawn(async move {
            client.post(&body).await?;
            drop(place);
            anyhow::Ok(due.elapsed())
        });
    }
    let mut times = Vec::with_capacity(tasks.len());
    while let Some(ended) = tasks.join_next().await {
        times.push(ended??);
    }
    Ok(times)
}

async fn probe_until<T>(load: &tokio::task::JoinHandle<T>, client: Client) -> Result<Vec<Probe>> {
    let mut tasks = JoinSet::new();
    let mut ticks = tokio::time::interval(PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for index in 0.. {
        ticks.tick().await;
        if load.is_finished() && index > 0 {
            break;
        }
        let client = client.clone();
        tasks.spawn(async move { probe(&client, index).await });
    }
    let mut probes = Vec::with_capacity(tasks.len());
    while let Some(ended) = tasks.join_next().await {
        probes.push(ended??);
    }
    Ok(probes)
}

/// Posts one event into a second of its own, and asks until that second has it.
async fn probe(client: &Client, index: i64) -> Result<Probe> {
    let second = |index: i64| to_rfc3339(EventTime((1_600_000_000 + index) * 1_000_000));
    let (start, end, over_sql) = (second(index), second(index + 1), index % 2 == 1);
    let event = json!({"timestamp": start, "name": MARKER, "value": index}).to_string();
    let body = Body { bytes: event.into(), events: 1 };
    let sql = format!("SELECT count(*) FROM metrics_1s WHERE name = '{MARKER}' AND bucket = TIMESTAMP '{start}'");
    let sent = Instant::now();
    client.post(&body).await?;
    let acknowledged = sent.elapsed();
    while sent.elapsed() < PROBE_PATIENCE {
        let seen = match over_sql {
            true => client.sql_row(&sql).await? == [json!(1)],
            false => client.is_visible(MARKER, &start, &end).await?,
        };
        if seen {
            return Ok(Probe { over_sql, acknowledged, visible: sent.elapsed() });
        }
    }
    bail!("the event of {start} was acknowledged and is not visible after {} s", PROBE_PATIENCE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let times = |n: u64| (1..=n).rev().map(Duration::from_millis).collect::<Vec<_>>();
        let of = |n| Quantiles::of(times(n));
        assert_eq!(of(200), Quantiles { count: 200, p50_ms: 100.0, p99_ms: 198.0, max_ms: 200.0 });
        assert_eq!(of(1), Quantiles { count: 1, p50_ms: 1.0, p99_ms: 1.0, max_ms: 1.0 });
        assert_eq!(of(0), Quantiles::default());
    }
}
