//! From the first byte posted to the last event acknowledged, visible to SQL, and in ClickHouse.
//!
//! Connections take bodies in order and post the next one as soon as the last was acknowledged. Each moment is the
//! first at which *all* events are seen, the time of asking included.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use serde_json::json;

use crate::program::{Cpu, Program};
use crate::workload::Bodies;

/// How long events may take from one moment to the next.
const PATIENCE: Duration = Duration::from_secs(180);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Throughput {
    /// The last event was acknowledged, so durable.
    pub(crate) acknowledged: Moment,
    /// `count(*)` of `metrics` and `sum(count)` of `metrics_1s`, over SQL, are all events.
    pub(crate) visible: Moment,
    /// ClickHouse itself says so, too.
    pub(crate) in_clickhouse: Moment,
    /// Requests that the program asked to send again later.
    pub(crate) pushed_back: u64,
}

/// A moment, counted from the first byte posted.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Moment {
    /// Seconds until then.
    pub(crate) seconds: f64,
    /// Events by then per second.
    pub(crate) events_per_second: f64,
    /// Events by then per second of processor time of the program and ClickHouse.
    pub(crate) events_per_cpu_second: f64,
    /// Processor time by then.
    pub(crate) cpu: Cpu,
}

/// Posts everything as fast as it is taken.
///
/// # Errors
/// When an event is refused, lost or seen twice, or nothing moves any more.
pub(crate) async fn measure(program: &Program, bodies: &Bodies, connections: usize) -> Result<Throughput> {
    let cpu_before = program.cpu()?;
    let began = Instant::now();
    let moment = || {
        let cpu = program.cpu()?.since(&cpu_before);
        let (seconds, events) = (began.elapsed().as_secs_f64(), bodies.events as f64);
        let events_per_cpu_second = events / cpu.measured_s().max(0.01);
        anyhow::Ok(Moment { seconds, events_per_second: events / seconds, events_per_cpu_second, cpu })
    };
    let pushed_back = post_all(program, bodies, connections).await?;
    let acknowledged = moment()?;
    await_visible(program, bodies.events as u64).await?;
    let visible = moment()?;
    await_in_clickhouse(program, bodies.events as u64).await?;
    Ok(Throughput { acknowledged, visible, in_clickhouse: moment()?, pushed_back })
}

/// Posts everything and waits for the acknowledgements; answers how often a post was pushed back.
pub(crate) async fn post_all(program: &Program, bodies: &Bodies, connections: usize) -> Result<u64> {
    let next = std::sync::Arc::new(AtomicUsize::new(0));
    let pushed_back = std::sync::Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections.max(1) {
        let (client, bodies) = (program.client().apart()?, bodies.bodies.clone());
        let (next, pushed_back) = (next.clone(), pushed_back.clone());
        tasks.spawn(async move {
            while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                pushed_back.fetch_add(client.post(body).await?, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(pushed_back.load(Ordering::Relaxed))
}

async fn await_visible(program: &Program, events: u64) -> Result<()> {
    let began = Instant::now();
    let mut seen = Vec::new();
    while began.elapsed() < PATIENCE {
        seen = program.client().sql_row("SELECT count(*) FROM metrics").await?;
        if seen == [json!(events)] {
            seen = program.client().sql_row(r#"SELECT CAST(sum("count") AS BIGINT) FROM metrics_1s"#).await?;
            if seen == [json!(events)] {
                return Ok(());
            }
        }
        ensure!(seen[0].as_u64().unwrap_or(0) <= events, "SQL sees more events than were posted: {seen:?}");
    }
    bail!("after {} s SQL sees {seen:?} of {events} events", PATIENCE.as_secs())
}

async fn await_in_clickhouse(program: &Program, events: u64) -> Result<()> {
    let began = Instant::now();
    let mut seen = 0;
    while began.elapsed() < PATIENCE {
        seen = program.client().clickhouse_number("SELECT count() FROM metrics").await?;
        if seen == events {
            seen = program.client().clickhouse_number("SELECT sum(count) FROM metrics_1s_states FINAL").await?;
            if seen == events {
                return Ok(());
            }
        }
        ensure!(seen <= events, "ClickHouse has more events than were posted: {seen}");
        tokio::time::sleep(Duration::from_millis(50)).await; // asking costs the cores that are measured
    }
    bail!("after {} s ClickHouse has {seen} of {events} events", PATIENCE.as_secs())
}
