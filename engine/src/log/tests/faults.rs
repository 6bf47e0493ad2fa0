//! A disk that fails when told to, and whose syncs can be made to wait.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::log::segment::Disk;
use crate::log::{Log, LogError, LogOptions};

/// What the disk is to do wrong; shared by the test and the log.
#[derive(Clone, Default)]
pub(super) struct Faults {
    shared: Arc<(Mutex<Plan>, Condvar)>,
}

#[derive(Default)]
struct Plan {
    /// The next write stops after that many bytes, as on a full disk.
    write_bytes: Option<usize>,
    sync_fails: bool,
    set_len_fails: bool,
    syncs_wait: bool,
    waiting: usize,
}

impl Faults {
    pub(super) fn open(&self, dir: &Path, options: LogOptions) -> Result<Log, LogError> {
        let faults = self.clone();
        Log::open_with(dir, options, Box::new(move |file| Box::new(FaultyDisk { file, faults: faults.clone() })))
    }

    pub(super) fn next_write_stops_after(&self, bytes: usize) {
        self.shared.0.lock().write_bytes = Some(bytes);
    }

    pub(super) fn syncs_fail(&self, fail: bool) {
        self.shared.0.lock().sync_fails = fail;
    }

    pub(super) fn cuts_fail(&self, fail: bool) {
        self.shared.0.lock().set_len_fails = fail;
    }

    /// Makes syncs wait until called with `false`.
    pub(super) fn syncs_wait(&self, wait: bool) {
        self.shared.0.lock().syncs_wait = wait;
        self.shared.1.notify_all();
    }

    /// Waits until a sync waits.
    pub(super) fn until_a_sync_waits(&self) {
        let mut plan = self.shared.0.lock();
        self.shared.1.wait_while(&mut plan, |plan| plan.waiting == 0);
    }
}

struct FaultyDisk {
    file: File,
    faults: Faults,
}

impl Disk for FaultyDisk {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let stop = self.faults.shared.0.lock().write_bytes.take();
        let Some(stop) = stop else { return Disk::write_at(&mut self.file, bytes, offset) };
        Disk::write_at(&mut self.file, &bytes[..stop.min(bytes.len())], offset)?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }

    fn sync(&mut self) -> io::Result<()> {
        let (plan, changed) = &*self.faults.shared;
        let mut plan = plan.lock();
        plan.waiting += 1;
        changed.notify_all();
        changed.wait_while(&mut plan, |plan| plan.syncs_wait);
        plan.waiting -= 1;
        if plan.sync_fails {
            return Err(io::Error::other("the disk is gone"));
        }
        drop(plan);
        Disk::sync(&mut self.file)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        if self.faults.shared.0.lock().set_len_fails {
            return Err(io::Error::other("the disk is gone"));
        }
        Disk::set_len(&mut self.file, len)
    }
}
