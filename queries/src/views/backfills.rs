//! How far the back-fills of views are, as whoever does them says.

use std::collections::HashMap;

use parking_lot::Mutex;
use streamgauge_schemas::{Epoch, View, ViewId};

use crate::error::QueryError;

/// Where a back-fill stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackfillProgress {
    /// Events up to this epoch are counted.
    pub upto: Epoch,
    /// Events counted since it began, and in all; of the time before a restart the first is a part of the second.
    pub events_done: u64,
    /// See `events_done`; zero until it is known.
    pub events_total: u64,
    /// Why it does not go on.
    pub failure: Option<String>,
}

/// The back-fills that were begun.
#[derive(Default)]
pub struct Backfills(Mutex<HashMap<ViewId, BackfillProgress>>);

impl Backfills {
    /// Says where a back-fill stands.
    pub fn set(&self, view: ViewId, progress: BackfillProgress) {
        self.0.lock().insert(view, progress);
    }

    /// Forgets those of views that are no more.
    pub fn retain(&self, mut there: impl FnMut(ViewId) -> bool) {
        self.0.lock().retain(|view, _| there(*view));
    }

    /// Where the back-fill of a view stands; nothing of one that was not begun.
    #[must_use]
    pub fn get(&self, view: ViewId) -> BackfillProgress {
        self.0.lock().get(&view).cloned().unwrap_or_default()
    }

    /// Whether a view counts all that it should.
    #[must_use]
    pub fn is_done(&self, view: &View) -> bool {
        view.is_filled(self.get(view.id).upto)
    }

    /// Refuses a view whose back-fill is not done.
    ///
    /// # Errors
    /// [`QueryError::Backfilling`] with how far it is.
    pub(crate) fn check(&self, view: &View) -> Result<(), QueryError> {
        if self.is_done(view) {
            return Ok(());
        }
        Err(QueryError::Backfilling { view: view.definition.name.clone(), progress: self.get(view.id).to_string() })
    }
}

impl std::fmt::Display for BackfillProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = (self.events_done * 100).checked_div(self.events_total).unwrap_or(0).min(99);
        write!(f, "{percent} % of {} events", self.events_total)?;
        self.failure.as_ref().map_or(Ok(()), |failure| write!(f, "; it waits: {failure}"))
    }
}
