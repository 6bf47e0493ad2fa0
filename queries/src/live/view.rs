//! Following a view: its rows as of an epoch, then those that change, are new or are no more.
//!
//! # Contract
//!
//! Rows are told apart by their [`RowKey`]. A follower that puts the rows of the snapshot into a map, then those of each
//! change, and takes out what a change removes, has after it exactly the rows of `SELECT * FROM view WHERE …` as of the
//! change's epoch, whose bucket lies in the window. What depends on the order in which states are merged may differ
//! from a later `SELECT` in that: the last digits of sums of floats, and the estimates of `approx_top_k`.
//!
//! # Time
//!
//! Workers send partial states of an epoch independently of each other. When one is there, [`Engine::settled`] tells up
//! to which epoch all are, and just these are merged, in the order of the log; later ones wait for their turn. So a
//! change never shows half of an epoch.
//!
//! # Failure
//!
//! As for series: a follower that lags begins again. One whose view was dropped or replaced ends with
//! [`QueryError::ViewGone`]: the catalogue says so, which changes before the engine ends its followers.
//!
//! [`Engine::settled`]: streamgauge_engine::Engine::settled

use std::fmt;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::channel::mpsc::{self, TryRecvError};
use streamgauge_engine::snapshot::{DeltaSender, ViewSnapshot};
use streamgauge_engine::{Delta, EngineError, SnapshotRequest, ViewRead};
use streamgauge_schemas::time::wall_clock;
use streamgauge_schemas::{Duration, Epoch, EventTime, SeriesId, View, ViewId};
use tokio::time::Instant;

use super::RANGE_DEFAULT;
use super::condition::Condition;
use super::window::{Changed, Window};
use crate::clickhouse;
use crate::error::QueryError;
use crate::groups::GroupReader;
use crate::history::{self, Waits};
use crate::options::{AskOptions, Partial};
use crate::session::{Access, QueryEngine};
use crate::threads::Task;

/// A view without events is looked at so often, for buckets that leave its window.
const WINDOW_PAUSE: StdDuration = StdDuration::from_secs(1);
/// Names of views that an error lists.
const NAMES_MAX: usize = 50;

/// Which rows of a view to follow.
#[derive(Clone, Debug, Default)]
pub struct FollowView {
    /// The view's name.
    pub view: String,
    /// A condition in SQL over the view's columns.
    pub condition: Option<String>,
    /// How far back from now the window of buckets reaches, of a view with a time bucket; [`RANGE_DEFAULT`] when not given.
    pub range: Option<Duration>,
}

/// What tells a row of a view from the others: the identity of its group. The same group has the same one for as long as
/// the view groups by the same; its text is not meant to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    pub(super) series: SeriesId,
    pub(super) bucket: Option<EventTime>,
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bucket {
            Some(bucket) => write!(f, "{}@{}", self.series, bucket.0),
            None => self.series.fmt(f),
        }
    }
}

/// A row of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewRow {
    /// Which.
    pub key: RowKey,
    /// Its values, as an array in JSON.
    pub json: Arc<str>,
}

/// The rows of a followed view as of an epoch.
#[derive(Clone, Debug)]
pub struct ViewAnswer {
    /// The view's name.
    pub view: String,
    /// The columns.
    pub schema: SchemaRef,
    /// `E`.
    pub epoch: Epoch,
    /// What they lack, of an answer from memory alone.
    pub partial: Option<Partial>,
    /// The rows.
    pub rows: Vec<ViewRow>,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewChange {
    /// All events up to it are in, and none after.
    pub epoch: Epoch,
    /// Rows that are new or have other values, whole.
    pub rows: Vec<ViewRow>,
    /// Rows that are no more: they do not pass any longer, or have left the window.
    pub removed: Vec<RowKey>,
}

/// A followed view.
pub struct LiveView {
    engine: QueryEngine,
    view: ViewId,
    name: String,
    epoch: Epoch,
    deltas: mpsc::Receiver<Delta>,
    /// Received, and not taken in yet.
    pending: Vec<Delta>,
    /// Away while a change is computed.
    window: Option<Window>,
    work: Option<Task<Worked>>,
    now: fn() -> EventTime,
}

/// A window that has taken in what was due up to an epoch.
struct Worked {
    window: Window,
    epoch: Epoch,
    changed: Result<Changed, QueryError>,
}

/// A follower's beginning.
struct Begun {
    window: Window,
    answer: ViewAnswer,
}

impl QueryEngine {
    /// Answers the rows of a view, and follows them.
    ///
    /// # Errors
    /// [`QueryError::UnknownView`], [`QueryError::NotAView`], [`QueryError::Backfilling`]; [`QueryError::Parameter`] for what
    /// is wrong with the condition or the range; [`QueryError::Groups`] and [`QueryError::FollowedBytes`] for too much; any
    /// other [`QueryError`].
    pub async fn follow_view(
        &self,
        query: &FollowView,
        options: AskOptions,
    ) -> Result<(ViewAnswer, LiveView), QueryError> {
        let access = self.prepare(options).await?;
        let view = self.view_to_follow(&query.view)?;
        self.backfills().check(&view)?;
        let (sender, deltas) = mpsc::channel(self.limits().follow_queue_max);
        let (engine, query, waits) = (self.clone(), query.clone(), Waits::default());
        let (id, name, waiting) = (view.id, query.view.clone(), waits.clone());
        let work = async move { engine.begin_view(view, &query, sender, access, options, &waiting).await };
        let Begun { window, answer } = self.compute(&waits, work).await?;
        let live = LiveView {
            engine: self.clone(),
            view: id,
            name,
            epoch: answer.epoch,
            deltas,
            pending: Vec::new(),
            window: Some(window),
            work: None,
            now: wall_clock,
        };
        Ok((answer, live))
    }

    fn view_to_follow(&self, name: &str) -> Result<Arc<View>, QueryError> {
        if let Some(view) = self.engine().view(name) {
            return Ok(view);
        }
        let catalog = self.engine().catalog();
        if name == streamgauge_schemas::stream::METRICS || catalog.by_name(name).is_some() {
            return Err(QueryError::NotAView { name: name.to_owned() });
        }
        let views: Vec<&str> = catalog.views.iter().take(NAMES_MAX).map(|view| view.definition.name.as_str()).collect();
        Err(QueryError::UnknownView { name: name.to_owned(), hint: format!("there are {}", views.join(", ")) })
    }

    async fn begin_view(
        &self,
        view: Arc<View>,
        query: &FollowView,
        follow: DeltaSender,
        access: Access,
        options: AskOptions,
        waits: &Waits,
    ) -> Result<Begun, QueryError> {
        let (id, name) = (view.id, view.definition.name.clone());
        let mut window = self.window(view, query)?;
        let read = ViewRead { view: id, filter: window.filter(), follow: Some(follow) };
        let snapshot = self.engine().snapshot(SnapshotRequest { views: vec![read], streams: Vec::new() }).await;
        let mut snapshot = snapshot.map_err(|error| match error {
            EngineError::UnknownView(_) => QueryError::ViewGone { view: name.clone() },
            other => other.into(),
        })?;
        let memory = snapshot.views.pop().unwrap_or_default();
        let absent = match access {
            _ if !window.reader().has_history(memory.horizon) => None,
            Access::Away(error) => Some(error),
            Access::There => {
                let half = self.limits().time_max / 2;
                let late = waits.late(Instant::now() + half, half);
                let read = tokio::select! {
                    biased;
                    read = self.add_view_history(&mut window, &memory, waits) => read,
                    error = late, if options.partial => Err(QueryError::History(error)),
                };
                match read {
                    // The same snapshot, since who follows has begun to receive the changes after it.
                    Err(QueryError::History(error)) if options.partial => {
                        window = window.emptied();
                        Some(error)
                    }
                    read => read.map(|()| None)?,
                }
            }
        };
        window.add_memory(&memory)?;
        let partial = absent.map(|error| Partial::new(memory.horizon, &error));
        let (schema, rows) = (window.reader().reading.schema.clone(), window.rows()?);
        let answer = ViewAnswer { view: name, schema, epoch: snapshot.epoch, partial, rows };
        Ok(Begun { window, answer })
    }

    /// An empty window onto the rows that are asked for.
    fn window(&self, view: Arc<View>, query: &FollowView) -> Result<Window, QueryError> {
        let wrong = |reason: &str| QueryError::Parameter { parameter: "range", reason: reason.into() };
        match (query.range, &view.definition.bucket) {
            (Some(range), _) if range.as_micros() <= 0 => return Err(wrong("must be longer than nothing")),
            (Some(_), None) => return Err(wrong("is of a time bucket, and the view has none; leave it out")),
            _ => {}
        }
        let reading = self.readings().of(&view, &self.engine().catalog())?;
        let reader = GroupReader::new(view, reading);
        let planner = self.readings().planner();
        let condition = query.condition.as_deref().map(|text| Condition::plan(text, &reader, planner.state()));
        let condition = condition.transpose()?.unwrap_or_default();
        let range = Some(query.range.unwrap_or(RANGE_DEFAULT));
        let reservation = self.reservation("the groups of a followed view");
        Ok(Window::new(reader, condition, range, wall_clock(), self.limits().clone(), reservation))
    }

    async fn add_view_history(
        &self,
        window: &mut Window,
        memory: &ViewSnapshot,
        waits: &Waits,
    ) -> Result<(), QueryError> {
        let table = clickhouse::table(self.history().as_ref(), &window.reader().view.states_table());
        let (conjuncts, bounds) = (window.conjuncts(self.engine()), self.bounds());
        let sql = window.reader().history_sql(&table, &conjuncts, memory.horizon, bounds, true);
        let mut batches = history::read(self.history().clone(), sql, memory.horizon, waits.clone()).await?;
        while let Some(batch) = batches.next().await {
            window.add_history(&batch?)?;
        }
        Ok(())
    }
}

impl LiveView {
    /// Waits for a change, and takes in all that came until then.
    ///
    /// May be dropped while it waits: nothing is lost. After an error it is over.
    ///
    /// # Errors
    /// [`QueryError::Lagged`] when changes were lost or the engine stopped: follow again. [`QueryError::ViewGone`] when the
    /// view was dropped or replaced. [`QueryError::Groups`], [`QueryError::FollowedBytes`] or [`QueryError::Memory`] when it
    /// has outgrown a bound; [`QueryError::Evaluation`] when an expression of the view or the condition failed.
    pub async fn next_change(&mut self) -> Result<ViewChange, QueryError> {
        loop {
            let work = match &mut self.work {
                Some(work) => work,
                None => {
                    let epoch = self.settle().await?;
                    let work = self.take_in(epoch)?;
                    self.work.insert(work)
                }
            };
            let Worked { window, epoch, changed } = work.await?;
            (self.work, self.window, self.epoch) = (None, Some(window), epoch);
            let Changed { rows, removed } = changed?;
            if !rows.is_empty() || !removed.is_empty() {
                return Ok(ViewChange { epoch, rows, removed });
            }
        }
    }

    /// Waits until there is something to take in; the epoch up to which all of it is here.
    async fn settle(&mut self) -> Result<Epoch, QueryError> {
        while self.pending.is_empty() {
            tokio::select! {
                biased;
                delta = self.deltas.next() => self.pending.push(delta.ok_or_else(|| self.ended())?),
                () = tokio::time::sleep(WINDOW_PAUSE) => {
                    let now = (self.now)();
                    if self.window.as_ref().is_some_and(|window| window.has_left(now)) {
                        return Ok(self.epoch);
                    }
                }
            }
        }
        let epoch = self.engine.engine().settled().await?;
        // What was sent until then is no more than the queue holds, with one a worker; new ones may come meanwhile.
        let all = self.engine.limits().follow_queue_max + self.engine.engine().status().workers + 1;
        for _ in 0..all {
            match self.deltas.try_recv() {
                Ok(delta) => self.pending.push(delta),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => return Err(self.ended()), // so something up to that epoch may be missing
            }
        }
        Ok(epoch)
    }

    /// Begins to take in what is pending up to `epoch`.
    fn take_in(&mut self, epoch: Epoch) -> Result<Task<Worked>, QueryError> {
        let mut window = self.window.take().ok_or(QueryError::Lagged)?; // after an error
        let (mut due, later) =
            std::mem::take(&mut self.pending).into_iter().partition::<Vec<Delta>, _>(|delta| delta.epoch <= epoch);
        self.pending = later;
        due.sort_by_key(|delta| (delta.epoch, delta.batch)); // of a group all are from one worker, in the order of the log
        let now = (self.now)();
        Ok(self.engine.spawn(async move {
            let changed = window.take_in(&due, now);
            Worked { window, epoch, changed }
        }))
    }

    /// Why there are no changes any more.
    fn ended(&self) -> QueryError {
        match self.engine.engine().catalog().view_by_id(self.view) {
            Some(_) => QueryError::Lagged,
            None => QueryError::ViewGone { view: self.name.clone() },
        }
    }
}
