//! The site: a data folder, and the program that runs on it, one life after the other.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::sync::watch;

use crate::disk::{Disk, Loss};
use crate::support::program::{Launch, signal, try_signal};
use crate::support::{Client, DataDir, PATIENCE, Program};

/// Lines of a log that are shown when something went wrong.
const TAIL_LINES: usize = 60;
/// The length of a segment of the log where nothing else is said: what the program has by default.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 20;
/// The signal by which a process ends itself at a fault point.
const SIGABRT: i32 = 6;

/// A data folder with a program on it.
pub(crate) struct Site {
    program: Option<Program>,
    /// Whether the program that runs was started with a plan of faults.
    planned: bool,
    address: watch::Sender<Client>,
    lives: usize,
    /// A segment of the log is about that long in the lives that begin now.
    pub(crate) segment_bytes: u64,
    /// Tables that refuse rows.
    pub(crate) refusing: BTreeSet<&'static str>,
    data: DataDir,
    /// What the programs asked of the disk; its journal lies outside of the data folder.
    disk: Disk,
    _journal: DataDir,
}

impl Site {
    /// A new folder; nothing runs.
    pub(crate) fn new() -> Self {
        let data = DataDir::new();
        // Nobody listens at port 1, so a request there fails at once.
        let address = watch::Sender::new(Client::new("127.0.0.1:1", data.path()));
        let journal = DataDir::new();
        let disk = Disk::new(journal.path().join("journal"));
        let (segment_bytes, refusing) = (SEGMENT_BYTES, BTreeSet::new());
        Site {
            program: None,
            planned: false,
            address,
            lives: 0,
            segment_bytes,
            refusing,
            data,
            disk,
            _journal: journal,
        }
    }

    /// The client of the program that runs, or ran last.
    pub(crate) fn client(&self) -> &Client {
        self.program.as_ref().expect("a program runs").client()
    }

    /// The client of whichever program runs.
    pub(crate) fn address(&self) -> watch::Receiver<Client> {
        self.address.subscribe()
    }

    /// What the programs asked of the disk.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Lets the power fail after the program has ended; answers what that took.
    pub(crate) fn lose_power(&mut self, loss: Loss, seed: u64) -> anyhow::Result<Vec<String>> {
        ensure!(self.program.is_none(), "the power fails for programs that run, too: a mistake of the harness");
        self.disk.fail(loss, seed)
    }

    /// Reads to the end of the journal; no program may run.
    pub(crate) fn follow_disk(&mut self) -> anyhow::Result<()> {
        self.disk.follow()
    }

    /// Starts the program and waits until it is ready. With a plan it may die before; then nothing runs, and this answers how.
    pub(crate) async fn start(&mut self, plan: Option<&str>) -> anyhow::Result<Option<ExitStatus>> {
        self.lives += 1;
        let segment_bytes = self.segment_bytes.to_string();
        let mut launch = Launch::at("127.0.0.1:0").with(&["--log-segment-bytes-max", &segment_bytes]);
        launch.log = self.output_file();
        let journal = self.disk.journal().display().to_string();
        launch.environment.push(("STREAMGAUGE_FAULTS_JOURNAL".to_owned(), journal));
        launch.environment.extend(plan.map(|plan| ("STREAMGAUGE_FAULTS".to_owned(), plan.to_owned())));
        let mut program = Program::launch(self.data.path(), &launch);
        let ready = program.until_ready(PATIENCE).await;
        let ended = program.ended();
        self.address.send_replace(program.client().clone());
        self.program = Some(program);
        self.planned = plan.is_some();
        match (ready, ended) {
            (_, Some(status)) if plan.is_some() && status.signal() == Some(SIGABRT) => {
                self.program = None;
                Ok(Some(status))
            }
            (ready, _) => ready.map(|()| None).map_err(|reason| anyhow::anyhow!("start {}: {reason}", self.lives)),
        }
    }

    /// Makes sure that a program runs, one without a plan.
    pub(crate) async fn ensure_running(&mut self) -> anyhow::Result<()> {
        if self.program.is_none() {
            self.start(None).await?;
        }
        self.check_alive()
    }

    /// Makes sure that none runs, and ends one gracefully.
    pub(crate) async fn ensure_ended(&mut self) -> anyhow::Result<()> {
        if self.program.is_some() { self.terminate().await } else { Ok(()) }
    }

    /// Fails when the program ended by itself.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.program.as_mut().context("a program should run")?.ended() {
            Some(status) => bail!("the program ended unexpectedly with {status}"),
            None => Ok(()),
        }
    }

    /// Kills the program.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        self.program.take().expect("it runs").kill();
        Ok(())
    }

    /// Ends the program gracefully.
    pub(crate) async fn terminate(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        let mut program = self.program.take().expect("it runs");
        signal("TERM", program.id());
        let ended = program.until_ended(PATIENCE).await;
        let status = ended.with_context(|| format!("it did not end within {PATIENCE:?} of SIGTERM"))?;
        ensure!(status.success(), "after SIGTERM it ended with {status}");
        Ok(())
    }

    /// Waits until the program has died at its fault point; answers whether it did.
    pub(crate) async fn until_dead(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let program = self.program.as_mut().context("a program should run")?;
        let Some(status) = program.until_ended(patience).await else { return Ok(false) };
        ensure!(status.signal() == Some(SIGABRT), "the program ended with {status}, and not at its fault point");
        self.program = None;
        Ok(true)
    }

    /// Asks the program to end, and waits until it has; answers whether it died at its fault point on the way.
    pub(crate) async fn end_or_die(&mut self) -> anyhow::Result<bool> {
        let mut program = self.program.take().context("a program should run")?;
        try_signal("TERM", program.id());
        let ended = program.until_ended(PATIENCE).await;
        let status = ended.with_context(|| format!("it did not end within {PATIENCE:?} of SIGTERM"))?;
        let died = status.signal() == Some(SIGABRT);
        ensure!(died || status.success(), "after SIGTERM it ended with {status}");
        Ok(died)
    }

    /// Whether a program runs, as far as the harness knows.
    pub(crate) fn runs(&self) -> bool {
        self.program.is_some()
    }

    /// Sends a signal to ClickHouse; it may be between two lives.
    pub(crate) fn signal_clickhouse(&self, name: &str) -> Vec<u32> {
        let children = self.program.as_ref().map(Program::children).unwrap_or_default();
        children.into_iter().filter(|id| try_signal(name, *id)).collect()
    }

    fn output_file(&self) -> String {
        format!("program-{}.log", self.lives)
    }

    /// The end of what the program printed last.
    pub(crate) fn output_tail(&self) -> String {
        let file = self.data.path().join(self.output_file());
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("--- the end of {} ---\n{}", self.output_file(), tail.join("\n"))
    }
}
