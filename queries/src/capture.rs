//! The capture: one snapshot of memory for all the tables of one statement.
//!
//! Tables say what they want while the statement is planned. Then, before the first row is read, the snapshot is taken
//! once for all of them, so that they agree on one epoch.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use streamgauge_engine::snapshot::{StreamSnapshot, ViewSnapshot};
use streamgauge_engine::{Engine, SnapshotRequest, ViewRead};
use streamgauge_schemas::{Epoch, StreamId};

use crate::error::QueryError;

/// See the module.
#[derive(Default)]
pub(crate) struct Capture {
    wanted: Mutex<SnapshotRequest>,
    taken: OnceLock<Taken>,
}

struct Taken {
    views: Vec<Arc<ViewSnapshot>>,
    streams: Vec<Arc<StreamSnapshot>>,
}

/// The place of a view's read among those of the statement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ViewPlace(usize);

/// The place of a stream's read among those of the statement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamPlace(usize);

impl Capture {
    /// Asks for rows of a view.
    pub(crate) fn want_view(&self, read: ViewRead) -> ViewPlace {
        let mut wanted = self.wanted.lock();
        wanted.views.push(read);
        ViewPlace(wanted.views.len() - 1)
    }

    /// Asks for the events of a stream.
    pub(crate) fn want_stream(&self, stream: StreamId) -> StreamPlace {
        let mut wanted = self.wanted.lock();
        let place = wanted.streams.iter().position(|other| *other == stream);
        StreamPlace(place.unwrap_or_else(|| {
            wanted.streams.push(stream);
            wanted.streams.len() - 1
        }))
    }

    /// Takes the snapshot; returns its epoch.
    pub(crate) async fn take(&self, engine: &Engine) -> Result<Epoch, QueryError> {
        let wanted = self.wanted.lock().clone();
        let snapshot = engine.snapshot(wanted).await?;
        let taken = Taken {
            views: snapshot.views.into_iter().map(Arc::new).collect(),
            streams: snapshot.streams.into_iter().map(Arc::new).collect(),
        };
        assert!(self.taken.set(taken).is_ok(), "a statement takes one snapshot");
        Ok(snapshot.epoch)
    }

    /// The epoch up to which ClickHouse holds a part of the answer; zero when it holds none.
    pub(crate) fn history_upto(&self) -> Epoch {
        let views = self.taken().views.iter().map(|view| view.horizon);
        let streams = self.taken().streams.iter().map(|stream| stream.flushed);
        views.chain(streams).max().unwrap_or(Epoch::ZERO)
    }

    /// What memory had of the view.
    pub(crate) fn view(&self, place: ViewPlace) -> Arc<ViewSnapshot> {
        self.taken().views[place.0].clone()
    }

    /// What memory had of the stream.
    pub(crate) fn stream(&self, place: StreamPlace) -> Arc<StreamSnapshot> {
        self.taken().streams[place.0].clone()
    }

    fn taken(&self) -> &Taken {
        self.taken.get().expect("the snapshot is taken between planning and the first row")
    }
}
