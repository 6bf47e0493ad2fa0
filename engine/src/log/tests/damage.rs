//! What a crash, or a bad disk, leaves of the files: cut, zeroed and flipped at every byte.

use std::fs;
use std::ops::Range;
use std::path::Path;

use proptest::prelude::*;
use streamgauge_schemas::Epoch;

use super::{Group, append_synced, read, records, segments, small};
use crate::log::{Log, LogError, LogOptions};

const HEADER_BYTES: usize = 40;

/// A log of one segment: its file's name and bytes, its groups, and where they lie.
struct Written {
    name: String,
    bytes: Vec<u8>,
    groups: Vec<Group>,
    places: Vec<Range<usize>>,
}

impl Written {
    fn new(groups: Vec<Group>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), LogOptions::default()).unwrap();
        let mut places = Vec::new();
        for group in &groups {
            let start = if places.is_empty() { HEADER_BYTES } else { log.size_bytes() as usize };
            append_synced(&mut log, std::slice::from_ref(group));
            places.push(start..log.size_bytes() as usize);
        }
        let path = segments(dir.path()).remove(0);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        Written { name, bytes: fs::read(path).unwrap(), groups, places }
    }

    /// Opens a log whose only segment has `bytes`.
    fn open(&self, dir: &Path, bytes: &[u8]) -> Result<Log, LogError> {
        fs::write(dir.join(&self.name), bytes).unwrap();
        Log::open(dir, LogOptions::default())
    }

    /// Expects exactly the groups whose bytes are untouched, up to the first that is not.
    fn expect_torn(&self, bytes: &[u8]) {
        let whole = |place: &&Range<usize>| bytes.get((*place).clone()) == self.bytes.get((*place).clone());
        let survivors = self.places.iter().take_while(whole).count();
        let dir = tempfile::tempdir().unwrap();
        let mut log = self.open(dir.path(), bytes).unwrap();
        let len = if survivors == 0 { HEADER_BYTES } else { self.places[survivors - 1].end };
        assert_eq!(log.recovery().cut_bytes, (bytes.len() - len) as u64);
        assert_eq!(log.recovery().cut_at.is_some(), bytes.len() > len);
        assert_eq!(log.size_bytes(), len as u64);
        assert_eq!(read(&log, 0).unwrap(), records(&self.groups[..survivors], 0));

        let mut groups = self.groups[..survivors].to_vec();
        groups.push((log.last_epoch().0 + 1_000, vec![vec![7; 30]]));
        append_synced(&mut log, &groups[survivors..]);
        drop(log);
        let log = Log::open(dir.path(), LogOptions::default()).unwrap();
        assert_eq!(log.recovery().cut_bytes, 0, "a cut tail stays cut");
        assert_eq!(read(&log, 0).unwrap(), records(&groups, 0), "the log goes on after the cut");
    }
}

fn three_groups() -> Vec<Group> {
    vec![(5, vec![vec![1; 9], vec![2; 30]]), (6, vec![vec![]]), (9, vec![vec![3; 17], vec![], vec![4; 3]])]
}

#[test]
fn a_tail_cut_at_any_byte_leaves_whole_groups() {
    let written = Written::new(three_groups());
    for cut in HEADER_BYTES..=written.bytes.len() {
        written.expect_torn(&written.bytes[..cut]);
    }
}

#[test]
fn a_tail_zeroed_from_any_byte_leaves_whole_groups() {
    let written = Written::new(three_groups());
    for cut in HEADER_BYTES..=written.bytes.len() {
        let mut bytes = written.bytes[..cut].to_vec();
        bytes.resize(written.bytes.len() + 100, 0);
        written.expect_torn(&bytes);
    }
}

#[test]
fn a_flipped_byte_is_found_where_it_is() {
    let written = Written::new(three_groups());
    let last = written.places.last().unwrap().clone();
    for at in 0..last.start {
        let mut bytes = written.bytes.clone();
        bytes[at] ^= 0x20;
        let dir = tempfile::tempdir().unwrap();
        let Err(LogError::Corrupt { segment, offset, reason }) = written.open(dir.path(), &bytes) else {
            panic!("a flip at byte {at} is not found");
        };
        assert_eq!(segment, dir.path().join(&written.name));
        let hurt = written.places.iter().find(|place| place.contains(&at)).cloned().unwrap_or(0..HEADER_BYTES);
        assert!(hurt.contains(&(offset as usize)), "a flip at {at} is reported at {offset}: {reason}");
        assert_eq!(fs::read(segment).unwrap(), bytes, "nothing is cut");
    }
    for at in last {
        let mut bytes = written.bytes.clone();
        bytes[at] ^= 0x20;
        written.expect_torn(&bytes); // cannot be told from a torn group
    }
}

#[test]
fn a_flipped_byte_in_an_earlier_segment_ends_reading() {
    let dir = tempfile::tempdir().unwrap();
    let groups: Vec<Group> = (1..=6).map(|n| (n, vec![vec![n as u8; 150]])).collect();
    append_synced(&mut Log::open(dir.path(), small()).unwrap(), &groups);
    let path = segments(dir.path()).remove(0);
    let bytes = fs::read(&path).unwrap();
    for at in HEADER_BYTES..bytes.len() {
        let mut hurt = bytes.clone();
        hurt[at] ^= 1;
        fs::write(&path, hurt).unwrap();
        let log = Log::open(dir.path(), small()).unwrap();
        let mut reader = log.read_after(Epoch(0));
        let whole = (at - HEADER_BYTES) / 198; // a group is 28 + 20 + 150 bytes
        for record in records(&groups[..whole], 0) {
            assert_eq!(reader.next().unwrap().unwrap(), record);
        }
        let Some(Err(LogError::Corrupt { segment, offset, .. })) = reader.next() else { panic!("byte {at}") };
        assert_eq!(segment, path);
        assert_eq!((offset as usize - HEADER_BYTES) / 198, whole);
        assert!(reader.next().is_none(), "an error is the last item");
    }
    for len in HEADER_BYTES..bytes.len() {
        fs::write(&path, &bytes[..len]).unwrap();
        let log = Log::open(dir.path(), small()).unwrap();
        assert!(matches!(read(&log, 0), Err(LogError::Corrupt { .. })), "an earlier segment cut to {len}");
    }
}

#[test]
fn a_missing_segment_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let groups: Vec<Group> = (1..=6).map(|n| (n, vec![vec![n as u8; 150]])).collect();
    append_synced(&mut Log::open(dir.path(), small()).unwrap(), &groups);
    let paths = segments(dir.path());
    assert_eq!(paths.len(), 6);
    fs::remove_file(&paths[2]).unwrap();
    let log = Log::open(dir.path(), small()).unwrap();
    let Err(LogError::Corrupt { segment, reason, .. }) = read(&log, 0) else { panic!("a gap is not found") };
    assert_eq!(segment, paths[3]);
    assert_eq!(reason, "it follows epoch 3, but the segment before it ends with 2");
    assert_eq!(read(&log, 3).unwrap(), records(&groups, 3), "what is after the gap can be read");
}

#[test]
fn a_renamed_segment_is_refused() {
    let written = Written::new(three_groups());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("00000000000000000004.log"), &written.bytes).unwrap();
    let error = Log::open(dir.path(), LogOptions::default()).err().unwrap();
    assert!(error.to_string().ends_with("it was made as the segment of epoch 5; the file was renamed"), "{error}");
}

#[test]
fn an_interrupted_creation_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("00000000000000000004.log.new");
    fs::write(&left, b"SGAU").unwrap();
    fs::write(dir.path().join("notes.log"), b"somebody's").unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    assert!(!left.exists());
    assert_eq!((log.first_epoch(), log.last_epoch(), log.size_bytes()), (None, Epoch::ZERO, 0));
    assert!(dir.path().join("notes.log").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A power cut while the last group is written: of its sectors any may be on disk, the others are zeros.
    #[test]
    fn sectors_of_the_last_group_may_be_lost(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..5),
        kept in any::<u64>(),
        sector_bytes in 4_usize..40,
    ) {
        let mut groups = three_groups();
        groups.push((20, payloads));
        let written = Written::new(groups);
        let mut bytes = written.bytes.clone();
        let torn = &mut bytes[written.places[3].start..];
        for (index, sector) in torn.chunks_mut(sector_bytes).enumerate() {
            if kept >> (index % 64) & 1 == 0 {
                sector.fill(0);
            }
        }
        written.expect_torn(&bytes);
    }
}
