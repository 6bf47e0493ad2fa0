//! Parquet: zstd, a row group as soon as it is full, so that memory holds one at most. The epoch is in the file's
//! metadata. An interval, which Parquet has no type for, is its text.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use streamgauge_schemas::Epoch;

use super::{Encode, change_columns, unwritable};
use crate::error::QueryError;

/// A row group's bytes, encoded; about.
const ROW_GROUP_BYTES: usize = 16 << 20;
/// A row group's rows at most.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// Rows are handed on so many at a time, so that one batch does not outgrow a row group.
const ROWS_AT_A_TIME: usize = 4_096;
/// The name of the epoch in the file's metadata.
const EPOCH_KEY: &str = "streamgauge.epoch";

/// See the module.
pub(super) struct Parquet(ArrowWriter<Vec<u8>>);

impl Parquet {
    pub(super) fn new(schema: &SchemaRef, epoch: Epoch) -> Result<Self, QueryError> {
        let epoch = KeyValue::new(EPOCH_KEY.to_owned(), epoch.to_string());
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_key_value_metadata(Some(vec![epoch]))
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), stored(schema), Some(properties));
        writer.map(Parquet).map_err(|error| unwritable(&error))
    }
}

impl Encode for Parquet {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, QueryError> {
        let write = |writer: &mut ArrowWriter<Vec<u8>>| -> Result<(), ParquetError> {
            let batch = change_columns(batch, other_type, |column, kind| arrow::compute::cast(column, kind))?;
            for start in (0..batch.num_rows()).step_by(ROWS_AT_A_TIME) {
                writer.write(&batch.slice(start, ROWS_AT_A_TIME.min(batch.num_rows() - start)))?;
            }
            Ok(())
        };
        write(&mut self.0).map_err(|error| unwritable(&error))?;
        Ok(std::mem::take(self.0.inner_mut()).into())
    }

    fn end(mut self) -> Result<Bytes, QueryError> {
        self.0.finish().map_err(|error| unwritable(&error))?;
        Ok(std::mem::take(self.0.inner_mut()).into())
    }
}

/// The columns as they are stored.
fn stored(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| match other_type(field.data_type()) {
        Some(kind) => Arc::new(Field::new(field.name(), kind, true)),
        None => field.clone(),
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn other_type(kind: &DataType) -> Option<DataType> {
    matches!(kind, DataType::Interval(_)).then_some(DataType::Utf8)
}
