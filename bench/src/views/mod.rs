//! Views: what it costs to maintain them, by the number of groups and of views, beside plain hash maps.
//!
//! No HTTP and no ClickHouse: decoded rows, or NDJSON, go through log, order and dataflow of the engine alone.
//!
//! # Layout
//!
//! - [`rows`]: decoded rows; [`mod@run`]: an engine, and what is put into it.
//! - [`matrix`]: groups by views, each cell beside hash maps over the same rows.
//! - [`ndjson`]: from bytes to views with quantiles.
//! - [`growth`]: what a live group takes, and whether an event costs more the longer it goes on.

mod growth;
mod matrix;
mod ndjson;
mod rows;
mod run;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::workload::Shape;

/// The settings of the run.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// What to measure; several with commas
    #[arg(long, value_name = "PART,…", value_delimiter = ',', default_value = "memory,matrix,ndjson,history")]
    parts: Vec<Part>,
    /// Series, each a group of the coarsest view; several with commas
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [100, 1_000, 100_000, 1_000_000])]
    groups: Vec<usize>,
    /// Views: by second, minute, hour and day, then by 2 minutes, 3 minutes and so on; several with commas
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 4, 20])]
    views: Vec<usize>,
    /// Events of one run
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    events: usize,
    /// Events in a second of event time
    #[arg(long, value_name = "N", default_value_t = 100_000.0)]
    pace: f64,
    /// Events of one batch
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    batch_events: usize,
    /// Tasks that append, each waiting for its acknowledgement
    #[arg(long, value_name = "N", default_value_t = 2)]
    posters: usize,
    /// Workers of the dataflow
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    /// The folder for the logs [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
    /// Also writes the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Groups by views, beside hash maps
    Matrix,
    /// From NDJSON to views with count, sum, min, max and p99 by second, minute and hour
    Ndjson,
    /// Bytes of a live group
    Memory,
    /// Cost of an event as history grows
    History,
}

/// Runs the parts and prints a table of each.
///
/// # Errors
/// When the engine fails, or its views do not hold every event.
pub(crate) async fn run(options: Options) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} core(s) may be used; the log is not synced");
    let mut results = Map::new();
    for part in &options.parts {
        let (name, result): (&str, Value) = match part {
            Part::Matrix => ("matrix", serde_json::to_value(matrix::run(&options).await?)?),
            Part::Ndjson => ("ndjson", serde_json::to_value(ndjson::run(&options, &Shape::default()).await?)?),
            Part::Memory => ("memory", serde_json::to_value(growth::memory(&options).await?)?),
            Part::History => ("history", serde_json::to_value(growth::history(&options).await?)?),
        };
        results.insert(name.to_owned(), result);
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&results)?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
