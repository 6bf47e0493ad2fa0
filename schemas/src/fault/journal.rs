//! The journal: what the disk was asked, in order, so that a test can tell what a power failure may leave.
//!
//! Whoever keeps files that must outlive a power failure notes each step here. Steps that change something are noted
//! *before* they are done, syncs *after* they succeeded: so what the journal says is durable is durable, and what was
//! begun is in it, wherever the process dies. Passages of fault points and faults stand in it, too.
//!
//! A line a step, fields separated by tabs. A journal that another process began is continued: what that one had not
//! synced when it died is no more durable in the next.
//!
//! Like fault points, it is not even there in a build without debug assertions.

use std::io;
use std::path::Path;

/// A step of somebody who keeps files.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Bytes will be written.
    Write {
        /// The file.
        path: &'a Path,
        /// Where.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// The file will be cut to a length; what is cut off stands in the journal, for it may come back.
    Cut {
        /// The file.
        path: &'a Path,
        /// Its new length.
        len: u64,
    },
    /// Content and length of the file are durable.
    Synced {
        /// The file.
        path: &'a Path,
    },
    /// A file or folder will be made.
    Make {
        /// The file or folder.
        path: &'a Path,
    },
    /// A file will be renamed.
    Rename {
        /// Its name,
        from: &'a Path,
        /// and its name after that.
        to: &'a Path,
    },
    /// A file will be removed; a link to it is kept beside the journal, for it may come back.
    Remove {
        /// The file.
        path: &'a Path,
    },
    /// The names in a folder are durable.
    FolderSynced {
        /// The folder.
        path: &'a Path,
    },
}

/// Begins or continues the journal of this process in a file.
///
/// # Errors
/// When the file cannot be opened, or when this build has no journal.
pub fn start(path: &Path) -> io::Result<()> {
    kept::start(path)
}

/// Notes a step.
#[inline]
pub fn note(step: Step<'_>) {
    kept::note(step);
}

/// Notes a passage of a fault point, and what happens there.
#[cfg(debug_assertions)]
pub(super) fn passed(point: &str, fault: Option<&str>) {
    kept::passed(point, fault);
}

#[cfg(not(debug_assertions))]
mod kept {
    use std::io;
    use std::path::Path;

    use super::Step;

    pub(super) fn start(_path: &Path) -> io::Result<()> {
        Err(io::Error::other("this build has no journal; it is in debug builds only"))
    }

    #[inline(always)]
    pub(super) fn note(_step: Step<'_>) {}
}

#[cfg(debug_assertions)]
mod kept {
    use std::fmt::Write as _;
    use std::fs::{self, File};
    use std::io::{self, Write as _};
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Step;

    struct Journal {
        file: File,
        /// Links to removed files are named after the journal, the process and their number.
        path: PathBuf,
        links: AtomicU64,
    }

    static JOURNAL: OnceLock<Journal> = OnceLock::new();

    pub(super) fn start(path: &Path) -> io::Result<()> {
        let mut file = File::options().create(true).append(true).open(path)?;
        if file.metadata()?.len() > 0 {
            file.write_all(b"\n")?; // the process before may have died within a line
        }
        let journal = Journal { file, path: path.to_owned(), links: AtomicU64::new(0) };
        JOURNAL.set(journal).map_err(|_| io::Error::other("a journal was started already"))
    }

    pub(super) fn passed(point: &str, fault: Option<&str>) {
        if let Some(journal) = JOURNAL.get() {
            journal.append(&format!("passed\t{point}\t{}", fault.unwrap_or("-")));
        }
    }

    pub(super) fn note(step: Step<'_>) {
        let Some(journal) = JOURNAL.get() else { return };
        let line = match step {
            Step::Write { path, offset, bytes } => format!("write\t{}\t{offset}\t{bytes}", path.display()),
            Step::Cut { path, len } => format!("cut\t{}\t{len}\t{}", path.display(), beyond(path, len)),
            Step::Synced { path } => format!("synced\t{}", path.display()),
            Step::Make { path } => format!("make\t{}", path.display()),
            Step::Rename { from, to } => format!("rename\t{}\t{}", from.display(), to.display()),
            Step::Remove { path } => format!("remove\t{}\t{}", path.display(), journal.keep(path).display()),
            Step::FolderSynced { path } => format!("folder-synced\t{}", path.display()),
        };
        journal.append(&line);
    }

    /// What a file has beyond a length, in hexadecimal digits.
    fn beyond(path: &Path, len: u64) -> String {
        let bytes = fs::read(path).unwrap_or_default();
        let mut text = String::new();
        for byte in bytes.get(len as usize..).unwrap_or_default() {
            let _ = write!(text, "{byte:02x}"); // a text takes everything
        }
        text
    }

    impl Journal {
        /// One call a line, so that lines of several threads do not mix. A journal that cannot be kept is worth nothing.
        fn append(&self, line: &str) {
            let written = (&self.file).write_all(format!("{line}\n").as_bytes());
            written.unwrap_or_else(|error| panic!("the journal {} cannot be written: {error}", self.path.display()));
        }

        /// Keeps a file that is about to be removed.
        fn keep(&self, path: &Path) -> PathBuf {
            let number = self.links.fetch_add(1, Ordering::Relaxed);
            let link = format!("{}.{}-{number}", self.path.display(), std::process::id());
            let _ = fs::hard_link(path, &link); // it may not be there
            link.into()
        }
    }
}
