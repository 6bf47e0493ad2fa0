//! psql: browsing with its own commands, and asking, as an analyst does.

use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use crate::support::client::accepted;
use crate::support::{DataDir, PATIENCE, Program};

/// psql with a program to talk to.
pub(crate) struct Psql {
    path: String,
    address: std::net::SocketAddr,
    options: Vec<(String, String)>,
}

/// What psql printed.
pub(crate) struct Printed {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Psql {
    /// psql, which the script finds or installs.
    pub(crate) async fn of(program: &Program) -> Self {
        let script = "../scripts/ensure-psql";
        let found = Command::new(script).output().await.unwrap();
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        let path = String::from_utf8(found.stdout).unwrap().trim().to_owned();
        Psql { path, address: program.pg_address(), options: Vec::new() }
    }

    /// With a variable of its environment.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs commands; each is a statement or a command of psql's own.
    pub(crate) async fn run(&self, commands: &[&str]) -> Printed {
        let mut psql = Command::new(&self.path);
        psql.args(["-X", "-w", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-P", "pager=off"]);
        psql.env("PGHOST", self.address.ip().to_string()).env("PGPORT", self.address.port().to_string());
        psql.env("PGUSER", "analyst").env("PGCONNECT_TIMEOUT", "20").env_remove("PGPASSWORD");
        psql.envs(self.options.iter().map(|(name, value)| (name, value)));
        commands.iter().for_each(|command| {
            psql.args(["-c", command]);
        });
        psql.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, psql.output()).await.expect("psql ends").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Printed { success: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs commands that succeed, and answers what they print.
    #[track_caller]
    pub(crate) fn prints(&self, commands: &[&str]) -> impl Future<Output = String> {
        let place = std::panic::Location::caller();
        async move {
            let printed = self.run(commands).await;
            assert!(printed.success, "{place}: {commands:?}\n{}{}", printed.out, printed.err);
            printed.out
        }
    }
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(squeezed.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[tokio::test]
async fn psql_browses() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let columns = json!([
        {"name": "at", "type": "timestamp"}, {"name": "customer", "type": "text"}, {"name": "amount", "type": "f64"},
        {"name": "pieces", "type": "i64"}, {"name": "paid", "type": "bool"}
    ]);
    let stream = json!({"name": "orders", "time_column": "at", "columns": columns});
    client.post_json("/api/v1/streams", &stream).await.expect(201);
    let psql = Psql::of(&program).await;
    let made = psql
        .run(&["CREATE MATERIALIZED VIEW spent AS SELECT customer, sum(amount) AS total FROM orders GROUP BY customer"])
        .await;
    assert!(made.success, "{}", made.err);
    assert_eq!(made.out, "CREATE MATERIALIZED VIEW\n");
    contains(&made.err, &["NOTICE", "view \"spent\" was made"]);

    contains(
        &psql.prints(&["\\d"]).await,
        &[
            "public | metrics | table | streamgauge",
            "public | metrics_1m | view | streamgauge",
            "public | orders | table | streamgauge",
            "public | spent | view | streamgauge",
        ],
    );
    let tables = psql.prints(&["\\dt"]).await;
    contains(&tables, &["public | orders | table"]);
    assert!(!tables.contains("spent"), "{tables}");
    contains(&psql.prints(&["\\dv"]).await, &["public | spent | view"]);
    contains(
        &psql.prints(&["\\d orders"]).await,
        &[
            "Table \"public.orders\"",
            "at | timestamp with time zone | | not null |",
            "customer | text | | |",
            "amount | double precision | | |",
            "pieces | bigint | | |",
            "paid | boolean | | |",
        ],
    );
    contains(
        &psql.prints(&["\\d+ spent"]).await,
        &["View \"public.spent\"", "total | double precision", "View definition:", "sum(amount) AS total"],
    );
    contains(&psql.prints(&["\\d metrics"]).await, &["dimensions | json | | not null", "value | double precision"]);
    contains(&psql.prints(&["\\l"]).await, &["streamgauge | streamgauge | UTF8"]);
    contains(&psql.prints(&["\\dn"]).await, &["public | streamgauge"]);
    contains(&psql.prints(&["\\du"]).await, &["streamgauge"]);
    contains(
        &psql.prints(&["\\dT text", "\\di", "\\dm", "\\ds", "\\df current_user", "\\dx", "\\dp"]).await,
        &["current_user"],
    );
    contains(&psql.prints(&["\\conninfo"]).await, &["You are connected to database \"analyst\" as user \"analyst\""]);
    let nothing = psql.run(&["\\d nothing_of_the_kind"]).await;
    contains(&nothing.err, &["Did not find any relation named \"nothing_of_the_kind\""]);
}

#[tokio::test]
async fn psql_asks() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let psql = Psql::of(&program).await;
    for value in 1..=3 {
        // The event that was acknowledged a moment ago is in the answer.
        let event =
            json!({"name": "cpu", "value": value, "timestamp": 1_714_521_600 + value, "dimensions": {"host": "a"}});
        accepted(&program.client().post_json("/v1/metrics", &event).await, 1);
        let count =
            psql.prints(&["\\t on", "\\a", "SELECT count(*), sum(value) FROM metrics WHERE name = 'cpu'"]).await;
        assert!(count.ends_with(&format!("{value}|{}\n", value * (value + 1) / 2)), "{count}");
    }
    let rows = psql
        .prints(&["\\a", "SELECT ts, value, dimensions, NULL AS nothing, true AS yes FROM metrics ORDER BY ts LIMIT 1"])
        .await;
    assert!(
        rows.ends_with("ts|value|dimensions|nothing|yes\n2024-05-01 00:00:01+00|1|{\"host\":\"a\"}||t\n(1 row)\n"),
        "{rows}"
    );
    // Several statements, a transaction, settings, and a cursor.
    let many = psql
        .prints(&[
            "\\a",
            "\\t on",
            "BEGIN; SELECT 1; SELECT 2; COMMIT",
            "SET streamgauge.partial = on",
            "SHOW streamgauge.partial",
            "SHOW server_version",
            "\\set FETCH_COUNT 2",
            "SELECT value FROM metrics ORDER BY ts",
        ])
        .await;
    assert!(many.contains("BEGIN\n1\n2\nCOMMIT\nSET\non\n14.0\n1\n2\n3\n"), "{many}");
    // Copies.
    let copy = psql
        .prints(&[
            "\\copy (SELECT name, value, dimensions FROM metrics ORDER BY ts) TO STDOUT WITH (FORMAT csv, HEADER)",
        ])
        .await;
    let line = |value| format!("cpu,{value},\"{{\"\"host\"\":\"\"a\"\"}}\"\n");
    assert_eq!(copy, format!("name,value,dimensions\n{}{}{}", line(1), line(2), line(3)));
    assert_eq!(psql.prints(&["COPY (SELECT NULL, 'a\tb') TO STDOUT"]).await, "\\N\ta\\tb\n");
    // Errors say what, where, and what to do.
    let error = psql.run(&["SELECT * FROM metric"]).await;
    assert!(!error.success);
    contains(&error.err, &["ERROR: 42P01: there is no table \"metric\"", "HINT: did you mean metrics"]);
    let error = psql.run(&["SELECT (1 + 2\n  FROM metrics"]).await;
    contains(&error.err, &["ERROR: 42601:", "LINE 2: FROM metrics"]);
    for (sql, says) in [
        ("INSERT INTO metrics VALUES (1)", "0A000: INSERT is not answered here"),
        ("SELECT 1 / 0", "22012:"),
        ("SELECT valu FROM metrics", "42703:"),
        ("SELECT nothing(1)", "42883:"),
        ("SET streamgauge.epoch = 'now'", "22023: streamgauge.epoch must be set to an epoch"),
        ("SET no_such_setting = 1", "42704: there is no setting"),
        ("COPY metrics FROM STDIN", "0A000: COPY goes TO STDOUT only"),
    ] {
        contains(&psql.run(&[sql]).await.err, &[says]);
    }
    let aborted = psql.run(&["BEGIN; SELECT nothing; SELECT 1"]).await;
    assert!(!aborted.success && !aborted.out.contains("(1 row)"), "{}", aborted.out);
}

#[tokio::test]
async fn psql_with_a_password_and_encryption() {
    let certificate = "tests/fixtures/tls/cert.pem";
    let key = "tests/fixtures/tls/key.pem";
    let data = DataDir::new();
    let arguments = ["--pg-password", "slow river", "--pg-tls-cert", certificate, "--pg-tls-key", key];
    let program = Program::start_with(&data, &arguments).await;
    let encrypted = |psql: Psql| psql.with("PGSSLMODE", "verify-full").with("PGSSLROOTCERT", certificate);
    let psql = encrypted(Psql::of(&program).await).with("PGPASSWORD", "slow river");
    assert!(psql.prints(&["\\a", "\\t on", "SELECT 'in'"]).await.ends_with("\nin\n"));
    contains(&psql.prints(&["\\conninfo"]).await, &["SSL connection (protocol: TLSv1.3"]);
    let plain = Psql::of(&program).await.with("PGSSLMODE", "disable").with("PGPASSWORD", "slow river");
    contains(&plain.prints(&["SELECT 'in'"]).await, &["in"]);
    for wrong in ["", "slow", "slow river "] {
        let psql = encrypted(Psql::of(&program).await).with("PGPASSWORD", wrong);
        let printed = psql.run(&["SELECT 'in'"]).await;
        assert!(!printed.success && !printed.out.contains("in"), "{wrong:?}: {}", printed.out);
        let says = if wrong.is_empty() {
            "no password supplied"
        } else {
            "password authentication failed for user \"analyst\""
        };
        contains(&printed.err, &[says]);
    }
}
