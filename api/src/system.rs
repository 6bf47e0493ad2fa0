//! What the tables of schema `system` show of the program: flushes and settings.

use std::collections::HashMap;
use std::sync::Arc;

use streamgauge_engine::Engine;
use streamgauge_queries::system::{FlushItem, Program, Setting};
use streamgauge_schemas::Epoch;
use streamgauge_sinks::{CATALOG_ITEM, FlushStatus, Flusher, stream_item, view_item};

/// The program as questions see it.
pub(crate) struct Observed {
    pub(crate) engine: Engine,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) settings: Vec<Setting>,
}

impl Program for Observed {
    fn flushes(&self) -> Vec<FlushItem> {
        flushed(&self.engine, &self.flusher).into_iter().map(|(status, flushed)| flush(status, flushed)).collect()
    }

    fn settings(&self) -> Vec<Setting> {
        self.settings.clone()
    }
}

fn flush(status: FlushStatus, flushed: Epoch) -> FlushItem {
    FlushItem {
        item: status.item,
        flushed,
        flushes_total: status.flushes_total,
        rows_total: status.rows_total,
        last: status.last.map(|last| (last.at, last.rows, last.took.as_secs_f64() * 1e3)),
        failures_total: status.failures_total,
        failed_at: status.failed_at,
        error: status.last_error,
    }
}

/// How the flushing of each item goes, and the epoch up to which it is flushed: the engine's, since those of items
/// without anything to write move on too.
pub(crate) fn flushed(engine: &Engine, flusher: &Flusher) -> Vec<(FlushStatus, Epoch)> {
    let flushed = engine.flushed();
    let mut epochs: HashMap<String, Epoch> = HashMap::from([(CATALOG_ITEM.to_owned(), flushed.catalog)]);
    epochs.extend(flushed.streams.into_iter().map(|(id, epoch)| (stream_item(id), epoch)));
    let views = engine.views();
    epochs.extend(views.iter().filter_map(|view| Some((view_item(view), *flushed.views.get(&view.id)?))));
    let with_epoch = |status: FlushStatus| {
        let epoch = epochs.get(&status.item).copied().unwrap_or(status.flushed_epoch);
        (status, epoch)
    };
    flusher.status().into_iter().map(with_epoch).collect()
}
