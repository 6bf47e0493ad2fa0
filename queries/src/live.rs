//! Following live: a snapshot, then what changes, without a gap between. The series of a metric here, views in [`view`].
//!
//! The engine hands the partial states of each epoch after the snapshot to a bounded channel. They merge into the
//! points that the follower holds, since a merge needs no older piece of a group: history is read once.
//!
//! # Failure
//!
//! A follower that reads too slowly finds its channel closed, [`QueryError::Lagged`], and follows again. One that began
//! without history, since ClickHouse was away, follows again when [`QueryEngine::history_available`] says that it is back.

mod condition;
pub mod view;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use futures::channel::mpsc;
use streamgauge_engine::Delta;
use streamgauge_schemas::time::wall_clock;
use streamgauge_schemas::{Duration, Epoch, EventTime, Key, Series, Summary};

use crate::error::QueryError;
use crate::options::{AskOptions, Partial};
use crate::series::{
    Aggregation, DimensionFilter, Gathered, Group, Plan, Points, SeriesAnswer, SeriesPoints, SeriesQuery,
    chosen_granularity,
};
use crate::session::QueryEngine;

/// How far back a window reaches when nothing is said.
pub const RANGE_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// A question for the series of a metric that goes on.
#[derive(Clone, Debug)]
pub struct FollowQuery {
    /// The metric's name.
    pub metric: String,
    /// How far back the window reaches from now.
    pub range: Duration,
    /// The length of a bucket; chosen for about 1,000 points when not given.
    pub granularity: Option<Duration>,
    /// What is wanted of each bucket; carried along to the snapshot.
    pub aggregations: Vec<Aggregation>,
    /// Which series.
    pub filter: DimensionFilter,
    /// The dimensions to tell series apart by.
    pub group_by: Vec<String>,
}

/// A change takes in at most so many deltas, however fast they come.
const DELTAS_PER_CHANGE_MAX: usize = 4_096;

/// The points that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The newest epoch that is merged in.
    pub epoch: Epoch,
    /// By dimensions; each point has the whole new state of its bucket.
    pub series: Vec<SeriesPoints>,
}

/// A followed question: its window of points, kept current.
pub struct LiveSeries {
    plan: Plan,
    range: Duration,
    epoch: Epoch,
    partial: Option<Partial>,
    points: Points,
    groups: HashMap<Arc<Series>, Group>,
    deltas: mpsc::Receiver<Delta>,
    now: fn() -> EventTime,
}

impl QueryEngine {
    /// Answers the series of a metric up to now, and follows them.
    ///
    /// # Errors
    /// Any [`QueryError`].
    pub async fn follow(
        &self,
        query: &FollowQuery,
        options: AskOptions,
    ) -> Result<(SeriesAnswer, LiveSeries), QueryError> {
        if query.range.as_micros() <= 0 {
            return Err(QueryError::Parameter { parameter: "range", reason: "must be longer than nothing".into() });
        }
        let granularity = chosen_granularity(query.granularity, query.range, &self.engine().views())?;
        let now = wall_clock();
        let bounded = SeriesQuery {
            metric: query.metric.clone(),
            start: EventTime(now.0.saturating_sub(query.range.as_micros())).max(EventTime::EARLIEST),
            end: EventTime(now.0 + 1),
            granularity: Some(granularity),
            aggregations: query.aggregations.clone(),
            filter: query.filter.clone(),
            group_by: query.group_by.clone(),
        };
        let plan = Plan { upper: None, ..Plan::new(&bounded, granularity, &self.engine().views()) };
        let (sender, deltas) = mpsc::channel(self.limits().follow_queue_max);
        let Gathered { epoch, points, partial } = self.points(&plan, Some(sender), options).await?;
        let answer = plan.answer(epoch, &points, query.aggregations.clone(), partial.clone());
        let (range, groups) = (query.range, HashMap::new());
        let live = LiveSeries { plan, range, epoch, partial, points, groups, deltas, now: wall_clock };
        Ok((answer, live))
    }
}

impl LiveSeries {
    /// Waits for a change, and takes in all that came until then.
    ///
    /// May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// [`QueryError::Lagged`] when changes were lost or the engine stopped: follow again. [`QueryError::Points`] or
    /// [`QueryError::Series`] when the window has outgrown a bound.
    pub async fn next_change(&mut self) -> Result<Change, QueryError> {
        loop {
            let mut delta = self.deltas.next().await.ok_or(QueryError::Lagged)?;
            let lower = self.lower();
            let mut changed: BTreeMap<Group, BTreeMap<EventTime, Summary>> = BTreeMap::new();
            for _ in 0..DELTAS_PER_CHANGE_MAX {
                self.epoch = self.epoch.max(delta.epoch);
                self.take(&delta, lower, &mut changed)?;
                match self.deltas.try_recv() {
                    Ok(next) => delta = next,
                    Err(_) => break, // none is ready; a closed channel is found by the next call
                }
            }
            self.points.forget_before(lower);
            if !changed.is_empty() {
                return Ok(self.change(&changed));
            }
        }
    }

    /// The length of a bucket.
    #[must_use]
    pub fn granularity(&self) -> Duration {
        self.plan.granularity
    }

    /// The whole window as it stands, as of the newest epoch that is merged in.
    #[must_use]
    pub fn window(&mut self) -> SeriesAnswer {
        self.points.forget_before(self.lower());
        self.plan.answer(self.epoch, &self.points, Vec::new(), self.partial.clone())
    }

    /// The lower bound of the window's first bucket.
    fn lower(&self) -> EventTime {
        EventTime((self.now)().0.saturating_sub(self.range.as_micros()))
            .floor(self.plan.granularity)
            .max(self.plan.lower)
    }

    fn take(
        &mut self,
        delta: &Delta,
        lower: EventTime,
        changed: &mut BTreeMap<Group, BTreeMap<EventTime, Summary>>,
    ) -> Result<(), QueryError> {
        for (key, bucket, state) in &delta.changes {
            let Key::Series(series) = key else { continue }; // a rollup has series only
            let time = bucket.floor(self.plan.granularity);
            if time < lower {
                continue;
            }
            let group = self.groups.entry(series.clone()).or_insert_with(|| self.plan.group(series));
            self.points.merge(group, time, &Summary::of_rollup(state))?;
            let whole = self.points.groups[group][&time];
            match changed.get_mut(group) {
                Some(points) => drop(points.insert(time, whole)),
                None => drop(changed.insert(group.clone(), BTreeMap::from([(time, whole)]))),
            }
        }
        Ok(())
    }

    fn change(&self, changed: &BTreeMap<Group, BTreeMap<EventTime, Summary>>) -> Change {
        let series = changed.iter().map(|(group, points)| SeriesPoints {
            dimensions: self.plan.dimensions(group),
            points: points.iter().map(|(time, state)| (*time, *state)).collect(),
        });
        Change { epoch: self.epoch, series: series.collect() }
    }
}
