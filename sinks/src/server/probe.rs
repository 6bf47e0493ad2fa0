//! Watches a server that is not ours: whether it answers, with which version.

use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::{Server, ServerConfig, ServerState};
use crate::backoff::Backoff;
use crate::{ClickHouse, SinkError};

/// How often the server is asked.
const INTERVAL: Duration = Duration::from_secs(5);

/// Waits, up to the start time-out, until the server answers the user; then keeps asking.
pub(super) async fn start(config: &ServerConfig, url: &str, user: &str, password: &str) -> Result<Server, SinkError> {
    let clickhouse = ClickHouse::new(url, user, password, &config.database)?;
    let version = reach(&clickhouse, config.start_timeout).await?;
    let (state, state_receiver) = watch::channel(ServerState::Ready { version, url: url.to_owned() });
    let (_, process) = watch::channel(None);
    let (stop, stop_receiver) = oneshot::channel();
    let task = tokio::spawn(watch_server(clickhouse.clone(), state, stop_receiver));
    Ok(Server { clickhouse, mode: "server", state: state_receiver, process, stop: Some(stop), task })
}

/// A server may come up later than this program; a wrong password or an old version does not get better.
async fn reach(clickhouse: &ClickHouse, bound: Duration) -> Result<String, SinkError> {
    let deadline = Instant::now() + bound;
    let mut told = false;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        match clickhouse.version().await {
            Err(error) if error.is_retryable() && Instant::now() < deadline => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "waiting for ClickHouse");
                }
                tokio::time::sleep(backoff.next()).await;
            }
            result => return result,
        }
    }
}

async fn watch_server(clickhouse: ClickHouse, state: watch::Sender<ServerState>, mut stop: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            _ = &mut stop => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let found = match clickhouse.ping(INTERVAL).await {
            Ok(version) => ServerState::Ready { version, url: clickhouse.url().to_owned() },
            Err(error) => ServerState::Down { reason: error.to_string() },
        };
        state.send_if_modified(|state| {
            let changed = *state != found;
            if changed {
                tracing::info!(state = ?found, "ClickHouse changed");
                *state = found;
            }
            changed
        });
    }
}
