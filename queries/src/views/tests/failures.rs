//! Events whose expressions fail are left out and counted; all others are not touched by it.

use rand::SeedableRng;
use rand::rngs::StdRng;
use streamgauge_engine::program::Prepared;
use streamgauge_schemas::{EventBatch, StreamId};

use super::stream::{Cell, assert_same, batches, catalog, maintained, metrics_batch, plain, state};
use crate::views::{GivenOptions, plan_view};

/// A view; the condition that `$g` is of it; what DataFusion is asked with for that; which rows fail, and why.
struct Case {
    metrics: bool,
    select: &'static str,
    condition: &'static str,
    good: &'static str,
    fails: &'static str,
    says: &'static str,
}

const CASES: [Case; 8] = [
    Case {
        metrics: false,
        select: "SELECT carrier, sum(100 / n) AS s FROM flights WHERE $g GROUP BY carrier",
        condition: "true",
        good: "n IS NULL OR n <> 0",
        fails: "n = 0",
        says: "ivide by zero",
    },
    Case {
        metrics: false,
        select: "SELECT 100 / n AS d, count(*) AS c FROM flights WHERE $g GROUP BY 1",
        condition: "ok",
        good: "ok AND (n IS NULL OR n <> 0)",
        fails: "ok AND n = 0",
        says: "ivide by zero",
    },
    Case {
        metrics: false,
        select: "SELECT count(*) AS c, max(n) AS m FROM flights WHERE $g",
        condition: "100 / n > 7",
        good: "100 / nullif(n, 0) > 7",
        fails: "n = 0",
        says: "ivide by zero",
    },
    Case {
        metrics: false,
        select: "SELECT sum(CAST(payload AS BIGINT)) AS s FROM flights WHERE $g",
        condition: "true",
        good: "payload = '12' OR payload IS NULL",
        fails: "payload <> '12'",
        says: "annot cast",
    },
    Case {
        metrics: true,
        select: "SELECT CAST(dimensions['host'] AS BIGINT) AS h, sum(value) AS s FROM metrics WHERE $g GROUP BY 1",
        condition: "true",
        good: "coalesce(dimensions['host'], '1') NOT IN ('a', 'b')",
        fails: "dimensions['host'] IN ('a', 'b')",
        says: "annot cast",
    },
    Case {
        metrics: true,
        select: "SELECT name, dimensions, sum(10 / CAST(value AS BIGINT)) AS s FROM metrics WHERE $g GROUP BY 1, 2",
        condition: "value > -10",
        good: "value > -10 AND (value >= 1 OR value <= -1)",
        fails: "value > -1 AND value < 1",
        says: "ivide by zero",
    },
    Case {
        metrics: true,
        select: "SELECT max(CAST(dimensions['host'] AS BIGINT)) AS h FROM metrics WHERE $g",
        condition: "name = 'cpu'",
        good: "name = 'cpu' AND coalesce(dimensions['host'], '1') NOT IN ('a', 'b')",
        fails: "name = 'cpu' AND dimensions['host'] IN ('a', 'b')",
        says: "annot cast",
    },
    Case {
        metrics: true,
        select: "SELECT count(*) AS c, sum(7 / CAST(value AS BIGINT)) AS s FROM metrics WHERE $g",
        condition: "CAST(dimensions['host'] AS BIGINT) = 10",
        good: "dimensions['host'] = '10' AND (value >= 1 OR value <= -1)",
        fails: "dimensions['host'] IN ('a', 'b') OR (dimensions['host'] = '10' AND value > -1 AND value < 1)",
        says: "",
    },
];

#[test]
fn a_filter_keeps_an_argument_from_events_on_which_it_would_fail() {
    let (catalog, state) = (catalog(), state());
    let sql = "SELECT count(*) AS c, sum(100 / n) FILTER (WHERE n <> 0) AS s, \
               first_value(100 / n ORDER BY at) FILTER (WHERE n <> 0) AS f, \
               last_value(100 / n ORDER BY at) FILTER (WHERE n <> 0) IGNORE NULLS AS l FROM flights";
    let planned = plan_view("v", sql, &GivenOptions::default(), &catalog, &state).unwrap();
    let mut would_fail = 0;
    for seed in 0..30 {
        let batches = batches(&mut StdRng::seed_from_u64(seed), false);
        let (found, failed) = maintained(&planned.definition, &*planned.program, &planned.reading, &batches);
        assert_eq!(failed, 0);
        if !found.1.is_empty() {
            assert_same(sql, found, plain(&sql.replace("100 / n", "100 / nullif(n, 0)"), &batches));
        }
        would_fail += count("n = 0", &batches);
    }
    assert!(would_fail > 0, "there are such events");
}

#[test]
fn rows_that_fail_are_left_out_and_counted() {
    let (catalog, state) = (catalog(), state());
    let mut failed_in_all = [0; CASES.len()];
    for seed in 0..30 {
        let mut rng = StdRng::seed_from_u64(seed);
        for (place, case) in CASES.iter().enumerate() {
            let batches = batches(&mut rng, case.metrics);
            let sql = case.select.replace("$g", case.condition);
            let planned = plan_view("v", &sql, &GivenOptions::default(), &catalog, &state).expect(&sql);
            let (found, failed) = maintained(&planned.definition, &*planned.program, &planned.reading, &batches);
            if !found.1.is_empty() {
                assert_same(&sql, found, plain(&case.select.replace("$g", case.good), &batches));
            }
            assert_eq!(failed, count(case.fails, &batches), "{sql}");
            for batch in &batches {
                let failed = planned.program.run(&Prepared::new(batch.clone())).failed;
                let reason = failed.map_or_else(|| case.says.to_owned(), |failed| failed.reason);
                assert!(reason.contains(case.says), "{sql}: {reason}");
            }
            failed_in_all[place] += failed;
        }
    }
    assert!(failed_in_all.iter().all(|failed| *failed > 0), "each case fails somewhere: {failed_in_all:?}");
}

fn count(condition: &str, batches: &[EventBatch]) -> u64 {
    let stream = if batches[0].stream() == StreamId::METRICS { "metrics" } else { "flights" };
    let answer = plain(&format!("SELECT count(*) FROM {stream} WHERE {condition}"), batches);
    match &answer.1[0][0] {
        Cell::Other(count) => count.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// DataFusion bins by nanoseconds, which end in 2262, and gives a null where even these do not reach; buckets of one
/// length are computed here.
#[test]
fn a_time_without_a_bucket_fails_alone() {
    const EARLY: i64 = 1_000_000;
    const BEYOND: i64 = 10_000_000_000_000_000;
    const BARELY: i64 = 9_200_000_000_000_000;
    let (catalog, state) = (catalog(), state());
    let day = |time: i64| time - time % 86_400_000_000;
    for (bucket, late, buckets) in [
        ("date_bin(INTERVAL '1 month', ts)", BEYOND, vec![0]),
        ("date_bin(INTERVAL '7 seconds', ts, TIMESTAMP '1700-01-01T00:00:02Z')", BARELY, vec![EARLY]),
        ("date_bin(INTERVAL '1 day', ts)", BEYOND, vec![day(BEYOND), 0, day(BEYOND)]),
    ] {
        let batch = metrics_batch(&mut StdRng::seed_from_u64(1), vec![late, EARLY, late]);
        let sql = format!("SELECT {bucket} AS b, count(*) AS c FROM metrics GROUP BY b");
        let planned = plan_view("v", &sql, &GivenOptions::default(), &catalog, &state).expect(&sql);
        let computed = planned.program.run(&Prepared::new(batch));
        let failed = computed.failed.map_or(0, |failed| failed.events);
        assert_eq!(failed, 3 - buckets.len() as u64, "{sql}");
        assert_eq!(computed.buckets, buckets, "{sql}");
    }
}
