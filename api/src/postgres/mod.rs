//! The protocol of PostgreSQL, so that psql, BI tools and notebooks ask SQL without anything of ours installed.
//!
//! ```text
//!  accept ─▶ begin: TLS? cancel? password ─▶ reader (messages, bounded) ─▶ session ─▶ QueryEngine ─▶ rows ─▶ out
//!                                                       │ end of the connection, cancel ──▶ the question is dropped,
//!                                                       ▼                                   in ClickHouse too
//! ```
//!
//! It is one more way to ask what `POST /api/v1/sql` is asked; answers are those of the same engine. What PostgreSQL's
//! clients read to browse is in `streamgauge_queries::postgres`.
//!
//! # Invariants
//!
//! 1. Nothing is buffered whole: rows are written as they come, and a client that does not read holds them back.
//! 2. Every message, statement, portal and connection is bounded; beyond a bound the client is told which.
//! 3. A question ends when its client is gone, cancels it, or lets a portal wait longer than a question may take.
//! 4. What is written to a client is whole messages, also when a statement is cancelled in the middle of its rows.
//!
//! # Layout
//!
//! - `server`: connections, from accept to the end; `begin`: what comes before a session; `scram`: passwords; `tls`.
//! - `connection`: messages from and to a client; `message`: their bytes.
//! - `session`: what a client says, in turn; `extended`: statements in steps; `commands`: about the session itself;
//!   `own`: what its questions know of it; `settings`: what it has set.
//! - `text`: where statements end; `command`: which is which; `copy`: `COPY … TO STDOUT`.
//! - `rows`: rows on their way; `value`: values on their way; `parameter`: values for a question.
//! - `error`: errors with their SQLSTATE; `cancel`: who may cancel what.

mod begin;
mod cancel;
mod command;
mod commands;
mod connection;
mod copy;
mod error;
mod extended;
mod message;
mod own;
mod parameter;
mod rows;
mod scram;
mod server;
mod session;
mod settings;
mod text;
mod tls;
mod value;

pub(crate) use scram::Secret;
pub(crate) use server::Server;
pub(crate) use text::{Word, words};
pub(crate) use tls::{Identity, tls_config};
