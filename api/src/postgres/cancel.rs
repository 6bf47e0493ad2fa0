//! Who may cancel what: a client that knows the key of a session, over a connection of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::scram::random;

/// The sessions that there are, by the number and key that their clients were told.
#[derive(Default)]
pub(super) struct Cancels {
    next: AtomicI32,
    sessions: Mutex<HashMap<i32, Session>>,
}

struct Session {
    key: i32,
    /// The statement that runs.
    statement: CancellationToken,
}

/// A session's place among them, given back when dropped.
pub(super) struct Place {
    cancels: Arc<Cancels>,
    pub(super) process: i32,
    pub(super) key: i32,
}

impl Cancels {
    /// Takes a place for a session.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn place(self: &Arc<Self>) -> anyhow::Result<Place> {
        let mut key = [0; 4];
        random(&mut key)?;
        let (process, key) = (self.next.fetch_add(1, Ordering::Relaxed) & i32::MAX, i32::from_be_bytes(key));
        self.sessions.lock().insert(process, Session { key, statement: CancellationToken::new() });
        Ok(Place { cancels: self.clone(), process, key })
    }

    /// Cancels what a session runs now, if the key is its own.
    pub(super) fn cancel(&self, process: i32, key: &[u8]) {
        if let Some(session) = self.sessions.lock().get(&process)
            && session.key.to_be_bytes() == *key
        {
            session.statement.cancel();
        }
    }
}

impl Place {
    /// A statement begins; what is cancelled from now on is this one.
    pub(super) fn statement(&self) -> CancellationToken {
        let token = CancellationToken::new();
        if let Some(session) = self.cancels.sessions.lock().get_mut(&self.process) {
            session.statement = token.clone();
        }
        token
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.cancels.sessions.lock().remove(&self.process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_cancels_and_only_the_statement_that_runs() {
        let cancels = Arc::new(Cancels::default());
        let (one, other) = (cancels.place().unwrap(), cancels.place().unwrap());
        let first = one.statement();
        cancels.cancel(one.process, &(one.key.wrapping_add(1)).to_be_bytes());
        cancels.cancel(other.process, &other.key.to_be_bytes());
        cancels.cancel(other.process + 1, &other.key.to_be_bytes());
        assert!(!first.is_cancelled());
        cancels.cancel(one.process, &one.key.to_be_bytes());
        let second = one.statement();
        assert!(first.is_cancelled() && !second.is_cancelled());
        let (process, key) = (one.process, one.key);
        drop(one);
        cancels.cancel(process, &key.to_be_bytes());
        assert!(!second.is_cancelled());
    }
}
