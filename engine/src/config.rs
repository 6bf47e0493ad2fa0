//! What can be set about the engine.

use std::path::PathBuf;
use std::sync::Arc;

use streamgauge_schemas::Duration;

use crate::program::Planner;

/// The wall clock in microseconds since 1970; injected, so that tests decide what time it is.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How an engine runs.
#[derive(Clone)]
pub struct EngineConfig {
    /// The folder of the log.
    pub log_dir: PathBuf,
    /// Whether the log is synced before an acknowledgement; `false` loses the promise, and is for measurements only.
    pub log_sync: bool,
    /// The length at which a segment of the log is closed.
    pub log_segment_bytes_max: u64,
    /// Timely workers.
    pub workers: usize,
    /// Makes programs of the definitions of views; without one only plain rollups of `metrics` can be maintained.
    pub planner: Option<Arc<dyn Planner>>,
    /// Whether the built-in rollups are maintained; `false` is for measurements only.
    pub built_in_views: bool,
    /// Events in memory that ClickHouse does not have: at this bound, ingest is pushed back.
    pub pending_bytes_max: usize,
    /// Memory of the views' rows, about: at this bound, ingest is pushed back.
    pub state_bytes_max: usize,
    /// As long as the views' rows take fewer bytes, about, rows that are final stay in memory for questions about recent time
    /// ([`View::recent`](streamgauge_schemas::View::recent)); 0 for none.
    pub recent_bytes_max: usize,
    /// The log on disk: at this bound, ingest is pushed back. At least four segments.
    pub log_bytes_max: u64,
    /// For how long a request that named itself is known, and how many are at most.
    pub idempotency_window: Duration,
    /// See `idempotency_window`.
    pub idempotency_keys_max: usize,
    /// Series in all: at this bound, events of new series are refused.
    pub series_max: usize,
    /// Events of one flush of a stream, about.
    pub flush_rows_max: usize,
    /// The wall clock.
    pub clock: Clock,
}

impl EngineConfig {
    /// The defaults, with the log in `log_dir`.
    pub fn new(log_dir: impl Into<PathBuf>) -> Self {
        EngineConfig {
            log_dir: log_dir.into(),
            log_sync: true,
            log_segment_bytes_max: 64 << 20,
            workers: 1,
            planner: None,
            built_in_views: true,
            pending_bytes_max: 1 << 30,
            state_bytes_max: 2 << 30,
            recent_bytes_max: 0,
            log_bytes_max: 8 << 30,
            idempotency_window: Duration::from_secs(86_400),
            idempotency_keys_max: 1_000_000,
            series_max: 1_000_000,
            flush_rows_max: 1_000_000,
            clock: Arc::new(|| streamgauge_schemas::time::wall_clock().0.max(0) as u64),
        }
    }
}
