//! Clients of Python, as notebooks use them: ADBC over Flight SQL; psycopg, SQLAlchemy, pandas and Polars over PostgreSQL's protocol.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::client::accepted;
use crate::support::{DataDir, PATIENCE, Program};

/// The first event's time, and how many there are, a second apart; the files of `tests/clients` know them.
const FROM: i64 = 1_714_521_600;
const EVENTS: i64 = 1_000;

/// Runs a file of `tests/clients` against a program, with its environment for clients.
async fn run(file: &str, program: &Program) {
    let script = "../scripts/ensure-python-clients";
    let found = Command::new(script).output().await.unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let python = String::from_utf8(found.stdout).unwrap();
    let mut command = Command::new(python.trim());
    command.arg("-B").arg(format!("tests/clients/{file}"));
    command.env("FLIGHT", program.flight_address().to_string()).env("PG", program.pg_address().to_string());
    command.env("HTTP", program.client().address()).env_remove("PGPASSWORD").kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{file}:\n{said}");
}

async fn with_events(data: &DataDir, arguments: &[&str]) -> Program {
    let program = Program::start_with(data, arguments).await;
    let event = |i: i64| json!({"name": "cpu", "value": i, "timestamp": FROM + i, "dimensions": {"host": "a"}});
    let events: Vec<Value> = (0..EVENTS).map(event).collect();
    accepted(&program.client().post_json("/v1/metrics", &json!(events)).await, EVENTS as usize);
    program
}

#[tokio::test]
async fn adbc_reads_arrow() {
    let data = DataDir::new();
    run("adbc.py", &with_events(&data, &[]).await).await;
}

#[tokio::test]
async fn adbc_logs_in_over_tls() {
    let folder = "tests/fixtures/tls";
    let (certificate, key) = (format!("{folder}/server.pem"), format!("{folder}/server-key.pem"));
    let arguments = ["--flight-password", "slow river", "--flight-tls-cert", &certificate, "--flight-tls-key", &key];
    let data = DataDir::new();
    run("adbc_login.py", &with_events(&data, &arguments).await).await;
}

#[tokio::test]
async fn psycopg_and_sqlalchemy_read_rows() {
    let data = DataDir::new();
    run("postgres.py", &with_events(&data, &[]).await).await;
}
