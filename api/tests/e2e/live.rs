//! The WebSocket: a snapshot, then every change, and nothing between them lost or doubled.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use streamgauge_schemas::EventTime;
use streamgauge_schemas::time::{to_rfc3339, wall_clock};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::client::accepted;
use crate::support::{Client, DataDir, PATIENCE, Program, plain};

pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn connect(client: &Client) -> Self {
        let (socket, _) = connect_async(format!("ws://{}/api/v1/live", client.address())).await.unwrap();
        Socket(socket)
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.0.send(Message::Text(frame.to_string().into())).await.unwrap();
    }

    async fn any(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a frame arrives in time");
            if let Message::Text(text) = message.expect("the connection stays").unwrap() {
                return plain(serde_json::from_str(&text).unwrap());
            }
        }
    }

    /// The next frame that is not a heartbeat.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let frame = self.any().await;
            if frame["type"] != "heartbeat" {
                return frame;
            }
        }
    }
}

/// What a client shows: points by dimensions and time.
#[derive(Default, Debug, PartialEq)]
struct Shown(BTreeMap<(String, String), Value>);

impl Shown {
    fn take(&mut self, frame: &Value) {
        if frame["type"] == "snapshot" {
            self.0.clear();
        }
        for series in frame["series"].as_array().unwrap() {
            for point in series["points"].as_array().unwrap() {
                let key = (series["dimensions"].to_string(), point[0].as_str().unwrap().to_owned());
                self.0.insert(key, point.clone());
            }
        }
    }

    fn count(&self) -> f64 {
        self.0.values().map(|point| point.as_array().unwrap().last().unwrap().as_f64().unwrap()).sum()
    }
}

fn event(seconds_ago: i64, host: &str, value: f64) -> Value {
    let at = EventTime(wall_clock().0 - seconds_ago * 1_000_000);
    json!({"timestamp": at.0, "name": "cpu", "value": value, "dimensions": {"host": host}})
}

#[tokio::test]
async fn a_subscriber_sees_the_snapshot_and_every_change() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let before: Vec<Value> = (0..20).map(|i| event(i * 3, ["a", "b"][i as usize % 2], i as f64)).collect();
    let epoch = accepted(&client.post_json("/v1/metrics", &json!(before)).await, 20);
    let mut socket = Socket::connect(client).await;
    let aggregations = ["avg", "min", "max", "count"];
    let subscribe = json!({"type": "subscribe", "id": "s1", "metric": "cpu", "granularity": "1s", "group_by": ["host"],
        "range": "15m", "aggregations": aggregations});
    socket.send(subscribe).await;
    let snapshot = socket.next().await;
    assert_eq!((&snapshot["type"], &snapshot["id"]), (&json!("snapshot"), &json!("s1")), "{snapshot}");
    assert_eq!((&snapshot["granularity"], &snapshot["aggregations"]), (&json!("1s"), &json!(aggregations)));
    assert!(snapshot["epoch"].as_f64().unwrap() >= epoch as f64);
    let mut shown = Shown::default();
    shown.take(&snapshot);
    assert_eq!(shown.count(), 20.0);

    // A change is there within a second of its ingest, late ones and such of a new series included.
    let mut events = 20.0;
    for (seconds_ago, host) in [(0, "a"), (30, "b"), (600, "c")] {
        let posted = Instant::now();
        let epoch = accepted(&client.post_json("/v1/metrics", &event(seconds_ago, host, 100.0)).await, 1);
        events += 1.0;
        let change = socket.next().await;
        assert_eq!((&change["type"], &change["id"]), (&json!("change"), &json!("s1")), "{change}");
        assert!(change["epoch"].as_f64().unwrap() >= epoch as f64, "{change}");
        assert!(posted.elapsed() < Duration::from_secs(1), "the change came after {:?}", posted.elapsed());
        shown.take(&change);
        assert_eq!(shown.count(), events, "a point is the bucket's whole new value: {change}");
    }
    // Many at once: changes may be gathered, and none is lost.
    for _ in 0..20 {
        let batch: Vec<Value> = (0..50).map(|i| event(i, ["a", "b", "d"][i as usize % 3], i as f64)).collect();
        accepted(&client.post_json("/v1/metrics", &json!(batch)).await, 50);
        events += 50.0;
    }
    while shown.count() < events {
        shown.take(&socket.next().await);
    }
    let of_data = client.data("cpu", "granularity=1s&group_by=host&aggregation=avg,min,max,count").await;
    let mut expected = Shown::default();
    expected.take(&json!({"type": "snapshot", "series": of_data}));
    assert_eq!(shown, expected, "what the socket built up is what the data endpoint answers");
}

#[tokio::test]
async fn subscriptions_are_filtered_and_end() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    accepted(&client.post_json("/v1/metrics", &event(0, "a", 1.0)).await, 1);
    let mut socket = Socket::connect(client).await;
    let subscribe = |id: &str, filter: &str| json!({"type": "subscribe", "id": id, "metric": "cpu", "granularity": "1m", "filter": filter, "aggregations": ["count"]});
    socket.send(subscribe("of-a", "host:a")).await;
    assert_eq!(socket.next().await["id"], "of-a");
    socket.send(subscribe("of-b", "host:b")).await;
    let empty = socket.next().await;
    assert_eq!((&empty["id"], &empty["series"]), (&json!("of-b"), &json!([])), "{empty}");
    accepted(&client.post_json("/v1/metrics", &event(0, "b", 1.0)).await, 1);
    assert_eq!(socket.next().await["id"], "of-b");
    socket.send(json!({"type": "unsubscribe", "id": "of-b"})).await;
    // The answer to a question of its own shows that the one before it was taken.
    socket.send(json!({"type": "subscribe", "id": "wrong", "metric": "cpu", "granularity": "fast"})).await;
    let error = socket.next().await;
    assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("wrong")), "{error}");
    assert!(error["detail"].as_str().unwrap().contains("granularity") && error["code"].is_string(), "{error}");
    accepted(&client.post_json("/v1/metrics", &json!([event(0, "b", 1.0)])).await, 1);
    accepted(&client.post_json("/v1/metrics", &json!([event(0, "a", 1.0)])).await, 1);
    assert_eq!(socket.next().await["id"], "of-a", "nothing more of b");
    for message in ["not json", "{\"type\":\"dance\"}"] {
        socket.0.send(Message::Text(message.into())).await.unwrap();
        assert_eq!(socket.next().await["type"], "error", "{message}");
    }
}

#[tokio::test]
async fn a_heartbeat_comes_each_second_and_the_end_is_said() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let mut socket = Socket::connect(program.client()).await;
    let epoch = accepted(&program.client().post_json("/v1/metrics", &event(0, "a", 1.0)).await, 1);
    let began = Instant::now();
    let mut last = Value::Null;
    for _ in 0..3 {
        last = socket.any().await;
        assert_eq!(last["type"], "heartbeat", "{last}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "three heartbeats took {:?}", began.elapsed());
    assert!(last["epoch"].as_f64().unwrap() >= epoch as f64, "{last}");
    assert!(last["time"].as_str().unwrap() > to_rfc3339(EventTime(wall_clock().0 - 60_000_000)).as_str(), "{last}");
    let (status, took) = program.terminate().await;
    assert!(
        status.success() && took < Duration::from_secs(15),
        "{status} after {took:?}: an open socket does not hold it up"
    );
    let end = tokio::time::timeout(PATIENCE, socket.0.collect::<Vec<_>>()).await.expect("the connection ends");
    assert!(end.iter().any(|message| matches!(message, Ok(Message::Close(_)))), "{end:?}");
}
