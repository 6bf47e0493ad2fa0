//! Recovery: how long a start takes that has to replay events from the log.
//!
//! The program takes events while its ClickHouse is held still (SIGSTOP), so that none of them is flushed; both are
//! killed; then the program is started again on the same data folder, and the time is taken until a view has them all. The same
//! start with an empty tail is measured too, so that the replay can be told from the rest (ClickHouse's own start).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::program::{Launch, Program};
use crate::report::grouped;
use crate::throughput;
use crate::workload::Shape;

/// The settings of the run.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    shape: Shape,
    /// Events in the log's tail, in millions; several with commas
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 5, 10])]
    millions: Vec<usize>,
    /// The program to measure [default: `streamgauge` beside this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// The folder for the data [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
    /// Also writes the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Measured {
    events: usize,
    log_bytes: u64,
    empty_start_s: f64,
    start_s: f64,
    replay_s: f64,
    events_per_second: f64,
}

/// Runs all of it and prints a table.
///
/// # Errors
/// When the program fails, or does not have every acknowledged event after the start.
pub(crate) async fn run(options: Options) -> Result<()> {
    // A tail of ten million events must fit; what is measured is the replay, not the bound.
    let serve = vec!["--pending-bytes-max".to_owned(), (8_u64 << 30).to_string()];
    let launch = Launch::new(options.program.clone(), options.data_root.clone(), serve)?;
    println!(
        "{:>12}{:>14}{:>16}{:>12}{:>12}{:>14}",
        "events", "log bytes", "empty start s", "start s", "replay s", "events/s"
    );
    let mut results = Vec::new();
    for millions in &options.millions {
        let measured = measure(&launch, &options.shape, millions * 1_000_000).await?;
        println!(
            "{:>12}{:>14}{:>16.2}{:>12.2}{:>12.2}{:>14}",
            grouped(measured.events as f64),
            grouped(measured.log_bytes as f64),
            measured.empty_start_s,
            measured.start_s,
            measured.replay_s,
            grouped(measured.events_per_second),
        );
        results.push(measured);
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&results)? + "\n")?;
    }
    Ok(())
}

async fn measure(launch: &Launch, shape: &Shape, events: usize) -> Result<Measured> {
    let program = Program::start(launch).await?;
    let data = program.kill()?;
    let began = Instant::now();
    let program = Program::start_on(launch, data).await?;
    let empty_start_s = began.elapsed().as_secs_f64();
    program.hold_clickhouse()?;
    let shape = Shape { events, ..shape.clone() };
    throughput::post_all(&program, &shape.bodies(0, 5_000), 2).await?;
    let log_bytes = program.client().log_bytes().await?;
    let data = program.kill()?;
    let began = Instant::now();
    let program = Program::start_on(launch, data).await?;
    // The views answer when they have every event, so this waits for the replay to be whole.
    let seen = program.client().sql_row(r#"SELECT CAST(sum("count") AS BIGINT) FROM metrics_1s"#).await?;
    let start_s = began.elapsed().as_secs_f64();
    ensure!(seen == [serde_json::json!(events)], "after the start SQL sees {seen:?} of {events} events");
    program.stop().await?;
    let replay_s = (start_s - empty_start_s).max(Duration::from_millis(1).as_secs_f64());
    Ok(Measured { events, log_bytes, empty_start_s, start_s, replay_s, events_per_second: events as f64 / replay_s })
}
