//! The schema `system`: what the program is doing, as tables, so that whoever asks SQL can watch it with the same tools.
//!
//! A table is made of what is so at the moment that a statement names it; there is no snapshot of it, and no history.
//!
//! # Layout
//!
//! - [`Program`]: what only the program knows.
//! - `columns`: the tables and their columns; `rows`: what is in them.
//! - `cancel`: the functions that end a question.

pub(crate) mod cancel;
mod columns;
mod rows;

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result;
use streamgauge_engine::Engine;
use streamgauge_schemas::{Epoch, EventTime};

use crate::activity::Activity;
use crate::postgres::sheet::Sheet;
use crate::views::Backfills;
use columns::TABLES;

/// The schema's name.
pub(crate) const SYSTEM: &str = "system";

/// What the program knows, and questions do not; whoever composes the program implements it.
pub trait Program: Send + Sync + 'static {
    /// How the flushing of each item goes.
    fn flushes(&self) -> Vec<FlushItem>;
    /// The settings of the program.
    fn settings(&self) -> Vec<Setting>;
}

/// How the flushing of an item goes.
#[derive(Clone, Debug, Default)]
pub struct FlushItem {
    /// `catalog`, or `stream/…` or `view/…` with a number or the name of what is built in.
    pub item: String,
    /// ClickHouse has everything up to this epoch.
    pub flushed: Epoch,
    /// Flushes that succeeded since the start, and the rows that they wrote.
    pub flushes_total: u64,
    /// See `flushes_total`.
    pub rows_total: u64,
    /// When the last flush with rows was done, how many, and how long it took in milliseconds.
    pub last: Option<(EventTime, u64, f64)>,
    /// Attempts that failed since the start, and when the last one did.
    pub failures_total: u64,
    /// See `failures_total`.
    pub failed_at: Option<EventTime>,
    /// Why the last attempt failed; nothing after a success.
    pub error: Option<String>,
}

/// A setting of the program.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// Its name in the file.
    pub name: String,
    /// Its value; nothing when it is not set and has no default.
    pub value: Option<String>,
    /// Its default.
    pub default: Option<String>,
    /// `flag`, `env`, `file` or `default`.
    pub source: &'static str,
    /// Its flag and its variable.
    pub flag: String,
    /// See `flag`.
    pub variable: String,
    /// What it is for.
    pub description: String,
}

/// What the tables are made of.
pub(crate) struct System {
    pub(crate) engine: Engine,
    pub(crate) activity: Arc<Activity>,
    program: OnceLock<Arc<dyn Program>>,
}

impl System {
    pub(crate) fn new(engine: Engine) -> Self {
        System { engine, activity: Arc::default(), program: OnceLock::new() }
    }

    /// From now on, what the program knows is shown; the first one stays.
    pub(crate) fn know(&self, program: Arc<dyn Program>) {
        let _ = self.program.set(program);
    }
}

/// The names of the tables.
pub(crate) fn table_names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|(name, _)| *name)
}

/// The tables with their columns.
pub(crate) fn schemas() -> impl Iterator<Item = (&'static str, arrow::datatypes::SchemaRef)> {
    TABLES.iter().map(|(name, columns)| (*name, Sheet::new(columns).schema()))
}

/// The schema, for one statement.
#[derive(Clone)]
pub(crate) struct SystemSchema {
    pub(crate) system: Arc<System>,
    pub(crate) backfills: Arc<Backfills>,
}

impl fmt::Debug for SystemSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemSchema")
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        table_names().map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some((_, columns)) = TABLES.iter().find(|(known, _)| *known == name) else { return Ok(None) };
        let mut sheet = Sheet::new(columns);
        match name {
            "streams" => rows::streams(&mut sheet, &self.system),
            "views" => rows::views(&mut sheet, &self.system, &self.backfills),
            "flushes" => rows::flushes(&mut sheet, &self.system),
            "epochs" => rows::epochs(&mut sheet, &self.system),
            "queries" => rows::queries(&mut sheet, &self.system),
            _ => rows::settings(&mut sheet, &self.system),
        }
        sheet.table().map(Some)
    }

    fn table_exist(&self, name: &str) -> bool {
        table_names().any(|known| known == name)
    }
}
