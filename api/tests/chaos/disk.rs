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
//! # Invariants
//!
//! 1. What was synced stays as it is: bytes below the durable length of a file, names of a synced folder.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

const SECTOR_BYTES: u64 = 512;
/// The most that a file is longer than what was written to it.
const BEYOND_BYTES_MAX: u64 = 5_000;

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

/// What is known of a file's bytes.
#[derive(Clone, Debug, Default)]
struct Content {
    len: u64,
    /// What is below is durable.
    durable: u64,
    /// What was cut off and may come back, and where it began.
    cut: (u64, Vec<u8>),
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

impl Content {
    /// Notes a cut; of what an earlier one took away, what lies behind may come back, too.
    fn cut(&mut self, len: u64, bytes: &[u8]) {
        let (at, before) = std::mem::take(&mut self.cut);
        let end = len + bytes.len() as u64;
        let mut kept = bytes.to_vec();
        if at <= end {
            kept.extend(before.iter().skip((end - at) as usize));
        }
        self.cut = (len, kept);
        (self.len, self.durable) = (len, self.durable.min(len));
    }

    /// Leaves of a file what a power failure may, and says how; everything is durable afterwards.
    fn tear(&mut self, path: &Path, loss: Loss, random: &mut StdRng) -> anyhow::Result<Option<String>> {
        let whole = fs::read(path)?;
        let durable = self.durable.min(whole.len() as u64);
        ensure!(durable == self.durable, "{} has lost {} synced bytes", path.display(), self.durable - durable);
        let (cut_at, cut) = std::mem::take(&mut self.cut);
        let mut bytes = whole.clone();
        let mut did = Vec::new();
        if !cut.is_empty() && (loss == Loss::All || (loss == Loss::Some && random.random_bool(0.5))) {
            let end = cut_at as usize + cut.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[cut_at as usize..end].copy_from_slice(&cut);
            did.push(format!("what was cut off at {cut_at} is back"));
        }
        if whole.len() as u64 > durable {
            did.extend(lose(&mut bytes, durable, loss, random));
        }
        if bytes != whole {
            ensure!(bytes[..durable as usize] == whole[..durable as usize], "what was synced stays (invariant 1)");
            fs::write(path, &bytes)?;
            OpenOptions::new().read(true).open(path)?.sync_all()?;
        }
        (self.len, self.durable) = (bytes.len() as u64, bytes.len() as u64);
        Ok((!did.is_empty())
            .then(|| format!("{} bytes not synced from {durable}: {}", whole.len() as u64 - durable, did.join(", "))))
    }
}

/// Loses bytes from `durable` on.
fn lose(bytes: &mut Vec<u8>, durable: u64, loss: Loss, random: &mut StdRng) -> Option<String> {
    let unsynced = bytes.len() as u64 - durable;
    match loss {
        Loss::Nothing => None,
        Loss::All => {
            bytes.truncate(durable as usize);
            Some("none of them arrived".to_owned())
        }
        Loss::Data => {
            bytes[durable as usize..].fill(0);
            Some("only their length arrived".to_owned())
        }
        Loss::Some => match random.random_range(0..6) {
            0 => None, // all of it arrived
            1 => {
                bytes.truncate(random.random_range(durable..durable + unsynced) as usize);
                Some(format!("{} of them arrived", bytes.len() as u64 - durable))
            }
            2 => {
                let zeros = random.random_range(1..BEYOND_BYTES_MAX);
                bytes.resize(bytes.len() + zeros as usize, 0);
                Some(format!("{zeros} zeros behind them"))
            }
            way => Some(lose_sectors(bytes, durable, way == 3, random)),
        },
    }
}

/// Replaces some of the sectors, at least one, by zeros or by anything.
fn lose_sectors(bytes: &mut [u8], durable: u64, garbage: bool, random: &mut StdRng) -> String {
    let end = bytes.len() as u64;
    let mut sectors: Vec<u64> = (durable / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)).collect();
    sectors.shuffle(random);
    let lost = random.random_range(1..=sectors.len());
    for sector in &sectors[..lost] {
        let (from, to) = ((sector * SECTOR_BYTES).max(durable), ((sector + 1) * SECTOR_BYTES).min(end));
        let sector = &mut bytes[from as usize..to as usize];
        if garbage { random.fill(sector) } else { sector.fill(0) }
    }
    format!("{lost} of {} sectors {}", sectors.len(), if garbage { "are garbage" } else { "are zeros" })
}

fn bytes_of(digits: &str) -> anyhow::Result<Vec<u8>> {
    let byte = |at: usize| Ok(u8::from_str_radix(digits.get(at..at + 2).context("half a byte")?, 16)?);
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn short(path: &Path) -> String {
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
    names[names.len().saturating_sub(2)..].join("/")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    struct Machine {
        dir: tempfile::TempDir,
        disk: Disk,
        asked: String,
    }

    impl Machine {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let disk = Disk::new(dir.path().join("journal"));
            Machine { dir, disk, asked: String::new() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// Says that a step was asked; `$` stands for the folder.
        fn ask(&mut self, step: &str) {
            let folder = self.dir.path().display().to_string();
            writeln!(self.asked, "{}", step.replace(' ', "\t").replace('$', &folder)).unwrap();
            fs::write(&self.disk.journal, &self.asked).unwrap();
        }
    }

    /// A file of 700 synced bytes and 5 000 more, in a folder that is synced.
    fn with_a_tail() -> (Machine, Vec<u8>) {
        let mut machine = Machine::new();
        let bytes: Vec<u8> = (0..5_700_u32).map(|at| (at % 251) as u8 + 1).collect();
        fs::write(machine.path("a.log"), &bytes).unwrap();
        for step in
            ["make $/a.log", "write $/a.log 0 700", "synced $/a.log", "folder-synced $", "write $/a.log 700 5000"]
        {
            machine.ask(step);
        }
        (machine, bytes)
    }

    #[test]
    fn of_what_is_not_synced_anything_may_be_lost_and_of_the_rest_nothing() {
        let (mut lens, mut zeros_first, mut garbage) = (Vec::new(), 0, 0);
        for seed in 0..200 {
            let (mut machine, before) = with_a_tail();
            let took = machine.disk.fail(Loss::Some, seed).unwrap();
            let after = fs::read(machine.path("a.log")).unwrap();
            assert_eq!(took.is_empty(), after == before, "{took:?}");
            assert_eq!(after[..700], before[..700], "what was synced stays");
            let sectors = |bytes: &[u8]| bytes.get(2_048..2_560).map(<[u8]>::to_vec);
            let (first, later) = (sectors(&after), after.get(5_000..5_500) == before.get(5_000..5_500));
            zeros_first += usize::from(later && first.as_ref().is_some_and(|first| first.iter().all(|b| *b == 0)));
            garbage += usize::from(
                first.is_some_and(|first| Some(&first) != sectors(&before).as_ref() && first.iter().any(|b| *b != 0)),
            );
            lens.push(after.len());
            let again = machine.disk.fail(Loss::All, seed).unwrap();
            assert_eq!(again, [""; 0], "everything is durable after the first");
        }
        assert!(zeros_first > 0, "a later sector may be there without an earlier one");
        assert!(garbage > 0 && lens.iter().min() < Some(&5_000) && lens.iter().max() > Some(&5_700));
    }

    #[test]
    fn all_and_data_are_the_extremes() {
        for (loss, expected) in [(Loss::Nothing, 5_700), (Loss::All, 700), (Loss::Data, 5_700)] {
            let (mut machine, before) = with_a_tail();
            machine.disk.fail(loss, 1).unwrap();
            let after = fs::read(machine.path("a.log")).unwrap();
            assert_eq!(after.len(), expected);
            assert_eq!(after[700..].iter().all(|byte| *byte == 0), loss != Loss::Nothing);
            assert_eq!(after[..700], before[..700]);
        }
        let (mut machine, before) = with_a_tail();
        machine.ask("synced $/a.log");
        machine.disk.fail(Loss::All, 1).unwrap();
        assert_eq!(fs::read(machine.path("a.log")).unwrap(), before, "nothing is lost that was synced");
    }

    #[test]
    fn a_cut_may_be_undone_until_the_file_is_synced() {
        for synced in [false, true] {
            let (mut machine, before) = with_a_tail();
            let digits = before[600..].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            machine.ask(&format!("cut $/a.log 600 {digits}"));
            fs::write(machine.path("a.log"), &before[..600]).unwrap();
            if synced {
                machine.ask("synced $/a.log");
            }
            machine.disk.fail(Loss::Some, 1).unwrap();
            let lens: Vec<usize> = (0..20)
                .map(|seed| {
                    let (mut machine, _) = with_a_tail();
                    machine.ask(&format!("cut $/a.log 600 {digits}"));
                    fs::write(machine.path("a.log"), &before[..600]).unwrap();
                    if synced {
                        machine.ask("synced $/a.log");
                    }
                    machine.disk.fail(Loss::Some, seed).unwrap();
                    let after = fs::read(machine.path("a.log")).unwrap();
                    assert_eq!(after[..600], before[..600]);
                    after.len()
                })
                .collect();
            assert_eq!(lens.iter().any(|len| *len > 600), !synced, "{lens:?}");
        }
    }

    #[test]
    fn a_name_is_durable_when_its_folder_is_synced() {
        for synced in [false, true] {
            let mut machine = Machine::new();
            let link = machine.path("kept");
            fs::write(&link, "old").unwrap();
            for step in ["make $/old.log", "write $/old.log 0 3", "synced $/old.log", "folder-synced $"] {
                machine.ask(step);
            }
            let steps = [
                "make $/a.new",
                "write $/a.new 0 3",
                "synced $/a.new",
                "rename $/a.new $/a.log",
                "remove $/old.log $/kept",
            ];
            steps.iter().for_each(|step| machine.ask(step));
            fs::write(machine.path("a.log"), "new").unwrap();
            if synced {
                machine.ask("folder-synced $");
            }
            machine.disk.fail(Loss::All, 1).unwrap();
            assert_eq!((machine.path("a.log").exists(), machine.path("a.new").exists()), (synced, false));
            assert_eq!(machine.path("old.log").exists(), !synced);
        }
    }

    #[test]
    fn a_rename_may_be_lost_alone_and_the_file_stays_under_its_name_before() {
        let mut left = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let mut machine = Machine::new();
            for step in ["make $/a.new", "write $/a.new 0 3", "synced $/a.new", "rename $/a.new $/a.log"] {
                machine.ask(step);
            }
            fs::write(machine.path("a.log"), "new").unwrap();
            machine.disk.fail(Loss::Some, seed).unwrap();
            left.insert((machine.path("a.new").exists(), machine.path("a.log").exists()));
        }
        assert_eq!(left.into_iter().collect::<Vec<_>>(), [(false, false), (false, true), (true, false)]);
    }

    #[test]
    fn passages_are_counted() {
        let mut machine = Machine::new();
        for step in ["passed log.sync -", "passed log.sync error", "passed log.sync kill", "passed log.write -"] {
            machine.ask(step);
        }
        machine.asked.push_str("passed\tlog.wri"); // cut off by a kill
        fs::write(&machine.disk.journal, &machine.asked).unwrap();
        machine.disk.follow().unwrap();
        assert_eq!(machine.disk.points()["log.sync"], Passages { passed: 3, killed: 1, refused: 1 });
        assert_eq!(machine.disk.points()["log.write"].passed, 1);
    }
}
