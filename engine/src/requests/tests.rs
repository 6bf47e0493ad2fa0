//! The window of requests against a plain model, with shrinking.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const WINDOW_US: i64 = 100;
const KEYS_MAX: usize = 6;

fn requests() -> Requests {
    Requests::new(Duration::from_micros(WINDOW_US), KEYS_MAX)
}

fn name(index: u8) -> RequestName {
    match index % 2 {
        0 => RequestName::Key(format!("key-{index}").into()),
        _ => RequestName::Sequence { producer: "p".into(), sequence: u64::from(index) },
    }
}

fn settle(requests: &Requests, claim: &Claim, epoch: u64) {
    let rejected = [Reject { index: 3, reason: "no \"value\"".into() }];
    let EventBatch::Table(rows) = row(claim, "metrics", EventTime(7), epoch, &rejected) else { unreachable!() };
    requests.settle(Epoch(epoch), &rows).unwrap();
}

#[test]
fn a_row_comes_back_as_it_was_written() {
    for name in [name(0), name(1)] {
        let requests = requests();
        let Ok(Begun::New(claim)) = requests.begin(&name, u128::MAX - 5, Epoch(1)) else { panic!("it is new") };
        settle(&requests, &claim, 9);
        drop(claim);
        let Ok(Begun::Repeat(known)) = requests.begin(&name, u128::MAX - 5, Epoch(10)) else { panic!("it is known") };
        assert_eq!((known.epoch, known.accepted, known.rejected.len()), (Epoch(9), 9, 1));
        assert_eq!(known.rejected[0].reason, "no \"value\"");
        assert_eq!(requests.begin(&name, 1, Epoch(10)).err(), Some(NotBegun::Reused));
    }
}

#[test]
fn a_claim_that_is_dropped_frees_the_name_and_wakes_who_waits() {
    let requests = requests();
    let Ok(Begun::New(claim)) = requests.begin(&name(0), 1, Epoch(1)) else { panic!("it is new") };
    let Ok(Begun::Running(waiting)) = requests.begin(&name(0), 1, Epoch(1)) else { panic!("it runs") };
    assert_eq!(requests.begin(&name(0), 2, Epoch(1)).err(), Some(NotBegun::Reused));
    drop(claim);
    assert!(futures::executor::block_on(waiting).is_err());
    assert!(matches!(requests.begin(&name(0), 2, Epoch(1)), Ok(Begun::New(_))));
}

/// What is read back of producers that were forgotten expires as it would have without the restart: oldest first.
#[test]
fn forgotten_producers_come_back_with_their_epochs() {
    let numbered = |producer: usize| RequestName::Sequence { producer: format!("p{producer}").into(), sequence: 5 };
    let known = |producer: usize| KnownRequest {
        epoch: Epoch(1_000 * (producer as u64 + 1)),
        name: numbered(producer),
        body_hash: 1,
        accepted: 1,
        rejected: Arc::from([]),
    };
    let (before, after) = (requests(), requests());
    (0..KEYS_MAX).for_each(|producer| before.restore(known(producer)));
    let now = known(KEYS_MAX).epoch;
    before.inner.lock().forget(now); // all of them lie outside the window
    let forgotten =
        |producer| ForgottenSequence { producer: format!("p{producer}"), sequence: 5, epoch: known(producer).epoch };
    (0..KEYS_MAX).rev().for_each(|producer| after.restore_forgotten(&forgotten(producer)));
    for producer in KEYS_MAX..2 * KEYS_MAX {
        for requests in [&before, &after] {
            requests.restore(known(producer));
            requests.inner.lock().forget(known(producer + 1).epoch);
        }
        let too_old = |requests: &Requests| -> Vec<usize> {
            let now = known(2 * KEYS_MAX).epoch;
            let refused = |producer: &usize| requests.begin(&numbered(*producer), 1, now).is_err();
            (0..=producer).filter(refused).collect()
        };
        assert_eq!(too_old(&after), too_old(&before), "after producer {producer}");
        assert!(too_old(&after).contains(&producer), "the newest is forgotten last");
    }
    // More than may be known are read back: the newest stay.
    let after = requests();
    (0..4 * KEYS_MAX).rev().for_each(|producer| after.restore_forgotten(&forgotten(producer)));
    assert!(after.inner.lock().forgotten.len() <= KEYS_MAX);
    assert!(after.begin(&numbered(4 * KEYS_MAX - 1), 1, Epoch(1)).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    /// Send a request; it gets into the log or not.
    Send { name: u8, body: u8, after: u64, durable: bool },
    /// Forget memory; know again what the log has.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..12, 0u8..2, prop_oneof![4 => 1u64..10, 1 => 50u64..150], prop::bool::weighted(0.8))
            .prop_map(|(name, body, after, durable)| Step::Send { name, body, after, durable }),
        1 => Just(Step::Restart),
    ]
}

/// What must be answered, from nothing but the list of durable requests.
#[derive(Debug, PartialEq)]
enum Expected {
    New,
    Repeat(u64),
    Reused,
    TooOld,
}

/// Durable requests so far, in order: epoch, name, body.
#[derive(Default)]
struct Model(Vec<(u64, u8, u8)>);

impl Model {
    /// The requests that the window holds at `now`: by time, and the newest so many at each moment before.
    fn known(&self, now: u64) -> BTreeMap<u8, (u64, u8)> {
        let newest = self.0.len().saturating_sub(KEYS_MAX);
        let held = self.0[newest..].iter().filter(|(epoch, ..)| *epoch as i64 > now as i64 - WINDOW_US);
        held.map(|(epoch, name, body)| (*name, (*epoch, *body))).collect()
    }

    fn expect(&self, name: u8, body: u8, now: u64) -> Expected {
        if let Some((epoch, of)) = self.known(now).get(&name) {
            return if *of == body { Expected::Repeat(*epoch) } else { Expected::Reused };
        }
        let gone = |(_, other, _): &&(u64, u8, u8)| other % 2 == 1 && !self.known(now).contains_key(other);
        match self.0.iter().filter(gone).map(|(_, other, _)| *other).max() {
            Some(forgotten) if name % 2 == 1 && name <= forgotten => Expected::TooOld,
            _ => Expected::New,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_window_is_its_model(steps in prop::collection::vec(step(), 1..80)) {
        let mut requests = requests();
        let (mut model, mut log, mut now) = (Model::default(), Vec::<KnownRequest>::new(), 1_000u64);
        for step in steps {
            match step {
                Step::Send { name: index, body, after, durable } => {
                    now += after;
                    let begun = requests.begin(&name(index), u128::from(body), Epoch(now));
                    let found = match &begun {
                        Ok(Begun::New(_)) => Expected::New,
                        Ok(Begun::Repeat(known)) => Expected::Repeat(known.epoch.0),
                        Ok(Begun::Running(_)) => panic!("nothing runs"),
                        Err(NotBegun::Reused) => Expected::Reused,
                        Err(NotBegun::TooOld { .. }) => Expected::TooOld,
                    };
                    prop_assert_eq!(found, model.expect(index, body, now));
                    if let Ok(Begun::New(claim)) = begun && durable {
                        settle(&requests, &claim, now);
                        model.0.push((now, index, body));
                        log.push(KnownRequest {
                            epoch: Epoch(now),
                            name: name(index),
                            body_hash: u128::from(body),
                            accepted: now,
                            rejected: Arc::from([]),
                        });
                    }
                }
                Step::Restart => {
                    requests = self::requests();
                    log.iter().cloned().for_each(|known| requests.restore(known));
                }
            }
            prop_assert!(requests.len() <= KEYS_MAX);
        }
    }
}
