//! `streamgauge-bench`: measures the real program from outside, and the engine by itself.
//!
//! The client shares the machine with what it measures. So its processor time is reported apart, and so are the
//! program's and ClickHouse's: on a machine of few cores events per CPU-second say more than events per second.
//!
//! # Layout
//!
//! - [`workload`]: the events, the same bytes for the same settings.
//! - [`process`]: processor time and memory of a process, as Linux counts them.
//! - [`program`]: the program under measurement: started on an empty data folder, and ended.
//! - [`client`]: posting, asking over SQL, and asking ClickHouse directly.
//! - [`throughput`]: from the first byte posted to the last event acknowledged, visible, and in ClickHouse.
//! - [`latency`]: from acknowledgement to visibility while events arrive at a steady pace.
//! - [`engine_run`]: decoding and the engine alone, beside a plain hash map (`maps`).
//! - [`views`]: views by groups and number, and what a group takes.
//! - [`sql`]: questions over history and a live tail, beside ClickHouse.
//! - [`recovery`]: starting on a log whose tail has to be replayed.
//! - [`report`]: tables for people, JSON for programs.

mod client;
mod engine_run;
mod latency;
mod maps;
mod process;
mod program;
mod recovery;
mod report;
mod sql;
mod throughput;
mod views;
mod workload;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use streamgauge_schemas::Duration;

use crate::program::{Launch, Program};
use crate::report::{Report, Run};
use crate::workload::{Bodies, Shape};

/// Measures Streamgauge: the whole program by default.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Command {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    whole: Whole,
}

#[derive(Subcommand)]
enum Part {
    /// Measures decoding and the engine alone: no HTTP, no ClickHouse.
    Engine(engine_run::Options),
    /// Measures views: by groups and number, with quantiles, and what a group takes.
    Views(views::Options),
    /// Measures SQL over history and a live tail, beside ClickHouse itself.
    Sql(sql::Options),
    /// Measures a start that has to replay events from the log.
    Recovery(recovery::Options),
}

/// What to measure of the whole program.
#[derive(Args)]
struct Whole {
    #[command(flatten)]
    shape: Shape,
    /// The program to measure [default: `streamgauge` beside this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// The folder in which each run gets an empty data folder [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
    /// Keep-alive connections that post
    #[arg(long, value_name = "N", default_value_t = 2)]
    connections: usize,
    /// Events of one request
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    body_events: usize,
    /// Runs of the whole measurement, each on an empty data folder
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: usize,
    /// The pace of the latency measurement in events per second [default: half of the measured rate, from
    /// the first byte posted until all are in ClickHouse]
    #[arg(long, value_name = "RATE")]
    latency_rate: Option<f64>,
    /// How long the latency is measured
    #[arg(long, value_name = "SPAN", default_value = "10s")]
    latency_span: Duration,
    /// Measure throughput only
    #[arg(long)]
    no_latency: bool,
    /// Also writes the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Arguments for `streamgauge serve`, after `--`
    #[arg(last = true, value_name = "ARG")]
    serve: Vec<String>,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc; // the program's own, since the engine is measured in here too

#[tokio::main]
async fn main() -> Result<()> {
    let command = Command::parse();
    tokio::select! {
        result = run(command) => result,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"), // the program is ended as its owner is dropped
    }
}

async fn run(command: Command) -> Result<()> {
    match command.part {
        Some(Part::Engine(options)) => engine_run::run(options).await,
        Some(Part::Views(options)) => views::run(options).await,
        Some(Part::Sql(options)) => sql::run(options).await,
        Some(Part::Recovery(options)) => recovery::run(options).await,
        None => measure(command.whole).await,
    }
}

async fn measure(whole: Whole) -> Result<()> {
    let launch = Launch::new(whole.program.clone(), whole.data_root.clone(), whole.serve.clone())?;
    let events = whole.shape.bodies(0, whole.body_events);
    let mut report = Report::new(&whole.shape, &events, whole.connections, whole.body_events);
    report.print_head();
    for index in 0..whole.repeat.max(1) {
        let program = Program::start(&launch).await?;
        let outcome = measure_once(&whole, &program, &events).await;
        let outcome = outcome.with_context(|| format!("the program's last words:\n{}", program.last_words()))?;
        outcome.print(index + 1);
        report.runs.push(outcome);
        program.stop().await?;
    }
    report.print_medians();
    if let Some(path) = &whole.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

async fn measure_once(whole: &Whole, program: &Program, events: &Bodies) -> Result<Run> {
    let throughput = throughput::measure(program, events, whole.connections).await?;
    let memory_after_ingest = program.memory()?;
    let mut latency = None;
    if !whole.no_latency {
        let pace = whole.latency_rate.unwrap_or(throughput.in_clickhouse.events_per_second / 2.0).max(1.0);
        let seconds = whole.latency_span.as_micros() as f64 / 1e6;
        let later = Shape { events: (pace * seconds).ceil() as usize, ..whole.shape.clone() };
        latency = Some(latency::measure(program, &later.bodies(1, whole.body_events), pace).await?);
    }
    Ok(Run { throughput, memory_after_ingest, latency, memory_at_end: program.memory()? })
}
