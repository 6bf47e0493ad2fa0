//! An engine on an empty folder, and what is put into it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use arrow::array::AsArray;
use arrow::compute::sum;
use arrow::datatypes::Int64Type;
use streamgauge_engine::{Engine, EngineConfig, Recovered, RowFilter, SnapshotRequest, ViewRead};
use streamgauge_queries::ViewPlanner;
use streamgauge_queries::views::GivenOptions;
use streamgauge_schemas::state::{Finish, Fold, Function, Output};
use streamgauge_schemas::view::rollup;
use streamgauge_schemas::{EventBatch, MetricsBatch, State, ValueType, View, ViewDefinition};

use super::Options;

/// An engine, with its log in a folder that goes with it.
pub(super) struct Run {
    pub(super) engine: Engine,
    pub(super) views: Vec<Arc<View>>,
    posters: usize,
    _folder: tempfile::TempDir,
}

/// The rollup views by `count` granularities: second, minute, hour, day, then so many minutes. All but the first can be
/// made from finer ones.
pub(super) fn rollups(count: usize) -> Vec<ViewDefinition> {
    let coarse = [("1 second", 1), ("1 minute", 60), ("1 hour", 3_600), ("1 day", 86_400)];
    let coarse = coarse.into_iter().map(|(text, seconds)| (text.to_owned(), seconds));
    let minutes = (2..).map(|minutes| (format!("{minutes} minutes"), 60 * minutes));
    let widths = coarse.chain(minutes).take(count);
    widths.map(|(text, seconds)| rollup(&format!("by_{seconds}s"), &text, seconds)).collect()
}

impl Run {
    /// Opens an engine without views of its own; `clock` in place of the wall clock.
    pub(super) fn open(options: &Options, clock: Option<Arc<AtomicU64>>) -> Result<Self> {
        let root = options.data_root.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new().prefix("streamgauge-bench-").tempdir_in(root)?;
        let mut config = EngineConfig::new(folder.path());
        (config.log_sync, config.workers, config.built_in_views) = (false, options.workers, false);
        // What is measured is the work, not the bounds.
        (config.pending_bytes_max, config.state_bytes_max, config.series_max) = (usize::MAX, usize::MAX, usize::MAX);
        config.log_bytes_max = u64::MAX;
        config.planner = Some(Arc::new(ViewPlanner::new()));
        if let Some(clock) = clock {
            config.clock = Arc::new(move || clock.load(Ordering::Relaxed));
        }
        let engine = Engine::open(&config, Recovered::default())?;
        Ok(Run { engine, views: Vec::new(), posters: options.posters.max(1), _folder: folder })
    }

    /// Makes a view.
    pub(super) async fn create(&mut self, mut definition: ViewDefinition) -> Result<()> {
        definition.options.backfill = false;
        self.views.push(self.engine.create_view(definition, false).await?);
        Ok(())
    }

    /// Makes a view of a `SELECT`.
    pub(super) async fn create_sql(&mut self, name: &str, select: &str) -> Result<()> {
        let planned = ViewPlanner::new().plan(name, select, &GivenOptions::default(), &*self.engine.catalog())?;
        self.create(planned.definition).await
    }

    /// Appends batches, as `batch` makes them by number until there are none, and waits until all are in the views.
    pub(super) async fn append<B>(&self, batch: B) -> Result<()>
    where
        B: Fn(usize) -> Option<Result<Arc<MetricsBatch>>> + Send + Sync + 'static,
    {
        let (next, batch) = (Arc::new(AtomicUsize::new(0)), Arc::new(batch));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..self.posters {
            let (engine, next, batch) = (self.engine.clone(), next.clone(), batch.clone());
            tasks.spawn(async move {
                while let Some(batch) = batch(next.fetch_add(1, Ordering::Relaxed)) {
                    engine.append(EventBatch::Metrics(batch?)).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        self.engine.settled().await?;
        Ok(())
    }

    /// Appends decoded rows.
    pub(super) async fn append_rows(&self, rows: Arc<[Arc<MetricsBatch>]>) -> Result<()> {
        self.append(move |index| rows.get(index).cloned().map(Ok)).await
    }

    /// Rows in memory of all views, and the bytes that the program counts for them; checks that every view counts `events`.
    pub(super) async fn held(&self, events: usize) -> Result<(usize, usize)> {
        let mut held = (0, 0);
        for view in &self.views {
            let read = ViewRead { view: view.id, filter: RowFilter::default(), follow: None };
            let snapshot = self.engine.snapshot(SnapshotRequest { views: vec![read], streams: Vec::new() }).await?;
            let counted = events_of(view, &snapshot.views[0].rows.state)?;
            ensure!(counted == events as i64, "{} holds {counted} of {events} events", view.definition.name);
            let status = self.engine.view_status(view.id).context("a view that is maintained has a status")?;
            held = (held.0 + status.rows, held.1 + status.bytes);
        }
        Ok(held)
    }
}

/// How many events the states of a view count.
fn events_of(view: &View, states: &[State]) -> Result<i64> {
    let layout = view.layout();
    let rows = |fold: &Fold| fold.function == Function::Count && fold.argument.is_none();
    let fold = layout.folds().iter().position(rows).context("the views of this benchmark count their rows")?;
    let output = Output { name: "count".into(), finish: Finish::Count(fold), kind: ValueType::I64, nullable: false };
    let counts = layout.finish(&output, states.iter());
    Ok(sum(counts.as_primitive::<Int64Type>()).unwrap_or(0))
}
