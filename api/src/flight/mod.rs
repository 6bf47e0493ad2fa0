//! Arrow Flight SQL, for clients that take Arrow as it is, such as ADBC.
//!
//! ```text
//!  accept ─▶ TLS? ─▶ HTTP/2 ─▶ access (password, token) ─▶ service ─┬─ what a statement answers ─▶ a ticket
//!                                                                   └─ a ticket ─▶ QueryEngine ─▶ batches ─▶ out
//!                              the call ends, cancel ──▶ the question is dropped, in ClickHouse too ◀──┘
//! ```
//!
//! It is one more way to ask what `POST /api/v1/sql` is asked; answers are those of the same engine. Events are not taken
//! here, and there are no transactions.
//!
//! # Invariants
//!
//! 1. Nothing is kept between calls: a ticket and a handle of a prepared statement are the statement itself, with its
//!    values, and work after a restart.
//! 2. The answer begins when its ticket is redeemed, with one snapshot.
//! 3. Nothing is buffered whole: batches go out as they come, and a client that does not read holds them back, for as
//!    long as a question may take.
//! 4. No call is heeded before its caller has shown the password, if there is one.
//!
//! # Layout
//!
//! - `server`: connections, from accept to the end; `connection`: one of them; `tls`; `access`: who may call.
//! - `service`: the calls; `handle`: what tickets and handles hold.
//! - `statement`: what a statement answers, and its values; `answer`: batches on their way; `questions`: who may cancel
//!   what.
//! - `catalog`: schemas and tables; `capabilities`: what is offered, and the types of SQL.
//! - `error`: errors with their codes of gRPC.

mod access;
mod answer;
mod capabilities;
mod catalog;
mod connection;
mod error;
mod handle;
mod questions;
mod server;
mod service;
mod statement;
mod tls;

pub(crate) use access::Access;
pub(crate) use server::{Server, Settings};
pub(crate) use tls::Identity;
