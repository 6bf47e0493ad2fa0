//! Requests to a server, and the one place where they are tried again.
//!
//! # Failure
//!
//! 1. A request that was not taken (no connection, 429, 503) is tried again: after `Retry-After` if the server
//!    names one, else after a jittered, doubling pause; until the time for it is over.
//! 2. A request whose connection ended before its answer is tried again in the same way if it is *repeatable*: it only
//!    reads, or it names itself by an `Idempotency-Key`, the same at each attempt, so that the server takes its events
//!    once. Any other may have been done, and is not sent twice.
//! 3. When the time is over and one of the attempts may have been taken, the caller is told so
//!    ([`ClientError::Broken`]), whatever the last attempt met.
//! 4. Any other answer is final.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::error::{ClientError, Problem, innermost};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
const TELL_EVERY_S: u64 = 10;
/// Where SQL is asked.
pub(crate) const SQL_PATH: &str = "/api/v1/sql";
/// Names a request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Says up to which epoch an answer is exact, and of a question, up to which it must be.
pub(crate) const EPOCH: &str = "x-streamgauge-epoch";
/// Says that an answer is that of an earlier request of the same name.
const REPLAYED: &str = "idempotency-replayed";

/// A server, and how patient we are with it.
pub(crate) struct Connection {
    http: reqwest::Client,
    base: Url,
    retry_for: Duration,
    stop: CancellationToken,
    begun_at: Instant,
    /// Seconds after `begun_at` from which it may be said again that requests are tried again.
    silent_until_s: AtomicU64,
}

/// The answer to events.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Ingested {
    /// How many were taken.
    pub(crate) accepted: u64,
    /// The others.
    #[serde(default)]
    pub(crate) rejected: Vec<RejectedEvent>,
    /// Whether this is the answer to an earlier request of the same name, and nothing was taken now.
    #[serde(skip)]
    pub(crate) replayed: bool,
}

/// An event that was not taken.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct RejectedEvent {
    /// Its place in the request.
    pub(crate) index: u64,
    /// What is wrong with it.
    pub(crate) reason: String,
}

/// What is asked of the server.
pub(crate) struct Ask<'a> {
    method: Method,
    path: &'a str,
    parameters: &'a [(&'a str, &'a str)],
    body: Option<(&'static str, Bytes)>,
    /// Names the request, so that a repeat of it is known.
    key: Option<String>,
    only_reads: bool,
    /// The answer has everything up to this epoch.
    min_epoch: Option<u64>,
    /// Whether it is given up when its answer is not there in time.
    is_timed: bool,
}

/// A name that no other request has.
fn fresh_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl<'a> Ask<'a> {
    /// `GET path?parameters`.
    pub(crate) fn get(path: &'a str, parameters: &'a [(&'a str, &'a str)]) -> Self {
        Ask {
            method: Method::GET,
            path,
            parameters,
            body: None,
            key: None,
            only_reads: true,
            min_epoch: None,
            is_timed: true,
        }
    }

    /// `POST path` with a JSON body.
    pub(crate) fn post_json(path: &'a str, body: &Value) -> Self {
        Ask::post_document(path, Bytes::from(body.to_string()))
    }

    /// `POST path` with a body that is JSON already.
    pub(crate) fn post_document(path: &'a str, body: Bytes) -> Self {
        let body = Some(("application/json", body));
        Ask { method: Method::POST, body, only_reads: false, ..Ask::get(path, &[]) }
    }

    /// A SQL question, its answer in `format`.
    pub(crate) fn sql(statement: &str, format: &str) -> Self {
        Ask { only_reads: true, ..Ask::post_json(SQL_PATH, &json!({ "sql": statement, "format": format })) }
    }

    /// A question of a user, who waits as long as the server lets it run, or ends it.
    pub(crate) fn question(body: &Value, min_epoch: Option<u64>) -> Self {
        Ask { only_reads: true, min_epoch, is_timed: false, ..Ask::post_json(SQL_PATH, body) }
    }

    /// `POST path` with events, one JSON object a line; however often it is tried, they count once.
    pub(crate) fn post_events(path: &'a str, body: Bytes) -> Self {
        let body = Some(("application/x-ndjson", body));
        Ask { method: Method::POST, body, key: Some(fresh_key()), only_reads: false, ..Ask::get(path, &[]) }
    }

    /// The same under a name that is known from elsewhere.
    pub(crate) fn named(self, key: String) -> Self {
        Ask { key: Some(key), ..self }
    }

    /// The same with parameters.
    pub(crate) fn with(self, parameters: &'a [(&'a str, &'a str)]) -> Self {
        Ask { parameters, ..self }
    }

    /// Whether it does no harm to send it again when nobody knows what became of it.
    fn is_repeatable(&self) -> bool {
        self.only_reads || self.key.is_some()
    }
}

impl Connection {
    /// A server at `url`; nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Address`] when `url` is not an `http://` address.
    pub(crate) fn new(url: &str, retry_for: Duration, stop: CancellationToken) -> Result<Self, ClientError> {
        let address = |reason: String| ClientError::Address { url: url.to_owned(), reason };
        let base = Url::parse(url).map_err(|e| address(format!("{e}; write http://HOST:PORT")))?;
        if base.scheme() != "http" || base.host_str().is_none() {
            return Err(address("write http://HOST:PORT (TLS belongs to a proxy in front of it)".into()));
        }
        // A proxy of the environment is not asked: the usual server is on this machine.
        let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT).build();
        let http = http.map_err(|e| address(e.to_string()))?;
        Ok(Connection { http, base, retry_for, stop, begun_at: Instant::now(), silent_until_s: AtomicU64::new(0) })
    }

    /// The address as it is shown to a user.
    pub(crate) fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Asks until the server takes the request, and returns its answer if that is a success.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<Response, ClientError> {
        self.patiently(|| self.attempt(&ask)).await
    }

    /// Asks and reads the whole answer; one that breaks off is asked for again as well.
    async fn ask_whole(&self, ask: &Ask<'_>) -> Result<(HeaderMap, Bytes), ClientError> {
        let whole = || async {
            let response = self.attempt(ask).await?;
            let headers = response.headers().clone();
            response.bytes().await.map(|body| (headers, body)).map_err(|error| self.broken(ask, &error))
        };
        self.patiently(whole).await
    }

    /// Asks and reads the answer.
    pub(crate) async fn ask_bytes(&self, ask: Ask<'_>) -> Result<Bytes, ClientError> {
        Ok(self.ask_whole(&ask).await?.1)
    }

    /// Asks and reads the answer as JSON.
    pub(crate) async fn ask_json(&self, ask: Ask<'_>) -> Result<Value, ClientError> {
        let (_, body) = self.ask_whole(&ask).await?;
        serde_json::from_slice(&body).map_err(|e| self.wrong_answer(ask.path, format!("expected JSON: {e}")))
    }

    /// Sends events and reads what became of them.
    pub(crate) async fn send_events(&self, ask: Ask<'_>) -> Result<Ingested, ClientError> {
        let (headers, body) = self.ask_whole(&ask).await?;
        let ingested = serde_json::from_slice(&body);
        let ingested: Ingested =
            ingested.map_err(|e| self.wrong_answer(ask.path, format!("expected accepted and rejected: {e}")))?;
        Ok(Ingested { replayed: headers.get(REPLAYED).is_some_and(|value| value == "true"), ..ingested })
    }

    /// Makes attempts until one is final or the time for them is over.
    async fn patiently<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, Attempt>>,
    {
        let give_up_at = Instant::now() + self.retry_for;
        let mut pause = PAUSE_FIRST;
        let mut unsure = None; // why an attempt that may have been taken broke: failure 3
        loop {
            let (error, at_least) = match attempt().await {
                Ok(done) => return Ok(done),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(error, retry_after)) => (error, retry_after),
            };
            let wait = at_least.unwrap_or_else(|| pause.mul_f64(rand::random_range(0.5..1.0)));
            if let ClientError::Broken { reason, .. } = &error {
                unsure = Some(reason.clone());
            }
            let or_unsure = |error, unsure: Option<String>| match unsure {
                Some(reason) => ClientError::Broken { url: self.url().to_owned(), reason },
                None => error,
            };
            if Instant::now() + wait > give_up_at {
                return Err(or_unsure(error, unsure));
            }
            self.tell(&error);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return Err(or_unsure(ClientError::Stopped, unsure)),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// An answer that is not the server's protocol.
    pub(crate) fn wrong_answer(&self, path: &str, reason: String) -> ClientError {
        ClientError::Answer { url: format!("{}{path}", self.url()), reason }
    }

    /// Says that requests are tried again; not for each of them.
    fn tell(&self, error: &ClientError) {
        let now_s = self.begun_at.elapsed().as_secs();
        let until_s = self.silent_until_s.load(Ordering::Relaxed);
        let next_s = now_s + TELL_EVERY_S;
        let is_first =
            || self.silent_until_s.compare_exchange(until_s, next_s, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if now_s >= until_s && is_first() {
            eprintln!("{error}; trying again");
        }
    }

    async fn attempt(&self, ask: &Ask<'_>) -> Result<Response, Attempt> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path().trim_end_matches('/'), ask.path));
        if !ask.parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(ask.parameters);
        }
        let mut request = self.http.request(ask.method.clone(), url);
        if ask.is_timed {
            request = request.timeout(REQUEST_TIMEOUT);
        }
        if let Some(epoch) = ask.min_epoch {
            request = request.header(EPOCH, epoch);
        }
        if let Some((content_type, body)) = &ask.body {
            request = request.header(CONTENT_TYPE, *content_type).body(body.clone());
        }
        if let Some(key) = &ask.key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        let response = request.send().await.map_err(|error| match error.is_connect() {
            true => {
                let (url, reason) = (self.url().to_owned(), innermost(&error));
                Attempt::Again(ClientError::Unreachable { url, reason }, None)
            }
            false => self.broken(ask, &error),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()));
        let body = response.bytes().await.unwrap_or_default();
        let refused = ClientError::Refused(Problem::read(status, &body));
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Attempt::Again(refused, retry_after),
            _ => Attempt::Final(refused),
        })
    }

    /// An attempt of which nobody knows whether the server has taken it.
    fn broken(&self, ask: &Ask<'_>, error: &reqwest::Error) -> Attempt {
        let error = ClientError::Broken { url: self.url().to_owned(), reason: innermost(error) };
        if ask.is_repeatable() { Attempt::Again(error, None) } else { Attempt::Final(error) }
    }
}

/// Why an attempt brought no success.
enum Attempt {
    /// The request may be sent again, after that time if the server named one.
    Again(ClientError, Option<Duration>),
    /// Trying again would not help, or would do harm.
    Final(ClientError),
}

/// A `Retry-After` in seconds; the form with a date is left to our own pause.
fn retry_after(header: Option<&str>) -> Option<Duration> {
    let seconds: u64 = header?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn connection(url: &str) -> Result<Connection, ClientError> {
        Connection::new(url, Duration::from_millis(300), CancellationToken::new())
    }

    #[test]
    fn an_address_is_checked_before_anything_is_sent() {
        assert_eq!(connection("http://127.0.0.1:8080/").unwrap().url(), "http://127.0.0.1:8080");
        for wrong in ["", "127.0.0.1:8080", "https://example.com", "http://", "ftp://x"] {
            assert!(connection(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn retry_after_is_seconds_and_bounded() {
        assert_eq!(retry_after(Some("2")), Some(Duration::from_secs(2)));
        assert_eq!(retry_after(Some("999999")), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after(Some("Wed, 21 Oct 2026 07:28:00 GMT")), None);
        assert_eq!(retry_after(None), None);
    }

    /// A server that ends its connections early so many times, and then answers; returns the keys that it was sent.
    async fn flaky(listener: TcpListener, broken: usize) -> Vec<String> {
        let mut keys = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{}\n") && !request.ends_with(b"{}") {
                assert!(socket.read_buf(&mut request).await.unwrap() > 0);
            }
            let request = String::from_utf8(request).unwrap();
            let key = request.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
            keys.push(key.unwrap_or_default().to_owned());
            let body = r#"{"accepted":1,"epoch":5,"rejected":[]}"#;
            let head =
                format!("HTTP/1.1 200 OK\r\nidempotency-replayed: true\r\ncontent-length: {}\r\n\r\n", body.len());
            match keys.len() {
                n if n > broken => {
                    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                    return keys;
                }
                n if n % 2 == 0 => socket.write_all(format!("{head}{{").as_bytes()).await.unwrap(), // within the body
                _ => {}                                                                             // before the answer
            }
        }
    }

    #[tokio::test]
    async fn events_are_sent_again_under_the_same_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connection = Connection::new(&url, Duration::from_secs(30), CancellationToken::new()).unwrap();
        let server = tokio::spawn(flaky(listener, 3));
        let ingested = connection.send_events(Ask::post_events("/x", Bytes::from_static(b"{}\n"))).await.unwrap();
        assert_eq!(ingested, Ingested { accepted: 1, rejected: Vec::new(), replayed: true });
        let keys = server.await.unwrap();
        assert!(keys.len() == 4 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        assert!(keys[0].len() == 32 && keys[0].bytes().all(|byte| byte.is_ascii_hexdigit()), "{keys:?}");
        assert_ne!(fresh_key(), fresh_key());
    }

    #[tokio::test]
    async fn what_has_no_name_is_not_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connection = Connection::new(&url, Duration::from_secs(30), CancellationToken::new()).unwrap();
        let server = tokio::spawn(flaky(listener, 1));
        let error = connection.ask(Ask::post_json("/x", &json!({}))).await.unwrap_err();
        assert!(matches!(error, ClientError::Broken { .. }), "{error}");
        assert!(!server.is_finished());
        server.abort();
    }

    #[tokio::test]
    async fn a_request_that_may_have_been_taken_is_told_as_such() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connection = Connection::new(&url, Duration::from_millis(500), CancellationToken::new()).unwrap();
        let server = tokio::spawn(async move { drop(listener.accept().await) }); // and is away from then on
        let error = connection.send_events(Ask::post_events("/x", Bytes::from_static(b"{}\n"))).await.unwrap_err();
        assert!(matches!(error, ClientError::Broken { .. }), "{error}");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_given_up_in_time() {
        // Port 9 of loopback: bound by nobody, so the connection is refused at once.
        let connection = connection("http://127.0.0.1:9").unwrap();
        let begun = Instant::now();
        let error = connection.ask(Ask::get("/readyz", &[])).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}
