//! Views that were not maintained for a time, since the version that ran had no plan for them.
//!
//! The log does not wait for such a view, or it would never be cut. So a later version that could maintain it again may
//! find that events are gone, and must not go on as if it had counted them. That is kept beside the log, in the file
//! `gaps`: a line with the id and the `F` of each view that is not maintained.
//!
//! # Invariants
//!
//! 1. A view that is not maintained is in the file, durably, before the log is cut.
//! 2. A view is in the file as long as it is not maintained; so one that is maintained and quiet, whose `F` in ClickHouse
//!    lies far behind, has no gap.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use streamgauge_schemas::{Epoch, ViewId};

use crate::log::LogError;

const FILE: &str = "gaps";

/// Where each view that was not maintained stood.
#[derive(Debug)]
pub(crate) struct Gaps {
    path: PathBuf,
    since: HashMap<ViewId, Epoch>,
}

impl Gaps {
    /// Reads the file of a log's folder, which need not be there.
    ///
    /// # Errors
    /// [`LogError::Io`], also when it makes no sense.
    pub(crate) fn open(log_dir: &Path) -> Result<Self, LogError> {
        let path = log_dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(LogError::io("read", &path))?,
        };
        let pair = |line: &str| {
            let (view, epoch) = line.split_once(' ')?;
            Some((ViewId(view.parse().ok()?), Epoch(epoch.parse().ok()?)))
        };
        let since = text.lines().map(pair).collect::<Option<_>>().ok_or_else(|| {
            let reason = "a line of it is not the id of a view and an epoch";
            LogError::io("read", &path)(io::Error::new(io::ErrorKind::InvalidData, reason))
        })?;
        Ok(Gaps { path, since })
    }

    /// The views that miss events when the log begins after `truncated`.
    pub(crate) fn missing(&self, truncated: Epoch) -> impl Iterator<Item = ViewId> {
        self.since.iter().filter(move |(_, since)| **since < truncated).map(|(view, _)| *view)
    }

    /// Keeps where the views that are not maintained now stand, durably, and forgets all others.
    ///
    /// # Errors
    /// [`LogError::Io`]; then what was kept before is still kept.
    pub(crate) fn keep(&mut self, now: impl Iterator<Item = (ViewId, Epoch)>) -> Result<(), LogError> {
        let now: HashMap<ViewId, Epoch> = now.collect();
        if now == self.since {
            return Ok(());
        }
        let unfinished = self.path.with_extension("new");
        let text: String = now.iter().map(|(view, epoch)| format!("{} {epoch}\n", view.0)).collect();
        let write = || {
            let mut file = File::create(&unfinished)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, &self.path)?;
            self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        write().map_err(LogError::io("write", &self.path))?;
        self.since = now;
        Ok(())
    }
}
