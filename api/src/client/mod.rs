//! Commands that talk to a running server over HTTP, as any other client would.
//!
//! Nothing here knows the engine: what these commands can do, a user's own program can do as well.
//!
//! # Layout
//!
//! - [`error`]: what can go wrong between a command and its server.
//! - [`connection`]: requests, and the one place where they are tried again.
//! - [`sender`]: batches of events in flight, and what became of them.
//! - [`progress`]: status lines and the summary.
//! - [`stop`]: Ctrl-C and SIGTERM as a token.
//! - [`simulate`]: `streamgauge simulate`, made-up metrics at a chosen pace.
//! - [`replay`]: `streamgauge replay`, files as if their events happened now.
//! - [`rejects`]: `streamgauge rejects`, events that were not accepted, listed and sent again.
//! - [`sql`]: `streamgauge sql`, statements and a shell; [`table`]: results as text.
//! - [`health`]: `streamgauge health`, an exit code for a supervisor.

pub(crate) mod connection;
pub(crate) mod error;
pub(crate) mod health;
pub(crate) mod progress;
pub(crate) mod rejects;
pub(crate) mod replay;
pub(crate) mod sender;
pub(crate) mod simulate;
pub(crate) mod sql;
pub(crate) mod stop;
pub(crate) mod table;

use streamgauge_schemas::Duration;

/// Where the server is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// Address of the server
    #[arg(long, env = "STREAMGAUGE_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub(crate) url: String,
}

/// How events are sent; the same for every command that sends some.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SendArgs {
    /// Events a request at most
    #[arg(long, default_value_t = 2_000, value_name = "EVENTS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) batch: u32,
    /// Requests at a time at most
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) connections: u8,
    /// How long to try again while the server is away or busy, before giving up
    #[arg(long, default_value = "1m", value_name = "TIME")]
    pub(crate) retry_for: Duration,
    /// Print no status lines, only the summary
    #[arg(long, short)]
    pub(crate) quiet: bool,
}
