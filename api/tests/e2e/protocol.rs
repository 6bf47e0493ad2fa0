//! The protocol of PostgreSQL message by message: what is malformed, comes in pieces or many at a time, and what follows
//! an error.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;

use crate::postgres::{ENDLESS, connect, message, start, state, until_ready, untyped};
use crate::support::{DataDir, Program, eventually};

async fn session(program: &Program) -> TcpStream {
    let mut socket = TcpStream::connect(program.pg_address()).await.unwrap();
    start(&mut socket).await;
    socket
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(b'B', &[portal.as_bytes(), b"\0", statement.as_bytes(), b"\0\0\0\0\0\0\0"].concat())
}

fn execute(portal: &str, rows_max: u32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), b"\0", &rows_max.to_be_bytes()].concat())
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// Sends messages that end with one after which the server is ready; answers the letters of its messages, with the
/// SQLSTATE in place of an error's.
async fn says(socket: &mut TcpStream, messages: &[Vec<u8>]) -> String {
    socket.write_all(&messages.concat()).await.unwrap();
    let (letters, bytes) = until_ready(socket, Vec::new()).await;
    let (mut said, mut at) = (String::new(), 0);
    for letter in letters.chars() {
        let length = u32::from_be_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
        let body = &bytes[at + 5..at + 1 + length];
        match letter {
            'E' => {
                let code = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C")).unwrap();
                said.push_str(&format!("({})", String::from_utf8_lossy(code)));
            }
            letter => said.push(letter),
        }
        at += 1 + length;
    }
    said
}

#[tokio::test]
async fn messages_in_pieces_many_at_a_time_and_wrong_ones() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let socket = &mut session(&program).await;
    // A byte at a time.
    socket.set_nodelay(true).unwrap();
    for byte in query("SELECT 1") {
        socket.write_all(&[byte]).await.unwrap();
        socket.flush().await.unwrap();
    }
    assert_eq!(until_ready(socket, Vec::new()).await.0, "TDCZ");
    // Many at a time, with an error among them: what follows it is passed over, up to the next Sync.
    let first = [parse("", "SELECT 1"), bind("", ""), execute("", 0)];
    let wrong = [parse("", "SELECT 1 / 0"), bind("", ""), execute("", 0)];
    let skipped = [query("SELECT 2"), bind("", ""), message(b'H', b""), message(b'F', b""), message(b'Q', b"\xff\0")];
    let all = [first.as_slice(), &wrong, &skipped, &[sync()]].concat();
    assert_eq!(says(socket, &all).await, "12DC12(22012)Z");
    for _ in 0..2 {
        assert_eq!(says(socket, &[first.as_slice(), &first, &[sync()]].concat()).await, "12DC12DCZ");
    }
    // A text that is not UTF-8, and what is not offered: the session goes on.
    assert_eq!(says(socket, &[message(b'Q', b"SELECT '\xff'\0")]).await, "(22021)Z");
    assert_eq!(says(socket, &[message(b'P', b"\0SELECT '\xff'\0\0\0"), bind("", ""), sync()]).await, "(22021)Z");
    assert_eq!(says(socket, &[message(b'F', &[0; 10])]).await, "(0A000)Z");
    assert_eq!(says(socket, &[query("")]).await, "IZ");
    assert_eq!(
        says(socket, &[parse("", ""), bind("", ""), message(b'D', b"P\0"), execute("", 0), sync()]).await,
        "12nIZ"
    );
    assert_eq!(says(socket, &[query("SELECT 1")]).await, "TDCZ");
    // What cannot be read at all ends the session, with a word.
    for wrong in [b"?\0\0\0\x04".as_slice(), b"B\0\0\0\x06\0\0", b"Q\0\0\0\x05x", b"E\0\0\0\x05\0", b"S\0\0\0\x05\0"] {
        let mut other = session(&program).await;
        other.write_all(wrong).await.unwrap();
        let mut all = Vec::new();
        other.read_to_end(&mut all).await.unwrap();
        assert!(all.starts_with(b"E") && all.windows(5).any(|part| part == b"08P01"), "{wrong:?}: {all:?}");
    }
}

#[tokio::test]
async fn first_messages_that_are_refused() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    for (first, expected) in [
        (b"\0\x03\0\0\0".as_slice(), "28000"),
        (b"\0\x03\0\0user\0\0\0".as_slice(), "28000"),
        (b"\0\x03\0\0user\0x\0replication\0true\0\0".as_slice(), "0A000"),
        (b"\0\x03\0\0user\0x\0client_encoding\0LATIN1\0\0".as_slice(), "22023"),
        (b"\0\x02\0\0user\0x\0\0".as_slice(), "08P01"),
        (b"\0\x03\0\0user\0x".as_slice(), "08P01"),
    ] {
        let mut socket = TcpStream::connect(program.pg_address()).await.unwrap();
        socket.write_all(&untyped(first)).await.unwrap();
        let mut all = Vec::new();
        socket.read_to_end(&mut all).await.unwrap();
        let all = String::from_utf8_lossy(&all);
        assert!(all.contains("FATAL") && all.contains(expected), "{expected}: {all}");
    }
}

#[tokio::test]
async fn statements_and_portals_are_kept_and_closed() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let socket = &mut session(&program).await;
    assert_eq!(says(socket, &[query("BEGIN")]).await, "CZ");
    let three = parse("s", "SELECT value FROM generate_series(1, 3) AS s (value)");
    assert_eq!(says(socket, &[three, bind("p", "s"), sync()]).await, "12Z");
    assert_eq!(says(socket, &[execute("p", 2), sync()]).await, "DDsZ");
    assert_eq!(says(socket, &[execute("p", 2), execute("p", 2), sync()]).await, "DCCZ");
    assert_eq!(says(socket, &[bind("p", "s"), sync()]).await, "(42P03)Z");
    assert_eq!(says(socket, &[query("ROLLBACK; BEGIN")]).await, "CCZ");
    assert_eq!(says(socket, &[bind("p", "s"), message(b'C', b"Ss\0"), execute("p", 0), sync()]).await, "23(34000)Z");
    assert_eq!(says(socket, &[query("ROLLBACK")]).await, "CZ");
    assert_eq!(says(socket, &[bind("", "s"), sync()]).await, "(26000)Z");
    // A statement that is not taken is not the unnamed one, nor is the one before.
    assert_eq!(says(socket, &[parse("", "SELECT 1"), sync()]).await, "1Z");
    assert_eq!(says(socket, &[parse("", "SELEC"), sync()]).await, "(42601)Z");
    assert_eq!(says(socket, &[bind("", ""), sync()]).await, "(26000)Z");
    // Their texts are bounded together.
    let long = format!("SELECT 1 /* {} */", "x".repeat(12 << 20));
    assert_eq!(says(socket, &[parse("a", &long), sync()]).await, "1Z");
    assert_eq!(says(socket, &[parse("b", &long), sync()]).await, "1Z");
    assert_eq!(says(socket, &[parse("c", &long), sync()]).await, "(54000)Z");
    assert_eq!(says(socket, &[message(b'C', b"Sa\0"), parse("c", &long), sync()]).await, "31Z");
}

#[tokio::test]
async fn a_transaction_sets_back_its_settings() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = connect(&program).await;
    let show = async |name: &str| client.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get::<_, String>(0);
    client.batch_execute("BEGIN; SET LOCAL statement_timeout = '7s'; SET streamgauge.rows_max = 5").await.unwrap();
    assert_eq!((show("statement_timeout").await, show("streamgauge.rows_max").await), ("7s".into(), "5".into()));
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!((show("statement_timeout").await, show("streamgauge.rows_max").await), ("0".into(), "5".into()));
    client
        .batch_execute("BEGIN; SET streamgauge.rows_max = 9; ROLLBACK; SET LOCAL streamgauge.rows_max = 1")
        .await
        .unwrap();
    assert_eq!(show("streamgauge.rows_max").await, "5");
}

#[tokio::test]
async fn a_client_that_sends_ahead_and_leaves_is_seen() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let mut socket = session(&program).await;
    socket.write_all(&[query(ENDLESS), sync().repeat(200)].concat()).await.unwrap();
    let state = "SELECT state FROM system.queries WHERE protocol = 'postgres'";
    eventually("it runs", json!([["running"]]), || program.client().sql(state)).await;
    drop(socket);
    eventually("it was ended", json!([["abandoned"]]), || program.client().sql(state)).await;
}

#[tokio::test]
async fn the_catalogues_have_the_types_of_postgres() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = connect(&program).await;
    let kinds = "SELECT t.oid, typname, typelem, typlen, proargtypes, proargnames, array_agg(atttypid) OVER () AS kinds, \
                 'pg_type'::regclass::oid AS named FROM pg_type t JOIN pg_proc ON true JOIN pg_attribute ON attrelid = t.oid";
    let statement = client.prepare(kinds).await.unwrap();
    let found: Vec<&Type> = statement.columns().iter().map(tokio_postgres::Column::type_).collect();
    let expected = [
        &Type::OID,
        &Type::TEXT,
        &Type::OID,
        &Type::INT2,
        &Type::OID_VECTOR,
        &Type::TEXT_ARRAY,
        &Type::OID_ARRAY,
        &Type::OID,
    ];
    assert_eq!(found, expected);
    // As JDBC's getFunctionColumns does it: numbers with blanks between them, and never null.
    let types = "SELECT p.proname, p.proargtypes, p.pronargs FROM pg_catalog.pg_proc p, pg_catalog.pg_namespace n, \
                 pg_catalog.pg_type t WHERE p.pronamespace = n.oid AND p.prorettype = t.oid AND n.nspname LIKE 'pg_catalog' \
                 AND p.proname LIKE 'pg_backend_pid' ORDER BY n.nspname, p.proname, p.oid::text";
    let rows = client.simple_query(types).await.unwrap();
    let rows: Vec<_> =
        rows.iter().filter_map(|row| if let SimpleQueryMessage::Row(row) = row { Some(row) } else { None }).collect();
    assert_eq!(rows.len(), 1);
    assert_eq!([0, 1, 2].map(|place| rows[0].get(place)), [Some("pg_backend_pid"), Some(""), Some("0")]);
    let vectors = client.query("SELECT typname FROM pg_type WHERE oid = 30 AND typarray = 1013", &[]).await.unwrap();
    assert_eq!(vectors[0].get::<_, &str>(0), "oidvector");
    let rows = client
        .query(
            "SELECT oid, array_agg(typarray) FROM pg_type WHERE oid = ANY($1::oid[]) GROUP BY 1 ORDER BY 1",
            &[&vec![20_u32, 25]],
        )
        .await
        .unwrap();
    let rows: Vec<(u32, Vec<u32>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [(20, vec![1016]), (25, vec![1009])]);
    // A client that looks for what it does not know of a type asks for parts of kinds that there are not.
    let looked_for =
        "WITH RECURSIVE tree(oid, elem, parts, names, base, depth) AS (
             SELECT k.oid, k.elem, k.parts, k.names, k.base, 0 FROM (SELECT t.oid AS oid, t.typelem AS elem,
                 (CASE WHEN t.typtype = 'c' THEN (SELECT array_agg(a.atttypid ORDER BY a.attnum) FROM pg_attribute a
                     WHERE a.attrelid = t.typrelid) ELSE NULL END) AS parts,
                 (CASE WHEN t.typtype = 'c' THEN (SELECT array_agg(a.attname::text) FROM pg_attribute a
                     WHERE a.attrelid = t.typrelid) ELSE NULL END) AS names,
                 (CASE WHEN t.typtype = 'd' THEN (SELECT b.oid FROM pg_type b WHERE b.oid = t.typbasetype) ELSE NULL END) AS base
                 FROM pg_catalog.pg_type t) AS k WHERE k.oid = ANY($1::oid[])
             UNION ALL
             SELECT t.oid, t.typelem, up.parts, up.names, up.base, up.depth + 1 FROM pg_type t, tree up
                 WHERE (up.elem IS NOT NULL AND t.oid = up.elem) OR (up.parts IS NOT NULL AND t.oid = ANY(up.parts)))
         SELECT DISTINCT *, elem::regtype::text AS elem_name FROM tree ORDER BY depth DESC";
    let parts = client.query(looked_for, &[&vec![1016_u32]]).await.unwrap();
    let kinds: Vec<&Type> = parts[0].columns().iter().map(tokio_postgres::Column::type_).collect();
    assert_eq!(kinds[..5], [&Type::OID, &Type::OID, &Type::OID_ARRAY, &Type::TEXT_ARRAY, &Type::OID]);
    let found: Vec<(u32, u32, Option<&str>)> = parts.iter().map(|row| (row.get(0), row.get(1), row.get(6))).collect();
    assert_eq!(found, [(20, 0, Some("???")), (1016, 20, Some("bigint"))]);
    let arrays = client.query_one(
        "SELECT array_agg(value) AS a, array_agg((value + 0)::smallint) AS b, array_agg('x') AS c FROM generate_series(1, 2) AS s (value)",
        &[],
    );
    let row = arrays.await.unwrap();
    assert_eq!(
        (row.get::<_, Vec<i64>>(0), row.get::<_, Vec<i16>>(1), row.get::<_, Vec<&str>>(2)),
        (vec![1, 2], vec![1, 2], vec!["x", "x"])
    );
    let error = client.query("SELECT oid FROM pg_type WHERE oid = 'x'", &[]).await.unwrap_err();
    assert_eq!(state(&error).len(), 5, "{error}");
}
