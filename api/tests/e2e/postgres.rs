//! The protocol of PostgreSQL, with a client that uses all of it: values in binary, portals, cancelling, copies, bounds.

use std::time::{Duration, Instant, SystemTime};

use futures::TryStreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::support::client::accepted;
use crate::support::{DataDir, PATIENCE, Program, eventually};

/// A client, whose connection runs beside it.
pub(crate) async fn connect(program: &Program) -> Client {
    try_connect(program, None).await.unwrap()
}

async fn try_connect(program: &Program, password: Option<&str>) -> Result<Client, tokio_postgres::Error> {
    let address = program.pg_address();
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("rust").connect_timeout(PATIENCE);
    if let Some(password) = password {
        config.password(password);
    }
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) fn state(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned())
}

/// A program with `count` events of the values 0, 1, …, a second apart, and the epoch of their acknowledgement.
pub(crate) async fn with_events(data: &DataDir, count: i64) -> (Program, u64) {
    let program = Program::start(data).await;
    let event =
        |i: i64| json!({"name": "cpu", "value": i, "timestamp": 1_714_521_600 + i, "dimensions": {"host": "a"}});
    let events: Vec<Value> = (0..count).map(event).collect();
    let epoch = accepted(&program.client().post_json("/v1/metrics", &json!(events)).await, count as usize);
    (program, epoch)
}

#[tokio::test]
async fn statements_are_prepared_and_values_go_in_binary() {
    let data = DataDir::new();
    let (program, _) = with_events(&data, 10).await;
    let client = connect(&program).await;

    let statement = client
        .prepare("SELECT ts, name, value, count(*) OVER () AS n, value > 5 AS big FROM metrics WHERE ts >= $1 AND value < $2 AND name = $3 ORDER BY ts LIMIT $4")
        .await
        .unwrap();
    assert_eq!(statement.params(), [Type::TIMESTAMPTZ, Type::FLOAT8, Type::TEXT, Type::INT8]);
    let kinds: Vec<&Type> = statement.columns().iter().map(tokio_postgres::Column::type_).collect();
    assert_eq!(kinds, [&Type::TIMESTAMPTZ, &Type::TEXT, &Type::FLOAT8, &Type::INT8, &Type::BOOL]);
    let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_714_521_600 + 4);
    let rows = client.query(&statement, &[&from, &8.5, &"cpu", &3_i64]).await.unwrap();
    let values: Vec<(SystemTime, &str, f64, i64, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect();
    let second = Duration::from_secs(1);
    assert_eq!(
        values,
        [(from, "cpu", 4.0, 5, false), (from + second, "cpu", 5.0, 5, false), (from + 2 * second, "cpu", 6.0, 5, true)]
    );
    assert_eq!(client.query(&statement, &[&from, &0.0, &"cpu", &3_i64]).await.unwrap().len(), 0);

    // Nulls, lists, and values whose type the client gives.
    let row = client
        .query_one("SELECT $1::bigint AS a, $2::text AS b, $3::boolean AS c", &[&None::<i64>, &"é", &true])
        .await
        .unwrap();
    assert_eq!((row.get::<_, Option<i64>>(0), row.get::<_, &str>(1), row.get::<_, bool>(2)), (None, "é", true));
    let typed = client.prepare_typed("SELECT $1 + 1 AS next, $2 AS same", &[Type::INT8, Type::FLOAT8]).await.unwrap();
    let row = client.query_one(&typed, &[&41_i64, &0.5]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, f64>(1)), (42, 0.5));
    let row = client
        .query_one("SELECT array_agg(value) AS all, DATE '2024-05-01' AS day FROM metrics WHERE value < 3", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, Vec<f64>>(0), [0.0, 1.0, 2.0]);
    assert_eq!(row.columns()[1].type_(), &Type::DATE);
    let json = client.prepare("SELECT dimensions FROM metrics").await.unwrap();
    assert_eq!(json.columns()[0].type_(), &Type::JSON);

    // What is wrong is said when the statement is prepared, and the connection goes on.
    assert_eq!(state(&client.prepare("SELECT nothing FROM metrics").await.unwrap_err()), "42703");
    assert_eq!(state(&client.prepare("SELECT 1; SELECT 2").await.unwrap_err()), "42601");
    assert_eq!(
        state(&client.query("SELECT 1 / (value - value)::bigint FROM metrics", &[]).await.unwrap_err()),
        "22012"
    );
    let error = client.query("SELECT $1::bigint + 1", &[&"x"]).await.unwrap_err();
    assert!(error.code().is_none(), "the client itself refuses a text for a number: {error}");
    assert_eq!(client.query_one("SELECT 1 AS one", &[]).await.unwrap().get::<_, i64>(0), 1);

    // Statements about views go the same way.
    client
        .execute("CREATE MATERIALIZED VIEW v AS SELECT name, count(*) AS n FROM metrics GROUP BY name", &[])
        .await
        .unwrap();
    eventually("the back-fill is done", Some(10), || async {
        client.query_one("SELECT n FROM v", &[]).await.ok().map(|row| row.get::<_, i64>(0))
    })
    .await;
    let views = client.query("SHOW MATERIALIZED VIEWS", &[]).await.unwrap();
    assert!(views.iter().any(|row| row.get::<_, &str>(0) == "v"));
    client.execute("DROP MATERIALIZED VIEW v", &[]).await.unwrap();
}

#[tokio::test]
async fn portals_give_some_rows_at_a_time() {
    let data = DataDir::new();
    let (program, _) = with_events(&data, 10).await;
    let mut client = connect(&program).await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT value FROM metrics ORDER BY value", &[]).await.unwrap();
    let mut found: Vec<f64> = Vec::new();
    for expected in [4, 4, 2, 0] {
        let rows = transaction.query_portal(&portal, 4).await.unwrap();
        assert_eq!(rows.len(), expected);
        found.extend(rows.iter().map(|row| row.get::<_, f64>(0)));
    }
    assert_eq!(found, (0..10).map(f64::from).collect::<Vec<_>>());
    // A statement between the parts of another.
    let first = transaction.bind("SELECT value FROM metrics ORDER BY value", &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&first, 1).await.unwrap()[0].get::<_, f64>(0), 0.0);
    assert_eq!(transaction.query_one("SELECT count(*) FROM metrics", &[]).await.unwrap().get::<_, i64>(0), 10);
    assert_eq!(transaction.query_portal(&first, 1).await.unwrap()[0].get::<_, f64>(0), 1.0);
    // An error ends what the transaction can do.
    assert_eq!(state(&transaction.query("SELECT 1 / 0", &[]).await.unwrap_err()), "22012");
    assert_eq!(state(&transaction.query("SELECT 1", &[]).await.unwrap_err()), "25P02");
    transaction.rollback().await.unwrap();
    assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_portal_that_nobody_reads_gives_its_turn_back() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &["--query-timeout", "1s"]).await;
    let events: Vec<Value> = (0..10).map(|value| json!({"name": "cpu", "value": value})).collect();
    accepted(&program.client().post_json("/v1/metrics", &json!(events)).await, 10);
    let mut client = connect(&program).await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT value FROM metrics", &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&portal, 1).await.unwrap().len(), 1);
    tokio::time::sleep(Duration::from_millis(1_500)).await; // longer than a question may take
    let error = transaction.query_portal(&portal, 1).await.unwrap_err();
    let told = error.as_db_error().unwrap();
    assert_eq!((told.code().code(), told.hint()), ("57014", Some("fetch rows sooner, or ask again")), "{told:?}");
}

#[tokio::test]
async fn settings_hold_for_the_session() {
    let data = DataDir::new();
    let (program, epoch) = with_events(&data, 1).await;
    let client = connect(&program).await;
    client.batch_execute(&format!("SET streamgauge.epoch = {epoch}; SET statement_timeout = '1min'")).await.unwrap();
    assert_eq!(client.query_one("SELECT count(*) FROM metrics", &[]).await.unwrap().get::<_, i64>(0), 1);
    client.batch_execute(&format!("SET streamgauge.epoch = {}", epoch + 3_600_000_000)).await.unwrap();
    let error = client.query("SELECT count(*) FROM metrics", &[]).await.unwrap_err();
    assert_eq!(state(&error), "55000");
    assert!(error.as_db_error().unwrap().message().contains("is not visible yet"), "{error}");
    // Another session is not asked so.
    assert_eq!(connect(&program).await.query("SELECT count(*) FROM metrics", &[]).await.unwrap().len(), 1);
    client.batch_execute("RESET ALL; DISCARD ALL; SET statement_timeout = 100").await.unwrap();
    let error = client.query(ENDLESS, &[]).await.unwrap_err();
    assert_eq!(
        (state(&error).as_str(), error.as_db_error().unwrap().message()),
        ("57014", "canceling statement due to statement timeout")
    );
}

/// A question that would take far longer than any test.
pub(crate) const ENDLESS: &str =
    "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a * b % 7 = 3";

#[tokio::test]
async fn a_cancelled_statement_ends_and_the_session_goes_on() {
    let data = DataDir::new();
    let (program, _) = with_events(&data, 1).await;
    let client = connect(&program).await;
    let token = client.cancel_token();
    let began = Instant::now();
    let mut question = std::pin::pin!(client.query(ENDLESS, &[]));
    // Cancelled before it runs, it would not be; so it is cancelled until it ends.
    let answer = loop {
        tokio::select! {
            answer = &mut question => break answer,
            () = tokio::time::sleep(Duration::from_millis(100)) => token.cancel_query(NoTls).await.unwrap(),
        }
    };
    let error = answer.unwrap_err();
    assert_eq!(state(&error), "57014");
    assert!(error.as_db_error().unwrap().message().contains("user request"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    assert_eq!(client.query_one("SELECT count(*) FROM metrics", &[]).await.unwrap().get::<_, i64>(0), 1);
}

/// As many notes of 1,500 letters are in ClickHouse.
/// Events of `notes` that are sent, and how often ClickHouse has each of them in the end.
const NOTES_SENT: usize = 10_000;
const NOTES_COPIES: usize = 20;
pub(crate) const NOTES: usize = NOTES_SENT * NOTES_COPIES;

/// Makes a stream `notes` of which ClickHouse has far more than fits into the buffers on the way to a client: 300 MB,
/// where the sockets of one connection may hold some 30 MB at each of two hops.
pub(crate) async fn with_notes(program: &Program) {
    let http = program.client();
    let columns = json!([{"name": "at", "type": "timestamp"}, {"name": "note", "type": "text"}]);
    http.post_json("/api/v1/streams", &json!({"name": "notes", "time_column": "at", "columns": columns}))
        .await
        .expect(201);
    let event = json!({"at": 1_714_521_600, "note": "n".repeat(1_500)});
    let sent = http.post_json("/api/v1/streams/notes/events", &json!(vec![event; NOTES_SENT])).await;
    let last = accepted(&sent, NOTES_SENT);
    eventually("flushed", true, || async {
        let status = http.get("/api/v1/status").await.expect(200);
        let mut flushes = status["flush"].as_array().unwrap().iter();
        flushes.all(|flush| flush["item"] == "catalog" || flush["epoch"].as_u64().unwrap() > last)
    })
    .await;
    // Sending as much would take the tests long; ClickHouse copies it at once.
    let copy =
        format!("INSERT INTO notes SELECT notes.* FROM notes CROSS JOIN numbers({}) AS copies", NOTES_COPIES - 1);
    let copied = http.ask_clickhouse(&copy).await.unwrap();
    assert_eq!(copied.status, 200, "{}", copied.text());
}

#[tokio::test]
async fn rows_stream_and_what_nobody_reads_is_ended_in_clickhouse_too() {
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
    let client = connect(&program).await;
    let rows = client.query_raw("SELECT note FROM notes", Vec::<String>::new()).await.unwrap();
    let lengths: Vec<usize> = rows.map_ok(|row| row.get::<_, &str>(0).len()).try_collect().await.unwrap();
    assert_eq!((lengths.len(), lengths.iter().all(|length| *length == 1_500)), (NOTES, true));

    // A client that reads a little holds the rest back, and then cancels.
    let address = program.pg_address();
    for way in ["cancel", "leave"] {
        let mut slow = TcpStream::connect(address).await.unwrap();
        let (process, key) = start(&mut slow).await;
        slow.write_all(&message(b'Q', b"SELECT note FROM notes\0")).await.unwrap();
        let mut some = [0; 1_000];
        slow.read_exact(&mut some).await.unwrap();
        eventually("ClickHouse reads for it", json!([[1.0]]), reads).await;
        if way == "cancel" {
            let mut other = TcpStream::connect(address).await.unwrap();
            let request = [&80_877_102_u32.to_be_bytes(), process.as_slice(), key.as_slice()].concat();
            other.write_all(&untyped(&request)).await.unwrap();
            eventually("it was ended in ClickHouse", json!([[0.0]]), reads).await;
            // The rows that were on their way come whole, then the error, and the session goes on.
            let (letters, _) = until_ready(&mut slow, some[..].to_vec()).await;
            assert!(letters.ends_with("EZ") && letters.contains('D'), "{letters:?}");
            slow.write_all(&message(b'Q', b"SELECT 1\0")).await.unwrap();
            assert_eq!(until_ready(&mut slow, Vec::new()).await.0, "TDCZ");
        } else {
            drop(slow);
            eventually("it was ended in ClickHouse", json!([[0.0]]), reads).await;
        }
    }
}

#[tokio::test]
async fn copies_stream() {
    let data = DataDir::new();
    let (program, _) = with_events(&data, 1_000).await;
    let client = connect(&program).await;
    let copy = client
        .copy_out("COPY (SELECT value, dimensions FROM metrics ORDER BY value) TO STDOUT (FORMAT csv, HEADER)")
        .await;
    let parts: Vec<bytes::Bytes> = copy.unwrap().try_collect().await.unwrap();
    let text = String::from_utf8(parts.concat()).unwrap();
    let expected: String = (0..1_000).map(|value| format!("{value},\"{{\"\"host\"\":\"\"a\"\"}}\"\n")).collect();
    assert_eq!(text, format!("value,dimensions\n{expected}"));
    let error = client.copy_out("COPY (SELECT nothing) TO STDOUT").await.map(|_| ()).unwrap_err();
    assert_eq!(state(&error), "42703");
    let rows = client.simple_query("SELECT 1 AS a; SELECT 2 AS b").await.unwrap();
    let values: Vec<&str> =
        rows.iter().filter_map(|row| if let SimpleQueryMessage::Row(row) = row { row.get(0) } else { None }).collect();
    assert_eq!(values, ["1", "2"]);
}

#[tokio::test]
async fn passwords_are_checked() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &["--pg-password", "pé\u{00a0}1"]).await;
    let client = try_connect(&program, Some("pé 1")).await; // a blank that does not break is a blank
    assert_eq!(client.unwrap().query_one("SELECT 1", &[]).await.unwrap().get::<_, i64>(0), 1);
    let error = try_connect(&program, Some("pe 1")).await.map(|_| ()).unwrap_err();
    assert_eq!(state(&error), "28P01");
    assert!(try_connect(&program, None).await.is_err());
    // Without a proof nothing is answered.
    let mut raw = TcpStream::connect(program.pg_address()).await.unwrap();
    raw.write_all(&untyped(&[&[0, 3, 0, 0], b"user\0x\0\0".as_slice()].concat())).await.unwrap();
    raw.write_all(&message(b'Q', b"SELECT 1\0")).await.unwrap();
    let mut all = Vec::new();
    raw.read_to_end(&mut all).await.unwrap();
    let all = String::from_utf8_lossy(&all);
    assert!(all.contains("FATAL") && all.contains("08P01") && !all.contains("SELECT 1"), "{all}");
}

#[tokio::test]
async fn bounds_are_told() {
    let data = DataDir::new();
    let program = Program::start_with(&data, &["--pg-connections-max", "2"]).await;
    let first = connect(&program).await;
    let second = connect(&program).await;
    let error = try_connect(&program, None).await.map(|_| ()).unwrap_err();
    assert_eq!(state(&error), "53300");
    let told = error.as_db_error().unwrap();
    assert!(
        told.message().contains("2 connections") && told.hint().unwrap().contains("--pg-connections-max"),
        "{told:?}"
    );
    // A place is free again once a client has left.
    drop(second);
    eventually("a place is free", true, || async { try_connect(&program, None).await.is_ok() }).await;
    assert_eq!(first.query_one("SELECT 1", &[]).await.unwrap().get::<_, i64>(0), 1);

    eventually("a place is free", true, || async {
        let mut raw = TcpStream::connect(program.pg_address()).await.unwrap();
        if !try_start(&mut raw).await {
            return false;
        }
        raw.write_all(b"Q\x7f\xff\xff\xff").await.unwrap();
        let mut all = Vec::new();
        raw.read_to_end(&mut all).await.unwrap();
        let all = String::from_utf8_lossy(&all);
        assert!(all.contains("FATAL") && all.contains("longer than 16777216 bytes"), "{all}");
        true
    })
    .await;
    let long = format!("SELECT {}1", "1 + ".repeat(10_000));
    assert_eq!(state(&first.query(&long, &[]).await.unwrap_err()), "42601");
    assert_eq!(first.query_one("SELECT 1", &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_stop_ends_sessions_with_a_word() {
    let data = DataDir::new();
    let (program, _) = with_events(&data, 1).await;
    let mut idle = TcpStream::connect(program.pg_address()).await.unwrap();
    start(&mut idle).await;
    let (status, took) = program.terminate().await;
    assert!(status.success() && took < Duration::from_secs(20), "{status} after {took:?}");
    let mut all = Vec::new();
    idle.read_to_end(&mut all).await.unwrap();
    let all = String::from_utf8_lossy(&all);
    assert!(all.contains("FATAL") && all.contains("57P01"), "{all}");
}

pub(crate) fn untyped(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

pub(crate) fn message(letter: u8, body: &[u8]) -> Vec<u8> {
    [[letter].as_slice(), &untyped(body)].concat()
}

/// Starts a session; answers its process and key.
pub(crate) async fn start(socket: &mut TcpStream) -> ([u8; 4], [u8; 4]) {
    socket.write_all(&untyped(&[&[0, 3, 0, 0], b"user\0x\0\0".as_slice()].concat())).await.unwrap();
    let (_, all) = until_ready(socket, Vec::new()).await;
    let key = &all[all.len() - 6 - 8..all.len() - 6]; // the key comes last but one
    (key[..4].try_into().unwrap(), key[4..].try_into().unwrap())
}

/// Starts a session, if there is a place for it.
async fn try_start(socket: &mut TcpStream) -> bool {
    socket.write_all(&untyped(&[&[0, 3, 0, 0], b"user\0x\0\0".as_slice()].concat())).await.unwrap();
    socket.read_u8().await.unwrap() == b'R'
}

/// Reads messages until the server is ready; answers their letters, and their bytes. `all` was read before.
pub(crate) async fn until_ready(socket: &mut TcpStream, mut all: Vec<u8>) -> (String, Vec<u8>) {
    let (mut letters, mut at) = (String::new(), 0);
    loop {
        while let Some(header) = all.get(at..at + 5) {
            let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
            if all.len() < at + 1 + length {
                break;
            }
            letters.push(char::from(header[0]));
            at += 1 + length;
            if letters.ends_with('Z') {
                assert_eq!(at, all.len(), "nothing follows");
                return (letters, all);
            }
        }
        let read = tokio::time::timeout(PATIENCE, socket.read_buf(&mut all)).await.expect("it goes on").unwrap();
        assert!(read > 0, "the connection ended after {letters:?}");
    }
}
