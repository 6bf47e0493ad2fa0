//! Arrow Flight SQL, with a client that uses all of it: tickets, handles, cancelling, passwords, TLS, bounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, TimeUnit};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, Any, CommandGetCrossReference, CommandGetDbSchemas,
    CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandStatementIngest, CommandStatementQuery, ProstMessageExt, SqlInfo,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightInfo, IpcMessage,
    Ticket,
};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use crate::partial::{Stopped, fill};
use crate::postgres::{NOTES, with_events, with_notes};
use crate::support::client::accepted;
use crate::support::{DataDir, PATIENCE, Program, eventually};

type Flight = FlightSqlServiceClient<Channel>;

async fn channel(program: &Program) -> Channel {
    let address = program.flight_address();
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_timeout(PATIENCE).connect().await.unwrap()
}

async fn connect(program: &Program) -> Flight {
    FlightSqlServiceClient::new(channel(program).await)
}

/// The rows that an info leads to.
async fn fetch(client: &mut Flight, info: FlightInfo) -> Result<Vec<RecordBatch>, FlightError> {
    let [endpoint] = info.endpoint.as_slice() else { panic!("{} endpoints", info.endpoint.len()) };
    client.do_get(endpoint.ticket.clone().unwrap()).await?.try_collect().await
}

async fn ask(client: &mut Flight, sql: &str) -> Result<RecordBatch, FlightError> {
    let info = client.execute(sql.to_owned(), None).await?;
    let told = info.clone().try_decode_schema();
    let batches = fetch(client, info).await?;
    let sent = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    if let (Ok(told), false) = (told, batches.is_empty()) {
        assert_eq!(sent.as_ref(), &told, "{sql}: what was told is what comes");
    }
    Ok(concat_batches(&sent, &batches).unwrap())
}

async fn whole_number(client: &mut Flight, sql: &str) -> i64 {
    ask(client, sql).await.unwrap().column(0).as_primitive::<Int64Type>().value(0)
}

#[track_caller]
fn status(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => panic!("no status: {other}"),
    }
}

async fn refused(client: &mut Flight, sql: &str) -> (Code, String) {
    let status = status(ask(client, sql).await.unwrap_err());
    (status.code(), status.message().to_owned())
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let column = batch.column_by_name(column).unwrap().as_string::<i32>();
    column.iter().map(|text| text.unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_ticket_is_the_statement_and_its_answer_one_snapshot() {
    let data = DataDir::new();
    let (program, _) = with_events(&data, 10).await;
    let mut client = connect(&program).await;
    let sql = "SELECT ts, name, value, dimensions, count(*) OVER () AS n, 'x' AS word FROM metrics ORDER BY ts LIMIT 2";
    let rows = ask(&mut client, sql).await.unwrap();
    let kinds: Vec<&DataType> = rows.schema_ref().fields().iter().map(|field| field.data_type()).collect();
    assert!(matches!(kinds[0], DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC"));
    assert!(matches!(kinds[3], DataType::Map(..)), "{kinds:?}");
    assert_eq!((kinds[1], kinds[4], kinds[5]), (&DataType::Utf8, &DataType::Int64, &DataType::Utf8));
    assert_eq!(rows.column(2).as_primitive::<Float64Type>(), &Float64Array::from(vec![0.0, 1.0]));
    assert_eq!(rows.column(4).as_primitive::<Int64Type>().value(0), 10);

    // The answer begins when the ticket is redeemed, as often as it is, with what was acknowledged before.
    let info = client.execute("SELECT count(*) FROM metrics".to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    for more in 1..=3 {
        let epoch = accepted(&program.client().post_json("/v1/metrics", &json!({"name": "cpu", "value": 1})).await, 1);
        let mut answer = client.do_get(ticket.clone()).await.unwrap();
        let told: u64 = answer.headers().get("x-streamgauge-epoch").unwrap().to_str().unwrap().parse().unwrap();
        assert!(told >= epoch && answer.headers().get("x-streamgauge-partial").is_none());
        let batch = answer.next().await.unwrap().unwrap();
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), 10 + more);
        assert!(answer.next().await.is_none());
    }
    // The same is in the first message.
    let mut raw = FlightServiceClient::new(channel(&program).await);
    let first = raw.do_get(ticket).await.unwrap().into_inner().message().await.unwrap().unwrap();
    let marks: Value = serde_json::from_slice(&first.app_metadata).unwrap();
    assert!(marks["epoch"].is_u64() && marks["partial"].is_null(), "{marks}");

    // No rows have columns, too.
    let info = client.execute("SELECT value FROM metrics WHERE value < 0".to_owned(), None).await.unwrap();
    let mut answer = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    while answer.next().await.transpose().unwrap().is_some_and(|batch| batch.num_rows() == 0) {}
    assert_eq!(answer.schema().unwrap().field(0).name(), "value");
    // What a statement answers can be asked alone.
    let command = CommandStatementQuery { query: "SELECT value AS v FROM metrics".into(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let schema = raw.get_schema(descriptor.clone()).await.unwrap().into_inner().schema;
    assert_eq!(Schema::try_from(IpcMessage(schema)).unwrap().field(0).name(), "v");
    let polled = raw.poll_flight_info(descriptor).await.unwrap().into_inner();
    assert!(polled.info.is_some() && polled.flight_descriptor.is_none(), "it is ready");
}

#[tokio::test]
async fn an_epoch_is_waited_for() {
    let data = DataDir::new();
    let (program, epoch) = with_events(&data, 10).await;
    let mut client = connect(&program).await;
    client.set_header("x-streamgauge-epoch", epoch.to_string());
    assert_eq!(whole_number(&mut client, "SELECT count(*) FROM metrics").await, 10);
    client.set_header("x-streamgauge-epoch", (epoch + 3_600_000_000).to_string());
    let info = client.execute("SELECT count(*) FROM metrics".to_owned(), None).await.unwrap();
    // The ticket remembers it.
    let error = status(fetch(&mut connect(&program).await, info).await.unwrap_err());
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().contains("is not visible yet"), "{error}");
    assert_eq!(error.metadata().get("x-streamgauge-code").unwrap(), "epoch_not_reached");
    client.set_header("x-streamgauge-epoch", "now");
    assert_eq!(refused(&mut client, "SELECT 1").await.0, Code::InvalidArgument);
    let mut client = connect(&program).await;
    let late = format!("SET streamgauge.epoch = {}; SELECT 1", epoch + 3_600_000_000);
    assert_eq!(refused(&mut client, &late).await.0, Code::Unavailable);
    client.set_header("x-streamgauge-partial", "perhaps");
    assert!(refused(&mut client, "SELECT 1").await.1.contains("neither true nor false"));
}

#[tokio::test]
async fn while_clickhouse_hangs_an_answer_may_be_partial() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    fill(program.client(), 20).await;
    let mut client = connect(&program).await;
    let stopped = Stopped::new(program.children());
    let (code, message) = refused(&mut client, "SELECT count(*) FROM metrics").await;
    assert_eq!(code, Code::Unavailable, "{message}");
    assert!(message.contains("up to epoch") && message.contains("x-streamgauge-partial: true"), "{message}");
    client.set_header("x-streamgauge-partial", "true");
    let info = client.execute("SELECT count(*) FROM metrics".to_owned(), None).await.unwrap();
    let answer = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    let missing = answer.headers().get("x-streamgauge-partial").unwrap().to_str().unwrap().to_owned();
    assert!(missing.starts_with("history up to epoch ") && missing.ends_with(" is missing"), "{missing}");
    let mut raw = FlightServiceClient::new(channel(&program).await);
    let first = raw.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap().into_inner().message().await;
    let marks: Value = serde_json::from_slice(&first.unwrap().unwrap().app_metadata).unwrap();
    assert!(marks["partial"]["missing"].as_str().unwrap().contains("history in ClickHouse"), "{marks}");
    drop(stopped);
}

#[tokio::test]
async fn statements_are_prepared_and_values_are_bound() {
    let data = DataDir::new();
    let (program, _) = with_events(&data, 10).await;
    let mut client = connect(&program).await;
    let sql = "SELECT value, name FROM metrics WHERE value >= $1 AND name = $2 ORDER BY value LIMIT $3";
    let mut statement = client.prepare(sql.to_owned(), None).await.unwrap();
    let parameters = statement.parameter_schema().unwrap();
    let told: Vec<(&str, &DataType)> =
        parameters.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect();
    assert_eq!(told, [("$1", &DataType::Float64), ("$2", &DataType::Utf8), ("$3", &DataType::Int64)]);
    let columns = statement.dataset_schema().unwrap().clone();
    assert_eq!(columns.field(0).name(), "value");

    let row = |from: ArrayRef, name: &str, most: i64| {
        let name: ArrayRef = Arc::new(StringArray::from(vec![name]));
        let most: ArrayRef = Arc::new(Int64Array::from(vec![most]));
        RecordBatch::try_from_iter([("0", from), ("1", name), ("2", most)]).unwrap()
    };
    // A number of another type is a number.
    let from: [(ArrayRef, &[f64]); 3] = [
        (Arc::new(Float64Array::from(vec![7.5])), &[8.0, 9.0]),
        (Arc::new(Int64Array::from(vec![3])), &[3.0, 4.0]),
        (Arc::new(Float64Array::from(vec![100.0])), &[]),
    ];
    for (from, expected) in from {
        statement.set_parameters(row(from, "cpu", 2)).unwrap();
        let info = statement.execute().await.unwrap();
        assert_eq!(info.clone().try_decode_schema().unwrap(), columns);
        let batches = fetch(&mut client, info).await.unwrap();
        let found: Vec<f64> =
            batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Float64Type>().values().to_vec()).collect();
        assert_eq!(found, expected);
    }
    statement.close().await.unwrap();

    // Values that are missing, or too many, are told.
    let mut bare = client.prepare("SELECT $1::bigint + 1 AS next".to_owned(), None).await.unwrap();
    let error = status(bare.execute().await.unwrap_err());
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("parameters up to $1, and 0 values came"), "{error}");
    let two: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    bare.set_parameters(RecordBatch::try_from_iter([("a", two)]).unwrap()).unwrap();
    let error = status(bare.execute().await.unwrap_err());
    assert!(error.message().contains("with one row of values"), "{error}");
    let nothing: ArrayRef = Arc::new(Int64Array::from(vec![None]));
    bare.set_parameters(RecordBatch::try_from_iter([("a", nothing)]).unwrap()).unwrap();
    let info = bare.execute().await.unwrap();
    assert!(fetch(&mut client, info).await.unwrap()[0].column(0).is_null(0));
    assert_eq!(refused(&mut client, "SELECT $1::bigint").await.0, Code::InvalidArgument);
    let error = client.prepare("SELECT nothing FROM metrics".to_owned(), None).await.unwrap_err();
    assert_eq!(status(error).code(), Code::InvalidArgument);

    // A handle is the statement, so another connection, and the program after a restart, know it.
    let mut statement =
        client.prepare("SELECT count(*) AS n FROM metrics WHERE value < $1".to_owned(), None).await.unwrap();
    let five: ArrayRef = Arc::new(Int64Array::from(vec![5]));
    statement.set_parameters(RecordBatch::try_from_iter([("a", five)]).unwrap()).unwrap();
    let info = statement.execute().await.unwrap();
    program.terminate().await;
    let program = Program::start(&data).await;
    let batches = fetch(&mut connect(&program).await, info).await.unwrap();
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 5);
}

#[tokio::test]
async fn views_are_made_by_updates_and_by_queries() {
    let data = DataDir::new();
    let (program, _) = with_events(&data, 10).await;
    let mut client = connect(&program).await;
    let make = "CREATE MATERIALIZED VIEW v AS SELECT name, count(*) AS n FROM metrics GROUP BY name";
    assert_eq!(client.execute_update(make.to_owned(), None).await.unwrap(), 0);
    eventually("the back-fill is done", Some(10), || {
        let mut client = client.clone();
        async move { Some(ask(&mut client, "SELECT n FROM v").await.ok()?.column(0).as_primitive::<Int64Type>().value(0)) }
    })
    .await;
    let error = status(client.execute_update(make.to_owned(), None).await.unwrap_err());
    assert_eq!(error.code(), Code::AlreadyExists, "{error}");
    // A client that only knows queries: nothing is done before the ticket is redeemed.
    let info = client.execute("DROP MATERIALIZED VIEW v".to_owned(), None).await.unwrap();
    assert!(texts(&ask(&mut client, "SHOW MATERIALIZED VIEWS").await.unwrap(), "view").contains(&"v".to_owned()));
    let said = fetch(&mut client, info).await.unwrap();
    assert_eq!(texts(&said[0], "result"), ["was dropped"]);
    let mut again = client.prepare(make.to_owned(), None).await.unwrap();
    assert_eq!(again.execute_update().await.unwrap(), 0);
    // What is no update, and what nobody may do.
    let error = status(client.execute_update("SELECT 1".to_owned(), None).await.unwrap_err());
    assert!(error.code() == Code::InvalidArgument && error.message().contains("ask it as a query"), "{error}");
    let error = status(client.execute_update("DELETE FROM metrics".to_owned(), None).await.unwrap_err());
    assert!(error.code() == Code::Unimplemented && error.message().contains("DELETE is not answered here"), "{error}");
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let data = DataDir::new();
    let (program, _) = with_events(&data, 1).await;
    let mut client = connect(&program).await;
    for (sql, code, says) in [
        ("SELECT * FROM metric", Code::NotFound, "there is no table \"metric\"; did you mean metrics"),
        ("SELECT valu FROM metrics", Code::InvalidArgument, "valu"),
        ("SELECT (1", Code::InvalidArgument, "Expected: )"),
        ("SELECT 1 / (value - value)::bigint FROM metrics", Code::InvalidArgument, "Divide by zero"),
        ("INSERT INTO metrics VALUES (1)", Code::Unimplemented, "INSERT is not answered here"),
        ("SET a.b = 1; SELECT 1", Code::Unimplemented, "streamgauge.epoch"),
        ("", Code::InvalidArgument, "no SQL question"),
    ] {
        let (found, message) = refused(&mut client, sql).await;
        assert!(found == code && message.contains(says), "{sql}: {found:?} {message}");
    }
    let long = format!("SELECT '{}'", "x".repeat(2 << 20));
    let (code, message) = refused(&mut client, &long).await;
    assert!(code == Code::ResourceExhausted && message.contains("1048576"), "{message}");
    let longer = "x".repeat(5 << 20);
    assert_eq!(refused(&mut client, &longer).await.0, Code::OutOfRange, "of the message itself");

    let error = status(client.begin_transaction().await.unwrap_err());
    assert!(error.code() == Code::Unimplemented && error.message().contains("no transactions"), "{error}");
    let error = status(client.execute("SELECT 1".to_owned(), Some("t".into())).await.unwrap_err());
    assert!(error.code() == Code::Unimplemented && error.message().contains("no transactions"), "{error}");
    let ingest = CommandStatementIngest { table: "metrics".into(), ..CommandStatementIngest::default() };
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("value", column)]).unwrap();
    let error = client.execute_ingest(ingest, futures::stream::iter([Ok(batch)])).await.unwrap_err();
    assert!(status(error).message().contains("post them to /api/v1/streams"));
    for ticket in [Ticket::new("nonsense"), Ticket::new("")] {
        let error = status(client.do_get(ticket).await.map(|_| ()).unwrap_err());
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
    let error = client.do_action(Action::new("Fly", "")).await.unwrap_err();
    assert!(status(error).message().contains("there are CreatePreparedStatement"));
    let actions = client.inner_mut().list_actions(arrow_flight::Empty {}).await.unwrap().into_inner();
    let actions: Vec<String> = actions.map_ok(|action| action.r#type).try_collect().await.unwrap();
    assert!(actions.contains(&"CancelFlightInfo".to_owned()) && !actions.contains(&"BeginTransaction".to_owned()));
}

#[tokio::test]
async fn tables_are_listed() {
    let data = DataDir::new();
    let (program, _) = with_events(&data, 1).await;
    let mut client = connect(&program).await;
    let make = "CREATE MATERIALIZED VIEW spent WITH (backfill = false) AS SELECT name, sum(value) AS total FROM metrics GROUP BY name";
    client.execute_update(make.to_owned(), None).await.unwrap();

    let info = client.get_catalogs().await.unwrap();
    assert_eq!(texts(&fetch(&mut client, info).await.unwrap()[0], "catalog_name"), ["streamgauge"]);
    let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    let schemas = texts(&fetch(&mut client, info).await.unwrap()[0], "db_schema_name");
    assert_eq!(schemas, ["information_schema", "pg_catalog", "public", "system"]);
    let info = client.get_table_types().await.unwrap();
    assert_eq!(texts(&fetch(&mut client, info).await.unwrap()[0], "table_type"), ["SYSTEM TABLE", "TABLE", "VIEW"]);

    let all = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
    let public = CommandGetTables { db_schema_filter_pattern: Some("pub%".into()), ..all.clone() };
    let info = client.get_tables(public.clone()).await.unwrap();
    let told = info.clone().try_decode_schema().unwrap();
    let tables = &fetch(&mut client, info).await.unwrap()[0];
    assert_eq!(tables.schema_ref().as_ref(), &told);
    let names = texts(tables, "table_name");
    assert_eq!(
        names,
        ["metrics", "metrics_1d", "metrics_1h", "metrics_1m", "metrics_1s", "rejects", "requests", "spent"]
    );
    assert_eq!(texts(tables, "table_type")[0], "TABLE");
    assert_eq!(texts(tables, "table_type")[7], "VIEW");
    let schemas = tables.column_by_name("table_schema").unwrap().as_binary::<i32>();
    let of = |place: usize| Schema::try_from(IpcMessage(schemas.value(place).to_vec().into())).unwrap();
    let columns = |place: usize| of(place).fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    assert_eq!(columns(0), ["ts", "name", "value", "dimensions", "source"]);
    assert_eq!(columns(7), ["name", "total"]);
    // The columns are those of a question, so a client may plan with them.
    for place in [0, 3, 7] {
        let info = client.execute(format!("SELECT * FROM {}", names[place]), None).await.unwrap();
        assert_eq!(info.try_decode_schema().unwrap(), of(place), "{}", names[place]);
    }
    let views =
        CommandGetTables { table_types: vec!["VIEW".into()], table_name_filter_pattern: Some("s%".into()), ..public };
    let info = client.get_tables(CommandGetTables { include_schema: false, ..views }).await.unwrap();
    let views = &fetch(&mut client, info).await.unwrap()[0];
    assert_eq!((texts(views, "table_name"), views.num_columns()), (vec!["spent".to_owned()], 4));
    let info = client.get_tables(all).await.unwrap();
    let names = texts(&fetch(&mut client, info).await.unwrap()[0], "table_name");
    assert!(names.contains(&"pg_class".to_owned()) && names.contains(&"columns".to_owned()), "{names:?}");

    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName, SqlInfo::FlightSqlServerCancel]).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.unwrap()[0].num_rows(), 2);
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: Some(12) }).await.unwrap();
    assert_eq!(texts(&fetch(&mut client, info).await.unwrap()[0], "type_name"), ["text"]);
    let table = "metrics".to_owned();
    let keys = [
        client.get_primary_keys(CommandGetPrimaryKeys { table: table.clone(), ..Default::default() }).await.unwrap(),
        client.get_exported_keys(CommandGetExportedKeys { table: table.clone(), ..Default::default() }).await.unwrap(),
        client.get_imported_keys(CommandGetImportedKeys { table: table.clone(), ..Default::default() }).await.unwrap(),
        client
            .get_cross_reference(CommandGetCrossReference {
                pk_table: table.clone(),
                fk_table: table,
                ..Default::default()
            })
            .await
            .unwrap(),
    ];
    for info in keys {
        let rows: usize = fetch(&mut client, info).await.unwrap().iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 0);
    }
}

/// A question that would take far longer than any test.
const ENDLESS: &str =
    "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a * b % 7 = 3";
/// One that answers at once, and goes on for longer than any test.
const LONG: &str = "SELECT a, b FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";

/// Cancels by the action of today; answers what the server says.
async fn cancel(client: &mut Flight, info: &FlightInfo) -> CancelStatus {
    let request = CancelFlightInfoRequest::new(info.clone()).encode_to_vec();
    let mut results = client.do_action(Action::new("CancelFlightInfo", request)).await.unwrap();
    CancelFlightInfoResult::decode(results.message().await.unwrap().unwrap().body).unwrap().status()
}

/// Cancels by the action of before.
async fn cancel_query(client: &mut Flight, info: &FlightInfo) -> i32 {
    let request = ActionCancelQueryRequest { info: info.encode_to_vec().into() };
    let action = Action::new("CancelQuery", request.as_any().encode_to_vec());
    let mut results = client.do_action(action).await.unwrap();
    let any = Any::decode(results.message().await.unwrap().unwrap().body).unwrap();
    any.unpack::<ActionCancelQueryResult>().unwrap().unwrap().result
}

#[tokio::test]
async fn what_is_cancelled_or_left_is_ended_in_clickhouse_too() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    with_notes(&program).await;
    let http = program.client();
    let reads = || async {
        let sql =
            "SELECT count() FROM system.processes WHERE query LIKE '%note%' AND query NOT LIKE '%system.processes%'";
        http.clickhouse(sql).await
    };

    // All of it comes, whole.
    let mut client = connect(&program).await;
    let info = client.execute("SELECT note FROM notes".to_owned(), None).await.unwrap();
    let batches = fetch(&mut client, info.clone()).await.unwrap();
    let lengths = batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter());
    assert_eq!(lengths.filter(|note| note.unwrap().len() == 1_500).count(), NOTES);
    assert_eq!(cancel(&mut client, &info).await, CancelStatus::NotCancellable, "it has ended");

    // A client that reads a little holds the rest back; then it cancels, leaves the call, or leaves altogether.
    for way in ["cancel", "cancel as before", "leave the call", "leave"] {
        let mut reader = connect(&program).await;
        let mut answer = reader.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
        assert!(answer.next().await.unwrap().unwrap().num_rows() > 0);
        eventually("ClickHouse reads for it", json!([[1.0]]), reads).await;
        match way {
            "cancel" => assert_eq!(cancel(&mut client, &info).await, CancelStatus::Cancelled),
            "cancel as before" => assert_eq!(cancel_query(&mut client, &info).await, 1),
            "leave the call" => drop(answer),
            _ => drop((answer, reader)),
        }
        eventually(way, json!([[0.0]]), reads).await;
    }
    // Who cancelled is told so, after what was on its way.
    let mut answer = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    assert!(answer.next().await.unwrap().is_ok());
    assert_eq!(cancel(&mut connect(&program).await, &info).await, CancelStatus::Cancelled);
    let rest: Result<Vec<RecordBatch>, FlightError> = answer.try_collect().await;
    assert_eq!(status(rest.unwrap_err()).code(), Code::Cancelled);
    assert_eq!(whole_number(&mut client, "SELECT count(*) FROM notes").await, NOTES as i64, "the connection goes on");
}

#[tokio::test]
async fn a_question_that_computes_is_cancelled() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let mut client = connect(&program).await;
    let info = client.execute(ENDLESS.to_owned(), None).await.unwrap();
    assert_eq!(cancel(&mut client, &info).await, CancelStatus::NotCancellable, "it has not begun");
    let began = Instant::now();
    let (mut asking, asked) = (client.clone(), info.clone());
    let question = tokio::spawn(async move { fetch(&mut asking, asked).await });
    eventually("it is cancelled", CancelStatus::Cancelled, || {
        let (mut client, info) = (client.clone(), info.clone());
        async move { cancel(&mut client, &info).await }
    })
    .await;
    let error = status(question.await.unwrap().unwrap_err());
    assert_eq!((error.code(), error.message()), (Code::Cancelled, "the question was cancelled, as was asked for"));
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_question_that_computes_for_nobody_gives_its_turn_back() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let mut client = connect(&program).await;
    let info = client.execute(ENDLESS.to_owned(), None).await.unwrap();
    // More of them than may run at a time.
    for _ in 0..20 {
        drop(client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap());
    }
    assert_eq!(whole_number(&mut client, "SELECT 1").await, 1);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_gives_its_turn_back() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &["--query-timeout", "1s"]).await;
    let mut client = connect(&program).await;
    let info = client.execute(LONG.to_owned(), None).await.unwrap();
    let mut answer = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    assert!(answer.next().await.unwrap().is_ok());
    tokio::time::sleep(Duration::from_millis(1_500)).await; // longer than a question may take
    assert_eq!(cancel(&mut connect(&program).await, &info).await, CancelStatus::NotCancellable, "it runs no more");
    let rest: Result<Vec<RecordBatch>, FlightError> = answer.try_collect().await;
    let error = status(rest.unwrap_err());
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert!(error.message().contains("was not read within 1s"), "{error}");
}

#[tokio::test]
async fn passwords_and_tokens_let_calls_in() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &["--flight-password", "slow: river"]).await;
    let mut client = connect(&program).await;
    let (code, message) = refused(&mut client, "SELECT 1").await;
    assert!(code == Code::Unauthenticated && message.contains("a password is needed"), "{message}");
    assert!(client.handshake("anybody", "slow river").await.is_err());
    client.handshake("anybody", "slow: river").await.unwrap();
    assert!(client.token().is_some());
    assert_eq!(whole_number(&mut client, "SELECT 1").await, 1);
    let users = "SELECT user_name, protocol FROM system.queries WHERE sql LIKE '%system.queries%'";
    let asked = ask(&mut client, users).await.unwrap();
    assert_eq!(
        (texts(&asked, "user_name"), texts(&asked, "protocol")),
        (vec!["anybody".into()], vec!["flight".into()])
    );
    let token = client.token().unwrap().clone();
    client.set_token(format!("{}{}", if token.starts_with('B') { 'C' } else { 'B' }, &token[1..]));
    let (code, message) = refused(&mut client, "SELECT 1").await;
    assert!(code == Code::Unauthenticated && message.contains("log in again"), "{message}");
    client.clear_token();
    // Clients that do not shake hands show the password with every call.
    use base64::Engine;
    let basic = base64::engine::general_purpose::STANDARD.encode("anybody:slow: river");
    client.set_header("authorization", format!("Basic {basic}"));
    assert_eq!(whole_number(&mut client, "SELECT 1").await, 1);
    // No call is heeded otherwise.
    let mut raw = FlightServiceClient::new(channel(&program).await);
    let refusals = [
        raw.list_actions(arrow_flight::Empty {}).await.map(|_| ()).unwrap_err(),
        raw.do_get(Ticket::new("")).await.map(|_| ()).unwrap_err(),
        raw.do_put(futures::stream::empty()).await.map(|_| ()).unwrap_err(),
        raw.do_action(Action::new("CancelQuery", "")).await.map(|_| ()).unwrap_err(),
        raw.get_schema(FlightDescriptor::new_cmd("")).await.map(|_| ()).unwrap_err(),
    ];
    refusals.iter().for_each(|refusal| assert_eq!(refusal.code(), Code::Unauthenticated, "{refusal}"));
}

#[tokio::test]
async fn tls_is_spoken_when_there_is_a_certificate() {
    let folder = "tests/fixtures/tls";
    let (certificate, key) = (format!("{folder}/server.pem"), format!("{folder}/server-key.pem"));
    let data = DataDir::new();
    let arguments = ["--flight-tls-cert", &certificate, "--flight-tls-key", &key];
    let program = Program::start_with(&data, &arguments).await;
    let address = program.flight_address();
    let endpoint = Endpoint::from_shared(format!("https://localhost:{}", address.port())).unwrap();
    let authority = std::fs::read(format!("{folder}/authority.pem")).unwrap();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
    let channel = endpoint.clone().tls_config(tls).unwrap().connect().await.unwrap();
    assert_eq!(whole_number(&mut FlightSqlServiceClient::new(channel), "SELECT 1").await, 1);
    // Who does not know the authority, or does not speak TLS, does not get in.
    let other = std::fs::read(format!("{folder}/cert.pem")).unwrap();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(other));
    assert!(endpoint.tls_config(tls).unwrap().connect().await.is_err());
    let plain = Endpoint::from_shared(format!("http://{address}")).unwrap();
    if let Ok(channel) = plain.connect().await {
        assert!(FlightSqlServiceClient::new(channel).execute("SELECT 1".to_owned(), None).await.is_err());
    }
}

#[tokio::test]
async fn connections_are_bounded_and_silent_ones_end() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &["--flight-connections-max", "2"]).await;
    let mut first = connect(&program).await;
    assert_eq!(whole_number(&mut first, "SELECT 1").await, 1);
    // One that says nothing takes a place, but not for long.
    let mut silent = tokio::net::TcpStream::connect(program.flight_address()).await.unwrap();
    eventually("there are too many", true, || async {
        let answer = ask(&mut connect(&program).await, "SELECT 1").await;
        answer.is_err_and(|error| status(error).code() == Code::ResourceExhausted)
    })
    .await;
    let (_, message) = refused(&mut connect(&program).await, "SELECT 1").await;
    assert!(message.contains("2 connections are open") && message.contains("--flight-connections-max"), "{message}");
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, silent.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    eventually("its place is free", true, || async { ask(&mut connect(&program).await, "SELECT 1").await.is_ok() })
        .await;
    assert_eq!(whole_number(&mut first, "SELECT 1").await, 1);
}

#[tokio::test]
async fn a_stop_lets_answers_end_and_says_so_to_those_that_do_not() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let mut client = connect(&program).await;
    let info = client.execute(LONG.to_owned(), None).await.unwrap();
    let mut answer = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    assert!(answer.next().await.unwrap().is_ok());
    let reading = tokio::spawn(async move {
        loop {
            match answer.next().await {
                Some(Ok(_)) => {}
                ended => return ended.map(|ended| ended.map(|_| ()).unwrap_err()),
            }
        }
    });
    let (status_of, took) = program.terminate().await;
    assert!(status_of.success() && took < Duration::from_secs(20), "{status_of} after {took:?}");
    let error = status(reading.await.unwrap().expect("it was not whole"));
    assert!(error.code() == Code::Unavailable && error.message().contains("is stopping"), "{error:?}");
}
