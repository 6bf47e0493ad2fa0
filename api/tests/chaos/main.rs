//! The crash harness: kills, power failures, outages and refusals by a schedule, under load, against the real program with its real
//! ClickHouse; and afterwards a comparison of everything with a recomputation from what was acknowledged.
//!
//! ```text
//!   seed ─▶ schedule ─▶ faults, refusals ─▶ program, ClickHouse ◀── producers ──▶ ledger
//!                                            │ journal   │                          │
//!                                            └▶ disk     └───────▶ check ◀──────────┘ ─▶ report
//! ```
//!
//! A seed makes the same schedule and the same requests again; when each meets the other is up to the machine.
//!
//! | variable | meaning |
//! |---|---|
//! | `CHAOS_SEED` | a number, `random`, or `tour`: every fault point once; without it the tour, and then a short random one |
//! | `CHAOS_KILLS` | how many processes are killed in all |
//! | `CHAOS_SECONDS` | after so long no other fault is begun; the comparison still follows |
//!
//! # Layout
//!
//! - `schedule`: what happens when, from a seed.
//! - `requests`: what is posted, and what it must add; `producers`: posts it until it is answered.
//! - `site`: the data folder and the program that runs on it, life after life.
//! - `disk`: what a power failure may leave of what the program asked the disk for.
//! - `refusals`: makes ClickHouse refuse rows, and waits until those that were set aside are back.
//! - `faults`: does what the schedule says.
//! - `ledger`: what was acknowledged; `tables`: rows as they are compared; `check`: the comparison; `report`: the figures.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../support/mod.rs"]
mod support;

mod check;
mod disk;
mod faults;
mod ledger;
mod producers;
mod refusals;
mod report;
mod requests;
mod schedule;
mod site;
mod tables;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use producers::Producers;
use report::Report;
use schedule::Schedule;
use site::Site;

/// How many processes a random schedule kills when nothing else is said: in about half a minute.
const KILLS: usize = 4;
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
            Err(error) if schedule.strict => panic!("{error:#}\nreplay with: make chaos SEED=tour"),
            Err(error) => panic!("{error:#}\nreplay with: make chaos SEED={} KILLS={}", schedule.seed, schedule.kills),
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

/// The schedules of a run.
fn schedules(seed: Option<&str>, kills: usize) -> Vec<Schedule> {
    match seed {
        None | Some("") => vec![Schedule::tour(), Schedule::new(random_seed(), kills)],
        Some("tour") => vec![Schedule::tour()],
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
            check::across_the_seam(site, &producers, &mut report)
                .await
                .with_context(|| format!("after round {index}"))?;
            producers.resume();
        }
    }
    check::everything(site, &producers, &mut report).await.context("at the end")?;
    site.follow_disk()?;
    report.take(&producers.ledger(), site);
    let unmet = report.unmet();
    ensure!(!schedule.strict || unmet.is_empty(), "{report}\nno program died at {unmet:?}");
    Ok(report)
}
