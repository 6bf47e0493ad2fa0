//! Groups by views: what maintaining them takes, beside a hash map a view over the same rows.
//!
//! The dataflow alone does what the maps do, and more. The engine also has a log and an order, which cost the same without any view.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use streamgauge_schemas::MetricsBatch;

use super::Options;
use super::rows::Rows;
use super::run::{Run, rollups};
use crate::maps::{self, Measured};
use crate::process::{CpuTime, threads_cpu_s};
use crate::report::grouped;

/// One number of groups with one number of views.
#[derive(Serialize)]
pub(super) struct Cell {
    groups: usize,
    views: usize,
    events: usize,
    maps: Measured,
    engine: Measured,
    /// Of the threads that run the dataflow.
    dataflow_cpu_seconds: f64,
    /// Events per CPU-second of the dataflow beside those of the hash maps.
    ratio: f64,
    /// The same of the whole engine.
    engine_ratio: f64,
    /// The dataflow's processor time of each view after the first, as a part of the first one's; of cells with several
    /// views.
    further_view: Option<f64>,
    rows: usize,
    bytes_per_row: usize,
}

/// Measures all cells and prints them.
///
/// # Errors
/// When the engine fails, or a view or map does not hold every event.
pub(super) async fn run(options: &Options) -> Result<Vec<Cell>> {
    println!("\ngroups by views: {} decoded events a run; events per CPU-second", grouped(options.events as f64));
    println!(
        "{:>10}{:>6}{:>13}{:>13}{:>7}{:>14}{:>13}{:>8}{:>12}{:>11}",
        "groups", "views", "maps", "dataflow", "ratio", "further view", "engine", "ratio", "rows held", "bytes/row"
    );
    let mut cells = Vec::new();
    for groups in &options.groups {
        let rows: Batches = Rows::new(*groups, options.pace, options.batch_events).take(options.events).into();
        let first = median(options, &rows, 1).await?.dataflow_cpu_seconds;
        for views in &options.views {
            let maps = maps::aggregate(&rows, &rollups(*views))?;
            let ours = median(options, &rows, *views).await?;
            let further = (ours.dataflow_cpu_seconds - first) / (views.saturating_sub(1).max(1) as f64 * first);
            let cell = Cell {
                groups: *groups,
                views: *views,
                events: options.events,
                ratio: maps.cpu_seconds / ours.dataflow_cpu_seconds,
                engine_ratio: maps.cpu_seconds / ours.engine.cpu_seconds,
                further_view: (*views > 1).then_some(further),
                rows: ours.rows,
                bytes_per_row: ours.bytes.checked_div(ours.rows).unwrap_or(0),
                dataflow_cpu_seconds: ours.dataflow_cpu_seconds,
                engine: ours.engine,
                maps,
            };
            cell.print();
            cells.push(cell);
        }
    }
    println!(
        "(ratios beside the maps; the engine also has a log and an order; further view: its CPU beside the first one's)"
    );
    Ok(cells)
}

impl Cell {
    fn print(&self) {
        println!(
            "{:>10}{:>6}{:>13}{:>13}{:>7.2}{:>14}{:>13}{:>8.2}{:>12}{:>11}",
            grouped(self.groups as f64),
            self.views,
            grouped(self.maps.events_per_cpu_second),
            grouped(self.events as f64 / self.dataflow_cpu_seconds),
            self.ratio,
            self.further_view.map_or(String::new(), |further| format!("{:.0} %", further * 100.0)),
            grouped(self.engine.events_per_cpu_second),
            self.engine_ratio,
            grouped(self.rows as f64),
            self.bytes_per_row,
        );
    }
}

type Batches = Arc<[Arc<MetricsBatch>]>;

struct Ours {
    engine: Measured,
    dataflow_cpu_seconds: f64,
    rows: usize,
    bytes: usize,
}

/// The middle one of some runs, by the processor time of the dataflow.
async fn median(options: &Options, batches: &Batches, views: usize) -> Result<Ours> {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(measure(options, batches, views).await?);
    }
    runs.sort_by(|a, b| a.dataflow_cpu_seconds.total_cmp(&b.dataflow_cpu_seconds));
    Ok(runs.swap_remove(RUNS / 2))
}

async fn measure(options: &Options, batches: &Batches, views: usize) -> Result<Ours> {
    let mut run = Run::open(options, None)?;
    for definition in rollups(views) {
        run.create(definition).await?;
    }
    let (before, began, workers) = (CpuTime::of(std::process::id())?, Instant::now(), threads_cpu_s(WORKERS)?);
    run.append_rows(batches.clone()).await?;
    let dataflow_cpu_seconds = threads_cpu_s(WORKERS)? - workers;
    let engine = Measured::of("engine over decoded rows, log unsynced", options.events, began, &before)?;
    let (rows, bytes) = run.held(options.events).await?;
    Ok(Ours { engine, dataflow_cpu_seconds, rows, bytes })
}

/// So often is a cell measured: the first run finds no memory that the process has used before.
const RUNS: usize = 3;
/// The threads that run the dataflow.
const WORKERS: &str = "timely:work";
