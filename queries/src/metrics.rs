//! Which metrics there are, and the dimensions of each: from the engine's registry, which knows every series.

use std::collections::{BTreeMap, BTreeSet};

use streamgauge_engine::MetricSummary;

use crate::error::QueryError;
use crate::session::QueryEngine;

/// The dimensions of a metric with their values, sorted.
pub type MetricDimensions = BTreeMap<String, BTreeSet<String>>;

impl QueryEngine {
    /// Metrics whose name begins with `prefix`, by name, at most `limit`.
    #[must_use]
    pub fn metrics(&self, prefix: &str, limit: usize) -> Vec<MetricSummary> {
        self.engine().series().metrics(prefix, limit)
    }

    /// The dimensions of a metric, at most `values_max` values of each.
    ///
    /// # Errors
    /// [`QueryError::UnknownMetric`].
    pub fn dimensions(&self, metric: &str, values_max: usize) -> Result<MetricDimensions, QueryError> {
        let known = self.engine().series().dimensions(metric, values_max);
        known.ok_or_else(|| QueryError::UnknownMetric { name: metric.to_owned() })
    }
}
