//! What was found: tables for people, JSON for programs.

use serde::Serialize;

use crate::latency::{Latency, Quantiles};
use crate::process::Memory;
use crate::program::Memories;
use crate::throughput::{Moment, Throughput};
use crate::workload::{Bodies, Shape};

/// All runs of a measurement.
#[derive(Serialize)]
pub(crate) struct Report {
    machine: Machine,
    workload: Shape,
    workload_bytes: usize,
    connections: usize,
    body_events: usize,
    /// One a repeat.
    pub(crate) runs: Vec<Run>,
}

#[derive(Serialize)]
struct Machine {
    cores: usize,
    cpu: String,
}

/// One run, on an empty data folder.
#[derive(Serialize)]
pub(crate) struct Run {
    /// Posting as fast as it is taken.
    pub(crate) throughput: Throughput,
    /// Memory after that.
    pub(crate) memory_after_ingest: Memories,
    /// Posting at a steady pace.
    pub(crate) latency: Option<Latency>,
    /// Memory after all.
    pub(crate) memory_at_end: Memories,
}

impl Report {
    /// A report without runs.
    pub(crate) fn new(shape: &Shape, bodies: &Bodies, connections: usize, body_events: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        Report {
            machine: Machine { cores, cpu: model.map_or("unknown", |(_, model)| model).to_owned() },
            workload: shape.clone(),
            workload_bytes: bodies.bytes,
            connections,
            body_events,
            runs: Vec::new(),
        }
    }

    /// Prints what is measured, and where.
    pub(crate) fn print_head(&self) {
        let (shape, machine) = (&self.workload, &self.machine);
        println!("machine   {} cores, {}", machine.cores, machine.cpu);
        println!(
            "workload  {} events of {} bytes, {} series, {} of event time, {} of disorder, seed {}",
            grouped(shape.events as f64),
            self.workload_bytes / shape.events.max(1),
            shape.series,
            shape.span,
            shape.disorder,
            shape.seed,
        );
        println!(
            "posted    over {} connections, {} events a request",
            self.connections,
            grouped(self.body_events as f64)
        );
    }

    /// Prints the middle of each main figure when there are several runs.
    pub(crate) fn print_medians(&self) {
        if self.runs.len() < 2 {
            return;
        }
        let of = |of: &dyn Fn(&Run) -> Option<f64>| {
            let mut all: Vec<f64> = self.runs.iter().filter_map(of).collect();
            all.sort_unstable_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        let rate = |of_run: fn(&Throughput) -> &Moment| of(&|run| Some(of_run(&run.throughput).events_per_second));
        println!("\nmedian of {} runs", self.runs.len());
        println!("  acknowledged   {:>12} events/s", grouped(rate(|t| &t.acknowledged)));
        println!("  visible        {:>12} events/s", grouped(rate(|t| &t.visible)));
        println!("  in ClickHouse  {:>12} events/s", grouped(rate(|t| &t.in_clickhouse)));
        let cpu = of(&|run| Some(run.throughput.in_clickhouse.events_per_cpu_second));
        println!("  in ClickHouse  {:>12} events/CPU-s", grouped(cpu));
        let p99 = of(&|run| run.latency.as_ref().map(|latency| latency.visible_to_data.p99_ms));
        println!("  p99 visible    {p99:>12.1} ms (data endpoint)");
    }
}

impl Run {
    /// Prints the run.
    pub(crate) fn print(&self, index: usize) {
        let throughput = &self.throughput;
        println!("\nrun {index}: as fast as it goes");
        println!(
            "  {:<22}{:>9}{:>12}{:>14}   {:>8}{:>12}{:>8}",
            "until all events are", "s", "events/s", "events/CPU-s", "program", "ClickHouse", "client"
        );
        print_moment("acknowledged", &throughput.acknowledged);
        print_moment("visible to SQL", &throughput.visible);
        print_moment("in ClickHouse", &throughput.in_clickhouse);
        println!("  (the last three columns are CPU-seconds; events/CPU-s leaves the client out)");
        if throughput.pushed_back > 0 {
            println!("  the program pushed back {} times", throughput.pushed_back);
        }
        if let Some(latency) = &self.latency {
            print_latency(latency);
        }
        println!("\n  {:<22}{:>12}{:>12}{:>12}{:>12}", "memory, MiB", "program", "peak", "ClickHouse", "peak");
        print_memory("after that ingest", &self.memory_after_ingest);
        print_memory("at the end", &self.memory_at_end);
    }
}

fn print_moment(name: &str, moment: &Moment) {
    println!(
        "  {name:<22}{:>9.2}{:>12}{:>14}   {:>8.2}{:>12.2}{:>8.2}",
        moment.seconds,
        grouped(moment.events_per_second),
        grouped(moment.events_per_cpu_second),
        moment.cpu.program.total_s(),
        moment.cpu.clickhouse.total_s(),
        moment.cpu.client.total_s(),
    );
}

fn print_latency(latency: &Latency) {
    println!(
        "\nat a steady pace of {} events/s (wanted {}), CPU-s: program {:.2}, ClickHouse {:.2}, client {:.2}",
        grouped(latency.events_per_second),
        grouped(latency.wanted_events_per_second),
        latency.cpu.program.total_s(),
        latency.cpu.clickhouse.total_s(),
        latency.cpu.client.total_s(),
    );
    println!("  {:<44}{:>8}{:>10}{:>10}{:>10}", "latency, ms", "count", "p50", "p99", "max");
    let line = |name: &str, q: &Quantiles| {
        println!("  {name:<44}{:>8}{:>10.1}{:>10.1}{:>10.1}", q.count, q.p50_ms, q.p99_ms, q.max_ms);
    };
    line("acknowledged to visible at the data endpoint", &latency.visible_to_data);
    line("acknowledged to visible to SQL", &latency.visible_to_sql);
    line("sent to visible", &latency.sent_to_visible);
    line("sent to acknowledged, one event", &latency.probe_acknowledged);
    line("due to acknowledged, a body of the load", &latency.body_acknowledged);
}

fn print_memory(name: &str, memories: &Memories) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let Memories { program, clickhouse } = memories;
    let row = |memory: &Memory| (mib(memory.resident_bytes), mib(memory.peak_bytes));
    let ((a, b), (c, d)) = (row(program), row(clickhouse));
    println!("  {name:<22}{a:>12.0}{b:>12.0}{c:>12.0}{d:>12.0}");
}

/// A whole number with a comma every three digits.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in
            [(0.0, "0"), (999.4, "999"), (999.5, "1,000"), (1_234_567.0, "1,234,567"), (12_345.0, "12,345")]
        {
            assert_eq!(grouped(number), text);
        }
    }
}
