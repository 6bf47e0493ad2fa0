//! Does what the schedule says, under load.

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use crate::producers::Producers;
use crate::report::Report;
use crate::schedule::{Fault, Round, UNSYNCED};
use crate::site::Site;
use crate::support::client::JSON;
use crate::support::program::try_signal;
use crate::torn::{self, Tail};

/// Requests that must be acknowledged before a fault, so that it meets load, and after one that must pass.
const PROGRESS_REQUESTS: u64 = 20;

/// One round: load, then the fault. Afterwards a program may run or not; the producers find out.
pub(crate) async fn inject(
    site: &mut Site,
    producers: &Producers,
    round: &Round,
    report: &mut Report,
) -> anyhow::Result<()> {
    if let Some(plan) = round.fault.plan() {
        site.ensure_ended().await?;
        return with_plan(site, producers, round, &plan, report).await;
    }
    site.ensure_running().await?;
    producers.progress(PROGRESS_REQUESTS).await?;
    tokio::time::sleep(round.after).await;
    site.check_alive()?;
    match &round.fault {
        Fault::KillClickHouse => {
            site.signal_clickhouse("KILL");
            report.clickhouse_kills += 1;
            producers.progress(PROGRESS_REQUESTS).await.context("without ClickHouse")?;
        }
        Fault::StopClickHouse { lasting } => {
            let stopped = site.signal_clickhouse("STOP");
            tokio::time::sleep(*lasting).await;
            for id in stopped {
                try_signal("CONT", id);
            }
            report.outages += 1;
        }
        Fault::KillBoth => {
            site.signal_clickhouse("KILL");
            site.kill()?;
            report.clickhouse_kills += 1;
            report.program_kills += 1;
        }
        Fault::Terminate => {
            site.terminate().await?;
            report.terminations += 1;
        }
        Fault::Kill | Fault::Die { .. } | Fault::Refuse { .. } => {
            site.kill()?;
            report.program_kills += 1;
        }
    }
    producers.check()
}

/// A life with a plan of faults.
async fn with_plan(
    site: &mut Site,
    producers: &Producers,
    round: &Round,
    plan: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let died_early = site.start(Some(plan)).await?.is_some();
    match round.fault {
        Fault::Die { point, patience, .. } => {
            if point.starts_with("catalog.") && !died_early {
                make_stream(site, producers, round.seed).await;
            }
            let died = died_early || site.until_dead(patience).await?;
            if !died {
                site.kill()?; // it did not come there
            }
            report.program_kills += 1;
            report.died_at(point, died);
            if died {
                tear(site, point, round.seed, report)?;
            }
        }
        _ => {
            producers.progress(PROGRESS_REQUESTS).await.context("while steps were refused")?;
            tokio::time::sleep(round.after).await;
            producers.progress(PROGRESS_REQUESTS).await.context("after steps were refused")?;
            site.check_alive()?;
            report.refusals += 1;
        }
    }
    producers.check()
}

/// Makes one more stream, so that there is a change for the catalog; when it is acknowledged, it must stay.
async fn make_stream(site: &Site, producers: &Producers, seed: u64) {
    let name = format!("chaos_made_{seed:x}");
    let definition = json!({"name": name, "time_column": "at", "columns": [{"name": "value", "type": "f64"}]});
    let headers = [("content-type", JSON)];
    let answer = site.client().try_request("POST", "/api/v1/streams", &headers, definition.to_string()).await;
    if answer.is_ok_and(|answer| answer.status == 201) {
        producers.ledger().made.push(name);
    }
}

/// After a death between write and sync, the disk may have any part of what was written.
fn tear(site: &Site, point: &str, seed: u64, report: &mut Report) -> anyhow::Result<()> {
    let tail = match point {
        _ if UNSYNCED.contains(&point) => Tail::LastGroup,
        "log.write" => Tail::Beyond,
        _ => return Ok(()),
    };
    let torn = torn::tear(&site.log_dir(), tail, &mut StdRng::seed_from_u64(seed)).context("tear the log")?;
    if let Some(torn) = torn {
        println!("       torn: {torn}");
        report.torn += 1;
    }
    Ok(())
}
