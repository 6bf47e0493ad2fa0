//! The end, wanted or not, and the start after it: acknowledged means there, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::dataset::{self, Event};
use crate::questions::{self, OF_CLICKHOUSE};
use crate::support::client::accepted;
use crate::support::program::{is_running, run_to_end, signal};
use crate::support::{Client, DataDir, Program, eventually};

/// A stream beside the metrics, with a few events.
async fn make_stream(client: &Client) {
    let definition = json!({"name": "visits", "time_column": "at", "columns": [{"name": "page", "type": "text"}, {"name": "took", "type": "i64"}]});
    client.post_json("/api/v1/streams", &definition).await.expect(201);
    let visits: Vec<Value> =
        (0..40).map(|i| json!({"at": 1_714_557_600 + i, "page": format!("/{}", i % 7), "took": i})).collect();
    accepted(&client.post_json("/api/v1/streams/visits/events", &json!(visits)).await, 40);
}

async fn answers(client: &Client) -> BTreeMap<String, Value> {
    let mut answers = questions::all_answers(client).await;
    let visits = "SELECT at, page, took FROM visits ORDER BY at";
    answers.insert(visits.to_owned(), client.sql(visits).await);
    answers
}

async fn eventually_in_clickhouse(client: &Client, events: &[Event]) {
    eventually("all in ClickHouse", questions::of_clickhouse(events), || client.clickhouse(OF_CLICKHOUSE)).await;
}

#[tokio::test]
async fn answers_are_the_same_after_every_kind_of_end() {
    let data = DataDir::new();
    let events = dataset::events();
    let (first, rest) = events.split_at(events.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);

    // SIGTERM: all that was acknowledged is in ClickHouse when the program ends.
    let program = Program::start(&data).await;
    make_stream(program.client()).await;
    dataset::post(program.client(), first).await;
    let before = answers(program.client()).await;
    let clickhouse = program.children();
    let (status, took) = program.terminate().await;
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(15), "it took {took:?}");
    assert!(!clickhouse.iter().any(|id| is_running(*id)), "its ClickHouse has ended before it");
    let program = Program::start(&data).await;
    assert_eq!(program.client().clickhouse(OF_CLICKHOUSE).await, questions::of_clickhouse(first), "flushed at the end");
    questions::assert_same(&before, &answers(program.client()).await, "after SIGTERM");

    // SIGKILL at once after the last acknowledgement: the log has it.
    dataset::post(program.client(), second).await;
    let before = answers(program.client()).await;
    dataset::post(program.client(), third).await;
    program.kill();
    let program = Program::start(&data).await;
    questions::check_data(program.client(), &events, "after SIGKILL").await;
    let all = answers(program.client()).await;
    assert_ne!(before[questions::OF_SQL[0]], all[questions::OF_SQL[0]], "what came after is there, too");
    eventually_in_clickhouse(program.client(), &events).await;
    questions::assert_same(&all, &answers(program.client()).await, "when all was flushed");

    // SIGKILL when all was flushed, and SIGKILL before anything else happened.
    program.kill();
    let program = Program::start(&data).await;
    questions::assert_same(&all, &answers(program.client()).await, "after the second SIGKILL");
    program.kill();
    let program = Program::start_with(&data, &["--workers", "2"]).await;
    questions::assert_same(&all, &answers(program.client()).await, "after the third SIGKILL, on two workers");
    eventually_in_clickhouse(program.client(), &events).await;
}

/// Events of one body of the stream of posts.
const BODY_EVENTS: usize = 50;
const POSTERS: usize = 3;

/// What the posters know: bodies that were acknowledged, and bodies that were sent.
#[derive(Default)]
struct Posted {
    acknowledged: BTreeSet<(usize, usize)>,
    sent: BTreeSet<(usize, usize)>,
}

fn body(poster: usize, number: usize) -> String {
    let event = |index: usize| {
        let at = 1_714_557_600_000 + (number * BODY_EVENTS + index) * 37;
        format!("{{\"ts\":{at},\"name\":\"posts\",\"value\":{number},\"dimensions\":{{\"poster\":\"{poster}\"}}}}\n")
    };
    (0..BODY_EVENTS).map(event).collect()
}

/// Posts bodies one after the other until the program is gone.
async fn post_until_the_end(client: Client, poster: usize, first: usize, done: Arc<AtomicUsize>) -> Posted {
    let mut posted = Posted::default();
    for number in first.. {
        posted.sent.insert((poster, number));
        match client.try_post("metrics", body(poster, number)).await {
            Some(answer) if answer.status == 503 => break, // it is stopping
            Some(answer) => {
                accepted(&answer, BODY_EVENTS);
                posted.acknowledged.insert((poster, number));
                done.fetch_add(1, Ordering::Relaxed);
            }
            None => break,
        }
    }
    posted
}

#[tokio::test]
async fn exactly_what_was_acknowledged_survives_an_end_in_a_stream_of_posts() {
    let data = DataDir::new();
    let mut all = Posted::default();
    let mut program = Program::start(&data).await;
    for (acknowledged_min, gracefully) in [(30, false), (300, false), (150, true), (90, false)] {
        let done = Arc::new(AtomicUsize::new(0));
        let first = all.sent.iter().map(|(_, number)| number + 1).max().unwrap_or(0);
        let start = |poster| tokio::spawn(post_until_the_end(program.client().clone(), poster, first, done.clone()));
        let posters: Vec<_> = (0..POSTERS).map(start).collect();
        eventually("bodies are acknowledged", true, || async { done.load(Ordering::Relaxed) >= acknowledged_min })
            .await;
        if gracefully {
            let (status, took) = program.terminate().await;
            assert!(status.success() && took < Duration::from_secs(15), "{status} after {took:?}");
        } else {
            program.kill();
        }
        for poster in posters {
            let posted = poster.await.unwrap();
            all.acknowledged.extend(posted.acknowledged);
            all.sent.extend(posted.sent);
        }
        program = Program::start(&data).await;
        check_posted(program.client(), &all).await;
    }
    let raw = program.client().sql("SELECT count(*) FROM metrics").await;
    let both = json!([[raw[0][0], raw[0][0], raw[0][0]]]);
    let ask = "SELECT toFloat64((SELECT count() FROM metrics)), toFloat64((SELECT sum(count) FROM metrics_1s)),
        toFloat64((SELECT sum(count) FROM metrics_1d))";
    eventually("the same in ClickHouse", both, || program.client().clickhouse(ask)).await;
    check_posted(program.client(), &all).await;
}

/// An acknowledged body is there; one that was on its way is there whole, or not at all; and rollups agree with it.
async fn check_posted(client: &Client, all: &Posted) {
    let mut found = BTreeMap::new();
    let sql = "SELECT CAST(dimensions['poster'] AS BIGINT), value, count(*) FROM metrics GROUP BY 1, 2";
    for row in client.sql(sql).await.as_array().unwrap() {
        let number = |index: usize| row[index].as_f64().unwrap() as usize;
        found.insert((number(0), number(1)), number(2));
    }
    for body in &all.acknowledged {
        assert_eq!(found.get(body), Some(&BODY_EVENTS), "body {body:?} was acknowledged");
    }
    for (body, events) in &found {
        assert!(all.sent.contains(body), "body {body:?} was never sent");
        assert_eq!(*events, BODY_EVENTS, "body {body:?} was not acknowledged, but is there in part");
    }
    let raw = client.sql("SELECT dimensions['poster'], count(*), sum(value) FROM metrics GROUP BY 1 ORDER BY 1").await;
    for rollup in ["metrics_1s", "metrics_1m", "metrics_1h", "metrics_1d"] {
        let sql =
            format!("SELECT dimensions['poster'], sum(\"count\"), sum(\"sum\") FROM {rollup} GROUP BY 1 ORDER BY 1");
        assert_eq!(client.sql(&sql).await, raw, "{rollup} and the raw events");
    }
}

#[tokio::test]
async fn a_clickhouse_that_dies_costs_nothing() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let (client, events) = (program.client(), dataset::events());
    let (before, after) = events.split_at(events.len() / 2);
    dataset::post(client, before).await;
    let first = program.children();
    first.iter().for_each(|id| signal("KILL", *id));
    dataset::post(client, after).await; // acknowledged by the log, whatever ClickHouse does
    eventually("another ClickHouse", true, || async {
        let status = client.get("/api/v1/status").await.expect(200);
        let children = program.children();
        status["clickhouse"]["healthy"] == true && !children.is_empty() && children.iter().all(|id| !first.contains(id))
    })
    .await;
    questions::check_data(client, &events, "with another ClickHouse").await;
    eventually_in_clickhouse(client, &events).await;
    questions::check_data(client, &events, "flushed to another ClickHouse").await;
}

#[tokio::test]
async fn a_second_program_on_the_same_data_is_refused() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let (status, output) = run_to_end(&data, &[]).await;
    assert!(!status.success(), "{output}");
    let says = |text: &str| output.contains(text);
    assert!(says(&data.path().display().to_string()) && says("in use"), "{output}");
    assert!(!says("panicked"), "{output}");
    let client = program.client();
    accepted(&client.post_json("/v1/metrics", &json!({"name": "still", "value": 1})).await, 1);
    assert!(client.is_ready().await, "the first one is not disturbed");
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_loses_nothing() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let events = dataset::events();
    dataset::post(program.client(), &events).await;
    signal("INT", program.id());
    signal("INT", program.id());
    drop(program);
    let program = Program::start(&data).await;
    questions::check_data(program.client(), &events, "after two interrupts").await;
}

#[tokio::test]
async fn streams_are_what_they_were_when_the_program_was_killed() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let definition = |name: &str, kind: &str| json!({"name": name, "time_column": "at", "columns": [{"name": "value", "type": kind}]});
    let post = async |client: &Client, name: &str, value: Value| {
        let event = json!([{"at": 1_714_557_600, "value": value}]);
        accepted(&client.post_json(&format!("/api/v1/streams/{name}/events"), &event).await, 1);
    };
    for name in ["kept", "changed", "gone"] {
        client.post_json("/api/v1/streams", &definition(name, "i64")).await.expect(201);
        post(client, name, json!(1)).await;
    }
    eventually("all three in ClickHouse", json!([[3.0]]), || {
        client.clickhouse("SELECT toFloat64(count()) FROM merge(currentDatabase(), '^(kept|changed|gone)$')")
    })
    .await;
    for name in ["changed", "gone"] {
        assert_eq!(client.request("DELETE", &format!("/api/v1/streams/{name}"), &[], "").await.status, 204);
    }
    client.post_json("/api/v1/streams", &definition("changed", "text")).await.expect(201);
    client.post_json("/api/v1/streams", &definition("new", "bool")).await.expect(201);
    post(client, "changed", json!("two")).await;
    post(client, "kept", json!(2)).await;
    post(client, "new", json!(true)).await;
    program.kill();

    let program = Program::start(&data).await;
    let client = program.client();
    let listed = client.get("/api/v1/streams").await.expect(200);
    let names: BTreeSet<&str> =
        listed["streams"].as_array().unwrap().iter().map(|stream| stream["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["changed", "kept", "metrics", "new", "rejects", "requests"].into());
    let check = async |when: &str| {
        for (name, values) in [("kept", json!([[1.0], [2.0]])), ("changed", json!([["two"]])), ("new", json!([[true]]))]
        {
            assert_eq!(client.sql(&format!("SELECT value FROM {name} ORDER BY value")).await, values, "{when}: {name}");
        }
        assert_eq!(client.post_json("/api/v1/sql", &json!({"sql": "SELECT * FROM gone"})).await.status, 400, "{when}");
    };
    check("after the kill").await;
    post(client, "changed", json!("three")).await;
    let tables =
        "SELECT (SELECT count() FROM kept) = 2 AND (SELECT count() FROM changed) = 2 AND (SELECT count() FROM new) = 1";
    let there = "SELECT count() = 3 FROM system.tables WHERE database = currentDatabase() AND name IN ('kept', 'changed', 'new', 'gone')";
    eventually("the tables in ClickHouse", json!([[1.0]]), || client.clickhouse(there)).await;
    eventually("the events in ClickHouse", json!([[1.0]]), || client.clickhouse(tables)).await;
    assert_eq!(client.sql("SELECT value FROM changed ORDER BY value").await, json!([["three"], ["two"]]));
}
