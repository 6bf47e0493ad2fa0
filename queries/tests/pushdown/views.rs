//! Aggregates over views: what ClickHouse adds up and what memory has are together what DataFusion says of whole groups.

use std::ops::Range;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use streamgauge_queries::{AskOptions, Format, QueryLimits};

use crate::support::{Weather, World, run};
use crate::{Fuzz, HERE, definition, hits, rows};

/// What both views keep of a group.
const KEPT: &str = "count(*) AS c, count(visitor) AS cv, sum(n) AS sn, sum(visitor) AS sv, sum(ms) AS sm, min(visitor) AS lo, max(visitor) AS hi, \
                    min(ms) AS least, max(ms) AS most, min(page) AS first_page, max(country) AS last_country, min(seen) AS oldest, max(seen) AS newest, \
                    min(secure) AS unsafe, avg(ms) AS mean, avg(n) AS middle, count(DISTINCT visitor) AS visitors, stddev(n) AS spread, \
                    count(*) FILTER (WHERE secure) AS cs, sum(n) * 2 AS twice, max(sqrt(ms)) AS root FROM hits";

/// A world with a fine view, a coarse one and one without a bucket, whose groups have pieces in ClickHouse, in memory, and in both.
async fn world(name: &str) -> World {
    let limits = QueryLimits { cache_bytes_max: 8 << 20, ..QueryLimits::default() };
    let world = World::with(name, limits, 2).await;
    let (stream, _) = world.engine.create_stream(definition()).await.unwrap();
    for view in [
        format!("fine AS SELECT page, country, secure, date_bin('20 seconds', at) AS t, {KEPT} GROUP BY 1, 2, 3, 4"),
        format!("coarse AS SELECT country, visitor % 3 AS third, date_trunc('hour', at) AS t, {KEPT} GROUP BY 1, 2, 3"),
        format!("timeless AS SELECT page, country, {KEPT} GROUP BY 1, 2"),
        format!(
            "many AS SELECT page, country, date_bin('20 seconds', at) AS t, {KEPT} GROUP BY 1, 2, 3 HAVING count(*) > 1"
        ),
    ] {
        world
            .rows(&format!("CREATE MATERIALIZED VIEW {}", view.replacen(" AS", " WITH (backfill = false) AS", 1)))
            .await
            .unwrap();
    }
    let append = async |range: Range<i64>| world.engine.append(hits(&stream, range)).await.unwrap();
    append(0..900).await;
    world.bury().await;
    // Late ones begin other pieces of the same groups.
    append(300..700).await;
    append(900..1_400).await;
    world.bury().await;
    append(1_300..1_500).await;
    world.flush().await;
    append(100..200).await;
    append(1_450..1_600).await;
    world
}

/// Random questions over these views.
struct Questions(StdRng);

impl Questions {
    fn one(&mut self, of: &[&str]) -> String {
        (*of.choose(&mut self.0).unwrap()).to_owned()
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.0.random_range(0..one_in) == 0
    }

    /// A condition on what names a group.
    fn condition(&mut self, view: &str) -> String {
        let compare = self.one(&["=", "<>", "<", ">="]);
        let own = match view {
            "fine" | "many" => self.one(&[
                "page LIKE '/p/%'",
                "page IN ('/p/1', '', 'é')",
                "t >= '2024-05-01T00:10:00Z'",
                "t < '2024-05-01T00:20:05Z'",
                "date_trunc('minute', t) > '2024-05-01T00:07:00Z'",
                "date_part('minute', t) < 20",
                "coalesce(page, '') || 'x' <> 'x'",
            ]),
            "coarse" => self.one(&["third = 1", "third IS NULL", "t > '2024-05-01T00:00:00Z'", "third + 1 < 3"]),
            _ => self.one(&["page IS NOT NULL", "nullif(page, '') = '/p/2'"]),
        };
        match self.0.random_range(0..6) {
            0 => format!("country {compare} 'fr'"),
            1 => format!("(country IS NULL OR {own})"),
            2 => format!("NOT ({own})"),
            3 => format!("(country = 'it' AND {own})"),
            4 => self.one(&["country = 'it'", "upper(country) = 'IT'", "c > 1", "country = 'nowhere'"]),
            _ => own,
        }
    }

    fn key(&mut self, view: &str) -> String {
        match view {
            "fine" => self.one(&[
                "page",
                "secure",
                "country",
                "date_bin('1 minute', t)",
                "date_trunc('hour', t)",
                "coalesce(country, 'none') || '!'",
                "floor(extract(epoch FROM t) / 300) * 300",
                "date_part('minute', t)",
                "CASE WHEN secure THEN page ELSE country END",
                "t",
            ]),
            "coarse" => self.one(&["country", "third", "t", "date_bin(interval '1 day', t)", "third % 2"]),
            "many" => self.one(&["page", "country"]),
            _ => self.one(&["page", "country", "upper(country)"]),
        }
    }

    fn call(&mut self, view: &str) -> String {
        let call = match self.0.random_range(0..14) {
            0..=3 => format!("sum({})", self.one(&["c", "cv", "sn", "sv", "sm", "cs"])),
            4 | 5 => format!("min({})", self.one(&["lo", "least", "first_page", "oldest", "unsafe", "country"])),
            6 | 7 => format!("max({})", self.one(&["hi", "most", "last_country", "newest", "country"])),
            8 | 9 => format!(
                "combine({})",
                self.one(&["c", "cv", "sn", "sv", "mean", "lo", "hi", "least", "most", "oldest", "newest"])
            ),
            10 => format!("combine({})", self.one(&["unsafe", "middle", "twice", "visitors", "spread", "first_page"])),
            11 => format!("sum(CASE WHEN {} THEN {} ELSE 0 END)", self.condition(view), self.one(&["c", "sn"])),
            12 => self.one(&[
                "count(*)",
                "max(c)",
                "avg(mean)",
                "count(DISTINCT country)",
                "min(hi)",
                "sum(visitors)",
                "sum(c + 1)",
            ]),
            _ => match view {
                "timeless" => "max(page)".to_owned(),
                "many" => "sum(c)".to_owned(),
                _ => self.one(&["min(t)", "max(t)", "max(date_trunc('hour', t))"]),
            },
        };
        match self.chance(3) {
            true => format!("{call} FILTER (WHERE {})", self.condition(view)),
            false => call,
        }
    }

    fn question(&mut self) -> String {
        let view = self.one(&["fine", "fine", "fine", "coarse", "coarse", "timeless", "many"]);
        let keys: Vec<String> = (0..self.0.random_range(0..3)).map(|_| self.key(&view)).collect();
        let least = usize::from(keys.is_empty());
        let calls: Vec<String> = (0..self.0.random_range(least..4)).map(|_| self.call(&view)).collect();
        let list = keys.iter().chain(&calls).cloned().collect::<Vec<_>>().join(", ");
        let filter = if self.chance(2) { format!(" WHERE {}", self.condition(&view)) } else { String::new() };
        let groups = (1..=keys.len()).map(|at| at.to_string()).collect::<Vec<_>>().join(", ");
        let groups = if keys.is_empty() { String::new() } else { format!(" GROUP BY {groups}") };
        let having = if self.chance(5) { " HAVING sum(c) > 20" } else { "" };
        let from = match self.chance(4) {
            true => format!("(SELECT * FROM {view}{filter}) AS v"),
            false => format!("{view}{filter}"),
        };
        format!("SELECT {list} FROM {from}{groups}{having}")
    }
}

/// Whether a text asks ClickHouse to add up.
fn adds_up(asked: &str) -> bool {
    asked.contains(" AS _0") && asked.contains(" FINAL ")
}

/// Whether ClickHouse was asked to.
fn is_added_up(world: &World) -> bool {
    world.asked.lock().iter().any(|asked| adds_up(asked))
}

#[test]
fn views_pushed_are_as_unpushed() {
    run(async {
        let world = world("pushed_views").await;
        let mut fuzz = Fuzz::new();
        for question in 0..fuzz.questions {
            let sql = Questions(StdRng::seed_from_u64(fuzz.seed_of(question))).question();
            fuzz.ask(&world, &sql, false, adds_up).await;
        }
        fuzz.end(3);
    });
}

/// Which questions are added up, and which are read.
#[test]
fn what_of_views_is_added_up() {
    run(async {
        let world = world("pushed_views_which").await;
        for (sql, is_pushed) in [
            ("SELECT country, sum(c), sum(sm), min(least), max(most) FROM fine GROUP BY country", true),
            ("SELECT sum(c) FROM fine", true),
            ("SELECT DISTINCT page FROM fine", true),
            ("SELECT min(t), max(t), max(page) FROM fine WHERE country = 'it'", true),
            ("SELECT date_bin('1 minute', t) AS m, sum(c) FROM fine GROUP BY m ORDER BY m", true),
            ("SELECT date_bin(interval '1 minute', t) AS m, combine(mean) FROM fine GROUP BY m ORDER BY m", true),
            ("SELECT country, count(DISTINCT page), sum(c) FROM fine GROUP BY country", true),
            ("SELECT sum(c) FILTER (WHERE secure), combine(lo) FILTER (WHERE page = '') FROM fine", true),
            ("SELECT sum(CASE WHEN secure THEN c ELSE 0 END) FROM fine", true),
            ("SELECT country, sum(c) AS total FROM fine GROUP BY country ORDER BY total DESC LIMIT 2", true),
            ("SELECT max(total) FROM (SELECT country, sum(c) AS total FROM fine GROUP BY country)", true),
            (
                "SELECT a.country, a.total FROM (SELECT country, sum(c) AS total FROM fine GROUP BY 1) a JOIN hits b ON a.country = b.page",
                true,
            ),
            // Of whole groups.
            ("SELECT count(*) FROM fine", false),
            ("SELECT max(c) FROM fine", false),
            ("SELECT avg(c), sum(c) FROM fine", false),
            ("SELECT sum(c) FROM fine WHERE c > 1", false),
            ("SELECT sum(c) FILTER (WHERE c > 1) FROM fine", false),
            ("SELECT sum(c) FROM (SELECT * FROM fine LIMIT 5)", false),
            ("SELECT sum(twice) FROM fine", false),
            ("SELECT sum(c) FROM many", false),
            // ClickHouse does not know it.
            ("SELECT upper(country), sum(c) FROM fine GROUP BY 1", false),
            ("SELECT combine(visitors) FROM fine", false),
            // The groups of the view, or few of them.
            ("SELECT page, country, sum(c) FROM timeless GROUP BY page, country", false),
            ("SELECT sum(c) FROM timeless WHERE page = '/p/1' AND country = 'it'", false),
            (
                "SELECT sum(c) FROM coarse WHERE country IN ('it', 'de') AND third = 1 AND t >= '2024-05-01T00:00:00Z' AND t < '2024-05-20T00:00:00Z'",
                false,
            ),
            (
                "SELECT sum(c) FROM coarse WHERE country IN ('it', 'de') AND third = 1 AND t >= '2024-05-01T00:00:00Z' AND t < '2024-08-20T00:00:00Z'",
                true,
            ),
        ] {
            let here = rows(&world, sql, HERE).await.unwrap();
            assert_eq!(rows(&world, sql, AskOptions::default()).await.unwrap(), here, "{sql}");
            let plan = world.answer(&format!("EXPLAIN {sql}"), Format::Csv).await.unwrap();
            assert_eq!(plan.contains("ClickHouseSumsExec"), is_pushed, "{sql}: {plan}");
        }
    });
}

#[test]
fn views_whose_sums_clickhouse_refuses_are_read() {
    run(async {
        let world = world("pushed_views_refused").await;
        for sql in ["SELECT country, sum(c), max(hi) FROM coarse GROUP BY country", "SELECT sum(sn), min(t) FROM fine"]
        {
            *world.weather.lock() = Weather::Simple;
            world.asked.lock().clear();
            let here = rows(&world, sql, AskOptions::default()).await.unwrap();
            let asked = world.asked.lock().clone();
            assert!(is_added_up(&world) && asked.iter().any(|sql| sql.contains(" ORDER BY ")), "{asked:#?}");
            *world.weather.lock() = Weather::Fine;
            assert_eq!(rows(&world, sql, HERE).await.unwrap(), here, "{sql}");
            // What history adds up to is asked once for as long as the horizon stands still.
            for times in [1, 0] {
                world.asked.lock().clear();
                assert_eq!(rows(&world, sql, AskOptions::default()).await.unwrap(), here, "{sql}");
                assert_eq!(world.asked.lock().len(), times, "{sql}");
            }
        }
    });
}

#[test]
fn views_without_clickhouse_are_read_from_memory_or_say_so() {
    run(async {
        let world = world("pushed_views_away").await;
        let sql = "SELECT sum(c), min(lo), combine(mean) FROM coarse WHERE third = 2";
        *world.weather.lock() = Weather::Away;
        assert!(rows(&world, sql, AskOptions::default()).await.is_err());
        let partial = AskOptions { partial: true, ..AskOptions::default() };
        let part = rows(&world, sql, partial).await.unwrap();
        *world.weather.lock() = Weather::Fine;
        let whole = rows(&world, sql, AskOptions::default()).await.unwrap();
        assert_ne!(part, whole);
        assert_eq!(whole, rows(&world, sql, HERE).await.unwrap());
    });
}

/// Of no rows and of no events, on either side.
#[test]
fn views_of_nothing_add_up_to_nothing() {
    run(async {
        let world = world("pushed_views_nothing").await;
        let limits = QueryLimits::default();
        let empty = World::with("pushed_views_empty", limits, 1).await;
        let (stream, _) = empty.engine.create_stream(definition()).await.unwrap();
        let view = format!(
            "CREATE MATERIALIZED VIEW fine WITH (backfill = false) AS SELECT page, country, date_bin('20 seconds', at) AS t, {KEPT} GROUP BY 1, 2, 3"
        );
        empty.rows(&view).await.unwrap();
        for calls in [
            "sum(c), sum(sm), min(lo), max(newest), min(t)",
            "combine(c), combine(sn), combine(mean), combine(least), combine(most)",
        ] {
            for (world, condition) in
                [(&world, "country = 'nowhere'"), (&world, "t < '2001-01-01'"), (&empty, "country = 'it'")]
            {
                let sql = format!("SELECT {calls} FROM fine WHERE {condition}");
                let here = rows(world, &sql, HERE).await.unwrap();
                assert_eq!(rows(world, &sql, AskOptions::default()).await.unwrap(), here, "{sql}");
                let grouped = format!("SELECT country, {calls} FROM fine WHERE {condition} GROUP BY country");
                assert_eq!(rows(world, &grouped, AskOptions::default()).await.unwrap().len(), 0, "{grouped}");
            }
        }
        // Of all of history, nothing in memory; and then the other way round.
        empty.engine.append(hits(&stream, 0..200)).await.unwrap();
        empty.bury().await;
        let sql = "SELECT country, sum(c), sum(cv), sum(sm), min(least), combine(mean), max(newest) FROM fine GROUP BY country";
        let here = rows(&empty, sql, HERE).await.unwrap();
        assert_eq!(rows(&empty, sql, AskOptions::default()).await.unwrap(), here);
        assert!(is_added_up(&empty));
        let plan = empty.answer(&format!("EXPLAIN {sql}"), Format::Csv).await.unwrap();
        assert!(plan.contains("ClickHouseSumsExec") && plan.contains("<= horizon"), "{plan}");
    });
}

#[test]
fn floats_that_may_be_no_numbers_are_not_compared_in_clickhouse() {
    run(async {
        let world = world("no_numbers").await;
        for (sql, is_pushed) in [
            ("SELECT max(most), min(least) FROM fine", true),
            ("SELECT max(root) FROM fine", false),
            ("SELECT combine(root) FROM fine", true), // by the order of bits
        ] {
            let plan = world.rows(&format!("EXPLAIN {sql}")).await.unwrap().join("\n");
            assert_eq!(plan.contains("ClickHouseSumsExec"), is_pushed, "{sql}: {plan}");
            let [pushed, here] = [AskOptions::default(), HERE].map(async |options| rows(&world, sql, options).await);
            assert_eq!(pushed.await, here.await, "{sql}");
        }
    });
}
