//! What a client of the WebSocket is sent: the frames of a subscription, and those of the connection.

use serde_json::{Value, json};
use streamgauge_queries::format::{columns_json, partial_json};
use streamgauge_queries::{
    Aggregation, LiveSeries, LiveView, Partial, QueryEngine, QueryError, RowKey, SeriesAnswer, ViewAnswer, ViewRow,
};
use streamgauge_schemas::{Epoch, time};

use super::request::{Asked, Subject};
use crate::http::metrics::series_json;
use crate::http::problem::Problem;
use crate::http::sql::note;

/// A subscription under way.
pub(super) struct Followed {
    id: String,
    is_partial: bool,
    live: Live,
}

enum Live {
    Series(Box<LiveSeries>, Vec<Aggregation>),
    View(Box<LiveView>),
}

impl Followed {
    /// Begins to follow; answers the frame of the snapshot.
    pub(super) async fn begin(queries: &QueryEngine, id: &str, asked: &Asked) -> Result<(String, Self), QueryError> {
        let (frame, partial, live) = match &asked.of {
            Subject::Metric(query) => {
                let (snapshot, live) = queries.follow(query, asked.options).await?;
                let frame = series_frame(id, &snapshot);
                (frame, snapshot.partial, Live::Series(Box::new(live), snapshot.aggregations))
            }
            Subject::View(query) => {
                let (snapshot, live) = queries.follow_view(query, asked.options).await?;
                (view_frame(id, &snapshot), snapshot.partial, Live::View(Box::new(live)))
            }
        };
        partial.iter().for_each(note);
        Ok((frame, Followed { id: id.to_owned(), is_partial: partial.is_some(), live }))
    }

    /// Whether the snapshot lacks history.
    pub(super) fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Waits for the frame of the next change; may be dropped while it waits.
    pub(super) async fn next_frame(&mut self) -> Result<String, QueryError> {
        let id = &self.id;
        match &mut self.live {
            Live::Series(live, aggregations) => {
                let change = live.next_change().await?;
                let series = series_json(&change.series, aggregations);
                Ok(json!({ "type": "change", "id": id, "epoch": change.epoch, "series": series }).to_string())
            }
            Live::View(live) => {
                let change = live.next_change().await?;
                let removed = json!(change.removed.iter().map(RowKey::to_string).collect::<Vec<_>>());
                let head = json!({ "type": "change", "id": id, "epoch": change.epoch, "removed": removed });
                Ok(with_rows(&head, &change.rows))
            }
        }
    }
}

fn series_frame(id: &str, snapshot: &SeriesAnswer) -> String {
    let names: Vec<&str> = snapshot.aggregations.iter().map(|aggregation| aggregation.name()).collect();
    let frame = json!({
        "type": "snapshot", "id": id, "epoch": snapshot.epoch, "granularity": snapshot.granularity.to_string(),
        "aggregations": names, "series": series_json(&snapshot.series, &snapshot.aggregations),
    });
    marked(frame, snapshot.partial.as_ref()).to_string()
}

fn view_frame(id: &str, snapshot: &ViewAnswer) -> String {
    let frame = json!({
        "type": "snapshot", "id": id, "epoch": snapshot.epoch, "view": snapshot.view,
        "columns": columns_json(&snapshot.schema),
    });
    with_rows(&marked(frame, snapshot.partial.as_ref()), &snapshot.rows)
}

fn marked(mut frame: Value, partial: Option<&Partial>) -> Value {
    if let Some(partial) = partial {
        frame["partial"] = partial_json(partial);
    }
    frame
}

/// A frame with rows, which are JSON already, and their keys.
fn with_rows(head: &Value, rows: &[ViewRow]) -> String {
    let keys: Vec<String> = rows.iter().map(|row| row.key.to_string()).collect();
    let rows: Vec<&str> = rows.iter().map(|row| &*row.json).collect();
    let head = head.to_string();
    let open = head.strip_suffix('}').expect("a frame is an object");
    format!("{open},\"keys\":{},\"rows\":[{}]}}", json!(keys), rows.join(","))
}

pub(super) fn heartbeat_frame(epoch: Epoch) -> String {
    json!({ "type": "heartbeat", "epoch": epoch, "time": time::to_rfc3339(time::wall_clock()) }).to_string()
}

pub(super) fn error_frame(id: Option<&str>, problem: &Problem) -> String {
    json!({ "type": "error", "id": id, "code": problem.code, "detail": problem.detail }).to_string()
}
