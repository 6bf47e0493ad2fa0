//! What the oracle of views runs in.
//!
//! - [`family`]: views that are fed from each other.
//! - [`store`]: a stand-in for ClickHouse's tables that keeps the rules of horizons.
//! - [`engine`]: an engine over such a store.
//! - [`run`]: one seed, over engines with 1, 2 and 4 workers that see the same.

mod engine;
mod family;
pub(crate) mod run;
mod store;
