//! What comes before a session: encryption, a request to cancel, and who the client is.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::cancel::Cancels;
use super::connection::{Connection, Stream, body};
use super::error::PostgresError;
use super::message::{Beginning, Frontend};
use super::scram::{MECHANISM, Secret};
use super::tls::Identity;

/// A client has so long to say who it is.
pub(super) const BEGIN_MAX: Duration = Duration::from_secs(15);
/// The longest first message.
const FIRST_BYTES_MAX: usize = 10_000;
/// Requests for encryption before the start; there are two kinds.
const REQUESTS_MAX: usize = 3;

/// How a client starts.
pub(super) struct Start {
    pub(super) stream: Stream,
    /// The minor version of the protocol that it asks for.
    pub(super) minor: u16,
    pub(super) parameters: Vec<(String, String)>,
}

/// Reads first messages until a session starts; `None` when there is to be none.
pub(super) async fn begin(socket: TcpStream, identity: Option<&Identity>, cancels: &Cancels) -> Option<Start> {
    let _ = socket.set_nodelay(true); // slower without, and not wrong
    let mut stream: Stream = Box::new(socket);
    let mut identity = identity;
    for _ in 0..REQUESTS_MAX {
        let first = match body(&mut stream, FIRST_BYTES_MAX).await {
            Ok(first) => first,
            Err(Some(error)) => {
                refuse(stream, error).await;
                return None;
            }
            Err(None) => return None,
        };
        match Beginning::read(&first) {
            Ok(Beginning::Tls) => match identity.take() {
                Some(Identity(acceptor)) => {
                    stream.write_all(b"S").await.ok()?;
                    stream.flush().await.ok()?;
                    stream = Box::new(acceptor.accept(stream).await.ok()?);
                }
                None => stream.write_all(b"N").await.ok()?,
            },
            Ok(Beginning::Gss) => stream.write_all(b"N").await.ok()?,
            Ok(Beginning::Cancel { process, key }) => {
                cancels.cancel(process, &key);
                return None;
            }
            Ok(Beginning::Start { minor, parameters }) => return Some(Start { stream, minor, parameters }),
            Err(wrong) => {
                let message = format!("the first message cannot be read: {}", wrong.0);
                refuse(stream, PostgresError::fatal("08P01", message)).await;
                return None;
            }
        }
    }
    None
}

/// Tells a client why there is no session.
pub(super) async fn refuse(stream: Stream, error: PostgresError) {
    let mut connection = Connection::start(stream);
    error.write(&mut connection.out);
    connection.close().await;
}

/// Lets the client prove that it knows the password.
pub(super) async fn authenticate(
    connection: &mut Connection,
    secret: &Secret,
    user: &str,
) -> Result<(), PostgresError> {
    let wrong = || PostgresError::fatal("28P01", format!("password authentication failed for user {user:?}"));
    let unreadable = || PostgresError::fatal("08P01", "a message of the authentication cannot be read");
    connection.out.authentication(10, format!("{MECHANISM}\0\0").as_bytes());
    let first = password(connection).await?;
    let (mechanism, data) = split_initial(&first).ok_or_else(unreadable)?;
    if mechanism != MECHANISM {
        return Err(PostgresError::fatal(
            "28000",
            format!("{mechanism:?} is not a way to authenticate here; use {MECHANISM}"),
        ));
    }
    let challenge = secret.challenge(data).map_err(|error| PostgresError::fatal("XX000", error.to_string()))?;
    let (challenge, answer) = challenge.ok_or_else(unreadable)?;
    connection.out.authentication(11, answer.as_bytes());
    let last = password(connection).await?;
    let proof = std::str::from_utf8(&last).map_err(|_| unreadable())?;
    let answer = challenge.check(proof).ok_or_else(wrong)?;
    connection.out.authentication(12, answer.as_bytes());
    Ok(())
}

async fn password(connection: &mut Connection) -> Result<Vec<u8>, PostgresError> {
    let gone = || PostgresError::fatal("08006", "the client went away");
    match connection.next().await.map_err(|_| gone())? {
        Some(Ok(Frontend::Password(data))) => Ok(data),
        Some(Ok(_)) => Err(PostgresError::fatal("08P01", "a password was expected, and another message came")),
        Some(Err(error)) => Err(error),
        None => Err(gone()),
    }
}

/// The mechanism and the client's first message.
fn split_initial(data: &[u8]) -> Option<(&str, &str)> {
    let end = data.iter().position(|byte| *byte == 0)?;
    let (mechanism, rest) = (&data[..end], &data[end + 1..]);
    let (length, message) = rest.split_first_chunk::<4>()?;
    let exact = usize::try_from(u32::from_be_bytes(*length)).ok()? == message.len();
    Some((std::str::from_utf8(mechanism).ok()?, std::str::from_utf8(message).ok().filter(|_| exact)?))
}
