//! Live: `GET /api/v1/live`, a WebSocket with one task a subscription.
//!
//! ```text
//!  client ── subscribe ──▶ socket task ── spawn ──▶ subscription task ── snapshot, change… ──▶ frames ──▶ client
//! ```
//!
//! A change carries whole new values of the buckets it names, so a client replaces them and needs no arithmetic. A
//! subscription that falls behind takes a new snapshot, and so does one that began without history, as it was allowed to,
//! once ClickHouse is back; a client may get several, and each replaces what it had.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use streamgauge_queries::format::partial_json;
use streamgauge_queries::{Aggregation, AskOptions, DimensionFilter, FollowQuery, QueryEngine, QueryError};
use streamgauge_schemas::{Duration, Epoch, time};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::metrics::{parse_granularity, series_json};
use super::problem::Problem;
use super::sql::note;
use super::{Ready, Running};

/// Changes are gathered for this long before they are sent.
const TICK: StdDuration = StdDuration::from_millis(100);
const HEARTBEAT: StdDuration = StdDuration::from_secs(1);
/// After this time a subscription without history looks whether ClickHouse is back; twice as long each time that it
/// answers, and then fails to read,
const HISTORY_PAUSE: StdDuration = StdDuration::from_secs(2);
/// up to this.
const HISTORY_PAUSE_MAX: StdDuration = StdDuration::from_secs(60);
/// How far back a subscription reaches that does not say.
const RANGE_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// Frames that wait for a slow client; then its subscriptions wait, and gather.
const FRAMES_MAX: usize = 64;
const SUBSCRIPTIONS_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    Subscribe(Subscribe),
    Unsubscribe { id: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    id: String,
    metric: String,
    #[serde(default)]
    granularity: Option<String>,
    #[serde(default)]
    filter: String,
    #[serde(default)]
    group_by: Vec<String>,
    #[serde(default)]
    range: Option<Duration>,
    #[serde(default)]
    aggregations: Vec<String>,
    #[serde(default)]
    epoch: Option<Epoch>,
    #[serde(default)]
    partial: bool,
}

/// What a subscription asks, and how.
struct Asked {
    query: FollowQuery,
    options: AskOptions,
}

/// Why a subscription goes no further.
enum End {
    ClientGone,
    HistoryBack,
}

/// Subscribe to metrics over a WebSocket.
#[utoipa::path(
    get, path = "/api/v1/live", tag = "live",
    description = "A WebSocket of JSON text frames. Send `{\"type\":\"subscribe\",\"id\",\"metric\",\"granularity\"?,\"filter\"?,\"group_by\"?,\"range\"?,\"aggregations\"?,\"epoch\"?,\"partial\"?}`; \
        a `snapshot` with its epoch answers, then `change` frames with theirs, each point the bucket's whole new value. \
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
    let (frames, mut waiting) = mpsc::channel::<Value>(FRAMES_MAX);
    let mut subscriptions: HashMap<String, AbortHandle> = HashMap::new();
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        let frame = tokio::select! {
            Some(frame) = waiting.recv() => frame,
            _ = heartbeat.tick() => heartbeat_frame(&running),
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
        if out.send(Message::Text(frame.to_string().into())).await.is_err() {
            break;
        }
    }
    subscriptions.into_values().for_each(|task| task.abort());
    let _ = out.close().await;
    metrics::gauge!("streamgauge_live_connections").decrement(1);
}

fn heartbeat_frame(running: &Running) -> Value {
    json!({ "type": "heartbeat", "epoch": running.engine.status().epoch, "time": time::to_rfc3339(time::wall_clock()) })
}

fn error_frame(id: Option<&str>, problem: &Problem) -> Value {
    json!({ "type": "error", "id": id, "code": problem.code, "detail": problem.detail })
}

fn handle(
    running: &Arc<Running>,
    text: &str,
    frames: &mpsc::Sender<Value>,
    subscriptions: &mut HashMap<String, AbortHandle>,
) -> Result<(), Value> {
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
            let asked = parse(subscribe).map_err(|problem| error_frame(Some(&id), &problem))?;
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

fn parse(subscribe: Subscribe) -> Result<Asked, Problem> {
    let aggregations = match subscribe.aggregations.as_slice() {
        [] => vec![Aggregation::Avg, Aggregation::Min, Aggregation::Max, Aggregation::Count],
        named => Aggregation::list(&named.join(","))?,
    };
    let query = FollowQuery {
        metric: subscribe.metric,
        range: subscribe.range.unwrap_or(RANGE_DEFAULT),
        granularity: subscribe.granularity.as_deref().map(parse_granularity).transpose()?,
        aggregations,
        filter: DimensionFilter::parse([subscribe.filter.as_str()])?,
        group_by: subscribe.group_by,
    };
    Ok(Asked { query, options: AskOptions { min_epoch: subscribe.epoch, partial: subscribe.partial } })
}

/// Runs one subscription until its client is gone.
async fn follow(running: Arc<Running>, id: String, asked: Asked, frames: mpsc::Sender<Value>) {
    let mut pause = HISTORY_PAUSE;
    loop {
        match follow_once(&running, &id, &asked, &frames, pause).await {
            Ok(End::ClientGone) => return,
            Ok(End::HistoryBack) => pause = (pause * 2).min(HISTORY_PAUSE_MAX),
            Err(QueryError::Lagged) => pause = HISTORY_PAUSE,
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
    frames: &mpsc::Sender<Value>,
    pause: StdDuration,
) -> Result<End, QueryError> {
    let (snapshot, mut live) = running.queries.follow(&asked.query, asked.options).await?;
    let names: Vec<&str> = snapshot.aggregations.iter().map(|aggregation| aggregation.name()).collect();
    let mut frame = json!({
        "type": "snapshot", "id": id, "epoch": snapshot.epoch, "granularity": snapshot.granularity.to_string(),
        "aggregations": names, "series": series_json(&snapshot.series, &snapshot.aggregations),
    });
    if let Some(partial) = &snapshot.partial {
        frame["partial"] = partial_json(partial);
        note(partial);
    }
    let mut history_back = pin!(history_back(&running.queries, snapshot.partial.is_some(), pause));
    let mut sent = frames.send(frame).await;
    while sent.is_ok() {
        let change = tokio::select! {
            change = live.next_change() => change?,
            () = &mut history_back => return Ok(End::HistoryBack),
        };
        let series = series_json(&change.series, &snapshot.aggregations);
        sent = frames.send(json!({ "type": "change", "id": id, "epoch": change.epoch, "series": series })).await;
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
