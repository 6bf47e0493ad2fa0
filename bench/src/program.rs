//! The program under measurement: started on an empty data folder and a free port, and ended with its owner.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tempfile::TempDir;

use crate::client::Client;
use crate::process::{self, CpuTime, Memory};

/// How long the program may take to become ready, and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// How to start the program.
pub(crate) struct Launch {
    program: PathBuf,
    data_root: PathBuf,
    serve: Vec<String>,
}

impl Launch {
    /// Takes the program beside this one when none is named.
    ///
    /// # Errors
    /// When there is no such program.
    pub(crate) fn new(program: Option<PathBuf>, data_root: Option<PathBuf>, serve: Vec<String>) -> Result<Self> {
        let beside = || anyhow::Ok(std::env::current_exe()?.with_file_name("streamgauge"));
        let program = program.map_or_else(beside, Ok)?;
        if !program.is_file() {
            bail!("there is no program {}; build it first, or name it with --program", program.display());
        }
        Ok(Launch { program, data_root: data_root.unwrap_or_else(std::env::temp_dir), serve })
    }
}

/// A running program and its ClickHouse.
pub(crate) struct Program {
    child: Child,
    clickhouse: u32,
    client: Client,
    /// Until the program is killed and its folder handed on.
    data: Option<TempDir>,
}

/// Processor time of everything that takes part.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Cpu {
    /// The program.
    pub(crate) program: CpuTime,
    /// ClickHouse.
    pub(crate) clickhouse: CpuTime,
    /// This client, which is not part of what is measured.
    pub(crate) client: CpuTime,
}

impl Cpu {
    /// What was used since `earlier`.
    pub(crate) fn since(&self, earlier: &Cpu) -> Cpu {
        Cpu {
            program: self.program.since(&earlier.program),
            clickhouse: self.clickhouse.since(&earlier.clickhouse),
            client: self.client.since(&earlier.client),
        }
    }

    /// The program and ClickHouse together, in seconds.
    pub(crate) fn measured_s(&self) -> f64 {
        self.program.plus(&self.clickhouse).total_s()
    }
}

/// Memory of the program and of ClickHouse.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Memories {
    /// The program.
    pub(crate) program: Memory,
    /// ClickHouse.
    pub(crate) clickhouse: Memory,
}

impl Program {
    /// Starts the program and waits until it is ready.
    ///
    /// # Errors
    /// When it ends instead, with its last words.
    pub(crate) async fn start(launch: &Launch) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("streamgauge-bench-").tempdir_in(&launch.data_root)?;
        Self::start_on(launch, data).await
    }

    /// Starts the program on a data folder.
    ///
    /// # Errors
    /// As [`start`](Program::start).
    pub(crate) async fn start_on(launch: &Launch, data: TempDir) -> Result<Self> {
        let _ = fs::remove_file(data.path().join("http.address")); // of an earlier start
        let log = File::create(data.path().join("program.log"))?;
        let mut child = Command::new(&launch.program)
            .arg("serve")
            .env("STREAMGAUGE_PG", "off")
            .env("STREAMGAUGE_FLIGHT", "off")
            .arg("--data-dir")
            .arg(data.path())
            .args(["--http", "127.0.0.1:0"])
            .args(&launch.serve)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", launch.program.display()))?;
        match Self::await_ready(&mut child, data.path()).await {
            Ok((client, clickhouse)) => Ok(Program { child, clickhouse, client, data: Some(data) }),
            Err(error) => {
                end(&mut child);
                Err(error.context(format!("the program's last words:\n{}", last_words(data.path()))))
            }
        }
    }

    async fn await_ready(child: &mut Child, data: &Path) -> Result<(Client, u32)> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait()? {
                bail!("the program ended with {status} before it was ready");
            }
            if let Ok(address) = fs::read_to_string(data.join("http.address")) {
                let client = Client::new(address.trim(), data)?;
                if client.is_ready().await {
                    let clickhouse = process::children(child.id());
                    let clickhouse = clickhouse.first().context("the program has no child that could be ClickHouse")?;
                    return Ok((client, *clickhouse));
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the program was not ready after {} s", PATIENCE.as_secs())
    }

    /// How to talk to it.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Processor time so far.
    ///
    /// # Errors
    /// When the program or its ClickHouse has ended.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Ok(Cpu {
            program: CpuTime::of(self.child.id()).context("the program has ended")?,
            clickhouse: CpuTime::of(self.clickhouse).context("ClickHouse has ended")?,
            client: CpuTime::of(std::process::id())?,
        })
    }

    /// Memory now and at its peak.
    ///
    /// # Errors
    /// When the program or its ClickHouse has ended.
    pub(crate) fn memory(&self) -> Result<Memories> {
        Ok(Memories {
            program: Memory::of(self.child.id()).context("the program has ended")?,
            clickhouse: Memory::of(self.clickhouse).context("ClickHouse has ended")?,
        })
    }

    /// The end of what the program wrote.
    pub(crate) fn last_words(&self) -> String {
        self.data.as_ref().map_or_else(String::new, |data| last_words(data.path()))
    }

    /// Holds ClickHouse still, so that nothing is flushed.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn hold_clickhouse(&self) -> Result<()> {
        signal("STOP", self.clickhouse)
    }

    /// Kills the program and its ClickHouse, as a failing machine would; hands its data folder on.
    ///
    /// # Errors
    /// When ClickHouse does not end.
    pub(crate) fn kill(mut self) -> Result<TempDir> {
        end(&mut self.child);
        let _ = signal("KILL", self.clickhouse); // it may have ended with the program
        let began = Instant::now();
        while process::is_running(self.clickhouse) && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.data.take().context("the folder was handed on before")
    }

    /// Ends the program as an operator would, and waits for it.
    ///
    /// # Errors
    /// When it does not end in time.
    pub(crate) async fn stop(mut self) -> Result<()> {
        signal("TERM", self.child.id()).with_context(|| format!("the program ended:\n{}", self.last_words()))?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the program did not end within {} s of SIGTERM", PATIENCE.as_secs())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        end(&mut self.child); // ClickHouse ends with the program
    }
}

fn signal(name: &str, process: u32) -> Result<()> {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status()?;
    anyhow::ensure!(sent.success(), "process {process} runs no more");
    Ok(())
}

fn end(child: &mut Child) {
    let _ = child.kill(); // it may have ended already
    let _ = child.wait();
}

fn last_words(data: &Path) -> String {
    let text = fs::read(data.join("program.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
