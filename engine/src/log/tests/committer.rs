//! Group commit: order, grouping, the bound, failures and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use futures_channel::oneshot;
use parking_lot::{Condvar, Mutex};
use streamgauge_schemas::event::BatchSeries;
use streamgauge_schemas::stream::CatalogChange;
use streamgauge_schemas::{Epoch, EventBatch, EventTime, MetricsBatch, Series, StreamId};

use super::faults::Faults;
use crate::log::{Committer, CommitterOptions, Log, LogError, LogOptions, Request, Sequence, Submission, SubmitError};

type Receiver = oneshot::Receiver<Result<Epoch, LogError>>;

/// What the sequence was told: the epoch, and the mark of each submission; `None` when idle.
type Told = (Epoch, Option<Vec<i64>>);

#[derive(Clone, Default)]
struct Recorder(Arc<(Mutex<Vec<Told>>, Condvar)>);

impl Recorder {
    fn tell(&self, told: Told) {
        self.0.0.lock().push(told);
        self.0.1.notify_all();
    }

    fn groups(&self) -> Vec<(Epoch, Vec<i64>)> {
        self.0.0.lock().iter().filter_map(|(epoch, group)| Some((*epoch, group.clone()?))).collect()
    }

    fn until(&self, condition: impl Fn(&[Told]) -> bool) {
        let mut told = self.0.0.lock();
        self.0.1.wait_while(&mut told, |told| !condition(told));
    }
}

impl Sequence for Recorder {
    fn committed(&mut self, epoch: Epoch, group: Vec<Submission>) {
        self.tell((epoch, Some(group.iter().map(mark_of).collect())));
    }

    fn idle(&mut self, epoch: Epoch) {
        self.tell((epoch, None));
    }
}

/// A submission of one event, known by its time.
fn event(mark: i64) -> Submission {
    let series = Arc::new(Series::new("cpu", [("host", "a")]));
    Submission::from(EventBatch::Metrics(Arc::new(MetricsBatch {
        series: vec![BatchSeries { id: series.id(), series, source: "test".into() }],
        series_index: vec![0],
        ts: vec![EventTime(mark)],
        value: vec![1.0],
    })))
}

fn drop_stream(mark: i64) -> Submission {
    Submission::Catalog(CatalogChange::DropStream(StreamId(mark as u64)))
}

fn mark_of(submission: &Submission) -> i64 {
    match submission {
        Submission::Events(Request { batches, .. }) => match &batches[..] {
            [EventBatch::Metrics(metrics)] => metrics.ts[0].0,
            other => panic!("{other:?} was not submitted"),
        },
        Submission::Catalog(CatalogChange::DropStream(StreamId(mark))) => *mark as i64,
        other => panic!("{other:?} was not submitted"),
    }
}

/// Options with a clock that stands at 1000 µs and no heartbeat.
fn still() -> CommitterOptions {
    CommitterOptions { heartbeat: Duration::from_secs(3600), clock: Arc::new(|| 1_000), ..CommitterOptions::default() }
}

struct Fixture {
    dir: tempfile::TempDir,
    faults: Faults,
    recorder: Recorder,
}

impl Fixture {
    fn new() -> Self {
        Fixture { dir: tempfile::tempdir().unwrap(), faults: Faults::default(), recorder: Recorder::default() }
    }

    fn start(&self, options: CommitterOptions) -> Committer {
        let log = self.faults.open(self.dir.path(), super::small()).unwrap();
        Committer::start(log, options, Box::new(self.recorder.clone())).unwrap()
    }

    /// Starts with a first submission, marked 0, that hangs in its sync, so that what follows gathers.
    fn start_held(&self, options: CommitterOptions) -> (Committer, Receiver) {
        let committer = self.start(options);
        self.faults.syncs_wait(true);
        let first = committer.submit(event(0)).unwrap();
        self.faults.until_a_sync_waits();
        (committer, first)
    }

    /// Reads the log as a restart would.
    fn replay(&self) -> Vec<(Epoch, i64)> {
        let log = Log::open(self.dir.path(), LogOptions::default()).unwrap();
        let decode = |record: Result<_, _>| {
            let record: crate::log::Record = record.unwrap();
            (record.epoch, mark_of(&Submission::decode(&record).unwrap()))
        };
        log.read_after(Epoch::ZERO).map(decode).collect()
    }
}

fn wait(receiver: Receiver) -> Result<Epoch, LogError> {
    block_on(receiver).expect("the log's thread lives")
}

fn committed(receiver: Receiver) {
    wait(receiver).unwrap();
}

#[test]
fn what_gathers_during_a_sync_is_one_group() {
    let fixture = Fixture::new();
    let (committer, first) = fixture.start_held(still());
    let rest: Vec<Receiver> = (1..=10).map(|mark| committer.submit(event(mark)).unwrap()).collect();
    assert!(fixture.recorder.groups().is_empty(), "nothing is handed on before it is durable");
    fixture.faults.syncs_wait(false);
    assert_eq!(wait(first).unwrap(), Epoch(1_000));
    for receiver in rest {
        assert_eq!(wait(receiver).unwrap(), Epoch(1_001));
    }
    let groups = vec![(Epoch(1_000), vec![0]), (Epoch(1_001), (1..=10).collect())];
    assert_eq!(fixture.recorder.groups(), groups);
    committer.stop();
    let flat: Vec<(Epoch, i64)> = groups.iter().flat_map(|(epoch, marks)| marks.iter().map(|m| (*epoch, *m))).collect();
    assert_eq!(fixture.replay(), flat);
}

#[test]
fn a_catalog_change_is_a_group_of_its_own() {
    let fixture = Fixture::new();
    let (committer, _first) = fixture.start_held(still());
    let submissions = [event(1), event(2), drop_stream(3), drop_stream(4), event(5), event(6), drop_stream(7)];
    let receivers = submissions.map(|submission| committer.submit(submission).unwrap());
    fixture.faults.syncs_wait(false);
    receivers.into_iter().for_each(committed);
    let groups: Vec<Vec<i64>> = fixture.recorder.groups().into_iter().map(|(_, marks)| marks).collect();
    assert_eq!(groups, [vec![0], vec![1, 2], vec![3], vec![4], vec![5, 6], vec![7]]);
    committer.stop();
    assert_eq!(fixture.replay().len(), 8);
}

#[test]
fn a_group_is_bounded() {
    let fixture = Fixture::new();
    let bytes = event(1).encode().unwrap()[0].payload.len() as u64 + 20;
    let (committer, _first) = fixture.start_held(CommitterOptions { group_bytes_max: 3 * bytes, ..still() });
    let receivers: Vec<Receiver> = (1..=7).map(|mark| committer.submit(event(mark)).unwrap()).collect();
    fixture.faults.syncs_wait(false);
    receivers.into_iter().for_each(committed);
    let sizes: Vec<usize> = fixture.recorder.groups().iter().map(|(_, marks)| marks.len()).collect();
    assert_eq!(sizes, [1, 3, 3, 1]);
}

#[test]
fn the_queue_is_bounded() {
    let fixture = Fixture::new();
    let (committer, first) = fixture.start_held(CommitterOptions { bytes_pending_max: 4_000, ..still() });
    let mut receivers = vec![first];
    let full = loop {
        match committer.submit(event(receivers.len() as i64)) {
            Ok(receiver) => receivers.push(receiver),
            Err(error) => break error,
        }
    };
    let SubmitError::Full { bytes_pending, bytes_pending_max: 4_000 } = full else { panic!("{full:?}") };
    assert!(bytes_pending <= 4_000 && receivers.len() > 2, "{} wait with {bytes_pending} bytes", receivers.len());
    fixture.faults.syncs_wait(false);
    receivers.into_iter().for_each(committed);
    wait(committer.submit(event(99)).unwrap()).unwrap(); // there is room again
    drop(committer);

    let committer = fixture.start(CommitterOptions { bytes_pending_max: 100, ..still() });
    assert!(matches!(committer.submit(event(1)), Err(SubmitError::TooLarge { bytes_max: 100, .. })));
}

#[test]
fn many_threads_submit() {
    const THREADS: i64 = 8;
    const EACH: i64 = 100;
    let fixture = Fixture::new();
    let committer =
        fixture.start(CommitterOptions { heartbeat: Duration::from_millis(1), ..CommitterOptions::default() });
    let answers = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (committer, answers, recorder) = (&committer, &answers, &fixture.recorder);
            scope.spawn(move || {
                let mut last = Epoch::ZERO;
                for mark in thread * EACH..(thread + 1) * EACH {
                    let epoch = wait(committer.submit(event(mark)).unwrap()).unwrap();
                    assert!(epoch > last);
                    last = epoch;
                    let told =
                        recorder.0.0.lock().iter().any(|(e, g)| *e == epoch && g.as_ref().unwrap().contains(&mark));
                    assert!(told, "the sequence knows of an event before its submitter does");
                    answers.lock().push((epoch, mark));
                }
            });
        }
    });
    committer.stop();
    let told = fixture.recorder.0.0.lock().clone();
    assert!(told.is_sorted_by(|a, b| a.0 < b.0), "epochs rise, idle ones too");
    let mut sequenced: Vec<(Epoch, i64)> =
        fixture.recorder.groups().iter().flat_map(|(epoch, marks)| marks.iter().map(|m| (*epoch, *m))).collect();
    assert_eq!(fixture.replay(), sequenced);
    let mut answers = answers.into_inner();
    answers.sort_unstable();
    sequenced.sort_unstable();
    assert_eq!(answers, sequenced);
    assert_eq!(answers.len() as i64, THREADS * EACH);
}

#[test]
fn epochs_move_on_when_idle() {
    let fixture = Fixture::new();
    let now = Arc::new(AtomicU64::new(5_000));
    let clock = now.clone();
    let options = CommitterOptions {
        heartbeat: Duration::from_millis(1),
        epoch_floor: Epoch(9_000),
        clock: Arc::new(move || clock.load(Ordering::SeqCst)),
        ..CommitterOptions::default()
    };
    let committer = fixture.start(options);
    fixture.recorder.until(|told| told.len() >= 2);
    assert_eq!(fixture.recorder.0.0.lock()[0], (Epoch(9_001), None), "above the floor, though the clock is behind");
    now.store(20_000, Ordering::SeqCst);
    fixture.recorder.until(|told| told.last().is_some_and(|(epoch, _)| *epoch >= Epoch(20_000)));
    now.store(7_000, Ordering::SeqCst); // the wall clock goes back; the epochs do not
    let epoch = wait(committer.submit(event(1)).unwrap()).unwrap();
    assert!(epoch > Epoch(20_000));
    drop(committer);
    let told = fixture.recorder.0.0.lock().clone();
    assert!(told.is_sorted_by(|a, b| a.0 < b.0));
}

#[test]
fn a_failed_sync_fails_all_who_wait_and_come() {
    let fixture = Fixture::new();
    let (committer, first) = fixture.start_held(still());
    let second = committer.submit(event(1)).unwrap();
    fixture.faults.syncs_fail(true);
    fixture.faults.syncs_wait(false);
    for receiver in [first, second] {
        assert!(matches!(wait(receiver), Err(LogError::Poisoned { .. })));
    }
    assert!(matches!(committer.submit(event(2)), Err(SubmitError::Failed(LogError::Poisoned { .. }))));
    assert!(fixture.recorder.groups().is_empty());
    committer.stop();
    assert_eq!(fixture.replay(), []);
}

#[test]
fn a_full_disk_fails_one_group() {
    let fixture = Fixture::new();
    let committer = fixture.start(still());
    wait(committer.submit(event(1)).unwrap()).unwrap();
    fixture.faults.next_write_stops_after(60);
    let error = wait(committer.submit(event(2)).unwrap()).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let epoch = wait(committer.submit(event(3)).unwrap()).unwrap();
    committer.stop();
    assert_eq!(fixture.recorder.groups(), [(Epoch(1_000), vec![1]), (epoch, vec![3])]);
    assert_eq!(fixture.replay(), [(Epoch(1_000), 1), (epoch, 3)]);
}

#[test]
fn stopping_commits_what_waits() {
    let fixture = Fixture::new();
    let (committer, first) = fixture.start_held(still());
    let mut receivers = vec![first];
    receivers.extend((1..=5).map(|mark| committer.submit(event(mark)).unwrap()));
    let gone = committer.submit(event(6)).unwrap();
    drop(gone); // who asked is gone; the event is not
    let stopping = std::thread::spawn(move || committer.stop());
    fixture.faults.syncs_wait(false);
    stopping.join().unwrap();
    receivers.into_iter().for_each(committed);
    assert_eq!(fixture.replay().into_iter().map(|(_, mark)| mark).collect::<Vec<_>>(), (0..=6).collect::<Vec<_>>());
}

#[test]
fn the_log_is_truncated_on_request() {
    let fixture = Fixture::new();
    let committer = fixture.start(still());
    let epochs: Vec<Epoch> = (1..=20).map(|mark| wait(committer.submit(event(mark)).unwrap()).unwrap()).collect();
    let before = super::segments(fixture.dir.path()).len();
    committer.truncate_below(epochs[9]);
    committer.truncate_below(epochs[3]); // an older wish changes nothing
    wait(committer.submit(event(21)).unwrap()).unwrap();
    let after = super::segments(fixture.dir.path()).len();
    assert!(before > 5 && after < before, "{before} segments became {after}");
    committer.stop();
    let left: Vec<i64> = fixture.replay().into_iter().map(|(_, mark)| mark).collect();
    assert!(left[0] > 4 && left[0] <= 11 && left.is_sorted() && *left.last().unwrap() == 21, "{left:?}");
}

#[test]
fn nobody_waits_for_a_thread_that_died() {
    struct Panics;
    impl Sequence for Panics {
        fn committed(&mut self, _: Epoch, _: Vec<Submission>) {
            panic!("as the test wants");
        }
        fn idle(&mut self, _: Epoch) {}
    }
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let committer = Committer::start(log, still(), Box::new(Panics)).unwrap();
    assert!(block_on(committer.submit(event(1)).unwrap()).is_err());
    // The answer is cancelled while the thread unwinds; the queue is closed a little later.
    while !matches!(committer.submit(event(2)), Err(SubmitError::Stopped)) {
        std::thread::yield_now();
    }
}
