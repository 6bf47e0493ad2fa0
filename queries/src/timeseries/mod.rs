//! Functions for series of events: buckets in time zones, gap filling, counters, first and last values.
//!
//! What one of DataFusion's own functions does is said by it: `time_bucket` without a zone is simplified to `date_bin`, and
//! `first(value, ts)` to `first_value(value ORDER BY ts)`, so views and reads of ClickHouse know both by one name.
//!
//! # Layout
//!
//! - `buckets`: where buckets begin, in local time; it knows no SQL.
//! - `bucket`: `time_bucket`, and `date_bin` with a zone.
//! - `first_last`: `first` and `last`.
//! - `counter`: `rate`, `delta`, `increase` and `resets`; `samples`: what they keep.
//! - `gapfill`: `time_bucket_gapfill`, `locf` and `interpolate`, by a rewriting of the plan.

mod bucket;
mod buckets;
mod counter;
mod first_last;
mod gapfill;
mod samples;

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};

pub(crate) use first_last::in_order_of_time;
pub(crate) use gapfill::fills_gaps;
pub use gapfill::rewritten;

/// A session in the making with what plans of [`rewritten`] need to run.
#[must_use]
pub fn with_planner(builder: SessionStateBuilder) -> SessionStateBuilder {
    builder.with_query_planner(gapfill::query_planner())
}

/// Adds the functions to a session.
///
/// # Errors
/// When the session takes no functions.
pub fn register(state: &mut SessionState) -> Result<()> {
    register_plain(state)?;
    for function in gapfill::functions() {
        state.register_udf(function)?;
    }
    Ok(())
}

/// Adds those that a view may use: all but gap filling, which makes rows of no events.
pub(crate) fn register_plain(state: &mut SessionState) -> Result<()> {
    for function in bucket::functions() {
        state.register_udf(function)?;
    }
    for function in first_last::functions().into_iter().chain(counter::functions()) {
        state.register_udaf(function)?;
    }
    Ok(())
}
