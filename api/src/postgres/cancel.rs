//! Who may cancel what: a client that knows the key of a session, over a connection of its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use streamgauge_queries::SessionNumber;
use tokio_util::sync::CancellationToken;

use super::scram::random;

/// The sessions that there are, by the number and key that their clients were told.
#[derive(Default)]
pub(super) struct Cancels {
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    /// How many there were.
    count: u32,
    open: HashMap<i32, Session>,
}

struct Session {
    key: i32,
    /// The statement that runs.
    statement: CancellationToken,
}

/// A session's place among them, given back when dropped.
pub(super) struct Place {
    cancels: Arc<Cancels>,
    pub(super) number: SessionNumber,
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
        let key = i32::from_be_bytes(key);
        let mut sessions = self.sessions.lock();
        // Numbers begin again some day, and there are many more of them than connections.
        let number = loop {
            let number = SessionNumber::nth(sessions.count);
            sessions.count = sessions.count.wrapping_add(1);
            if let Entry::Vacant(place) = sessions.open.entry(number.get()) {
                place.insert(Session { key, statement: CancellationToken::new() });
                break number;
            }
        };
        drop(sessions);
        Ok(Place { cancels: self.clone(), number, key })
    }

    /// Cancels what a session runs now, if the key is its own.
    pub(super) fn cancel(&self, process: i32, key: &[u8]) {
        if let Some(session) = self.sessions.lock().open.get(&process)
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
        if let Some(session) = self.cancels.sessions.lock().open.get_mut(&self.number.get()) {
            session.statement = token.clone();
        }
        token
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.cancels.sessions.lock().open.remove(&self.number.get());
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
        cancels.cancel(one.number.get(), &(one.key.wrapping_add(1)).to_be_bytes());
        cancels.cancel(other.number.get(), &other.key.to_be_bytes());
        cancels.cancel(other.number.get() + 1, &other.key.to_be_bytes());
        assert!(!first.is_cancelled());
        cancels.cancel(one.number.get(), &one.key.to_be_bytes());
        let second = one.statement();
        assert!(first.is_cancelled() && !second.is_cancelled());
        let (process, key) = (one.number.get(), one.key);
        drop(one);
        cancels.cancel(process, &key.to_be_bytes());
        assert!(!second.is_cancelled());
    }
}
