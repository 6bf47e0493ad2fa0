//! `streamgauge simulate`: made-up metrics at a chosen pace, like those of a fleet of servers.
//!
//! # Layout
//!
//! - [`schedule`]: which event happens when.
//! - [`signal`]: what a series' values look like.
//!
//! An event's time is the moment at which it is scheduled, not the moment at which it is sent. When the server pushes back, events
//! are made later but keep their times; when that goes on for [`BEHIND_MAX`], the oldest are skipped, and the summary says so.

mod schedule;
mod signal;

use std::sync::Arc;
use std::time::Duration as StdDuration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use streamgauge_schemas::time::wall_clock;
use streamgauge_schemas::{Duration, EventTime};
use tokio_util::sync::CancellationToken;

use self::schedule::{Pace, Schedule};
use self::signal::Signal;
use super::connection::Connection;
use super::error::ClientError;
use super::progress::{Progress, grouped};
use super::sender::Sender;
use super::{SendArgs, ServerArgs, stop};

const PATH: &str = "/api/v1/streams/metrics/events";
/// How often due events are looked for when a rate is given.
const RATE_TICK: StdDuration = StdDuration::from_millis(50);
/// How far the simulation may fall behind the clock.
const BEHIND_MAX: Duration = Duration::from_secs(30);

/// Options of `streamgauge simulate`.
#[derive(Debug, clap::Args)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Metrics with different names (`simulated.cpu`, `simulated.memory` …)
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    metrics: u32,
    /// Series over all: each metric on as many hosts as it takes [default: one a metric]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    series: Option<u32>,
    /// How often each series has an event
    #[arg(long, default_value = "300ms", value_name = "TIME", conflicts_with = "rate")]
    interval: Duration,
    /// Events a second over all series, instead of an interval
    #[arg(long, value_name = "EVENTS", value_parser = positive)]
    rate: Option<f64>,
    /// How long to go on [default: until Ctrl-C]
    #[arg(long, value_name = "TIME")]
    duration: Option<Duration>,
    /// Events arrive out of order: each is dated back by up to this time
    #[arg(long, value_name = "TIME")]
    disorder: Option<Duration>,
    /// Share of events that are late, from 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    late_share: f64,
    /// How late a late event is at most
    #[arg(long, default_value = "10m", value_name = "TIME")]
    late_by: Duration,
    /// Same seed, same values [default: another each time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    #[command(flatten)]
    send: SendArgs,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("expected a number above 0".to_owned()) }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("expected a number from 0 to 1".to_owned()) }
}

/// Sends simulated events until the duration is over or a signal comes, and prints a summary.
pub(crate) async fn run(args: SimulateArgs) -> anyhow::Result<()> {
    let stop = stop::on_signal()?;
    let connection = Arc::new(Connection::new(&args.server.url, args.send.retry_for.into(), stop.clone())?);
    let mut simulation = Simulation::new(&args, wall_clock());
    let mut sender = Sender::new(connection.clone(), PATH, &args.send);
    let mut progress = Progress::new("simulate", args.send.quiet);
    if !args.send.quiet {
        eprintln!("simulate: {} to {}; Ctrl-C ends it", simulation.describe(), connection.url());
    }
    let outcome = simulation.run(&mut sender, &mut progress, &stop).await;
    let finished = sender.finish().await;
    println!("{}", progress.summary(sender.counts()));
    if simulation.skipped > 0 {
        println!("  {} skipped, because the server could not keep up", grouped(simulation.skipped));
    }
    match outcome.and(finished) {
        Ok(()) | Err(ClientError::Stopped) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

struct Simulation {
    schedule: Schedule,
    signals: Vec<Signal>,
    random: SmallRng,
    disorder_us: i64,
    late_share: f64,
    late_by_us: i64,
    /// The number of the next event.
    next: u64,
    skipped: u64,
}

impl Simulation {
    fn new(args: &SimulateArgs, start: EventTime) -> Self {
        let mut random = args.seed.map_or_else(SmallRng::from_os_rng, SmallRng::seed_from_u64);
        let series = args.series.unwrap_or(args.metrics);
        let metrics = args.metrics.min(series);
        let signals = (0..series).map(|index| Signal::new(index, metrics, &mut random)).collect();
        let pace = args.rate.map_or(Pace::Every(args.interval), Pace::PerSecond);
        let end = args.duration.map(|duration| EventTime(start.0 + duration.as_micros()));
        Simulation {
            schedule: Schedule { start, series: u64::from(series), pace, end },
            signals,
            random,
            disorder_us: args.disorder.map_or(0, Duration::as_micros),
            late_share: args.late_share,
            late_by_us: args.late_by.as_micros(),
            next: 0,
            skipped: 0,
        }
    }

    fn describe(&self) -> String {
        let series = grouped(self.schedule.series);
        match self.schedule.pace {
            Pace::Every(interval) => format!("{series} series every {interval}"),
            Pace::PerSecond(rate) => format!("{rate} events a second over {series} series"),
        }
    }

    async fn run(
        &mut self,
        sender: &mut Sender,
        progress: &mut Progress,
        stop: &CancellationToken,
    ) -> Result<(), ClientError> {
        let tick = match self.schedule.pace {
            Pace::Every(interval) => interval.into(),
            Pace::PerSecond(_) => RATE_TICK,
        };
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return Ok(()),
            }
            let now = wall_clock();
            self.skip_before(EventTime(now.0 - BEHIND_MAX.as_micros()));
            let due = self.schedule.due(now);
            while self.next < due && !stop.is_cancelled() {
                self.write_next(sender);
                sender.send_if_full().await?;
            }
            sender.send().await?;
            progress.tick(sender.counts(), String::new);
            if self.schedule.is_over(now) {
                return Ok(());
            }
        }
    }

    fn write_next(&mut self, sender: &mut Sender) {
        let scheduled = self.schedule.time_of(self.next);
        let signal = &mut self.signals[(self.next % self.schedule.series) as usize];
        let value = signal.value(scheduled.0 as f64 / 1e6, &mut self.random);
        let mut back_us = self.random.random_range(0..=self.disorder_us);
        if self.late_share > 0.0 && self.random.random_bool(self.late_share) {
            back_us += self.random.random_range(0..=self.late_by_us);
        }
        let batch = sender.batch();
        signal.write(scheduled.0 - back_us, value, &mut batch.body);
        batch.events += 1;
        self.next += 1;
    }

    /// Gives up events that were due before `bound`; they are counted.
    fn skip_before(&mut self, bound: EventTime) {
        let overdue = self.schedule.due(bound);
        self.skipped += overdue.saturating_sub(self.next);
        self.next = self.next.max(overdue);
    }
}
