//! Who may cancel what: whoever has the ticket of a question that runs.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Enough that nobody guesses one.
const NAME_BYTES: usize = 16;

/// The questions that run, by the names in their tickets.
#[derive(Clone, Default)]
pub(super) struct Questions(Arc<Mutex<HashMap<Bytes, Running>>>);

struct Running {
    cancelled: CancellationToken,
    /// A ticket may be redeemed more than once at a time.
    count: usize,
}

/// A question that runs, until it is dropped.
pub(super) struct Question {
    questions: Questions,
    name: Bytes,
    /// Done when somebody cancels it.
    pub(super) cancelled: CancellationToken,
}

/// A name for a ticket.
///
/// # Errors
/// [`Code::Internal`](tonic::Code::Internal) when the system has no randomness.
pub(super) fn name() -> Result<Bytes, Status> {
    let mut name = [0; NAME_BYTES];
    SystemRandom::new().fill(&mut name).map_err(|_| Status::internal("the system has no randomness"))?;
    Ok(Bytes::copy_from_slice(&name))
}

impl Questions {
    /// A question begins.
    pub(super) fn begin(&self, name: Bytes) -> Question {
        let mut running = self.0.lock();
        let entry =
            running.entry(name.clone()).or_insert_with(|| Running { cancelled: CancellationToken::new(), count: 0 });
        entry.count += 1;
        Question { questions: self.clone(), name, cancelled: entry.cancelled.clone() }
    }

    /// Cancels a question; answers whether it runs.
    pub(super) fn cancel(&self, name: &[u8]) -> bool {
        let running = self.0.lock();
        let question = running.get(name).filter(|_| !name.is_empty());
        question.inspect(|question| question.cancelled.cancel()).is_some()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let mut running = self.questions.0.lock();
        if let Some(entry) = running.get_mut(&self.name) {
            entry.count -= 1;
            if entry.count == 0 {
                running.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_is_cancelled_and_only_by_its_name() {
        let questions = Questions::default();
        let (one, other) = (name().unwrap(), name().unwrap());
        assert!(!questions.cancel(&one));
        let (first, again, beside) =
            (questions.begin(one.clone()), questions.begin(one.clone()), questions.begin(other.clone()));
        drop(again);
        assert!(questions.cancel(&one));
        assert!(first.cancelled.is_cancelled() && !beside.cancelled.is_cancelled());
        drop(first);
        assert!(!questions.cancel(&one));
        assert!(!questions.begin(one).cancelled.is_cancelled());
        // One without a name cannot be named.
        let nameless = questions.begin(Bytes::new());
        assert!(!questions.cancel(b"") && !nameless.cancelled.is_cancelled());
    }
}
