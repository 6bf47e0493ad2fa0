//! Decoding, by cases (`metrics`, `table`, `frame`) and against an oracle (`random`).

mod frame;
mod metrics;
mod random;
mod table;

use streamgauge_schemas::time::{from_rfc3339, to_rfc3339};
use streamgauge_schemas::{EventBatch, MetricsBatch};

use super::*;

/// The moment of every request here.
fn limits() -> DecodeLimits {
    DecodeLimits::at(from_rfc3339("2024-05-01T12:00:00Z").unwrap())
}

/// A batch of `metrics` as lines `time name{key=value,…}@source value`, with rejects as `index: reason` after them.
fn shown(decoded: &Decoded) -> Vec<String> {
    let mut lines = match &decoded.batch {
        Some(EventBatch::Metrics(batch)) => events(batch),
        Some(EventBatch::Table(_)) => panic!("expected events of metrics"),
        None => Vec::new(),
    };
    assert_eq!(decoded.total as usize, lines.len() + decoded.rejected.len());
    lines.extend(decoded.rejected.iter().map(|reject| format!("{}: {}", reject.index, reject.reason)));
    lines
}

fn events(batch: &MetricsBatch) -> Vec<String> {
    assert_invariants(batch);
    let event = |at: usize| {
        let entry = &batch.series[batch.series_index[at] as usize];
        let dimensions: Vec<String> = entry.series.dimensions().iter().map(|(k, v)| format!("{k}={v}")).collect();
        let dimensions = if dimensions.is_empty() { String::new() } else { format!("{{{}}}", dimensions.join(",")) };
        let source = if entry.source.is_empty() { String::new() } else { format!("@{}", entry.source) };
        format!("{} {}{dimensions}{source} {}", to_rfc3339(batch.ts[at]), entry.series.name(), batch.value[at])
    };
    (0..batch.len()).map(event).collect()
}

/// What holds for every batch: columns of one length, no series twice, none unused, identities right.
fn assert_invariants(batch: &MetricsBatch) {
    assert_eq!(batch.ts.len(), batch.series_index.len());
    assert_eq!(batch.ts.len(), batch.value.len());
    let mut seen = std::collections::HashSet::new();
    for entry in &batch.series {
        assert_eq!(entry.id, entry.series.id());
        assert!(seen.insert((entry.id, entry.source.clone())), "{entry:?} is there twice");
    }
    let used: std::collections::HashSet<u32> = batch.series_index.iter().copied().collect();
    assert_eq!(used.len(), batch.series.len(), "a series has no event");
}
