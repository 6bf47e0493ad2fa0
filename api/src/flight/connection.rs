//! One connection: its bytes, encrypted or not, and what is known of its client.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use tonic::transport::server::Connected;

use super::tls::Identity;

/// A client has so long, from its first byte on, to make a call that it may make.
const BEGIN_MAX: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 15_000 });

/// What is known of the client of a connection.
#[derive(Debug)]
pub(super) struct Standing {
    admitted: AtomicBool,
    /// Where it calls from.
    pub(super) client: Option<SocketAddr>,
    /// Why none of its calls is heeded.
    pub(super) refusal: Option<String>,
}

impl Standing {
    /// The client may call; from now on it may also be silent.
    pub(super) fn admit(&self) {
        self.admitted.store(true, Ordering::Relaxed);
    }
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// See the module.
pub(super) struct Connection {
    bytes: Box<dyn Bytes>,
    standing: Arc<Standing>,
    patience: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
    _counted: Option<Counted>,
}

impl Connection {
    /// Begins one, with TLS if there is a certificate; `None` when the client does not come so far.
    pub(super) async fn begin(
        socket: TcpStream,
        identity: Option<&Identity>,
        place: OwnedSemaphorePermit,
        refusal: Option<String>,
    ) -> Option<Self> {
        let _ = socket.set_nodelay(true); // slower without, and not wrong
        let (client, until) = (socket.peer_addr().ok(), Instant::now() + BEGIN_MAX);
        let bytes: Box<dyn Bytes> = match identity {
            Some(Identity(acceptor)) => {
                Box::new(tokio::time::timeout_at(until, acceptor.accept(socket)).await.ok()?.ok()?)
            }
            None => Box::new(socket),
        };
        let counted = refusal.is_none().then(Counted::new);
        let standing = Arc::new(Standing { admitted: AtomicBool::new(false), client, refusal });
        let patience = Box::pin(tokio::time::sleep_until(until));
        Some(Connection { bytes, standing, patience, _place: place, _counted: counted })
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Standing>;

    fn connect_info(&self) -> Arc<Standing> {
        self.standing.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.standing.admitted.load(Ordering::Relaxed) && self.patience.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.bytes).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.bytes.is_write_vectored()
    }
}

/// A connection that is counted, until it ends.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("streamgauge_flight_connections").increment(1.0);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("streamgauge_flight_connections").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    use super::*;

    /// A connection whose client says nothing, and that client.
    async fn silent() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let socket = listener.accept().await.unwrap().0;
        (Connection::begin(socket, None, place, None).await.unwrap(), client)
    }

    #[tokio::test]
    async fn a_client_that_never_calls_is_let_go() {
        let (mut connection, _client) = silent().await;
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn one_that_may_call_may_be_silent() {
        let (mut connection, _client) = silent().await;
        connection.connect_info().admit();
        assert!(tokio::time::timeout(3 * BEGIN_MAX, connection.read_u8()).await.is_err());
    }
}
