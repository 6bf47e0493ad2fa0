//! Connections: accepted, bounded, and ended with the program.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arrow_flight::flight_service_server::FlightServiceServer;
use futures::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;

use super::access::Access;
use super::connection::Connection;
use super::service::Service;
use super::tls::Identity;
use crate::http::App;

/// The longest message of a client: some times a statement with its values.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Calls of one connection that are open at a time; more wait. It is more than questions that run at a time.
const CALLS_MAX: u32 = 32;
/// Connections that are told that there are too many, at a time; beyond that they are closed without a word.
const REFUSALS_MAX: usize = 32;
/// The pause after a connection could not be accepted, as when the program has no file left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A connection on which nothing happens is asked whether its client is there, and ends when it does not say so.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const SILENT_ANSWER_MAX: Duration = Duration::from_secs(20);
/// So long calls may finish when the program stops, and so long they may say that they are ended.
const STOP_MAX: Duration = Duration::from_secs(5);
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// How it serves.
pub(crate) struct Settings {
    pub(crate) access: Access,
    pub(crate) identity: Option<Identity>,
    pub(crate) connections_max: usize,
}

/// The port, and what its connections share.
pub(crate) struct Server {
    listener: TcpListener,
    app: Arc<App>,
    settings: Settings,
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
        settings: Settings,
        stopping: CancellationToken,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!(
                "cannot listen on {address}; is another program using the port? choose one with --flight, or --flight off"
            )
        })?;
        Ok(Server { listener, app, settings, stopping })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until the program stops; then calls finish what they run, for some time.
    pub(crate) async fn run(self) {
        let Server { listener, app, settings: Settings { access, identity, connections_max }, stopping } = self;
        let ended = CancellationToken::new();
        let service = FlightServiceServer::new(Service::new(app, access.clone(), ended.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (begun, mut connections) = mpsc::channel(1);
        let accepting = tokio::spawn(accept(listener, identity, connections_max, begun, stopping.clone()));
        let connections = futures::stream::poll_fn(move |context| connections.poll_recv(context));
        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(CALLS_MAX)
            .http2_keepalive_interval(Some(SILENCE_MAX))
            .http2_keepalive_timeout(Some(SILENT_ANSWER_MAX))
            .serve_with_incoming_shutdown(
                InterceptedService::new(service, access),
                connections.map(Ok::<_, Infallible>),
                stopping.clone().cancelled_owned(),
            );
        let mut serving = std::pin::pin!(serving);
        let late = async {
            stopping.cancelled().await;
            tokio::time::sleep(STOP_MAX).await;
        };
        tokio::select! {
            _ = &mut serving => {}
            () = late => {
                ended.cancel();
                let _ = tokio::time::timeout(LAST_WORDS_MAX, serving).await; // the others are cut off
            }
        }
        accepting.abort();
    }
}

/// Accepts connections and begins them, each beside the others.
async fn accept(
    listener: TcpListener,
    identity: Option<Identity>,
    connections_max: usize,
    begun: mpsc::Sender<Connection>,
    stopping: CancellationToken,
) {
    let (places, refusals) = (Arc::new(Semaphore::new(connections_max)), Arc::new(Semaphore::new(REFUSALS_MAX)));
    let mut beginning = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = beginning.join_next() => continue,
            () = stopping.cancelled() => return,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "a connection of a Flight SQL client could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (place, refusal) = match places.clone().try_acquire_owned() {
            Ok(place) => (place, None),
            Err(_) => match refusals.clone().try_acquire_owned() {
                Ok(place) => {
                    let many = format!("{connections_max} connections are open, as many as may be");
                    (place, Some(format!("{many}; close some, or raise --flight-connections-max")))
                }
                Err(_) => continue,
            },
        };
        let (identity, begun) = (identity.clone(), begun.clone());
        beginning.spawn(async move {
            if let Some(connection) = Connection::begin(socket, identity.as_ref(), place, refusal).await {
                let _ = begun.send(connection).await; // the program may be stopping
            }
        });
    }
}
