//! Bounds of questions, how one that runs is ended, and questions that would take everything.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::postgres::{ENDLESS, connect, state, with_notes};
use crate::support::client::{Answer, accepted};
use crate::support::{Client, DataDir, Program, eventually};

async fn ask_as(client: &Client, user: &str, sql: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("x-streamgauge-user", user)];
    client.request("POST", "/api/v1/sql", &headers, json!({"sql": sql}).to_string()).await
}

#[track_caller]
fn says(detail: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(detail.contains(part), "{part:?} is not in {detail:?}"));
}

#[tokio::test]
async fn bounds_of_a_question_say_how_they_are_raised() {
    let data = DataDir::new();
    let memory = 32 << 20;
    let program = Program::start_with(
        &data,
        &["--query-rows-max", "1000", "--query-memory-bytes-max", &memory.to_string(), "--query-timeout", "20s"],
    )
    .await;
    let client = program.client();
    let rows = |count: usize| format!("SELECT value FROM generate_series(1, {count}) AS s (value)");
    for (sql, code, parts) in [
        (rows(1_001), "query_rows_exceeded", ["more than 1000 rows", "raise query_rows_max"]),
        (
            format!("SET streamgauge.rows_max = 10; {}", rows(11)),
            "query_rows_exceeded",
            ["more than 10 rows", "streamgauge.rows_max was set"],
        ),
        (
            format!("SET statement_timeout = '200ms'; {ENDLESS}"),
            "query_time_exceeded",
            ["longer than 200ms", "statement_timeout was set"],
        ),
    ] {
        says(&ask_as(client, "a", &sql).await.problem(422, code), &parts);
    }
    let sort = "SELECT max(n) FROM (SELECT value, row_number() OVER (ORDER BY value DESC) AS n FROM generate_series(1, 3000000) AS s (value))";
    for (sql, parts) in [
        (sort.to_owned(), [format!("{} bytes", memory / 4 * 3), "raise user_query_memory_bytes_max".to_owned()]),
        (
            format!("SET streamgauge.memory_bytes_max = 1000000; {sort}"),
            ["1000000 bytes".to_owned(), "streamgauge.memory_bytes_max was set".to_owned()],
        ),
    ] {
        let detail = ask_as(client, "a", &sql).await.problem(429, "query_memory_exceeded");
        says(&detail, &parts.each_ref().map(String::as_str));
    }
    assert_eq!(client.sql(&format!("SET streamgauge.rows_max = 10; {}", rows(10))).await.as_array().unwrap().len(), 10);

    let postgres = connect(&program).await;
    postgres.batch_execute("SET streamgauge.rows_max = 2").await.unwrap();
    let error = postgres.query(&rows(3), &[]).await.unwrap_err();
    let told = error.as_db_error().unwrap();
    assert_eq!((told.code().code(), told.hint()), ("54000", Some("set it higher, or to 0")), "{told:?}");
    postgres.batch_execute("RESET streamgauge.rows_max").await.unwrap();
    assert_eq!(postgres.query(&rows(3), &[]).await.unwrap().len(), 3);
}

#[tokio::test]
async fn one_user_leaves_turns_for_others_and_is_ended_from_outside() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &["--queries-max", "3", "--user-queries-max", "2"]).await;
    let client = program.client();
    let running = |user: &'static str| async move {
        let sql = format!("SELECT count(*) FROM system.queries WHERE user_name = '{user}' AND state = 'running'");
        client.sql(&sql).await
    };
    let greedy: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { ask_as(&client, "greedy", ENDLESS).await })
        })
        .collect();
    eventually("both run", json!([[2.0]]), || running("greedy")).await;
    let detail = ask_as(client, "greedy", "SELECT count(*) FROM metrics").await.problem(429, "queries_busy");
    says(&detail, &["2 questions of user \"greedy\"", "raise user_queries_max"]);
    assert_eq!(ask_as(client, "modest", "SELECT count(*) FROM metrics").await.expect(200)["rows"], json!([[0]]));
    // All turns are taken; whoever looks for what takes them is answered all the same, and can end it.
    let modest = {
        let client = client.clone();
        tokio::spawn(async move { ask_as(&client, "modest", ENDLESS).await })
    };
    eventually("it runs", json!([[1.0]]), || running("modest")).await;
    let detail = ask_as(client, "third", "SELECT count(*) FROM metrics").await.problem(429, "queries_busy");
    says(&detail, &["3 questions run", "raise queries_max"]);
    let postgres = connect(&program).await;
    let ended = postgres
        .query("SELECT pg_cancel_backend(id) FROM system.queries WHERE user_name = 'greedy' AND state = 'running'", &[])
        .await
        .unwrap();
    assert_eq!(ended.iter().map(|row| row.get(0)).collect::<Vec<bool>>(), [true, true]);
    for question in greedy {
        says(&question.await.unwrap().problem(409, "query_cancelled"), &["was cancelled"]);
    }
    let pid = client.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'modest'").await;
    let pid = pid[0][0].as_f64().unwrap();
    // Over HTTP each question has a number of its own, which is no session's.
    let others = "SELECT usename FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
    assert_eq!(client.sql(others).await, json!([["modest"]]));
    let set =
        client.post_json("/api/v1/sql", &json!({"sql": "SELECT set_config('statement_timeout', '5s', false)"})).await;
    says(&set.problem(400, "sql_failed"), &["sets nothing here", "write SET statement_timeout"]);
    assert_eq!(
        client.sql(&format!("SELECT pg_terminate_backend({pid}), pg_cancel_backend(999999)")).await,
        json!([[true, false]])
    );
    modest.await.unwrap().problem(409, "query_cancelled");
    let states =
        "SELECT DISTINCT state FROM system.queries WHERE sql LIKE '%1000000) b WHERE%' AND sql NOT LIKE '%queries%'";
    assert_eq!(client.sql(states).await, json!([["cancelled"]]));
    assert_eq!(ask_as(client, "greedy", "SELECT count(*) FROM metrics").await.expect(200)["rows"], json!([[0]]));
}

#[tokio::test]
async fn what_is_cancelled_or_left_over_http_ends_in_clickhouse_too() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    with_notes(&program).await;
    let client = program.client();
    let reads = || async {
        let sql =
            "SELECT count() FROM system.processes WHERE query LIKE '%note%' AND query NOT LIKE '%system.processes%'";
        client.clickhouse(sql).await
    };
    for way in ["leave", "cancel"] {
        let body = json!({"sql": "SELECT note FROM notes", "format": "ndjson"}).to_string();
        let mut slow = TcpStream::connect(client.address()).await.unwrap();
        let request = format!(
            "POST /api/v1/sql HTTP/1.1\r\nhost: localhost\r\nx-streamgauge-user: {way}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        slow.write_all(request.as_bytes()).await.unwrap();
        let mut some = [0; 1_000];
        slow.read_exact(&mut some).await.unwrap();
        assert!(some.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&some));
        eventually("ClickHouse reads for it", json!([[1.0]]), reads).await;
        if way == "cancel" {
            let cancel =
                "SELECT pg_cancel_backend(id) FROM system.queries WHERE user_name = 'cancel' AND state = 'running'";
            assert_eq!(client.sql(cancel).await, json!([[true]]));
            // The client is told by an answer that does not end as one should.
            let mut rest = Vec::new();
            let _ = slow.read_to_end(&mut rest).await;
            assert!(!rest.ends_with(b"0\r\n\r\n"));
        } else {
            drop(slow);
        }
        eventually("it was ended in ClickHouse", json!([[0.0]]), reads).await;
        let state = format!("SELECT state, clickhouse_bytes > 0 FROM system.queries WHERE user_name = '{way}'");
        let expected = if way == "cancel" { "cancelled" } else { "abandoned" };
        eventually("it is shown so", json!([[expected, true]]), || client.sql(&state)).await;
    }
}

#[tokio::test]
async fn the_program_stays_up_under_bad_questions() {
    let data = DataDir::new();
    let arguments = ["--query-memory-bytes-max", "67108864", "--query-timeout", "5s"];
    let program = Program::start_with(&data, &arguments).await;
    let client = program.client();
    const EVENTS: usize = 20_000;
    let events: Vec<Value> = (0..EVENTS).map(|value| json!({"name": "cpu", "value": value})).collect();
    accepted(&client.post_json("/v1/metrics", &json!(events)).await, EVENTS);
    let nested = |depth: usize| {
        let (open, close) = ("(SELECT * FROM ".repeat(depth), ") AS x".repeat(depth));
        format!("SELECT count(*) FROM {open}metrics{close}")
    };
    let ten_megabytes = |part: &str| part.repeat((10 << 20) / part.len());
    let bad: Vec<(&str, String, &[u16])> = vec![
        (
            "a cross join of two big streams",
            "SELECT count(*) FROM metrics a, metrics b, metrics c WHERE a.value * b.value + c.value = 3".to_owned(),
            &[422, 429],
        ),
        (
            "a cross join that is sorted",
            "SELECT a.value FROM metrics a, metrics b ORDER BY a.value * b.value".to_owned(),
            &[422, 429],
        ),
        (
            "a sort of a billion rows",
            "SELECT value FROM generate_series(1, 1000000000) AS s (value) ORDER BY value % 97, value DESC".to_owned(),
            &[422, 429],
        ),
        (
            "a billion groups",
            "SELECT value, count(*) FROM generate_series(1, 1000000000) AS s (value) GROUP BY value ORDER BY 2"
                .to_owned(),
            &[422, 429],
        ),
        ("a text of a gigabyte", "SELECT length(repeat(repeat('x', 1000000), 1000000))".to_owned(), &[400, 422, 429]),
        ("deep parentheses", format!("SELECT {}1{}", "(".repeat(2_400), ")".repeat(2_400)), &[200, 400]),
        ("deeper ones", format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)), &[400]),
        ("deep questions", nested(200), &[200, 400, 422]),
        ("deeper questions", nested(20_000), &[400]),
        (
            "a recursion without end",
            "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t".to_owned(),
            &[400, 422, 429],
        ),
        ("10 MB of operators", format!("SELECT 1{}", ten_megabytes(" + 1")), &[400, 422]),
        ("10 MB of text", format!("SELECT length('{}')", ten_megabytes("x")), &[200, 422]),
        (
            "10 MB of values",
            format!("SELECT count(*) FROM metrics WHERE value IN (0{})", ten_megabytes(", 17")),
            &[200, 422],
        ),
        ("10 MB of nothing", ten_megabytes("SELECT "), &[400, 422]),
    ];
    for (what, sql, statuses) in bad {
        let began = Instant::now();
        let answer = client.post_json("/api/v1/sql", &json!({"sql": sql})).await;
        let took = began.elapsed();
        assert!(statuses.contains(&answer.status), "{what}: {} {:.500}", answer.status, answer.text());
        // To be read, to get a turn, and to be computed it has five seconds each.
        assert!(took < Duration::from_secs(25), "{what} took {took:?}");
        println!("{what}: {} after {took:?}", answer.status);
        eventually("the program answers others", json!([[EVENTS as f64]]), || async {
            let answer = client.post_json("/api/v1/sql", &json!({"sql": "SELECT count(*) FROM metrics"})).await;
            crate::support::plain(answer.json()["rows"].take())
        })
        .await;
    }
    let postgres = connect(&program).await;
    let error =
        postgres.query("SELECT a.value FROM metrics a, metrics b ORDER BY a.value * b.value", &[]).await.unwrap_err();
    assert!(["53200", "57014"].contains(&state(&error).as_str()), "{error:?}");
    assert_eq!(client.sql("SELECT count(*) FROM metrics").await, json!([[EVENTS as f64]]));
}
