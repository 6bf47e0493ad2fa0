//! The program `streamgauge`.
//!
//! # Layout
//!
//! - [`config`]: what can be set, from flags, environment and file.
//! - [`serve`]: the server: starts and stops everything in order.
//! - [`flush_source`], [`history`], [`system`], [`restart`]: how engine, sinks and queries are joined.
//! - [`http`]: the HTTP interface and the web page; [`postgres`]: the protocol of PostgreSQL, for its clients;
//!   [`flight`]: Arrow Flight SQL.
//! - [`client`]: the commands that talk to a running server.
//! - [`rate`], [`logging`].

mod backfill;
mod client;
mod config;
mod flight;
mod flush_source;
mod history;
mod http;
mod logging;
mod postgres;
mod rate;
mod restart;
mod serve;
mod system;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Real-time analytics in one program: post events, ask SQL over live and history as one table, follow series live.
#[derive(Parser)]
#[command(name = "streamgauge", version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    Serve(Box<config::ServeArgs>),
    /// Post simulated metrics to a running server.
    Simulate(client::simulate::SimulateArgs),
    /// Post events from CSV or NDJSON files to a running server.
    Replay(client::replay::ReplayArgs),
    /// Show events that a running server did not accept, and send them again after a fix.
    Rejects(client::rejects::RejectsArgs),
    /// Ask a running server SQL.
    Sql(client::sql::SqlArgs),
    /// Ask whether a server is ready; for health checks.
    Health(client::health::HealthArgs),
    /// Print the description of the HTTP interface.
    #[command(hide = true)]
    Openapi,
}

fn main() -> ExitCode {
    // The ClickHouse child is this very program; it must not pass through anything else.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == streamgauge_sinks::server::SUBCOMMAND) {
        return clickhouse_child(arguments);
    }
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Serve(args) => serve::run(args.given_by(matches.subcommand_matches("serve"))),
        Command::Simulate(args) => block_on(client::simulate::run(args)),
        Command::Replay(args) => block_on(client::replay::run(args)),
        Command::Rejects(args) => block_on(client::rejects::run(args)),
        Command::Sql(args) => block_on(client::sql::run(args)),
        Command::Health(args) => block_on(client::health::run(args)),
        Command::Openapi => {
            println!("{}", http::openapi::json());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn clickhouse_child(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let Some(args) = streamgauge_sinks::server::ChildArgs::parse(arguments) else {
        eprintln!("error: this command is for the program itself");
        return ExitCode::from(2);
    };
    let Err(error) = streamgauge_sinks::server::run_embedded_child(&args);
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}
