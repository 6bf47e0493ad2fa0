//! Sketches: parts of a state that answer about many values from little memory, and merge.
//!
//! Three of them, each for one kind of aggregate. All are bounded, use no clock and no randomness, and compute with
//! integers, comparisons and the basic operations of IEEE 754 only, so the same events give the same sketch everywhere.
//!
//! # Layout
//!
//! - [`quantiles`]: quantiles within 1 % of the value; a DDSketch.
//! - [`distinct`]: the number of distinct values; exact, then a HyperLogLog.
//! - [`top`]: the most frequent texts; Space-Saving.
//! - `codec`: what their encodings share.
//!
//! # Laws
//!
//! 1. For [`Quantiles`] and [`Distinct`] a sketch depends on the set of what was added only: any order of adding and any
//!    tree of merges give equal sketches, and equal sketches give equal bytes. Nothing collapses, and no form changes,
//!    because of how the values came.
//! 2. For [`Top`] the bounds of its answer hold for any order and tree; which of the rare texts are kept depends on it.
//! 3. Decoding accepts any bytes: it answers a sketch within the bounds, or an error.

mod codec;
pub mod distinct;
pub mod quantiles;
#[cfg(test)]
mod tests;
pub mod top;

pub use distinct::Distinct;
pub use quantiles::Quantiles;
pub use top::Top;

use smallvec::SmallVec;

/// Sorted numbers, three of them without an allocation: most sketches of a fine view are that small.
type SmallSorted = SmallVec<[u64; 3]>;

/// The bytes that sorted numbers hold outside of themselves.
fn spilled_bytes(numbers: &SmallSorted) -> usize {
    if numbers.spilled() { numbers.capacity() * size_of::<u64>() } else { 0 }
}
