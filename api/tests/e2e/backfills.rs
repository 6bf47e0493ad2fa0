//! Back-fills that are cut off, wait, or stand beside each other: nothing is missing, nothing is there twice, and what is
//! finished stays readable.

use serde_json::{Value, json};

use crate::support::client::{JSON, accepted};
use crate::support::{Client, DataDir, Program, eventually};

const EVENTS: usize = 2_000;
/// Small steps, so that there is a time between two of them.
const STEPS: [&str; 2] = ["--backfill-step-events", "25"];
const SELECT: &str = "SELECT page, date_trunc('hour', at) AS hour, count(*) AS visits, sum(took) AS total, max(took) AS most \
                      FROM visits GROUP BY page, date_trunc('hour', at)";

async fn make_stream(client: &Client, name: &str) {
    let columns = json!([{"name": "page", "type": "text"}, {"name": "took", "type": "i64"}]);
    let definition = json!({"name": name, "time_column": "at", "columns": columns});
    client.post_json("/api/v1/streams", &definition).await.expect(201);
}

async fn post(client: &Client, stream: &str, from: usize, to: usize) {
    let visit =
        |i: usize| json!({"at": 1_714_557_600 + (i * 7_919) % 90_000, "page": format!("/{}", i % 7), "took": i});
    let visits: Vec<Value> = (from..to).map(visit).collect();
    accepted(&client.post_json(&format!("/api/v1/streams/{stream}/events"), &json!(visits)).await, to - from);
}

async fn assert_equal(client: &Client, view: &str, select: &str) {
    let found = client.sql(&format!("SELECT * FROM {view} ORDER BY page, hour")).await;
    let expected = client.sql(&format!("SELECT * FROM ({select}) ORDER BY page, hour")).await;
    assert!(!expected.as_array().unwrap().is_empty());
    assert_eq!(found, expected);
}

/// The state of a view's back-fill, how many events it has counted, of how many, and why it waits.
async fn backfill(client: &Client, view: &str) -> (String, u64, u64, Value) {
    let sql =
        "SELECT backfill, backfill_events_done, backfill_events_total, backfill_error FROM system.views WHERE view = ";
    let row = client.sql(&format!("{sql}'{view}'")).await[0].clone();
    let number = |value: &Value| value.as_f64().unwrap_or(0.0) as u64;
    (row[0].as_str().unwrap().to_owned(), number(&row[1]), number(&row[2]), row[3].clone())
}

async fn until_done(client: &Client, view: &str) {
    eventually("it is back-filled", "done".to_owned(), || async { backfill(client, view).await.0 }).await;
}

#[tokio::test]
async fn a_back_fill_goes_on_where_it_was_killed_and_others_are_not_in_its_way() {
    let data = DataDir::new();
    let mut program = Program::start_with(&data, &STEPS).await;
    let client = program.client();
    make_stream(client, "visits").await;
    make_stream(client, "few").await;
    for from in (0..EVENTS).step_by(20) {
        post(client, "visits", from, from + 20).await; // many epochs, since a step ends with one
    }
    post(client, "few", 0, 30).await;
    let create = async |client: &Client, view: &str, select: &str| {
        client.sql(&format!("CREATE MATERIALIZED VIEW {view} WITH (idle = '1s') AS {select}")).await;
    };
    create(client, "by_page", SELECT).await;
    // A small one that is made later is done earlier.
    let of_few = SELECT.replace("visits GROUP", "few GROUP");
    create(client, "of_few", &of_few).await;
    until_done(client, "of_few").await;
    let mut before = 0;
    for _ in 0..3 {
        let progress = || async {
            let (state, done, total, _) = backfill(program.client(), "by_page").await;
            assert_ne!(state, "done", "it was done before it could be killed: more events are needed");
            done > before && (total == EVENTS as u64)
        };
        eventually("it goes on", true, progress).await;
        before = backfill(program.client(), "by_page").await.1;
        post(program.client(), "visits", 0, 10).await; // which is not its to count
        program.kill();
        program = Program::start_with(&data, &STEPS).await;
        // What was finished is readable at once, though the older view is not.
        assert_equal(program.client(), "of_few", &of_few).await;
        let question = json!({"sql": "SELECT * FROM by_page"});
        program.client().post_json("/api/v1/sql", &question).await.problem(503, "view_backfilling");
    }
    until_done(program.client(), "by_page").await;
    assert_equal(program.client(), "by_page", SELECT).await;
    post(program.client(), "visits", 0, 100).await;
    assert_equal(program.client(), "by_page", SELECT).await;
    let visits = program.client().sql("SELECT sum(visits) FROM by_page").await;
    assert_eq!(visits, json!([[(EVENTS + 130) as f64]]));
}

#[tokio::test]
async fn a_back_fill_waits_for_events_that_are_set_aside() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    make_stream(client, "visits").await;
    post(client, "visits", 0, 3).await;
    let table =
        || async { client.ask_clickhouse("EXISTS TABLE visits FORMAT TSV").await.unwrap().text().trim() == "1" };
    eventually("its table", true, table).await;
    client.change_clickhouse("ALTER TABLE visits ADD CONSTRAINT c CHECK took != 666").await;
    for from in [665, 666, 667] {
        post(client, "visits", from, from + 1).await;
    }
    let aside = || async { client.get("/api/v1/status").await.expect(200)["aside"].as_array().map_or(0, Vec::len) };
    eventually("it is set aside", 1, aside).await;
    client.sql(&format!("CREATE MATERIALIZED VIEW by_page AS {SELECT}")).await;
    post(client, "visits", 700, 703).await;
    let reason = |error: &Value| error.as_str().is_some_and(|error| error.contains("events before it are set aside"));
    let waits = || async {
        let (state, .., error) = backfill(client, "by_page").await;
        (state, reason(&error))
    };
    eventually("it waits", ("waiting".to_owned(), true), waits).await;
    let question = json!({"sql": "SELECT * FROM by_page"});
    let told = client.post_json("/api/v1/sql", &question).await.problem(503, "view_backfilling");
    assert!(told.contains("1 events before it are set aside"), "{told}");
    client.change_clickhouse("ALTER TABLE visits DROP CONSTRAINT c").await;
    let restored = || async { client.post("/api/v1/aside/restore", JSON, "").await.expect(200)["restored"].clone() };
    eventually("it is restored", json!(1), restored).await;
    until_done(client, "by_page").await;
    assert_equal(client, "by_page", SELECT).await;
    assert_eq!(client.sql("SELECT sum(visits), max(most) FROM by_page").await, json!([[9.0, 702.0]]));
}
