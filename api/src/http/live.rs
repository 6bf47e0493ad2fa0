//! Live: `GET /api/v1/live`, a WebSocket with one task a subscription.
//!
//! ```text
//!  client ── subscribe ──▶ socket task ── spawn ──▶ subscription task ── snapshot, change… ──▶ frames ──▶ client
//! ```
//!
//! A change carries whole new values of the buckets it names, so a client replaces them and needs no arithmetic. A
//! subscription that falls behind takes a new snapshot; a client may get several, and each replaces what it had.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use streamgauge_queries::{Aggregation, DimensionFilter, FollowQuery, QueryError};
use streamgauge_schemas::{Duration, time};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::metrics::{parse_granularity, series_json};
use super::problem::Problem;
use super::{Ready, Running};

/// Changes are gathered for this long before they are sent.
const TICK: StdDuration = StdDuration::from_millis(100);
const HEARTBEAT: StdDuration = StdDuration::from_secs(1);
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
}

/// Subscribe to metrics over a WebSocket.
#[utoipa::path(
    get, path = "/api/v1/live", tag = "live",
    description = "A WebSocket of JSON text frames. Send `{\"type\":\"subscribe\",\"id\",\"metric\",\"granularity\"?,\"filter\"?,\"group_by\"?,\"range\"?,\"aggregations\"?}`; \
        a `snapshot` with its epoch answers, then `change` frames with theirs, each point the bucket's whole new value. \
        `{\"type\":\"unsubscribe\",\"id\"}` ends one; `heartbeat` frames carry the newest epoch.",
    responses((status = 101, description = "the connection becomes a WebSocket"), (status = 503, body = Problem)))]
pub(crate) async fn connect(Ready(running): Ready, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(MESSAGE_BYTES_MAX).on_upgrade(move |socket| serve(running, socket))
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
            let query = parse(subscribe).map_err(|problem| error_frame(Some(&id), &problem))?;
            if let Some(task) = subscriptions.remove(&id) {
                task.abort(); // the same id again replaces the subscription
            }
            if subscriptions.len() >= SUBSCRIPTIONS_MAX {
                let detail = format!("a connection has at most {SUBSCRIPTIONS_MAX} subscriptions");
                return Err(error_frame(Some(&id), &Problem::bad_request("too_many_subscriptions", detail)));
            }
            let task = tokio::spawn(follow(running.clone(), id.clone(), query, frames.clone()));
            subscriptions.insert(id, task.abort_handle());
        }
    }
    Ok(())
}

fn parse(subscribe: Subscribe) -> Result<FollowQuery, Problem> {
    let aggregations = match subscribe.aggregations.as_slice() {
        [] => vec![Aggregation::Avg, Aggregation::Min, Aggregation::Max, Aggregation::Count],
        named => Aggregation::list(&named.join(","))?,
    };
    Ok(FollowQuery {
        metric: subscribe.metric,
        range: subscribe.range.unwrap_or(RANGE_DEFAULT),
        granularity: subscribe.granularity.as_deref().map(parse_granularity).transpose()?,
        aggregations,
        filter: DimensionFilter::parse([subscribe.filter.as_str()])?,
        group_by: subscribe.group_by,
    })
}

/// Runs one subscription until its client is gone.
async fn follow(running: Arc<Running>, id: String, query: FollowQuery, frames: mpsc::Sender<Value>) {
    while let Err(error) = follow_once(&running, &id, &query, &frames).await {
        if !matches!(error, QueryError::Lagged) {
            // The client decides whether to ask again: it knows best whether it still wants to see it.
            let _ = frames.send(error_frame(Some(&id), &Problem::from(error))).await;
            return;
        }
    }
}

/// A snapshot, then its changes; ends well when the client is gone.
async fn follow_once(
    running: &Running,
    id: &str,
    query: &FollowQuery,
    frames: &mpsc::Sender<Value>,
) -> Result<(), QueryError> {
    let (snapshot, mut live) = running.queries.follow(query).await?;
    let names: Vec<&str> = snapshot.aggregations.iter().map(|aggregation| aggregation.name()).collect();
    let frame = json!({
        "type": "snapshot", "id": id, "epoch": snapshot.epoch, "granularity": snapshot.granularity.to_string(),
        "aggregations": names, "series": series_json(&snapshot.series, &snapshot.aggregations),
    });
    let mut sent = frames.send(frame).await;
    while sent.is_ok() {
        let change = live.next_change().await?;
        let series = series_json(&change.series, &snapshot.aggregations);
        sent = frames.send(json!({ "type": "change", "id": id, "epoch": change.epoch, "series": series })).await;
        tokio::time::sleep(TICK).await; // the next change gathers what comes meanwhile
    }
    Ok(())
}
