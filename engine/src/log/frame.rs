//! The bytes of the log: segment headers, groups and records. Pure functions; `docs/log-format.md` is the prose.
//!
//! All integers are little-endian. CRCs are CRC-32 (IEEE). Three CRCs chain: a record's covers its payload, the
//! group's `records_crc` covers its record headers (and with them the payloads' CRCs), and the group header's own
//! covers that, preceded by the segment's salt. The salt is random, so neither a payload that imitates a group nor
//! a group of another segment is ever taken for one of this segment.

use std::ops::Range;
use std::path::Path;

use streamgauge_schemas::{Epoch, StreamId};

use super::{LogError, RecordKind, RecordRef};

/// The newest version of the format that this program reads, and the one it writes.
pub(super) const FORMAT_VERSION: u32 = 2;
/// The size of a segment's header.
pub(super) const SEGMENT_HEADER_BYTES: usize = 40;
/// The size of a group's header.
pub(super) const GROUP_HEADER_BYTES: usize = 28;
/// The size of a record's header.
pub(super) const RECORD_HEADER_BYTES: usize = 20;
/// The largest group, header included: it is held in memory whole.
pub(super) const GROUP_BYTES_MAX: u64 = 256 << 20;
/// The first bytes of a group.
pub(super) const GROUP_MAGIC: [u8; 4] = *b"SGgp";
const SEGMENT_MAGIC: [u8; 8] = *b"SGAUGLOG";

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The version of the format: 1 to [`FORMAT_VERSION`].
    pub(super) version: u32,
    /// The epoch that names the segment: no epoch in it is below.
    pub(super) first: Epoch,
    /// The epoch of the last group before the segment; zero when there never was one.
    pub(super) previous: Epoch,
    /// Random; goes into the CRC of each group.
    pub(super) salt: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.previous.0.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..36]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of the segment at `path`. The CRC is checked before the version: both have their place in
    /// every version, so a flipped bit is not reported as a newer program.
    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Self, LogError> {
        let corrupt = |offset, reason: &str| {
            Err(LogError::Corrupt { segment: path.to_owned(), offset, reason: reason.to_owned() })
        };
        if bytes.len() < SEGMENT_HEADER_BYTES {
            return corrupt(bytes.len() as u64, "the file ends inside its header");
        }
        if bytes[0..8] != SEGMENT_MAGIC {
            return corrupt(0, "it does not begin like a log segment");
        }
        if crc32fast::hash(&bytes[..36]) != u32_at(bytes, 36) {
            return corrupt(36, "the header's checksum does not match");
        }
        let version = u32_at(bytes, 8);
        match version {
            1..=FORMAT_VERSION => {}
            0 => return corrupt(8, "there is no format version 0"),
            found => return Err(LogError::Version { segment: path.to_owned(), found, known: FORMAT_VERSION }),
        }
        let header = SegmentHeader {
            version,
            first: Epoch(u64_at(bytes, 12)),
            previous: Epoch(u64_at(bytes, 20)),
            salt: u64_at(bytes, 28),
        };
        if header.previous >= header.first {
            return corrupt(20, "the epoch before the segment is not below its first");
        }
        Ok(header)
    }
}

/// What is wrong inside a group, and where, counted from the group's beginning.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) reason: String,
}

fn fault<T>(at: usize, reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { at, reason: reason.into() })
}

/// What a group says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    /// The epoch of all its records.
    pub(super) epoch: Epoch,
    /// The size of what follows the header.
    pub(super) body_bytes: u32,
    records: u32,
    records_crc: u32,
}

/// Where a record lies in its group's body.
#[derive(Clone, Debug)]
pub(super) struct RecordPlace {
    pub(super) kind: RecordKind,
    pub(super) stream: StreamId,
    pub(super) payload: Range<usize>,
}

impl GroupHeader {
    /// The size of the group, header included.
    pub(super) fn group_bytes(&self) -> u64 {
        GROUP_HEADER_BYTES as u64 + u64::from(self.body_bytes)
    }

    fn encode(&self, salt: u64) -> [u8; GROUP_HEADER_BYTES] {
        let mut bytes = [0; GROUP_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&GROUP_MAGIC);
        bytes[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.records.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.records_crc.to_le_bytes());
        let crc = salted_crc(salt, &bytes[..24]);
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a group's header.
    pub(super) fn decode(bytes: &[u8], salt: u64) -> Result<Self, Fault> {
        if bytes.len() < GROUP_HEADER_BYTES {
            return fault(bytes.len(), "the file ends inside a group's header");
        }
        if bytes[0..4] != GROUP_MAGIC {
            return fault(0, "a group was expected to begin here");
        }
        if salted_crc(salt, &bytes[..24]) != u32_at(bytes, 24) {
            return fault(24, "the checksum of a group's header does not match");
        }
        Ok(GroupHeader {
            body_bytes: u32_at(bytes, 4),
            epoch: Epoch(u64_at(bytes, 8)),
            records: u32_at(bytes, 16),
            records_crc: u32_at(bytes, 20),
        })
    }

    /// Checks the whole of the group's body and says where its records lie.
    pub(super) fn records(&self, body: &[u8]) -> Result<Vec<RecordPlace>, Fault> {
        let mut places = Vec::with_capacity((self.records as usize).min(body.len() / RECORD_HEADER_BYTES));
        let mut headers = crc32fast::Hasher::new();
        let mut at = 0;
        for _ in 0..self.records {
            let start = at + RECORD_HEADER_BYTES;
            let Some(header) = body.get(at..start) else {
                return fault(GROUP_HEADER_BYTES + at, "the group ends inside a record's header");
            };
            headers.update(header);
            let end = start + u32_at(header, 4) as usize;
            let Some(payload) = body.get(start..end) else {
                return fault(GROUP_HEADER_BYTES + at, "a record is longer than its group");
            };
            if crc32fast::hash(payload) != u32_at(header, 16) {
                return fault(GROUP_HEADER_BYTES + at, "a record's checksum does not match");
            }
            let kind = match header[0] {
                1 => RecordKind::Events,
                2 => RecordKind::Catalog,
                kind => return fault(GROUP_HEADER_BYTES + at, format!("there is no record kind {kind}")),
            };
            places.push(RecordPlace { kind, stream: StreamId(u64_at(header, 8)), payload: start..end });
            at = end;
        }
        if at != body.len() {
            return fault(GROUP_HEADER_BYTES + at, "the group is longer than its records");
        }
        if headers.finalize() != self.records_crc {
            return fault(20, "the checksum of a group's record headers does not match");
        }
        Ok(places)
    }
}

/// The size of a group of `records`, header included.
pub(super) fn group_bytes(records: &[RecordRef<'_>]) -> u64 {
    let record_bytes = |record: &RecordRef<'_>| (RECORD_HEADER_BYTES + record.payload.len()) as u64;
    GROUP_HEADER_BYTES as u64 + records.iter().map(record_bytes).sum::<u64>()
}

/// Replaces `out` by the group of `records`, whose [`group_bytes`] must be at most [`GROUP_BYTES_MAX`].
pub(super) fn encode_group(out: &mut Vec<u8>, salt: u64, epoch: Epoch, records: &[RecordRef<'_>]) {
    let bytes = group_bytes(records);
    assert!(bytes <= GROUP_BYTES_MAX, "a group's size is checked before it is encoded");
    out.clear();
    out.reserve(bytes as usize);
    out.resize(GROUP_HEADER_BYTES, 0);
    let mut headers = crc32fast::Hasher::new();
    for record in records {
        let mut header = [0; RECORD_HEADER_BYTES];
        header[0] = record.kind as u8;
        header[4..8].copy_from_slice(&(record.payload.len() as u32).to_le_bytes());
        header[8..16].copy_from_slice(&record.stream.0.to_le_bytes());
        header[16..20].copy_from_slice(&crc32fast::hash(record.payload).to_le_bytes());
        headers.update(&header);
        out.extend_from_slice(&header);
        out.extend_from_slice(record.payload);
    }
    let header = GroupHeader {
        epoch,
        body_bytes: (out.len() - GROUP_HEADER_BYTES) as u32,
        records: records.len() as u32,
        records_crc: headers.finalize(),
    };
    out[..GROUP_HEADER_BYTES].copy_from_slice(&header.encode(salt));
}

fn salted_crc(salt: u64, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were taken"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were taken"))
}
