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
    for step in ["make $/a.log", "write $/a.log 0 700", "synced $/a.log", "folder-synced $", "write $/a.log 700 5000"] {
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
