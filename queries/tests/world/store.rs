//! A stand-in for ClickHouse's tables: rows of a view are replaced by version, and a restart finds what was committed.

use std::collections::HashMap;

use streamgauge_engine::{Recovered, ViewHistory};
use streamgauge_schemas::stream::Catalog;
use streamgauge_schemas::{Duration, Epoch, EventTime, GroupKey, Key, Row, Rows, SeriesId, StreamId, View, ViewId};

/// The states of a view.
#[derive(Clone, Default)]
struct Table {
    rows: HashMap<(SeriesId, EventTime, Epoch), Row>,
    keys: HashMap<SeriesId, Key>,
}

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Store {
    tables: HashMap<ViewId, Table>,
    views_flushed: HashMap<ViewId, Epoch>,
    streams_flushed: HashMap<StreamId, Epoch>,
    catalog: Catalog,
    catalog_flushed: Epoch,
}

impl Store {
    /// Whether a view has a table.
    pub(super) fn knows(&self, view: &View) -> bool {
        self.catalog.view_by_id(view.id).is_some()
    }

    /// Writes rows of a view, only those with `keep`; of a row with the same name the newest version stays.
    pub(super) fn write(
        &mut self,
        view: &View,
        rows: &Rows,
        keys: &HashMap<SeriesId, Key>,
        keep: impl Fn(usize) -> bool,
    ) {
        assert!(self.knows(view), "a view is flushed after its definition");
        let table = self.tables.entry(view.id).or_default();
        for (_, (key, row)) in rows.iter().enumerate().filter(|(index, _)| keep(*index)) {
            table.keys.insert(key.series, keys[&key.series].clone());
            let slot = table.rows.entry((key.series, key.bucket, row.generation)).or_insert_with(|| row.clone());
            if slot.version <= row.version {
                *slot = row;
            }
        }
    }

    /// Notes that a view is written up to `upto`.
    pub(super) fn commit_view(&mut self, view: &View, upto: Epoch) {
        self.views_flushed.insert(view.id, upto);
    }

    /// Notes that the events of a stream are written up to `upto`.
    pub(super) fn commit_stream(&mut self, stream: StreamId, upto: Epoch) {
        self.streams_flushed.insert(stream, upto);
    }

    /// Writes the catalogue as of `upto`; the tables of views that are no more go.
    pub(super) fn commit_catalog(&mut self, catalog: &Catalog, upto: Epoch) {
        (self.catalog, self.catalog_flushed) = (catalog.clone(), upto);
        self.tables.retain(|id, _| catalog.view_by_id(*id).is_some());
        self.views_flushed.retain(|id, _| catalog.view_by_id(*id).is_some());
    }

    /// Deletes what a step of a back-fill wrote above `upto` and did not commit.
    pub(super) fn discard_above(&mut self, view: &View, upto: Epoch) {
        let table = self.tables.entry(view.id).or_default();
        table.rows.retain(|_, row| row.version <= upto || row.version > view.id.created());
    }

    /// The rows of a view that are history for a horizon, with their dimension values.
    pub(super) fn history(&self, view: &View, horizon: Epoch) -> impl Iterator<Item = (GroupKey, Row, &Key)> {
        self.tables.get(&view.id).into_iter().flat_map(move |table| {
            let rows = table.rows.iter().filter(move |(_, row)| row.version <= horizon);
            rows.map(|((series, bucket, _), row)| {
                (GroupKey { series: *series, bucket: *bucket }, row.clone(), &table.keys[series])
            })
        })
    }

    /// What a restart finds; `recent`: it takes more rows than it must.
    pub(super) fn recover(&self, recent: bool) -> Recovered {
        let mut recovered = Recovered {
            views_flushed: self.views_flushed.clone(),
            streams_flushed: self.streams_flushed.clone(),
            catalog: self.catalog.clone(),
            catalog_flushed: self.catalog_flushed,
            ..Recovered::default()
        };
        for view in self.catalog.own_views() {
            let flushed = self.views_flushed.get(&view.id).copied().unwrap_or(view.id.created());
            let idle = view.definition.options.idle.as_micros();
            let horizon = view.horizon_keeping(flushed, Duration::from_micros(if recent { 2 * idle } else { 0 }));
            let Some(table) = self.tables.get(&view.id) else { continue };
            let (mut rows, mut keys) = (Rows::default(), HashMap::new());
            for ((series, bucket, _), row) in table.rows.iter().filter(|(_, row)| row.version > horizon) {
                rows.push(GroupKey { series: *series, bucket: *bucket }, row.clone());
                keys.insert(*series, table.keys[series].clone());
                if let Key::Series(series) = &table.keys[series] {
                    recovered.series.push(series.clone());
                }
            }
            recovered.rows.insert(view.id, (rows, keys));
            if !view.definition.options.backfill {
                let old = table.rows.iter().filter(|(_, row)| row.version <= horizon);
                let newest = old.map(|((_, bucket, _), _)| *bucket).max();
                recovered.history.insert(view.id, ViewHistory { horizon, newest });
            } else if recent {
                recovered.history.insert(view.id, ViewHistory::unknown(horizon));
            }
        }
        recovered
    }
}
