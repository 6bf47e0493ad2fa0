//! The crash harness: kills, outages and torn writes by a schedule, under load, against the real program with its real
//! ClickHouse; and afterwards a comparison of everything with a recomputation from what was acknowledged.
//!
//! ```text
//!   seed ─▶ schedule ─▶ faults ─┬─▶ program, ClickHouse ◀── producers ──▶ ledger
//!                        torn ──┘          │                                │
//!                                          └───────────▶ check ◀────────────┘ ─▶ report
//! ```
//!
//! A seed makes the same schedule and the same requests again; when each meets the other is up to the machine.
//!
//! | variable | meaning |
//! |---|---|
//! | `CHAOS_SEED` | a number, or `random`; without it a fixed seed, so that runs can be compared, and then a random one |
//! | `CHAOS_KILLS` | how many processes are killed in all |
//! | `CHAOS_SECONDS` | after so long no other fault is begun; the comparison still follows |
//!
//! # Layout
//!
//! - `schedule`: what happens when, from a seed.
//! - `requests`: what is posted, and what it must add; `producers`: posts it until it is answered.
//! - `site`: the data folder and the program that runs on it, life after life.
//! - `faults`: does what the schedule says; `torn`: tears the end of the log as a power failure may.
//! - `ledger`: what was acknowledged; `tables`: rows as they are compared; `check`: the comparison; `report`: the figures.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../support/mod.rs"]
mod support;

mod check;
mod faults;
mod ledger;
mod producers;
mod report;
mod requests;
mod schedule;
mod site;
mod tables;
mod torn;

use std::time::{Duration, Instant};

use anyhow::Context;

use producers::Producers;
use report::Report;
use schedule::Schedule;
use site::Site;

/// The seed of runs that can be compared with each other: its first four kills meet a torn tail, a flush that is half
/// done, a ClickHouse that dies and one that stands still, and a log that cannot be synced for a while.
const SEED: u64 = 43;
/// How many processes are killed when nothing else is said: in about a minute.
const KILLS: usize = 8;
/// So many rounds are between two comparisons.
const ROUNDS_A_CHECK: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_once_whatever_happens() {
    let (kills, seconds) = (number("CHAOS_KILLS").map_or(KILLS, |kills| kills as usize), number("CHAOS_SECONDS"));
    let deadline = Instant::now() + Duration::from_secs(seconds.unwrap_or(3_600));
    for schedule in schedules(std::env::var("CHAOS_SEED").ok().as_deref(), kills) {
        println!("{schedule}");
        match run(&schedule, deadline).await {
            Ok(report) => println!("{report}"),
            Err(error) => panic!("{error:#}\nreplay with: make chaos SEED={} KILLS={}", schedule.seed, schedule.kills),
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

/// The schedules of a run; of two, each has about half of the kills.
fn schedules(seed: Option<&str>, kills: usize) -> Vec<Schedule> {
    match seed {
        None | Some("") => {
            vec![Schedule::new(SEED, kills.div_ceil(2)), Schedule::new(random_seed(), (kills / 2).max(1))]
        }
        Some("random") => vec![Schedule::new(random_seed(), kills)],
        Some(seed) => vec![Schedule::new(seed.parse().unwrap_or_else(|e| panic!("CHAOS_SEED={seed}: {e}")), kills)],
    }
}

/// Short enough to be typed again.
fn random_seed() -> u64 {
    u64::from(rand::random::<u32>())
}

/// Runs a schedule on a new data folder.
async fn run(schedule: &Schedule, deadline: Instant) -> anyhow::Result<Report> {
    let mut site = Site::new();
    let outcome = run_at(&mut site, schedule, deadline).await;
    outcome.map_err(|error| anyhow::anyhow!("{error:#}\n{}", site.output_tail()))
}

async fn run_at(site: &mut Site, schedule: &Schedule, deadline: Instant) -> anyhow::Result<Report> {
    let mut report = Report::new(schedule);
    site.start(None).await?;
    requests::make_streams(site.client()).await?;
    let producers = Producers::start(schedule.seed, site.address());
    for (index, round) in schedule.rounds.iter().enumerate() {
        if Instant::now() > deadline {
            println!("time is up after {index} of {} rounds", schedule.rounds.len());
            break;
        }
        println!("{index:>3}  after {:>3} s: {}", report.seconds(), round.fault);
        faults::inject(site, &producers, round, &mut report)
            .await
            .with_context(|| format!("round {index}: {}", round.fault))?;
        report.rounds += 1;
        if report.rounds.is_multiple_of(ROUNDS_A_CHECK) {
            check::across_the_seam(site, &producers).await.with_context(|| format!("after round {index}"))?;
            producers.resume();
        }
    }
    check::everything(site, &producers).await.context("at the end")?;
    report.take(&producers.ledger());
    Ok(report)
}
