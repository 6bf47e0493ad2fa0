//! The parent's side of a child: starts it, watches it, starts it again, ends it.
//!
//! ```text
//!   Starting ──answers──▶ Ready ──silent──▶ Down ──answers──▶ Ready
//!      ▲                    │                 │
//!      └──── back-off ◀─ Down ◀──── ended, or killed after a minute of silence
//! ```
//!
//! # Invariants
//!
//! 1. At most one child holds the data folder: before a start, its lock is waited for.
//! 2. A child never outlives this process: it reads a pipe whose other end is here.
//! 3. The port and the password stay the same for the life of this process, so handles stay good.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{oneshot, watch};

use super::access::{Folder, USER};
use super::child::{ChildArgs, ChildEngine};
use super::{Server, ServerConfig, ServerState};
use crate::backoff::Backoff;
use crate::{ClickHouse, SinkError};

/// How long an earlier child may take to let go of the data folder.
const LOCK_WAIT: Duration = Duration::from_secs(20);
/// How often a child is asked whether it answers.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// After so many unanswered questions the state is `Down`, and after the second number the child is killed.
const SILENT_DOWN: u32 = 3;
const SILENT_KILL: u32 = 12;
/// How long a child that was asked to end may take.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Starts a child and waits until it answers; it is kept running until the server is stopped.
pub(super) async fn start(config: &ServerConfig, engine: ChildEngine, mode: &'static str) -> Result<Server, SinkError> {
    check_engine(&engine)?;
    let folder = Folder::open(&config.data_dir)?;
    wait_for_lock(&folder, config.start_timeout).await?; // an earlier child that still ends may hold the port too
    let port = match config.port {
        Some(port) => is_free(port).then_some(port).ok_or(SinkError::PortTaken { port })?,
        None => free_port()?,
    };
    let url = format!("http://127.0.0.1:{port}");
    let clickhouse = ClickHouse::new(&url, USER, &folder.password, &config.database)?;
    let program = match &config.child_program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(SinkError::io("find this program"))?,
    };
    let (state, state_receiver) = watch::channel(ServerState::Starting);
    let (process, process_receiver) = watch::channel(None);
    let (stop, stop_receiver) = oneshot::channel();
    let supervisor = Supervisor {
        args: ChildArgs { engine, config: folder.config.clone(), path: folder.data.clone(), port },
        config: config.clone(),
        clickhouse: clickhouse.clone(),
        folder,
        program,
        state,
        process,
    };
    let child = supervisor.start_child().await?;
    let task = tokio::spawn(supervisor.run(child, stop_receiver));
    Ok(Server { clickhouse, mode, state: state_receiver, process: process_receiver, stop: Some(stop), task })
}

fn check_engine(engine: &ChildEngine) -> Result<(), SinkError> {
    match engine {
        ChildEngine::Library(path) if !path.is_file() => Err(SinkError::LibraryMissing { path: path.clone() }),
        ChildEngine::Binary(path) if !path.is_file() => Err(SinkError::BinaryMissing { path: path.clone() }),
        _ => Ok(()),
    }
}

fn is_free(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// A free port below those that the system gives to outgoing connections, so that it stays ours over a restart.
fn free_port() -> Result<u16, SinkError> {
    let candidates = std::iter::repeat_with(|| rand::random_range(20_000..32_000)).take(200);
    let none = || std::io::Error::other("200 ports between 20000 and 32000 were tried, and all are taken");
    candidates.into_iter().find(|port| is_free(*port)).ok_or_else(none).map_err(SinkError::io("find a free port"))
}

/// Waits until nothing holds the data folder (invariant 1): ClickHouse locks its file `status` while it runs.
async fn wait_for_lock(folder: &Folder, bound: Duration) -> Result<(), SinkError> {
    let path = folder.data.join("status");
    let deadline = Instant::now() + LOCK_WAIT.min(bound);
    loop {
        let Ok(file) = File::open(&path) else { return Ok(()) };
        if file.try_lock().is_ok() {
            return Ok(()); // closing the file lets go of it
        }
        if Instant::now() > deadline {
            let status = std::fs::read_to_string(&path).unwrap_or_default();
            let process = status.lines().find_map(|line| line.strip_prefix("PID: "));
            let holder = process.map_or("another program".to_owned(), |id| format!("process {id}"));
            return Err(SinkError::DataInUse { path: folder.data.clone(), holder });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether a child was ended from outside, by a person or for want of memory; a child of a child says so by its code.
fn was_killed(status: ExitStatus) -> bool {
    let killed = [libc::SIGKILL, libc::SIGTERM];
    status.signal().or_else(|| status.code().map(|code| code - 128)).is_some_and(|signal| killed.contains(&signal))
}

struct Supervisor {
    args: ChildArgs,
    config: ServerConfig,
    clickhouse: ClickHouse,
    folder: Folder,
    program: PathBuf,
    state: watch::Sender<ServerState>,
    process: watch::Sender<Option<u32>>,
}

/// A child with the pipe that it lives by (invariant 2), kept apart since waiting for a child closes its own.
struct Running {
    child: Child,
    pipe: Option<ChildStdin>,
}

/// Why watching a child came to an end.
enum Outcome {
    Ended(String),
    Stopped,
}

impl Supervisor {
    async fn run(self, first: Running, mut stop: oneshot::Receiver<()>) {
        let mut child = Some(first);
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        loop {
            if let Some(running) = &mut child {
                let since = Instant::now();
                match self.watch(running, &mut stop).await {
                    Outcome::Stopped => return self.end(running).await,
                    Outcome::Ended(reason) => self.went_down(reason),
                }
                if since.elapsed() > Duration::from_secs(60) {
                    backoff.reset();
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                _ = &mut stop => return self.went_down("stopped".into()),
            }
            self.state.send_replace(ServerState::Starting);
            child = tokio::select! {
                started = self.start_child() => started.map_err(|error| self.went_down(error.to_string())).ok(),
                _ = &mut stop => return self.went_down("stopped".into()),
            };
        }
    }

    fn went_down(&self, reason: String) {
        tracing::warn!(reason, log = %self.folder.log.display(), "ClickHouse is down");
        self.process.send_replace(None);
        self.state.send_replace(ServerState::Down { reason });
    }

    /// Starts a child and waits until it answers the service user.
    async fn start_child(&self) -> Result<Running, SinkError> {
        wait_for_lock(&self.folder, self.config.start_timeout).await?;
        self.folder.configure(&self.config, self.args.port)?;
        let opened = File::create(&self.folder.errors).and_then(|file| Ok((file.try_clone()?, file)));
        let (errors, output) = opened.map_err(SinkError::io(format!("open {}", self.folder.errors.display())))?;
        let mut child = Command::new(&self.program)
            .args(self.args.to_command_line())
            .stdin(Stdio::piped()) // invariant 2
            .stdout(output)
            .stderr(errors)
            .process_group(0) // Ctrl-C in a terminal is for the parent, which still has to flush
            .kill_on_drop(true)
            .spawn()
            .map_err(SinkError::io(format!("start {}", self.program.display())))?;
        let pipe = child.stdin.take();
        self.process.send_replace(child.id());
        let deadline = Instant::now() + self.config.start_timeout;
        loop {
            if let Some(status) = child.try_wait().map_err(SinkError::io("ask after ClickHouse"))? {
                return Err(self.start_error(format!("it ended with {status}"), was_killed(status)));
            }
            match self.clickhouse.ping(Duration::from_secs(2)).await {
                Ok(version) => {
                    let version = self.clickhouse.version().await.map(|_| version)?;
                    tracing::info!(version, url = self.clickhouse.url(), "ClickHouse is ready");
                    self.state.send_replace(ServerState::Ready { version, url: self.clickhouse.url().to_owned() });
                    return Ok(Running { child, pipe });
                }
                Err(error) if Instant::now() > deadline => return Err(self.start_error(error.to_string(), true)),
                Err(_) => tokio::time::sleep(Duration::from_millis(30)).await,
            }
        }
    }

    /// The port may have been taken between looking and starting; otherwise the child's last words are the reason.
    ///
    /// `passing`: it did not end by itself, so the next start may do better.
    fn start_error(&self, otherwise: String, passing: bool) -> SinkError {
        let words = self.last_words();
        let taken = words.as_deref().is_some_and(|words| words.contains("Address already in use"));
        if taken && self.config.port.is_some() {
            return SinkError::PortTaken { port: self.args.port };
        }
        let passing = passing || taken || words.as_deref().is_some_and(SinkError::is_passing_text);
        SinkError::Start { reason: words.unwrap_or(otherwise), log: self.folder.log.clone(), passing }
    }

    fn last_words(&self) -> Option<String> {
        let text = std::fs::read(&self.folder.errors).ok()?;
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(4_096)..]).into_owned();
        let line = tail.lines().rev().find(|line| !line.trim().is_empty() && !line.starts_with("Logging "))?;
        Some(line.trim().to_owned())
    }

    /// Watches a child until it ends, is killed for its silence, or is to be stopped.
    async fn watch(&self, running: &mut Running, stop: &mut oneshot::Receiver<()>) -> Outcome {
        let mut silent = 0;
        loop {
            tokio::select! {
                status = running.child.wait() => {
                    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    let words = self.last_words().map(|words| format!(": {words}")).unwrap_or_default();
                    return Outcome::Ended(format!("the process ended with {status}{words}"));
                }
                _ = &mut *stop => return Outcome::Stopped,
                () = tokio::time::sleep(PROBE_INTERVAL) => {}
            }
            match self.clickhouse.ping(PROBE_INTERVAL).await {
                Ok(version) => {
                    silent = 0;
                    let ready = ServerState::Ready { version, url: self.clickhouse.url().to_owned() };
                    self.state.send_if_modified(|state| std::mem::replace(state, ready.clone()) != ready);
                }
                Err(error) => {
                    silent += 1;
                    if silent == SILENT_DOWN {
                        self.state.send_replace(ServerState::Down { reason: error.to_string() });
                    }
                    if silent >= SILENT_KILL {
                        let _ = running.child.kill().await; // it may have ended meanwhile
                        return Outcome::Ended(format!("it did not answer for a minute and was killed: {error}"));
                    }
                }
            }
        }
    }

    /// Asks the child to end by closing its pipe, waits, and kills it if it must.
    async fn end(&self, running: &mut Running) {
        drop(running.pipe.take());
        if tokio::time::timeout(STOP_WAIT, running.child.wait()).await.is_err() {
            tracing::warn!("ClickHouse did not end in time and is killed");
            let _ = running.child.kill().await; // it may have ended meanwhile
        }
        self.process.send_replace(None);
        self.state.send_replace(ServerState::Down { reason: "stopped".into() });
    }
}
