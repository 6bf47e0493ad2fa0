//! What tickets and handles of prepared statements hold: the statement itself.
//!
//! They are read by whoever made them only, and are not signed: who may redeem a ticket may ask the statement anyway.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow_flight::Ticket;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use bytes::Bytes;
use prost::Message;
use streamgauge_queries::{AskOptions, Parameters};
use streamgauge_schemas::Epoch;
use tonic::Status;

use super::error;

/// A statement, its values, and how it is asked.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Handle {
    #[prost(string, tag = "1")]
    pub(super) sql: String,
    /// One row in the form of an Arrow IPC stream; empty when there are no values.
    #[prost(bytes = "bytes", tag = "2")]
    values: Bytes,
    #[prost(uint64, optional, tag = "3")]
    min_epoch: Option<u64>,
    #[prost(bool, tag = "4")]
    partial: bool,
    /// What it is cancelled by.
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) name: Bytes,
}

impl Handle {
    /// A statement without values.
    pub(super) fn of(sql: String) -> Self {
        Handle { sql, ..Handle::default() }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`](tonic::Code::InvalidArgument).
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Status> {
        Handle::decode(bytes).map_err(|error| error::unreadable("the handle", error))
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// As a ticket.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket::new(TicketStatementQuery { statement_handle: self.bytes() }.as_any().encode_to_vec())
    }

    /// With values, a row of them.
    ///
    /// # Errors
    /// [`Code::Internal`](tonic::Code::Internal).
    pub(super) fn with_values(self, row: &RecordBatch) -> Result<Self, Status> {
        let mut values = Vec::new();
        let written = StreamWriter::try_new(&mut values, &row.schema()).and_then(|mut writer| {
            writer.write(row)?;
            writer.finish()
        });
        written.map_err(error::bug)?;
        Ok(Handle { values: values.into(), ..self })
    }

    /// Asked so, as far as it does not say otherwise.
    pub(super) fn asked(mut self, options: AskOptions) -> Self {
        let given = options.min_epoch.map(|epoch| epoch.0);
        self.min_epoch = self.min_epoch.max(given);
        self.partial |= options.partial;
        self
    }

    /// To be cancelled by this name.
    pub(super) fn named(self, name: Bytes) -> Self {
        Handle { name, ..self }
    }

    /// How it is asked.
    pub(super) fn options(&self) -> AskOptions {
        AskOptions { min_epoch: self.min_epoch.map(Epoch), partial: self.partial, ..AskOptions::default() }
    }

    fn row(&self) -> Result<Option<RecordBatch>, Status> {
        if self.values.is_empty() {
            return Ok(None);
        }
        let wrong = |error| error::unreadable("the values of the handle", error);
        let reader = StreamReader::try_new(self.values.as_ref(), None).map_err(wrong)?;
        let row = reader.into_iter().next().transpose().map_err(wrong)?;
        match row {
            Some(row) if row.num_rows() == 1 => Ok(Some(row)),
            _ => Err(Status::invalid_argument("the values of the handle are not one row")),
        }
    }

    /// Its values.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`](tonic::Code::InvalidArgument).
    pub(super) fn parameters(&self) -> Result<Parameters, Status> {
        let columns: Vec<ArrayRef> = self.row()?.map(|row| row.columns().to_vec()).unwrap_or_default();
        Parameters::from_arrays(&columns).map_err(error::of)
    }

    /// The types of its values, as far as they have one.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`](tonic::Code::InvalidArgument).
    pub(super) fn types(&self) -> Result<Vec<Option<DataType>>, Status> {
        let schema = self.row()?.map_or_else(|| Arc::new(Schema::empty()), |row| row.schema());
        let kind = |kind: &DataType| (*kind != DataType::Null).then(|| kind.clone());
        Ok(schema.fields().iter().map(|field| kind(field.data_type())).collect())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, NullArray};

    use super::*;

    #[test]
    fn a_handle_is_read_as_it_was_written() {
        let columns: [(&str, ArrayRef); 2] =
            [("0", Arc::new(Int64Array::from(vec![7]))), ("1", Arc::new(NullArray::new(1)))];
        let row = RecordBatch::try_from_iter(columns).unwrap();
        let options = AskOptions { min_epoch: Some(Epoch(3)), partial: true, ..AskOptions::default() };
        let handle = Handle::of("SELECT $1, $2".into()).asked(options).with_values(&row).unwrap();
        let read = Handle::read(&handle.bytes()).unwrap();
        assert_eq!(read, handle);
        assert_eq!((read.sql.as_str(), read.options()), ("SELECT $1, $2", options));
        assert_eq!(read.types().unwrap(), [Some(DataType::Int64), None]);
        // The newer epoch counts, and what allows a partial answer stays.
        let later = AskOptions { min_epoch: Some(Epoch(2)), ..AskOptions::default() };
        assert_eq!(read.asked(later).options(), options);
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        assert_eq!(Handle::read(b"\xff\xff").unwrap_err().code(), tonic::Code::InvalidArgument);
        let wrong = Handle { values: Bytes::from_static(b"x"), ..Handle::default() };
        assert_eq!(wrong.parameters().unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
