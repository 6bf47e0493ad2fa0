//! `time_bucket_gapfill(width, ts [, zone] [, start, finish])` in `GROUP BY`: a row for each bucket of a range, also for those
//! without events; `locf(…)` and `interpolate(…)` in the select list fill what these rows lack.
//!
//! ```text
//!  plan of the question                                      rewritten plan
//!
//!  Projection: t, host, locf(avg(v))                         Projection: t, host, "locf(avg(v))"
//!    Filter: count(*) > 1                  (HAVING)            GapFill: t by host, from … to …, locf
//!      Aggregate: time_bucket_gapfill('1 hour', ts), host        Projection: t, host, avg(v), …, avg(v) AS "locf(avg(v))"
//!        Filter: ts >= … AND ts < …                   ─▶           Filter: count(*) > 1
//!          …                                                         Aggregate: time_bucket('1 hour', ts), host
//! ```
//!
//! The groups come to the node sorted by their other keys and then by time, and are filled one after the other.
//!
//! # What is filled
//!
//! - The range is `[start, finish)` of the call, or what `WHERE` leaves of the time column, or what there is: from the first
//!   bucket of all groups to the last. Rows beyond it stay.
//! - Each group has all buckets of the range. A question without other keys has them also without any event, if the range
//!   is known.
//! - Aggregates of a bucket without events are null, also `count(*)`.
//! - A null that events gave is an answer: it stays, and `locf` carries it on, unless its second argument
//!   (`treat_null_as_missing`) is true; no line is drawn to it.
//!
//! # Invariants
//!
//! 1. No more than [`ROWS_MAX`] rows are made.
//! 2. Columns above the node are those that were there, by name and type; those of aggregates may be null.
//!
//! # Layout
//!
//! - [`call`]: the functions as they stand in a question; [`rewrite`]: one plan into the other; [`range`]: what `WHERE` leaves.
//! - [`node`]: the node of the plan; [`exec`]: as it runs; [`fill`]: the rows of some groups, filled.

mod call;
mod exec;
mod fill;
mod node;
mod range;
mod rewrite;

pub(super) use call::functions;
pub(super) use node::query_planner;
pub(crate) use rewrite::fills_gaps;
pub use rewrite::rewritten;

/// Rows that one statement may make.
const ROWS_MAX: usize = 1_000_000;
