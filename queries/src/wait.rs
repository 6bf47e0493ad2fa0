//! Waiting until an epoch is visible to questions.
//!
//! The engine's newest epoch moves on by itself several times a second, also when nobody sends anything, so looking
//! now and then finds it soon. A producer that asks right after its acknowledgement does not wait at all.

use std::time::Duration;

use streamgauge_engine::Engine;
use streamgauge_schemas::Epoch;
use tokio::time::Instant;

use crate::error::QueryError;
use crate::limits::QueryLimits;

const PAUSE_FIRST: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(20);

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
    let wait_max = limits.epoch_wait_max.min(limits.time_max);
    let (started, mut pause) = (Instant::now(), PAUSE_FIRST);
    loop {
        let newest = engine.status().epoch;
        if newest >= wanted {
            return Ok(());
        }
        let waited = started.elapsed();
        if waited >= wait_max {
            return Err(QueryError::EpochNotReached { wanted, newest, waited });
        }
        tokio::time::sleep(pause.min(wait_max - waited)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
