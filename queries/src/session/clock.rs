//! Until when the work on a question may go on. It is told by the work as it gets on, and kept by whoever waits for it: the
//! work itself may be busy with something that does not end.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::overdue;
use crate::asker::OwnLimits;
use crate::error::QueryError;
use crate::history::Waits;
use crate::limits::QueryLimits;

/// How soon whoever waits learns that a question that waited for its turn has a deadline now.
const LOOKS_AGAIN: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Clock(Mutex<Until>);

#[derive(Clone)]
struct Until {
    /// `None` while the question waits for what has a bound of its own.
    deadline: Option<Instant>,
    limits: QueryLimits,
    own: OwnLimits,
}

impl Clock {
    /// Of a question that is read now, within the time that one may take.
    pub(super) fn reading(limits: &QueryLimits, own: OwnLimits) -> Self {
        let limits = own.lower(limits);
        Clock(Mutex::new(Until { deadline: Some(Instant::now() + limits.time_max), limits, own }))
    }

    /// The question is read, and waits for its turn; these are its bounds.
    pub(super) fn waits(&self, limits: &QueryLimits, own: OwnLimits) {
        *self.0.lock() = Until { deadline: None, limits: limits.clone(), own };
    }

    /// It has its turn.
    pub(super) fn runs(&self, deadline: Instant) {
        self.0.lock().deadline = Some(deadline);
    }

    /// Waits for what the work says, as long as it has time; the error within is that of work that ended and said nothing.
    pub(super) async fn within<T>(
        &self,
        mut said: oneshot::Receiver<T>,
        waits: &Waits,
    ) -> Result<Result<T, RecvError>, QueryError> {
        loop {
            let Until { deadline, limits, .. } = self.0.lock().clone();
            let look = deadline.unwrap_or_else(|| Instant::now() + LOOKS_AGAIN.min(limits.time_max));
            if let Ok(said) = timeout_at(look, &mut said).await {
                return Ok(said);
            }
            let Until { deadline, limits, own } = self.0.lock().clone();
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(overdue(waits, &limits, own));
            }
        }
    }
}
