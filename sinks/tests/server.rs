//! The life of the ClickHouse that runs: start, access, crashes, ends, and each clear message.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use streamgauge_sinks::server::access::USER;
use streamgauge_sinks::server::{ChildArgs, ChildEngine};
use streamgauge_sinks::{ClickHouse, ErrorKind, Server, ServerConfig, ServerMode, ServerState, SinkError};
use support::{ask, config, folder, library, run, until};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn url_config(url: &str, user: &str, password: &str) -> ServerConfig {
    let mode = ServerMode::Url { url: url.into(), user: user.into(), password: password.into() };
    ServerConfig { mode, start_timeout: Duration::from_millis(300), ..ServerConfig::new("unused") }
}

/// The error of a start; a `Server` has no `Debug`.
async fn start_error(config: ServerConfig) -> SinkError {
    match Server::start(config).await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

async fn kill(process: u32) {
    assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
}

fn runs(process: u32) -> bool {
    // A zombie has ended; only its parent has not asked yet.
    let status = std::fs::read_to_string(format!("/proc/{process}/stat"));
    status.is_ok_and(|status| !status.contains(") Z "))
}

#[test]
fn data_and_password_outlive_a_restart_and_nobody_else_gets_in() {
    run(async {
        let data = folder("restart");
        let server = Server::start(config(&data)).await.unwrap();
        assert_eq!(server.mode(), "embedded");
        let url = server.clickhouse().url().to_owned();
        assert!(matches!(&*server.state().borrow(), ServerState::Ready { url: at, .. } if *at == url));

        let private = data.join("clickhouse");
        assert_eq!(mode(&private), 0o700);
        for file in ["password", "users.xml", "config.xml"] {
            assert_eq!(mode(&private.join(file)), 0o600, "{file}");
        }
        let password = std::fs::read_to_string(private.join("password")).unwrap();
        assert_eq!(password.len(), 64);

        server.clickhouse().execute("CREATE DATABASE d ENGINE = Atomic").await.unwrap();
        server.clickhouse().execute("CREATE TABLE d.t (n UInt64) ENGINE = MergeTree ORDER BY n").await.unwrap();
        server.clickhouse().execute("INSERT INTO d.t SELECT number FROM numbers(1000)").await.unwrap();

        let error = start_error(url_config(&url, USER, "wrong")).await;
        assert!(matches!(error, SinkError::Access { .. }), "{error}");
        assert!(!error.is_retryable() && error.kind() == ErrorKind::Caller);
        let default = ClickHouse::new(&url, "default", "", "d").unwrap();
        for sql in
            ["SELECT * FROM d.t", "INSERT INTO d.t VALUES (1)", "DROP TABLE d.t", "SELECT * FROM url('http://x')"]
        {
            let error = default.execute(sql).await.unwrap_err();
            assert!(matches!(error, SinkError::Statement { code: 497, .. }), "{sql}: {error}");
            assert_eq!(error.kind(), ErrorKind::Caller);
        }

        let external = Server::start(url_config(&url, USER, &password)).await.unwrap();
        assert_eq!(external.mode(), "server");
        assert_eq!(ask(external.clickhouse(), "SELECT count() FROM d.t").await, "1000");
        external.stop().await;

        let process = server.process().unwrap();
        let state = server.state();
        server.stop().await;
        assert!(!runs(process));
        assert!(matches!(&*state.borrow(), ServerState::Down { .. }));
        assert!(matches!(start_error(url_config(&url, USER, &password)).await, SinkError::Away { .. }));

        let server = Server::start(config(&data)).await.unwrap();
        assert_eq!(std::fs::read_to_string(private.join("password")).unwrap(), password);
        assert_eq!(ask(server.clickhouse(), "SELECT count(), sum(n) FROM d.t").await, "1000 499500");
        server.stop().await;
    });
}

#[test]
fn a_killed_child_is_started_again_with_its_data() {
    run(async {
        let server = Server::start(config(&folder("killed"))).await.unwrap();
        let clickhouse = server.clickhouse();
        clickhouse.execute("CREATE DATABASE d ENGINE = Atomic").await.unwrap();
        clickhouse.execute("CREATE TABLE d.t (n UInt64) ENGINE = MergeTree ORDER BY n").await.unwrap();
        clickhouse.execute("INSERT INTO d.t SELECT number FROM numbers(1000)").await.unwrap();
        let mut state = server.state();
        state.borrow_and_update();
        for _ in 0..2 {
            let process = server.process().unwrap();
            kill(process).await;
            state.wait_for(|state| matches!(state, ServerState::Down { .. })).await.unwrap();
            let wait = state.wait_for(|state| matches!(state, ServerState::Ready { .. }));
            tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap().unwrap();
            assert_ne!(server.process().unwrap(), process);
            assert_eq!(ask(clickhouse, "SELECT count() FROM d.t").await, "1000"); // the same handle, port and password
        }
        server.stop().await;
    });
}

#[test]
fn a_child_ends_when_whoever_holds_its_pipe_is_killed() {
    run(async {
        let data = folder("orphan");
        let server = Server::start(config(&data)).await.unwrap(); // for the configuration files
        let root = data.join("clickhouse");
        let port = server.clickhouse().url().rsplit_once(':').unwrap().1.parse().unwrap();
        server.stop().await;
        let args = ChildArgs {
            engine: ChildEngine::Library(library()),
            config: root.join("config.xml"),
            path: root.join("data"),
            port,
        };
        let mut holder = Command::new("sleep").arg("600").stdout(Stdio::piped()).spawn().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_streamgauge-clickhouse-child"))
            .args(args.to_command_line())
            .stdin(holder.stdout.take().unwrap()) // the holder has the only other end
            .spawn()
            .unwrap();
        let password = std::fs::read_to_string(root.join("password")).unwrap();
        let clickhouse = ClickHouse::new(&format!("http://127.0.0.1:{port}"), USER, &password, "d").unwrap();
        let answers = || async { clickhouse.ping(Duration::from_secs(1)).await.is_ok() };
        until("the child answers", Duration::from_secs(30), answers).await;
        holder.kill().unwrap();
        holder.wait().unwrap();
        until("the child ends", Duration::from_secs(15), || {
            let ended = child.try_wait().unwrap().is_some();
            async move { ended }
        })
        .await;
    });
}

#[test]
fn a_data_folder_has_one_child_at_a_time() {
    run(async {
        let data = folder("twice");
        let first = Server::start(config(&data)).await.unwrap();
        let second = ServerConfig { start_timeout: Duration::from_millis(300), ..config(&data) };
        let error = start_error(second).await;
        let SinkError::DataInUse { holder, .. } = &error else { panic!("{error}") };
        assert_eq!(*holder, format!("process {}", first.process().unwrap()));
        let waiting = tokio::spawn(Server::start(config(&data))); // an earlier child that ends is waited for
        tokio::time::sleep(Duration::from_millis(100)).await;
        first.stop().await;
        waiting.await.unwrap().unwrap().stop().await;
    });
}

#[test]
fn what_cannot_start_says_why() {
    run(async {
        let data = folder("messages");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = start_error(ServerConfig { port: Some(port), ..config(&data) }).await;
        assert!(matches!(error, SinkError::PortTaken { port: p } if p == port), "{error}");

        let missing = |mode| ServerConfig { mode, ..config(&data) };
        let error = start_error(missing(ServerMode::Embedded { library: "/nowhere/libchdb.so".into() })).await;
        assert!(matches!(error, SinkError::LibraryMissing { .. }), "{error}");
        assert!(error.to_string().contains("scripts/fetch-clickhouse"));
        let error = start_error(missing(ServerMode::Binary { path: "/nowhere/clickhouse".into() })).await;
        assert!(matches!(error, SinkError::BinaryMissing { .. }), "{error}");

        let broken = data.join("broken.so");
        std::fs::write(&broken, "not a library").unwrap();
        let error = start_error(missing(ServerMode::Embedded { library: broken })).await;
        assert!(matches!(&error, SinkError::Start { reason, .. } if reason.contains("broken.so")), "{error}");
        assert!(!error.is_retryable(), "{error}");
        let error = start_error(ServerConfig { start_timeout: Duration::from_millis(1), ..config(&data) }).await;
        assert!(matches!(&error, SinkError::Start { .. }) && error.is_retryable(), "{error}"); // it only took too long

        let error = start_error(url_config("https://127.0.0.1:1", "u", "p")).await;
        assert!(matches!(error, SinkError::Url { .. }), "{error}");
        let error = start_error(url_config("http://127.0.0.1:1", "u", "p")).await;
        assert!(matches!(error, SinkError::Away { .. }) && error.is_retryable(), "{error}");
        let error = start_error(url_config(&answering("23.3.1.2823"), "u", "p")).await;
        assert!(matches!(&error, SinkError::TooOld { found, .. } if found == "23.3.1.2823"), "{error}");
        assert!(!error.is_retryable());
    });
}

/// A server that says it is of that version, once; returns its URL.
fn answering(version: &str) -> String {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let body = [vec![1], text("version()"), text("String"), text(version)].concat(); // RowBinaryWithNamesAndTypes
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4_096];
        let _ = stream.read(&mut request).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    });
    url
}

#[test]
fn the_binary_is_run_below_a_child_and_ends_with_it() {
    run(async {
        let data = folder("binary");
        // Stands for the official binary: takes `server --config-file C -- --path P --http_port N`. It holds both ends
        // of its pipe itself, so it ends by the signal alone.
        let tools = folder("binary-tools");
        let script = tools.join("clickhouse");
        let child = env!("CARGO_BIN_EXE_streamgauge-clickhouse-child");
        let text = format!(
            "#!/bin/sh\nmkfifo {0}/pipe\nexec 3<>{0}/pipe\nexec {child} clickhouse-embedded --library {1} --config \"$3\" \
             --path \"$6\" --port \"$8\" <{0}/pipe\n",
            tools.display(),
            library().display()
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        let server =
            Server::start(ServerConfig { mode: ServerMode::Binary { path: script }, ..config(&data) }).await.unwrap();
        assert_eq!(server.mode(), "binary");
        let status = std::fs::read_to_string(data.join("clickhouse/data/status")).unwrap();
        let below: u32 = status.lines().find_map(|line| line.strip_prefix("PID: ")).unwrap().parse().unwrap();
        assert_ne!(server.process(), Some(below));
        server.stop().await;
        until("ClickHouse ends", Duration::from_secs(15), || async { !runs(below) }).await;
    });
}
