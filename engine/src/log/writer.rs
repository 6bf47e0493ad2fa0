//! The single writer of the log.
//!
//! # Time
//!
//! Epochs come from outside and rise strictly; the writer reads no clock.
//!
//! # Failure
//!
//! See the module [`log`](super): a failed write is cut back, a failed sync poisons. After a failed sync the kernel
//! may have dropped the pages it could not write and call the next sync a success; so the segment is never written or
//! synced again. [`Log::heal`] goes on in a new segment, whose header names the last group that was durable before: what
//! else the old one may hold was not acknowledged, and readers stop before it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use streamgauge_schemas::fault::journal::{self, Step};
use streamgauge_schemas::{Epoch, fault};

use super::frame::{self, FORMAT_VERSION, GROUP_BYTES_MAX};
use super::recovery::{self, Recovery};
use super::segment::{self, Disk, Segment};
use super::{LogError, LogReader, RecordRef};

const LOCK_FILE: &str = "lock";
/// A write buffer larger than this is given back after its group.
const BUFFER_KEPT_BYTES: usize = 16 << 20;

/// How the log keeps its files.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// A group that would make the newest segment longer than this begins a new one; 64 MiB by default.
    pub segment_bytes_max: u64,
    /// Whether [`Log::sync`] really syncs. `false` only for benchmarks: a crash of the machine then loses events.
    pub sync: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { segment_bytes_max: 64 << 20, sync: true }
    }
}

/// Wraps the file of the newest segment; what the tests put failures into.
pub(super) type WrapDisk = Box<dyn Fn(File) -> Box<dyn Disk> + Send>;

/// The log of one directory, of which this is the only writer.
pub struct Log {
    dir: PathBuf,
    options: LogOptions,
    wrap: WrapDisk,
    /// In order; the last is the one that is written to.
    segments: Vec<Segment>,
    active: Option<Box<dyn Disk>>,
    /// Up to here the newest segment is durable.
    synced_len: u64,
    last: Epoch,
    /// The last group that is durable; zero when there never was one.
    synced_group: Epoch,
    buffer: Vec<u8>,
    poison: Option<String>,
    /// Whether the removal of a segment may not be durable.
    removal_unsynced: bool,
    recovery: Recovery,
    /// Held for as long as the log is open; the system lets go of it also when the process is killed.
    _lock: File,
}

impl Log {
    /// Opens the log in `dir`, which is created if need be, and cuts off a torn tail.
    ///
    /// Reads the header of each segment and the whole of the newest. Groups in earlier segments are checked when
    /// they are read.
    ///
    /// # Errors
    /// [`LogError::Locked`] when somebody has it open; [`LogError::Corrupt`] with segment and offset when bytes
    /// are bad that are not a torn tail; [`LogError::Version`] for a segment of a newer program; [`LogError::Io`].
    pub fn open(dir: &Path, options: LogOptions) -> Result<Log, LogError> {
        Log::open_with(dir, options, Box::new(|file| Box::new(file)))
    }

    pub(super) fn open_with(dir: &Path, options: LogOptions, wrap: WrapDisk) -> Result<Log, LogError> {
        segment::create_directory(dir)?;
        let lock = lock(dir)?;
        let segments = segment::list(dir)?;
        let recovery = Recovery { segments: segments.len(), ..Recovery::default() };
        let mut log = Log {
            dir: dir.to_owned(),
            options,
            wrap,
            segments,
            active: None,
            synced_len: 0,
            last: Epoch::ZERO,
            synced_group: Epoch::ZERO,
            buffer: Vec::new(),
            poison: None,
            removal_unsynced: false,
            recovery,
            _lock: lock,
        };
        log.recover()?;
        Ok(log)
    }

    /// Finds the end of the newest segment, cuts what is torn, and makes what is left durable: a group that only
    /// the page cache has must not be read back and then vanish, nor a name that an earlier process did not sync.
    fn recover(&mut self) -> Result<(), LogError> {
        segment::sync_directory(&self.dir)?;
        let Some(newest) = self.segments.last_mut() else { return Ok(()) };
        let end = recovery::scan(newest)?;
        let opening = LogError::io("open the log segment", &newest.path);
        let file = OpenOptions::new().read(true).write(true).open(&newest.path).map_err(opening)?;
        if end.len < newest.len {
            let cut_bytes = newest.len - end.len;
            tracing::warn!(segment = %newest.path.display(), offset = end.len, cut_bytes, "cut a torn tail off the log");
            journal::note(Step::Cut { path: &newest.path, len: end.len });
            file.set_len(end.len).map_err(LogError::io("cut the log segment", &newest.path))?;
            self.recovery.cut_bytes = cut_bytes;
            self.recovery.cut_at = Some((newest.path.clone(), end.len));
            newest.len = end.len;
            fault::point("log.cut").map_err(LogError::io("cut the log segment", &newest.path))?;
        }
        segment::write_back(&newest.path, &file, newest.len)?;
        file.sync_all().map_err(LogError::io("sync the log segment", &newest.path))?;
        journal::note(Step::Synced { path: &newest.path });
        fault::point("log.recovered").map_err(LogError::io("sync the log segment", &newest.path))?;
        // An empty segment may be all that is left to say how far the epochs were.
        self.last = end.last.unwrap_or(Epoch(newest.header.first.0 - 1));
        self.synced_len = newest.len;
        self.synced_group = end.last.unwrap_or(newest.header.previous);
        self.active = Some((self.wrap)(file));
        Ok(())
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What opening found and did.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Appends one group of records under `epoch` with one write. It is durable only after [`Log::sync`], which must
    /// be called before the next append for a crash to be told from corruption (invariant 5).
    ///
    /// # Errors
    /// After any error nothing of the group is in the log. [`LogError::EpochOrder`] unless `epoch` is after the last;
    /// [`LogError::GroupTooLarge`]; [`LogError::Io`], for example when the disk is full, after which the log can be
    /// used on; [`LogError::Poisoned`] when it cannot.
    pub fn append(&mut self, epoch: Epoch, records: &[RecordRef<'_>]) -> Result<(), LogError> {
        self.check_poison()?;
        if epoch <= self.last {
            return Err(LogError::EpochOrder { epoch, last: self.last });
        }
        let bytes = frame::group_bytes(records);
        if bytes > GROUP_BYTES_MAX {
            return Err(LogError::GroupTooLarge { bytes, bytes_max: GROUP_BYTES_MAX });
        }
        self.make_room(epoch, bytes)?;
        let (Some(newest), Some(disk)) = (self.segments.last_mut(), self.active.as_mut()) else {
            unreachable!("make_room leaves a segment to write to")
        };
        frame::encode_group(&mut self.buffer, newest.header.salt, epoch, records);
        journal::note(Step::Write { path: &newest.path, offset: newest.len, bytes });
        let written = fault::point("log.write").and_then(|()| disk.write_at(&self.buffer, newest.len));
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        if let Err(error) = written {
            let failed = LogError::io("append to the log segment", &newest.path)(error);
            journal::note(Step::Cut { path: &newest.path, len: newest.len });
            if let Err(error) = disk.set_len(newest.len) {
                let reason = format!("a write failed ({}), and cutting it back failed too: {error}", cause(&failed));
                return Err(self.poison(reason));
            }
            return Err(failed);
        }
        let _ = fault::point("log.written"); // an error here would be one of the write
        newest.len += bytes;
        self.last = epoch;
        Ok(())
    }

    /// Begins a new segment when there is none, when the newest is of an older format, or when it has groups and `bytes`
    /// more would be too many.
    fn make_room(&mut self, epoch: Epoch, bytes: u64) -> Result<(), LogError> {
        let full = |newest: &Segment| {
            let too_long = !newest.is_empty() && newest.len + bytes > self.options.segment_bytes_max;
            too_long || newest.header.version != FORMAT_VERSION
        };
        if self.segments.last().is_some_and(|newest| !full(newest)) {
            return Ok(());
        }
        self.sync()?;
        let previous = match self.segments.last() {
            Some(newest) if newest.is_empty() => newest.header.previous,
            _ => self.last,
        };
        self.begin_segment(epoch, previous)
    }

    /// Begins a segment for groups from `first` on, after the group `previous`.
    fn begin_segment(&mut self, first: Epoch, previous: Epoch) -> Result<(), LogError> {
        let (segment, file) = match segment::create(&self.dir, first, previous) {
            Ok(created) => created,
            Err(failed) if segment::exists(&self.dir, first) => return Err(self.leave_segment(first, &failed)),
            Err(failed) => return Err(failed),
        };
        if let Err(error) = segment::sync_directory(&self.dir) {
            return Err(self.leave_segment(first, &error));
        }
        let _ = fault::point("log.segment.created"); // it is there, whatever else is wanted here
        self.last = Epoch(first.0 - 1); // also if the group then cannot be written: invariant 3
        self.synced_len = segment.len;
        self.synced_group = previous;
        self.segments.retain(|other| other.path != segment.path); // an empty one of an older format was replaced
        self.segments.push(segment);
        self.active = Some((self.wrap)(file));
        Ok(())
    }

    /// Gives up a segment whose name may be there after a crash. It holds no group, so it harms nobody, if no group with an
    /// epoch below its first comes any more, and none is written to the segment before.
    fn leave_segment(&mut self, first: Epoch, failed: &LogError) -> LogError {
        self.last = self.last.max(first);
        self.poison(format!("{failed}: {}", cause(failed)))
    }

    /// Whether the log takes nothing until it is healed.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// Goes on after a failed sync, in a new segment; the failed one is left as it is.
    ///
    /// What was durable before stays; what was not was answered with an error, and is not read any more.
    ///
    /// # Errors
    /// [`LogError::Io`] while the disk still fails; the log stays poisoned then, and this may be called again.
    pub fn heal(&mut self) -> Result<(), LogError> {
        let Some(reason) = self.poison.take() else { return Ok(()) };
        let first = Epoch(self.last.0 + 1); // above the group that failed: its bytes may still be there
        let begun = self.begin_segment(first, self.synced_group);
        if begun.is_err() {
            self.poison = Some(reason);
        }
        begun
    }

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// [`LogError::Poisoned`] when that fails, and from then on until the log is healed: groups since the last sync may be lost, and
    /// are cut off again as far as the disk allows.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.check_poison()?;
        let (Some(newest), Some(disk)) = (self.segments.last_mut(), self.active.as_mut()) else { return Ok(()) };
        if newest.len == self.synced_len {
            return Ok(());
        }
        if self.options.sync
            && let Err(error) = fault::point("log.sync").and_then(|()| disk.sync())
        {
            let reason = format!("sync of {} failed: {error}", newest.path.display());
            journal::note(Step::Cut { path: &newest.path, len: self.synced_len });
            if disk.set_len(self.synced_len).is_ok() {
                newest.len = self.synced_len; // they were not acknowledged, so better that they do not come back
            }
            return Err(self.poison(reason));
        }
        journal::note(Step::Synced { path: &newest.path });
        self.synced_len = newest.len;
        if !newest.is_empty() {
            self.synced_group = self.last;
        }
        let _ = fault::point("log.synced"); // the sync has succeeded, whatever else is wanted here
        Ok(())
    }

    /// The epoch of the last group, or a later one that no coming epoch may be at or below; zero for a new log.
    #[must_use]
    pub fn last_epoch(&self) -> Epoch {
        self.last
    }

    /// An epoch that no group in the log is below; `None` when there are no groups.
    #[must_use]
    pub fn first_epoch(&self) -> Option<Epoch> {
        self.segments.first().filter(|oldest| !oldest.is_empty()).map(|oldest| oldest.header.first)
    }

    /// The last epoch that was removed by [`Log::truncate_below`]: reading after an earlier one would have a gap.
    #[must_use]
    pub fn truncated_epoch(&self) -> Epoch {
        self.segments.first().map_or(Epoch::ZERO, |oldest| oldest.header.previous)
    }

    /// The size of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// Reads all records that are in the log now with an epoch after `after`, in order, with files of its own.
    ///
    /// Whole segments before that are not touched, and groups before it only skipped over. A segment that is truncated
    /// away while it is still to be read is an error of the reader.
    #[must_use]
    pub fn read_after(&self, after: Epoch) -> LogReader {
        let skipped = self.segments.iter().skip(1).take_while(|next| next.header.previous <= after).count();
        LogReader::new(self.segments[skipped..].to_vec(), after)
    }

    /// Removes the segments that hold no epoch above `epoch`, oldest first, but never the newest. Answers how many
    /// bytes were freed.
    ///
    /// # Errors
    /// [`LogError::Io`]; the segments from there on stay.
    pub fn truncate_below(&mut self, epoch: Epoch) -> Result<u64, LogError> {
        let mut freed_bytes = 0;
        if self.removal_unsynced {
            segment::sync_directory(&self.dir)?;
            self.removal_unsynced = false;
        }
        while self.segments.get(1).is_some_and(|next| next.header.previous <= epoch) {
            let oldest = &self.segments[0];
            fault::point("log.truncate").map_err(LogError::io("remove the log segment", &oldest.path))?;
            journal::note(Step::Remove { path: &oldest.path });
            fs::remove_file(&oldest.path).map_err(LogError::io("remove the log segment", &oldest.path))?;
            freed_bytes += oldest.len;
            self.segments.remove(0);
            // One at a time: a crash that kept an older removal back but not a newer one would leave a gap.
            self.removal_unsynced = true;
            fault::point("log.removed").map_err(LogError::io("sync the directory", &self.dir))?;
            segment::sync_directory(&self.dir)?;
            self.removal_unsynced = false;
            let _ = fault::point("log.truncated");
        }
        Ok(freed_bytes)
    }

    fn check_poison(&self) -> Result<(), LogError> {
        self.poison.as_ref().map_or(Ok(()), |reason| Err(LogError::Poisoned { reason: reason.clone() }))
    }

    fn poison(&mut self, reason: String) -> LogError {
        tracing::error!(reason, "the log is poisoned");
        self.poison = Some(reason.clone());
        LogError::Poisoned { reason }
    }
}

/// Takes the directory's lock and notes who has it.
fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join(LOCK_FILE);
    let locking = || LogError::io("lock the log", &path);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(locking())?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if known { format!("process {}", holder.trim()) } else { "another process".to_owned() };
            return Err(LogError::Locked { dir: dir.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(locking()(error)),
    }
    file.set_len(0).map_err(locking())?;
    writeln!(file, "{}", std::process::id()).map_err(locking())?;
    Ok(file)
}

fn cause(error: &LogError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
