//! The program under test: started on a data folder and a free port, ended with its owner.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Client, PATIENCE};

/// The program that cargo built for these tests.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_streamgauge");

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
        fetch_clickhouse();
        let data_dir = data.path().to_owned();
        let _ = fs::remove_file(data_dir.join("http.address")); // of an earlier program that was killed
        let (child, client) = (Some(spawn(&data_dir, address, arguments)), Client::new("", &data_dir));
        let mut program = Program { child, client, data_dir };
        let began = Instant::now();
        while !program.is_ready().await {
            if let Some(status) = program.child().try_wait().unwrap() {
                panic!("the program ended with {status} before it was ready:\n{}", program.output());
            }
            assert!(began.elapsed() < PATIENCE, "not ready after {PATIENCE:?}:\n{}", program.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        program
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
        fs::read_to_string(self.data_dir.join("program.log")).unwrap_or_default()
    }

    /// Asks it to end, and waits; answers how, and how long it took.
    pub(crate) async fn terminate(mut self) -> (ExitStatus, Duration) {
        signal("TERM", self.id());
        let began = Instant::now();
        loop {
            if let Some(status) = self.child().try_wait().unwrap() {
                self.child = None;
                return (status, began.elapsed());
            }
            assert!(began.elapsed() < PATIENCE, "it did not end within {PATIENCE:?} of SIGTERM:\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
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
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends by itself").unwrap();
    (output.status, String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Sends a signal, by its name without `SIG`.
pub(crate) fn signal(name: &str, process: u32) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status().unwrap();
    assert!(sent.success(), "process {process} runs no more");
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

fn spawn(data_dir: &Path, address: &str, arguments: &[&str]) -> Child {
    let log = File::options().create(true).append(true).open(data_dir.join("program.log")).unwrap();
    Command::new(PROGRAM)
        .args(["serve", "--http", address, "--data-dir"])
        .arg(data_dir)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{PROGRAM} does not start: {error}"))
}

/// Fetches the ClickHouse library unless it is there.
fn fetch_clickhouse() {
    static FETCHED: std::sync::Once = std::sync::Once::new();
    FETCHED.call_once(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/fetch-clickhouse");
        let output = Command::new(&script).output().unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
}
