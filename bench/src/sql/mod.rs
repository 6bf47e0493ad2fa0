//! SQL over history and a live tail, beside the same question asked of ClickHouse itself.
//!
//! History is written straight into the tables of two streams, as flushed events lie there; the tail is posted while the
//! questions are asked, at a steady pace. Each question is asked of the program and of ClickHouse by turns, the answer as
//! Arrow over HTTP in both cases; ClickHouse does not see the tail that is not flushed. The program keeps no answers for
//! these, so that each is computed. A dashboard's questions are asked of another program, empty and as it is by default.
//!
//! - `load`: the streams and their history; `questions`: what is asked; `hot`: a dashboard's questions at a steady pace.

mod hot;
mod load;
mod questions;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::client::Client;
use crate::program::{Launch, Program};
use load::Tail;
use questions::QUESTIONS;

/// The settings of the run.
#[derive(Args)]
pub(crate) struct Options {
    /// Events of history, in millions
    #[arg(long, value_name = "N", default_value_t = 50)]
    millions: u64,
    /// Events a second that arrive meanwhile
    #[arg(long, value_name = "RATE", default_value_t = 20_000)]
    live_rate: usize,
    /// How often each question is asked of either
    #[arg(long, value_name = "N", default_value_t = 7)]
    turns: usize,
    /// Only the questions whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only a dashboard's questions
    #[arg(long)]
    hot_only: bool,
    /// Leave out a dashboard's questions
    #[arg(long, conflicts_with = "hot_only")]
    no_hot: bool,
    /// Events in each request beside a dashboard's questions; 50,000 a second arrive in all
    #[arg(long, value_name = "N", default_value = "2500")]
    hot_batch: NonZeroUsize,
    /// The program to measure [default: `streamgauge` beside this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// The folder for the data [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
    /// Also writes the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Default, Serialize)]
struct Results {
    questions: Vec<Measured>,
    hot: Option<hot::Hot>,
}

/// One question, in milliseconds.
#[derive(Serialize)]
struct Measured {
    name: &'static str,
    ours_ms: f64,
    clickhouse_ms: f64,
    ratio: f64,
}

/// Runs all of it and prints a table.
///
/// # Errors
/// When the program or its ClickHouse refuses a question.
pub(crate) async fn run(options: Options) -> Result<()> {
    let start = async |settings: &[&str]| {
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Program::start(&Launch::new(options.program.clone(), options.data_root.clone(), settings)?).await
    };
    let mut results = Results::default();
    if !options.hot_only {
        let program = start(&["--cache-bytes-max", "0"]).await?;
        results.questions = analytical(program.client(), &options).await?;
        program.stop().await?;
    }
    if !options.no_hot {
        let program = start(&[]).await?;
        results.hot = Some(hot::measure(program.client(), options.hot_batch.get()).await?);
        program.stop().await?;
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&results)? + "\n")?;
    }
    Ok(())
}

async fn analytical(client: &Client, options: &Options) -> Result<Vec<Measured>> {
    let began = Instant::now();
    load::history(client, options.millions * 1_000_000).await?;
    println!("{} million events of history in {:.0} s", options.millions, began.elapsed().as_secs_f64());
    let tail = Tail::begin(client.apart()?, options.live_rate);
    println!("{:<44}{:>12}{:>16}{:>8}", "question", "ours ms", "ClickHouse ms", "ratio");
    let mut measured = Vec::new();
    for question in QUESTIONS {
        if options.only.as_ref().is_some_and(|only| !question.name.contains(only.as_str())) {
            continue;
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for turn in 0..=options.turns {
            let (one, other) =
                (timed(client.sql_arrow(question.ours)), timed(client.clickhouse_arrow(question.clickhouse)));
            let (one, other) = (one.await?, other.await?);
            if turn > 0 {
                ours.push(one); // the first turn warms up
                theirs.push(other);
            }
        }
        let (ours_ms, clickhouse_ms) = (median(&mut ours), median(&mut theirs));
        let ratio = ours_ms / clickhouse_ms;
        println!("{:<44}{ours_ms:>12.1}{clickhouse_ms:>16.1}{ratio:>8.2}", question.name);
        measured.push(Measured { name: question.name, ours_ms, clickhouse_ms, ratio });
    }
    let mut ratios: Vec<f64> = measured.iter().map(|measured| measured.ratio).collect();
    if !ratios.is_empty() {
        let middle = median(&mut ratios);
        let arrived = tail.end().await?;
        println!("median ratio {middle:.2}, worst {:.2}; {arrived} events arrived meanwhile", ratios[ratios.len() - 1]);
    }
    Ok(measured)
}

/// Milliseconds.
async fn timed(work: impl Future<Output = Result<usize>>) -> Result<f64> {
    let began = Instant::now();
    work.await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// The middle; sorts them.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
