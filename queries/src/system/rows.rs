//! What is in the tables of schema `system`.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use datafusion::execution::memory_pool::MemoryPool;
use streamgauge_schemas::stream::{Catalog, METRICS};
use streamgauge_schemas::{Epoch, StreamDefinition, StreamId, View, ViewId};

use super::{FlushItem, System};
use crate::postgres::sheet::{Cell, Sheet};
use crate::views::Backfills;

/// The item of a flush that is the catalogue itself.
const CATALOG_ITEM: &str = "catalog";

pub(super) fn streams(sheet: &mut Sheet, system: &System) {
    let (catalog, newest, errors) = (system.engine.catalog(), system.engine.status().epoch, errors(system));
    let metrics = (StreamId::METRICS, METRICS, "ts", StreamDefinition::metrics_schema().fields().len(), None);
    let others = catalog.streams.iter().map(|stream| {
        let definition = &stream.definition;
        let retention = Some(definition.retention());
        (stream.id, definition.name.as_str(), definition.time_column.as_str(), definition.columns.len(), retention)
    });
    for (id, name, time_column, columns, retention) in std::iter::once(metrics).chain(others) {
        let status = system.engine.stream_status(id);
        sheet.add([
            ("stream", name.into()),
            ("built_in", id.is_built_in().into()),
            ("created_at", made_at(id.is_built_in(), Epoch(id.0))),
            ("retention", retention.map(|retention| retention.to_string()).into()),
            ("time_column", time_column.into()),
            ("columns", (columns as i64).into()),
            ("views", (catalog.views_over(id).count() as i64).into()),
            ("memory_rows", status.map(|status| status.rows as i64).into()),
            ("memory_bytes", status.map(|status| status.bytes as i64).into()),
            ("flushed_epoch", status.map(|status| status.flushed.0 as i64).into()),
            ("flushed_at", status.map_or(Cell::Null, |status| time_of(status.flushed))),
            ("lag_ms", status.map(|status| lag_ms(newest, status.flushed)).into()),
            ("flush_error", errors.get(&format!("stream/{name}")).cloned().into()),
        ]);
    }
}

pub(super) fn views(sheet: &mut Sheet, system: &System, backfills: &Backfills) {
    let (engine, newest, errors) = (&system.engine, system.engine.status().epoch, errors(system));
    let catalog = engine.catalog();
    let stream_name =
        |id: StreamId| catalog.by_id(id).map_or_else(|| METRICS.to_owned(), |stream| stream.definition.name.clone());
    for view in &catalog.views {
        let (definition, options) = (&view.definition, &view.definition.options);
        let (status, backfill) = (engine.view_status(view.id), backfills.get(view.id));
        let finer = engine.fed_from(view.id).and_then(|id: ViewId| catalog.view_by_id(id));
        let counted = options.backfill && !view.id.is_built_in();
        let bucket = definition.bucket.as_ref().and_then(|bucket| bucket.width);
        sheet.add([
            ("view", definition.name.clone().into()),
            ("stream", stream_name(definition.stream).into()),
            ("fed_from", finer.map(|finer| finer.definition.name.clone()).into()),
            ("built_in", view.id.is_built_in().into()),
            ("created_at", made_at(view.id.is_built_in(), view.id.created())),
            ("retention", options.retention.to_string().into()),
            ("idle", options.idle.to_string().into()),
            ("flush_interval", options.flush_interval.to_string().into()),
            ("bucket", bucket.map(|width| width.to_string()).into()),
            ("memory_rows", status.as_ref().map(|status| status.rows as i64).into()),
            ("memory_bytes", status.as_ref().map(|status| status.bytes as i64).into()),
            ("memory_bytes_max", options.memory_bytes_max.map(|bytes| bytes as i64).into()),
            ("flushed_epoch", status.as_ref().map(|status| status.flushed.0 as i64).into()),
            ("horizon_epoch", status.as_ref().map(|status| status.horizon.0 as i64).into()),
            ("lag_ms", status.as_ref().map(|status| lag_ms(newest, status.flushed)).into()),
            ("flush_error", errors.get(&format!("view/{}", definition.name)).cloned().into()),
            ("backfill", backfill_state(view, backfills).into()),
            ("backfill_events_done", counted.then_some(backfill.events_done as i64).into()),
            ("backfill_events_total", counted.then_some(backfill.events_total as i64).into()),
            ("backfill_error", backfill.failure.into()),
            ("failed_events", status.as_ref().map(|status| status.failed_events as i64).into()),
            ("failure", status.and_then(|status| status.failure).into()),
            ("statement", definition.select.clone().into()),
        ]);
    }
}

fn backfill_state(view: &View, backfills: &Backfills) -> &'static str {
    match view.definition.options.backfill && !view.id.is_built_in() {
        false => "none",
        true if backfills.is_done(view) => "done",
        true if backfills.get(view.id).failure.is_some() => "waiting",
        true => "running",
    }
}

pub(super) fn flushes(sheet: &mut Sheet, system: &System) {
    let newest = system.engine.status().epoch;
    for flush in items(system) {
        let (kind, name) = flush.item.split_once('/').unwrap_or((CATALOG_ITEM, ""));
        sheet.add([
            ("item", flush.item.as_str().into()),
            ("kind", kind.into()),
            ("name", (!name.is_empty()).then_some(name).into()),
            ("flushed_epoch", (flush.flushed.0 as i64).into()),
            ("lag_ms", lag_ms(newest, flush.flushed).into()),
            ("flushes_total", (flush.flushes_total as i64).into()),
            ("rows_total", (flush.rows_total as i64).into()),
            ("last_at", flush.last.map(|(at, ..)| at.0).into()),
            ("last_rows", flush.last.map(|(_, rows, _)| rows as i64).into()),
            ("last_ms", flush.last.map(|(.., took_ms)| took_ms).into()),
            ("failures_total", (flush.failures_total as i64).into()),
            ("failed_at", flush.failed_at.map(|at| at.0).into()),
            ("error", flush.error.into()),
        ]);
    }
}

pub(super) fn epochs(sheet: &mut Sheet, system: &System) {
    let (engine, flushed) = (&system.engine, system.engine.flushed());
    let (newest, catalog) = (engine.status().epoch, engine.catalog());
    let mut add = |item: &str, kind: &str, epoch: Epoch, horizon: Option<Epoch>| {
        sheet.add([
            ("item", item.into()),
            ("kind", kind.into()),
            ("epoch", (epoch.0 as i64).into()),
            ("at", time_of(epoch)),
            ("age_ms", lag_ms(newest, epoch).into()),
            ("horizon_epoch", horizon.map(|horizon| horizon.0 as i64).into()),
            ("horizon_at", horizon.map_or(Cell::Null, time_of)),
        ]);
    };
    add("newest", "visible", newest, None);
    add(CATALOG_ITEM, "flushed", flushed.catalog, None);
    let name = |id: StreamId| catalog.by_id(id).map_or(METRICS, |stream| stream.definition.name.as_str());
    let mut streams: Vec<_> = flushed.streams.into_iter().collect();
    streams.sort_unstable_by_key(|(id, _)| *id);
    streams.iter().for_each(|(id, epoch)| add(&format!("stream/{}", name(*id)), "flushed", *epoch, None));
    for view in &catalog.views {
        if let Some(epoch) = flushed.views.get(&view.id) {
            add(
                &format!("view/{}", view.definition.name),
                "flushed",
                *epoch,
                engine.view_status(view.id).map(|status| status.horizon),
            );
        }
    }
}

pub(super) fn queries(sheet: &mut Sheet, system: &System) {
    for record in system.activity.all() {
        let progress = record.progress();
        let (waited_ms, elapsed_ms) = record.times_ms(&progress);
        sheet.add([
            ("id", (record.id as i64).into()),
            ("user_name", record.asker.user.as_ref().into()),
            ("client", record.asker.client.as_deref().into()),
            ("protocol", record.asker.protocol.into()),
            ("state", progress.state.name().into()),
            ("started_at", record.began_at.0.into()),
            ("waited_ms", waited_ms.into()),
            ("elapsed_ms", elapsed_ms.into()),
            ("rows", (record.rows.load(Ordering::Relaxed) as i64).into()),
            ("clickhouse_bytes", (record.waits.bytes() as i64).into()),
            ("memory_bytes", (record.memory.reserved() as i64).into()),
            ("memory_peak_bytes", (record.memory.peak() as i64).into()),
            ("epoch", progress.epoch.map(|epoch| epoch.0 as i64).into()),
            ("partial", progress.partial.into()),
            ("error", progress.error.into()),
            ("sql", record.sql.as_str().into()),
        ]);
    }
}

pub(super) fn settings(sheet: &mut Sheet, system: &System) {
    for setting in system.program.get().map(|program| program.settings()).unwrap_or_default() {
        sheet.add([
            ("name", setting.name.into()),
            ("value", setting.value.into()),
            ("default_value", setting.default.into()),
            ("source", setting.source.into()),
            ("flag", setting.flag.into()),
            ("variable", setting.variable.into()),
            ("description", setting.description.into()),
        ]);
    }
}

/// How the flushing goes; items of streams and views are called by the names of these.
fn items(system: &System) -> Vec<FlushItem> {
    let catalog = system.engine.catalog();
    let named = |flush: FlushItem| FlushItem { item: named(&catalog, &flush.item), ..flush };
    system.program.get().map(|program| program.flushes()).unwrap_or_default().into_iter().map(named).collect()
}

/// An item under the name of what it is for, instead of its number.
fn named(catalog: &Catalog, item: &str) -> String {
    let Some((kind, Ok(number))) = item.split_once('/').map(|(kind, number)| (kind, number.parse())) else {
        return item.to_owned();
    };
    let name = match kind {
        "stream" if StreamId(number) == StreamId::METRICS => Some(METRICS),
        "stream" => catalog.by_id(StreamId(number)).map(|stream| stream.definition.name.as_str()),
        _ => catalog.view_by_id(ViewId(number)).map(|view| view.definition.name.as_str()),
    };
    name.map_or_else(|| item.to_owned(), |name| format!("{kind}/{name}"))
}

/// Why the last flush of an item failed, of those of which it did.
fn errors(system: &System) -> HashMap<String, String> {
    items(system).into_iter().filter_map(|flush| Some((flush.item, flush.error?))).collect()
}

/// Epochs are microseconds of a clock.
fn time_of(epoch: Epoch) -> Cell {
    if epoch == Epoch::ZERO { Cell::Null } else { Cell::Number(epoch.0 as i64) }
}

/// What is not built in is named by the epoch that made it.
fn made_at(built_in: bool, epoch: Epoch) -> Cell {
    if built_in { Cell::Null } else { time_of(epoch) }
}

fn lag_ms(newest: Epoch, epoch: Epoch) -> i64 {
    (newest.0.saturating_sub(epoch.0) / 1_000) as i64
}
