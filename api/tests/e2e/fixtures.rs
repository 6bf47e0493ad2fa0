//! Data folders of earlier versions, kept in `tests/fixtures/`: each is opened, answers as it did, and takes more.
//!
//! An archive holds a log with a tail that ClickHouse did not have, since the program was killed; ClickHouse's data; and
//! `answers.json`: what was asked, and answered, when it was made. Archives of released versions are never made anew.
//!
//! `UPDATE_FIXTURES=0.2 cargo test --workspace --test e2e -- fixtures` makes `data-0.2.tar.gz` with the program as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use streamgauge_schemas::time::wall_clock;

use crate::support::client::{JSON, NDJSON, accepted};
use crate::support::program::signal;
use crate::support::{Client, DataDir, Program, difference, eventually};

/// What an archive must answer.
#[derive(Serialize, Deserialize)]
struct Answers {
    /// Microseconds since 1970.
    made_at: i64,
    questions: Vec<Question>,
}

#[derive(Serialize, Deserialize)]
struct Question {
    sql: String,
    /// For how many days the table keeps what arrived; afterwards there is nothing to compare.
    days_kept: i64,
    rows: Value,
}

/// What is asked, and for how long the tables keep the answer. A version asks those that it knows. The metric `later`
/// and the page `/later` are what a test adds.
const QUESTIONS: &[(&str, i64)] = &[
    (
        "SELECT ts, name, value, dimensions['host'], source FROM metrics WHERE name <> 'later' ORDER BY name, ts, value",
        365,
    ),
    (
        r#"SELECT bucket, name, dimensions['host'], "count", "sum", "min", "max" FROM metrics_1s WHERE name <> 'later' ORDER BY 2, 1, 3"#,
        90,
    ),
    (
        r#"SELECT bucket, name, dimensions['host'], "count", "sum", "min", "max" FROM metrics_1m WHERE name <> 'later' ORDER BY 2, 1, 3"#,
        730,
    ),
    (
        r#"SELECT bucket, name, dimensions['host'], "count", "sum", "min", "max" FROM metrics_1h WHERE name <> 'later' ORDER BY 2, 1, 3"#,
        3_650,
    ),
    (
        r#"SELECT bucket, name, dimensions['host'], "count", "sum", "min", "max" FROM metrics_1d WHERE name <> 'later' ORDER BY 2, 1, 3"#,
        7_300,
    ),
    ("SELECT at, page, took, ok, detail FROM visits WHERE page <> '/later' ORDER BY at", 3_650),
    ("SELECT count(*) FROM emptied", 3_650),
    ("SELECT stream, source, position, reason, event FROM rejects ORDER BY 1, 3", 30),
    (r#"SELECT stream, "key", producer, "sequence", accepted, rejected FROM requests ORDER BY 1, 2, 3, 4"#, 30),
];

const DAY_US: i64 = 86_400_000_000;

fn folder() -> PathBuf {
    PathBuf::from("tests/fixtures")
}

#[tokio::test]
async fn data_folders_of_earlier_versions_are_read_and_written_on() {
    if let Ok(version) = std::env::var("UPDATE_FIXTURES") {
        let archive = folder().join(format!("data-{version}.tar.gz"));
        assert!(!archive.exists(), "{} is kept as it is; remove it first if it was never released", archive.display());
        make(&archive).await;
    }
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut archives: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(".tar.gz")).collect();
    archives.sort();
    assert!(!archives.is_empty(), "no archive in {}", folder().display());
    for archive in archives {
        check(&archive).await;
    }
}

async fn check(archive: &Path) {
    let data = DataDir::new();
    tar(&["-xzf", &archive.to_string_lossy(), "-C", &data.path().to_string_lossy()]);
    let answers: Answers = serde_json::from_slice(&fs::read(data.path().join("answers.json")).unwrap()).unwrap();
    let name = archive.file_name().unwrap().to_string_lossy().into_owned();

    let program = Program::start(&data).await;
    compare(program.client(), &answers, &format!("{name}, opened")).await;
    program.kill();
    let program = Program::start(&data).await;
    compare(program.client(), &answers, &format!("{name}, opened again after a kill")).await;

    let client = program.client();
    accepted(&client.post("/api/v1/metrics", JSON, r#"{"name":"later","value":1.5}"#).await, 1);
    let visit = json!([{"at": "2024-05-01T10:00:00Z", "page": "/later", "took": 7}]);
    accepted(&client.post_json("/api/v1/streams/visits/events", &visit).await, 1);
    later_is_there(client).await;
    let (status, _) = program.terminate().await;
    assert!(status.success(), "{name}: {status}");

    let program = Program::start(&data).await;
    later_is_there(program.client()).await;
    compare(program.client(), &answers, &format!("{name}, written on")).await;
    let of_clickhouse =
        "SELECT sum(value), (SELECT sum(took) FROM visits WHERE page = '/later') FROM metrics WHERE name = 'later'";
    assert_eq!(program.client().clickhouse(of_clickhouse).await, json!([[1.5, 7.0]]), "{name}");
}

async fn later_is_there(client: &Client) {
    assert_eq!(client.sql("SELECT sum(value) FROM metrics WHERE name = 'later'").await, json!([[1.5]]));
    assert_eq!(client.sql("SELECT sum(\"sum\") FROM metrics_1d WHERE name = 'later'").await, json!([[1.5]]));
    assert_eq!(client.sql("SELECT sum(took) FROM visits WHERE page = '/later'").await, json!([[7.0]]));
}

/// Compares what has not outlived its retention; a day is left for ClickHouse to remove what has.
async fn compare(client: &Client, answers: &Answers, when: &str) {
    let age_days = (wall_clock().0 - answers.made_at) / DAY_US + 1;
    for question in answers.questions.iter().filter(|question| age_days < question.days_kept) {
        let found = client.sql(&question.sql).await;
        if let Some(difference) = difference(&found, &question.rows) {
            panic!("{when}: {}\n{difference}", question.sql);
        }
    }
}

/// Makes an archive with the program as it is.
async fn make(archive: &Path) {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    make_streams(client).await;
    let mut newest = 0;
    for round in 0..3 {
        newest = newest.max(post(client, round).await);
        // A flush apart, so that rows have several versions and generations, and tables several parts.
        flushed(client, newest).await;
    }
    // ClickHouse stands still, so the rest is in the log alone.
    program.children().into_iter().for_each(|id| signal("STOP", id));
    post(client, 3).await;
    let clickhouse = program.children();
    program.kill();
    clickhouse.into_iter().for_each(|id| signal("KILL", id));
    tokio::time::sleep(Duration::from_millis(200)).await; // its files are let go of

    let copy = DataDir::new();
    let (from, to) = (format!("{}/.", data.path().display()), copy.path().display().to_string());
    assert!(Command::new("cp").args(["-a", &from, &to]).status().unwrap().success());
    let answers = ask(Program::start(&data).await.client()).await;
    fs::write(copy.path().join("answers.json"), serde_json::to_vec_pretty(&answers).unwrap()).unwrap();
    let kept = ["answers.json", "log", "clickhouse/data/metadata", "clickhouse/data/store", "clickhouse/data/data"];
    let kept = kept.into_iter().filter(|name| copy.path().join(name).exists());
    let mut arguments = vec!["-czf", archive.to_str().unwrap(), "--owner=0", "--group=0", "--sort=name", "-C", &to];
    arguments.extend(kept);
    tar(&arguments);
}

async fn ask(client: &Client) -> Answers {
    let mut answers = Answers { made_at: wall_clock().0, questions: Vec::new() };
    for (sql, days_kept) in QUESTIONS {
        let answer = client.post_json("/api/v1/sql", &json!({"sql": sql})).await;
        if answer.status == 400 {
            continue; // this version does not have the table
        }
        let rows = client.sql(sql).await;
        answers.questions.push(Question { sql: (*sql).to_owned(), days_kept: *days_kept, rows });
    }
    let raw = answers.questions[0].rows.as_array().unwrap().len();
    assert_eq!(raw, 4 * 3 * 4, "the log's tail is there too");
    answers
}

async fn make_streams(client: &Client) {
    let column = |name: &str, kind: &str| json!({"name": name, "type": kind});
    let visits = json!({"name": "visits", "time_column": "at", "retention": "3650d", "order_by": ["page", "at"],
        "columns": [column("page", "text"), column("took", "i64"), column("ok", "bool"), column("detail", "json")]});
    let emptied =
        json!({"name": "emptied", "time_column": "at", "retention": "3650d", "columns": [column("value", "f64")]});
    client.post_json("/api/v1/streams", &visits).await.expect(201);
    client.post_json("/api/v1/streams", &emptied).await.expect(201);
    client.post_json("/api/v1/streams/emptied/events", &json!([{"at": 1_714_557_600, "value": 1}])).await.expect(200);
    assert_eq!(client.request("DELETE", "/api/v1/streams/emptied", &[], "").await.status, 204);
    client.post_json("/api/v1/streams", &emptied).await.expect(201);
}

/// Posts what belongs to a round: events of three hosts at four times each, visits, and one that is rejected.
async fn post(client: &Client, round: i64) -> u64 {
    let mut lines = String::new();
    for (index, host) in ["a", "b", "ä→é"].into_iter().enumerate() {
        for at in
            ["1970-01-01T00:00:00Z", "2013-02-03T04:05:06.789012Z", "2024-02-29T23:59:59.5Z", "2026-01-01T00:00:00Z"]
        {
            let value = (round * 3 + index as i64) as f64 * 0.25 - 1.0;
            let event =
                json!({"ts": at, "name": "load", "value": value, "dimensions": {"host": host}, "source": "made"});
            lines += &format!("{event}\n");
        }
    }
    let named = [("content-type", NDJSON), ("idempotency-key", &*format!("round-{round}"))];
    accepted(&client.request("POST", "/api/v1/streams/metrics/events", &named, lines).await, 12);
    client.post("/api/v1/metrics", JSON, r#"[{"name":"wrong","value":"NaN"}]"#).await.expect(200);
    let visits = json!([
        {"at": 1_714_557_600 + round, "page": format!("/{round}"), "took": 9_007_199_254_740_993_i64, "ok": true},
        {"at": 1_714_557_700 + round, "page": "/all", "took": round, "detail": {"round": [round, null]}},
    ]);
    accepted(&client.post_json("/api/v1/streams/visits/events", &visits).await, 2)
}

/// Waits until ClickHouse has everything up to an epoch.
async fn flushed(client: &Client, epoch: u64) {
    eventually("everything in ClickHouse", true, || async {
        let status = client.get("/api/v1/status").await.expect(200);
        status["flush"].as_array().unwrap().iter().all(|item| item["epoch"].as_u64() >= Some(epoch))
    })
    .await;
}

fn tar(arguments: &[&str]) {
    let output = Command::new("tar").args(arguments).output().expect("tar is installed");
    assert!(output.status.success(), "tar {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
