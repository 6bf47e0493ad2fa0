//! The tests of the log.
//!
//! # Layout
//!
//! - `faults`: a disk that fails when told to, and one whose syncs wait.
//! - `model`: random work against a model that is a plain list.
//! - `damage`: files cut, zeroed and flipped at every byte.
//! - `failure`: failing writes and syncs; the lock.
//! - `format`: bytes of the format's first version.
//! - `committer`: group commit.

mod committer;
mod damage;
mod failure;
mod faults;
mod format;
mod model;

use std::fs;
use std::path::{Path, PathBuf};

use streamgauge_schemas::{Epoch, StreamId};

use super::{Log, LogError, LogOptions, Record, RecordKind, RecordRef};

/// Options under which a few groups fill a segment.
fn small() -> LogOptions {
    LogOptions { segment_bytes_max: 400, ..LogOptions::default() }
}

/// A group as the tests keep it: an epoch and the payloads of its records.
type Group = (u64, Vec<Vec<u8>>);

/// The kind and stream of a payload, made up from its length so that they vary.
fn tags(payload: &[u8]) -> (RecordKind, StreamId) {
    let kind = if payload.len() % 5 == 4 { RecordKind::Catalog } else { RecordKind::Events };
    (kind, StreamId(payload.len() as u64 * 1_000_000_007))
}

fn append(log: &mut Log, epoch: u64, payloads: &[Vec<u8>]) -> Result<(), LogError> {
    let record = |payload| {
        let (kind, stream) = tags(payload);
        RecordRef { kind, stream, payload }
    };
    let records: Vec<RecordRef<'_>> = payloads.iter().map(|payload| record(payload)).collect();
    log.append(Epoch(epoch), &records)
}

fn append_synced(log: &mut Log, groups: &[Group]) {
    for (epoch, payloads) in groups {
        append(log, *epoch, payloads).unwrap();
        log.sync().unwrap();
    }
}

/// The records of `groups` after `after`.
fn records(groups: &[Group], after: u64) -> Vec<Record> {
    let in_group = |(epoch, payloads): &Group| {
        let epoch = Epoch(*epoch);
        let record = move |payload: &Vec<u8>| {
            let (kind, stream) = tags(payload);
            Record { epoch, kind, stream, payload: payload.clone() }
        };
        payloads.iter().map(record).collect::<Vec<_>>()
    };
    groups.iter().filter(|(epoch, _)| *epoch > after).flat_map(in_group).collect()
}

fn read(log: &Log, after: u64) -> Result<Vec<Record>, LogError> {
    log.read_after(Epoch(after)).collect()
}

/// The files of segments in `dir`, in order.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "log")).collect();
    paths.sort();
    paths
}
