//! Rejects on their way into the stream `rejects`: an event that was not accepted is not lost.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use streamgauge_schemas::{EventBatch, EventTime, Reject, StreamId, TableBatch, stream};

/// What is known of rejects besides their positions and reasons.
pub(crate) struct Origin<'a> {
    /// When they arrived.
    pub(crate) at: EventTime,
    /// Which stream they were meant for.
    pub(crate) stream: &'a str,
    /// Who sent them, as far as it was said.
    pub(crate) source: &'a str,
    /// The body that they came in.
    pub(crate) body: &'a [u8],
}

/// The rows of `rejects`, whose texts lie at `places` of the body.
pub(crate) fn rows(origin: &Origin<'_>, rejects: &[Reject], places: &[Range<usize>]) -> EventBatch {
    debug_assert_eq!(rejects.len(), places.len(), "every reject has a place");
    let request = random();
    let count = rejects.len();
    let texts = places.iter().map(|place| String::from_utf8_lossy(&origin.body[place.clone()]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(vec![origin.at.0; count]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![origin.stream; count])),
        Arc::new(StringArray::from(vec![origin.source; count])),
        Arc::new(Int64Array::from_iter_values(rejects.iter().map(|reject| reject.index as i64))),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| &reject.reason))),
        Arc::new(StringArray::from_iter_values(texts)),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| format!("{request}-{}", reject.index)))),
    ];
    let rows = RecordBatch::try_new(stream::rejects().definition.schema(), columns);
    let rows = rows.expect("the columns follow the definition");
    EventBatch::Table(Arc::new(TableBatch { stream: StreamId::REJECTS, rows }))
}

/// 32 hexadecimal digits that no other request has: the standard library seeds its hash maps from the system's randomness.
fn random() -> String {
    let number = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", number(), number())
}
