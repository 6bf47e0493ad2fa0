//! The program under test: started on a data folder and a free port, ended with its owner.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Client, PATIENCE};

/// The program that cargo built for these tests.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_streamgauge");

/// Where programs listen that run at the same time.
pub(crate) const FREE_PORT: &str = "127.0.0.1:0";

/// A data folder that outlives the programs that are started on it.
pub(crate) struct DataDir(TempDir);

impl DataDir {
    /// An empty one.
    pub(crate) fn new() -> Self {
        DataDir(tempfile::Builder::new().prefix("streamgauge-test-").tempdir().unwrap())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A running program; dropping it kills it, and its ClickHouse ends with it.
pub(crate) struct Program {
    child: Option<Child>,
    data_dir: PathBuf,
    client: Client,
    log: String,
}

/// How a program is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Where it listens.
    pub(crate) address: String,
    /// More arguments.
    pub(crate) arguments: Vec<String>,
    /// More of the environment.
    pub(crate) environment: Vec<(String, String)>,
    /// The file in the data folder that gets what it prints.
    pub(crate) log: String,
}

impl Launch {
    /// With the default settings, at an address.
    pub(crate) fn at(address: &str) -> Self {
        let (arguments, environment) = (Vec::new(), Vec::new());
        Launch { address: address.to_owned(), arguments, environment, log: "program.log".to_owned() }
    }

    /// With more arguments.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    fn spawn(&self, data_dir: &Path) -> Child {
        let log = File::options().create(true).append(true).open(data_dir.join(&self.log)).unwrap();
        Command::new(PROGRAM)
            .args(["serve", "--http", &self.address, "--data-dir"])
            .arg(data_dir)
            .args(&self.arguments)
            .env("STREAMGAUGE_PG", FREE_PORT)
            .env("STREAMGAUGE_FLIGHT", FREE_PORT)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{PROGRAM} does not start: {error}"))
    }
}

impl Program {
    /// Starts it with the default settings and waits until it is ready.
    pub(crate) async fn start(data: &DataDir) -> Self {
        Self::start_at(data, "127.0.0.1:0", &[]).await
    }

    /// Starts it with more arguments.
    pub(crate) async fn start_with(data: &DataDir, arguments: &[&str]) -> Self {
        Self::start_at(data, "127.0.0.1:0", arguments).await
    }

    /// Starts it at an address.
    pub(crate) async fn start_at(data: &DataDir, address: &str, arguments: &[&str]) -> Self {
        let mut program = Self::launch(data.path(), &Launch::at(address).with(arguments));
        program.until_ready(PATIENCE).await.unwrap_or_else(|reason| panic!("{reason}:\n{}", program.output()));
        program
    }

    /// Starts it with faults at some of its fault points, as `streamgauge_schemas::fault` has them.
    pub(crate) async fn start_with_faults(data: &DataDir, faults: &str) -> Self {
        let mut launch = Launch::at("127.0.0.1:0");
        launch.environment.push(("STREAMGAUGE_FAULTS".to_owned(), faults.to_owned()));
        let mut program = Self::launch(data.path(), &launch);
        program.until_ready(PATIENCE).await.unwrap_or_else(|reason| panic!("{reason}:\n{}", program.output()));
        program
    }

    /// Starts it without waiting for anything.
    pub(crate) fn launch(data_dir: &Path, launch: &Launch) -> Self {
        fetch_clickhouse();
        let _ = fs::remove_file(data_dir.join("http.address")); // of an earlier program that was killed
        let child = Some(launch.spawn(data_dir));
        Program { child, client: Client::new("", data_dir), data_dir: data_dir.to_owned(), log: launch.log.clone() }
    }

    /// Waits until it takes requests; or says that it ended, or that it takes too long.
    pub(crate) async fn until_ready(&mut self, patience: Duration) -> Result<(), String> {
        let began = Instant::now();
        while !self.is_ready().await {
            if let Some(status) = self.ended() {
                return Err(format!("the program ended with {status} before it was ready"));
            }
            if began.elapsed() > patience {
                return Err(format!("the program was not ready after {patience:?}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child().try_wait().unwrap()
    }

    /// Waits until it has ended by itself; `None` when it did not in that time.
    pub(crate) async fn until_ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        loop {
            match self.ended() {
                None if began.elapsed() < patience => tokio::time::sleep(Duration::from_millis(10)).await,
                ended => return ended,
            }
        }
    }

    async fn is_ready(&mut self) -> bool {
        let Ok(address) = fs::read_to_string(self.data_dir.join("http.address")) else { return false };
        if self.client.address() != address.trim() {
            self.client = Client::new(address.trim(), &self.data_dir);
        }
        !address.trim().is_empty() && self.client.is_ready().await
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("the program has been ended already")
    }

    /// How to talk to it.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Where it listens for clients of PostgreSQL.
    pub(crate) fn pg_address(&self) -> std::net::SocketAddr {
        fs::read_to_string(self.data_dir.join("pg.address")).unwrap().trim().parse().unwrap()
    }

    /// Where it listens for clients of Flight SQL.
    pub(crate) fn flight_address(&self) -> std::net::SocketAddr {
        fs::read_to_string(self.data_dir.join("flight.address")).unwrap().trim().parse().unwrap()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("the program has been ended already").id()
    }

    /// The process ids of its children: its ClickHouse.
    pub(crate) fn children(&self) -> Vec<u32> {
        children(self.id())
    }

    /// What it has printed.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.data_dir.join(&self.log)).unwrap_or_default()
    }

    /// Asks it to end, and waits; answers how, and how long it took.
    pub(crate) async fn terminate(mut self) -> (ExitStatus, Duration) {
        signal("TERM", self.id());
        let began = Instant::now();
        let ended = self.until_ended(PATIENCE).await;
        let status =
            ended.unwrap_or_else(|| panic!("it did not end within {PATIENCE:?} of SIGTERM:\n{}", self.output()));
        self.child = None;
        (status, began.elapsed())
    }

    /// Kills it as a failing machine would. Its ClickHouse ends a moment later, by itself.
    pub(crate) fn kill(mut self) {
        self.child().kill().unwrap();
        self.child().wait().unwrap();
        self.child = None;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let clickhouse = children(child.id());
        let _ = child.kill(); // it may have ended already
        let _ = child.wait();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) && clickhouse.iter().any(|id| is_running(*id)) {
            std::thread::sleep(Duration::from_millis(10)); // so that the data folder can be removed
        }
        if std::thread::panicking() {
            eprintln!("the program's output:\n{}", self.output());
        }
    }
}

/// Runs the program until it ends, as for a start that must fail; answers how, and what it printed.
pub(crate) async fn run_to_end(data: &DataDir, arguments: &[&str]) -> (ExitStatus, String) {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(["serve", "--http", "127.0.0.1:0", "--data-dir"]).arg(data.path()).args(arguments);
    command.env("STREAMGAUGE_PG", FREE_PORT).env("STREAMGAUGE_FLIGHT", FREE_PORT);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends by itself").unwrap();
    (output.status, String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Sends a signal, by its name without `SIG`.
pub(crate) fn signal(name: &str, process: u32) {
    assert!(try_signal(name, process), "process {process} runs no more");
}

/// Sends a signal to a process that may have ended; answers whether it was there.
pub(crate) fn try_signal(name: &str, process: u32) -> bool {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).stderr(Stdio::null()).status();
    sent.unwrap().success()
}

/// Whether a process runs; one that has ended and waits for its parent does not.
pub(crate) fn is_running(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn children(parent: u32) -> Vec<u32> {
    let of_parent = |id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let parent_of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parent_of == Some(parent)
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(of_parent).collect()
}

/// Fetches the ClickHouse library unless it is there.
fn fetch_clickhouse() {
    static FETCHED: std::sync::Once = std::sync::Once::new();
    FETCHED.call_once(|| {
        let script = PathBuf::from("../scripts/fetch-clickhouse");
        let output = Command::new(&script).output().unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
}
