//! Failing writes and syncs, wrong use, and the lock.

use streamgauge_schemas::Epoch;

use super::faults::Faults;
use super::{Group, append, append_synced, read, records, segments, small};
use crate::log::{Log, LogError, LogOptions};

fn groups() -> Vec<Group> {
    (1..=4).map(|n| (n * 10, vec![vec![n as u8; 50], vec![n as u8; 70]])).collect()
}

#[test]
fn a_failed_sync_poisons_until_the_log_is_healed() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let mut log = faults.open(dir.path(), LogOptions::default()).unwrap();
    append_synced(&mut log, &groups()[..2]);
    append(&mut log, 30, &groups()[2].1).unwrap();
    faults.syncs_fail(true);
    let error = log.sync().unwrap_err();
    assert!(matches!(&error, LogError::Poisoned { reason } if reason.contains("the disk is gone")), "{error}");
    assert!(!error.is_retryable());
    faults.syncs_fail(false); // the kernel would say so, too
    assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })));
    assert!(matches!(append(&mut log, 40, &[]), Err(LogError::Poisoned { .. })));
    assert_eq!(read(&log, 0).unwrap(), records(&groups()[..2], 0));
    drop(log);
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(read(&log, 0).unwrap(), records(&groups()[..2], 0), "what was not acknowledged is cut off");
    assert_eq!(log.recovery().cut_bytes, 0);
}

/// After a failed sync the log goes on in a new segment; whatever the failed one still holds is not read.
#[test]
fn a_poisoned_log_is_healed_by_a_new_segment() {
    for cuts_fail in [false, true] {
        for failures in 1..=3 {
            let dir = tempfile::tempdir().unwrap();
            let faults = Faults::default();
            let mut log = faults.open(dir.path(), LogOptions::default()).unwrap();
            append_synced(&mut log, &groups()[..2]);
            for failure in 0..failures {
                append(&mut log, 21 + failure, &[b"not acknowledged".to_vec()]).unwrap();
                faults.syncs_fail(true);
                faults.cuts_fail(cuts_fail);
                log.sync().unwrap_err();
                faults.syncs_fail(false);
                faults.cuts_fail(false);
                assert!(log.is_poisoned());
                log.heal().unwrap();
            }
            append_synced(&mut log, &groups()[2..]);
            assert_eq!(read(&log, 0).unwrap(), records(&groups(), 0));
            drop(log);
            let mut log = Log::open(dir.path(), LogOptions::default()).unwrap();
            assert_eq!(read(&log, 0).unwrap(), records(&groups(), 0), "{failures} failures, cuts fail: {cuts_fail}");
            for after in [10, 20, 25, 30, 40] {
                assert_eq!(read(&log, after).unwrap(), records(&groups(), after), "after {after}");
            }
            log.truncate_below(Epoch(20)).unwrap();
            assert_eq!(read(&log, 20).unwrap(), records(&groups(), 20));
        }
    }
}

/// The first group of all, and the first of a segment, may be the one whose sync fails.
#[test]
fn a_log_is_healed_before_it_has_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let mut log = faults.open(dir.path(), LogOptions::default()).unwrap();
    for epoch in [5, 7] {
        append(&mut log, epoch, &[b"not acknowledged".to_vec()]).unwrap();
        faults.syncs_fail(true);
        faults.cuts_fail(true);
        log.sync().unwrap_err();
        faults.syncs_fail(false);
        log.heal().unwrap();
    }
    append_synced(&mut log, &groups());
    drop(log);
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(log.truncated_epoch(), Epoch(0));
    assert_eq!(read(&log, 0).unwrap(), records(&groups(), 0));
}

#[test]
fn a_failed_write_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let mut log = faults.open(dir.path(), LogOptions::default()).unwrap();
    append_synced(&mut log, &groups()[..1]);
    for bytes in [0, 1, 27, 28, 100, 187] {
        faults.next_write_stops_after(bytes);
        let error = append(&mut log, 20, &groups()[1].1).unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert_eq!(log.last_epoch(), Epoch(10));
        assert_eq!(segments(dir.path())[0].metadata().unwrap().len(), log.size_bytes(), "after {bytes} bytes");
        assert_eq!(read(&log, 0).unwrap(), records(&groups()[..1], 0));
    }
    append_synced(&mut log, &groups()[1..]);
    drop(log);
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(log.recovery().cut_bytes, 0);
    assert_eq!(read(&log, 0).unwrap(), records(&groups(), 0));
}

#[test]
fn a_failed_first_write_leaves_an_empty_segment() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let mut log = faults.open(dir.path(), small()).unwrap();
    append_synced(&mut log, &groups()[..1]);
    append(&mut log, 11, &[]).unwrap();
    faults.next_write_stops_after(40);
    append(&mut log, 20, &[vec![1; 400]]).unwrap_err();
    // The segment is named after epoch 20, so nothing below may go into it, also after the wall clock went back.
    assert!(matches!(append(&mut log, 19, &[]), Err(LogError::EpochOrder { epoch: Epoch(19), last: Epoch(19) })));
    log.truncate_below(Epoch(15)).unwrap();
    drop(log);
    let mut log = faults.open(dir.path(), small()).unwrap();
    assert_eq!((log.first_epoch(), log.last_epoch(), log.truncated_epoch()), (None, Epoch(19), Epoch(11)));
    append_synced(&mut log, &groups()[1..]);
    assert_eq!(read(&log, 0).unwrap(), records(&groups()[1..], 0));
}

#[test]
fn a_write_that_cannot_be_undone_poisons() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let mut log = faults.open(dir.path(), LogOptions::default()).unwrap();
    append_synced(&mut log, &groups()[..1]);
    faults.next_write_stops_after(100);
    faults.cuts_fail(true);
    assert!(matches!(append(&mut log, 20, &groups()[1].1), Err(LogError::Poisoned { .. })));
    assert!(matches!(append(&mut log, 30, &[]), Err(LogError::Poisoned { .. })));
    drop(log);
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(log.recovery().cut_bytes, 100);
    assert_eq!(read(&log, 0).unwrap(), records(&groups()[..1], 0));
}

#[test]
fn epochs_must_rise() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), LogOptions::default()).unwrap();
    assert!(matches!(append(&mut log, 0, &[]), Err(LogError::EpochOrder { .. })));
    append(&mut log, 7, &[]).unwrap();
    for epoch in [0, 6, 7] {
        assert!(matches!(append(&mut log, epoch, &[]), Err(LogError::EpochOrder { last: Epoch(7), .. })));
    }
    append(&mut log, 8, &[]).unwrap();
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let error = Log::open(dir.path(), LogOptions::default()).err().unwrap();
    let expected = format!(
        "the log in {} is in use by process {}; stop that first, or choose another data directory",
        dir.path().display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    drop(log);
    Log::open(dir.path(), LogOptions::default()).unwrap();
}

#[test]
fn missing_directories_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(&dir.path().join("data/shard-0/log"), LogOptions::default()).unwrap();
    append_synced(&mut log, &groups());
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let error = Log::open(&dir.path().join("file/log"), LogOptions::default()).err().unwrap();
    assert!(error.to_string().starts_with("cannot create the log directory /"), "{error}");
}
