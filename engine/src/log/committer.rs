//! Group commit: one thread owns the log, and what many callers submit meanwhile becomes one group.
//!
//! ```text
//!  submit (any thread): encode, queue ──▶ thread "log": take all ─▶ epoch ─▶ append ─▶ fdatasync
//!                                                                              │
//!          answers (oneshot) ◀── bytes given back ◀── Sequence::committed ◀────┘
//! ```
//!
//! While one group syncs, the next gathers; under load groups grow and the number of syncs does not.
//!
//! # Time
//!
//! The epoch of a group is `last.next(now)`: the hybrid logical clock lives here, and only here. Without commits
//! it still moves on, by [`Sequence::idle`], so that readers and flushes do not wait for the next event.
//!
//! # Invariants
//!
//! 1. The epochs given to [`Sequence`] rise strictly, across `committed` and `idle`.
//! 2. A group is given to [`Sequence`] after it is durable and before any of its submitters is answered.
//! 3. A catalog change is a group of its own, since its epoch is its identity.
//! 4. What waits, encoded and decoded together, never exceeds `bytes_pending_max`.
//!
//! # Failure
//!
//! A group that cannot be appended (a full disk) is answered with the error, and the next is tried. When the log is
//! poisoned, everything that waits and comes later is answered with that, and every second it is tried to go on
//! in a new segment. Nothing here retries a group. A caller that
//! is gone before its answer changes nothing: its events are in the log.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use streamgauge_schemas::Epoch;

use super::frame::{GROUP_BYTES_MAX, GROUP_HEADER_BYTES};
use super::queue::{Pending, Queue, Work};
use super::{Log, LogError, RecordRef, Submission, SubmitError};

const APPENDED_BYTES: &str = "streamgauge_log_appended_bytes_total";
const GROUPS: &str = "streamgauge_log_groups_total";
const SYNC_SECONDS: &str = "streamgauge_log_sync_seconds";
const SIZE_BYTES: &str = "streamgauge_log_size_bytes";

/// How often a log that has failed is tried again.
const HEAL_INTERVAL: Duration = Duration::from_secs(1);

/// How the committer groups and waits.
#[derive(Clone)]
pub struct CommitterOptions {
    /// Bytes that may wait, each submission counted as encoded and as held in memory; 256 MiB by default.
    pub bytes_pending_max: u64,
    /// The size of the log on disk at which nothing more is taken; unbounded by default.
    pub log_bytes_max: u64,
    /// Encoded bytes after which a group is closed; 32 MiB by default.
    pub group_bytes_max: u64,
    /// Without commits for this long the epoch moves on by itself; 100 ms by default.
    pub heartbeat: Duration,
    /// An epoch that all coming ones must be above, besides the log's own: the newest that ClickHouse knows.
    pub epoch_floor: Epoch,
    /// The wall clock in microseconds since 1970.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Default for CommitterOptions {
    fn default() -> Self {
        CommitterOptions {
            bytes_pending_max: 256 << 20,
            log_bytes_max: u64::MAX,
            group_bytes_max: 32 << 20,
            heartbeat: Duration::from_millis(100),
            epoch_floor: Epoch::ZERO,
            clock: Arc::new(wall_clock_us),
        }
    }
}

/// What follows the log: called on its thread, in order of epochs, so it must be quick.
pub trait Sequence: Send + 'static {
    /// Takes a group that is durable and not yet acknowledged.
    fn committed(&mut self, epoch: Epoch, group: Vec<Submission>);
    /// Learns that nothing was committed up to `epoch`, and that no later group will be at or below it.
    fn idle(&mut self, epoch: Epoch);
}

/// The handle of the thread that owns the log. Dropping it commits what waits, and ends the thread.
pub struct Committer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

/// The catalogue changes on this thread, and a view is planned by calls that nest as its expressions do.
const STACK_BYTES: usize = 32 << 20;

impl Committer {
    /// Starts the thread `log`.
    ///
    /// # Errors
    /// [`LogError::Io`] when the system gives no thread.
    pub fn start(log: Log, options: CommitterOptions, sequence: Box<dyn Sequence>) -> Result<Committer, LogError> {
        describe_metrics();
        let queue = Arc::new(Queue::new(options.bytes_pending_max, options.log_bytes_max));
        note_size(&queue, &log);
        let dir = log.dir().to_owned();
        let last = log.last_epoch().max(options.epoch_floor);
        let thread = LogThread { log, queue: queue.clone(), options, sequence, last, heal_at: None };
        let thread =
            std::thread::Builder::new().name("log".to_owned()).stack_size(STACK_BYTES).spawn(move || thread.run());
        let thread = thread.map_err(LogError::io("start the thread of the log in", &dir))?;
        Ok(Committer { queue, thread: Some(thread) })
    }

    /// Encodes a submission on this thread and queues it. Never waits.
    ///
    /// The receiver gets the epoch once the submission is durable and has been given to the [`Sequence`], or the
    /// reason why it is not in the log. It is cancelled only when the log's thread died.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing of the submission is in the log then.
    pub fn submit(&self, submission: Submission) -> Result<oneshot::Receiver<Result<Epoch, LogError>>, SubmitError> {
        let size_bytes = submission.size_bytes() as u64;
        self.queue.check(size_bytes)?; // before the work of encoding
        let records = submission.encode().map_err(SubmitError::Encode)?;
        let bytes = Pending::log_bytes(&records);
        let bytes_max = GROUP_BYTES_MAX - GROUP_HEADER_BYTES as u64;
        if bytes > bytes_max {
            return Err(SubmitError::TooLarge { bytes, bytes_max });
        }
        let (answer, receiver) = oneshot::channel();
        let bytes_pending = size_bytes + bytes + size_of::<Pending>() as u64;
        self.queue.push(Pending { bytes_pending, submission, records, answer })?;
        Ok(receiver)
    }

    /// Whether a submission would be taken now.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self) -> Result<(), SubmitError> {
        self.queue.check(1)
    }

    /// The log's size on disk.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.queue.log_bytes()
    }

    /// Asks for the removal of segments that hold no epoch above `epoch`; the thread does it when it comes to it.
    pub fn truncate_below(&self, epoch: Epoch) {
        self.queue.truncate_below(epoch);
    }

    /// Commits what waits, and ends the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.queue.stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the log's thread has panicked");
        }
    }
}

/// What the thread `log` owns.
struct LogThread {
    log: Log,
    queue: Arc<Queue>,
    options: CommitterOptions,
    sequence: Box<dyn Sequence>,
    /// The last epoch given to anyone.
    last: Epoch,
    /// When a poisoned log is tried again.
    heal_at: Option<Instant>,
}

impl LogThread {
    fn run(mut self) {
        let mut idle_at = Instant::now() + self.options.heartbeat;
        let group_bytes_max = self.options.group_bytes_max.min(GROUP_BYTES_MAX - GROUP_HEADER_BYTES as u64);
        loop {
            match self.queue.next(idle_at, group_bytes_max) {
                Work::Group(group) => {
                    if self.commit(group) {
                        idle_at = Instant::now() + self.options.heartbeat;
                    }
                }
                Work::Truncate(epoch) => self.truncate(epoch),
                Work::Nothing => {}
                Work::Stop => return,
            }
            self.heal();
            if Instant::now() >= idle_at {
                self.last = self.last.next((self.options.clock)());
                self.sequence.idle(self.last);
                idle_at = Instant::now() + self.options.heartbeat;
            }
        }
    }

    /// Tries to go on after a failure; submissions are refused at once until that succeeds.
    fn heal(&mut self) {
        if self.heal_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        match self.log.heal() {
            Ok(()) => {
                self.heal_at = None;
                self.last = self.last.max(self.log.last_epoch());
                self.queue.heal();
                tracing::warn!("the log goes on in a new segment; nothing acknowledged was lost");
            }
            Err(error) => {
                self.heal_at = Some(Instant::now() + HEAL_INTERVAL);
                tracing::warn!(%error, cause = std::error::Error::source(&error), "the log still fails; it will be tried again");
            }
        }
    }

    /// Commits a group and answers its submitters; tells whether it is in the log.
    fn commit(&mut self, group: Vec<Pending>) -> bool {
        // A segment that was begun for a group that then failed lies above it; the clock may have gone back since.
        self.last = self.last.max(self.log.last_epoch());
        let epoch = self.last.next((self.options.clock)());
        let bytes_pending = group.iter().map(|pending| pending.bytes_pending).sum();
        let result = self.append_and_sync(epoch, &group);
        let (submissions, answers): (Vec<_>, Vec<_>) = group.into_iter().map(|p| (p.submission, p.answer)).unzip();
        match &result {
            Ok(()) => {
                self.last = epoch;
                self.sequence.committed(epoch, submissions);
            }
            Err(error) => {
                tracing::error!(%error, cause = std::error::Error::source(error), "a group is not in the log");
                if matches!(error, LogError::Poisoned { .. }) {
                    self.queue.fail(error);
                    self.heal_at = Some(Instant::now() + HEAL_INTERVAL);
                }
            }
        }
        self.queue.give_back(bytes_pending);
        for answer in answers {
            let _ = answer.send(result.clone().map(|()| epoch)); // who asked may be gone
        }
        result.is_ok()
    }

    fn append_and_sync(&mut self, epoch: Epoch, group: &[Pending]) -> Result<(), LogError> {
        let encoded = group.iter().flat_map(|pending| &pending.records);
        let records: Vec<RecordRef<'_>> = encoded
            .map(|record| RecordRef { kind: record.kind, stream: record.stream, payload: &record.payload })
            .collect();
        let size_before = self.log.size_bytes();
        self.log.append(epoch, &records)?;
        let syncing_since = Instant::now();
        self.log.sync()?;
        metrics::histogram!(SYNC_SECONDS).record(syncing_since.elapsed());
        metrics::counter!(APPENDED_BYTES).increment(self.log.size_bytes() - size_before);
        metrics::counter!(GROUPS).increment(1);
        note_size(&self.queue, &self.log);
        Ok(())
    }

    fn truncate(&mut self, epoch: Epoch) {
        match self.log.truncate_below(epoch) {
            Ok(0) => return,
            Ok(freed_bytes) => tracing::debug!(%epoch, freed_bytes, "truncated the log"),
            Err(error) => {
                tracing::warn!(%error, cause = std::error::Error::source(&error), "the log is not truncated; it will be next time");
            }
        }
        note_size(&self.queue, &self.log);
    }
}

impl Drop for LogThread {
    /// Also when the sequence panicked: nobody may wait for an answer that never comes.
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn note_size(queue: &Queue, log: &Log) {
    queue.set_log_bytes(log.size_bytes());
    metrics::gauge!(SIZE_BYTES).set(log.size_bytes() as f64);
}

fn wall_clock_us() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |since| since.as_micros() as u64)
}

fn describe_metrics() {
    metrics::describe_counter!(APPENDED_BYTES, metrics::Unit::Bytes, "Bytes appended to the log");
    metrics::describe_counter!(GROUPS, "Groups committed to the log");
    metrics::describe_histogram!(SYNC_SECONDS, metrics::Unit::Seconds, "Duration of a sync of the log");
    metrics::describe_gauge!(SIZE_BYTES, metrics::Unit::Bytes, "Size of the log on disk");
}
