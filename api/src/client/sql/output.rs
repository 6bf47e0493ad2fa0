//! Where answers go: the standard output, or a file.
//!
//! An answer that breaks off leaves nothing of itself in a file. Of formats that end their files themselves, a file holds
//! one answer.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Seek, SeekFrom, Write};
use std::path::PathBuf;

use anyhow::Context;

use super::super::progress::grouped;
use super::Format;

/// See the module.
#[derive(Default)]
pub(super) enum Output {
    #[default]
    Standard,
    File {
        path: PathBuf,
        /// Open since its first answer.
        file: Option<File>,
        /// Whether it has an answer after which no other may come.
        is_full: bool,
    },
}

/// One answer on its way out; dropped before its end, it takes back what it wrote to a file.
pub(super) struct Writing<'a> {
    output: &'a mut Output,
    begin: u64,
    bytes: u64,
    is_done: bool,
}

impl Output {
    pub(super) fn file(path: impl Into<PathBuf>) -> Self {
        Output::File { path: path.into(), file: None, is_full: false }
    }

    /// Begins an answer; a file is made by its first.
    pub(super) fn begin(&mut self, format: Format) -> anyhow::Result<Writing<'_>> {
        let mut begin = 0;
        match self {
            Output::Standard => {
                let is_shown = std::io::stdout().is_terminal();
                anyhow::ensure!(
                    !(is_shown && format.is_binary()),
                    "{} is not for a terminal; name a file by \\o FILE or --output FILE",
                    format.name()
                );
            }
            Output::File { path, file, is_full } => {
                let shown = path.display();
                anyhow::ensure!(
                    !*is_full,
                    "{shown} has an answer, after which none may come; name another by \\o FILE"
                );
                if file.is_none() {
                    *file = Some(File::create(&*path).with_context(|| format!("cannot write {shown}"))?);
                }
                begin = file.as_mut().and_then(|file| file.stream_position().ok()).unwrap_or(0); // a pipe has none
                *is_full = format.is_whole();
            }
        }
        Ok(Writing { output: self, begin, bytes: 0, is_done: false })
    }
}

impl Writing<'_> {
    /// Writes on; false when nobody reads the standard output any more, as after `head`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<bool> {
        self.bytes += bytes.len() as u64;
        let written = match &mut *self.output {
            Output::Standard => {
                let mut output = std::io::stdout().lock();
                output.write_all(bytes).and_then(|()| output.flush())
            }
            Output::File { file, .. } => file.as_mut().map_or(Ok(()), |file| file.write_all(bytes)),
        };
        match written {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("cannot write the answer"),
        }
    }

    /// Ends the answer; of a file, says what was written.
    pub(super) fn end(mut self) -> Option<String> {
        self.is_done = true;
        match &*self.output {
            Output::Standard => None,
            Output::File { path, .. } => Some(format!("{} bytes to {}", grouped(self.bytes), path.display())),
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let Output::File { file: Some(file), is_full, .. } = &mut *self.output else { return };
        if !self.is_done {
            *is_full = false;
            let taken_back = file.set_len(self.begin).and_then(|()| file.seek(SeekFrom::Start(self.begin)));
            drop(taken_back); // what is no file, such as a pipe, cannot take back
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_whole_answers_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut output = Output::file(&path);
        assert!(!path.exists());
        for (text, is_whole) in [("one\n", true), ("broken", false), ("two\n", true)] {
            let mut writing = output.begin(Format::Csv).unwrap();
            assert!(writing.write(text.as_bytes()).unwrap());
            if is_whole {
                assert!(writing.end().unwrap().starts_with("4 bytes to "));
            }
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn after_an_answer_that_ends_its_file_none_comes() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::file(folder.path().join("out"));
        drop(output.begin(Format::Parquet).unwrap());
        output.begin(Format::Parquet).unwrap().end();
        let error = output.begin(Format::Parquet).err().unwrap().to_string();
        assert!(error.contains("name another"), "{error}");
    }
}
