//! What grows: bytes by live groups, and the cost of an event by the events before it, which should not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use streamgauge_schemas::StreamId;

use super::Options;
use super::rows::Rows;
use super::run::{Run, rollups};
use crate::maps::Measured;
use crate::process::{CpuTime, Memory};
use crate::report::grouped;

/// Memory of a view with many live groups.
#[derive(Serialize)]
pub(super) struct LiveGroups {
    rows: usize,
    /// What the process took more, each.
    resident_bytes_per_row: f64,
    /// What the program counts for each.
    counted_bytes_per_row: usize,
}

/// Groups of the memory measurement.
const LIVE_GROUPS: usize = 1_000_000;
/// Of so few dimension values, that these do not show: they are kept once, however many groups have them.
const KEYS: usize = 100;

/// Fills a view with groups of count, sum, min and max, and measures what the process takes more.
///
/// # Errors
/// When the engine fails, or the view does not hold every event.
pub(super) async fn memory(options: &Options) -> Result<LiveGroups> {
    let mut run = Run::open(options, None)?;
    for definition in rollups(1) {
        run.create(definition).await?;
    }
    // An event of every key in every second, about: so nearly every event begins a group.
    let mut rows = Rows::new(KEYS, KEYS as f64 / 4.0, options.batch_events);
    run.append_rows(rows.take(options.batch_events).into()).await?; // what is made once, is made
    let resident = || Ok::<_, anyhow::Error>(Memory::of(std::process::id())?.resident_bytes as f64);
    let mut events = options.batch_events;
    let before = resident()?;
    let rows_before = run.rows_held();
    while run.rows_held() < LIVE_GROUPS {
        let batches = rows.take(100 * options.batch_events);
        events += batches.iter().map(|batch| batch.len()).sum::<usize>();
        run.append_rows(batches.into()).await?;
        // What is raw would be in ClickHouse by now; it is not part of a group.
        run.forget_raw_events();
    }
    let grown = resident()? - before;
    let (held, bytes) = run.held(events).await?;
    let result = LiveGroups {
        rows: held,
        resident_bytes_per_row: grown / (held - rows_before) as f64,
        counted_bytes_per_row: bytes / held,
    };
    println!(
        "\nmemory of {} live groups of count, sum, min and max: {:.0} bytes each, with the 24 bytes that name a group; the program counts {}",
        grouped(held as f64),
        result.resident_bytes_per_row,
        result.counted_bytes_per_row
    );
    Ok(result)
}

/// A part of a long run.
#[derive(Serialize)]
pub(super) struct Stretch {
    events_before: usize,
    measured: Measured,
    rows: usize,
}

/// Stretches of a long run.
const STRETCHES: usize = 10;

/// Lets event time go on and on, with flushes as ClickHouse would confirm them, and measures each stretch.
///
/// # Errors
/// When the engine fails.
pub(super) async fn history(options: &Options) -> Result<Vec<Stretch>> {
    let mut rows = Rows::new(1_000, options.pace, options.batch_events);
    let clock = Arc::new(AtomicU64::new(rows.clock().0.unsigned_abs()));
    let mut run = Run::open(options, Some(clock.clone()))?;
    for definition in rollups(4) {
        run.create(definition).await?;
    }
    println!("\ncost of an event as history grows: 1,000 series, 4 views, a flush every second of event time");
    println!("{:>14}{:>12}{:>16}{:>14}", "events before", "CPU-s", "events/CPU-s", "rows held");
    let mut stretches = Vec::new();
    let second = options.pace.max(1.0) as usize;
    for stretch in 0..STRETCHES {
        let seconds: Vec<Arc<[_]>> = (0..options.events.div_ceil(second)).map(|_| rows.take(second).into()).collect();
        let events = seconds.len() * second;
        let (before, began) = (CpuTime::of(std::process::id())?, Instant::now());
        for batches in seconds {
            clock.fetch_add(1_000_000, Ordering::Relaxed);
            run.append_rows(batches).await?;
            run.flush().await?;
        }
        let measured = Measured::of("a stretch of events", events, began, &before)?;
        let stretch = Stretch { events_before: stretch * events, measured, rows: run.rows_held() };
        println!(
            "{:>14}{:>12.2}{:>16}{:>14}",
            grouped(stretch.events_before as f64),
            stretch.measured.cpu_seconds,
            grouped(stretch.measured.events_per_cpu_second),
            grouped(stretch.rows as f64),
        );
        stretches.push(stretch);
    }
    Ok(stretches)
}

impl Run {
    /// Rows in memory of all views, about.
    fn rows_held(&self) -> usize {
        self.views.iter().filter_map(|view| self.engine.view_status(view.id)).map(|status| status.rows).sum()
    }

    /// Lets go of the events themselves, as after a flush.
    fn forget_raw_events(&self) {
        self.engine.confirm_stream_flush(StreamId::METRICS, self.engine.status().epoch);
    }

    /// Flushes views and events, as if ClickHouse took them at once.
    async fn flush(&self) -> Result<()> {
        for view in &self.views {
            if let Some(flush) = self.engine.begin_view_flush(view.id).await? {
                self.engine.confirm_view_flush(view.id, flush.upto);
            }
        }
        self.forget_raw_events();
        Ok(())
    }
}
