//! Statements about views, and what is wrong with some.

use streamgauge_schemas::Duration;

use crate::views::{GivenOptions, ViewStatement};

fn parse(sql: &str) -> Result<Option<ViewStatement>, String> {
    ViewStatement::parse(sql, 50).map_err(|error| error.to_string())
}

#[test]
fn statements() {
    let named = |name: &str| name.to_owned();
    let create = |or_replace, if_not_exists, options| ViewStatement::Create {
        name: named("v"),
        or_replace,
        if_not_exists,
        options,
        select: "SELECT count(*) FROM flights".to_owned(),
    };
    let none = GivenOptions::default;
    let all = GivenOptions {
        flush_interval: Some(Duration::from_micros(250_000)),
        idle: Some(Duration::from_secs(5)),
        retention: Some(Duration::from_secs(90 * 86_400)),
        backfill: Some(false),
        memory_bytes_max: Some(1 << 30),
    };
    for (sql, expected) in [
        ("CREATE MATERIALIZED VIEW v AS SELECT count(*) FROM flights", create(false, false, none())),
        ("create or replace materialized view V as select count( * ) from flights;", create(true, false, none())),
        (
            "-- mine\nCREATE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT count(*) FROM flights",
            create(false, true, none()),
        ),
        (
            "CREATE MATERIALIZED VIEW v WITH (flush_interval = '250ms', IDLE = '5s', retention = '90d', backfill = false, \
             memory = '1GiB') AS SELECT count(*) FROM flights",
            create(false, false, all),
        ),
        (
            "CREATE MATERIALIZED VIEW v WITH (memory = 2000000, backfill = 'TRUE') AS SELECT count(*) FROM flights",
            create(false, false, GivenOptions { memory_bytes_max: Some(2_000_000), backfill: Some(true), ..none() }),
        ),
        ("DROP MATERIALIZED VIEW v", ViewStatement::Drop { name: named("v"), if_exists: false }),
        ("drop materialized view if exists \"v\";", ViewStatement::Drop { name: named("v"), if_exists: true }),
        ("SHOW MATERIALIZED VIEWS", ViewStatement::Show),
        ("show create materialized view V", ViewStatement::ShowCreate { name: named("v") }),
        ("DROP MATERIALIZED VIEW public.v", ViewStatement::Drop { name: named("v"), if_exists: false }),
        ("desc Public.V", ViewStatement::Describe { name: named("v") }),
        ("CREATE MATERIALIZED VIEW public.v AS SELECT count(*) FROM flights", create(false, false, none())),
        ("DESCRIBE v", ViewStatement::Describe { name: named("v") }),
        ("EXPLAIN MATERIALIZED VIEW v", ViewStatement::Explain { name: named("v") }),
    ] {
        assert_eq!(parse(sql), Ok(Some(expected)), "{sql}");
    }
}

#[test]
fn others_are_left_to_others() {
    for sql in [
        "SELECT 1",
        "",
        "CREATE VIEW v AS SELECT 1",
        "EXPLAIN SELECT 1",
        "DROP TABLE v",
        "SHOW TABLES",
        "'",
        "DESCRIBE a.b",
        "SET streamgauge.partial = true; SELECT 1",
    ] {
        assert_eq!(parse(sql), Ok(None), "{sql}");
    }
}

#[test]
fn refused() {
    let with = |options: &str| format!("CREATE MATERIALIZED VIEW v WITH ({options}) AS SELECT count(*) FROM flights");
    let cases = [
        (
            with("flush_interval = '50ms'"),
            "option flush_interval = \"50ms\" is not accepted: write a duration such as '5s' or '1h', from 100ms to 1h",
        ),
        (with("flush_interval = '2h'"), "from 100ms to 1h"),
        (with("idle = '8d'"), "option idle = \"8d\""),
        (with("idle = '999ms'"), "from 1s to 1w"),
        (with("retention = '59m'"), "from 1h to 18250d"),
        (with("retention = 'soon'"), "option retention = \"soon\""),
        (with("backfill = 1"), "write true or false"),
        (with("memory = '1MB'"), "KiB, MiB, GiB or TiB"),
        (with("memory = 1000"), "at least 1MiB"),
        (with("pace = 'fast'"), "there are flush_interval, idle, retention, backfill and memory"),
        (with("idle = '5s', idle = '6s'"), "it is there twice"),
        ("CREATE MATERIALIZED VIEW v (a) AS SELECT count(*) FROM flights".into(), "in the SELECT, with AS"),
        ("CREATE OR REPLACE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT 1".into(), "write one of them"),
        ("CREATE MATERIALIZED VIEW a.v AS SELECT 1".into(), "view name \"a.v\" is not usable: a view has a plain name"),
        ("CREATE MATERIALIZED VIEW \"V\" AS SELECT 1".into(), "beginning with a letter"),
        ("CREATE MATERIALIZED VIEW metrics AS SELECT 1".into(), "taken by a built-in table"),
        ("CREATE MATERIALIZED VIEW v_states AS SELECT 1".into(), "taken by a built-in table"),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1; SELECT 2".into(), "there is more"),
        ("CREATE MATERIALIZED VIEW v".into(), "Expected"),
        ("DROP MATERIALIZED VIEW a, b".into(), "expected the name of a view and nothing more, not \"a , b\""),
        ("DROP MATERIALIZED VIEW".into(), "expected the name of a view"),
        ("SHOW MATERIALIZED VIEW v".into(), "SHOW MATERIALIZED VIEWS"),
        ("EXPLAIN MATERIALIZED VIEW v FORMAT json".into(), "nothing more"),
    ];
    for (sql, says) in cases {
        let error = parse(&sql).expect_err(&sql);
        assert!(error.contains(says), "{sql}: {error}");
    }
}

#[test]
fn options_follow_the_bucket_and_each_other() {
    let secs = |secs| Some(Duration::from_secs(secs));
    let given = |flush_interval, idle| GivenOptions { flush_interval, idle, ..GivenOptions::default() };
    for (given, width, expected) in [
        (given(None, None), secs(1), Ok((1, 5))),
        (given(None, None), secs(60), Ok((2, 60))),
        (given(None, None), None, Ok((2, 60))),
        (given(secs(30), None), secs(1), Ok((30, 30))),
        (given(None, secs(1)), secs(3_600), Ok((1, 1))),
        (given(secs(30), secs(10)), secs(60), Err("it must be at least the flush_interval, 30s")),
    ] {
        let found = given.of_bucket(width).map(|options| (options.flush_interval.as_secs(), options.idle.as_secs()));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{given:?} {width:?}"),
            (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{error}"),
            (found, _) => panic!("{given:?} {width:?}: {found:?}"),
        }
    }
}
