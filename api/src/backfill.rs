//! Back-fills of views: reads the events that ClickHouse had before a view, aggregates them, writes the rows.
//!
//! ```text
//!  the view's stream is flushed up to its creation
//!     └▶ discard what a former try left ─▶ (read a step ─▶ aggregate ─▶ write ─▶ commit) … ─▶ done
//! ```
//!
//! Ingest, other views and the view's own flow go on meanwhile. Until it is done, a question to the view is told how far
//! it is.
//!
//! # Failure
//!
//! A step that fails, since ClickHouse is away or the program ends, is made again from the last commit. A view that is
//! dropped ends its back-fill.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, UInt64Type};
use futures::StreamExt;
use streamgauge_engine::{Backfill, Engine, Step};
use streamgauge_queries::history::conform;
use streamgauge_queries::{BackfillProgress, Backfills, ViewPlanner};
use streamgauge_schemas::stream::{EPOCH_COLUMN, METRICS};
use streamgauge_schemas::{Epoch, EventBatch, MetricsBatch, StreamDefinition, StreamId, TableBatch, View};
use streamgauge_sinks::sql::sql_name;
use streamgauge_sinks::{ClickHouse, Flusher, backfill, states, view_item};

/// How often new views are looked for, and a failed step is tried again.
const INTERVAL: Duration = Duration::from_millis(250);
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// About how many events a step reads; so many groups at most are held.
const STEP_EVENTS: usize = 500_000;

/// What back-fills work on.
pub(crate) struct Backfilling {
    pub(crate) engine: Engine,
    pub(crate) clickhouse: ClickHouse,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) backfills: Arc<Backfills>,
    pub(crate) planner: ViewPlanner,
}

/// The events of a view's stream in ClickHouse.
struct Source {
    table: String,
    stream: StreamId,
    schema: SchemaRef,
    /// Names of the columns, as ClickHouse has them.
    columns: String,
    /// Events at or below are of a stream that had the name before.
    after: Epoch,
}

impl Backfilling {
    /// Back-fills one view after the other, for ever.
    pub(crate) async fn run(self) {
        loop {
            let catalog = self.engine.catalog();
            self.backfills.retain(|id| catalog.view_by_id(id).is_some());
            let mut pause = INTERVAL;
            for view in catalog.own_views().filter(|view| !self.backfills.is_done(view)) {
                if let Err(error) = self.fill(view).await {
                    tracing::warn!(
                        view = view.definition.name,
                        error = format!("{error:#}"),
                        "a back-fill is tried again"
                    );
                    let progress = self.backfills.get(view.id);
                    let failure = Some(format!("{error:#}"));
                    self.backfills.set(view.id, BackfillProgress { failure, ..progress });
                    pause = AFTER_FAILURE;
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Back-fills a view, from where it is to its creation; returns early when it is not its time yet.
    async fn fill(&self, view: &Arc<View>) -> anyhow::Result<()> {
        let created = view.id.created();
        if self.engine.flushed().streams.get(&view.definition.stream).is_none_or(|flushed| *flushed < created) {
            return Ok(()); // the last events before the view are not in ClickHouse yet
        }
        let Some(source) = self.source(view) else { return Ok(()) }; // the stream is no more, nor then the view
        let (upto, mut all_failed) = backfill::progress(&self.clickhouse, view).await?;
        self.engine.note_backfill_failed(view.id, &all_failed); // also those of a commit whose answer was lost
        let mut progress = BackfillProgress { upto, ..BackfillProgress::default() };
        if progress.upto < created {
            let Some(hold) = self.flusher.hold(view).await else { return Ok(()) }; // also: the tables are there
            backfill::discard_above(&self.clickhouse, view, progress.upto).await?;
            drop(hold);
            progress.events_total = self.count(&source, Epoch::ZERO, created).await?;
            progress.events_done = self.count(&source, Epoch::ZERO, progress.upto).await?;
        }
        let mut aggregate = Backfill::new(view, &self.engine.catalog(), &self.planner)?;
        while progress.upto < created {
            self.backfills.set(view.id, progress.clone());
            let upto = self.step_end(&source, progress.upto, created).await?;
            progress.events_done += self.read(&source, progress.upto, upto, &mut aggregate).await?;
            let Step { rows, keys, failed } = aggregate.take(upto);
            let Some(hold) = self.flusher.hold(view).await else { return Ok(()) };
            states::write_states(&self.clickhouse, view, &Arc::new(rows), &Arc::new(keys)).await?;
            drop(hold);
            all_failed.add(&failed.unwrap_or_default());
            backfill::commit(&self.clickhouse, view, upto, all_failed.clone()).await?;
            self.engine.note_backfill_failed(view.id, &all_failed);
            progress.upto = upto;
        }
        // Rows that are set aside may come to ClickHouse at any time; then nothing is known.
        let is_whole = !self.flusher.aside().iter().any(|file| file.item == view_item(view));
        if let Some(status) = self.engine.view_status(view.id).filter(|_| is_whole) {
            let newest = states::newest_bucket(&self.clickhouse, view, status.horizon).await?;
            self.engine.note_backfill_newest(view.id, newest);
        }
        self.backfills.set(view.id, progress.clone());
        tracing::info!(view = view.definition.name, events = progress.events_total, "a view is back-filled");
        Ok(())
    }

    fn source(&self, view: &View) -> Option<Source> {
        let stream = view.definition.stream;
        let (name, schema) = match stream {
            StreamId::METRICS => (METRICS.to_owned(), StreamDefinition::metrics_schema()),
            id => {
                let stream = self.engine.catalog().by_id(id)?.clone();
                (stream.definition.name.clone(), stream.definition.schema())
            }
        };
        let columns: Vec<String> = schema.fields().iter().map(|field| sql_name(field.name())).collect();
        let (table, after) = (self.clickhouse.table(&name), Epoch(if stream.is_built_in() { 0 } else { stream.0 }));
        Some(Source { table, stream, schema, columns: columns.join(", "), after })
    }

    async fn count(&self, source: &Source, after: Epoch, upto: Epoch) -> anyhow::Result<u64> {
        let sql = format!("SELECT count() AS n FROM {} WHERE {}", source.table, source.range(after, upto));
        Ok(self.numbers(&sql).await?[0])
    }

    /// The last epoch of a step that begins after an epoch.
    async fn step_end(&self, source: &Source, after: Epoch, created: Epoch) -> anyhow::Result<Epoch> {
        let sql = format!(
            "SELECT max(e) AS last, count() AS n FROM (SELECT {EPOCH_COLUMN} AS e FROM {} WHERE {} ORDER BY e LIMIT {STEP_EVENTS})",
            source.table,
            source.range(after, created)
        );
        let [last, events] = self.numbers(&sql).await?[..] else {
            anyhow::bail!("ClickHouse answered {sql} in another shape")
        };
        Ok(if events < STEP_EVENTS as u64 { created } else { Epoch(last) })
    }

    /// Numbers of the one row of an answer.
    async fn numbers(&self, sql: &str) -> anyhow::Result<Vec<u64>> {
        let batches = self.clickhouse.query_batches(sql).await?;
        let row = batches.iter().find(|batch| batch.num_rows() == 1);
        let row = row.with_context(|| format!("ClickHouse answered {sql} without a row"))?;
        let number = |column: &arrow::array::ArrayRef| Some(column.as_primitive_opt::<UInt64Type>()?.value(0));
        row.columns()
            .iter()
            .map(number)
            .collect::<Option<_>>()
            .with_context(|| format!("numbers of another type: {sql}"))
    }

    /// Aggregates the events of a step; returns how many there were.
    async fn read(&self, source: &Source, after: Epoch, upto: Epoch, aggregate: &mut Backfill) -> anyhow::Result<u64> {
        let sql = format!(
            "SELECT {} FROM {} WHERE {} ORDER BY {EPOCH_COLUMN}",
            source.columns,
            source.table,
            source.range(after, upto)
        );
        let mut batches = self.clickhouse.query_arrow(&sql).await?;
        let mut events = 0;
        while let Some(batch) = batches.next().await {
            let batch = source.events(&batch?)?;
            events += batch.len() as u64;
            tokio::task::block_in_place(|| aggregate.add(batch));
        }
        Ok(events)
    }
}

impl Source {
    fn range(&self, after: Epoch, upto: Epoch) -> String {
        format!("{EPOCH_COLUMN} > {} AND {EPOCH_COLUMN} <= {upto}", after.max(self.after))
    }

    fn events(&self, batch: &RecordBatch) -> anyhow::Result<EventBatch> {
        ensure!(batch.num_columns() == self.schema.fields().len(), "the events of {} have other columns", self.table);
        let rows = conform(batch, &self.schema)?;
        Ok(match self.stream {
            StreamId::METRICS => EventBatch::Metrics(Arc::new(MetricsBatch::of_record_batch(&rows)?)),
            stream => EventBatch::Table(Arc::new(TableBatch { stream, rows })),
        })
    }
}
