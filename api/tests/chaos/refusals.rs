//! Makes ClickHouse refuse rows for good, as an operator's constraint may, until it is taken away again.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::site::Site;
use crate::support::{Client, PATIENCE};

/// Tables, and which rows they take for a while. They refuse about one epoch of a flush or a few rows of a view, so that
/// narrowing it down takes a second and not minutes; and one of them nearly everything.
pub(crate) const REFUSALS: [(&str, &str); 6] = [
    ("metrics", "_epoch % 100 != 0"),
    ("metrics_1s_states", "count % 50 != 0"),
    ("metrics_1d_states", "count % 50 != 0"),
    ("requests", "_epoch % 100 != 0"),
    ("rejects", "_epoch % 100 = 0"),
    ("chaos_doors", "_epoch % 30 != 0"),
];
/// How long it may take until something is set aside: refusals are tried again a few times, slower and slower.
pub(crate) const SET_ASIDE_WITHIN: Duration = Duration::from_secs(45);
/// How long a life is given to restore what is set aside; it tries at its start, and then once a minute.
const RESTORED_WITHIN: Duration = Duration::from_secs(4);
/// So many starts are tried until everything is restored.
const STARTS_MAX: usize = 8;

/// Makes a table refuse rows from now on.
pub(crate) async fn refuse(site: &mut Site, refusal: usize) -> anyhow::Result<()> {
    let (table, takes) = REFUSALS[refusal];
    site.refusing.insert(table);
    change(site.client(), &format!("ALTER TABLE {table} ADD CONSTRAINT IF NOT EXISTS chaos CHECK {takes}")).await
}

/// Makes the table of `metrics` refuse rows once it has what came before: a flush that several lives did not get done has
/// many epochs, and narrowing it takes long.
pub(crate) async fn refuse_soon(site: &mut Site) -> anyhow::Result<()> {
    take(site).await?;
    let began = Instant::now();
    let upto = status(site.client()).await?["epoch"].as_u64();
    loop {
        let status = status(site.client()).await?;
        let flush = status["flush"].as_array().and_then(|all| all.iter().find(|flush| flush["item"] == "stream/0"));
        if flush.is_some_and(|flush| flush["epoch"].as_u64() >= upto) {
            return refuse(site, 0).await;
        }
        ensure!(began.elapsed() < PATIENCE, "metrics is not flushed up to {upto:?} in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn status(client: &Client) -> anyhow::Result<Value> {
    let answer = client.try_request("GET", "/api/v1/status", &[], String::new()).await?;
    ensure!(answer.status == 200, "the status is not answered: {}", answer.text());
    Ok(answer.json())
}

/// Makes every table take everything again.
pub(crate) async fn take(site: &mut Site) -> anyhow::Result<()> {
    for table in site.refusing.clone() {
        change(site.client(), &format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS chaos")).await?;
        site.refusing.remove(table);
    }
    Ok(())
}

/// Changes a table, once ClickHouse answers and has it.
async fn change(client: &Client, sql: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let said = match client.ask_clickhouse(sql).await {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(answer) => answer.text().to_owned(),
            Err(error) => error.to_string(),
        };
        ensure!(began.elapsed() < PATIENCE, "{sql}\n{said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the program tells of rows that are set aside.
#[derive(Clone, Debug, Default)]
pub(crate) struct SetAside {
    /// The names of the files.
    pub(crate) files: Vec<String>,
    pub(crate) rows: u64,
    /// Whether all of them count: what they belong to is flushed beyond them.
    committed: bool,
    /// Whether a flush is failing, of which something may be set aside yet.
    failing: bool,
}

/// Asks the program what is set aside.
pub(crate) async fn set_aside(client: &Client) -> anyhow::Result<SetAside> {
    let status = status(client).await?;
    let (files, flushes) = (status["aside"].as_array(), status["flush"].as_array());
    let (files, flushes) = (files.context("no files")?, flushes.context("no flushes")?);
    let name = |file: &Value| file["file"].as_str().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
    let names: Vec<String> = files.iter().filter_map(name).collect();
    let flushed = |name: &String| {
        let mut parts = name.trim_end_matches(".arrow").splitn(3, '-').skip(1);
        let (upto, item) = (parts.next()?.parse::<u64>().ok()?, parts.next()?);
        let flush =
            flushes.iter().find(|flush| flush["item"].as_str().is_some_and(|of| of.replace('/', "-") == item))?;
        Some(flush["epoch"].as_u64()? >= upto)
    };
    Ok(SetAside {
        rows: files.iter().filter_map(|file| file["rows"].as_u64()).sum(),
        committed: names.iter().all(|name| flushed(name) == Some(true)),
        failing: flushes.iter().any(|flush| flush["error"].is_string()),
        files: names,
    })
}

/// Waits until something is set aside, and counts; answers what, or that nothing was in time.
pub(crate) async fn until_set_aside(site: &Site) -> anyhow::Result<Option<SetAside>> {
    let began = Instant::now();
    while began.elapsed() < SET_ASIDE_WITHIN {
        let found = set_aside(site.client()).await?;
        if !found.files.is_empty() && found.committed {
            return Ok(Some(found));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(None)
}

/// Lets ClickHouse take everything, and waits until all that was set aside is restored, over starts of the program;
/// answers what there was.
pub(crate) async fn until_restored(site: &mut Site) -> anyhow::Result<SetAside> {
    site.ensure_running().await?;
    take(site).await?;
    let first = set_aside(site.client()).await?;
    for _ in 0..STARTS_MAX {
        let began = Instant::now();
        while began.elapsed() < RESTORED_WITHIN {
            site.check_alive()?;
            let left = set_aside(site.client()).await?;
            if left.files.is_empty() && !left.failing {
                return Ok(first);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // A file that was not committed at a start has its turn at the next.
        site.kill()?;
        site.start(None).await?;
    }
    bail!("after {STARTS_MAX} starts there are still rows set aside: {:?}", set_aside(site.client()).await?)
}
