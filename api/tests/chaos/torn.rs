//! Tears the end of the log as a power failure may, between a write and its sync.
//!
//! Until a sync, a disk may have any of the sectors that were written, in any order, with zeros for the others; the
//! file may be shorter than what was written, down to its length before; and it may be longer, with zeros. What was
//! synced before stays. `docs/log-format.md` says how groups lie in a segment.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rand::Rng;
use rand::rngs::StdRng;

const SECTOR_BYTES: u64 = 512;
const SEGMENT_HEADER_BYTES: u64 = 40;
const GROUP_HEADER_BYTES: u64 = 28;
const GROUP_MAGIC: &[u8] = b"SGgp";

/// What of the log is not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// The last group.
    LastGroup,
    /// Nothing that the file shows; a write was about to begin.
    Beyond,
}

/// Tears the newest segment, and says how; `None` when there is nothing to tear.
pub(crate) fn tear(log: &Path, tail: Tail, random: &mut StdRng) -> anyhow::Result<Option<String>> {
    let Some(segment) = newest(log)? else { return Ok(None) };
    let bytes = fs::read(&segment)?;
    let Some(begin) = last_group(&bytes)? else { return Ok(None) };
    let (begin, end) = (begin as u64, bytes.len() as u64);
    let file = OpenOptions::new().write(true).open(&segment)?;
    let mut did = Vec::new();
    if tail == Tail::LastGroup {
        match random.random_range(0..4) {
            0 => {
                let len = random.random_range(begin..end);
                file.set_len(len)?;
                did.push(format!("cut {} bytes into it", len - begin));
            }
            1 | 2 => did.push(lose_sectors(&file, begin, end, random)?),
            _ => {} // all of it arrived
        }
    }
    if tail == Tail::Beyond || random.random_bool(0.3) {
        let zeros = random.random_range(1..5_000);
        file.set_len(file.metadata()?.len() + zeros)?;
        did.push(format!("{zeros} zeros beyond"));
    }
    file.sync_all()?;
    let name = segment.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((!did.is_empty()).then(|| format!("{name}, group at {begin} of {} bytes: {}", end - begin, did.join(", "))))
}

/// Replaces some of the sectors by zeros, at least one, as far as the group covers them.
fn lose_sectors(file: &fs::File, begin: u64, end: u64, random: &mut StdRng) -> anyhow::Result<String> {
    let sectors: Vec<u64> = (begin / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)).collect();
    let share = random.random_range(0.05..1.0);
    let mut lost: Vec<u64> = sectors.iter().copied().filter(|_| random.random_bool(share)).collect();
    if lost.is_empty() {
        lost.push(sectors[random.random_range(0..sectors.len())]);
    }
    for sector in &lost {
        let (from, to) = ((sector * SECTOR_BYTES).max(begin), ((sector + 1) * SECTOR_BYTES).min(end));
        file.write_all_at(&vec![0; (to - from) as usize], from)?;
    }
    Ok(format!("{} of {} sectors lost", lost.len(), sectors.len()))
}

/// The segment that is written to: names rise.
fn newest(log: &Path) -> anyhow::Result<Option<PathBuf>> {
    let paths = fs::read_dir(log)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "log")).max())
}

/// Where the last group begins; every group before it must be whole.
fn last_group(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let (mut at, mut last) = (SEGMENT_HEADER_BYTES as usize, None);
    while at < bytes.len() {
        let header = bytes.get(at..at + GROUP_HEADER_BYTES as usize).context("a group header is cut off")?;
        ensure!(&header[..4] == GROUP_MAGIC, "no group at {at}");
        last = Some(at);
        at += GROUP_HEADER_BYTES as usize + u32::from_le_bytes(header[4..8].try_into()?) as usize;
    }
    ensure!(at == bytes.len(), "the last group ends at {at}, and the file at {}", bytes.len());
    Ok(last)
}

#[test]
fn only_the_last_group_is_torn() {
    use rand::SeedableRng;
    let group = |body: u8, bytes: u32| {
        let mut group = GROUP_MAGIC.to_vec();
        group.extend(bytes.to_le_bytes());
        group.extend([body; 20]);
        group.extend(vec![body; bytes as usize]);
        group
    };
    let kept = [vec![7; 40], group(1, 700), group(2, 10)].concat();
    let whole = [kept.clone(), group(3, 5_000)].concat();
    let mut lens = Vec::new();
    for seed in 0..200 {
        for tail in [Tail::LastGroup, Tail::Beyond] {
            let dir = tempfile::tempdir().unwrap();
            let segment = dir.path().join("00000000000000000001.log");
            fs::write(&segment, &whole).unwrap();
            fs::write(dir.path().join("00000000000000000000.log"), &kept).unwrap();
            let torn = tear(dir.path(), tail, &mut StdRng::seed_from_u64(seed)).unwrap();
            let bytes = fs::read(&segment).unwrap();
            assert_eq!(torn.is_some(), bytes != whole, "{torn:?}");
            assert!(bytes.starts_with(&kept), "what was synced stays: {torn:?}");
            assert!(bytes.iter().zip(&whole).all(|(now, before)| now == before || *now == 0), "{torn:?}");
            if tail == Tail::Beyond {
                assert!(bytes.starts_with(&whole) && bytes.len() > whole.len());
            }
            lens.push(bytes.len());
        }
    }
    assert!(lens.iter().min() < Some(&whole.len()) && lens.iter().max() > Some(&whole.len()));
}
