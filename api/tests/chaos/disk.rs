//! The disk: what a power failure may leave of what the program asked for, and no more than POSIX allows.
//!
//! ```text
//!   program ──journal──▶ what was asked: writes, cuts, names, syncs ─▶ Disk ─▶ what is not durable
//!                                                                                     │ power failure
//!                                       files as they are ◀── some of it undone ◀─────┘
//! ```
//!
//! What the program wrote is all there when it is killed: the kernel has it. A power failure takes away what was not
//! synced, in any order and in any part:
//!
//! - of bytes written after the last sync of their file, any sectors are there, and the others are zeros or anything; the
//!   file may end anywhere behind what was synced, and may be longer than what arrived;
//! - what a cut took away may be back;
//! - a name that was made, changed or removed in a folder may be as before, each for itself, until the folder is synced.
//!
//! What a process had not synced when it was killed is no more durable in the next: the power may fail then.
//!
//! # Layout
//!
//! - `content`: the bytes of a file.
//!
//! # Invariants
//!
//! 1. What was synced stays as it is: bytes below the durable length of a file, names of a synced folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use content::Content;

mod content;
#[cfg(test)]
mod tests;

/// What a power failure takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing: the program died, and not the machine.
    Nothing,
    /// Chance decides for each.
    Some,
    /// Everything that is not durable.
    All,
    /// Data: names and lengths are there.
    Data,
}

/// How often a fault point was passed, and what happened there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passages {
    pub(crate) passed: u64,
    pub(crate) killed: u64,
    pub(crate) refused: u64,
}

/// What power failures took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Files whose bytes or length are not as they were.
    pub(crate) torn: usize,
    /// Files and folders that are not there any more.
    pub(crate) unmade: usize,
    /// Files that have the name before.
    pub(crate) unnamed: usize,
    /// Files that are there again.
    pub(crate) back: usize,
}

/// A change of a name that is not durable.
#[derive(Debug)]
enum Change {
    Made(PathBuf),
    Renamed { from: PathBuf, to: PathBuf },
    Removed { path: PathBuf, link: PathBuf, content: Content },
}

/// What the program asked of the disk, and what of it is durable.
pub(crate) struct Disk {
    journal: PathBuf,
    /// Up to here the journal was read.
    read: u64,
    files: BTreeMap<PathBuf, Content>,
    changes: Vec<Change>,
    points: BTreeMap<String, Passages>,
    losses: Losses,
}

impl Disk {
    /// A disk on which everything is durable; the journal will be in that file.
    pub(crate) fn new(journal: PathBuf) -> Self {
        let (files, points) = (BTreeMap::new(), BTreeMap::new());
        Disk { journal, read: 0, files, changes: Vec::new(), points, losses: Losses::default() }
    }

    /// Where programs write what they ask.
    pub(crate) fn journal(&self) -> &Path {
        &self.journal
    }

    /// Reads what was asked since the last time; no program may run.
    pub(crate) fn follow(&mut self) -> anyhow::Result<()> {
        let mut text = String::new();
        let mut file = File::open(&self.journal).context("no journal of what the disk was asked")?;
        file.seek(SeekFrom::Start(self.read))?;
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1); // a kill may have cut the last line
        self.read += text.len() as u64;
        for line in text[..whole].lines().filter(|line| !line.is_empty()) {
            self.step(&line.split('\t').collect::<Vec<_>>()).with_context(|| format!("in the journal: {line:.200}"))?;
        }
        Ok(())
    }

    fn step(&mut self, fields: &[&str]) -> anyhow::Result<()> {
        match *fields {
            ["passed", point, fault] => {
                let passages = self.points.entry(point.to_owned()).or_default();
                passages.passed += 1;
                passages.killed += u64::from(fault == "kill");
                passages.refused += u64::from(fault == "error");
            }
            ["make", path] => {
                self.changes.push(Change::Made(path.into()));
                self.files.insert(path.into(), Content::default());
            }
            ["write", path, offset, bytes] => {
                let content = self.content(path)?;
                content.len = content.len.max(offset.parse::<u64>()? + bytes.parse::<u64>()?);
            }
            ["cut", path, len, digits] => self.content(path)?.cut(len.parse()?, &bytes_of(digits)?),
            ["synced", path] => {
                let content = self.content(path)?;
                content.durable = content.len;
                content.cut = (0, Vec::new());
            }
            ["rename", from, to] => {
                let content = self.files.remove(Path::new(from)).context("a file without a name is renamed")?;
                self.files.insert(to.into(), content);
                self.changes.push(Change::Renamed { from: from.into(), to: to.into() });
            }
            ["remove", path, link] => {
                if let Some(content) = self.files.remove(Path::new(path)) {
                    self.changes.push(Change::Removed { path: path.into(), link: link.into(), content });
                }
            }
            ["folder-synced", folder] => {
                self.changes.retain(|change| change.folder() != Some(Path::new(folder)));
            }
            _ => bail!("not a step"),
        }
        Ok(())
    }

    fn content(&mut self, path: &str) -> anyhow::Result<&mut Content> {
        self.files.get_mut(Path::new(path)).context("a file that was not made")
    }

    /// Lets the power fail; answers what that took. Afterwards everything is durable as it is.
    pub(crate) fn fail(&mut self, loss: Loss, seed: u64) -> anyhow::Result<Vec<String>> {
        self.follow()?;
        if loss == Loss::Nothing {
            return Ok(Vec::new());
        }
        let (mut random, mut took) = (StdRng::seed_from_u64(seed), Vec::new());
        for change in std::mem::take(&mut self.changes).into_iter().rev() {
            let lost = match loss {
                Loss::All => true,
                Loss::Some => random.random_bool(0.5),
                Loss::Nothing | Loss::Data => false,
            };
            if lost {
                took.extend(self.undo(change)?);
            }
        }
        self.files.retain(|path, _| path.is_file());
        for (path, content) in &mut self.files {
            if let Some(tore) = content.tear(path, loss, &mut random)? {
                self.losses.torn += 1;
                took.push(format!("{}: {tore}", short(path)));
            }
        }
        Ok(took)
    }

    /// Undoes a change of a name, if it was done.
    fn undo(&mut self, change: Change) -> anyhow::Result<Option<String>> {
        Ok(match change {
            Change::Made(path) if path.is_dir() => {
                fs::remove_dir_all(&path)?;
                self.losses.unmade += 1;
                Some(format!("the folder {} is not there", short(&path)))
            }
            Change::Made(path) if path.is_file() => {
                fs::remove_file(&path)?;
                self.losses.unmade += 1;
                Some(format!("{} is not there", short(&path)))
            }
            Change::Renamed { from, to } if to.is_file() && !from.exists() => {
                fs::rename(&to, &from)?;
                let content = self.files.remove(&to).unwrap_or_default();
                self.files.insert(from.clone(), content);
                self.losses.unnamed += 1;
                Some(format!("{} is not renamed", short(&from)))
            }
            Change::Removed { path, link, content } if link.is_file() && !path.exists() => {
                fs::rename(&link, &path)?;
                self.files.insert(path.clone(), content);
                self.losses.back += 1;
                Some(format!("{} is back", short(&path)))
            }
            _ => None,
        })
    }

    /// How often each point was passed.
    pub(crate) fn points(&self) -> &BTreeMap<String, Passages> {
        &self.points
    }

    /// What power failures took so far.
    pub(crate) fn losses(&self) -> Losses {
        self.losses
    }
}

impl Change {
    /// The folder that must be synced for it.
    fn folder(&self) -> Option<&Path> {
        let (Change::Made(path) | Change::Renamed { to: path, .. } | Change::Removed { path, .. }) = self;
        path.parent()
    }
}

fn bytes_of(digits: &str) -> anyhow::Result<Vec<u8>> {
    let byte = |at: usize| Ok(u8::from_str_radix(digits.get(at..at + 2).context("half a byte")?, 16)?);
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn short(path: &Path) -> String {
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
    names[names.len().saturating_sub(2)..].join("/")
}
