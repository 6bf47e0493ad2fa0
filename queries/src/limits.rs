//! The bounds on a question. At each of them the answer is an error that names it.

use std::time::Duration;

/// What one question may cost, and how many may run.
#[derive(Clone, Debug)]
pub struct QueryLimits {
    /// The time from its start to its last row.
    pub time_max: Duration,
    /// The memory that all running SQL statements may use together for sorts, joins and groups.
    pub memory_bytes_max: usize,
    /// Of it, what those of one user may use.
    pub user_memory_bytes_max: usize,
    /// The rows of an answer to a SQL statement, in any form; one that has more ends with an error.
    pub rows_max: Option<usize>,
    /// The rows of a JSON answer; more are cut off, and the answer says so.
    pub json_rows_max: usize,
    /// The bytes of a JSON answer, about; more rows are cut off, and the answer says so.
    pub json_bytes_max: usize,
    /// Questions that run at a time.
    pub concurrent_max: usize,
    /// Of them, those of one user.
    pub user_concurrent_max: usize,
    /// How long a question waits for its turn before it is refused.
    pub wait_max: Duration,
    /// How long a question waits for the epoch that it names; never longer than [`QueryLimits::time_max`].
    pub epoch_wait_max: Duration,
    /// The memory for answers of ClickHouse that would be the same again; 0 for none.
    pub cache_bytes_max: usize,
    /// Points of all series of one answer.
    pub points_max: usize,
    /// Series of one answer.
    pub series_max: usize,
    /// Changes that wait for a live follower; one that falls further behind has to begin again.
    pub follow_queue_max: usize,
    /// Groups that a follower of a view may hold.
    pub follow_groups_max: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        QueryLimits {
            time_max: Duration::from_secs(60),
            memory_bytes_max: 1 << 30,
            user_memory_bytes_max: QueryLimits::share(1 << 30),
            rows_max: None,
            json_rows_max: 100_000,
            json_bytes_max: 64 << 20,
            concurrent_max: 16,
            user_concurrent_max: QueryLimits::share(16),
            wait_max: Duration::from_secs(5),
            epoch_wait_max: Duration::from_secs(5),
            cache_bytes_max: 0,
            points_max: 1_000_000,
            series_max: 10_000,
            follow_queue_max: 4_096,
            follow_groups_max: 100_000,
        }
    }
}

impl QueryLimits {
    /// What one user may take of `all` when nobody says otherwise: three quarters, so that something is left for others.
    #[must_use]
    pub const fn share(all: usize) -> usize {
        all - all / 4
    }
}
