//! Segment files: their names, their creation, and the directory that holds them.
//!
//! A segment is born under a temporary name, gets its header, is synced, and only then renamed and the directory
//! synced. So a file with a segment's name has a whole header, whenever the machine stops.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use streamgauge_schemas::fault::journal::{self, Step};
use streamgauge_schemas::{Epoch, fault};

use super::LogError;
use super::frame::{FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentHeader};

const SUFFIX: &str = ".log";
const TEMPORARY_SUFFIX: &str = ".log.new";
const NAME_DIGITS: usize = 20;

/// A segment as the writer and the readers know it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) header: SegmentHeader,
    /// Up to here the file holds whole groups.
    pub(super) len: u64,
}

impl Segment {
    /// Whether the segment holds no group.
    pub(super) fn is_empty(&self) -> bool {
        self.len == SEGMENT_HEADER_BYTES as u64
    }
}

/// What the writer asks of the file it appends to; a test puts a failing one in its place.
pub(super) trait Disk: Send {
    /// Writes all of `bytes` at `offset`; after an error any part of them may have been written.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes data and length durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `len`.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
}

impl Disk for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }
}

/// The segments of `dir` in order, with checked headers; removes what an interrupted creation left.
pub(super) fn list(dir: &Path) -> Result<Vec<Segment>, LogError> {
    let listing = LogError::io("list the log directory", dir);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(listing)? {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if parse_name(name, TEMPORARY_SUFFIX).is_some() {
            journal::note(Step::Remove { path: &entry.path() });
            fs::remove_file(entry.path()).map_err(LogError::io("remove the unfinished segment", &entry.path()))?;
        } else if let Some(first) = parse_name(name, SUFFIX) {
            names.push((first, entry.path()));
        }
    }
    names.sort();
    let mut segments: Vec<Segment> = Vec::with_capacity(names.len());
    for (first, path) in names {
        let segment = read_header(first, path)?;
        // One that follows a segment without acknowledged groups names the same group before it.
        let follows = |before: &SegmentHeader| {
            segment.header.previous >= before.first || segment.header.previous == before.previous
        };
        if segments.last().is_some_and(|before| !follows(&before.header)) {
            let reason = "the segment does not follow the one before it".to_owned();
            return Err(LogError::Corrupt { segment: segment.path, offset: 20, reason });
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn read_header(first: Epoch, path: PathBuf) -> Result<Segment, LogError> {
    let reading = || LogError::io("read the log segment", &path);
    let file = File::open(&path).map_err(reading())?;
    let len = file.metadata().map_err(reading())?.len();
    let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
    file.take(SEGMENT_HEADER_BYTES as u64).read_to_end(&mut bytes).map_err(reading())?;
    let header = SegmentHeader::decode(&bytes, &path)?;
    if header.first != first {
        let reason = format!("it was made as the segment of epoch {}; the file was renamed", header.first);
        return Err(LogError::Corrupt { segment: path, offset: 12, reason });
    }
    Ok(Segment { path, header, len })
}

/// Creates the segment for groups from `first` on and opens it for writing. Its content is durable; its name is only
/// after [`sync_directory`].
pub(super) fn create(dir: &Path, first: Epoch, previous: Epoch) -> Result<(Segment, File), LogError> {
    let header = SegmentHeader { version: FORMAT_VERSION, first, previous, salt: random() };
    let temporary = dir.join(format!("{:020}{TEMPORARY_SUFFIX}", first.0));
    let path = dir.join(format!("{:020}{SUFFIX}", first.0));
    let write = || {
        fault::point("log.segment.create")?;
        journal::note(Step::Make { path: &temporary });
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&temporary)?;
        journal::note(Step::Write { path: &temporary, offset: 0, bytes: SEGMENT_HEADER_BYTES as u64 });
        file.write_all_at(&header.encode(), 0)?;
        fault::point("log.segment.written")?;
        file.sync_all()?;
        journal::note(Step::Synced { path: &temporary });
        fault::point("log.segment.synced")?;
        journal::note(Step::Rename { from: &temporary, to: &path });
        fs::rename(&temporary, &path)?;
        fault::point("log.segment.renamed")?;
        Ok(file)
    };
    let file = write().map_err(|error| {
        journal::note(Step::Remove { path: &temporary });
        let _ = fs::remove_file(&temporary); // what stays is removed at the next start
        LogError::io("create the log segment", &path)(error)
    })?;
    Ok((Segment { path, header, len: SEGMENT_HEADER_BYTES as u64 }, file))
}

/// Whether a segment of that name is there, or may be.
pub(super) fn exists(dir: &Path, first: Epoch) -> bool {
    dir.join(format!("{:020}{SUFFIX}", first.0)).try_exists().unwrap_or(true)
}

/// Writes the first `len` bytes of a segment where they stand: after a sync that failed in an earlier process the kernel
/// may hold them as clean though the disk does not have them, and a sync alone would not write them.
pub(super) fn write_back(path: &Path, file: &File, len: u64) -> Result<(), LogError> {
    let copy = || {
        let mut bytes = fs::read(path)?;
        bytes.truncate(len as usize);
        journal::note(Step::Write { path, offset: 0, bytes: bytes.len() as u64 });
        file.write_all_at(&bytes, 0)
    };
    copy().map_err(LogError::io("write back the log segment", path))
}

/// Makes names in `dir` durable.
pub(super) fn sync_directory(dir: &Path) -> Result<(), LogError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(LogError::io("sync the directory", dir))?;
    journal::note(Step::FolderSynced { path: dir });
    Ok(())
}

/// Creates `dir` and what is missing above it, and makes its name durable, also when an earlier process made it and died
/// before it had.
pub(super) fn create_directory(dir: &Path) -> Result<(), LogError> {
    let mut made: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    made.iter().rev().for_each(|path| journal::note(Step::Make { path }));
    fs::create_dir_all(dir).map_err(LogError::io("create the log directory", dir))?;
    if made.is_empty() {
        made.push(dir);
    }
    for path in made {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

fn parse_name(name: &str, suffix: &str) -> Option<Epoch> {
    let digits = name.strip_suffix(suffix)?;
    let usable = digits.len() == NAME_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    usable.then(|| digits.parse().ok().map(Epoch)).flatten()
}

/// A number that nobody outside can guess: the standard library seeds its hash maps from the system's randomness.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
