//! Back-fills of views: reads the events that ClickHouse had before a view, aggregates them, writes the rows.
//!
//! ```text
//!  the view's stream is flushed up to its creation
//!     └▶ discard what a former try left ─▶ (read a step ─▶ aggregate ─▶ write ─▶ commit) … ─▶ done
//! ```
//!
//! Ingest, other views and the view's own flow go on meanwhile. Until it is done, a question to the view is told how far
//! it is. Of several back-fills the one with the least left goes first, step by step, so that a view of a small stream
//! need not wait for one of a large stream.
//!
//! # Failure
//!
//! A step that fails, since ClickHouse is away or the program ends, is made again from the last commit. A view that is
//! dropped ends its back-fill. Events before the view that are set aside are waited for: they are part of its answer.

mod source;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamgauge_engine::{Backfill, Engine, Step};
use streamgauge_queries::{BackfillProgress, Backfills, ViewPlanner};
use streamgauge_schemas::view::Failed;
use streamgauge_schemas::{Epoch, View, ViewId};
use streamgauge_sinks::{ClickHouse, Flusher, backfill, states, stream_item, view_item};

use source::{Pieces, Source};

/// How often new views are looked for, and a failed step is tried again.
const INTERVAL: Duration = Duration::from_millis(250);
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// What back-fills work on.
pub(crate) struct Backfilling {
    pub(crate) engine: Engine,
    pub(crate) clickhouse: ClickHouse,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) backfills: Arc<Backfills>,
    pub(crate) planner: ViewPlanner,
    /// About how many events a step reads; so many groups at most are held.
    pub(crate) step_events: usize,
}

/// A back-fill that was begun.
struct Filling {
    view: Arc<View>,
    source: Source,
    pieces: Pieces,
    aggregate: Backfill,
    progress: BackfillProgress,
    /// Of the steps that are committed.
    failed: Failed,
}

/// What there is to do of a view.
enum Begun {
    Filling(Box<Filling>),
    /// Why it is not its time yet.
    Waits(String),
}

impl Backfilling {
    /// Back-fills views for ever.
    pub(crate) async fn run(self) {
        let mut fillings: HashMap<ViewId, Box<Filling>> = HashMap::new();
        let mut failed_at: HashMap<ViewId, Instant> = HashMap::new();
        loop {
            let catalog = self.engine.catalog();
            let is_there = |id: ViewId| catalog.view_by_id(id).is_some();
            self.backfills.retain(is_there);
            fillings.retain(|id, _| is_there(*id));
            failed_at.retain(|id, _| is_there(*id));
            for view in catalog.own_views().filter(|view| !self.backfills.is_done(view)) {
                let failed = failed_at.get(&view.id);
                if fillings.contains_key(&view.id) || failed.is_some_and(|at| at.elapsed() < AFTER_FAILURE) {
                    continue;
                }
                match self.begin(view, failed.is_some()).await {
                    Ok(Begun::Filling(filling)) => drop(fillings.insert(view.id, filling)),
                    Ok(Begun::Waits(reason)) => self.note_failure(view, reason),
                    Err(error) => {
                        self.note_error(view, &error);
                        failed_at.insert(view.id, Instant::now());
                    }
                }
            }
            let next = fillings.values().min_by_key(|filling| (filling.pieces.events(), filling.view.id.0));
            let next = next.map(|filling| filling.view.id).and_then(|id| fillings.remove(&id));
            let Some(mut filling) = next else {
                tokio::time::sleep(INTERVAL).await;
                continue;
            };
            let (is_made, id) = (self.step(&mut filling).await, filling.view.id);
            if let Err(error) = &is_made {
                self.note_error(&filling.view, error);
            }
            if is_made.unwrap_or(false) {
                failed_at.remove(&id);
                if !self.backfills.is_done(&filling.view) {
                    fillings.insert(id, filling);
                }
            } else {
                failed_at.insert(id, Instant::now());
            }
        }
    }

    fn note_failure(&self, view: &View, reason: String) {
        let progress = self.backfills.get(view.id);
        self.backfills.set(view.id, BackfillProgress { failure: Some(reason), ..progress });
    }

    /// Says what failed, once for each failure.
    fn note_error(&self, view: &View, error: &anyhow::Error) {
        let error = format!("{error:#}");
        if self.backfills.get(view.id).failure.as_ref() != Some(&error) {
            tracing::warn!(view = view.definition.name, error, "a back-fill is tried again");
        }
        self.note_failure(view, error);
    }

    /// Begins a back-fill where it was left, when it is its time; why it failed before is shown until a step succeeds.
    async fn begin(&self, view: &Arc<View>, failed_before: bool) -> anyhow::Result<Begun> {
        let (created, stream) = (view.id.created(), view.definition.stream);
        if self.engine.flushed().streams.get(&stream).is_none_or(|flushed| *flushed < created) {
            return Ok(Begun::Waits("the last events before it are not in ClickHouse yet".to_owned()));
        }
        // What is set aside later is of later epochs, since it was not flushed up to the view's creation.
        let item = stream_item(stream);
        let aside = self.flusher.aside().into_iter().filter(|file| file.item == item);
        let before = aside.filter(|file| file.epochs.iter().any(|(first, _)| *first <= created));
        let rows: u64 = before.map(|file| file.rows).sum();
        if rows > 0 {
            return Ok(Begun::Waits(format!(
                "{rows} events before it are set aside, since ClickHouse refused them: see `aside` of /api/v1/status; \
                 or make the view WITH (backfill = false)"
            )));
        }
        let gone = || Begun::Waits("the view is dropped".to_owned());
        let Some(source) = Source::of(view, &self.engine, &self.clickhouse) else { return Ok(gone()) };
        let (upto, failed) = backfill::progress(&self.clickhouse, view).await?;
        self.engine.note_backfill_failed(view.id, &failed); // also those of a commit whose answer was lost
        let failure = self.backfills.get(view.id).failure.filter(|_| failed_before);
        let mut progress = BackfillProgress { upto, failure, ..BackfillProgress::default() };
        if upto < created {
            let Some(hold) = self.flusher.hold(view).await else { return Ok(gone()) }; // also: the tables are there
            backfill::discard_above(&self.clickhouse, view, upto).await?;
            drop(hold);
            progress.events_done = source.count(Epoch::ZERO, upto).await?;
        }
        let pieces = source.pieces(upto.min(created), created).await?;
        progress.events_total = progress.events_done + pieces.events();
        let aggregate = Backfill::new(view, &self.engine.catalog(), &self.planner)?;
        self.backfills.set(view.id, progress.clone());
        let view = view.clone();
        Ok(Begun::Filling(Box::new(Filling { view, source, pieces, aggregate, progress, failed })))
    }

    /// Makes one step, and what is to be done after the last one; `false` when the view is dropped meanwhile. Without a
    /// step made, the back-fill begins again at the last commit.
    async fn step(&self, filling: &mut Filling) -> anyhow::Result<bool> {
        let Filling { view, source, pieces, aggregate, progress, failed: all_failed } = filling;
        let created = view.id.created();
        if progress.upto < created {
            let upto = pieces.take(source, self.step_events as u64).await?;
            progress.events_done += source.read(progress.upto, upto, aggregate).await?;
            let Step { rows, keys, failed } = aggregate.take(upto);
            let Some(hold) = self.flusher.hold(view).await else { return Ok(false) };
            states::write_states(&self.clickhouse, view, &Arc::new(rows), &Arc::new(keys)).await?;
            drop(hold);
            all_failed.add(&failed.unwrap_or_default());
            backfill::commit(&self.clickhouse, view, upto, all_failed.clone()).await?;
            self.engine.note_backfill_failed(view.id, all_failed);
            (progress.upto, progress.failure) = (upto, None);
        }
        if progress.upto >= created {
            self.note_newest(view).await?;
            tracing::info!(view = view.definition.name, events = progress.events_total, "a view is back-filled");
        }
        self.backfills.set(view.id, progress.clone());
        Ok(true)
    }

    /// Tells the engine how new what was back-filled is, so that questions about newer time need not look for it.
    async fn note_newest(&self, view: &View) -> anyhow::Result<()> {
        // Rows that are set aside may come to ClickHouse at any time; then nothing is known.
        let is_whole = !self.flusher.aside().iter().any(|file| file.item == view_item(view));
        if let Some(status) = self.engine.view_status(view.id).filter(|_| is_whole) {
            let newest = states::newest_bucket(&self.clickhouse, view, status.horizon).await?;
            self.engine.note_backfill_newest(view.id, newest);
        }
        Ok(())
    }
}
