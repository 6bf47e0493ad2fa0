//! An Arrow IPC stream: the schema first, also of an answer without rows, and a mark at its end.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

use super::{Encode, unwritable};
use crate::error::QueryError;

/// See the module.
pub(super) struct Arrow(StreamWriter<Vec<u8>>);

impl Arrow {
    pub(super) fn new(schema: &Schema) -> Result<Self, QueryError> {
        StreamWriter::try_new(Vec::new(), schema).map(Arrow).map_err(|error| unwritable(&error))
    }

    fn written(&mut self, written: Result<(), ArrowError>) -> Result<Bytes, QueryError> {
        written.map_err(|error| unwritable(&error))?;
        Ok(std::mem::take(self.0.get_mut()).into())
    }
}

impl Encode for Arrow {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, QueryError> {
        let written = self.0.write(batch);
        self.written(written)
    }

    fn end(mut self) -> Result<Bytes, QueryError> {
        let finished = self.0.finish();
        self.written(finished)
    }
}
