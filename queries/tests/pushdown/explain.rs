//! `EXPLAIN` says what ClickHouse computes or reads, in its SQL, and what is read from memory.

use streamgauge_queries::Format;
use streamgauge_schemas::EventTime;

use crate::support::{Event, World, run};
use crate::{T0, hits, world};

#[test]
fn explain_shows_what_is_asked() {
    run(async {
        let world = world("pushed_explain", 10, 10).await;
        let plan = async |sql: &str| world.answer(&format!("EXPLAIN {sql}"), Format::Csv).await.unwrap();
        let whole =
            plan("SELECT country, count(*) AS c FROM hits WHERE n > 3 GROUP BY country ORDER BY c DESC LIMIT 2").await;
        for part in [
            "ClickHouseExec",
            "GROUP BY _t0.`country`",
            "LIMIT 2",
            "_t0.`n` > toInt64(3)",
            "UNION ALL",
            "memory=[_memory_0: hits where hits.n > Int64(3)]",
        ] {
            assert!(whole.contains(part), "{part} in {whole}");
        }
        // Time buckets, whatever their width is written as; and distinct values in one grouping.
        for (sql, parts) in [
            (
                "SELECT date_bin('1 hour', at), count(*) FROM hits GROUP BY 1 ORDER BY 1",
                ["ClickHouseExec", "GROUP BY intDiv("],
            ),
            (
                "SELECT date_bin(interval '1 hour', at) AS h, avg(ms) FROM hits GROUP BY h",
                ["ClickHouseExec", "GROUP BY intDiv("],
            ),
            (
                // As Grafana asks for a time series.
                "SELECT floor(extract(epoch FROM at)/300)*300 AS time, avg(ms) FROM hits GROUP BY 1 ORDER BY 1",
                ["ClickHouseExec", "GROUP BY (floor("],
            ),
            (
                "SELECT country, count(DISTINCT visitor), sum(n) FROM hits GROUP BY country",
                ["uniqExact(", "GROUP BY _t0.`country`"],
            ),
        ] {
            let plan = plan(sql).await;
            assert!(parts.iter().all(|part| plan.contains(part)), "{sql}: {plan}");
            assert!(!plan.contains("AggregateExec"), "{sql}: {plan}");
        }
        // What ClickHouse would do otherwise stays here, and the part below it is asked all the same.
        let partly = plan("SELECT upper(page), c FROM (SELECT page, count(*) AS c FROM hits GROUP BY page)").await;
        assert!(partly.contains("upper(") && partly.contains("ClickHouseExec"), "{partly}");
        for here in [
            "SELECT upper(page), count(*) FROM hits GROUP BY 1",
            "SELECT * FROM hits WHERE n = 1",
            "SELECT ms, count(*) FROM hits GROUP BY ms",
        ] {
            let plan = plan(here).await;
            assert!(!plan.contains("ClickHouseExec"), "{plan}");
        }
        let off =
            world.answer("SET streamgauge.pushdown = false; EXPLAIN SELECT count(*) FROM hits", Format::Csv).await;
        assert!(!off.unwrap().contains("ClickHouseExec"));
    });
}

/// The reads of a plan: what ClickHouse is asked, and what of memory is read.
fn reads(plan: &str) -> Vec<(String, String)> {
    let read = |rest: &str| {
        let (sql, rest) = rest.split_once(", memory=[").unwrap_or_else(|| panic!("no memory in {rest}"));
        (sql.to_owned(), rest.split_once("]\n").map_or(rest, |(memory, _)| memory).to_owned())
    };
    plan.split("ReadExec: sql=").skip(1).map(read).collect()
}

/// Whether ClickHouse was asked `shown`, with an epoch where it has `upto`; a kept plan may have its conditions in another order.
fn is_asked(world: &World, shown: &str, upto: &str) -> bool {
    world.asked.lock().iter().any(|asked| {
        let mut words: Vec<&str> = asked.split(" SETTINGS ").next().unwrap().split(' ').collect();
        for word in shown.split(' ').filter(|word| *word != upto) {
            let Some(place) = words.iter().position(|other| *other == word) else { return false };
            words.remove(place);
        }
        matches!(words[..], [epoch] if epoch.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[test]
fn explain_shows_what_is_only_read() {
    run(async {
        let world = world("pushed_explain_reads", 10, 10).await;
        let pages = "CREATE MATERIALIZED VIEW pages WITH (backfill = false) AS SELECT page, country, date_bin(interval '1 hour', at) AS hour, count(*) AS c FROM hits \
                     GROUP BY page, country, hour";
        let totals = "CREATE MATERIALIZED VIEW totals WITH (backfill = false) AS SELECT country, count(*) AS c FROM hits GROUP BY country";
        for statement in [pages, totals] {
            world.answer(statement, Format::Csv).await.unwrap();
        }
        let host = |host| Event { name: "cpu", dimensions: vec![("host", host)], ts: EventTime(T0), value: 1.0 };
        world.append(&[host("a"), host("b")]).await;
        world.engine.append(hits(&world.engine.stream("hits").unwrap(), 20..40)).await.unwrap();
        world.bury().await;
        world.append(&[host("a")]).await;
        let plan = async |sql: &str| world.answer(&format!("EXPLAIN {sql}"), Format::Csv).await.unwrap();
        for (sql, upto, asks, memory) in [
            (
                "SELECT n, page FROM hits WHERE n > 3 AND upper(page) <> 'X'",
                "flushed",
                &["SELECT _t.`n`, _t.`page` FROM `pushed_explain_reads`.`hits` AS _t", "(_t.`n` > "][..],
                "hits",
            ),
            ("SELECT value FROM metrics LIMIT 3", "flushed", &["`metrics` AS _t", " LIMIT 3"], "metrics"),
            (
                "SELECT bucket, count FROM metrics_1m WHERE name = 'cpu' AND dimensions['host'] = 'a' AND bucket >= '2024-05-01T00:00:00Z' \
                 AND bucket < '2024-05-02T00:00:00Z' ORDER BY bucket",
                "horizon",
                &["`metrics_1m_states` AS s FINAL", "(s.`name` = 'cpu')", "s.`dimensions`['host']"],
                "metrics_1m where name = 'cpu' AND dimensions['host'] = 'a' AND bucket >= '2024-05-01T00:00:00Z' AND bucket < \
                 '2024-05-02T00:00:00Z'",
            ),
            ("SELECT max(avg) FROM metrics_1h", "horizon", &["`metrics_1h_states` AS s FINAL"], "metrics_1h"),
            (
                "SELECT c FROM pages WHERE page = '/p/1' AND country IN ('it', 'de') AND hour > '2020-01-01T00:30:00Z'",
                "horizon",
                &["`pages_states` AS s FINAL", "(s.`page` = '/p/1')"],
                "pages where page = '/p/1' AND (country = 'it' OR country = 'de') AND hour >= '2020-01-01T00:00:00.000001Z'",
            ),
            // Half of a key is no group: all are read.
            (
                "SELECT c FROM pages WHERE country = 'it'",
                "horizon",
                &["`pages_states` AS s FINAL", "(s.`country` = 'it')"],
                "pages",
            ),
            (
                "SELECT c FROM totals WHERE country = 'it' AND c > 1",
                "horizon",
                &["`totals_states`"],
                "totals where country = 'it'",
            ),
        ] {
            let plan = plan(sql).await;
            let [(shown, of_memory)] = &reads(&plan)[..] else { panic!("not one read: {plan}") };
            assert!(asks.iter().all(|part| shown.contains(part)), "{asks:?} in {shown}");
            assert_eq!(of_memory.split("], fetch=").next().unwrap(), memory, "{sql}");
            assert_eq!(plan.contains("], fetch=3"), sql.contains("LIMIT 3"), "{plan}");
            world.asked.lock().clear();
            // Asked by a plan that was kept, too.
            for _ in 0..2 {
                world.rows(sql).await.unwrap();
            }
            assert!(is_asked(&world, shown, upto), "{shown}: {:#?}", world.asked.lock());
        }
        let both = plan("SELECT a.n, b.c FROM hits AS a JOIN pages AS b ON a.page = b.page AND a.at > b.hour").await;
        let mut names: Vec<String> = reads(&both).into_iter().map(|(_, memory)| memory).collect();
        names.sort();
        assert_eq!(names, ["hits", "pages"], "{both}");
        let analyzed = plan("ANALYZE SELECT count(*) FROM pages").await;
        assert!(analyzed.contains("ReadExec: sql=SELECT"), "{analyzed}");
        let off = "SET streamgauge.pushdown = false; EXPLAIN SELECT count(*) FROM hits";
        let off = world.answer(off, Format::Csv).await.unwrap();
        assert!(off.contains("ReadExec: sql=SELECT count() FROM"), "{off}");
        let long = plan(&format!("SELECT n FROM hits WHERE page <> '{}'", "long ".repeat(20_000))).await;
        let [(shown, _)] = &reads(&long)[..] else { panic!("not one read") };
        assert!(shown.ends_with(" …") && shown.len() < 20_000, "{} bytes are shown", shown.len());
    });
}

#[test]
fn explain_shows_what_is_added_up_of_a_view() {
    run(async {
        let world = world("pushed_explain_views", 10, 10).await;
        let view = "CREATE MATERIALIZED VIEW pages WITH (backfill = false) AS SELECT page, country, date_bin(interval '1 hour', at) AS hour, count(*) AS c, \
                    avg(ms) AS mean FROM hits GROUP BY page, country, hour";
        world.answer(view, Format::Csv).await.unwrap();
        world.engine.append(hits(&world.engine.stream("hits").unwrap(), 20..40)).await.unwrap();
        world.bury().await;
        for (sql, parts, memory) in [
            (
                "SELECT country, sum(c) FROM pages WHERE hour >= '2024-05-01T00:30:00Z' GROUP BY country",
                &["AS _1 FROM `pushed_explain_views`.`pages_states` AS s FINAL", "GROUP BY s.`country`"][..],
                "pages where hour >= '2024-05-01T00:00:00.000001Z'",
            ),
            ("SELECT combine(mean) FROM pages", &["HAVING count() > 0"], "pages"),
            (
                "SELECT bucket, sum(count) FROM metrics_1m WHERE name = 'cpu' GROUP BY bucket",
                &["(s.`name` = 'cpu')", "GROUP BY s.`bucket`"],
                "metrics_1m where name = 'cpu'",
            ),
        ] {
            let plan = world.answer(&format!("EXPLAIN {sql}"), Format::Csv).await.unwrap();
            assert!(plan.contains("ClickHouseSumsExec: sql=SELECT "), "{plan}");
            assert!(parts.iter().all(|part| plan.contains(part)), "{parts:?} in {plan}");
            assert!(plan.contains(&format!("memory=[{memory}]")), "{memory} in {plan}");
        }
        // The last hours of one series are few rows.
        let hot = "EXPLAIN SELECT date_trunc('hour', bucket) AS h, sum(count) FROM metrics_1m WHERE name = 'cpu' AND dimensions['host'] = 'a' AND bucket >= \
                   now() - interval '24 hours' GROUP BY h";
        let plan = world.answer(hot, Format::Csv).await.unwrap();
        assert!(plan.contains("ReadExec: sql=SELECT") && !plan.contains("ClickHouseSumsExec"), "{plan}");
    });
}
