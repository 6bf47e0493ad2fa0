//! `streamgauge health`: asks a server whether it is ready, once; for a container's health check.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ServerArgs;
use super::connection::{Ask, Connection};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Options of `streamgauge health`.
#[derive(Debug, clap::Args)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Ends well when the server is ready.
pub(crate) async fn run(args: HealthArgs) -> anyhow::Result<()> {
    let connection = Connection::new(&args.server.url, Duration::ZERO, CancellationToken::new())?;
    match tokio::time::timeout(ANSWER_WITHIN, connection.ask(Ask::get("/readyz", &[]))).await {
        Ok(answer) => answer?,
        Err(_) => anyhow::bail!("{} gave no answer within {ANSWER_WITHIN:?}", connection.url()),
    };
    println!("{} is ready", connection.url());
    Ok(())
}
