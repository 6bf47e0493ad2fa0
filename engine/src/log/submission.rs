//! What is submitted to the log, and its form there.

use streamgauge_schemas::stream::CatalogChange;
use streamgauge_schemas::{EventBatch, SchemaError, StreamId};

use super::{LogError, Record, RecordKind};
use crate::requests::Claim;

/// What one caller wants in the log: one or more records of one group, so all of it or nothing.
#[derive(Debug)]
pub enum Submission {
    /// What a request brought.
    Events(Request),
    /// A change to the set of streams.
    Catalog(CatalogChange),
}

/// The events of a request: those of its stream, its rejects, and the request itself if it has a name.
#[derive(Debug, Default)]
pub struct Request {
    /// Batches of different streams.
    pub batches: Vec<EventBatch>,
    /// The claim on the request's name: given up with the submission when it does not get into the log.
    pub claim: Option<Claim>,
}

impl From<EventBatch> for Submission {
    fn from(batch: EventBatch) -> Self {
        Submission::Events(Request { batches: vec![batch], claim: None })
    }
}

/// A record of a submission, encoded.
#[derive(Debug)]
pub(super) struct EncodedRecord {
    pub(super) kind: RecordKind,
    pub(super) stream: StreamId,
    pub(super) payload: Vec<u8>,
}

impl Submission {
    /// About how many bytes the submission holds in memory.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Submission::Events(request) => request.batches.iter().map(EventBatch::size_bytes).sum(),
            Submission::Catalog(_) => 1024,
        }
    }

    /// The records, encoded.
    ///
    /// # Errors
    /// [`SchemaError::Encoding`]; a bug.
    pub(super) fn encode(&self) -> Result<Vec<EncodedRecord>, SchemaError> {
        match self {
            Submission::Events(request) => request.batches.iter().map(encode_batch).collect(),
            Submission::Catalog(change) => {
                let payload = serde_json::to_vec(change)
                    .map_err(|error| SchemaError::Encoding { offset: 0, reason: error.to_string() })?;
                // Its stream is 0: the change itself says which it speaks of.
                Ok(vec![EncodedRecord { kind: RecordKind::Catalog, stream: StreamId(0), payload }])
            }
        }
    }

    /// Reads a record back into what was submitted; each record becomes a submission of its own.
    ///
    /// # Errors
    /// [`LogError::Payload`] when the payload cannot be read, though its CRC is right: a bug, or another program's.
    pub fn decode(record: &Record) -> Result<Submission, LogError> {
        let decoded = match record.kind {
            RecordKind::Events => EventBatch::decode(record.stream, &record.payload).map(Submission::from),
            RecordKind::Catalog => serde_json::from_slice(&record.payload)
                .map(Submission::Catalog)
                .map_err(|error| SchemaError::Encoding { offset: error.column(), reason: error.to_string() }),
        };
        decoded.map_err(|source| LogError::Payload { epoch: record.epoch, source })
    }
}

fn encode_batch(batch: &EventBatch) -> Result<EncodedRecord, SchemaError> {
    let mut payload = Vec::new();
    batch.encode(&mut payload)?;
    Ok(EncodedRecord { kind: RecordKind::Events, stream: batch.stream(), payload })
}
