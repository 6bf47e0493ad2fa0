//! `combine(column)`: coarser questions over a view. It merges what the view keeps behind a column, over the rows of a
//! group, and says what the view would have said of these rows as one group.
//!
//! ```text
//!  plan of the question                                   rewritten plan
//!
//!  Aggregate: hour, combine(p99), combine(users)          Projection: hour, s.0 AS "combine(p99)", s.1 AS …
//!                                                           Aggregate: hour, merge(state columns) AS s
//!    … filters, joins, aliases, subqueries …       ─▶         … the same, with the state columns carried through …
//!      TableScan: v                                             TableScan: v, with the states of the folds that are needed
//! ```
//!
//! The question is planned first, so names mean what they mean elsewhere, and `*` knows no state. All calls over one table
//! with one `FILTER` are one aggregate: a sketch with five quantiles is read and merged once.
//!
//! # Invariants
//!
//! 1. A rewritten aggregate has the columns of the one before, by name and type, so nothing above it changes.
//! 2. A state column has a name that no other column of the statement has.
//! 3. The memory pool is told what all merged states hold. Besides these, few rows of a batch are decoded at a time.
//! 4. Of no rows, the answer is that of no events.
//!
//! # Layout
//!
//! - `call`: the function, as it stands in a question.
//! - `source`: which view's column an argument is, and how its states come up to the aggregate.
//! - `rewrite`: one plan into the other.
//! - `merge`: the aggregate that runs.

mod call;
mod merge;
mod rewrite;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use call::{NAME, function};
pub(crate) use merge::merges_states;
pub(crate) use rewrite::rewritten;
