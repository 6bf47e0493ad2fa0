//! Following views: a client that applies a snapshot and its changes always has what a `SELECT` has, at each epoch it is
//! told, whatever is in memory and in ClickHouse; and what ends a follower, or bounds it, is told.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use streamgauge_queries::{
    AskOptions, BackfillProgress, ErrorKind, FollowView, Format, LiveView, QueryError, QueryLimits, RowKey, ViewRow,
};
use streamgauge_schemas::time::wall_clock;
use streamgauge_schemas::{Duration as Span, Epoch, EventTime};
use tokio::sync::Semaphore;

use support::{Event, Weather, World, run};

const COUNTRIES: [&str; 5] = ["de", "fr", "it", "se", "pt"];
const PARTIAL: AskOptions = AskOptions { min_epoch: None, partial: true, unpushed: false };

/// By country and minute; a group has a row while its total is above zero.
const PROFIT: &str = "SELECT dimensions['country'] AS country, date_bin(INTERVAL '1 minute', ts) AS minute, count(*) AS n, \
    sum(value) AS total, max(value) AS most FROM metrics WHERE name = 'order' \
    GROUP BY dimensions['country'], date_bin(INTERVAL '1 minute', ts) HAVING sum(value) > 0";
/// What tells its rows apart is not in the select list.
const TOTALS: &str = "SELECT sum(value) AS total, count(*) AS n FROM metrics GROUP BY dimensions['country'], name";
/// By series, with the names of its columns changed.
const SERIES: &str = "SELECT dimensions AS tags, name AS metric, count(*) AS n, sum(value) AS total, count(DISTINCT value) AS kinds \
    FROM metrics GROUP BY name, dimensions";

fn order(country: &'static str, ts: EventTime, value: f64) -> Event {
    Event { name: "order", dimensions: vec![("country", country)], ts, value }
}

async fn create(world: &World, name: &str, select: &str) {
    let sql = format!("CREATE OR REPLACE MATERIALIZED VIEW {name} WITH (backfill = false) AS {select}");
    world.answer(&sql, Format::Json).await.unwrap();
}

/// What a client shows.
struct Client {
    live: LiveView,
    name: &'static str,
    condition: Option<&'static str>,
    shown: BTreeMap<RowKey, String>,
    epoch: Epoch,
}

impl Client {
    async fn follow(world: &World, name: &'static str, condition: Option<&'static str>) -> Self {
        let bucketed = world.engine.view(name).unwrap().definition.bucket.is_some();
        let range = bucketed.then(|| Span::from_secs(20_000 * 86_400));
        let query = FollowView { view: name.into(), condition: condition.map(str::to_owned), range };
        let (answer, live) = world.queries.follow_view(&query, AskOptions::default()).await.unwrap();
        let mut client = Client { live, name, condition, shown: BTreeMap::new(), epoch: answer.epoch };
        client.put(answer.rows);
        client
    }

    fn put(&mut self, rows: Vec<ViewRow>) {
        for row in rows {
            let json: Value = serde_json::from_str(&row.json).unwrap();
            let before = self.shown.insert(row.key, json.to_string());
            assert_ne!(before, Some(json.to_string()), "only what changed is sent");
        }
    }

    async fn take_change(&mut self) {
        let change = self.live.next_change().await.unwrap();
        assert!(change.epoch >= self.epoch, "{} after {}", change.epoch, self.epoch);
        self.epoch = change.epoch;
        for key in &change.removed {
            assert!(self.shown.remove(key).is_some(), "what is removed was there: {key}");
        }
        self.put(change.rows);
    }

    async fn until(&mut self, epoch: Epoch) {
        while self.epoch < epoch {
            self.take_change().await;
        }
    }

    fn rows(&self) -> Vec<String> {
        let mut rows: Vec<String> = self.shown.values().cloned().collect();
        rows.sort();
        rows
    }

    async fn check(&mut self, world: &World, epoch: Epoch, when: &str) {
        self.until(epoch).await;
        let condition = self.condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
        let expected = select(world, &format!("SELECT * FROM {}{condition}", self.name)).await;
        assert!(!expected.is_empty(), "{} {when}", self.name);
        assert_eq!(self.rows(), expected, "{} where {:?} {when}", self.name, self.condition);
    }
}

async fn select(world: &World, sql: &str) -> Vec<String> {
    let answer: Value = serde_json::from_str(&world.answer(sql, Format::Json).await.unwrap()).unwrap();
    let mut rows: Vec<String> = answer["rows"].as_array().unwrap().iter().map(Value::to_string).collect();
    rows.sort();
    rows
}

#[test]
fn a_client_always_has_what_a_select_has() {
    run(async {
        for workers in [1, 3] {
            let world = World::with(&format!("live_views_{workers}"), QueryLimits::default(), workers).await;
            let views = [("profit", PROFIT), ("totals", TOTALS), ("series", SERIES)];
            for (name, select) in views {
                create(&world, name, select).await;
            }
            let questions: [(&str, Option<&str>); 9] = [
                ("profit", None),
                ("profit", Some("n < 9 OR country = 'mark'")), // rows come and go by results
                ("profit", Some("country IN ('de', 'mark') AND minute > '2024-05-01T12:01:30Z'")), // by names
                ("profit", Some("upper(country) <> 'FR' AND total > 10 AND n + 1 > 1")), // by both
                ("totals", None),
                ("series", None),
                ("series", Some("tags['country'] <> 'se' AND metric = 'order'")),
                ("metrics_1m", None),
                ("metrics_1h", Some("name = 'order' AND dimensions['country'] IN ('it', 'mark') AND \"sum\" > 0")),
            ];
            let mut random = StdRng::seed_from_u64(workers as u64);
            let start = 1_714_564_800_000_000; // 2024-05-01T12:00:00Z
            let mut clients = Vec::new();
            for round in 0..40 {
                let count = random.random_range(1..12);
                let events: Vec<Event> = (0..count)
                    .map(|_| {
                        let country = COUNTRIES[random.random_range(0..COUNTRIES.len())];
                        let ts = EventTime(start + random.random_range(0..300) * 1_000_000);
                        order(country, ts, f64::from(random.random_range(-20..21)))
                    })
                    .collect();
                world.append(&events).await;
                // An event that every client sees.
                let epoch = world.append(&[order("mark", EventTime(start + 240_000_000), 1e6)]).await;
                if round % 8 == 0 {
                    for (name, condition) in questions {
                        clients.push(Client::follow(&world, name, condition).await);
                    }
                }
                for client in &mut clients {
                    client.check(&world, epoch, &format!("with {workers} workers in round {round}")).await;
                }
                match round % 9 {
                    3 => world.flush().await,
                    6 => world.bury().await, // groups that go on are in both from here on
                    _ => {}
                }
            }
        }
    });
}

#[test]
fn a_change_is_exact_as_of_its_epoch_while_events_come() {
    run(async {
        let world = Arc::new(World::with("live_epochs", QueryLimits::default(), 4).await);
        create(
            &world,
            "totals",
            "SELECT dimensions['country'] AS country, sum(value) AS total FROM metrics GROUP BY 1",
        )
        .await;
        const CHANGES: usize = 40;
        let appended: Arc<Mutex<BTreeMap<Epoch, Vec<Event>>>> = Arc::default();
        let turns = Arc::new(Semaphore::new(100)); // so that no queue is filled
        let client = Client::follow(&world, "totals", None).await;
        let producers = (0..4).map(|producer: u64| {
            let (world, appended, turns) = (world.clone(), appended.clone(), turns.clone());
            tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(producer);
                while let Ok(turn) = turns.acquire().await {
                    turn.forget();
                    // Each request moves a sum from one country to the others, so that half of one is found out, and adds to
                    // one more: several that undo each other are a change as well, and the next turns come.
                    let mut events: Vec<Event> =
                        COUNTRIES.iter().map(|country| order(country, EventTime(0), 1.0)).collect();
                    events[random.random_range(0..COUNTRIES.len())].value = -4.0;
                    events.push(order("mark", EventTime(0), 1.0));
                    let epoch = world.append(&events).await;
                    appended.lock().entry(epoch).or_default().extend(events);
                }
            })
        });
        let producers = futures::future::join_all(producers.collect::<Vec<_>>());
        let followed = async {
            let mut client = client;
            let mut seen: Vec<(Epoch, Vec<String>)> = Vec::new();
            let told = tokio::time::timeout(Duration::from_secs(60), async {
                while !client.shown.values().any(|row| row.contains("\"end\"")) {
                    client.take_change().await;
                    seen.push((client.epoch, client.rows()));
                    turns.add_permits(20);
                    if seen.len() == CHANGES {
                        turns.close();
                    }
                }
            });
            told.await.expect("the last event is told");
            seen
        };
        let ended = async {
            producers.await.into_iter().for_each(|done| done.unwrap());
            let epoch = world.append(&[order("end", EventTime(0), 0.0)]).await;
            appended.lock().entry(epoch).or_default().push(order("end", EventTime(0), 0.0));
        };
        let (seen, ()) = futures::join!(followed, ended);
        let appended = appended.lock();
        for (epoch, rows) in seen {
            let mut totals: BTreeMap<&str, f64> = BTreeMap::new();
            for event in appended.range(..=epoch).flat_map(|(_, events)| events) {
                *totals.entry(event.dimensions[0].1).or_default() += event.value;
            }
            let expected: Vec<String> =
                totals.into_iter().map(|(country, total)| json!([country, total]).to_string()).collect();
            let mut expected = expected;
            expected.sort();
            assert_eq!(rows, expected, "as of {epoch}");
        }
    });
}

#[test]
fn buckets_leave_the_window() {
    run(async {
        let world = World::new("live_window").await;
        create(
            &world,
            "seconds",
            "SELECT date_bin(INTERVAL '1 second', ts) AS second, count(*) AS n FROM metrics GROUP BY 1",
        )
        .await;
        create(&world, "months", "SELECT date_trunc('month', ts) AS month, count(*) AS n FROM metrics GROUP BY 1")
            .await;
        let now = wall_clock();
        world.append(&[order("de", EventTime(now.0 - 3_600_000_000), 1.0), order("de", now, 1.0)]).await;
        let query =
            |view: &str, secs| FollowView { view: view.into(), condition: None, range: Some(Span::from_secs(secs)) };
        let options = AskOptions::default();
        let (answer, mut live) = world.queries.follow_view(&query("seconds", 2), options).await.unwrap();
        assert_eq!(answer.rows.len(), 1, "the event of an hour ago is outside: {answer:?}");
        let change = tokio::time::timeout(Duration::from_secs(20), live.next_change()).await.unwrap().unwrap();
        assert_eq!((change.rows.len(), &change.removed[..]), (0, &[answer.rows[0].key][..]), "{change:?}");
        // A late event of a bucket that has left is no change; one within is.
        world.append(&[order("de", now, 1.0)]).await;
        world.append(&[order("de", wall_clock(), 1.0)]).await;
        let change = live.next_change().await.unwrap();
        assert_eq!((change.rows.len(), change.removed.len()), (1, 0), "{change:?}");
        // A bucket without a length: the one that holds the beginning of the window is in it.
        let (answer, _) = world.queries.follow_view(&query("months", 900), options).await.unwrap();
        assert!(!answer.rows.is_empty(), "this month has begun before the window did");
        let all: i64 =
            answer.rows.iter().map(|row| serde_json::from_str::<Value>(&row.json).unwrap()[1].as_i64().unwrap()).sum();
        assert!((3..=4).contains(&all), "{answer:?}");
        let year = query("months", 400 * 86_400);
        world.append(&[order("de", EventTime(now.0 - 60 * 86_400_000_000), 1.0)]).await;
        let (more, _) = world.queries.follow_view(&year, options).await.unwrap();
        assert!(more.rows.len() > answer.rows.len(), "{more:?}");
    });
}

#[test]
fn a_view_that_goes_is_told_apart_from_a_follower_that_lags() {
    run(async {
        let limits = QueryLimits { follow_queue_max: 4, ..QueryLimits::default() };
        let world = World::with("live_gone", limits, 3).await;
        for how in ["DROP MATERIALIZED VIEW totals", "replace"] {
            create(&world, "totals", TOTALS).await;
            let mut client = Client::follow(&world, "totals", None).await;
            match how {
                "replace" => create(&world, "totals", PROFIT).await,
                drop => drop_view(&world, drop).await,
            }
            let error = tokio::time::timeout(Duration::from_secs(20), client.live.next_change()).await.unwrap();
            let error = error.unwrap_err();
            assert!(matches!(&error, QueryError::ViewGone { view } if view == "totals"), "{how}: {error:?}");
            assert_eq!(error.kind(), ErrorKind::Caller { code: "view_dropped" });
        }
        // One group has one owner among the workers; when that one cannot send, it ends the channel of all.
        create(&world, "totals", TOTALS).await;
        let mut client = Client::follow(&world, "totals", None).await;
        for n in 0..100 {
            world.append(&[order("de", EventTime(0), f64::from(n))]).await;
        }
        let mut ended = None;
        for _ in 0..100 {
            let next = tokio::time::timeout(Duration::from_secs(20), client.live.next_change()).await;
            if let Err(error) = next.expect("it lags, and is told") {
                ended = Some(error);
                break;
            }
        }
        assert!(matches!(ended, Some(QueryError::Lagged)), "{ended:?}");
        let epoch = world.append(&[order("mark", EventTime(0), 1.0)]).await;
        Client::follow(&world, "totals", None).await.check(&world, epoch, "followed again").await;
    });
}

async fn drop_view(world: &World, statement: &str) {
    world.answer(statement, Format::Json).await.unwrap();
}

async fn refused(world: &World, view: &str, condition: Option<&str>, range: Option<Span>) -> QueryError {
    let query = FollowView { view: view.into(), condition: condition.map(str::to_owned), range };
    match world.queries.follow_view(&query, AskOptions::default()).await {
        Ok(_) => panic!("{view} where {condition:?} is followed"),
        Err(error) => error,
    }
}

#[test]
fn what_cannot_be_followed_is_told() {
    run(async {
        let world = World::new("live_refused").await;
        create(&world, "profit", PROFIT).await;
        create(&world, "totals", TOTALS).await;
        let error = refused(&world, "profits", None, None).await;
        assert_eq!(
            error.to_string(),
            "there is no view \"profits\"; there are metrics_1s, metrics_1m, metrics_1h, metrics_1d, profit, totals"
        );
        let error = refused(&world, "metrics", None, None).await.to_string();
        assert!(error.contains("\"metrics\" is a stream") && error.contains("CREATE MATERIALIZED VIEW"), "{error}");
        for (condition, part) in [
            ("country = ", "cannot be planned"),
            ("continent = 'europe'", "No field named continent"),
            ("country = 'de'; DROP", "cannot be planned"),
            ("total + 1", "is of type Float64; write a condition"),
            ("random() < 0.5", "cannot have random(): its value is another at another time"),
            ("minute > now()", "cannot have now()"),
            ("sum(total) > 1", "cannot have sum("),
            ("total > (SELECT 1)", "subqueries"),
            ("row_number() OVER () > 1", "windows"),
            ("country = $1", "cannot have $1"),
            ("no_such_function(country)", "no_such_function"),
        ] {
            let error = refused(&world, "profit", Some(condition), None).await;
            assert!(matches!(error, QueryError::Parameter { parameter: "where", .. }), "{condition}: {error:?}");
            assert!(error.to_string().contains(part), "{condition}: {error}");
        }
        let long = format!("country = '{}'", "x".repeat(20_000));
        assert!(refused(&world, "profit", Some(&long), None).await.to_string().contains("make it shorter"));
        let deep = format!("{}n > 0", "n+".repeat(4_000));
        assert!(refused(&world, "profit", Some(&deep), None).await.to_string().contains("is 4002 operators deep"));
        // One as deep as may be is planned, and computed; values in a list do not nest.
        world.append(&[order("de", wall_clock(), 1.0)]).await;
        let list: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
        for deep in [
            format!("{}n > 0", "n+".repeat(498)),
            format!("{}n=1", "n=1 OR ".repeat(249)),
            format!("{}n>0", "n>0 AND ".repeat(249)),
            format!("n IN ({})", list.join(",")),
        ] {
            let query = FollowView { view: "profit".into(), condition: Some(deep), range: None };
            let (answer, _) = world.queries.follow_view(&query, AskOptions::default()).await.unwrap();
            assert_eq!(answer.rows.len(), 1);
        }
        let error = refused(&world, "totals", None, Some(Span::from_secs(60))).await.to_string();
        assert!(error.contains("range is of a time bucket, and the view has none"), "{error}");
        assert!(refused(&world, "profit", None, Some(Span::from_secs(0))).await.to_string().contains("longer"));

        world.answer("CREATE MATERIALIZED VIEW late AS SELECT count(*) AS n FROM metrics", Format::Json).await.unwrap();
        let late = world.engine.view("late").unwrap();
        let progress = BackfillProgress { events_done: 1, events_total: 4, ..BackfillProgress::default() };
        world.queries.backfills().set(late.id, progress);
        let error = refused(&world, "late", None, None).await;
        assert!(error.is_retryable() && error.to_string().contains("25 % of 4 events"), "{error}");

        // An expression that fails on a row is told as a question would be.
        create(&world, "shares", "SELECT 10 / count(value) FILTER (WHERE value > 0) AS share FROM metrics").await;
        world.append(&[order("de", EventTime(0), 1.0)]).await;
        let mut client = Client::follow(&world, "shares", None).await;
        world.append(&[order("de", EventTime(0), 1.0)]).await;
        client.take_change().await;
        let error = refused(&world, "shares", Some("1 / (share - 5) > 0"), None).await;
        assert!(
            matches!(error, QueryError::Evaluation { .. }) && error.to_string().contains("ivide by zero"),
            "{error}"
        );
    });
}

#[test]
fn what_is_held_is_bounded() {
    run(async {
        let bounded = [
            ("groups", QueryLimits { follow_groups_max: 3, ..QueryLimits::default() }),
            ("text", QueryLimits { json_bytes_max: 20, ..QueryLimits::default() }),
            ("memory", QueryLimits { memory_bytes_max: 700, ..QueryLimits::default() }),
        ];
        for (what, limits) in bounded {
            let world = World::with(&format!("live_bounded_{what}"), limits, 1).await;
            create(&world, "totals", TOTALS).await;
            world.append(&[order("de", EventTime(0), 1.0)]).await;
            let mut client = Client::follow(&world, "totals", None).await;
            let many: Vec<Event> = COUNTRIES.iter().map(|country| order(country, EventTime(0), 1.0)).collect();
            let is_expected = |error: &QueryError| match what {
                "groups" => matches!(error, QueryError::Groups { max: 3 }),
                "text" => matches!(error, QueryError::FollowedBytes { max: 20 }),
                _ => matches!(error, QueryError::Memory { bytes_max: 700, .. }),
            };
            world.append(&many).await;
            let error = client.live.next_change().await.expect_err(what);
            assert!(is_expected(&error), "{what}: {error:?}");
            drop(client);
            let error = refused(&world, "totals", None, None).await;
            assert!(is_expected(&error), "{what}: {error:?}");
            // What the condition leaves out is not held, and what was held is given back.
            create(&world, "named", "SELECT dimensions['country'] AS country, count(*) AS n FROM metrics GROUP BY 1")
                .await;
            world.append(&many).await;
            let client = Client::follow(&world, "named", Some("country = 'de'")).await;
            assert_eq!(client.rows(), [json!(["de", 1]).to_string()], "{what}");
        }
    });
}

#[test]
fn without_history_a_snapshot_says_so() {
    run(async {
        let world = World::new("live_partial").await;
        create(&world, "totals", TOTALS).await;
        world.append(&[order("de", EventTime(0), 1.0)]).await;
        world.bury().await;
        world.append(&[order("de", EventTime(0), 2.0), order("fr", EventTime(0), 4.0)]).await;
        let query = FollowView { view: "totals".into(), ..FollowView::default() };
        let values = |rows: &[ViewRow]| {
            let mut values: Vec<String> = rows.iter().map(|row| row.json.to_string()).collect();
            values.sort();
            values
        };
        for weather in [Weather::Away, Weather::Overloaded, Weather::Cramped] {
            *world.weather.lock() = weather;
            let error = world.queries.follow_view(&query, AskOptions::default()).await.map(drop).unwrap_err();
            assert!(matches!(error, QueryError::History(_)), "{weather:?}: {error:?}");
            let (answer, _) = world.queries.follow_view(&query, PARTIAL).await.unwrap();
            assert!(answer.partial.is_some(), "{weather:?}");
            assert_eq!(values(&answer.rows), ["[2.0,1]", "[4.0,1]"], "{weather:?}");
        }
        *world.weather.lock() = Weather::Fine;
        let (answer, _) = world.queries.follow_view(&query, PARTIAL).await.unwrap();
        assert!(answer.partial.is_none());
        assert_eq!(values(&answer.rows), ["[3.0,2]", "[4.0,1]"]);
    });
}
