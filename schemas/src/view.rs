//! Views: maintained rollups over a stream, and the pace at which each is flushed and forgotten.

use crate::{Duration, Epoch, EventTime};

/// A rollup of the stream `metrics` into buckets of one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewDefinition {
    /// The table's name, such as `metrics_1m`.
    pub name: String,
    /// The length of a bucket.
    pub bucket: Duration,
    /// How often changed rows are written to ClickHouse.
    pub flush_interval: Duration,
    /// `K`: a row that was not changed for this long is final.
    pub idle: Duration,
}

impl ViewDefinition {
    /// The lower bound of the bucket that holds `time`.
    #[must_use]
    pub fn bucket_of(&self, time: EventTime) -> EventTime {
        time.floor(self.bucket)
    }

    /// The horizon `H = F − K` for a flushed epoch `F`.
    #[must_use]
    pub fn horizon(&self, flushed: Epoch) -> Epoch {
        flushed.minus(self.idle.as_micros() as u64)
    }

    /// The ClickHouse table that keeps this view's states; the finished view has the plain name.
    #[must_use]
    pub fn states_table(&self) -> String {
        format!("{}_states", self.name)
    }
}

/// The four built-in rollups of `metrics`, finest first; each is fed from the one before.
///
/// Fine buckets are flushed often and forgotten soon, since there are many of them; coarse ones are few.
#[must_use]
pub fn built_in_rollups() -> Vec<ViewDefinition> {
    let rollup = |name: &str, bucket: i64, flush: i64, idle: i64| ViewDefinition {
        name: name.to_owned(),
        bucket: Duration::from_secs(bucket),
        flush_interval: Duration::from_secs(flush),
        idle: Duration::from_secs(idle),
    };
    vec![
        rollup("metrics_1s", 1, 1, 5),
        rollup("metrics_1m", 60, 2, 60),
        rollup("metrics_1h", 3_600, 5, 300),
        rollup("metrics_1d", 86_400, 10, 600),
    ]
}
