//! From the bytes of a request to three maintained views with quantiles.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use super::Options;
use super::run::Run;
use crate::maps::Measured;
use crate::process::CpuTime;
use crate::report::grouped;
use crate::workload::{Body, Shape};

/// Measures it and prints it.
///
/// # Errors
/// When the engine fails, or a view does not hold every event.
pub(super) async fn run(options: &Options, shape: &Shape) -> Result<Vec<Measured>> {
    let bodies = shape.bodies(0, options.batch_events);
    let mut results = Vec::new();
    for (name, p99) in [("count, sum, min, max", false), ("count, sum, min, max, p99", true)] {
        let mut run = Run::open(options, None)?;
        for width in ["second", "minute", "hour"] {
            let p99 = if p99 { ", approx_percentile_cont(value, 0.99) AS p99" } else { "" };
            let select = format!(
                "SELECT date_bin(INTERVAL '1 {width}', ts) AS bucket, name, dimensions, count(*) AS n, \
                 sum(value) AS sum, min(value) AS min, max(value) AS max{p99} FROM metrics GROUP BY 1, 2, 3"
            );
            run.create_sql(&format!("by_{width}"), &select).await?;
        }
        let of: Arc<[Body]> = bodies.bodies.clone().into();
        let (before, began) = (CpuTime::of(std::process::id())?, Instant::now());
        run.append(move |index| Some(of.get(index)?.decode())).await?;
        let measured = Measured::of(name, bodies.events, began, &before)?;
        run.held(bodies.events).await?;
        results.push(measured);
    }
    println!("\nNDJSON to views by second, minute and hour: {} events", grouped(bodies.events as f64));
    println!("{:<30}{:>8}{:>8}{:>14}{:>16}", "", "s", "CPU-s", "events/s", "events/CPU-s");
    for result in &results {
        println!(
            "{:<30}{:>8.2}{:>8.2}{:>14}{:>16}",
            result.name,
            result.seconds,
            result.cpu_seconds,
            grouped(result.events_per_second),
            grouped(result.events_per_cpu_second),
        );
    }
    Ok(results)
}
