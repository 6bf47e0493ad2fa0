//! The ClickHouse that runs.
//!
//! Three ways, one interface: a server the user runs ([`ServerMode::Url`]), the engine as a library in a child process
//! of our own ([`ServerMode::Embedded`]), or the official binary as such a child ([`ServerMode::Binary`]).
//!
//! ```text
//!  Server ── watch: Starting / Ready / Down
//!    │
//!    ├─ Url:               probe every few seconds ───────────────────▶ the user's ClickHouse
//!    └─ Embedded, Binary:  supervisor ──spawn, pipe──▶ child process ─▶ HTTP on 127.0.0.1, log, data folder
//! ```
//!
//! # Layout
//!
//! - [`access`]: the password and the configuration files of a child.
//! - [`child`]: what the child process does; the only place with `unsafe`.
//! - `supervisor`: starts the child, watches it, starts it again, ends it.
//! - `probe`: watches a server that is not ours.
//!
//! # Failure
//!
//! A first start that fails is an error of [`Server::start`]; [`SinkError::is_retryable`] says whether to start again or
//! to leave it to whoever runs the program. After that nothing here gives up: a child that ends is started again with
//! back-off, a server that is away is asked again, and the state says so meanwhile.

pub mod access;
pub mod child;
mod probe;
mod supervisor;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use child::{ChildArgs, ChildEngine, SUBCOMMAND, run_embedded_child};

use crate::{ClickHouse, SinkError};

/// Which ClickHouse to use.
#[derive(Clone)]
pub enum ServerMode {
    /// The library if it is in the cache, else the official binary if it is on the `PATH`.
    ///
    /// The library first: its version is pinned, so a data folder never meets an older ClickHouse by accident.
    Auto,
    /// A server that the user runs.
    Url {
        /// `http://host:port`.
        url: String,
        /// The user to work as.
        user: String,
        /// The user's password.
        password: String,
    },
    /// The library, in a child process.
    Embedded {
        /// The path of `libchdb.so`.
        library: PathBuf,
    },
    /// The official binary, in a child process.
    Binary {
        /// The path of `clickhouse`.
        path: PathBuf,
    },
}

/// How to run or reach ClickHouse.
#[derive(Clone)]
pub struct ServerConfig {
    /// Which ClickHouse.
    pub mode: ServerMode,
    /// The program's data folder; a child keeps everything under `clickhouse/` in it.
    pub data_dir: PathBuf,
    /// The database to use.
    pub database: String,
    /// The port of a child on 127.0.0.1; any free one by default.
    pub port: Option<u16>,
    /// The memory that a child may use.
    pub memory_bytes_max: u64,
    /// The program that runs as the child; this very program by default.
    pub child_program: Option<PathBuf>,
    /// How long ClickHouse may take until it answers.
    pub start_timeout: Duration,
}

impl ServerConfig {
    /// The defaults for a data folder: [`ServerMode::Auto`], 4 GiB, a minute to start.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        ServerConfig {
            mode: ServerMode::Auto,
            data_dir: data_dir.into(),
            database: crate::DEFAULT_DATABASE.to_owned(),
            port: None,
            memory_bytes_max: 4 << 30,
            child_program: None,
            start_timeout: Duration::from_secs(60),
        }
    }
}

/// What is known of ClickHouse right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It was started and does not answer yet.
    Starting,
    /// It answers.
    Ready {
        /// Its version.
        version: String,
        /// Where it answers.
        url: String,
    },
    /// It does not answer; it is being started or asked again.
    Down {
        /// Why, as far as is known.
        reason: String,
    },
}

/// A ClickHouse that runs, or is kept running.
pub struct Server {
    clickhouse: ClickHouse,
    mode: &'static str,
    state: watch::Receiver<ServerState>,
    process: watch::Receiver<Option<u32>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts or reaches ClickHouse and waits until it answers the user with the password, with a version new enough.
    ///
    /// # Errors
    /// [`SinkError::LibraryMissing`], [`SinkError::BinaryMissing`], [`SinkError::PortTaken`], [`SinkError::DataInUse`],
    /// [`SinkError::Start`], [`SinkError::Url`], [`SinkError::Away`], [`SinkError::Access`], [`SinkError::TooOld`].
    pub async fn start(config: ServerConfig) -> Result<Self, SinkError> {
        match &config.mode {
            ServerMode::Url { url, user, password } => probe::start(&config, url, user, password).await,
            ServerMode::Embedded { library } => {
                let engine = ChildEngine::Library(library.clone());
                supervisor::start(&config, engine, "embedded").await
            }
            ServerMode::Binary { path } => {
                supervisor::start(&config, ChildEngine::Binary(path.clone()), "binary").await
            }
            ServerMode::Auto => {
                let library = cached_library().unwrap_or_else(|| "libchdb.so".into());
                match binary_on_path() {
                    Some(binary) if !library.exists() => {
                        supervisor::start(&config, ChildEngine::Binary(binary), "binary").await
                    }
                    _ => supervisor::start(&config, ChildEngine::Library(library), "embedded").await,
                }
            }
        }
    }

    /// A handle to the configured database.
    #[must_use]
    pub fn clickhouse(&self) -> &ClickHouse {
        &self.clickhouse
    }

    /// `embedded`, `binary` or `server`.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        self.mode
    }

    /// The state, now and as it changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ServerState> {
        self.state.clone()
    }

    /// The child's process id, while there is one.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        *self.process.borrow()
    }

    /// Ends a child: asks it, waits, then kills it. A server of the user's is left alone.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(()); // the task may have ended already
        }
        let _ = (&mut self.task).await;
    }
}

/// Where `scripts/fetch-clickhouse` puts the library, whether it is there or not.
#[must_use]
pub fn cached_library() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("STREAMGAUGE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("streamgauge")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/streamgauge")))?;
    Some(cache.join("libchdb").join(LIBRARY_VERSION).join("libchdb.so"))
}

/// The version of the library that `scripts/fetch-clickhouse` pins.
pub const LIBRARY_VERSION: &str = "26.7.3-stable.1";

fn binary_on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("clickhouse")).find(|binary| binary.is_file())
}
