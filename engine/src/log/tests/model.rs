//! Random work on the log against a model that is a plain list of groups.

use proptest::prelude::*;
use streamgauge_schemas::Epoch;

use super::{Group, append, read, records, segments, small};
use crate::log::Log;

#[derive(Clone, Debug)]
enum Step {
    /// Appends a group, that many epochs after the last.
    Append(u64, Vec<Vec<u8>>),
    Sync,
    Reopen,
    /// Truncates below this part, in 256ths, of the groups there are.
    Truncate(u8),
}

fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..4_u64, payloads()).prop_map(|(after, payloads)| Step::Append(after, payloads)),
        2 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => any::<u8>().prop_map(Step::Truncate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_log_is_a_list(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), small()).unwrap();
        let mut groups: Vec<Group> = Vec::new();
        for step in steps {
            match step {
                Step::Append(after, payloads) => {
                    let epoch = log.last_epoch().0 + after;
                    append(&mut log, epoch, &payloads).unwrap();
                    groups.push((epoch, payloads));
                }
                Step::Sync => log.sync().unwrap(),
                Step::Reopen => {
                    drop(log);
                    log = Log::open(dir.path(), small()).unwrap();
                    prop_assert_eq!(log.recovery().cut_bytes, 0);
                }
                Step::Truncate(part) => {
                    let Some((epoch, _)) = groups.get(groups.len() * usize::from(part) / 256) else { continue };
                    let (epoch, size_before) = (*epoch, log.size_bytes());
                    let freed_bytes = log.truncate_below(Epoch(epoch)).unwrap();
                    prop_assert_eq!(log.size_bytes(), size_before - freed_bytes);
                    prop_assert!(freed_bytes == 0 || log.truncated_epoch() <= Epoch(epoch));
                    groups.retain(|(epoch, _)| Epoch(*epoch) > log.truncated_epoch());
                }
            }
            check(&log, &groups)?;
        }
        let on_disk: u64 = segments(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
        prop_assert_eq!(log.size_bytes(), on_disk);
    }
}

/// Reads after every epoch of the model, and one before each.
fn check(log: &Log, groups: &[Group]) -> Result<(), TestCaseError> {
    prop_assert_eq!(read(log, log.truncated_epoch().0).unwrap(), records(groups, 0));
    prop_assert_eq!(log.first_epoch(), groups.first().map(|(epoch, _)| Epoch(*epoch)));
    if let Some((epoch, _)) = groups.last() {
        prop_assert_eq!(log.last_epoch(), Epoch(*epoch));
    }
    for (epoch, _) in groups {
        prop_assert_eq!(read(log, *epoch).unwrap(), records(groups, *epoch));
        prop_assert_eq!(read(log, *epoch - 1).unwrap(), records(groups, *epoch - 1));
    }
    Ok(())
}

#[test]
fn segments_roll_and_are_truncated_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), small()).unwrap();
    // A group is 28 + 20 + 100 bytes, so two fit beside the header of 40.
    let groups: Vec<Group> = (1..=7).map(|n| (n * 10, vec![vec![n as u8; 100]])).collect();
    super::append_synced(&mut log, &groups);
    let names = |log: &Log| -> Vec<u64> {
        let paths = segments(log.dir());
        paths.iter().map(|path| path.file_stem().unwrap().to_str().unwrap().parse().unwrap()).collect()
    };
    assert_eq!(names(&log), [10, 30, 50, 70]);
    for (upto, freed_bytes, left) in [
        (19, 0, vec![10, 30, 50, 70]), // 20 is in the first segment, too
        (39, 336, vec![30, 50, 70]),
        (60, 672, vec![70]),
        (99, 0, vec![70]), // never the newest
    ] {
        assert_eq!(log.truncate_below(Epoch(upto)).unwrap(), freed_bytes, "below {upto}");
        assert_eq!(names(&log), left, "below {upto}");
    }
    assert_eq!(log.truncated_epoch(), Epoch(60));
    drop(log);
    let log = Log::open(dir.path(), small()).unwrap();
    assert_eq!((log.truncated_epoch(), log.last_epoch()), (Epoch(60), Epoch(70)));
    assert_eq!(read(&log, 60).unwrap(), records(&groups, 60));
}

#[test]
fn a_reader_sees_the_log_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), small()).unwrap();
    let groups: Vec<Group> = (1..=9).map(|n| (n, vec![vec![n as u8; 100]])).collect();
    super::append_synced(&mut log, &groups[..3]);
    let reader = log.read_after(Epoch(0));
    super::append_synced(&mut log, &groups[3..]);
    assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), records(&groups[..3], 0));
    assert_eq!(read(&log, 0).unwrap(), records(&groups, 0));
}

#[test]
fn a_group_larger_than_a_segment_has_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), small()).unwrap();
    let groups: Vec<Group> =
        vec![(1, vec![vec![1; 10]]), (2, vec![vec![2; 5000], vec![3; 700]]), (3, vec![vec![4; 10]])];
    super::append_synced(&mut log, &groups);
    assert_eq!(segments(dir.path()).len(), 3);
    assert_eq!(read(&log, 0).unwrap(), records(&groups, 0));
}
