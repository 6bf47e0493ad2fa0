//! What is asked about the events of `dataset`, and whole answers to compare before and after.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::dataset::{Event, Question};
use crate::support::{Client, difference};

const ONE: &[(&str, &[&str])] = &[("host", &["a"])];
const EITHER: &[(&str, &[&str])] = &[("host", &["a", "b"]), ("zone", &["north"])];
const NONE: &[(&str, &[&str])] = &[("host", &["nobody"])];

/// Each aggregation alone and all together, at each granularity, with filters and groups.
pub(crate) fn of_data() -> Vec<(&'static str, Question)> {
    let all = "avg,min,max,count,sum";
    let mut questions = Vec::new();
    let mut ask = |metric, granularity, aggregations, filter, group_by| {
        questions.push((metric, Question { granularity, aggregations, filter, group_by }));
    };
    for granularity in ["1s", "5m", "1h", "1d"] {
        ask("load", granularity, all, &[], &[]);
        ask("load", granularity, all, ONE, &["zone"]);
        ask("load", granularity, all, EITHER, &["host", "zone"]);
        ask("clock", granularity, all, &[], &[]);
    }
    for aggregation in ["avg", "sum", "min", "max", "count"] {
        ask("load", "1m", aggregation, &[], &["host"]);
    }
    for granularity in ["7s", "90s", "2h", "36h"] {
        ask("load", granularity, all, &[], &[]);
    }
    ask("load", "1h", "count", NONE, &[]);
    ask("clock", "1h", all, &[], &["host"]); // no event has this dimension
    questions
}

/// Checks every answer of the data endpoint against the recomputation.
pub(crate) async fn check_data(client: &Client, events: &[Event], when: &str) {
    for (metric, question) in of_data() {
        let found = client.data(metric, &question.query()).await;
        if let Some(difference) = difference(&found, &question.expected(metric, events)) {
            panic!("{when}: {metric} {question:?}\n{difference}");
        }
    }
}

/// Over SQL: raw events, rollups, and both joined.
pub(crate) const OF_SQL: &[&str] = &[
    "SELECT count(*), sum(value), min(value), max(value), min(ts), max(ts) FROM metrics",
    "SELECT ts, name, value, dimensions['host'], dimensions['zone'], source FROM metrics ORDER BY 1, 2, 3, 4, 5",
    "SELECT name, dimensions['host'] AS host, count(*), avg(value) FROM metrics WHERE value > 100 GROUP BY 1, 2 ORDER BY 1, 2",
    r#"SELECT bucket, name, dimensions['host'], dimensions['zone'], "count", "sum", "min", "max", "avg" FROM metrics_1s ORDER BY 1, 2, 3, 4"#,
    r#"SELECT bucket, name, dimensions['host'], dimensions['zone'], "count", "sum", "min", "max", "avg" FROM metrics_1m ORDER BY 1, 2, 3, 4"#,
    r#"SELECT bucket, name, dimensions['host'], dimensions['zone'], "count", "sum", "min", "max", "avg" FROM metrics_1h ORDER BY 1, 2, 3, 4"#,
    r#"SELECT bucket, name, dimensions['host'], dimensions['zone'], "count", "sum", "min", "max", "avg" FROM metrics_1d ORDER BY 1, 2, 3, 4"#,
    r#"SELECT name, sum("count"), sum("sum") FROM metrics_1m WHERE bucket >= TIMESTAMP '2024-05-02T00:00:00Z' GROUP BY name ORDER BY name"#,
    "SELECT r.bucket, r.\"sum\" FROM metrics_1h r JOIN (SELECT DISTINCT date_trunc('hour', ts) AS hour, name FROM metrics WHERE value > 799) m
        ON m.hour = r.bucket AND m.name = r.name WHERE r.dimensions['host'] = 'b' ORDER BY 1, 2",
];

/// Every answer to everything that is asked, by question, without what changes from one asking to the next.
pub(crate) async fn all_answers(client: &Client) -> BTreeMap<String, Value> {
    let mut answers = BTreeMap::new();
    for sql in OF_SQL {
        answers.insert((*sql).to_owned(), client.sql(sql).await);
    }
    for (metric, question) in of_data() {
        let query = question.query();
        answers.insert(format!("{metric} {query}"), client.data(metric, &query).await);
    }
    for path in [
        "/api/v1/streams",
        "/api/v1/metrics",
        "/api/v1/metrics?prefix=lo&limit=1",
        "/api/v1/metrics/load/dimensions",
        "/api/v1/metrics/clock/dimensions",
    ] {
        let mut answer = client.get(path).await.expect(200);
        if let Some(members) = answer.as_object_mut() {
            members.remove("epoch");
        }
        answers.insert(path.to_owned(), answer);
    }
    answers
}

/// Compares all answers, and names the first question whose answer changed.
pub(crate) fn assert_same(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>, when: &str) {
    assert_eq!(before.len(), after.len());
    for (question, answer) in before {
        if let Some(difference) = difference(&after[question], answer) {
            panic!("{when} the answer changed: {question}\n{difference}");
        }
    }
}

/// What ClickHouse itself must say of the events: rows, and of each rollup the sum of counts and of sums.
pub(crate) fn of_clickhouse(events: &[Event]) -> Value {
    let (count, sum) = (events.len() as f64, events.iter().map(|event| event.value).sum::<f64>());
    json!([[count, sum, count, sum, count, sum, count, sum, count, sum]])
}

/// The question that [`of_clickhouse`] answers.
pub(crate) const OF_CLICKHOUSE: &str = "SELECT * FROM
    (SELECT toFloat64(count()), sum(value) FROM metrics) AS raw,
    (SELECT toFloat64(sum(count)), sum(r.sum) FROM metrics_1s AS r) AS s,
    (SELECT toFloat64(sum(count)), sum(r.sum) FROM metrics_1m AS r) AS m,
    (SELECT toFloat64(sum(count)), sum(r.sum) FROM metrics_1h AS r) AS h,
    (SELECT toFloat64(sum(count)), sum(r.sum) FROM metrics_1d AS r) AS d";
