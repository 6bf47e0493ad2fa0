//! The events of a view's stream in ClickHouse, and how they are cut into steps.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, UInt64Type};
use futures::StreamExt;
use streamgauge_engine::{Backfill, Engine};
use streamgauge_queries::history::conform;
use streamgauge_schemas::stream::{EPOCH_COLUMN, METRICS};
use streamgauge_schemas::{Epoch, EventBatch, MetricsBatch, StreamDefinition, StreamId, TableBatch, View};
use streamgauge_sinks::ClickHouse;
use streamgauge_sinks::sql::sql_name;

/// Into about how many pieces a range of epochs is cut by one query.
const PIECES: u64 = 1_000;

/// The events of a view's stream in ClickHouse.
pub(super) struct Source {
    clickhouse: ClickHouse,
    table: String,
    stream: StreamId,
    schema: SchemaRef,
    /// Names of the columns, as ClickHouse has them.
    columns: String,
    /// Events at or below are of a stream that had the name before.
    after: Epoch,
}

/// Epochs up to this one, from the end of the piece before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) upto: Epoch,
    pub(super) events: u64,
}

/// The epochs that are left to read, in order, and how many events they have.
///
/// One query tells of all of them, so that a long history is not counted again for each step; only a piece that has too
/// many events for a step is cut finer when its turn comes.
#[derive(Debug)]
pub(super) struct Pieces {
    after: Epoch,
    left: VecDeque<Piece>,
}

impl Source {
    /// `None` when the stream is no more, nor then the view.
    pub(super) fn of(view: &View, engine: &Engine, clickhouse: &ClickHouse) -> Option<Self> {
        let stream = view.definition.stream;
        let (name, schema) = match stream {
            StreamId::METRICS => (METRICS.to_owned(), StreamDefinition::metrics_schema()),
            id => {
                let stream = engine.catalog().by_id(id)?.clone();
                (stream.definition.name.clone(), stream.definition.schema())
            }
        };
        let columns: Vec<String> = schema.fields().iter().map(|field| sql_name(field.name())).collect();
        let (table, after) = (clickhouse.table(&name), Epoch(if stream.is_built_in() { 0 } else { stream.0 }));
        Some(Source { clickhouse: clickhouse.clone(), table, stream, schema, columns: columns.join(", "), after })
    }

    /// How many events there are after an epoch, up to another.
    pub(super) async fn count(&self, after: Epoch, upto: Epoch) -> anyhow::Result<u64> {
        let sql = format!("SELECT count() AS n FROM {} WHERE {}", self.table, self.range(after, upto));
        Ok(self.numbers(&sql).await?.first().context("ClickHouse counted nothing")?[0])
    }

    /// Cuts a range of epochs into pieces.
    pub(super) async fn pieces(&self, after: Epoch, upto: Epoch) -> anyhow::Result<Pieces> {
        Ok(Pieces { after, left: self.cut(after, upto).await?.into() })
    }

    async fn cut(&self, after: Epoch, upto: Epoch) -> anyhow::Result<Vec<Piece>> {
        let from = after.max(self.after);
        let width = (upto.0.saturating_sub(from.0)).div_ceil(PIECES).max(1);
        let sql = format!(
            "SELECT toUInt64(intDiv({EPOCH_COLUMN} - {from} - 1, {width})) AS piece, count() AS n FROM {} WHERE {} \
             GROUP BY piece ORDER BY piece",
            self.table,
            self.range(after, upto)
        );
        let mut pieces: Vec<Piece> = Vec::new();
        for row in self.numbers(&sql).await? {
            // What is empty before it is a piece of its own: so cutting always makes narrower ones.
            let (first, end) = (Epoch(from.0 + row[0] * width), Epoch(from.0 + (row[0] + 1) * width).min(upto));
            if pieces.last().map_or(from, |last| last.upto) < first {
                pieces.push(Piece { upto: first, events: 0 });
            }
            pieces.push(Piece { upto: end, events: row[1] });
        }
        if pieces.last().is_none_or(|last| last.upto < upto) {
            pieces.push(Piece { upto, events: 0 });
        }
        Ok(pieces)
    }

    /// The rows of an answer, which are of numbers.
    async fn numbers(&self, sql: &str) -> anyhow::Result<Vec<Vec<u64>>> {
        let mut rows = Vec::new();
        for batch in self.clickhouse.query_batches(sql).await? {
            let columns: Option<Vec<_>> =
                batch.columns().iter().map(|column| column.as_primitive_opt::<UInt64Type>()).collect();
            let columns = columns.with_context(|| format!("numbers of another type: {sql}"))?;
            rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row)).collect()));
        }
        Ok(rows)
    }

    /// Aggregates the events of a step; returns how many there were.
    pub(super) async fn read(&self, after: Epoch, upto: Epoch, aggregate: &mut Backfill) -> anyhow::Result<u64> {
        let sql = format!(
            "SELECT {} FROM {} WHERE {} ORDER BY {EPOCH_COLUMN}",
            self.columns,
            self.table,
            self.range(after, upto)
        );
        let mut batches = self.clickhouse.query_arrow(&sql).await?;
        let mut events = 0;
        while let Some(batch) = batches.next().await {
            let batch = self.events(&batch?)?;
            events += batch.len() as u64;
            tokio::task::block_in_place(|| aggregate.add(batch));
        }
        Ok(events)
    }

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

impl Pieces {
    /// How many events are left.
    pub(super) fn events(&self) -> u64 {
        self.left.iter().map(|piece| piece.events).sum()
    }

    /// Takes as many pieces as have about `events_max` events together, but no less than one epoch; returns their last
    /// epoch.
    pub(super) async fn take(&mut self, source: &Source, events_max: u64) -> anyhow::Result<Epoch> {
        let mut taken = 0;
        while let Some(next) = self.left.front().copied() {
            if taken > 0 && taken + next.events > events_max {
                break;
            }
            let epochs = next.upto.0.saturating_sub(self.after.max(source.after).0);
            if next.events > events_max && epochs > 1 {
                let finer = source.cut(self.after, next.upto).await?;
                self.left.pop_front();
                finer.into_iter().rev().for_each(|piece| self.left.push_front(piece));
                continue;
            }
            taken += next.events;
            self.after = next.upto;
            self.left.pop_front();
        }
        Ok(self.after)
    }
}
