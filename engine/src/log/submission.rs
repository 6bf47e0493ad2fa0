//! What is submitted to the log, and its form there.

use streamgauge_schemas::stream::CatalogChange;
use streamgauge_schemas::{EventBatch, SchemaError, StreamId};

use super::{LogError, Record, RecordKind};

/// What one caller wants in the log: it becomes one record.
#[derive(Clone, Debug)]
pub enum Submission {
    /// Events of one stream.
    Events(EventBatch),
    /// A change to the set of streams.
    Catalog(CatalogChange),
}

impl Submission {
    /// What the record of this submission holds.
    #[must_use]
    pub fn kind(&self) -> RecordKind {
        match self {
            Submission::Events(_) => RecordKind::Events,
            Submission::Catalog(_) => RecordKind::Catalog,
        }
    }

    /// The stream in the record's header; 0 for a catalog change.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        match self {
            Submission::Events(batch) => batch.stream(),
            Submission::Catalog(_) => StreamId(0),
        }
    }

    /// About how many bytes the submission holds in memory.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Submission::Events(batch) => batch.size_bytes(),
            Submission::Catalog(_) => 1024,
        }
    }

    /// The payload of the record.
    ///
    /// # Errors
    /// [`SchemaError::Encoding`]; a bug.
    pub fn encode(&self) -> Result<Vec<u8>, SchemaError> {
        match self {
            Submission::Events(batch) => {
                let mut payload = Vec::new();
                batch.encode(&mut payload)?;
                Ok(payload)
            }
            Submission::Catalog(change) => serde_json::to_vec(change)
                .map_err(|error| SchemaError::Encoding { offset: 0, reason: error.to_string() }),
        }
    }

    /// Reads a record back into what was submitted.
    ///
    /// # Errors
    /// [`LogError::Payload`] when the payload cannot be read, though its CRC is right: a bug, or another program's.
    pub fn decode(record: &Record) -> Result<Submission, LogError> {
        let decoded = match record.kind {
            RecordKind::Events => EventBatch::decode(record.stream, &record.payload).map(Submission::Events),
            RecordKind::Catalog => serde_json::from_slice(&record.payload)
                .map(Submission::Catalog)
                .map_err(|error| SchemaError::Encoding { offset: error.column(), reason: error.to_string() }),
        };
        decoded.map_err(|source| LogError::Payload { epoch: record.epoch, source })
    }
}
