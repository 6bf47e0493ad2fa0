//! Turns: how many questions run at a time, of a user and in all, and how much memory they share.
//!
//! A question waits for a turn of its user first, so that those of one user who wait take no turn from others. Questions
//! about the system itself have turns of their own: whoever wants to see what keeps it busy must get an answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::error::QueryError;
use crate::limits::QueryLimits;
use crate::memory::{Account, MemoryOf, Pool};

/// Questions about the system that run at a time.
const SYSTEM_MAX: usize = 4;
/// With more users than this, those who ask nothing are forgotten.
const USERS_MAX: usize = 1_000;

/// See the module.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    system: Arc<Semaphore>,
    users: Mutex<HashMap<Arc<str>, Arc<User>>>,
    memory: Arc<Account>,
    limits: QueryLimits,
}

/// What the questions of one user share.
pub(crate) struct User {
    turns: Arc<Semaphore>,
    memory: Arc<Account>,
}

/// The right to run, and until when.
pub(crate) struct Turn {
    _permits: Vec<OwnedSemaphorePermit>,
    pub(crate) deadline: Instant,
}

impl Turns {
    pub(crate) fn new(limits: &QueryLimits) -> Self {
        Turns {
            all: Arc::new(Semaphore::new(limits.concurrent_max)),
            system: Arc::new(Semaphore::new(SYSTEM_MAX)),
            users: Mutex::default(),
            memory: Account::new(MemoryOf::All, limits.memory_bytes_max),
            limits: limits.clone(),
        }
    }

    /// The memory of all questions, for what is no question of a user.
    pub(crate) fn memory(&self) -> Arc<Pool> {
        Pool::new(vec![self.memory.clone()])
    }

    /// What the questions of a user share.
    pub(crate) fn user(&self, name: &Arc<str>) -> Arc<User> {
        let mut users = self.users.lock();
        if users.len() >= USERS_MAX && !users.contains_key(name) {
            users.retain(|_, user| Arc::strong_count(user) > 1);
        }
        let user = || User {
            turns: Arc::new(Semaphore::new(self.limits.user_concurrent_max)),
            memory: Account::new(MemoryOf::User, self.limits.user_memory_bytes_max),
        };
        users.entry(name.clone()).or_insert_with(|| Arc::new(user())).clone()
    }

    /// The memory of a question of a user.
    pub(crate) fn question_memory(&self, user: &User) -> Arc<Pool> {
        let question = Account::new(MemoryOf::Question, usize::MAX);
        Pool::new(vec![question, user.memory.clone(), self.memory.clone()])
    }

    /// Waits for the right to run for `time_max`.
    pub(crate) async fn take(&self, name: &str, user: &User, time_max: Duration) -> Result<Turn, QueryError> {
        let until = Instant::now() + self.limits.wait_max;
        let running = self.limits.user_concurrent_max;
        let own = QueryError::UserBusy { user: name.to_owned(), running };
        let permits = vec![
            permit(&user.turns, until, own).await?,
            permit(&self.all, until, QueryError::Busy { running: self.limits.concurrent_max }).await?,
        ];
        Ok(Turn { _permits: permits, deadline: Instant::now() + time_max })
    }

    /// The same for a question about the system.
    pub(crate) async fn take_system(&self, time_max: Duration) -> Result<Turn, QueryError> {
        let until = Instant::now() + self.limits.wait_max;
        let permits = vec![permit(&self.system, until, QueryError::Busy { running: SYSTEM_MAX }).await?];
        Ok(Turn { _permits: permits, deadline: Instant::now() + time_max })
    }
}

async fn permit(turns: &Arc<Semaphore>, until: Instant, busy: QueryError) -> Result<OwnedSemaphorePermit, QueryError> {
    match timeout_at(until, turns.clone().acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => Err(busy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(all: usize, one: usize) -> Turns {
        let wait_max = Duration::from_millis(20);
        Turns::new(&QueryLimits { concurrent_max: all, user_concurrent_max: one, wait_max, ..QueryLimits::default() })
    }

    #[tokio::test]
    async fn a_user_takes_no_more_than_his_turns() {
        let turns = turns(3, 2);
        let (one, other) = (turns.user(&"one".into()), turns.user(&"other".into()));
        let time = Duration::from_secs(1);
        let mut held = Vec::new();
        for user in [&one, &one, &other] {
            held.push(turns.take("x", user, time).await.unwrap());
        }
        let error = turns.take("one", &one, time).await.err().unwrap();
        assert!(matches!(&error, QueryError::UserBusy { user, running: 2 } if user == "one"), "{error}");
        assert!(matches!(turns.take("other", &other, time).await, Err(QueryError::Busy { running: 3 })));
        assert!(turns.take_system(time).await.is_ok());
        held.pop();
        assert!(matches!(turns.take("one", &one, time).await, Err(QueryError::UserBusy { .. })));
        assert!(turns.take("other", &other, time).await.is_ok(), "who waited in vain holds nothing");
    }

    #[test]
    fn users_who_ask_nothing_are_forgotten_when_there_are_many() {
        let turns = turns(16, 12);
        let asks = turns.user(&"asks".into());
        (0..3 * USERS_MAX).for_each(|user| drop(turns.user(&user.to_string().into())));
        assert!(turns.users.lock().len() <= USERS_MAX);
        assert!(Arc::ptr_eq(&asks, &turns.user(&"asks".into())));
    }
}
