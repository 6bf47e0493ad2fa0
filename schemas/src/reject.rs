//! A reject: an event that was not accepted, with its position and reason.

use serde::{Deserialize, Serialize};

/// An event of a request that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// The position of the event among the events of its request, from 0.
    pub index: u64,
    /// What was wrong with it, and where.
    pub reason: String,
}
