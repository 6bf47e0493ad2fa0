//! Requests to a server, and the one place where they are tried again.
//!
//! # Failure
//!
//! 1. A request that was not taken (no connection, 429, 503) is tried again: after `Retry-After` if the server
//!    names one, else after a jittered, doubling pause; until the time for it is over.
//! 2. A request whose connection ended before the answer is **not** tried again: the server may have taken
//!    its events, and sending them twice would count them twice. The caller is told ([`ClientError::Broken`]).
//! 3. Any other answer is final.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::error::{ClientError, Problem, innermost};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
const TELL_EVERY_S: u64 = 10;

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
}

impl<'a> Ask<'a> {
    /// `GET path?parameters`.
    pub(crate) fn get(path: &'a str, parameters: &'a [(&'a str, &'a str)]) -> Self {
        Ask { method: Method::GET, path, parameters, body: None }
    }

    /// `POST path` with a JSON body.
    pub(crate) fn post_json(path: &'a str, body: &Value) -> Self {
        let body = Some(("application/json", Bytes::from(body.to_string())));
        Ask { method: Method::POST, path, parameters: &[], body }
    }

    /// `POST path` with events, one JSON object a line.
    pub(crate) fn post_events(path: &'a str, body: Bytes) -> Self {
        Ask { method: Method::POST, path, parameters: &[], body: Some(("application/x-ndjson", body)) }
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
        let give_up_at = Instant::now() + self.retry_for;
        let mut pause = PAUSE_FIRST;
        loop {
            let (error, at_least) = match self.attempt(&ask).await {
                Ok(response) => return Ok(response),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::NotTaken(error, retry_after)) => (error, retry_after),
            };
            let wait = at_least.unwrap_or_else(|| pause.mul_f64(rand::random_range(0.5..1.0)));
            if Instant::now() + wait > give_up_at {
                return Err(error);
            }
            self.tell(&error);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return Err(ClientError::Stopped),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Asks and reads the answer as JSON.
    pub(crate) async fn ask_json(&self, ask: Ask<'_>) -> Result<Value, ClientError> {
        let path = ask.path.to_owned();
        let body = self.body(self.ask(ask).await?).await?;
        serde_json::from_slice(&body).map_err(|e| self.wrong_answer(&path, format!("expected JSON: {e}")))
    }

    /// Sends events and reads what became of them.
    pub(crate) async fn send_events(&self, path: &str, body: Bytes) -> Result<Ingested, ClientError> {
        let answer = self.ask_json(Ask::post_events(path, body)).await?;
        serde_json::from_value(answer)
            .map_err(|e| self.wrong_answer(path, format!("expected accepted and rejected: {e}")))
    }

    /// The rest of an answer.
    pub(crate) async fn body(&self, response: Response) -> Result<Bytes, ClientError> {
        response.bytes().await.map_err(|e| ClientError::Broken { url: self.url().to_owned(), reason: innermost(&e) })
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
        let mut request = self.http.request(ask.method.clone(), url).timeout(REQUEST_TIMEOUT);
        if let Some((content_type, body)) = &ask.body {
            request = request.header(CONTENT_TYPE, *content_type).body(body.clone());
        }
        let response = request.send().await.map_err(|error| {
            let (url, reason) = (self.url().to_owned(), innermost(&error));
            match error.is_connect() {
                true => Attempt::NotTaken(ClientError::Unreachable { url, reason }, None),
                false => Attempt::Final(ClientError::Broken { url, reason }),
            }
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()));
        let body = response.bytes().await.unwrap_or_default();
        let refused = ClientError::Refused(Problem::read(status, &body));
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Attempt::NotTaken(refused, retry_after),
            _ => Attempt::Final(refused),
        })
    }
}

/// Why an attempt brought no success.
enum Attempt {
    /// The server did nothing; the request may be sent again, after that time if it named one.
    NotTaken(ClientError, Option<Duration>),
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
