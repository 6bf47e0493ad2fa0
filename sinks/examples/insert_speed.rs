//! What writing costs: a million events of `metrics` and a tenth of as many groups, against the embedded ClickHouse.
//!
//! `cargo run --example insert_speed -p streamgauge-sinks` (with the child program built beside it).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array};
use streamgauge_schemas::event::BatchSeries;
use streamgauge_schemas::state::Accumulator;
use streamgauge_schemas::state::accumulator::Events;
use streamgauge_schemas::view::built_in_rollups;
use streamgauge_schemas::{Epoch, EventBatch, EventTime, GroupKey, Key, MetricsBatch, Row, Rows, Series};
use streamgauge_sinks::raw::RawFlush;
use streamgauge_sinks::server::cached_library;
use streamgauge_sinks::states::{read_states, write_states};
use streamgauge_sinks::{Server, ServerConfig, ServerMode, StreamTable, migrations};

const EVENTS: usize = 1_000_000;
const SERIES: usize = 100;
const REQUEST: usize = 1_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = std::env::temp_dir().join(format!("streamgauge-insert-speed-{}", std::process::id()));
    let child =
        std::env::current_exe()?.parent().and_then(|p| p.parent()).map(|p| p.join("streamgauge-clickhouse-child"));
    let library = cached_library().ok_or("no cache folder")?;
    let config =
        ServerConfig { mode: ServerMode::Embedded { library }, child_program: child, ..ServerConfig::new(&data) };
    let server = Server::start(config).await?;
    let process = server.process().ok_or("no child")?;
    let clickhouse = server.clickhouse().clone();
    migrations::migrate(&clickhouse).await?;
    let start = streamgauge_schemas::time::wall_clock().0 as u64;

    let series: Vec<BatchSeries> = (0..SERIES).map(series_of).collect();
    for round in 0..5_u64 {
        let batches = (0..EVENTS / REQUEST).map(|at| {
            let base = round * EVENTS as u64 + (at * REQUEST) as u64;
            (Epoch(start + base), request(&series, base as i64))
        });
        let (batches, meter) = (batches.collect(), Meter::start(process));
        RawFlush::new(StreamTable::Metrics, batches, format!("speed/{round}")).write(&clickhouse).await?;
        meter.stop(&format!("{EVENTS} events"));
    }
    let meter = Meter::start(process);
    tokio::time::sleep(Duration::from_secs(1)).await;
    clickhouse.execute(&format!("OPTIMIZE TABLE {} FINAL", clickhouse.table("metrics"))).await?;
    meter.stop("merging them");

    let (view, mut rows) = (built_in_rollups().remove(0), Rows::default());
    let mut accumulator = Accumulator::new(Arc::new(view.layout()));
    let value: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    accumulator.add(1, &Events { groups: &[0], times: &[0], arguments: &[value] });
    let state = accumulator.take().get(0);
    for bucket in 0..3_600 {
        for entry in &series {
            let key = GroupKey { series: entry.id, bucket: EventTime(1_714_521_600_000_000 + bucket * 1_000_000) };
            let at = Epoch(start + bucket as u64 * 1_000);
            rows.push(key, Row { generation: at, version: Epoch(at.0 + 500), state: state.clone() });
        }
    }
    let known: HashMap<_, _> = series.iter().map(|entry| (entry.id, Key::Series(entry.series.clone()))).collect();
    let (rows, known) = (Arc::new(rows), Arc::new(known));
    for _ in 0..4 {
        let meter = Meter::start(process);
        write_states(&clickhouse, &view, &rows, &known).await?;
        meter.stop(&format!("{} states", rows.len()));
    }
    let table = clickhouse.table(&view.states_table());
    for sql in [
        format!("SELECT sum(count) FROM {table} FINAL"),
        format!("SELECT sum(count) FROM {table} FINAL SETTINGS do_not_merge_across_partitions_select_final = 1"),
        format!("SELECT sum(count) FROM {table} FINAL WHERE name = 'metric_3'"),
    ] {
        let meter = Meter::start(process);
        clickhouse.query_batches(&sql).await?;
        meter.stop(&sql);
    }
    let meter = Meter::start(process);
    let loaded = read_states(&clickhouse, &view, Epoch::ZERO).await?.0.len();
    meter.stop(&format!("loading {loaded} states"));
    let meter = Meter::start(process);
    let loaded = read_states(&clickhouse, &view, Epoch(start + 3_595_000)).await?.0.len();
    meter.stop(&format!("loading the newest {loaded} states"));
    server.stop().await;
    Ok(std::fs::remove_dir_all(&data)?)
}

fn series_of(at: usize) -> BatchSeries {
    let dimensions = [("host", format!("host-{}", at % 10)), ("region", format!("eu-{}", at % 3))];
    let series = Arc::new(Series::new(format!("metric_{}", at / 10), dimensions));
    BatchSeries { id: series.id(), series, source: "bench".into() }
}

/// A request of an hour's stream, with two seconds of disorder.
fn request(series: &[BatchSeries], base: i64) -> EventBatch {
    let disorder = |at: i64| (at.wrapping_mul(2_654_435_761) % 2_000_000).abs();
    let ts = (0..REQUEST as i64).map(|at| EventTime(1_714_521_600_000_000 + (base + at) * 3_600 - disorder(base + at)));
    EventBatch::Metrics(Arc::new(MetricsBatch {
        series: series.to_vec(),
        series_index: (0..REQUEST).map(|at| ((at * 7_919 + base as usize) % SERIES) as u32).collect(),
        ts: ts.collect(),
        value: (0..REQUEST).map(|at| 50.0 + (at as f64 / 10.0).sin()).collect(),
    }))
}

/// Wall time, and processor time of ClickHouse and of this program.
struct Meter {
    process: u32,
    began: Instant,
    before: (f64, f64),
}

impl Meter {
    fn start(process: u32) -> Self {
        Meter { process, began: Instant::now(), before: (cpu_seconds(process), cpu_seconds(std::process::id())) }
    }

    fn stop(self, what: &str) {
        let (server, client) =
            (cpu_seconds(self.process) - self.before.0, cpu_seconds(std::process::id()) - self.before.1);
        println!(
            "{what:<110} wall {:.2} s, ClickHouse {server:.2} s, here {client:.2} s",
            self.began.elapsed().as_secs_f64()
        );
    }
}

fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
