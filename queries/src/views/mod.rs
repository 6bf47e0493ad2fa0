//! Views: from an analyst's statement to a definition, and to a program that computes it.
//!
//! ```text
//!  CREATE MATERIALIZED VIEW … AS SELECT …
//!     └▶ statement ─▶ shape ─▶ analysis ─▶ plan ─┬▶ definition   what is stored
//!                     (is it a    (by DataFusion) ├▶ program      what the engine runs on every batch
//!                     plain one?)                 └▶ reading      from finished groups to the rows of the view
//! ```
//!
//! Deliberately absent: ClickHouse. All but `manage` is pure.
//!
//! # Layout
//!
//! - [`statement`]: the statements about views; `options`: what `WITH (…)` says.
//! - `tables`: what a statement may be over.
//! - `shape`: which `SELECT`s can be maintained, by their text; `analysis`: such a `SELECT` as DataFusion understands it.
//! - `expression`: the one way in which expressions are written out, and their types; `bucket`: which one is the time bucket.
//! - `aggregates`: calls of aggregates as folds and results.
//! - [`plan`]: all of that together; `planner`: again, of what is stored.
//! - `reading`: from finished groups to rows.
//! - `program`: what is computed of a batch, by `level` and `evaluate` (expressions) and `keys` (dimension values).
//! - `manage`: the statements, carried out; `backfills`: how far they are.
//! - [`error`].

mod aggregates;
mod analysis;
mod backfills;
mod bucket;
pub mod error;
mod evaluate;
mod expression;
mod keys;
mod level;
mod manage;
mod options;
pub mod plan;
mod planner;
mod program;
mod reading;
mod shape;
pub mod statement;
mod tables;
#[cfg(test)]
mod tests;

pub use backfills::{BackfillProgress, Backfills};
pub use error::ViewError;
pub(crate) use expression::{check_pure, coerced, conjuncts};
pub(crate) use manage::{Management, said};
pub use options::GivenOptions;
pub(crate) use options::text_of;
pub use plan::{Planned, plan_view, program_of};
pub(crate) use planner::Readings;
pub use planner::ViewPlanner;
pub use reading::Reading;
pub(crate) use reading::{results_base, without_nulls};
pub use statement::ViewStatement;
pub use tables::{StreamTable, Tables};
