//! The memory of questions: counted of each, of each user's together, and of all, with a bound on each.
//!
//! Operators of DataFusion ask before they take some, and give it back. What streams through them is not counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use parking_lot::Mutex;

use crate::error::QueryError;

/// Whose memory has a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryOf {
    /// One question, by what it has set.
    Question,
    /// All questions of a user.
    User,
    /// All questions.
    All,
}

/// Memory that is counted together.
#[derive(Debug)]
pub(crate) struct Account {
    of: MemoryOf,
    bytes_max: AtomicUsize,
    bytes: AtomicUsize,
    peak: AtomicUsize,
}

impl Account {
    pub(crate) fn new(of: MemoryOf, bytes_max: usize) -> Arc<Self> {
        let bytes_max = AtomicUsize::new(bytes_max);
        Arc::new(Account { of, bytes_max, bytes: AtomicUsize::new(0), peak: AtomicUsize::new(0) })
    }

    fn grow(&self, more: usize) {
        let bytes = self.bytes.fetch_add(more, Ordering::Relaxed) + more;
        self.peak.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Takes so many bytes, or none.
    fn try_grow(&self, more: usize) -> bool {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let within = |bytes: usize| bytes.checked_add(more).filter(|bytes| *bytes <= bytes_max);
        let before = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        before.inspect(|before| _ = self.peak.fetch_max(before + more, Ordering::Relaxed)).is_ok()
    }

    fn shrink(&self, less: usize) {
        self.bytes.fetch_sub(less, Ordering::Relaxed);
    }
}

/// The accounts that what is taken is counted in, the narrowest first.
#[derive(Debug)]
pub(crate) struct Pool {
    accounts: Vec<Arc<Account>>,
    /// The bound that was met last.
    met: Mutex<Option<(MemoryOf, usize)>>,
}

impl Pool {
    pub(crate) fn new(accounts: Vec<Arc<Account>>) -> Arc<Self> {
        Arc::new(Pool { accounts, met: Mutex::default() })
    }

    /// Bounds the narrowest account.
    pub(crate) fn bound(&self, bytes_max: usize) {
        self.accounts[0].bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// The most that was taken at a time.
    pub(crate) fn peak(&self) -> usize {
        self.accounts[0].peak.load(Ordering::Relaxed)
    }

    /// Says of an error of too little memory which bound it was.
    pub(crate) fn explain(&self, error: QueryError) -> QueryError {
        match (error, *self.met.lock()) {
            (QueryError::Memory { .. }, Some((of, bytes_max))) => QueryError::Memory { bytes_max, of },
            (error, _) => error,
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl MemoryPool for Pool {
    fn name(&self) -> &str {
        "questions"
    }

    fn grow(&self, _: &MemoryReservation, more: usize) {
        self.accounts.iter().for_each(|account| account.grow(more));
    }

    fn shrink(&self, _: &MemoryReservation, less: usize) {
        self.accounts.iter().for_each(|account| account.shrink(less));
    }

    fn try_grow(&self, _: &MemoryReservation, more: usize) -> Result<()> {
        for (place, account) in self.accounts.iter().enumerate() {
            if !account.try_grow(more) {
                self.accounts[..place].iter().for_each(|account| account.shrink(more));
                let bytes_max = account.bytes_max.load(Ordering::Relaxed);
                *self.met.lock() = Some((account.of, bytes_max));
                // Operators know this error, and some then go on with less.
                return Err(DataFusionError::ResourcesExhausted(format!("{more} bytes more are beyond {bytes_max}")));
            }
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.accounts[0].bytes.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        let bounds = self.accounts.iter().map(|account| account.bytes_max.load(Ordering::Relaxed));
        MemoryLimit::Finite(bounds.min().unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::MemoryConsumer;

    use super::*;

    #[test]
    fn the_bound_that_is_met_is_named_and_the_others_are_left_as_they_were() {
        let all = Account::new(MemoryOf::All, 100);
        let user = Account::new(MemoryOf::User, 80);
        let question =
            |bytes_max| Pool::new(vec![Account::new(MemoryOf::Question, bytes_max), user.clone(), all.clone()]);
        let (one, two) = (question(50), question(usize::MAX));
        let reservation =
            |pool: &Arc<Pool>| MemoryConsumer::new("test").register(&(pool.clone() as Arc<dyn MemoryPool>));
        let (first, second) = (reservation(&one), reservation(&two));
        let met = |pool: &Pool| match pool.explain(QueryError::Memory { bytes_max: 0, of: MemoryOf::All }) {
            QueryError::Memory { bytes_max, of } => (of, bytes_max),
            other => panic!("{other}"),
        };
        first.try_grow(50).unwrap();
        assert!(first.try_grow(1).is_err());
        assert_eq!((met(&one), one.reserved(), user.bytes.load(Ordering::Relaxed)), ((MemoryOf::Question, 50), 50, 50));
        assert!(second.try_grow(31).is_err());
        assert_eq!((met(&two), two.reserved(), all.bytes.load(Ordering::Relaxed)), ((MemoryOf::User, 80), 0, 50));
        let third = Pool::new(vec![Account::new(MemoryOf::Question, usize::MAX), all.clone()]);
        let other = reservation(&third);
        assert!(other.try_grow(51).is_err());
        assert_eq!(met(&third), (MemoryOf::All, 100));
        drop(first);
        other.try_grow(100).unwrap();
        assert_eq!((third.peak(), one.peak(), one.reserved()), (100, 50, 0));
    }
}
