//! Events of three hours around a midnight, late and out of order, and a plain recomputation of what is asked of them.
//!
//! Values are quarters, so sums are exact in any order and whole answers can be compared.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use streamgauge_schemas::time::to_rfc3339;
use streamgauge_schemas::{EventTime, Summary};

use crate::support::Client;
use crate::support::client::{JSON, NDJSON, accepted};

/// 2024-05-01T22:30:00Z.
pub(crate) const BEGIN: EventTime = EventTime(1_714_602_600_000_000);
/// 2024-05-02T01:30:00Z.
pub(crate) const END: EventTime = EventTime(1_714_613_400_000_000);

/// An event of the metric `load` (of one host and zone) or `clock` (without dimensions).
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: &'static str,
    pub(crate) dimensions: BTreeMap<&'static str, &'static str>,
    pub(crate) at: EventTime,
    pub(crate) value: f64,
}

impl Event {
    fn json(&self) -> Value {
        json!({"timestamp": to_rfc3339(self.at), "name": self.name, "value": self.value, "dimensions": self.dimensions})
    }
}

/// All events, in the order in which they are posted.
pub(crate) fn events() -> Vec<Event> {
    let mut random = 1_u64;
    let mut next = move |below: u64| {
        // Knuth's MMIX generator; the high bits are the good ones.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut events = Vec::new();
    for host in ["a", "b", "c"] {
        for zone in ["north", "south"] {
            for step in 0..300 {
                let at = EventTime(BEGIN.0 + step * 36_000_000 + next(36_000_000) as i64 / 1_000 * 1_000);
                let value = next(4_000) as f64 / 4.0 - 200.0;
                events.push(Event { name: "load", dimensions: [("host", host), ("zone", zone)].into(), at, value });
            }
        }
    }
    for (second, value) in
        [(0, 1.0), (0, 2.0), (1, 4.0), (59, 8.0), (60, 16.0), (3_599, 32.0), (3_600, 64.0), (10_799, 128.0)]
    {
        events.push(Event {
            name: "clock",
            dimensions: BTreeMap::new(),
            at: EventTime(BEGIN.0 + second * 1_000_000),
            value,
        });
    }
    for place in (1..events.len()).rev() {
        events.swap(place, next(place as u64 + 1) as usize);
    }
    events
}

/// Posts the events by turns in each of the forms.
pub(crate) async fn post(client: &Client, events: &[Event]) {
    for (index, part) in events.chunks(101).enumerate() {
        let all: Vec<Value> = part.iter().map(Event::json).collect();
        let lines: String = all.iter().map(|event| format!("{event}\n")).collect();
        let answer = match index % 4 {
            0 => client.post_json("/api/v1/ingest", &json!({"source_id": "e2e", "data_points": all})).await,
            1 => client.post("/v1/metrics", JSON, json!(all).to_string()).await,
            2 => client.post("/api/v1/streams/metrics/events", NDJSON, lines).await,
            _ => client.post_gzip("/api/v1/streams/metrics/events", NDJSON, &lines).await,
        };
        accepted(&answer, part.len());
    }
}

/// The rows of a rollup in any order, recomputed from the events: bucket, name, host, zone and the five aggregates.
pub(crate) fn rollup(bucket: &str, events: &[Event]) -> Vec<Value> {
    let bucket = bucket.parse().unwrap();
    let mut groups: BTreeMap<(EventTime, &str, &BTreeMap<&str, &str>), Summary> = BTreeMap::new();
    for event in events {
        groups.entry((event.at.floor(bucket), event.name, &event.dimensions)).or_default().add(event.value);
    }
    let row = |((at, name, dimensions), state): (&(EventTime, &str, &BTreeMap<&str, &str>), &Summary)| {
        let Summary { count, sum, min, max } = *state;
        let (host, zone, count) = (dimensions.get("host"), dimensions.get("zone"), count as f64);
        // Read as an answer is read: serde_json may be off by the last bit.
        let text = json!([to_rfc3339(*at), name, host, zone, count, sum, min, max, sum / count]).to_string();
        serde_json::from_str(&text).unwrap()
    };
    groups.iter().map(row).collect()
}

/// A question to the data endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) granularity: &'static str,
    pub(crate) aggregations: &'static str,
    pub(crate) filter: &'static [(&'static str, &'static [&'static str])],
    pub(crate) group_by: &'static [&'static str],
}

impl Question {
    /// The query string, over all events.
    pub(crate) fn query(&self) -> String {
        let mut query = format!(
            "start_time={}&end_time={}&granularity={}&aggregation={}",
            to_rfc3339(EventTime(BEGIN.0 - 79_200_000_000)), // from the day's begin
            to_rfc3339(END),
            self.granularity,
            self.aggregations
        );
        for (index, (key, values)) in self.filter.iter().enumerate() {
            let pairs: Vec<String> = values.iter().map(|value| format!("{key}:{value}")).collect();
            match index {
                0 => query += &format!("&filter={}", pairs.join(",")),
                _ => query += &pairs.iter().map(|pair| format!("&filter={pair}")).collect::<String>(),
            }
        }
        if !self.group_by.is_empty() {
            query += &format!("&group_by={}", self.group_by.join(","));
        }
        query
    }

    /// The series that it must be answered with, recomputed from the events.
    pub(crate) fn expected(&self, metric: &str, events: &[Event]) -> Value {
        let granularity = self.granularity.parse().unwrap();
        let mut series: BTreeMap<String, (Value, BTreeMap<EventTime, Summary>)> = BTreeMap::new();
        for event in events.iter().filter(|event| event.name == metric && self.holds(event)) {
            let key = |name: &&str| Some((name.to_string(), json!(event.dimensions.get(name)?)));
            let dimensions = Value::Object(self.group_by.iter().filter_map(key).collect::<Map<_, _>>());
            let (_, buckets) = series.entry(dimensions.to_string()).or_insert((dimensions, BTreeMap::new()));
            buckets.entry(event.at.floor(granularity)).or_default().add(event.value);
        }
        let one = |(dimensions, buckets): (Value, BTreeMap<EventTime, Summary>)| {
            let points: Value = buckets.iter().map(|(at, state)| self.point(*at, state)).collect();
            json!({"dimensions": dimensions, "points": points})
        };
        let series: Value = series.into_values().map(one).collect();
        // An answer is read by serde_json, which may be off by the last bit; so is this.
        serde_json::from_str(&series.to_string()).unwrap()
    }

    fn holds(&self, event: &Event) -> bool {
        self.filter.iter().all(|(key, values)| event.dimensions.get(key).is_some_and(|value| values.contains(value)))
    }

    fn point(&self, at: EventTime, state: &Summary) -> Value {
        let mut point = vec![json!(to_rfc3339(at))];
        for aggregation in self.aggregations.split(',') {
            point.push(json!(match aggregation {
                "avg" => state.sum / state.count as f64,
                "sum" => state.sum,
                "min" => state.min,
                "max" => state.max,
                _ => state.count as f64,
            }));
        }
        Value::Array(point)
    }
}
