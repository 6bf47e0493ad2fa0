//! The queue in front of the log's thread: bounded in bytes, and never waited for by those who submit.
//!
//! It also carries the few other things the thread is told: to truncate, to stop, and that the log has failed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_channel::oneshot;
use parking_lot::{Condvar, Mutex};
use streamgauge_schemas::Epoch;

use super::frame::RECORD_HEADER_BYTES;
use super::submission::EncodedRecord;
use super::{LogError, Submission, SubmitError};

/// A submission that waits for its group.
pub(super) struct Pending {
    pub(super) submission: Submission,
    /// Its encoded form.
    pub(super) records: Vec<EncodedRecord>,
    /// What it counts for in the bound.
    pub(super) bytes_pending: u64,
    pub(super) answer: oneshot::Sender<Result<Epoch, LogError>>,
}

impl Pending {
    /// Bytes of its records in the log.
    pub(super) fn log_bytes(records: &[EncodedRecord]) -> u64 {
        records.iter().map(|record| (RECORD_HEADER_BYTES + record.payload.len()) as u64).sum()
    }
}

/// What the log's thread is to do next.
pub(super) enum Work {
    /// Commit these as one group.
    Group(Vec<Pending>),
    /// Remove segments up to this epoch.
    Truncate(Epoch),
    /// The time is up.
    Nothing,
    /// Everything is done, and nothing comes any more.
    Stop,
}

/// The queue, shared by all who submit and the log's thread.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    bytes_pending_max: u64,
    /// The log's size on disk, as its thread last had it.
    log_bytes: AtomicU64,
    /// The size at which no more is taken.
    log_bytes_max: u64,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Pending>,
    /// Of those waiting, and of the group being committed.
    bytes_pending: u64,
    truncate: Option<Epoch>,
    stopping: bool,
    failure: Option<LogError>,
}

impl Queue {
    pub(super) fn new(bytes_pending_max: u64, log_bytes_max: u64) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Queue { state, changed, bytes_pending_max, log_bytes: AtomicU64::new(0), log_bytes_max }
    }

    /// The log's size on disk.
    pub(super) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// Notes the log's size on disk.
    pub(super) fn set_log_bytes(&self, bytes: u64) {
        self.log_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Whether a submission of `bytes` would be taken now.
    pub(super) fn check(&self, bytes: u64) -> Result<(), SubmitError> {
        self.admit(&self.state.lock(), bytes)
    }

    fn admit(&self, state: &State, bytes: u64) -> Result<(), SubmitError> {
        let bytes_pending_max = self.bytes_pending_max;
        if let Some(failure) = &state.failure {
            return Err(SubmitError::Failed(failure.clone()));
        }
        if state.stopping {
            return Err(SubmitError::Stopped);
        }
        let log_bytes = self.log_bytes();
        if log_bytes >= self.log_bytes_max {
            return Err(SubmitError::LogFull { log_bytes, log_bytes_max: self.log_bytes_max });
        }
        if bytes > bytes_pending_max {
            return Err(SubmitError::TooLarge { bytes, bytes_max: bytes_pending_max });
        }
        if state.bytes_pending + bytes > bytes_pending_max {
            return Err(SubmitError::Full { bytes_pending: state.bytes_pending, bytes_pending_max });
        }
        Ok(())
    }

    pub(super) fn push(&self, pending: Pending) -> Result<(), SubmitError> {
        let mut state = self.state.lock();
        self.admit(&state, pending.bytes_pending)?;
        state.bytes_pending += pending.bytes_pending;
        state.waiting.push_back(pending);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Gives back room to those who submit, after a group was answered or refused.
    pub(super) fn give_back(&self, bytes: u64) {
        self.state.lock().bytes_pending -= bytes;
    }

    pub(super) fn truncate_below(&self, epoch: Epoch) {
        let mut state = self.state.lock();
        state.truncate = state.truncate.max(Some(epoch));
        drop(state);
        self.changed.notify_one();
    }

    /// Takes no more; what waits is still committed.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_one();
    }

    /// Takes no more, and answers `failure` to all who wait.
    pub(super) fn fail(&self, failure: &LogError) {
        let mut state = self.state.lock();
        state.failure = Some(failure.clone());
        let waiting = std::mem::take(&mut state.waiting);
        state.bytes_pending -= waiting.iter().map(|pending| pending.bytes_pending).sum::<u64>();
        drop(state);
        for pending in waiting {
            let _ = pending.answer.send(Err(failure.clone())); // who asked may be gone
        }
    }

    /// Takes submissions again after [`Queue::fail`].
    pub(super) fn heal(&self) {
        self.state.lock().failure = None;
    }

    /// Takes no more, and cancels all who wait.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }

    /// Waits for work, at most until `deadline`.
    pub(super) fn next(&self, deadline: Instant, group_bytes_max: u64) -> Work {
        let mut state = self.state.lock();
        loop {
            // First, so that a busy log is truncated too.
            if let Some(epoch) = state.truncate.take() {
                return Work::Truncate(epoch);
            }
            if !state.waiting.is_empty() {
                return Work::Group(take_group(&mut state.waiting, group_bytes_max));
            }
            if state.stopping {
                return Work::Stop;
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return Work::Nothing;
            }
        }
    }
}

/// Takes from the front as many as make one group: at least one, and a catalog change always alone.
fn take_group(waiting: &mut VecDeque<Pending>, group_bytes_max: u64) -> Vec<Pending> {
    let mut bytes = 0;
    let fits = |pending: &&Pending| {
        bytes += Pending::log_bytes(&pending.records);
        bytes <= group_bytes_max && matches!(pending.submission, Submission::Events(_))
    };
    let len = waiting.iter().take_while(fits).count().max(1);
    waiting.drain(..len).collect()
}
