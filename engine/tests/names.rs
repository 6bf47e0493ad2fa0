//! Names of the log's files and folders are durable before anything is acknowledged that depends on them.
//!
//! In a test program of its own, since a process has one journal.
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::fs;
use std::path::Path;

use streamgauge_engine::log::{Log, LogOptions, RecordKind, RecordRef};
use streamgauge_schemas::fault::journal;
use streamgauge_schemas::{Epoch, StreamId};

fn append(log: &mut Log, epoch: u64) {
    let record = RecordRef { kind: RecordKind::Events, stream: StreamId(0), payload: b"an event" };
    log.append(Epoch(epoch), &[record]).unwrap();
    log.sync().unwrap();
}

/// What was asked after the last line that was seen.
fn asked(path: &Path, seen: &mut usize) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<String> = text.lines().filter(|line| !line.starts_with("passed")).map(str::to_owned).collect();
    lines[std::mem::replace(seen, lines.len())..].to_vec()
}

/// A process may die between making or renaming something and syncing the folder. The next one finds it under its name,
/// and must not rely on that before it has synced the folder itself.
#[test]
fn a_start_makes_durable_what_an_earlier_process_named() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut seen) = (dir.path().join("journal"), 0);
    journal::start(&path).unwrap();
    let (parent, log_dir) = (dir.path().join("data"), dir.path().join("data/log"));
    append(&mut Log::open(&log_dir, LogOptions::default()).unwrap(), 5);
    let lines = asked(&path, &mut seen);
    let synced = |folder: &Path| format!("folder-synced\t{}", folder.display());
    for folder in [dir.path(), &parent, &log_dir] {
        assert!(lines.contains(&synced(folder)), "{} is not synced: {lines:#?}", folder.display());
    }

    // Now as another process finds it: nothing says which of these names are durable.
    append(&mut Log::open(&log_dir, LogOptions::default()).unwrap(), 6);
    let lines = asked(&path, &mut seen);
    let group = lines.iter().rposition(|line| line.starts_with("write")).unwrap();
    for folder in [&parent, &log_dir] {
        let at = lines.iter().position(|line| *line == synced(folder));
        assert!(at.is_some_and(|at| at < group), "{} is not synced before a group: {lines:#?}", folder.display());
    }
}
