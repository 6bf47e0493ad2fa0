//! The calls of Flight, as Flight SQL uses them: a command comes in a descriptor, a ticket or an action.

use std::sync::Arc;
use std::time::SystemTime;

use arrow::datatypes::SchemaRef;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionCreatePreparedStatementRequest, Any, Command,
    DoPutPreparedStatementResult, DoPutUpdateResult, ProstMessageExt,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Criteria, Empty, FlightData,
    FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo, PutResult,
    SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use streamgauge_queries::{AskOptions, Asker, QueryEngine};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::access::{Access, Caller};
use super::answer::{self, Batches};
use super::connection::Standing;
use super::handle::Handle;
use super::questions::{self, Questions};
use super::{catalog, error, statement};
use crate::http::asker::{USER_HEADER, asker};
use crate::http::{self, App, PARTIAL_HEADER};

const CREATE_PREPARED_STATEMENT: &str = "CreatePreparedStatement";
const CLOSE_PREPARED_STATEMENT: &str = "ClosePreparedStatement";
const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
const CANCEL_QUERY: &str = "CancelQuery";

/// The actions that are carried out.
const ACTIONS: [(&str, &str); 4] = [
    (CREATE_PREPARED_STATEMENT, "prepares a statement: ActionCreatePreparedStatementRequest to …Result"),
    (CLOSE_PREPARED_STATEMENT, "does nothing, since the server keeps nothing of prepared statements"),
    (CANCEL_FLIGHT_INFO, "cancels a question that runs: CancelFlightInfoRequest to CancelFlightInfoResult"),
    (CANCEL_QUERY, "the same for older clients: ActionCancelQueryRequest to ActionCancelQueryResult"),
];

const NO_TRANSACTIONS: &str = "there are no transactions: every statement sees the newest events, or waits for those \
                               of the epoch in the header x-streamgauge-epoch";
const NO_INGEST: &str =
    "events are not taken over Flight SQL; post them to /api/v1/streams/{stream}/events of the HTTP interface";
const NO_SUBSTRAIT: &str = "plans of Substrait are not taken; send the statement as SQL";

/// The calls.
pub(super) struct Service {
    app: Arc<App>,
    access: Access,
    questions: Questions,
    /// Done when what still runs is to end.
    ended: CancellationToken,
}

impl Service {
    pub(super) fn new(app: Arc<App>, access: Access, ended: CancellationToken) -> Self {
        Service { app, access, questions: Questions::default(), ended }
    }

    /// Reads who calls, and how.
    fn call<T>(&self, request: &Request<T>) -> Result<Call, Status> {
        let running = self.app.running().map_err(Status::unavailable)?;
        let (metadata, known) = (request.metadata(), request.extensions());
        let client = known.get::<Arc<Standing>>().and_then(|standing| standing.client);
        let by_address = asker(metadata.as_ref(), client).map_err(error::of_problem)?;
        let mut asker = Asker { protocol: "flight", ..by_address };
        if let Some(Caller(Some(user))) = known.get()
            && !metadata.contains_key(USER_HEADER)
        {
            asker.user = user.clone();
        }
        Ok(Call { queries: running.queries.asked_by(asker), options: options(metadata)? })
    }

    /// The columns of what a descriptor asks for, as far as they are known before, and the ticket for it.
    async fn described(&self, request: Request<FlightDescriptor>) -> Result<(Option<SchemaRef>, Ticket), Status> {
        let call = self.call(&request)?;
        let descriptor = request.into_inner();
        let handle = match command(&descriptor.cmd)? {
            Command::CommandStatementQuery(query) => {
                check_transaction(query.transaction_id)?;
                Handle::of(query.query)
            }
            Command::CommandPreparedStatementQuery(query) => Handle::read(&query.prepared_statement_handle)?,
            command => return Ok((Some(catalog::columns(command)?), Ticket::new(descriptor.cmd))),
        };
        let handle = handle.asked(call.options).named(questions::name()?);
        Ok((statement::columns(&call.queries, &handle).await?, handle.ticket()))
    }

    async fn info(&self, request: Request<FlightDescriptor>) -> Result<FlightInfo, Status> {
        let descriptor = request.get_ref().clone();
        let (columns, ticket) = self.described(request).await?;
        let info = FlightInfo::new().with_descriptor(descriptor);
        let info = info.with_endpoint(FlightEndpoint::new().with_ticket(ticket)).with_ordered(true);
        match columns {
            Some(columns) => info.try_with_schema(&columns).map_err(error::bug),
            None => Ok(info),
        }
    }

    /// Cancels the question of an info, if it runs.
    fn cancel(&self, info: &FlightInfo) -> Result<CancelStatus, Status> {
        let mut found = false;
        for ticket in info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref()) {
            if let Command::TicketStatementQuery(ticket) = command(&ticket.ticket)? {
                found |= self.questions.cancel(&Handle::read(&ticket.statement_handle)?.name);
            }
        }
        Ok(if found { CancelStatus::Cancelled } else { CancelStatus::NotCancellable })
    }
}

/// What there is to know of a call.
struct Call {
    queries: QueryEngine,
    options: AskOptions,
}

async fn create_prepared(call: &Call, body: &Bytes) -> Result<Bytes, Status> {
    let request: ActionCreatePreparedStatementRequest = unpacked(body)?;
    check_transaction(request.transaction_id)?;
    let prepared = statement::prepared(&call.queries, &Handle::of(request.query)).await?;
    Ok(prepared.as_any().encode_to_vec().into())
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = Batches;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<arrow_flight::Result, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = Batches;

    /// Gives a token to whoever has shown the password, as every call must.
    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        let caller = request.extensions().get().cloned().unwrap_or_default();
        let mut response = Response::new(stream::empty().boxed());
        response.metadata_mut().insert("authorization", self.access.token(&caller, SystemTime::now()));
        Ok(response)
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("nothing is listed here; ask for tables with CommandGetTables of Flight SQL"))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.info(request).await.map(Response::new)
    }

    /// The same: nothing runs before its ticket is redeemed, so there is nothing to wait for.
    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        self.info(request).await.map(|info| Response::new(PollInfo::new().with_info(info)))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let (columns, _) = self.described(request).await?;
        let schema = columns.map(|columns| statement::in_ipc(&columns)).transpose()?.unwrap_or_default();
        Ok(Response::new(SchemaResult { schema }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Batches>, Status> {
        let call = self.call(&request)?;
        let handle = match command(&request.into_inner().ticket)? {
            Command::TicketStatementQuery(ticket) => Handle::read(&ticket.statement_handle)?,
            Command::CommandPreparedStatementQuery(query) => Handle::read(&query.prepared_statement_handle)?,
            command => return catalog::rows(command, &call.queries).await.map(answer::whole),
        };
        let handle = handle.asked(call.options);
        let question = self.questions.begin(handle.name.clone());
        answer::begin(&call.queries, &handle, question, self.ended.clone()).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let call = self.call(&request)?;
        let mut messages = request.into_inner();
        let first = statement::first(&mut messages).await?;
        let descriptor = first.as_ref().and_then(|first| first.flight_descriptor.as_ref());
        let descriptor = descriptor.ok_or_else(|| Status::invalid_argument("a put begins with a descriptor"))?;
        let command = command(&descriptor.cmd)?;
        let values = statement::values(first.unwrap_or_default(), messages);
        let with_values = async |handle: Bytes| {
            let handle = Handle::read(&handle)?;
            match values.await? {
                Some(row) => handle.with_values(&row),
                None => Ok(handle),
            }
        };
        let result = match command {
            Command::CommandStatementUpdate(update) => {
                check_transaction(update.transaction_id)?;
                statement::update(&call.queries, &Handle::of(update.query).asked(call.options)).await?;
                DoPutUpdateResult { record_count: 0 }.encode_to_vec()
            }
            Command::CommandPreparedStatementUpdate(update) => {
                let handle = with_values(update.prepared_statement_handle).await?;
                statement::update(&call.queries, &handle.asked(call.options)).await?;
                DoPutUpdateResult { record_count: 0 }.encode_to_vec()
            }
            Command::CommandPreparedStatementQuery(query) => {
                let handle = with_values(query.prepared_statement_handle).await?;
                DoPutPreparedStatementResult { prepared_statement_handle: Some(handle.bytes()) }.encode_to_vec()
            }
            Command::CommandStatementIngest(_) => return Err(Status::unimplemented(NO_INGEST)),
            other => return Err(unknown(other)),
        };
        let result = PutResult { app_metadata: result.into() };
        Ok(Response::new(stream::iter([Ok(result)]).boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let call = self.call(&request); // what is cancelled needs nothing of it
        let Action { r#type: kind, body } = request.into_inner();
        let result: Option<Bytes> = match kind.as_str() {
            CREATE_PREPARED_STATEMENT => Some(create_prepared(&call?, &body).await?),
            CLOSE_PREPARED_STATEMENT => None,
            CANCEL_FLIGHT_INFO => {
                let request = CancelFlightInfoRequest::decode(body).map_err(|e| error::unreadable("the action", e))?;
                let status = self.cancel(&request.info.unwrap_or_default())?;
                Some(CancelFlightInfoResult::new(status).encode_to_vec().into())
            }
            CANCEL_QUERY => {
                let request: ActionCancelQueryRequest = unpacked(&body)?;
                let info = FlightInfo::decode(request.info).map_err(|e| error::unreadable("the info", e))?;
                let result = self.cancel(&info)? as i32; // the numbers of both are the same
                Some(ActionCancelQueryResult { result }.as_any().encode_to_vec().into())
            }
            "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
                return Err(Status::unimplemented(NO_TRANSACTIONS));
            }
            "CreatePreparedSubstraitPlan" => return Err(Status::unimplemented(NO_SUBSTRAIT)),
            other => {
                let known = ACTIONS.map(|(name, _)| name).join(", ");
                return Err(Status::unimplemented(format!("there is no action {other:?}; there are {known}")));
            }
        };
        let results = result.map(|body| Ok(arrow_flight::Result::new(body)));
        Ok(Response::new(stream::iter(results).boxed()))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        let action = |(name, description): (&str, &str)| {
            Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() })
        };
        Ok(Response::new(stream::iter(ACTIONS.map(action)).boxed()))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Batches>, Status> {
        Err(Status::unimplemented("there is no exchange; ask with the commands of Flight SQL"))
    }
}

/// How a call wants its question asked. Some clients add to a header where they are told to set it: then the newest
/// epoch counts, and the last word on what is partial.
fn options(metadata: &MetadataMap) -> Result<AskOptions, Status> {
    let min_epoch = http::min_epoch(metadata.as_ref()).map_err(error::of_problem)?;
    let partial = match metadata.get_all(PARTIAL_HEADER).iter().next_back() {
        None => false,
        Some(value) => value.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
            Status::invalid_argument(format!("header X-Streamgauge-Partial: {value:?} is neither true nor false"))
        })?,
    };
    Ok(AskOptions { min_epoch, partial, ..AskOptions::default() })
}

/// Reads a command.
fn command(bytes: &Bytes) -> Result<Command, Status> {
    let any = Any::decode(bytes.clone()).map_err(|error| error::unreadable("the command of Flight SQL", error))?;
    Command::try_from(any).map_err(|error| error::unreadable("the command of Flight SQL", error))
}

/// Reads the body of an action.
fn unpacked<M: ProstMessageExt>(body: &Bytes) -> Result<M, Status> {
    let any = Any::decode(body.clone()).map_err(|error| error::unreadable("the action", error))?;
    let message = any.unpack().map_err(|error| error::unreadable("the action", error))?;
    message.ok_or_else(|| error::unreadable("the action", format!("it holds {:?}", any.type_url)))
}

fn check_transaction(id: Option<Bytes>) -> Result<(), Status> {
    match id {
        Some(id) if !id.is_empty() => Err(Status::unimplemented(NO_TRANSACTIONS)),
        _ => Ok(()),
    }
}

/// Refuses a command.
pub(super) fn unknown(command: Command) -> Status {
    match command {
        Command::CommandStatementSubstraitPlan(_) => Status::unimplemented(NO_SUBSTRAIT),
        Command::Unknown(any) if any.type_url.is_empty() => {
            Status::invalid_argument("a command of Flight SQL is expected, packed in google.protobuf.Any")
        }
        other => Status::unimplemented(format!("{:?} is not answered here", other.type_url())),
    }
}
