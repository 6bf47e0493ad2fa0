//! Joins queries, which know what to ask of history, to the ClickHouse that keeps it.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use streamgauge_queries::{ExternalTable, History, HistoryError};
use streamgauge_sinks::{Aside, ClickHouse, SentTable, SinkError};

/// How long ClickHouse may take to say that it is there.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// ClickHouse as queries see it.
pub(crate) struct ClickHouseHistory {
    clickhouse: ClickHouse,
    aside: Arc<Aside>,
}

impl ClickHouseHistory {
    /// `aside`: what ClickHouse does not have.
    pub(crate) fn new(clickhouse: ClickHouse, aside: Arc<Aside>) -> Self {
        ClickHouseHistory { clickhouse, aside }
    }
}

fn fail(error: SinkError) -> HistoryError {
    match error.is_retryable() {
        _ if error.is_unknown_table() => HistoryError::table_missing(error),
        _ if error.is_timed_out() => HistoryError::timed_out(error),
        _ if error.exceeds_query_memory() => HistoryError::beyond_memory(error),
        true => HistoryError::retryable(error),
        false => HistoryError::lasting(error),
    }
}

fn sent(tables: Vec<ExternalTable>) -> Vec<SentTable> {
    let sent = |ExternalTable { name, structure, batches }| SentTable { name, structure, batches };
    tables.into_iter().map(sent).collect()
}

#[async_trait]
impl History for ClickHouseHistory {
    async fn query(&self, sql: &str) -> Result<BoxStream<'static, Result<RecordBatch, HistoryError>>, HistoryError> {
        let batches = self.clickhouse.query_arrow(sql).await.map_err(fail)?;
        Ok(batches.map(|batch| batch.map_err(fail)).boxed())
    }

    async fn query_with(
        &self,
        sql: &str,
        tables: Vec<ExternalTable>,
    ) -> Result<BoxStream<'static, Result<RecordBatch, HistoryError>>, HistoryError> {
        let batches = self.clickhouse.query_arrow_with(sql, &sent(tables)).await.map_err(fail)?;
        Ok(batches.map(|batch| batch.map_err(fail)).boxed())
    }

    async fn available(&self) -> Result<(), HistoryError> {
        match self.clickhouse.ping(PING_TIMEOUT).await {
            Err(error @ (SinkError::Away { .. } | SinkError::Timeout { .. })) => Err(HistoryError::retryable(error)),
            _ => Ok(()), // whatever it says, it is there
        }
    }

    fn is_whole(&self) -> bool {
        self.aside.files().is_empty()
    }

    fn database(&self) -> &str {
        self.clickhouse.database()
    }
}
