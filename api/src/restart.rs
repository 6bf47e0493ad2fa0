//! What the engine must know of ClickHouse when it starts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use streamgauge_engine::requests::ForgottenSequence;
use streamgauge_engine::{Engine, KnownRequest, Recovered, RequestName, ViewHistory};
use streamgauge_schemas::{EventTime, Key, Series, StreamId, View};
use streamgauge_sinks::{
    CATALOG_ITEM, ClickHouse, RecoveredRequest, RecoveredView, SinkError, backfill, stream_item, view_item,
};

/// How long the last values of metrics may take to find; they are a convenience.
const LAST_VALUES_TIMEOUT: Duration = Duration::from_secs(10);

/// Translates what the sinks found into what the engine takes.
pub(crate) fn recovered(found: streamgauge_sinks::Recovered) -> anyhow::Result<Recovered> {
    let mut recovered = Recovered { catalog_flushed: found.flushed(CATALOG_ITEM), ..Recovered::default() };
    for view in &found.catalog.views {
        recovered.views_flushed.insert(view.id, found.view_flushed(view));
        recovered.views_failed.extend(found.failed.get(&view_item(view)).map(|failed| (view.id, failed.clone())));
        let of_backfill = found.failed.get(&backfill::item(view));
        recovered.backfills_failed.extend(of_backfill.map(|failed| (view.id, failed.clone())));
    }
    let prefix = stream_item(StreamId::METRICS);
    let prefix = prefix.trim_end_matches(char::is_numeric);
    for (item, epoch) in &found.flushed {
        if let Some(id) = item.strip_prefix(prefix).and_then(|id| id.parse().ok()) {
            recovered.streams_flushed.insert(StreamId(id), *epoch);
        }
    }
    for RecoveredView { id, rows, keys, horizon, newest } in found.views {
        recovered.series.extend(keys.values().filter_map(|key| match key {
            Key::Series(series) => Some(series.clone()),
            Key::Values(_) => None,
        }));
        recovered.rows.insert(id, (rows, keys));
        recovered.history.insert(id, ViewHistory { horizon, newest });
    }
    recovered.catalog = found.catalog;
    recovered.sequences = (found.sequences.into_iter())
        .map(|found| ForgottenSequence { producer: found.producer, sequence: found.sequence, epoch: found.epoch })
        .collect();
    recovered.requests = found.requests.iter().map(known_request).collect::<anyhow::Result<_>>()?;
    Ok(recovered)
}

fn known_request(found: &RecoveredRequest) -> anyhow::Result<KnownRequest> {
    let name = RequestName::read(found.key.as_deref(), found.producer.as_deref(), found.sequence);
    let known =
        name.and_then(|name| KnownRequest::read(found.epoch, name, &found.body_hash, found.accepted, &found.rejected));
    known.with_context(|| format!("the table requests in ClickHouse has a row that makes no sense: {found:?}"))
}

/// All series that history knows of, from the coarsest rollup, whose rows are fewest.
pub(crate) async fn known_series(clickhouse: &ClickHouse, coarsest: &View) -> Result<Vec<Arc<Series>>, SinkError> {
    let table = clickhouse.table(&coarsest.states_table());
    let sql = format!("SELECT name, any(dimensions) AS dimensions FROM {table} GROUP BY name, series");
    let batches = clickhouse.query_batches(&sql).await?;
    let mut all = Vec::new();
    for batch in batches {
        let names = batch.column(0).as_string::<i32>();
        let dimensions = batch.column(1).as_map();
        for row in 0..batch.num_rows() {
            let entries = dimensions.value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
            let pairs = (0..keys.len()).map(|i| (keys.value(i), values.value(i)));
            all.push(Arc::new(Series::new(names.value(row), pairs)));
        }
    }
    Ok(all)
}

/// The newest value of each metric, for the list of metrics; without them the list is only less informative.
pub(crate) async fn restore_last_values(clickhouse: &ClickHouse, engine: &Engine) {
    let table = clickhouse.table("metrics");
    let sql = format!("SELECT name, argMax(value, (ts, _epoch)) AS value, max(ts) AS at FROM {table} GROUP BY name");
    match tokio::time::timeout(LAST_VALUES_TIMEOUT, clickhouse.query_batches(&sql)).await {
        Ok(Ok(batches)) => {
            for batch in batches {
                let names = batch.column(0).as_string::<i32>();
                let values = batch.column(1).as_primitive::<Float64Type>();
                let times = batch.column(2).as_primitive::<TimestampMicrosecondType>();
                for row in 0..batch.num_rows() {
                    engine.series().restore_last(names.value(row), EventTime(times.value(row)), values.value(row));
                }
            }
        }
        Ok(Err(error)) => tracing::warn!(%error, "the last values of metrics could not be read"),
        Err(_) => tracing::warn!("the last values of metrics were not found in time"),
    }
}
