//! The peer of the engine: a plain hash map for each rollup, to which every event is added.
//!
//! A map keeps what the dataflow keeps, but has no log, no order, no snapshots, no history and no end.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use hashbrown::HashMap;
use serde::Serialize;
use streamgauge_schemas::{EventTime, MetricsBatch, SeriesId, Summary, ViewDefinition};

use crate::process::CpuTime;

/// What something took.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    /// What it was.
    pub(crate) name: &'static str,
    /// From begin to end.
    pub(crate) seconds: f64,
    /// On all processors together.
    pub(crate) cpu_seconds: f64,
    /// By the clock.
    pub(crate) events_per_second: f64,
    /// By processor time.
    pub(crate) events_per_cpu_second: f64,
    /// Events per CPU-second beside those of the hash maps, where both did the same.
    pub(crate) ratio: Option<f64>,
}

impl Measured {
    /// What was done since `began`, when this process had used `before`.
    ///
    /// # Errors
    /// When the processor time cannot be read.
    pub(crate) fn of(name: &'static str, events: usize, began: Instant, before: &CpuTime) -> Result<Self> {
        let seconds = began.elapsed().as_secs_f64();
        let cpu_seconds = CpuTime::of(std::process::id())?.since(before).total_s().max(0.01);
        let (events_per_second, events_per_cpu_second) = (events as f64 / seconds, events as f64 / cpu_seconds);
        Ok(Measured { name, seconds, cpu_seconds, events_per_second, events_per_cpu_second, ratio: None })
    }
}

type Groups = HashMap<(SeriesId, EventTime), Summary, foldhash::fast::RandomState>;

/// Aggregates decoded rows for every rollup.
///
/// # Errors
/// When a map does not hold every event.
pub(crate) fn aggregate(batches: &[Arc<MetricsBatch>], rollups: &[ViewDefinition]) -> Result<Measured> {
    let events: usize = batches.iter().map(|batch| batch.len()).sum();
    let (before, began) = (CpuTime::of(std::process::id())?, Instant::now());
    let mut maps: Vec<(i64, Groups)> = Vec::new();
    for rollup in rollups {
        let width = rollup.bucket.as_ref().and_then(|bucket| bucket.width).expect("a rollup has buckets of one length");
        maps.push((width.as_micros(), Groups::default()));
    }
    for batch in batches {
        for row in 0..batch.len() {
            let series = batch.series[batch.series_index[row] as usize].id;
            for (width, groups) in &mut maps {
                let time = batch.ts[row].0;
                let bucket = EventTime(time - time.rem_euclid(*width));
                groups.entry((series, bucket)).or_default().add(batch.value[row]);
            }
        }
    }
    let measured = Measured::of("hash maps over decoded rows", events, began, &before)?;
    for (rollup, (_, groups)) in rollups.iter().zip(&maps) {
        let count: u64 = groups.values().map(|state| state.count).sum();
        ensure!(count == events as u64, "the map of {} holds {count} of {events} events", rollup.name);
    }
    Ok(measured)
}
