//! Views of the user's own: made while events come, back-filled, read like tables, through restarts, changes and deletion.
//!
//! A view is right when it equals its own `SELECT` over the stream.

use serde_json::{Value, json};

use crate::support::client::accepted;
use crate::support::{Client, DataDir, Program, eventually};

/// Views with their `SELECT`, and the columns to order by.
const VIEWS: [(&str, &str, &str); 5] = [
    (
        "by_page",
        "SELECT page, date_bin(INTERVAL '1 minute', at) AS minute, count(*) AS visits, sum(took) AS total, \
         avg(took) AS mean, min(took) AS least, max(took) AS most, count(*) FILTER (WHERE took > 50) AS slow, \
         stddev(took) AS spread, first_value(took ORDER BY at) AS first, max(upper(page)) AS top \
         FROM visits WHERE took IS NULL OR took <> 13 GROUP BY page, date_bin(INTERVAL '1 minute', at)",
        "page, minute",
    ),
    (
        "by_page_hourly",
        "SELECT page, date_trunc('hour', at) AS hour, count(*) AS visits, max(took) AS most \
         FROM visits WHERE took IS NULL OR took <> 13 GROUP BY page, date_trunc('hour', at)",
        "page, hour",
    ),
    ("overall", "SELECT count(*) AS visits, sum(took) AS total, max(at) AS latest FROM visits", "visits"),
    (
        "busy",
        "SELECT coalesce(page, 'none') AS page, sum(took) / count(took) AS share FROM visits \
         GROUP BY coalesce(page, 'none') HAVING count(took) > 2",
        "page",
    ),
    (
        "hosts",
        "SELECT dimensions['host'] AS host, date_bin(INTERVAL '5 minutes', ts) AS since, count(*) AS n, \
         sum(value * 2) AS doubled FROM metrics WHERE name = 'load' GROUP BY 1, 2",
        "host, since",
    ),
];

async fn make_stream(client: &Client) {
    let columns = json!([{"name": "page", "type": "text"}, {"name": "took", "type": "i64"}]);
    let definition = json!({"name": "visits", "time_column": "at", "columns": columns});
    client.post_json("/api/v1/streams", &definition).await.expect(201);
}

/// Posts visits `from..to`, out of order and with nulls, and as many metrics.
async fn post(client: &Client, from: usize, to: usize) -> u64 {
    let page = |i: usize| if i.is_multiple_of(11) { Value::Null } else { json!(format!("/{}", i % 7)) };
    let took = |i: usize| if i.is_multiple_of(5) { Value::Null } else { json!(i % 97) };
    let at = |i: usize| 1_714_557_600 + (i * 7_919) % 9_000;
    let visits: Vec<Value> = (from..to).map(|i| json!({"at": at(i), "page": page(i), "took": took(i)})).collect();
    accepted(&client.post_json("/api/v1/streams/visits/events", &json!(visits)).await, to - from);
    let load = |i: usize| {
        json!({"ts": at(i), "name": if i.is_multiple_of(3) { "load" } else { "other" }, "value": (i % 17) as f64 / 4.0,
            "dimensions": {"host": format!("h{}", i % 4), "zone": "z"}})
    };
    let metrics: Vec<Value> = (from..to).map(load).collect();
    accepted(&client.post_json("/api/v1/streams/metrics/events", &json!(metrics)).await, to - from)
}

async fn create(client: &Client, (name, select, _): (&str, &str, &str)) -> Value {
    client
        .sql(&format!("CREATE MATERIALIZED VIEW {name} WITH (idle = '1s', flush_interval = '200ms') AS {select}"))
        .await
}

/// Compares each view with its `SELECT` over the stream.
async fn check(client: &Client, when: &str) {
    for (name, select, order) in VIEWS {
        let found = client.sql(&format!("SELECT * FROM {name} ORDER BY {order}")).await;
        let expected = client.sql(&format!("SELECT * FROM ({select}) ORDER BY {order}")).await;
        assert!(!expected.as_array().unwrap().is_empty(), "{name} {when}");
        assert!(is_close(&found, &expected), "{name} {when}\n{found}\n{expected}");
    }
    let combined = "SELECT date_trunc('hour', minute) AS hour, combine(visits), combine(total), combine(mean), combine(slow), \
                    combine(spread), combine(top) FROM by_page GROUP BY 1 ORDER BY 1";
    let plain = "SELECT date_trunc('hour', at) AS hour, count(*), sum(took), avg(took), count(*) FILTER (WHERE took > 50), \
                 stddev(took), max(upper(page)) FROM visits WHERE took IS NULL OR took <> 13 GROUP BY 1 ORDER BY 1";
    let (found, expected) = (client.sql(combined).await, client.sql(plain).await);
    assert!(is_close(&found, &expected), "combined, {when}\n{found}\n{expected}");
    let summed = "SELECT date_trunc('hour', minute) AS hour, sum(visits), sum(total), min(least), max(most), max(top), combine(mean), \
                  coalesce(sum(slow) FILTER (WHERE page = '/1'), 0) FROM by_page GROUP BY 1 ORDER BY 1";
    let plain = "SELECT date_trunc('hour', at) AS hour, count(*), sum(took), min(took), max(took), max(upper(page)), avg(took), \
                 count(*) FILTER (WHERE took > 50 AND page = '/1') FROM visits WHERE took IS NULL OR took <> 13 GROUP BY 1 ORDER BY 1";
    let (found, expected) = (client.sql(summed).await, client.sql(plain).await);
    assert!(is_close(&found, &expected), "summed, {when}\n{found}\n{expected}");
    let plan = client.sql(&format!("EXPLAIN {summed}")).await.to_string();
    assert!(plan.contains("ClickHouseSumsExec"), "{plan}");
}

/// Whether two answers are the same, floats to within 1e-9 of each other.
fn is_close(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_close(a, b)),
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-9 * b.abs().max(1.0)
        }
        _ => found == expected,
    }
}

async fn until_backfilled(client: &Client) {
    let unfinished = "SHOW MATERIALIZED VIEWS";
    let count = || async {
        let views = client.sql(unfinished).await;
        let rows = views.as_array().unwrap();
        json!(rows.iter().filter(|row| row[3] != "done" && row[3] != "none").count())
    };
    eventually("all views back-filled", json!(0), count).await;
}

#[tokio::test]
async fn a_view_equals_its_select_from_before_its_creation_on() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    make_stream(client).await;
    post(client, 0, 300).await;
    for view in VIEWS {
        create(client, view).await;
        post(client, 300, 320).await; // the same events again are other events
    }
    until_backfilled(client).await;
    check(client, "after the back-fill").await;
    post(client, 100, 700).await; // late, early and new
    check(client, "live").await;

    // Killed and started again, at once and after a while.
    program.kill();
    let program = Program::start(&data).await;
    until_backfilled(program.client()).await;
    check(program.client(), "after SIGKILL").await;
    post(program.client(), 700, 900).await;
    check(program.client(), "live after SIGKILL").await;
    let flushed = "SELECT count() FROM by_page_states FINAL";
    let in_clickhouse =
        || async { json!(program.client().clickhouse(flushed).await[0][0].as_f64().unwrap_or(0.0) > 50.0) };
    eventually("states in ClickHouse", json!(true), in_clickhouse).await;
    check(program.client(), "when rows have left memory").await;
    // A direct reader of ClickHouse finds the results by the names of the select list.
    let finished = "SELECT sum(visits), sum(total) IS NULL, max(most), uniqExact(minute) > 1 FROM by_page";
    let told = program.client().sql("SELECT sum(visits), false, max(most), true FROM by_page").await;
    let told = json!([[told[0][0], 0.0, told[0][2], 1.0]]);
    eventually("the finished view", told, || program.client().clickhouse(finished)).await;
    program.kill();
    let program = Program::start_with(&data, &["--workers", "2"]).await;
    until_backfilled(program.client()).await;
    check(program.client(), "on two workers").await;
    post(program.client(), 40, 90).await;
    check(program.client(), "live on two workers").await;
    let (status, _) = program.terminate().await;
    assert!(status.success(), "{status}");
    let program = Program::start(&data).await;
    until_backfilled(program.client()).await;
    check(program.client(), "after SIGTERM").await;
}

#[tokio::test]
async fn views_are_shown_replaced_and_dropped() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    make_stream(client).await;
    post(client, 0, 50).await;
    create(client, VIEWS[0]).await;
    create(client, VIEWS[1]).await;
    until_backfilled(client).await;
    let shown = client.sql("SHOW MATERIALIZED VIEWS").await;
    let fed: Vec<(&str, &str)> =
        (shown.as_array().unwrap().iter()).map(|row| (row[0].as_str().unwrap(), row[2].as_str().unwrap())).collect();
    let expected = [
        ("metrics_1s", "metrics"),
        ("metrics_1m", "metrics_1s"),
        ("metrics_1h", "metrics_1m"),
        ("metrics_1d", "metrics_1h"),
        ("by_page", "visits"),
        ("by_page_hourly", "by_page"),
    ];
    assert_eq!(fed, expected);
    let explained = client.sql("EXPLAIN MATERIALIZED VIEW by_page_hourly").await;
    assert_eq!(explained[0], json!(["coarsen", "merges the groups of by_page"]));
    let operators: Vec<&str> = explained.as_array().unwrap().iter().map(|row| row[0].as_str().unwrap()).collect();
    assert_eq!(operators[..5], ["coarsen", "feed", "bucket", "folds", "accumulate"], "it is sent nothing");
    let text = client.sql("SHOW CREATE MATERIALIZED VIEW by_page_hourly").await[0][1].as_str().unwrap().to_owned();
    assert!(
        text.starts_with("CREATE MATERIALIZED VIEW by_page_hourly WITH (flush_interval = '200ms', idle = '1s'"),
        "{text}"
    );
    let columns = client.sql("DESCRIBE by_page_hourly").await;
    assert_eq!(columns[2][0], "visits");

    let ask = async |sql: &str| client.post_json("/api/v1/sql", &json!({"sql": sql})).await;
    ask(&text).await.problem(409, "name_taken");
    let again = text.replace("CREATE MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW IF NOT EXISTS");
    assert!(client.sql(&again).await[0][1].as_str().unwrap().contains("left as it is"));
    client.get("/api/v1/streams/visits").await.expect(200);
    let in_use = client.request("DELETE", "/api/v1/streams/visits", &[], "").await;
    assert!(in_use.problem(409, "stream_in_use").contains("by_page_hourly"));

    // The finer one goes: the coarser reads events from now on, and has lost nothing.
    client.sql("DROP MATERIALIZED VIEW by_page").await;
    ask("SELECT * FROM by_page").await.problem(400, "table_unknown");
    post(client, 0, 50).await;
    let (name, select, order) = VIEWS[1];
    let found = client.sql(&format!("SELECT * FROM {name} ORDER BY {order}")).await;
    assert_eq!(found, client.sql(&format!("SELECT * FROM ({select}) ORDER BY {order}")).await);

    let other = "CREATE OR REPLACE MATERIALIZED VIEW by_page_hourly AS SELECT count(*) AS n FROM visits";
    client.sql(other).await;
    until_backfilled(client).await;
    assert_eq!(client.sql("SELECT n FROM by_page_hourly").await, json!([[100.0]]));
    let live_only = "CREATE MATERIALIZED VIEW live WITH (backfill = false) AS SELECT count(*) AS n FROM visits";
    client.sql(live_only).await;
    assert_eq!(client.sql("SELECT n FROM live").await, json!([]));
    post(client, 0, 3).await;
    assert_eq!(client.sql("SELECT n FROM live").await, json!([[3.0]]));
    client.sql("DROP MATERIALIZED VIEW IF EXISTS nothing").await;
    ask("DROP MATERIALIZED VIEW nothing").await.problem(404, "unknown_view");
    ask("DROP MATERIALIZED VIEW metrics_1s").await.problem(409, "built_in");

    for (sql, says) in [
        ("CREATE MATERIALIZED VIEW v AS SELECT now(), count(*) FROM visits GROUP BY 1", "now()"),
        ("CREATE MATERIALIZED VIEW v AS SELECT page FROM visits", "cannot be maintained"),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT a.page, count(*) FROM visits a JOIN visits b ON a.page = b.page GROUP BY 1",
            "cannot be maintained",
        ),
        ("CREATE MATERIALIZED VIEW v AS SELECT count(*) FROM metrics_1s", "a view is over one stream"),
        ("CREATE MATERIALIZED VIEW v WITH (idle = '1 year') AS SELECT count(*) FROM visits", "option idle"),
        ("CREATE MATERIALIZED VIEW v_states AS SELECT count(*) FROM visits", "taken by a built-in table"),
    ] {
        let text = ask(sql).await;
        assert_eq!(text.status, 400, "{sql}: {}", text.text());
        assert!(text.text().contains(says), "{sql}: {}", text.text());
    }
}

/// How many events a view says that it could not be computed of, and that it says why.
async fn failed(client: &Client, view: &str) -> f64 {
    let status = client.sql("SHOW MATERIALIZED VIEWS").await;
    let row = status.as_array().unwrap().iter().find(|row| row[0] == view).unwrap().clone();
    assert!(row[8].as_str().is_some_and(|why| why.to_lowercase().contains("zero")), "{row}");
    let explained = client.sql(&format!("EXPLAIN MATERIALIZED VIEW {view}")).await;
    let told = explained.as_array().unwrap().iter().find(|row| row[0] == "failed events").unwrap()[1].clone();
    assert_eq!(told, json!(row[7].to_string().trim_end_matches(".0")), "{row}");
    row[7].as_f64().unwrap()
}

#[tokio::test]
async fn events_that_a_view_could_not_be_computed_of_are_counted_exactly_through_kills() {
    let data = DataDir::new();
    let mut program = Program::start(&data).await;
    make_stream(program.client()).await;
    post(program.client(), 0, 50).await; // one of 50 took 21
    let options = "WITH (idle = '1s', flush_interval = '200ms')";
    for (name, page) in [("failing", "page"), ("failing_fed", "1")] {
        let select =
            format!("SELECT {page} AS page, sum(100 / (took - 21)) AS s, count(*) AS n FROM visits GROUP BY 1");
        program.client().sql(&format!("CREATE MATERIALIZED VIEW {name} {options} AS {select}")).await;
    }
    // Of no event is anything counted: its rows never change, and what failed does.
    let never = "CREATE MATERIALIZED VIEW never AS SELECT sum(1 / (took - took)) AS s FROM visits WHERE took = 21";
    program.client().sql(&never.replace(" AS SELECT", &format!(" {options} AS SELECT"))).await;
    until_backfilled(program.client()).await;
    for round in 1..8 {
        post(program.client(), 0, 50).await;
        let counted = f64::from(round) + 1.0;
        for view in ["failing", "failing_fed", "never"] {
            assert_eq!(failed(program.client(), view).await, counted, "{view}, round {round}");
        }
        if round % 2 == 0 {
            // Flushed and confirmed, so that the log no longer has them.
            let epoch =
                accepted(&program.client().post_json("/v1/metrics", &json!({"name": "x", "value": 1})).await, 1);
            eventually("flushed", true, || async {
                let status = program.client().get("/api/v1/status").await.expect(200);
                let mut flushes = status["flush"].as_array().unwrap().iter();
                flushes.all(|flush| flush["epoch"].as_u64().unwrap() > epoch)
            })
            .await;
        }
        program.kill();
        program = Program::start_with(&data, &["--workers", if round % 3 == 0 { "2" } else { "1" }]).await;
        for view in ["failing", "failing_fed", "never"] {
            assert_eq!(failed(program.client(), view).await, counted, "{view}, after the kill of round {round}");
        }
    }
    until_backfilled(program.client()).await;
    assert_eq!(program.client().sql("SELECT sum(n) FROM failing").await, json!([[8.0 * 49.0]]));
    assert_eq!(program.client().sql("SELECT * FROM never").await, json!([]));
}

/// What a view has in memory alone, asked for by key: `EXPLAIN ANALYZE` says how many rows came to the filter.
#[tokio::test]
async fn a_question_for_one_group_reads_that_group() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    make_stream(client).await;
    let options = "WITH (backfill = false, flush_interval = '1m')";
    for (view, groups) in [("by_both", "page, took"), ("by_hour", "page, date_bin(INTERVAL '1 hour', at)")] {
        client.sql(&format!("CREATE MATERIALIZED VIEW {view} {options} AS SELECT {groups} AS part, count(*) AS n FROM visits GROUP BY {groups}")).await;
    }
    post(client, 0, 700).await;
    let read = async |sql: &str| {
        let plan = client.sql(&format!("EXPLAIN ANALYZE {sql}")).await;
        let plan = plan.to_string();
        let counts = plan.split("selectivity=").nth(1).and_then(|rest| rest.split(['(', ')']).nth(1));
        let counts = counts.unwrap_or_else(|| panic!("{sql} has no filter: {plan}"));
        let (passed, read) = counts.split_once('/').unwrap();
        (passed.to_owned(), read.to_owned())
    };
    let is = |passed: &str, read: &str| (passed.to_owned(), read.to_owned());
    assert_eq!(read("SELECT n FROM by_both WHERE page = '/3' AND part = 17").await, is("1", "1"));
    assert_eq!(read("SELECT n FROM by_both WHERE page IN ('/3', '/4') AND part = 17").await, is("2", "2"));
    let (passed, all) = read("SELECT n FROM by_both WHERE page = '/3'").await;
    assert!(
        passed.parse::<u32>().unwrap() < 100 && all.parse::<u32>().unwrap() > 400,
        "{passed} of {all}: half of a key is none"
    );
    // Of the hours of one page, all or those of a range.
    let (passed, all) = read("SELECT n FROM by_hour WHERE page = '/3'").await;
    assert_eq!((passed.as_str(), all.as_str()), ("3", "3"));
}

#[tokio::test]
async fn a_hundred_views_on_one_stream_and_ten_dimensions_in_one_view() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    make_stream(client).await;
    post(client, 0, 200).await;
    // Of ten kinds, so that many are fed from others and some are not.
    let select = |n: usize| {
        let (minutes, condition) = (1 + n / 10, ["took > 3", "page IS NOT NULL", "true"][n % 3]);
        let dimension = ["page", "took % 5", "upper(page)", "coalesce(page, 'none')", "took > 50"][n % 5];
        format!(
            "SELECT {dimension} AS d, date_bin(INTERVAL '{minutes} minutes', at) AS since, count(*) AS n, sum(took) AS s \
             FROM visits WHERE {condition} GROUP BY 1, 2"
        )
    };
    for n in 0..99 {
        client.sql(&format!("CREATE MATERIALIZED VIEW v{n} AS {}", select(n))).await;
    }
    let bits: Vec<String> = (0..10).map(|bit| format!("took / {} % 2 AS b{bit}", 1 << bit)).collect();
    let places: Vec<String> = (1..=10).map(|place| place.to_string()).collect();
    let ten = format!("SELECT {}, count(*) AS n FROM visits GROUP BY {}", bits.join(", "), places.join(", "));
    client.sql(&format!("CREATE MATERIALIZED VIEW ten AS {ten}")).await;
    post(client, 100, 400).await;
    until_backfilled(client).await;
    for n in 0..99 {
        let found = client.sql(&format!("SELECT count(*), sum(n), sum(s) FROM v{n}")).await;
        let expected = client.sql(&format!("SELECT count(*), sum(n), sum(s) FROM ({})", select(n))).await;
        assert_eq!(found, expected, "{}", select(n));
    }
    let found = client.sql(&format!("SELECT * FROM ten ORDER BY {}", places.join(", "))).await;
    let expected = client.sql(&format!("SELECT * FROM ({ten}) ORDER BY {}", places.join(", "))).await;
    assert!(expected.as_array().unwrap().len() > 60);
    assert_eq!(found, expected);
}
