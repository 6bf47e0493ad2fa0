//! Batches of an answer on their way to a client.
//!
//! ```text
//!  QueryStream ─▶ encoder ─▶ task ─▶ one message ─▶ HTTP/2, as far as the client reads
//!                             ▲ cancel, the call ends, time is over, the program stops: the question is dropped
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::json;
use streamgauge_queries::{QueryEngine, QueryStream, format};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::{Response, Status};

use super::error;
use super::handle::Handle;
use super::questions::Question;
use crate::http::{self, EPOCH_HEADER, PARTIAL_HEADER};

/// The messages of an answer.
pub(super) type Batches = BoxStream<'static, Result<FlightData, Status>>;

/// Asks a statement and begins to answer.
///
/// # Errors
/// Those of the question; those of its first rows may come within the answer.
pub(super) async fn begin(
    queries: &QueryEngine,
    handle: &Handle,
    question: Question,
    ended: CancellationToken,
) -> Result<Response<Batches>, Status> {
    let started = Instant::now();
    let answer = tokio::select! {
        answer = queries.sql_with(&handle.sql, handle.parameters()?, handle.options()) => answer.map_err(error::of)?,
        () = question.cancelled.cancelled() => return Err(cancelled()),
        () = ended.cancelled() => return Err(stopping()),
    };
    let (epoch, partial) = (answer.epoch, answer.partial.clone());
    let marks = json!({"epoch": epoch, "partial": partial.as_ref().map(format::partial_json)});
    let messages = messages(&wire(&answer.named), marks.to_string(), answer);
    let (sender, mut sent) = mpsc::channel(1);
    tokio::spawn(send(messages, sender, question, ended, queries.limits().time_max));
    let mut response = Response::new(stream::poll_fn(move |context| sent.poll_recv(context)).boxed());
    response.metadata_mut().insert(EPOCH_HEADER, MetadataValue::from(epoch.0));
    if let Some(partial) = &partial {
        let missing = MetadataValue::try_from(http::missing(partial)).expect("words and a number make a header");
        response.metadata_mut().insert(PARTIAL_HEADER, missing);
        http::note_partial(partial);
    }
    metrics::histogram!("streamgauge_query_seconds", "kind" => "flight").record(started.elapsed().as_secs_f64());
    Ok(response)
}

/// An answer that is there, whole.
pub(super) fn whole(rows: RecordBatch) -> Response<Batches> {
    let messages = FlightDataEncoderBuilder::new().with_schema(rows.schema()).build(stream::iter([Ok(rows)]));
    Response::new(messages.map_err(error::of_flight).boxed())
}

fn messages(
    schema: &SchemaRef,
    marks: String,
    answer: QueryStream,
) -> impl Stream<Item = Result<FlightData, FlightError>> + Send + use<> {
    let batch = {
        let schema = schema.clone();
        move |batch| converted(&batch, &schema).map_err(FlightError::from)
    };
    let batches = answer
        .map_err(|error| FlightError::Tonic(Box::new(error::of(error))))
        .and_then(move |rows| std::future::ready(batch(rows)));
    FlightDataEncoderBuilder::new().with_schema(schema.clone()).with_metadata(marks.into()).build(batches)
}

/// Sends the messages until there are no more, or until something ends them.
async fn send(
    messages: impl Stream<Item = Result<FlightData, FlightError>> + Send,
    sender: mpsc::Sender<Result<FlightData, Status>>,
    question: Question,
    ended: CancellationToken,
    time_max: Duration,
) {
    let all = async {
        let mut messages = std::pin::pin!(messages);
        while let Some(message) = messages.next().await {
            if sender.send(message.map_err(error::of_flight)).await.is_err() {
                return;
            }
        }
    };
    let last = tokio::select! {
        biased;
        () = all => return,
        () = sender.closed() => return,
        () = question.cancelled.cancelled() => cancelled(),
        () = ended.cancelled() => stopping(),
        () = tokio::time::sleep(time_max) => Status::deadline_exceeded(format!(
            "the answer was not read within {time_max:?}, as long as a question may take; read faster, or ask for less"
        )),
    };
    drop(question); // the work on it was dropped with `all`
    let _ = sender.send(Err(last)).await; // the client may never read it
}

fn cancelled() -> Status {
    Status::cancelled("the question was cancelled, as was asked for")
}

fn stopping() -> Status {
    Status::unavailable("the program is stopping")
}

/// The columns of an answer as they go out: in types that all clients know, and all of them nullable, since a statement
/// that is only described knows less of that than one that is asked.
pub(super) fn wire(schema: &Schema) -> SchemaRef {
    let field = |field: &FieldRef| Field::new(field.name(), wire_type(field.data_type()), true);
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn wire_type(kind: &DataType) -> DataType {
    let item = |field: &FieldRef| {
        let kind = wire_type(field.data_type());
        Arc::new(field.as_ref().clone().with_data_type(kind))
    };
    match kind {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, value) => wire_type(value),
        DataType::List(of) | DataType::ListView(of) => DataType::List(item(of)),
        DataType::LargeList(of) | DataType::LargeListView(of) => DataType::LargeList(item(of)),
        DataType::FixedSizeList(of, length) => DataType::FixedSizeList(item(of), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(item).collect()),
        DataType::Map(entry, sorted) => DataType::Map(item(entry), *sorted),
        other => other.clone(),
    }
}

fn converted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |(column, field): (&ArrayRef, &FieldRef)| match column.data_type() == field.data_type() {
        true => Ok(column.clone()),
        false => cast(column, field.data_type()),
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, DictionaryArray, ListArray, StringViewArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn columns_go_out_in_types_that_all_clients_know() {
        let views: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None]));
        let words: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("b"), None]));
        let item = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let lists: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1, 1]), views.clone(), None));
        let batch = RecordBatch::try_from_iter([("v", views), ("w", words), ("l", lists)]).unwrap();
        let schema = wire(&batch.schema());
        let kinds: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
        assert_eq!(kinds, [&DataType::Utf8, &DataType::Utf8, &DataType::new_list(DataType::Utf8, true)]);
        assert!(schema.fields().iter().all(|field| field.is_nullable()));
        let sent = converted(&batch, &schema).unwrap();
        assert_eq!(sent.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), None]);
        assert_eq!(sent.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("b"), None]);
        assert_eq!(sent.column(2).as_list::<i32>().value(0).as_string::<i32>().value(0), "a");
        assert!(sent.column(2).as_list::<i32>().value(1).is_null(0));
    }
}
