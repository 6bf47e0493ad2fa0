//! Until when the work on a question may go on. It is told by the work as it gets on, and kept by whoever waits for it: the
//! work itself may be busy with something that does not end.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::overdue;
use crate::asker::OwnLimits;
use crate::error::QueryError;
use crate::history::Waits;
use crate::limits::QueryLimits;

/// How soon whoever waits looks again while a question waits for what has a bound of its own.
const LOOKS_AGAIN: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Clock {
    until: Mutex<Until>,
    /// Whoever waits sleeps for longer than it may.
    sooner: Notify,
}

#[derive(Clone)]
struct Until {
    /// `None` while the question waits for what has a bound of its own.
    deadline: Option<Instant>,
    /// When whoever waits looks again.
    looks: Instant,
    limits: QueryLimits,
    own: OwnLimits,
}

impl Clock {
    /// Of a question that is read now, within the time that one may take.
    pub(super) fn reading(limits: &QueryLimits, own: OwnLimits) -> Self {
        let limits = own.lower(limits);
        let deadline = Instant::now() + limits.time_max;
        let until = Until { deadline: Some(deadline), looks: deadline, limits, own };
        Clock { until: Mutex::new(until), sooner: Notify::new() }
    }

    /// The question is read, and waits for its turn; these are its bounds.
    pub(super) fn waits(&self, limits: &QueryLimits, own: OwnLimits) {
        let mut until = self.until.lock();
        *until = Until { deadline: None, limits: limits.clone(), own, ..*until };
    }

    /// It has its turn.
    pub(super) fn runs(&self, deadline: Instant) {
        let mut until = self.until.lock();
        until.deadline = Some(deadline);
        if deadline < until.looks {
            self.sooner.notify_one();
        }
    }

    /// Waits for what the work says, as long as it has time; the error within is that of work that ended and said nothing.
    pub(super) async fn within<T>(
        &self,
        mut said: oneshot::Receiver<T>,
        waits: &Waits,
    ) -> Result<Result<T, RecvError>, QueryError> {
        loop {
            let looks = self.look(waits)?;
            tokio::select! {
                biased;
                said = &mut said => return Ok(said),
                () = self.sooner.notified() => {}
                () = sleep_until(looks) => {}
            }
        }
    }

    /// When to look again, unless the time is over.
    fn look(&self, waits: &Waits) -> Result<Instant, QueryError> {
        let mut until = self.until.lock();
        let now = Instant::now();
        match until.deadline {
            Some(deadline) if deadline <= now => return Err(overdue(waits, &until.limits, until.own)),
            Some(deadline) => until.looks = deadline,
            None => until.looks = now + LOOKS_AGAIN,
        }
        Ok(until.looks)
    }
}
