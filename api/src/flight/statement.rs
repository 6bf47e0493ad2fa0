//! Statements before they are asked: what they answer, and their values.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::ActionCreatePreparedStatementResult;
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use streamgauge_queries::{Described, QueryEngine};
use tonic::{Status, Streaming};

use super::answer;
use super::error;
use super::handle::Handle;

/// What a handle takes at most: clients bound messages to them, most of them at 4 MiB, and it is in some of them twice.
const HANDLE_BYTES_MAX: usize = 1 << 20;
/// A client that sends values has so long to send them all.
const PUT_MAX: Duration = Duration::from_secs(30);

/// The columns of the answer; `None` of a statement that does something and says so.
///
/// # Errors
/// Those of a statement that cannot be asked, also for lack of values.
pub(super) async fn columns(queries: &QueryEngine, handle: &Handle) -> Result<Option<SchemaRef>, Status> {
    let types = handle.types()?;
    let described = describe(queries, handle).await?;
    let (needed, given) = (described.parameters.len(), types.len());
    if needed > given {
        return Err(Status::invalid_argument(format!(
            "the statement has parameters up to ${needed}, and {given} values came with it; prepare it, and bind a row of \
             {needed} values to the handle that the server answers"
        )));
    }
    Ok(described.columns.map(|columns| answer::wire(&columns)))
}

async fn describe(queries: &QueryEngine, handle: &Handle) -> Result<Described, Status> {
    let bytes = handle.bytes().len();
    if bytes > HANDLE_BYTES_MAX {
        return Err(Status::resource_exhausted(format!(
            "the statement with its values takes {bytes} bytes, more than {HANDLE_BYTES_MAX}, the bound over Flight SQL"
        )));
    }
    queries.describe(&handle.sql, &handle.types()?).await.map_err(error::of)
}

/// What a client is told of a statement that it prepares.
///
/// # Errors
/// Those of a statement that cannot be planned.
pub(super) async fn prepared(
    queries: &QueryEngine,
    handle: &Handle,
) -> Result<ActionCreatePreparedStatementResult, Status> {
    let described = describe(queries, handle).await?;
    let parameter = |(place, kind)| Field::new(format!("${}", place + 1), kind, true);
    let parameters = described.parameters.into_iter().enumerate().map(parameter).collect::<Vec<_>>();
    let columns = described.columns.map(|columns| answer::wire(&columns));
    Ok(ActionCreatePreparedStatementResult {
        prepared_statement_handle: handle.bytes(),
        dataset_schema: columns.map(|columns| in_ipc(&columns)).transpose()?.unwrap_or_default(),
        parameter_schema: in_ipc(&answer::wire(&Schema::new(parameters)))?,
    })
}

/// A schema as the messages of Flight hold it.
pub(super) fn in_ipc(schema: &Schema) -> Result<Bytes, Status> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into().map_err(error::bug)?;
    Ok(bytes)
}

/// The message that a client puts first.
///
/// # Errors
/// When it does not come.
pub(super) async fn first(messages: &mut Streaming<FlightData>) -> Result<Option<FlightData>, Status> {
    tokio::time::timeout(PUT_MAX, messages.message()).await.map_err(|_| late())?
}

/// Reads the row of values that a client sends after its descriptor; `None` when there is none.
///
/// # Errors
/// [`Code::InvalidArgument`](tonic::Code::InvalidArgument) for more than one row.
pub(super) async fn values(first: FlightData, rest: Streaming<FlightData>) -> Result<Option<RecordBatch>, Status> {
    tokio::time::timeout(PUT_MAX, read_values(first, rest)).await.map_err(|_| late())?
}

fn late() -> Status {
    Status::deadline_exceeded(format!("what is put did not come within {PUT_MAX:?}"))
}

async fn read_values(first: FlightData, rest: Streaming<FlightData>) -> Result<Option<RecordBatch>, Status> {
    let messages = futures::stream::iter([Ok(first)]).chain(rest).map_err(FlightError::from);
    let messages = messages.try_filter(|message| std::future::ready(!message.data_header.is_empty()));
    let mut batches = FlightRecordBatchStream::new_from_flight_data(messages);
    let mut row = None;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|failed| match failed {
            FlightError::Tonic(status) => *status,
            other => error::unreadable("the values", other),
        })?;
        if batch.num_rows() > 1 || (batch.num_rows() == 1 && row.is_some()) {
            return Err(Status::invalid_argument(
                "a statement is asked with one row of values, and more came; ask it once with each of them",
            ));
        }
        row = row.or((batch.num_rows() == 1).then_some(batch));
    }
    Ok(row)
}

/// Carries out a statement about views or streams.
///
/// # Errors
/// Those of the statement; one that answers rows is refused.
pub(super) async fn update(queries: &QueryEngine, handle: &Handle) -> Result<(), Status> {
    if columns(queries, handle).await?.is_some() {
        return Err(Status::invalid_argument(
            "the statement answers rows, and changes nothing; ask it as a query, not as an update",
        ));
    }
    let answer = queries.sql_with(&handle.sql, handle.parameters()?, handle.options()).await.map_err(error::of)?;
    answer.try_for_each(|_| std::future::ready(Ok(()))).await.map_err(error::of)
}
