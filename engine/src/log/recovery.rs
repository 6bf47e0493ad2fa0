//! The end of the newest segment after a crash: where the whole groups end, and whether what follows is a torn tail.
//!
//! Only the last group can be torn (invariant 5 of the log). So a bad group is a torn tail exactly when no group
//! follows it: bytes that were half written, or zeros that the file system left in their place. When the header
//! of a later group is there, the bad one was durable once, and the segment is corrupt.
//!
//! What this cannot tell: a last group that was whole and durable and then went bad looks like a torn one.

use std::fs;
use std::path::PathBuf;

use memchr::memmem;
use streamgauge_schemas::Epoch;

use super::LogError;
use super::frame::{Fault, GROUP_HEADER_BYTES, GROUP_MAGIC, GroupHeader, SEGMENT_HEADER_BYTES};
use super::segment::Segment;

/// What opening the log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// How many segments there are.
    pub segments: usize,
    /// How many bytes of a torn tail were cut off; 0 after a clean end.
    pub cut_bytes: u64,
    /// The segment that was cut, if one was, and the length it was cut to.
    pub cut_at: Option<(PathBuf, u64)>,
}

/// Where the whole groups of a segment end, and the epoch of the last of them.
pub(super) struct End {
    pub(super) len: u64,
    pub(super) last: Option<Epoch>,
}

/// Checks every group of the newest segment. Holds the segment in memory while it does.
pub(super) fn scan(segment: &Segment) -> Result<End, LogError> {
    let bytes = fs::read(&segment.path).map_err(LogError::io("read the log segment", &segment.path))?;
    let corrupt =
        |at: usize, reason: String| LogError::Corrupt { segment: segment.path.clone(), offset: at as u64, reason };
    let mut at = SEGMENT_HEADER_BYTES;
    let mut last = None;
    while at < bytes.len() {
        let (fault_at, reason) = match whole_group(&bytes[at..], segment.header.salt) {
            Ok(header) => {
                let floor = last.unwrap_or(Epoch(segment.header.first.0 - 1));
                if header.epoch <= floor {
                    return Err(corrupt(at, format!("epoch {} does not follow {floor}", header.epoch)));
                }
                last = Some(header.epoch);
                at += header.group_bytes() as usize;
                continue;
            }
            Err(fault) => (at + fault.at, fault.reason),
        };
        if let Some(later) = later_group(&bytes, at + 1, segment.header.salt) {
            let reason = format!("{reason}; a later group is at byte {later}, so this is not a torn tail");
            return Err(corrupt(fault_at, reason));
        }
        break;
    }
    Ok(End { len: at as u64, last })
}

fn whole_group(bytes: &[u8], salt: u64) -> Result<GroupHeader, Fault> {
    let header = GroupHeader::decode(bytes, salt)?;
    let Some(body) = bytes.get(GROUP_HEADER_BYTES..header.group_bytes() as usize) else {
        return Err(Fault { at: 0, reason: "the file ends inside a group".to_owned() });
    };
    header.records(body)?;
    Ok(header)
}

/// The place of the first group header at or after `from`. Its body does not matter: that it was begun is enough.
fn later_group(bytes: &[u8], from: usize, salt: u64) -> Option<usize> {
    let starts = memmem::find_iter(&bytes[from..], &GROUP_MAGIC);
    starts.map(|at| from + at).find(|at| GroupHeader::decode(&bytes[*at..], salt).is_ok())
}
