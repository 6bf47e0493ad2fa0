//! A view whose memory and history are read apart: where ClickHouse adds its part up, the table gives what memory has and no more.
//!
//! ```text
//!                          ┌─▶ history added up, if it is worth it: then the table is told ─┐
//!  snapshot, with horizon ─┤                                                                ├▶ one aggregate over both
//!                          └─▶ the table: what memory has; of history too if it was not told ┘
//! ```
//!
//! Which of the two it is, is known when the snapshot is taken: the plan is the same.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::TableScan;
use streamgauge_engine::KeyFilter;
use streamgauge_schemas::state::columns::StateColumn;
use streamgauge_schemas::{Epoch, EventTime, View};

use super::groups::GroupsTable;
use super::{Statement, write_conjuncts};
use crate::capture::ViewPlace;
use crate::clickhouse;
use crate::groups::{GroupReader, Shown};
use crate::predicate::Predicate;

/// The width of buckets that have none, such as days in a time zone.
const DAY_US: i64 = 86_400_000_000;

/// What the table of a view and whoever may read its history instead tell each other.
#[derive(Debug, Default)]
pub(crate) struct Seam {
    place: OnceLock<ViewPlace>,
    is_apart: AtomicBool,
}

impl Seam {
    /// The table says what it reads of memory.
    pub(super) fn reads(&self, place: ViewPlace) {
        let _ = self.place.set(place); // one plan is made of a table
    }

    /// Whether from now on the table leaves its history out.
    pub(crate) fn set_apart(&self, is_apart: bool) {
        self.is_apart.store(is_apart, Ordering::Release);
    }

    pub(super) fn is_apart(&self) -> bool {
        self.is_apart.load(Ordering::Acquire)
    }
}

/// A column of a scan.
pub(crate) enum ScanColumn<'a> {
    /// One of the view; `None` for an expression.
    Shown(Option<Shown<'a>>),
    /// One of the states behind it.
    State(StateColumn),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ApartView {
    statement: Statement,
    reader: Arc<GroupReader>,
    states: Vec<StateColumn>,
    /// What the scan's filters leave, by the names of ClickHouse's columns.
    stored: Vec<Predicate>,
    pub(crate) seam: Arc<Seam>,
}

impl ApartView {
    /// Of the scan of a view whose groups are shown as they are; `None` of anything else.
    pub(crate) fn of(scan: &TableScan) -> Option<Self> {
        let table = source_as_provider(&scan.source).ok()?;
        let table = table.downcast_ref::<GroupsTable>()?;
        // A condition is about whole groups, and so is a number of them.
        if table.reader().reading.having.is_some() || scan.fetch.is_some() {
            return None;
        }
        Some(table.read_apart(&scan.filters))
    }

    pub(super) fn new(
        statement: Statement,
        reader: Arc<GroupReader>,
        states: Vec<StateColumn>,
        stored: Vec<Predicate>,
    ) -> Self {
        ApartView { statement, reader, states, stored, seam: Arc::default() }
    }

    /// The same scan, of a table that minds the seam.
    ///
    /// # Errors
    /// When it is the scan of something else.
    pub(crate) fn scan(&self, scan: TableScan) -> Result<TableScan> {
        let table = source_as_provider(&scan.source)?;
        let table = table.downcast_ref::<GroupsTable>();
        let table = table.ok_or_else(|| DataFusionError::Internal("the scan of a view is of its table".into()))?;
        Ok(TableScan { source: provider_as_source(Arc::new(table.apart(self.seam.clone()))), ..scan })
    }

    pub(crate) fn view(&self) -> &View {
        &self.reader.view
    }

    /// What a column of the scan is.
    pub(crate) fn column(&self, scan: &TableScan, place: usize) -> Option<ScanColumn<'_>> {
        let column = scan.projection.as_ref().map_or(Some(place), |columns| columns.get(place).copied())?;
        let listed = self.reader.reading.columns.len();
        match column.checked_sub(listed) {
            None => Some(ScanColumn::Shown(self.reader.shown(column))),
            Some(state) => self.states.get(state).map(|state| ScanColumn::State(*state)),
        }
    }

    /// The name in ClickHouse of a column of the scan that is a dimension or the bucket.
    pub(crate) fn name(&self, scan: &TableScan, place: usize) -> Option<&str> {
        match self.column(scan, place)? {
            ScanColumn::Shown(Some(Shown::Name(name))) => Some(name),
            _ => None,
        }
    }

    /// The most groups that are probably read, at a time; `None` when nothing says how many.
    pub(crate) fn groups_max(&self, now: EventTime) -> Option<i64> {
        let filter = self.reader.row_filter(&self.stored);
        let of_a_bucket = match filter.keys {
            KeyFilter::Only(ids) => ids.len() as i64,
            // Whoever names an entry of the dimensions mostly means one series.
            KeyFilter::NameAnd(_, test) | KeyFilter::Predicate(test) if !test.has.is_empty() => 1,
            _ => return None,
        };
        let Some(bucket) = &self.view().definition.bucket else { return Some(of_a_bucket) };
        let time = filter.upper.unwrap_or(now).0.saturating_sub(filter.lower?.0);
        let buckets = time / bucket.width.map_or(DAY_US, |width| width.as_micros()) + 1;
        Some(of_a_bucket.saturating_mul(buckets))
    }

    /// From what history is selected, up to a horizon: the rows that meet the scan's filters and these conditions.
    pub(crate) fn history_from(&self, horizon: impl fmt::Display, conditions: &[String]) -> String {
        let mut conjuncts = String::new();
        let mut known = Vec::new();
        for predicate in &self.stored {
            let from = conjuncts.len();
            write_conjuncts(std::slice::from_ref(predicate), "s", &mut conjuncts);
            known.push(conjuncts[from..].to_owned());
        }
        let others = conditions.iter().map(|condition| format!(" AND {condition}"));
        others.filter(|condition| !known.contains(condition)).for_each(|condition| conjuncts.push_str(&condition));
        let keys = self.reader.row_filter(&self.stored).keys;
        conjuncts.push_str(&self.reader.of_series(&self.statement.engine, &keys));
        let table = clickhouse::table(self.statement.history.as_ref(), &self.view().states_table());
        self.reader.history_from(&table, &conjuncts, horizon)
    }

    /// What is read of memory, for people.
    pub(crate) fn memory_words(&self) -> String {
        self.reader.memory_words(&self.stored)
    }

    /// Up to where ClickHouse has rows that are wanted; `None` when it has none, or is not to be asked.
    pub(crate) fn horizon(&self) -> Option<Epoch> {
        let horizon = self.statement.capture.view(*self.seam.place.get()?).horizon;
        (self.reader.has_history(horizon) && !self.statement.memory_only).then_some(horizon)
    }
}
