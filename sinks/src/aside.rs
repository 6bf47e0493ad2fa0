//! Rows that ClickHouse refuses, set aside in files until it takes them.
//!
//! ```text
//!   <data-dir>/aside/<after>-<upto>-<item>.arrow     an Arrow IPC file: the rows as they would have been inserted;
//!                                                    item, table, epochs and reason are in its schema's metadata
//! ```
//!
//! A file is made while a flush of `(after, upto]` is under way, before `upto` is committed. It is replaced by a smaller
//! one when some of its rows have arrived after all, and removed when all have.
//!
//! # Invariants
//!
//! 1. A file that has its name is whole and on disk: it is written under another name, synced and then renamed.
//! 2. A file of a stream holds *all* events that the stream has in the file's epochs. So writing it means deleting these
//!    epochs from the table first, and may be repeated.
//! 3. A file counts only when its `upto` is committed. Before that the log still has the rows; a file that a crash left
//!    there becomes a harmless copy of rows that were written or set aside again.
//! 4. There are at most [`FILES_MAX`] files, of about [`BYTES_MAX`] together. Beyond that nothing is set aside, the item
//!    waits, and the bound of the log pushes back on producers.
//!
//! # What it means for answers
//!
//! Rows that are set aside are acknowledged and safe, and missing from answers until they are restored. A row of a view
//! has older versions in ClickHouse, so a group that was set aside may meanwhile show an older state, and around its
//! horizon a part of it twice. Recovery takes states and requests that were set aside into memory, as it takes those in
//! ClickHouse, so that what comes later builds on them.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::BufWriter;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use parking_lot::Mutex;
use streamgauge_schemas::Epoch;
use streamgauge_schemas::fault::journal::{self, Step};

use crate::SinkError;

/// The most files (invariant 4).
pub const FILES_MAX: usize = 1_000;
/// The most bytes of all files before another is made (invariant 4).
pub const BYTES_MAX: u64 = 1 << 30;

const VERSION: &str = "1";
const SUFFIX: &str = "arrow";
const UNFINISHED: &str = "new";

/// Rows that were set aside together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsideFile {
    /// Where they are.
    pub path: PathBuf,
    /// The item whose flush they were part of.
    pub item: String,
    /// The table they belong to.
    pub table: String,
    /// The flush covered the epochs after this one,
    pub after: Epoch,
    /// up to this one.
    pub upto: Epoch,
    /// Of a stream: the intervals of epochs, both ends included, of which the file holds all events.
    pub epochs: Vec<(Epoch, Epoch)>,
    /// How many rows.
    pub rows: u64,
    /// How large the file is.
    pub bytes: u64,
    /// What ClickHouse said.
    pub reason: String,
}

/// The folder of rows that were set aside.
#[derive(Debug)]
pub struct Aside {
    folder: PathBuf,
    database: String,
    files: Mutex<Vec<AsideFile>>,
    /// Whether there were any when it was opened, files that make no sense among them.
    had_any: bool,
}

/// What a new file says of itself.
pub(crate) struct AsideRows {
    pub(crate) item: String,
    pub(crate) table: String,
    pub(crate) after: Epoch,
    pub(crate) upto: Epoch,
    pub(crate) epochs: Vec<(Epoch, Epoch)>,
    pub(crate) reason: String,
}

impl Aside {
    /// Opens the folder, which need not exist, for one database; files of another are left alone.
    ///
    /// # Errors
    /// [`SinkError::Io`] when the folder or a file cannot be read. A file that makes no sense is left where it is and
    /// told in the log of the program.
    pub fn open(folder: impl Into<PathBuf>, database: &str) -> Result<Self, SinkError> {
        let (folder, mut files) = (folder.into(), Vec::new());
        let mut had_any = false;
        let failed = || SinkError::io(format!("read the folder {}", folder.display()));
        let entries = match fs::read_dir(&folder) {
            // It may be there because a process made it and died before its name was durable.
            Ok(entries) => sync_parent(&folder).map(|()| entries)?.collect::<Result<Vec<_>, _>>().map_err(failed())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed()(error)),
        };
        for path in entries.into_iter().map(|entry| entry.path()) {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(UNFINISHED) => remove_if_there(&path)?, // cut off, so not committed either
                Some(SUFFIX) => match read_head(&path) {
                    Ok(head) => files.extend((head.database == database).then_some(head.file)),
                    Err(error @ SinkError::Io { .. }) => return Err(error),
                    Err(error) => {
                        had_any = true;
                        tracing::error!(file = %path.display(), %error, "rows set aside cannot be read");
                    }
                },
                _ => {}
            }
        }
        files.sort_by(|a: &AsideFile, b| a.path.cmp(&b.path));
        had_any |= !files.is_empty();
        let aside = Aside { folder, database: database.to_owned(), files: Mutex::new(files), had_any };
        aside.tell();
        Ok(aside)
    }

    /// The files there are, oldest first.
    #[must_use]
    pub fn files(&self) -> Vec<AsideFile> {
        self.files.lock().clone()
    }

    /// Whether there were any when it was opened, those that make no sense among them: then rows were missing in ClickHouse.
    #[must_use]
    pub fn had_any(&self) -> bool {
        self.had_any
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether no more may be set aside (invariant 4).
    pub(crate) fn is_full(&self) -> bool {
        let files = self.files.lock();
        files.len() >= FILES_MAX || files.iter().map(|file| file.bytes).sum::<u64>() >= BYTES_MAX
    }

    /// Writes a file, durably (invariant 1). Blocks.
    pub(crate) fn write(&self, rows: &AsideRows, batches: &[RecordBatch]) -> Result<AsideFile, SinkError> {
        let name = format!("{:020}-{:020}-{}", rows.after.0, rows.upto.0, rows.item.replace('/', "-"));
        let path = self.folder.join(format!("{name}.{SUFFIX}"));
        let unfinished = self.folder.join(format!("{name}.{UNFINISHED}"));
        let count = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        SinkError::fault("aside.write")?;
        self.make_folder()?;
        let bytes = write_file(&unfinished, self.metadata(rows, count), batches)?;
        SinkError::fault("aside.synced")?;
        journal::note(Step::Rename { from: &unfinished, to: &path });
        fs::rename(&unfinished, &path).map_err(SinkError::io(format!("name {}", path.display())))?;
        SinkError::fault("aside.renamed")?;
        sync_folder(&self.folder)?;
        SinkError::fault("aside.written")?;
        let AsideRows { item, table, after, upto, epochs, reason } = rows;
        let (item, table, epochs, reason) = (item.clone(), table.clone(), epochs.clone(), reason.clone());
        let (after, upto) = (*after, *upto);
        let file = AsideFile { path, item, table, after, upto, epochs, rows: count, bytes, reason };
        let mut files = self.files.lock();
        files.retain(|other| other.path != file.path);
        files.push(file.clone());
        files.sort_by(|a, b| a.path.cmp(&b.path));
        drop(files);
        self.tell();
        Ok(file)
    }

    /// Replaces a file by one of fewer rows of it, durably: at any moment one of the two is there. Blocks.
    pub(crate) fn replace(&self, smaller: &AsideFile, batches: &[RecordBatch]) -> Result<AsideFile, SinkError> {
        let AsideFile { item, table, after, upto, epochs, reason, .. } = smaller.clone();
        self.write(&AsideRows { item, table, after, upto, epochs, reason }, batches) // it has the same name
    }

    /// Reads the rows of a file. Blocks.
    pub(crate) fn read(&self, file: &AsideFile) -> Result<Vec<RecordBatch>, SinkError> {
        let wrong = |error: arrow::error::ArrowError| damaged(&file.path, error);
        let opened = File::open(&file.path).map_err(SinkError::io(format!("open {}", file.path.display())))?;
        let plain = |batch: RecordBatch| {
            let schema = Schema::new(batch.schema().fields().clone());
            RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec())
        };
        let reader = FileReader::try_new(opened, None).map_err(wrong)?;
        reader.map(|batch| batch.and_then(plain).map_err(wrong)).collect()
    }

    /// Removes a file whose rows are in ClickHouse. Blocks.
    ///
    /// When only the sync fails, the file is gone all the same: after a power failure it may be back, and restoring it again
    /// changes nothing.
    pub(crate) fn remove(&self, file: &AsideFile) -> Result<(), SinkError> {
        remove_if_there(&file.path)?;
        self.files.lock().retain(|other| other.path != file.path);
        self.tell();
        if let Err(error) = SinkError::fault("aside.removed").and_then(|()| sync_folder(&self.folder)) {
            tracing::warn!(file = %file.path.display(), %error, "a restored file is removed, perhaps not durably");
        }
        Ok(())
    }

    fn tell(&self) {
        let files = self.files.lock();
        metrics::gauge!("streamgauge_aside_files").set(files.len() as f64);
        metrics::gauge!("streamgauge_aside_bytes").set(files.iter().map(|file| file.bytes).sum::<u64>() as f64);
    }

    fn make_folder(&self) -> Result<(), SinkError> {
        if self.folder.is_dir() {
            return Ok(());
        }
        let failed = || SinkError::io(format!("make the folder {}", self.folder.display()));
        journal::note(Step::Make { path: &self.folder });
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(failed())?;
        sync_parent(&self.folder)
    }

    fn metadata(&self, rows: &AsideRows, count: u64) -> HashMap<String, String> {
        let epochs: Vec<String> = rows.epochs.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let entries = [
            ("version", VERSION.to_owned()),
            ("database", self.database.clone()),
            ("item", rows.item.clone()),
            ("table", rows.table.clone()),
            ("after", rows.after.to_string()),
            ("upto", rows.upto.to_string()),
            ("epochs", epochs.join(",")),
            ("rows", count.to_string()),
            ("reason", rows.reason.clone()),
        ];
        entries.into_iter().map(|(key, value)| (format!("streamgauge.{key}"), value)).collect()
    }
}

/// Writes and syncs a file; returns its size.
fn write_file(path: &Path, metadata: HashMap<String, String>, batches: &[RecordBatch]) -> Result<u64, SinkError> {
    let io = || SinkError::io(format!("write {}", path.display()));
    let arrow = |error: arrow::error::ArrowError| match error {
        arrow::error::ArrowError::IoError(_, source) => io()(source),
        other => SinkError::data("setting rows aside", other),
    };
    let fields = batches.first().map(|batch| batch.schema().fields().clone()).unwrap_or_default();
    let schema = Schema::new_with_metadata(fields, metadata);
    journal::note(Step::Make { path });
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(io())?;
    let mut writer = FileWriter::try_new(BufWriter::new(file), &schema).map_err(arrow)?;
    for batch in batches {
        writer.write(batch).map_err(arrow)?;
    }
    writer.finish().map_err(arrow)?;
    let buffered = writer.into_inner().map_err(arrow)?;
    let file = buffered.into_inner().map_err(|error| io()(error.into_error()))?;
    let bytes = file.metadata().map_err(io())?.len();
    journal::note(Step::Write { path, offset: 0, bytes });
    file.sync_all().map_err(io())?;
    journal::note(Step::Synced { path });
    Ok(bytes)
}

/// A file and the database that it belongs to.
struct Head {
    file: AsideFile,
    database: String,
}

fn read_head(path: &Path) -> Result<Head, SinkError> {
    let io = || SinkError::io(format!("open {}", path.display()));
    let opened = File::open(path).map_err(io())?;
    let bytes = opened.metadata().map_err(io())?.len();
    let schema = FileReader::try_new(opened, None).map_err(|error| damaged(path, error))?.schema();
    let text = |key: &str| {
        let value = schema.metadata().get(&format!("streamgauge.{key}"));
        value.cloned().ok_or_else(|| damaged(path, format!("it does not say its {key}")))
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| damaged(path, format!("{text:?} is not a number")));
    let version = text("version")?;
    if version != VERSION {
        return Err(damaged(path, format!("it has version {version}, and {VERSION} is known")));
    }
    let interval = |text: &str| {
        let (first, last) = text.split_once('-').ok_or_else(|| damaged(path, "an interval without an end"))?;
        Ok((Epoch(number(first)?), Epoch(number(last)?)))
    };
    let epochs = text("epochs")?;
    let epochs = epochs.split(',').filter(|interval| !interval.is_empty()).map(interval).collect::<Result<_, _>>()?;
    let file = AsideFile {
        path: path.to_owned(),
        item: text("item")?,
        table: text("table")?,
        after: Epoch(number(&text("after")?)?),
        upto: Epoch(number(&text("upto")?)?),
        epochs,
        rows: number(&text("rows")?)?,
        bytes,
        reason: text("reason")?,
    };
    Ok(Head { file, database: text("database")? })
}

fn damaged(path: &Path, reason: impl ToString) -> SinkError {
    SinkError::data(&format!("the file {}", path.display()), reason)
}

fn remove_if_there(path: &Path) -> Result<(), SinkError> {
    journal::note(Step::Remove { path });
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(SinkError::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

fn sync_parent(folder: &Path) -> Result<(), SinkError> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new(".")))
}

/// Makes names that were made, changed or removed in a folder outlive a power failure.
fn sync_folder(folder: &Path) -> Result<(), SinkError> {
    let sync = || File::open(folder)?.sync_all();
    sync().map_err(SinkError::io(format!("sync the folder {}", folder.display())))?;
    journal::note(Step::FolderSynced { path: folder });
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::UInt64Array;

    use super::*;

    fn rows(upto: u64) -> AsideRows {
        AsideRows {
            item: "stream/0".into(),
            table: "metrics".into(),
            after: Epoch(1),
            upto: Epoch(upto),
            epochs: vec![(Epoch(2), Epoch(2)), (Epoch(4), Epoch(9))],
            reason: "it's refused".into(),
        }
    }

    #[test]
    fn a_file_comes_back_as_it_was_and_only_for_its_database() {
        let folder = std::env::temp_dir().join(format!("streamgauge-aside-{:x}", rand::random::<u64>()));
        let aside = Aside::open(&folder, "d").unwrap();
        assert!(aside.files().is_empty() && !folder.exists());
        let values = Arc::new(UInt64Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_from_iter([("_epoch", values as _)]).unwrap();
        let second = aside.write(&rows(20), std::slice::from_ref(&batch)).unwrap();
        let first = aside.write(&rows(10), &[batch.clone(), batch.clone()]).unwrap();
        assert_eq!(aside.write(&rows(10), &[batch.clone(), batch.clone()]).unwrap(), first); // the same again
        assert_eq!((first.rows, first.bytes > 0), (6, true));
        std::fs::write(folder.join("cut-off.new"), "x").unwrap();
        std::fs::write(folder.join("not-ours.arrow"), "x").unwrap();

        let again = Aside::open(&folder, "d").unwrap();
        assert_eq!(again.files(), [first.clone(), second.clone()]);
        assert!(!folder.join("cut-off.new").exists() && folder.join("not-ours.arrow").exists());
        assert_eq!(again.read(&first).unwrap(), [batch.clone(), batch]);
        assert!(Aside::open(&folder, "e").unwrap().files().is_empty());
        again.remove(&first).unwrap();
        again.remove(&first).unwrap();
        assert_eq!(again.files(), [second]);
        assert_eq!(Aside::open(&folder, "d").unwrap().files(), again.files());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
