//! Messages from and to one client.
//!
//! Messages are read by a task of their own, so that the end of a connection is seen while a question runs. Bytes are
//! written from one buffer, a piece at a time: a write that is given up loses nothing, and what comes next follows it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::error::PostgresError;
use super::message::{Frontend, Output};

/// The longest message of a client.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// The longest one of a client that has not proved who it is.
pub(super) const EARLY_MESSAGE_BYTES_MAX: usize = 16 << 10;
/// A message that has begun goes on within this time.
const PAUSE_MAX: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 30_000 });
/// A client that reads nothing for so long is gone.
const WRITE_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Bytes that wait before they are written.
pub(super) const OUT_BYTES: usize = 64 << 10;
/// Messages that wait to be heeded; together they are not longer than one may be.
const MESSAGES_WAITING_MAX: usize = 1_024;

/// Bytes both ways.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A connection, encrypted or not.
pub(super) type Stream = Box<dyn Bytes>;

/// The client is not there any more.
#[derive(Debug)]
pub(super) struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Gone
    }
}

/// One side of a connection: what comes, in turn, and what goes.
pub(super) struct Connection {
    messages: mpsc::Receiver<(Result<Frontend, PostgresError>, OwnedSemaphorePermit)>,
    /// Room for the message that is heeded.
    room: Option<OwnedSemaphorePermit>,
    /// Done when the client is gone.
    pub(super) gone: CancellationToken,
    /// How long messages may be from now on.
    limit: Arc<AtomicUsize>,
    writer: WriteHalf<Stream>,
    pub(super) out: Output,
    /// So many of the bytes of `out` were written.
    written: usize,
}

impl Connection {
    /// Begins to read messages, short ones at first.
    pub(super) fn start(stream: Stream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let (sender, messages) = mpsc::channel(MESSAGES_WAITING_MAX);
        let gone = CancellationToken::new();
        let limit = Arc::new(EARLY_MESSAGE_BYTES_MAX.into());
        tokio::spawn(read(reader, Arc::clone(&limit), sender, gone.clone()));
        Connection { messages, room: None, gone, limit, writer, out: Output::default(), written: 0 }
    }

    /// Lets messages be as long as they may be.
    pub(super) fn trust(&self) {
        self.limit.store(MESSAGE_BYTES_MAX, Ordering::Relaxed);
    }

    /// The next message, after everything that waits was written; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Result<Frontend, PostgresError>>, Gone> {
        self.room = None;
        if let Ok((message, room)) = self.messages.try_recv() {
            self.room = Some(room);
            if self.out.0.len() >= OUT_BYTES {
                self.flush().await?;
            }
            return Ok(Some(message));
        }
        self.flush().await?;
        let Some((message, room)) = self.messages.recv().await else { return Ok(None) };
        self.room = Some(room);
        Ok(Some(message))
    }

    /// Writes what waits. It may be given up at any time, and be begun again.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        while self.written < self.out.0.len() {
            let write = self.writer.write(&self.out.0[self.written..]);
            match tokio::time::timeout(WRITE_PAUSE_MAX, write).await {
                Ok(Ok(count)) if count > 0 => self.written += count,
                _ => return Err(Gone),
            }
        }
        self.out.0.clear();
        self.written = 0;
        tokio::time::timeout(WRITE_PAUSE_MAX, self.writer.flush()).await.map_err(|_| Gone)??;
        Ok(())
    }

    /// Says goodbye, as far as the client still listens.
    pub(super) async fn close(mut self) {
        let _ = self.flush().await;
        let _ = tokio::time::timeout(WRITE_PAUSE_MAX, self.writer.shutdown()).await;
    }
}

/// Reads messages until the connection ends, or one is wrong.
async fn read(
    mut reader: ReadHalf<Stream>,
    limit: Arc<AtomicUsize>,
    messages: mpsc::Sender<(Result<Frontend, PostgresError>, OwnedSemaphorePermit)>,
    gone: CancellationToken,
) {
    let ended = gone.clone().drop_guard();
    let room = Arc::new(Semaphore::new(MESSAGE_BYTES_MAX));
    loop {
        let next = tokio::select! {
            next = next(&mut reader, &limit, &room) => next,
            () = messages.closed() => return,
        };
        let (message, room) = match next {
            Ok((Frontend::Terminate, _)) | Err((None, _)) => return,
            Ok((message, room)) => (Ok(message), room),
            Err((Some(error), room)) => (Err(error), room),
        };
        let wrong = message.is_err();
        if messages.send((message, room)).await.is_err() {
            return;
        }
        if wrong {
            ended.disarm(); // the client is there, and is to be told
            return;
        }
    }
}

/// What comes next, with the room that it takes.
type Next<T> = Result<(T, OwnedSemaphorePermit), (Option<PostgresError>, OwnedSemaphorePermit)>;

/// The next message; an error without words is the end of the connection.
async fn next(reader: &mut ReadHalf<Stream>, limit: &AtomicUsize, room: &Arc<Semaphore>) -> Next<Frontend> {
    let mut taken = room.clone().acquire_many_owned(0).await.expect("the room is never closed");
    let read = async {
        let letter = reader.read_u8().await.map_err(|_| None)?;
        let length = length(reader, limit.load(Ordering::Relaxed)).await?;
        let more = u32::try_from(length).unwrap_or(u32::MAX);
        taken.merge(room.clone().acquire_many_owned(more).await.expect("the room is never closed"));
        let body = rest(reader, length).await?;
        Frontend::read(letter, &body).map_err(|wrong| Some(malformed(letter, wrong.0)))
    };
    match read.await {
        Ok(message) => Ok((message, taken)),
        Err(error) => Err((error, taken)),
    }
}

/// The body of a message, from its length on.
pub(super) async fn body(
    reader: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<Vec<u8>, Option<PostgresError>> {
    let length = length(reader, bytes_max).await?;
    rest(reader, length).await
}

/// The bytes that follow the length of a message.
async fn length(reader: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> Result<usize, Option<PostgresError>> {
    let length = timely(reader.read_u32()).await?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length < 4 {
        return Err(Some(PostgresError::fatal(
            "08P01",
            format!("a message of {length} bytes is shorter than its length"),
        )));
    }
    if length > bytes_max {
        let message = format!("a message of {length} bytes is longer than {bytes_max} bytes, the bound");
        return Err(Some(PostgresError::fatal("54000", message).with_hint("ask in shorter statements")));
    }
    Ok(length - 4)
}

/// So many bytes.
async fn rest(reader: &mut (impl AsyncRead + Unpin), length: usize) -> Result<Vec<u8>, Option<PostgresError>> {
    let mut body = Vec::new(); // it grows with what comes, not with what is announced
    let mut rest = reader.take(length as u64);
    while body.len() < length {
        if timely(rest.read_buf(&mut body)).await? == 0 {
            return Err(None);
        }
    }
    Ok(body)
}

/// What a client sends of a message that it has begun.
async fn timely<T>(read: impl Future<Output = io::Result<T>>) -> Result<T, Option<PostgresError>> {
    match tokio::time::timeout(PAUSE_MAX, read).await {
        Ok(read) => read.map_err(|_| None),
        Err(_) => {
            let message = format!("nothing came for {PAUSE_MAX:?} in the middle of a message");
            Err(Some(PostgresError::fatal("08P01", message)))
        }
    }
}

pub(super) fn malformed(letter: u8, reason: &str) -> PostgresError {
    let letter = letter.escape_ascii();
    PostgresError::fatal("08P01", format!("a message {letter:?} cannot be read: {reason}", letter = letter.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> (tokio::io::DuplexStream, Connection) {
        let (client, server) = tokio::io::duplex(1 << 10);
        (client, Connection::start(Box::new(server)))
    }

    #[tokio::test]
    async fn a_message_that_stops_is_waited_for_a_while() {
        let (mut client, mut connection) = client();
        client.write_all(b"Q\0\0\0\x0aSEL").await.unwrap();
        let error = connection.next().await.unwrap().unwrap().unwrap_err();
        assert!(error.fatal && error.message.contains("in the middle of a message"), "{error:?}");
        assert!(!connection.gone.is_cancelled());
    }

    #[tokio::test]
    async fn messages_are_bounded_before_they_are_read() {
        let (mut client, mut connection) = client();
        client.write_all(b"Q\x7f\xff\xff\xff").await.unwrap();
        let error = connection.next().await.unwrap().unwrap().unwrap_err();
        assert_eq!((error.state, error.fatal), ("54000", true));
        let (mut client, mut connection) = self::client();
        client.write_all(b"Q\0\0\0\x03").await.unwrap();
        assert_eq!(connection.next().await.unwrap().unwrap().unwrap_err().state, "08P01");
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_seen_behind_its_messages() {
        let (mut client, mut connection) = client();
        client.write_all(b"S\0\0\0\x04S\0\0\0\x04").await.unwrap();
        drop(client);
        connection.gone.cancelled().await;
        assert_eq!(connection.next().await.unwrap().unwrap(), Ok(Frontend::Sync));
        assert_eq!(connection.next().await.unwrap().unwrap(), Ok(Frontend::Sync));
        assert!(connection.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_written_is_whole_also_when_it_was_given_up() {
        let (mut client, mut connection) = client();
        let text = "x".repeat(5 << 10);
        connection.out.complete(&text);
        let given_up = tokio::time::timeout(Duration::from_millis(100), connection.flush()).await;
        assert!(given_up.is_err(), "the client reads nothing yet");
        connection.out.ready(super::super::message::Transaction::None);
        let all = tokio::spawn(async move {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all
        });
        connection.close().await;
        let all = all.await.unwrap();
        assert_eq!(all.len(), 5 + text.len() + 1 + 6);
        assert_eq!(&all[all.len() - 6..], b"Z\0\0\0\x05I");
    }
}
