//! Back-fill: events that were there before a view, aggregated as the dataflow would have done it.
//!
//! The program, the grouping and the folds are those of the flow, so a group is counted the same on both sides of the
//! view's creation. Nothing here knows where the events come from, or where the rows go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use streamgauge_schemas::stream::Catalog;
use streamgauge_schemas::{Epoch, EventBatch, GroupKey, Key, Layout, Row, Rows, SeriesId, State, View};

use crate::dataflow::{Aggregate, Groups};
use crate::error::EngineError;
use crate::program::{Failed, Planner, Prepared, Program, Rollup};

/// Aggregates the events of a step of a back-fill.
pub struct Backfill {
    layout: Arc<Layout>,
    aggregate: Aggregate,
    by_series: bool,
    groups: hashbrown::HashMap<GroupKey, State, foldhash::fast::FixedState>,
    keys: HashMap<SeriesId, Key>,
    failed: Option<Failed>,
}

/// What a step of a back-fill makes.
#[derive(Debug)]
pub struct Step {
    /// The rows, which are final.
    pub rows: Rows,
    /// The dimension values of their groups.
    pub keys: HashMap<SeriesId, Key>,
    /// Events that the view's expressions could not be computed of; it does not count them.
    pub failed: Option<Failed>,
}

impl Backfill {
    /// Makes one for a view.
    ///
    /// # Errors
    /// [`EngineError::BrokenView`] when the view cannot be maintained by this version.
    pub fn new(view: &View, catalog: &Catalog, planner: &dyn Planner) -> Result<Self, EngineError> {
        let broken = |reason: String| EngineError::BrokenView { view: view.definition.name.clone(), reason };
        let program: Arc<dyn Program> = match Rollup::of(view) {
            Some(rollup) => Arc::new(rollup),
            None => planner.program(view, catalog).map_err(|error| broken(error.to_string()))?,
        };
        let layout = Arc::new(view.layout());
        let aggregate = Aggregate::of(view, program, layout.clone());
        let by_series = view.definition.by_series;
        Ok(Backfill { layout, aggregate, by_series, groups: Default::default(), keys: HashMap::new(), failed: None })
    }

    /// Adds events of the view's stream, which come in the order of their epochs.
    pub fn add(&mut self, events: EventBatch) {
        let events = Prepared::new(events);
        let (groups, keys, failed): (Groups, _, _) = self.aggregate.run(&events);
        if let Some(failed) = failed {
            let before = self.failed.as_ref().map_or(0, |failed| failed.events);
            self.failed = Some(Failed { events: before + failed.events, ..failed });
        }
        if self.by_series {
            // A program may leave out series of the batch, and has one once that two sources sent.
            let counted: HashSet<SeriesId> = keys.ids.iter().copied().collect();
            let entries = events.metrics().into_iter().flat_map(|metrics| &metrics.series);
            for entry in entries.filter(|entry| counted.contains(&entry.id)) {
                self.keys.entry(entry.id).or_insert_with(|| Key::Series(entry.series.clone()));
            }
        } else {
            for (index, id) in keys.ids.iter().enumerate() {
                let values = || Key::Values(keys.get(index).unwrap_or_default().into());
                self.keys.entry(*id).or_insert_with(values);
            }
        }
        for (key, state) in groups.iter() {
            self.layout.merge(self.groups.entry(key).or_default(), &state);
        }
    }

    /// How many groups there are so far.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The step that ends with `upto`; the next one is empty.
    ///
    /// The generation and version of its rows are `upto`, which is at or below the view's creation: so they are final.
    pub fn take(&mut self, upto: Epoch) -> Step {
        let mut rows = Rows::default();
        for (key, state) in self.groups.drain() {
            rows.push(key, Row { generation: upto, version: upto, state });
        }
        Step { rows, keys: std::mem::take(&mut self.keys), failed: self.failed.take() }
    }
}
