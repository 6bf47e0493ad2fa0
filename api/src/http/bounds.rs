//! Bounds on what requests hold: how many are open, and the bytes of their bodies together.
//!
//! At a bound a request is refused at once, before it costs anything; those that are inside go on undisturbed.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::App;
use super::body::drain;
use super::problem::Problem;

/// Bytes of bodies are counted in pieces of this size.
const PIECE_BYTES: usize = 1 << 10;

/// The bounds, with what is free of each.
pub(crate) struct Bounds {
    ingests: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    requests_max: usize,
    live: Arc<Semaphore>,
    body_pieces: Arc<Semaphore>,
    inflight_bytes_max: usize,
}

impl Bounds {
    pub(crate) fn new(requests_max: usize, inflight_bytes_max: usize) -> Self {
        Bounds {
            ingests: Arc::new(Semaphore::new(requests_max)),
            questions: Arc::new(Semaphore::new(requests_max)),
            requests_max,
            live: Arc::new(Semaphore::new(requests_max)),
            body_pieces: Arc::new(Semaphore::new(inflight_bytes_max.div_ceil(PIECE_BYTES))),
            inflight_bytes_max,
        }
    }

    /// Requests that are open now.
    pub(crate) fn requests_open(&self) -> usize {
        2 * self.requests_max - self.ingests.available_permits() - self.questions.available_permits()
    }

    /// Bytes of bodies that are held now.
    pub(crate) fn inflight_bytes(&self) -> usize {
        let pieces = self.inflight_bytes_max.div_ceil(PIECE_BYTES);
        (pieces - self.body_pieces.available_permits()) * PIECE_BYTES
    }

    /// Lets a live connection in; they stay open, so they are counted for themselves.
    pub(crate) fn open_live(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.live.clone().try_acquire_owned().map_err(|_| {
            let detail = format!("{} live connections are open, as many as may be; retry later", self.requests_max);
            refused("live", Problem { retry_after_s: Some(5), ..too_many("too_many_requests", detail) })
        })
    }

    /// Lets a request in; those that bring events apart from the others, so that a log that stands still stops no question.
    fn open(&self, ingest: bool) -> Result<OwnedSemaphorePermit, Problem> {
        let of_its_kind = if ingest { &self.ingests } else { &self.questions };
        of_its_kind.clone().try_acquire_owned().map_err(|_| {
            let detail = format!("{} requests are open, as many as may be; retry later", self.requests_max);
            refused("requests", Problem { retry_after_s: Some(1), ..too_many("too_many_requests", detail) })
        })
    }
}

/// The claim of one body on the bytes that bodies may take together; given back when dropped.
pub(crate) struct BodyClaim {
    bounds: Arc<Bounds>,
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl BodyClaim {
    pub(crate) fn new(bounds: &Arc<Bounds>) -> Self {
        BodyClaim { bounds: bounds.clone(), permit: None, bytes: 0 }
    }

    /// Claims so many bytes more.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let pieces = |bytes: usize| bytes.div_ceil(PIECE_BYTES);
        let more = pieces(self.bytes + bytes) - pieces(self.bytes);
        self.bytes += bytes;
        if more == 0 {
            return Ok(());
        }
        let full = || {
            let max = self.bounds.inflight_bytes_max;
            let detail = format!("the bodies of open requests take {max} bytes, as many as they may; retry later");
            refused("bodies", Problem { retry_after_s: Some(1), ..too_many("bodies_full", detail) })
        };
        let count = u32::try_from(more).map_err(|_| full())?;
        let permit = self.bounds.body_pieces.clone().try_acquire_many_owned(count).map_err(|_| full())?;
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
        Ok(())
    }
}

fn too_many(code: &str, detail: String) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
}

/// Counts a refusal.
pub(crate) fn refused(bound: &'static str, problem: Problem) -> Problem {
    metrics::counter!("streamgauge_refused_total", "bound" => bound).increment(1);
    problem
}

/// Whether a request brings events.
fn is_ingest(request: &Request) -> bool {
    request.method() == Method::POST && !matches!(request.uri().path(), "/api/v1/sql" | "/api/v1/streams")
}

/// Lets a request in while fewer than the bound are open.
pub(crate) async fn open_requests(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(running) = app.running.get() else { return next.run(request).await };
    match running.bounds.open(is_ingest(&request)) {
        Ok(_permit) => next.run(request).await,
        Err(problem) => {
            drain(request.into_body()).await;
            problem.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_their_bytes() {
        let bounds = Arc::new(Bounds::new(1, 10 * PIECE_BYTES));
        let mut first = BodyClaim::new(&bounds);
        first.grow(1).unwrap();
        first.grow(PIECE_BYTES - 1).unwrap();
        assert_eq!(bounds.inflight_bytes(), PIECE_BYTES);
        first.grow(1).unwrap();
        let mut second = BodyClaim::new(&bounds);
        assert_eq!(second.grow(8 * PIECE_BYTES + 1).unwrap_err().code, "bodies_full");
        drop(second);
        drop(first);
        assert_eq!(bounds.inflight_bytes(), 0);
        BodyClaim::new(&bounds).grow(10 * PIECE_BYTES).unwrap();
    }

    #[test]
    fn requests_beyond_the_bound_are_refused() {
        let bounds = Bounds::new(1, 1);
        let first = bounds.open(true).unwrap();
        let problem = bounds.open(true).unwrap_err();
        drop(bounds.open(false).unwrap());
        assert_eq!((problem.status, problem.retry_after_s), (429, Some(1)));
        drop(first);
        assert_eq!(bounds.requests_open(), 0);
    }
}
