//! Waiting until an epoch is visible to questions: the engine tells when it is, and a bound ends the wait.
//!
//! A producer that asks right after its acknowledgement does not wait at all.

use streamgauge_engine::Engine;
use streamgauge_schemas::Epoch;
use tokio::time::Instant;

use crate::error::QueryError;
use crate::limits::QueryLimits;

/// Returns as soon as a snapshot taken from now on includes `wanted`.
///
/// # Errors
/// [`QueryError::EpochNotReached`] after [`QueryLimits::epoch_wait_max`], or the time limit of a question if that is less.
pub(crate) async fn until_visible(
    engine: &Engine,
    wanted: Option<Epoch>,
    limits: &QueryLimits,
) -> Result<(), QueryError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let started = Instant::now();
    let reached = tokio::time::timeout(limits.epoch_wait_max.min(limits.time_max), engine.reached(wanted)).await;
    reached.map_err(|_| {
        let newest = engine.status().epoch;
        QueryError::EpochNotReached { wanted, newest, waited: started.elapsed() }
    })
}
