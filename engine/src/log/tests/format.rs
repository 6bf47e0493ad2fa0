//! The bytes of each version of the format: what a released program has written must open for ever.

use std::fs;

use streamgauge_schemas::{Epoch, StreamId};

use crate::log::frame::{FORMAT_VERSION, SegmentHeader, encode_group};
use crate::log::{Log, LogError, LogOptions, Record, RecordKind, RecordRef};

/// A segment of epoch 1700000000000001 after 1600000000000000 with the salt 0x0807060504030201, and a group of two.
const VERSION_1: &str = "
    53474155474c4f470100000001401e18240a06000000a40731af050001020304050607088db53d26
    534767702d00000001401e18240a0600020000009de0641b52c3b084
    01000000030000000000000000000000c2412435
    616263
    0200000002000000020100000000000043bfa6a3
    7b7d
";

/// The same in version 2.
const VERSION_2: &str = "
    53474155474c4f470200000001401e18240a06000000a40731af05000102030405060708aab2e324
    534767702d00000001401e18240a0600020000009de0641b52c3b084
    01000000030000000000000000000000c2412435
    616263
    0200000002000000020100000000000043bfa6a3
    7b7d
";

fn records() -> Vec<Record> {
    let epoch = Epoch(1_700_000_000_000_001);
    vec![
        Record { epoch, kind: RecordKind::Events, stream: StreamId(0), payload: b"abc".to_vec() },
        Record { epoch, kind: RecordKind::Catalog, stream: StreamId(258), payload: b"{}".to_vec() },
    ]
}

fn encode() -> Vec<u8> {
    let header = SegmentHeader {
        version: FORMAT_VERSION,
        first: Epoch(1_700_000_000_000_001),
        previous: Epoch(1_600_000_000_000_000),
        salt: 0x0807_0605_0403_0201,
    };
    let records = records();
    let refs: Vec<RecordRef<'_>> =
        records.iter().map(|r| RecordRef { kind: r.kind, stream: r.stream, payload: &r.payload }).collect();
    let mut group = Vec::new();
    encode_group(&mut group, header.salt, records[0].epoch, &refs);
    [&header.encode()[..], &group].concat()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn open(bytes: &[u8]) -> Result<Vec<Record>, LogError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("00001700000000000001.log"), bytes).unwrap();
    let log = Log::open(dir.path(), LogOptions::default())?;
    assert_eq!(log.truncated_epoch(), Epoch(1_600_000_000_000_000));
    log.read_after(log.truncated_epoch()).collect()
}

#[test]
fn version_2_is_written_and_read() {
    let hex: String = encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(encode(), bytes(VERSION_2), "written: {hex}");
    assert_eq!(open(&bytes(VERSION_2)).unwrap(), records());
}

#[test]
fn version_1_is_read_and_not_appended_to() {
    for (old, expected) in [(bytes(VERSION_1), records()), (bytes(VERSION_1)[..40].to_vec(), vec![])] {
        for epoch in [1_700_000_000_000_002, 1_800_000_000_000_000] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("00001700000000000001.log");
            fs::write(&path, &old).unwrap();
            let mut log = Log::open(dir.path(), LogOptions::default()).unwrap();
            super::append_synced(&mut log, &[(epoch, vec![b"new".to_vec()])]);
            assert_eq!(fs::read(&path).unwrap(), old, "what the older program wrote stays as it is");
            drop(log);
            let log = Log::open(dir.path(), LogOptions::default()).unwrap();
            let found: Vec<Record> = log.read_after(log.truncated_epoch()).map(Result::unwrap).collect();
            let expected = expected.iter().cloned().chain(super::records(&[(epoch, vec![b"new".to_vec()])], 0));
            assert_eq!(found, expected.collect::<Vec<_>>());
            assert_eq!(log.truncated_epoch(), Epoch(1_600_000_000_000_000));
        }
    }
}

#[test]
fn an_empty_segment_of_an_older_version_is_replaced_by_one_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("00001700000000000001.log"), &bytes(VERSION_1)[..40]).unwrap();
    let mut log = Log::open(dir.path(), LogOptions::default()).unwrap();
    super::append_synced(&mut log, &[(1_700_000_000_000_001, vec![b"new".to_vec()])]);
    drop(log);
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(log.recovery().segments, 1);
    assert_eq!(log.truncated_epoch(), Epoch(1_600_000_000_000_000));
    assert_eq!(log.read_after(log.truncated_epoch()).count(), 1);
}

#[test]
fn a_newer_version_is_refused() {
    let mut newer = encode();
    newer[8..12].copy_from_slice(&3_u32.to_le_bytes());
    let crc = crc32fast::hash(&newer[..36]);
    newer[36..40].copy_from_slice(&crc.to_le_bytes());
    let error = open(&newer).unwrap_err();
    assert!(matches!(error, LogError::Version { found: 3, known: FORMAT_VERSION, .. }), "{error}");
    assert!(error.to_string().ends_with("has format version 3, and this program reads up to 2; use a newer one"));
}

#[test]
fn another_file_is_refused() {
    let error = open(&[b'x'; 100]).unwrap_err();
    assert!(error.to_string().ends_with("corrupt at byte 0: it does not begin like a log segment"), "{error}");
    let error = open(b"SGAUGLOG").unwrap_err();
    assert!(error.to_string().ends_with("corrupt at byte 8: the file ends inside its header"), "{error}");
}

/// A producer may put the bytes of a group into an event; without the segment's salt they are not a group.
#[test]
fn a_payload_that_imitates_a_group_is_not_one() {
    let mut imitation = Vec::new();
    encode_group(&mut imitation, 1, Epoch(1_700_000_000_000_900), &[]);
    let first = Epoch(1_700_000_000_000_001);
    let header = SegmentHeader { version: FORMAT_VERSION, first, previous: Epoch(1_600_000_000_000_000), salt: 2 };
    let mut group = Vec::new();
    let record = RecordRef { kind: RecordKind::Events, stream: StreamId(0), payload: &imitation };
    encode_group(&mut group, header.salt, header.first, &[record]);
    let torn = &group[..group.len() - 1];
    assert_eq!(open(&[&header.encode()[..], torn].concat()).unwrap(), []);
}
