//! The series of a metric, against a plain recomputation, and following them while events come.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use streamgauge_queries::{
    Aggregation, AskOptions, DimensionFilter, FollowQuery, QueryError, QueryLimits, SeriesAnswer, SeriesPoints,
    SeriesQuery,
};
use streamgauge_schemas::time::wall_clock;
use streamgauge_schemas::{self as schemas, EventTime, Summary};
use support::{Event, Weather, World, run};

const SECOND: i64 = 1_000_000;
const HOSTS: [&[(&str, &str)]; 5] = [
    &[("host", "a"), ("zone", "1")],
    &[("host", "b"), ("zone", "1")],
    &[("host", "a"), ("zone", "2")],
    &[("zone", "2")],
    &[("host", "")],
];

/// Events of two metrics around `around`, in no order.
fn events(around: EventTime, len: i64) -> Vec<Event> {
    let event = |n: i64| Event {
        name: if n % 4 == 0 { "mem" } else { "cpu" },
        dimensions: HOSTS[(n * 7 % 5) as usize].to_vec(),
        ts: EventTime(around.0 + (n * 7_919 % 20_000 - 10_000) * SECOND / 4),
        value: ((n * 31) % 64 - 16) as f64 / 4.0,
    };
    (0..len).map(event).collect()
}

/// The answer, recomputed from the events.
fn recompute(query: &SeriesQuery, step: schemas::Duration, events: &[Event]) -> Vec<SeriesPoints> {
    let mut series: BTreeMap<BTreeMap<String, String>, BTreeMap<EventTime, Summary>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.name == query.metric) {
        let of = |key: &str| event.dimensions.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned());
        let passes = query.filter.0.iter().all(|(key, values)| values.contains(&of(key).unwrap_or_default()));
        let bucket = event.ts.floor(step);
        if passes && bucket >= query.start.floor(step) && bucket < query.end {
            let group = query.group_by.iter().filter_map(|key| Some((key.clone(), of(key)?))).collect();
            series.entry(group).or_default().entry(bucket).or_default().add(event.value);
        }
    }
    let points = |points: BTreeMap<EventTime, Summary>| points.into_iter().collect();
    series.into_iter().map(|(dimensions, found)| SeriesPoints { dimensions, points: points(found) }).collect()
}

fn query(start: i64, end: i64, granularity: &str, filter: &str, group_by: &[&str]) -> SeriesQuery {
    SeriesQuery {
        metric: "cpu".into(),
        start: EventTime(start),
        end: EventTime(end),
        granularity: (!granularity.is_empty()).then(|| granularity.parse().unwrap()),
        aggregations: vec![Aggregation::Avg],
        filter: DimensionFilter::parse([filter]).unwrap(),
        group_by: group_by.iter().map(|key| (*key).to_owned()).collect(),
    }
}

#[test]
fn the_answer_is_that_of_a_recomputation() {
    run(async {
        // Around 1970, so that times below zero are met.
        let events = events(EventTime(0), 3_000);
        let memory = World::with("series_memory", QueryLimits::default(), 2).await;
        memory.append(&events).await;
        let history = World::new("series_history").await;
        history.append(&events).await;
        history.bury().await;
        let seam = World::with("series_seam", QueryLimits::default(), 2).await;
        seam.append(&events[..1_000]).await;
        seam.bury().await;
        seam.append(&events[1_000..2_000]).await;
        seam.flush().await;
        seam.append(&events[2_000..]).await;
        let (far, near) = (3_000 * SECOND, 1_000 * SECOND);
        for (query, step) in [
            (query(-far, far, "1s", "", &[]), "1s"),
            (query(-far, far, "", "", &[]), "10s"),
            (query(-near, near, "", "", &["host"]), "5s"),
            (query(-far, far, "7s", "", &["host", "zone"]), "7s"),
            (query(-far, far, "1m", "host:a", &["zone"]), "1m"),
            (query(-far + 1, near - 1, "1m", "host:a,host:b", &["host"]), "1m"),
            (query(-far, far, "5m", "host:a,zone:2", &[]), "5m"),
            (query(-far, far, "1h", "zone:1", &["nothing"]), "1h"),
            (query(-far, far, "1d", "host:", &["host"]), "1d"),
            (query(-far, far, "1w", "host:nobody", &[]), "1w"),
            (query(-near - 1, -near, "1s", "", &[]), "1s"),
        ] {
            let expected = recompute(&query, step.parse().unwrap(), &events);
            for (name, world) in [("memory", &memory), ("history", &history), ("seam", &seam)] {
                let answer = world.queries.series(&query, AskOptions::default()).await.unwrap();
                assert_eq!(answer.granularity.to_string(), step, "{query:?}");
                assert_eq!(answer.series, expected, "{query:?} over {name}");
            }
        }
        let unknown = SeriesQuery { metric: "nothing".into(), ..query(-far, far, "1s", "", &[]) };
        assert!(seam.queries.series(&unknown, AskOptions::default()).await.unwrap().series.is_empty());
    });
}

#[test]
fn bounds() {
    run(async {
        let limits = QueryLimits { points_max: 100, series_max: 4, ..QueryLimits::default() };
        let world = World::with("series_bounds", limits, 1).await;
        world.append(&events(EventTime(0), 500)).await;
        let far = 3_000 * SECOND;
        for buried in [false, true] {
            let ask = async |granularity: &str, group_by: &[&str]| {
                world.queries.series(&query(-far, far, granularity, "", group_by), AskOptions::default()).await
            };
            assert!(matches!(ask("1s", &[]).await, Err(QueryError::Points { max: 100 })), "{buried}");
            assert!(matches!(ask("1d", &["host", "zone"]).await, Err(QueryError::Series { max: 4 })), "{buried}");
            assert!(matches!(ask("1500ms", &[]).await, Err(QueryError::Parameter { parameter: "granularity", .. })));
            assert_eq!(ask("1h", &["host"]).await.unwrap().series.len(), 4, "{buried}");
            world.bury().await;
        }
        let backwards = world.queries.series(&query(far, -far, "1s", "", &[]), AskOptions::default()).await;
        assert!(matches!(backwards, Err(QueryError::Parameter { parameter: "start_time", .. })));
    });
}

fn follow_query(range: &str, granularity: &str, group_by: &[&str]) -> FollowQuery {
    FollowQuery {
        metric: "cpu".into(),
        range: range.parse().unwrap(),
        granularity: Some(granularity.parse().unwrap()),
        aggregations: vec![Aggregation::Avg],
        filter: DimensionFilter::default(),
        group_by: group_by.iter().map(|key| (*key).to_owned()).collect(),
    }
}

fn apply(window: &mut BTreeMap<BTreeMap<String, String>, BTreeMap<EventTime, Summary>>, series: &[SeriesPoints]) {
    for series in series {
        window.entry(series.dimensions.clone()).or_default().extend(series.points.iter().copied());
    }
}

/// Snapshot and changes together are what a fresh question answers, while events come, are flushed and forgotten.
#[test]
fn follow_is_snapshot_and_changes() {
    run(async {
        let world = Arc::new(World::with("follow", QueryLimits::default(), 2).await);
        let all = events(EventTime(wall_clock().0 - 3_600 * SECOND), 6_000);
        world.append(&all[..500]).await;
        world.bury().await;
        let writer = {
            let (world, all) = (world.clone(), all.clone());
            tokio::spawn(async move {
                let mut last = schemas::Epoch::ZERO;
                for (round, events) in all[500..].chunks(11).enumerate() {
                    last = world.append(events).await;
                    if round % 60 == 0 {
                        world.advance(30).await;
                        world.flush().await;
                    }
                }
                last
            })
        };
        let mut followers = Vec::new();
        for (granularity, group_by) in
            [("1s", &["host"][..]), ("1m", &[]), ("7s", &["host", "zone"]), ("1h", &["zone"])]
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let (snapshot, live) =
                world.queries.follow(&follow_query("30d", granularity, group_by), AskOptions::default()).await.unwrap();
            followers.push((granularity, group_by, snapshot, live));
        }
        let last = writer.await.unwrap();
        for (granularity, group_by, snapshot, mut live) in followers {
            let mut window = BTreeMap::new();
            apply(&mut window, &snapshot.series);
            let mut epoch = snapshot.epoch;
            while epoch < last {
                let change = live.next_change().await.unwrap();
                assert!(change.epoch >= epoch);
                epoch = change.epoch;
                apply(&mut window, &change.series);
                if epoch == last {
                    break;
                }
            }
            let now = wall_clock().0;
            let fresh = query(now - 30 * 86_400 * SECOND, now + 1, granularity, "", group_by);
            let SeriesAnswer { series, .. } = world.queries.series(&fresh, AskOptions::default()).await.unwrap();
            // With several workers the newest epochs come in parts.
            while live.window().series != series {
                let change = tokio::time::timeout(Duration::from_secs(20), live.next_change()).await;
                apply(&mut window, &change.expect("the rest comes").unwrap().series);
            }
            let followed: Vec<SeriesPoints> = (window.into_iter())
                .map(|(dimensions, points)| SeriesPoints { dimensions, points: points.into_iter().collect() })
                .collect();
            assert_eq!(followed, series, "{granularity} by {group_by:?}");
            assert_eq!(live.window().series, series, "{granularity} by {group_by:?}");
            assert_eq!(series, recompute(&fresh, granularity.parse().unwrap(), &all));
        }
    });
}

#[test]
fn a_slow_follower_lags_and_a_window_moves() {
    run(async {
        let limits = QueryLimits { follow_queue_max: 2, ..QueryLimits::default() };
        let world = World::with("lag", limits, 1).await;
        let now = wall_clock();
        let event = |seconds: i64, value: f64| Event {
            name: "cpu",
            dimensions: vec![],
            ts: EventTime(now.0 + seconds * SECOND),
            value,
        };
        let (_, mut live) = world.queries.follow(&follow_query("5s", "1s", &[]), AskOptions::default()).await.unwrap();
        world.append(&[event(-60, 1.0), event(-1, 2.0)]).await;
        let change = live.next_change().await.unwrap();
        let points: Vec<f64> =
            change.series.iter().flat_map(|series| &series.points).map(|(_, state)| state.sum).collect();
        assert_eq!(points, [2.0], "an event before the window is no change");
        for n in 0..20 {
            world.append(&[event(0, n as f64)]).await;
        }
        world.rows("SELECT count(*) FROM metrics_1s").await.unwrap(); // the engine has come this far
        let mut ended = None;
        for _ in 0..30 {
            if let Err(error) = live.next_change().await {
                ended = Some(error);
                break;
            }
        }
        assert!(matches!(ended, Some(QueryError::Lagged)), "{ended:?}");
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert!(live.window().series.is_empty(), "the window has moved past every point");
        let (snapshot, _) = world.queries.follow(&follow_query("1h", "1s", &[]), AskOptions::default()).await.unwrap();
        let sum: f64 = snapshot.series.iter().flat_map(|series| &series.points).map(|(_, state)| state.sum).sum();
        assert_eq!(sum, 1.0 + 2.0 + 190.0);
    });
}

#[test]
fn series_without_history_say_so_and_go_on() {
    run(async {
        let world = World::new("series_partial").await;
        let now = wall_clock();
        let event = |seconds: i64, value: f64| Event {
            name: "cpu",
            dimensions: vec![("host", "a")],
            ts: EventTime(now.0 - seconds * SECOND),
            value,
        };
        let counted = |series: &[SeriesPoints]| -> u64 {
            series.iter().flat_map(|series| &series.points).map(|(_, state)| state.count).sum()
        };
        world.append(&[event(60, 1.0), event(50, 2.0)]).await;
        world.bury().await;
        let last = world.append(&[event(40, 3.0)]).await;
        let partial = AskOptions { min_epoch: Some(last), partial: true, ..AskOptions::default() };
        let query = query(now.0 - 3_600 * SECOND, now.0, "1s", "", &[]);
        let whole = world.queries.series(&query, partial).await.unwrap();
        assert!(counted(&whole.series) == 3 && whole.partial.is_none(), "{whole:?}");

        *world.weather.lock() = Weather::Away;
        assert!(world.queries.series(&query, AskOptions::default()).await.unwrap_err().is_retryable());
        let answer = world.queries.series(&query, partial).await.unwrap();
        let lacks = answer.partial.clone().unwrap();
        assert!(counted(&answer.series) == 1 && lacks.upto < last, "{answer:?}");
        assert!(lacks.missing().ends_with("is missing: connection refused"), "{}", lacks.missing());

        for weather in [Weather::Away, Weather::Overloaded] {
            *world.weather.lock() = weather;
            let (snapshot, mut live) = world.queries.follow(&follow_query("1h", "1s", &[]), partial).await.unwrap();
            let before = counted(&snapshot.series);
            assert!(snapshot.partial.is_some() && before > 0, "{weather:?}: {snapshot:?}");
            world.append(&[event(30, 4.0)]).await;
            live.next_change().await.unwrap();
            let window = live.window();
            assert_eq!((counted(&window.series), window.partial), (before + 1, snapshot.partial), "{weather:?}");
        }
        *world.weather.lock() = Weather::Fine;
        assert!(world.queries.history_available().await.is_ok());
        let (snapshot, _) = world.queries.follow(&follow_query("1h", "1s", &[]), partial).await.unwrap();
        assert!(snapshot.partial.is_none() && counted(&snapshot.series) == 5, "{snapshot:?}");
    });
}
