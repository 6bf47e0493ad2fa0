//! Decoding and the engine alone: NDJSON bytes to four maintained rollups, no HTTP and no ClickHouse.
//!
//! Beside it, in the same run: decoding by itself, and a plain hash map a rollup that aggregates the decoded rows. The
//! map keeps what the dataflow keeps, but has no log, no order, no snapshots and no history; it says how much those cost.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use streamgauge_engine::{Engine, EngineConfig, Recovered, RowFilter, SnapshotRequest, ViewRead};
use streamgauge_schemas::view::{built_in_rollups, rollup};
use streamgauge_schemas::{EventBatch, MetricsBatch, Summary, View};

use crate::maps::{self, Measured};
use crate::process::CpuTime;
use crate::report::grouped;
use crate::workload::{Bodies, Body, Shape};

/// The settings of the run.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    shape: Shape,
    /// Workers of the dataflow
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    /// Views beside the four rollups: by 2 minutes, 3 minutes and so on, fed from the rollup by minutes
    #[arg(long, value_name = "N", default_value_t = 0)]
    more_views: usize,
    /// Tasks that decode and append, each waiting for its acknowledgement
    #[arg(long, value_name = "N", default_value_t = 2)]
    posters: usize,
    /// Events of one batch
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    body_events: usize,
    /// The folder for the logs [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
    /// Also writes the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs all of it and prints a table.
///
/// # Errors
/// When the engine fails, or its rollups do not hold every event.
pub(crate) async fn run(options: Options) -> Result<()> {
    let bodies = options.shape.bodies(0, options.body_events);
    let (decoded, decoding) = decode_all(&bodies)?;
    let rollups: Vec<_> = built_in_rollups().iter().map(|view| view.definition.clone()).collect();
    let maps = maps::aggregate(&decoded, &rollups)?;
    let (rows, bytes) = (Source::Rows(decoded.into()), Source::Bytes(bodies.bodies.into()));
    let mut engine = run_engine("engine over decoded rows, log unsynced", &options, rows, false).await?;
    engine.ratio = Some(maps.cpu_seconds / engine.cpu_seconds);
    let unsynced = run_engine("decode and engine, log unsynced", &options, bytes.clone(), false).await?;
    let synced = run_engine("decode and engine, log synced", &options, bytes.clone(), true).await?;
    let bare = run_bare("decode and log synced, no rollups", &options, bytes).await?;
    let results = [decoding, maps, engine, unsynced, synced, bare];
    println!(
        "{} events of {} bytes, {} series, {} of event time; {} worker(s), {} views",
        grouped(bodies.events as f64),
        bodies.bytes / bodies.events.max(1),
        options.shape.series,
        options.shape.span,
        options.workers,
        4 + options.more_views,
    );
    print_table(&results);
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&serde_json::json!({"workload": options.shape, "results": results}))?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn print_table(results: &[Measured]) {
    println!("{:<40}{:>8}{:>8}{:>14}{:>14}{:>10}", "", "s", "CPU-s", "events/s", "events/CPU-s", "ratio");
    for result in results {
        println!(
            "{:<40}{:>8.2}{:>8.2}{:>14}{:>14}{:>10}",
            result.name,
            result.seconds,
            result.cpu_seconds,
            grouped(result.events_per_second),
            grouped(result.events_per_cpu_second),
            result.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
        );
    }
    println!("(ratio: events/CPU-s beside those of the hash maps; the engine also keeps a log and order)");
}

fn decode_all(bodies: &Bodies) -> Result<(Vec<Arc<MetricsBatch>>, Measured)> {
    let (before, began) = (CpuTime::of(std::process::id())?, Instant::now());
    let decoded: Vec<_> = bodies.bodies.iter().map(Body::decode).collect::<Result<_>>()?;
    Ok((decoded, Measured::of("decode only", bodies.events, began, &before)?))
}

/// What is appended: bytes that are still to be decoded, or rows.
#[derive(Clone)]
enum Source {
    Bytes(Arc<[Body]>),
    Rows(Arc<[Arc<MetricsBatch>]>),
}

impl Source {
    fn batch(&self, index: usize) -> Option<Result<EventBatch>> {
        let batch = match self {
            Source::Bytes(bodies) => bodies.get(index)?.decode(),
            Source::Rows(batches) => Ok(batches.get(index)?.clone()),
        };
        Some(batch.map(EventBatch::Metrics))
    }
}

async fn run_engine(name: &'static str, options: &Options, source: Source, sync: bool) -> Result<Measured> {
    let events = options.shape.events;
    let root = options.data_root.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("streamgauge-bench-").tempdir_in(root)?;
    let mut config = EngineConfig::new(folder.path());
    (config.log_sync, config.workers, config.pending_bytes_max) = (sync, options.workers, usize::MAX);
    let engine = Engine::open(&config, Recovered::default())?;
    for minutes in 2..options.more_views as i64 + 2 {
        let mut definition = rollup(&format!("by_{minutes}m"), &format!("{minutes} minutes"), 60 * minutes);
        definition.options.backfill = false;
        engine.create_view(definition, false).await?;
    }
    let (before, began) = (CpuTime::of(std::process::id())?, Instant::now());
    append_all(&engine, &source, options.posters).await?;
    let views = engine.views();
    let coarsest = views.last().context("there are rollups")?;
    check_view(&engine, coarsest, events).await?; // a worker answers after everything that it was given before
    let measured = Measured::of(name, events, began, &before)?;
    let mut held = (0, 0);
    for view in &views {
        check_view(&engine, view, events).await?;
        let status = engine.view_status(view.id).context("a view that is maintained has a status")?;
        held = (held.0 + status.rows, held.1 + status.bytes);
    }
    let (groups, bytes) = (grouped(held.0 as f64), held.1.checked_div(held.0).unwrap_or(0));
    println!("{name}: {} views hold {groups} groups, about {bytes} bytes each with their keys", views.len());
    Ok(measured)
}

/// The same without any view: what is left is decoding, the log and the order.
async fn run_bare(name: &'static str, options: &Options, source: Source) -> Result<Measured> {
    let root = options.data_root.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("streamgauge-bench-").tempdir_in(root)?;
    let mut config = EngineConfig::new(folder.path());
    (config.built_in_views, config.workers, config.pending_bytes_max) = (false, options.workers, usize::MAX);
    let engine = Engine::open(&config, Recovered::default())?;
    let (before, began) = (CpuTime::of(std::process::id())?, Instant::now());
    append_all(&engine, &source, options.posters).await?;
    engine.settled().await?;
    let measured = Measured::of(name, options.shape.events, began, &before)?;
    let taken = engine.status().events_total;
    ensure!(taken == options.shape.events as u64, "the engine took {taken} of {} events", options.shape.events);
    Ok(measured)
}

async fn append_all(engine: &Engine, source: &Source, posters: usize) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..posters.max(1) {
        let (engine, source, next) = (engine.clone(), source.clone(), next.clone());
        tasks.spawn(async move {
            while let Some(batch) = source.batch(next.fetch_add(1, Ordering::Relaxed)) {
                engine.append(batch?).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Reads a view and checks that it holds every event: acknowledged is visible.
async fn check_view(engine: &Engine, view: &View, events: usize) -> Result<()> {
    let read = ViewRead { view: view.id, filter: RowFilter::default(), follow: None };
    let snapshot = engine.snapshot(SnapshotRequest { views: vec![read], streams: Vec::new() }).await?;
    let count: u64 = snapshot.views[0].rows.state.iter().map(|state| Summary::of_rollup(state).count).sum();
    ensure!(count == events as u64, "{} holds {count} of {events} events", view.definition.name);
    Ok(())
}
