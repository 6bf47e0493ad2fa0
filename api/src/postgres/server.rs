//! Connections: accepted, bounded, and ended with the program.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use streamgauge_queries::Asker;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::begin::{BEGIN_MAX, Start, authenticate, begin, refuse};
use super::cancel::Cancels;
use super::connection::Connection;
use super::error::PostgresError;
use super::scram::Secret;
use super::session::Session;
use super::tls::Identity;
use crate::http::App;

/// Connections that are told that there are too many, at a time; beyond that they are closed without a word.
const REFUSALS_MAX: usize = 32;
/// The pause after a connection could not be accepted, as when the program has no file left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// So long sessions may finish their statements when the program stops.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The port, and what its sessions share.
pub(crate) struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    app: Arc<App>,
    secret: Option<Secret>,
    identity: Option<Identity>,
    cancels: Arc<Cancels>,
    sessions: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    connections_max: usize,
    stopping: CancellationToken,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// When the address is taken.
    pub(crate) async fn listen(
        address: SocketAddr,
        app: Arc<App>,
        secret: Option<Secret>,
        identity: Option<Identity>,
        connections_max: usize,
        stopping: CancellationToken,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}; is another program using the port? choose one with --pg, or --pg off")
        })?;
        let shared = Shared {
            app,
            secret,
            identity,
            cancels: Arc::default(),
            sessions: Arc::new(Semaphore::new(connections_max)),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            connections_max,
            stopping,
        };
        Ok(Server { listener, shared: Arc::new(shared) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until the program stops; then sessions finish the statement that they run.
    pub(crate) async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                () = self.shared.stopping.cancelled() => break,
            };
            match accepted {
                Ok((socket, _)) => {
                    connections.spawn(self.shared.clone().serve(socket));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection of a PostgreSQL client could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_MAX, ended).await.is_err() {
            connections.shutdown().await;
        }
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, socket: TcpStream) {
        let client = socket.peer_addr().ok();
        let permit = self.sessions.clone().try_acquire_owned().ok();
        // Cancelling must work also when there are too many; so the first message is read in any case.
        let refusal = match &permit {
            Some(_) => None,
            None => match self.refusals.clone().try_acquire_owned() {
                Ok(refusal) => Some(refusal),
                Err(_) => return,
            },
        };
        let started = tokio::time::timeout(BEGIN_MAX, begin(socket, self.identity.as_ref(), &self.cancels)).await;
        let Ok(Some(start)) = started else { return };
        if refusal.is_some() {
            let message = format!("{} connections are open, as many as may be", self.connections_max);
            let error = PostgresError::fatal("53300", message);
            metrics::counter!("streamgauge_refused_total", "bound" => "pg_connections").increment(1);
            return refuse(start.stream, error.with_hint("close some, or raise --pg-connections-max")).await;
        }
        let _counted = Counted::new();
        if let Some(session) = self.open(start, client).await {
            session.run().await;
        }
    }

    /// Makes a session for a client, or tells it why not.
    async fn open(&self, start: Start, client: Option<SocketAddr>) -> Option<Session> {
        let parameter = |name: &str| start.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let user = parameter("user").cloned().unwrap_or_default();
        let mut connection = Connection::start(start.stream);
        let unknown: Vec<&str> =
            start.parameters.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("_pq_.")).collect();
        if start.minor > 0 || !unknown.is_empty() {
            connection.out.negotiate(&unknown);
        }
        let nameless = || PostgresError::fatal("28000", "no user name is in the first message");
        let opened = match &self.secret {
            _ if user.is_empty() => Ok(Err(nameless())),
            Some(secret) => tokio::time::timeout(BEGIN_MAX, authenticate(&mut connection, secret, &user)).await,
            None => Ok(Ok(())),
        };
        let late = PostgresError::fatal("57014", format!("the client did not authenticate within {BEGIN_MAX:?}"));
        let opened = opened.unwrap_or(Err(late)).and_then(|()| {
            let running = self.app.running().map_err(|reason| PostgresError::fatal("57P03", reason))?;
            let place = self.cancels.place().map_err(|error| PostgresError::fatal("XX000", error.to_string()))?;
            Ok((running.queries.clone(), place))
        });
        match opened {
            Ok((queries, place)) => {
                connection.trust();
                let client = client.map(|client| client.ip().to_string().into());
                let asker = Asker { user: user.into(), client, protocol: "postgres", ..Asker::default() };
                Session::open(connection, queries, asker, place, self.stopping.clone(), &start.parameters).await
            }
            Err(error) => {
                error.write(&mut connection.out);
                connection.close().await;
                None
            }
        }
    }
}

/// A connection that is counted, until it ends.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("streamgauge_pg_connections").increment(1.0);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("streamgauge_pg_connections").decrement(1.0);
    }
}
