//! Live: `GET /api/v1/live`, a WebSocket with one task a subscription.
//!
//! ```text
//!  client ── subscribe ──▶ socket task ── spawn ──▶ subscription task ── snapshot, change… ──▶ frames ──▶ client
//! ```
//!
//! A change carries whole new values of the buckets or rows it names, so a client replaces them and needs no arithmetic. A
//! subscription that falls behind takes a new snapshot, and so does one that began without history, as it was allowed to,
//! once ClickHouse is back; a client may get several, and each replaces what it had. One that cannot go on, as its view was
//! dropped, ends with an error.
//!
//! # Layout
//!
//! - `request`: what a client sends; `frames`: what it is sent.

mod frames;
mod request;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures::{SinkExt, StreamExt};
use streamgauge_queries::{QueryEngine, QueryError};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::frames::{Followed, error_frame, heartbeat_frame};
use self::request::{Asked, Request};
use super::problem::Problem;
use super::{Ready, Running};

/// Changes are gathered for this long before they are sent.
const TICK: StdDuration = StdDuration::from_millis(100);
const HEARTBEAT: StdDuration = StdDuration::from_secs(1);
/// After this time a subscription without history looks whether ClickHouse is back; twice as long each time that it
/// answers, and then fails to read,
const HISTORY_PAUSE: StdDuration = StdDuration::from_secs(2);
/// up to this.
const HISTORY_PAUSE_MAX: StdDuration = StdDuration::from_secs(60);
/// A subscription that fell behind waits for about so long before it takes a new snapshot; twice as long each time,
const LAG_PAUSE: StdDuration = StdDuration::from_millis(50);
/// up to this,
const LAG_PAUSE_MAX: StdDuration = StdDuration::from_secs(10);
/// unless it kept up with so many changes meanwhile.
const CHANGES_KEPT_UP: usize = 20;
/// Frames that wait for a slow client; then its subscriptions wait, and gather.
const FRAMES_MAX: usize = 64;
const SUBSCRIPTIONS_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Why a subscription goes no further.
enum End {
    ClientGone,
    HistoryBack,
}

/// Subscribe to metrics and views over a WebSocket.
#[utoipa::path(
    get, path = "/api/v1/live", tag = "live",
    description = "A WebSocket of JSON text frames. A subscription is answered by a `snapshot` with its epoch, then by `change` frames with \
        theirs; a later `snapshot` of the same id replaces all that came before.\n\n\
        **A metric**: `{\"type\":\"subscribe\",\"id\",\"metric\",\"granularity\"?,\"filter\"?,\"group_by\"?,\"range\"?,\"aggregations\"?,\"epoch\"?,\"partial\"?}`. \
        Each point is the bucket's whole new value.\n\n\
        **A view**, the rollups of `metrics` included: `{\"type\":\"subscribe\",\"id\",\"view\",\"where\"?,\"range\"?,\"epoch\"?,\"partial\"?}`. \
        `{\"type\":\"snapshot\",\"id\",\"epoch\",\"view\",\"columns\",\"keys\",\"rows\"}`: `columns` and `rows` are as those of `/api/v1/sql`, and `keys` has for each row \
        a text that tells it from the others; compare it, and do not read it. `{\"type\":\"change\",\"id\",\"epoch\",\"keys\",\"rows\",\"removed\"}`: \
        the rows that are new or changed, whole, and the keys of those that are no more, as they do not pass `HAVING` or `where` any \
        longer, or as their bucket has left the window. A map of rows by key is then `SELECT * FROM view WHERE …` as of `epoch`. \
        `where`: a condition in SQL over the view's columns, of immutable functions, nested at most 500 operators deep. `range`: of a view with a time bucket, how far back from \
        now the window of buckets reaches, 15 minutes by default; of other views all rows are followed. An `error` frame ends a \
        subscription: `view_unknown`, `not_a_view` (a stream), `view_backfilling` (subscribe again later), `view_dropped` (dropped or \
        replaced), `groups_exceeded` and `rows_exceeded` (narrow it), `parameter_invalid`.\n\n\
        `epoch`: the snapshot waits until the events of this epoch are visible. `partial`: when ClickHouse is away or fails, a snapshot without \
        history will do; it has a member `partial` that says what is missing, and a whole one follows when ClickHouse is back. \
        `{\"type\":\"unsubscribe\",\"id\"}` ends one; `heartbeat` frames carry the newest epoch.",
    responses((status = 101, description = "the connection becomes a WebSocket"), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn connect(Ready(running): Ready, upgrade: WebSocketUpgrade) -> Result<Response, Problem> {
    let permit = running.bounds.open_live()?;
    Ok(upgrade.max_message_size(MESSAGE_BYTES_MAX).on_upgrade(move |socket| async move {
        serve(running, socket).await;
        drop(permit);
    }))
}

async fn serve(running: Arc<Running>, socket: WebSocket) {
    metrics::gauge!("streamgauge_live_connections").increment(1);
    let (mut out, mut incoming) = socket.split();
    let (frames, mut waiting) = mpsc::channel::<String>(FRAMES_MAX);
    let mut subscriptions: HashMap<String, AbortHandle> = HashMap::new();
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        let frame = tokio::select! {
            Some(frame) = waiting.recv() => frame,
            _ = heartbeat.tick() => heartbeat_frame(running.engine.status().epoch),
            () = running.stopping.cancelled() => break,
            message = incoming.next() => match message {
                Some(Ok(Message::Text(text))) => match handle(&running, &text, &frames, &mut subscriptions) {
                    Ok(()) => continue,
                    Err(frame) => frame,
                },
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => continue,
            },
        };
        if out.send(Message::Text(frame.into())).await.is_err() {
            break;
        }
    }
    subscriptions.into_values().for_each(|task| task.abort());
    let _ = out.close().await;
    metrics::gauge!("streamgauge_live_connections").decrement(1);
}

fn handle(
    running: &Arc<Running>,
    text: &str,
    frames: &mpsc::Sender<String>,
    subscriptions: &mut HashMap<String, AbortHandle>,
) -> Result<(), String> {
    let request: Request = serde_json::from_str(text)
        .map_err(|error| error_frame(None, &Problem::bad_request("bad_message", error.to_string())))?;
    subscriptions.retain(|_, task| !task.is_finished());
    match request {
        Request::Unsubscribe { id } => {
            if let Some(task) = subscriptions.remove(&id) {
                task.abort();
            }
        }
        Request::Subscribe(subscribe) => {
            let id = subscribe.id.clone();
            let asked = subscribe.read().map_err(|problem| error_frame(Some(&id), &problem))?;
            if let Some(task) = subscriptions.remove(&id) {
                task.abort(); // the same id again replaces the subscription
            }
            if subscriptions.len() >= SUBSCRIPTIONS_MAX {
                let detail = format!("a connection has at most {SUBSCRIPTIONS_MAX} subscriptions");
                return Err(error_frame(Some(&id), &Problem::bad_request("too_many_subscriptions", detail)));
            }
            let task = tokio::spawn(follow(running.clone(), id.clone(), asked, frames.clone()));
            subscriptions.insert(id, task.abort_handle());
        }
    }
    Ok(())
}

/// Runs one subscription until its client is gone.
async fn follow(running: Arc<Running>, id: String, asked: Asked, frames: mpsc::Sender<String>) {
    let (mut pause, mut lag_pause) = (HISTORY_PAUSE, LAG_PAUSE);
    loop {
        let mut changes = 0;
        match follow_once(&running, &id, &asked, &frames, pause, &mut changes).await {
            Ok(End::ClientGone) => return,
            Ok(End::HistoryBack) => pause = (pause * 2).min(HISTORY_PAUSE_MAX),
            Err(QueryError::Lagged) => {
                pause = HISTORY_PAUSE;
                // A snapshot reads history, so one that never keeps up must not take one after the other.
                lag_pause = if changes > CHANGES_KEPT_UP { LAG_PAUSE } else { (lag_pause * 2).min(LAG_PAUSE_MAX) };
                tokio::time::sleep(lag_pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            }
            Err(error) => {
                // The client decides whether to ask again: it knows best whether it still wants to see it.
                let _ = frames.send(error_frame(Some(&id), &Problem::from(error))).await;
                return;
            }
        }
    }
}

/// A snapshot, then its changes.
async fn follow_once(
    running: &Running,
    id: &str,
    asked: &Asked,
    frames: &mpsc::Sender<String>,
    pause: StdDuration,
    changes: &mut usize,
) -> Result<End, QueryError> {
    let (snapshot, mut followed) = Followed::begin(&running.queries, id, asked).await?;
    let mut history_back = pin!(history_back(&running.queries, followed.is_partial(), pause));
    let mut sent = frames.send(snapshot).await;
    while sent.is_ok() {
        let change = tokio::select! {
            change = followed.next_frame() => change?,
            () = &mut history_back => return Ok(End::HistoryBack),
        };
        sent = frames.send(change).await;
        *changes += 1;
        tokio::time::sleep(TICK).await; // the next change gathers what comes meanwhile
    }
    Ok(End::ClientGone)
}

/// Returns when ClickHouse answers again, looking at every `pause`; never when it was not missed.
async fn history_back(queries: &QueryEngine, missed: bool, pause: StdDuration) {
    if !missed {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(pause).await;
        if queries.history_available().await.is_ok() {
            return;
        }
    }
}
