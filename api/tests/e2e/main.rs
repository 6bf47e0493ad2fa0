//! End to end: the real program with its embedded ClickHouse, as its users meet it.
//!
//! # Layout
//!
//! - `forms`: events in every form, and every form of a time.
//! - `streams`: streams of the user's own.
//! - `refusals`: what is refused, and how it is said; `extremes`: events at the edges of time, number and size.
//! - `requests`: requests with a name, sent again; `disk`: a log disk that is full or fails.
//! - `dataset`: events with a plain recomputation to compare with; `questions`: what is asked about them.
//! - `reading`: SQL, the data endpoint, and ClickHouse itself, while data moves from memory to history.
//! - `formats`: every form of an answer; `shell`: `streamgauge sql`, in a terminal and for programs.
//! - `live`: the WebSocket; `live_views`: views over it.
//! - `fixtures`: data folders of earlier versions.
//! - `partial`: a ClickHouse that hangs or fails to read, and questions that wait for an epoch.
//! - `aside`: what ClickHouse refuses.
//! - `rejects`: events that were not accepted, listed and sent again.
//! - `psql`: psql, browsing and asking; `postgres`: the same protocol with another client, and its bounds.
//! - `protocol`: its messages, byte by byte.
//! - `system`: the tables of schema `system`; `limits`: bounds of questions, and how one is ended; `read_only`: what cannot be done.
//! - `flight`: Arrow Flight SQL, and its bounds; `python`: clients of Python, over it and over PostgreSQL's protocol.
//! - `recent`: what is answered without ClickHouse.
//! - `restart`: SIGTERM, SIGKILL, and a ClickHouse that dies.
//! - `views`: views of the user's own; `full_views`: one at its bound of memory.
//! - `surface`: health, the program's own metrics, the description of the interface, the page.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../support/mod.rs"]
mod support;

mod aside;
mod backfills;
mod dataset;
mod disk;
mod extremes;
mod fixtures;
mod flight;
mod formats;
mod forms;
mod full_views;
mod limits;
mod live;
mod live_views;
mod partial;
mod postgres;
mod protocol;
mod psql;
mod python;
mod questions;
mod read_only;
mod reading;
mod recent;
mod refusals;
mod rejects;
mod requests;
mod restart;
mod shell;
mod streams;
mod surface;
mod system;
mod views;
