//! Does what the schedule says, under load.

use anyhow::{Context, ensure};
use serde_json::json;

use crate::disk::Loss;
use crate::producers::Producers;
use crate::refusals;
use crate::report::Report;
use crate::schedule::{AFTER_ANOTHER_DEATH, Fault, OF_TRUNCATION, Round};
use crate::site::Site;
use crate::support::PATIENCE;
use crate::support::client::JSON;
use crate::support::program::try_signal;

/// Requests that must be acknowledged before a fault, so that it meets load, and after one that must pass.
const PROGRESS_REQUESTS: u64 = 20;

/// One round: load, then the fault. Afterwards a program may run or not; the producers find out.
pub(crate) async fn inject(
    site: &mut Site,
    producers: &Producers,
    round: &Round,
    report: &mut Report,
) -> anyhow::Result<()> {
    site.segment_bytes = round.segment_bytes;
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
        Fault::RefuseRows { refusal } => refuse_rows(site, *refusal, report).await?,
        Fault::TakeRows => refusals::take(site).await?,
        Fault::Kill | Fault::Die { .. } | Fault::Refuse { .. } => {
            site.kill()?;
            report.program_kills += 1;
        }
    }
    lose_power(site, round.loss, round.seed, report)?;
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
    if let Fault::Die { point, .. } = round.fault
        && AFTER_ANOTHER_DEATH.contains(&point)
    {
        life_before(site, producers, point, round.seed, report).await.context("in the life before")?;
    }
    let died_early = site.start(Some(plan)).await?.is_some();
    if let Fault::Die { point, .. } = round.fault {
        let died = died_early || die(site, producers, round).await?;
        if site.runs() {
            site.kill()?; // it did not come there
        }
        report.program_kills += 1;
        report.planned(point, died);
        lose_power(site, round.loss, round.seed, report)?;
    } else {
        producers.progress(PROGRESS_REQUESTS).await.context("while steps were refused")?;
        tokio::time::sleep(round.after).await;
        producers.progress(PROGRESS_REQUESTS).await.context("after steps were refused")?;
        site.check_alive()?;
        report.refusals += 1;
    }
    producers.check()
}

/// Brings a program that runs to the point at which it is to die; answers whether it did.
async fn die(site: &mut Site, producers: &Producers, round: &Round) -> anyhow::Result<bool> {
    let Fault::Die { point, patience, .. } = round.fault else { return Ok(false) };
    if point.starts_with("catalog.") {
        make_stream(site, producers, round.seed).await;
    }
    if point.starts_with("aside.") && !AFTER_ANOTHER_DEATH.contains(&point) {
        refusals::refuse_soon(site).await?;
    }
    // Everything is flushed at a graceful end, which comes sooner than the pace of the slowest view.
    if OF_TRUNCATION.contains(&point) && round.seed.is_multiple_of(2) {
        producers.progress(PROGRESS_REQUESTS).await?;
        return site.end_or_die().await;
    }
    site.until_dead(patience).await
}

/// The life before one that dies where only something that was left over leads.
async fn life_before(
    site: &mut Site,
    producers: &Producers,
    point: &str,
    seed: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let loss = if point == "log.cut" {
        let died = site.start(Some("log.written=kill@5")).await?.is_some() || site.until_dead(PATIENCE).await?;
        ensure!(died, "no group is written");
        Loss::Data
    } else {
        site.start(None).await?;
        producers.progress(PROGRESS_REQUESTS).await?;
        if refusals::set_aside(site.client()).await?.files.is_empty() {
            refusals::refuse_soon(site).await?;
            report.row_refusals += 1;
        }
        // What is not committed when a life begins has its turn a minute later.
        wait_for_set_aside(site).await?;
        refusals::take(site).await?;
        site.kill()?;
        Loss::Nothing
    };
    report.program_kills += 1;
    lose_power(site, loss, seed, report)
}

/// Makes a table refuse rows, and waits until some are set aside.
async fn refuse_rows(site: &mut Site, refusal: usize, report: &mut Report) -> anyhow::Result<()> {
    refusals::refuse(site, refusal).await?;
    report.row_refusals += 1;
    wait_for_set_aside(site).await
}

async fn wait_for_set_aside(site: &Site) -> anyhow::Result<()> {
    if let Some(found) = refusals::until_set_aside(site).await? {
        println!("       set aside: {} rows in {} files", found.rows, found.files.len());
    }
    Ok(())
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

/// After a death, the disk has what was synced, and any part of the rest.
fn lose_power(site: &mut Site, loss: Loss, seed: u64, report: &mut Report) -> anyhow::Result<()> {
    if site.runs() {
        return Ok(());
    }
    let took = site.lose_power(loss, seed).context("let the power fail")?;
    report.power_failures += usize::from(loss != Loss::Nothing);
    for what in took {
        println!("       lost: {what}");
    }
    Ok(())
}
