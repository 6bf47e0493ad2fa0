//! Running statements and commands, with what is set.
//!
//! A statement that is interrupted has its connection closed, by which the server ends its work.

use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::answer::Answer;
use super::catalogue;
use super::command::{self, Command};
use super::names::KnownNames;
use super::output::Output;
use super::script::{self, Item};
use super::settings::{Setting, Settings, is_of_setting, moved_up};
use super::{Format, place};
use crate::client::connection::{Ask, Connection, EPOCH, SQL_PATH};
use crate::client::error::ClientError;
use crate::client::table::Table;

/// Files that run files.
const INCLUDES_MAX: usize = 16;

/// Ctrl-C came while something ran.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
pub(super) struct Interrupted;

/// Ctrl-C, from the shell's beginning on, so that none ends the program; clones share it.
#[derive(Clone)]
struct Interrupts(Arc<Notify>);

impl Interrupts {
    fn listen() -> std::io::Result<Self> {
        let mut signals = signal(SignalKind::interrupt())?;
        let interrupts = Interrupts(Arc::default());
        let told = interrupts.0.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                told.notify_one();
            }
        });
        Ok(interrupts)
    }

    /// One that came already, or the next.
    async fn next(&self) {
        self.0.notified().await;
    }

    /// Forgets one that came when nothing ran.
    fn forget(&self) {
        let _ = self.0.notified().now_or_never();
    }
}

/// See the module.
pub(super) struct Session {
    connection: Arc<Connection>,
    format: Format,
    output: Output,
    is_expanded: bool,
    is_timed: bool,
    /// What statements are asked with.
    settings: Settings,
    /// The last statement, for `\g`, `\watch` and `\e`.
    last: Option<String>,
    /// What is to be edited.
    edited: Option<String>,
    is_over: bool,
    includes: usize,
    names: KnownNames,
    interrupts: Interrupts,
    /// The columns of the terminal, in a shell.
    pub(super) width: Option<usize>,
}

impl Session {
    /// # Errors
    /// When the process may not handle signals.
    pub(super) fn new(connection: Connection, format: Format, output: Output) -> anyhow::Result<Self> {
        Ok(Session {
            connection: Arc::new(connection),
            format,
            output,
            is_expanded: false,
            is_timed: false,
            settings: Settings::default(),
            last: None,
            edited: None,
            is_over: false,
            includes: 0,
            names: KnownNames::default(),
            interrupts: Interrupts::listen()?,
            width: None,
        })
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(super) fn names(&self) -> &KnownNames {
        &self.names
    }

    /// What is typed from now on is run; a Ctrl-C before it meant nothing.
    pub(super) fn at_prompt(&self) {
        self.interrupts.forget();
    }

    /// Whether it was asked to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// What is to be edited next.
    pub(super) fn take_edited(&mut self) -> String {
        self.edited.take().unwrap_or_default()
    }

    /// Runs the statements and commands of a text, up to the first that fails; the last statement needs no `;`.
    pub(super) async fn run(&mut self, text: &str) -> anyhow::Result<()> {
        let script = script::read(text);
        for item in script.items.into_iter().chain(script.rest.map(Item::Statement)) {
            match item {
                Item::Statement(statement) => self.statement(statement).await?,
                Item::Command { line, pending } => self.command(&line, pending).await?,
            }
            if self.is_over {
                break;
            }
        }
        Ok(())
    }

    async fn statement(&mut self, statement: String) -> anyhow::Result<()> {
        if let Some(setting) = Setting::read(&statement) {
            return self.heed(setting).await;
        }
        let asked = self.interruptibly(json!({ "sql": statement })).await;
        let first = statement.split_whitespace().next().unwrap_or_default();
        if ["CREATE", "DROP"].iter().any(|word| word.eq_ignore_ascii_case(first)) {
            self.names.forget();
        }
        self.last = Some(statement);
        asked
    }

    /// Asks and shows the answer, unless Ctrl-C comes.
    async fn interruptibly(&mut self, body: Value) -> anyhow::Result<()> {
        let interrupts = self.interrupts.clone();
        tokio::select! {
            asked = self.ask(body) => asked,
            () = interrupts.next() => Err(Interrupted.into()),
        }
    }

    /// Asks, and shows the answer in the format that is set.
    async fn ask(&mut self, mut body: Value) -> anyhow::Result<()> {
        let format = self.format;
        body["format"] = json!(format.asked());
        body["partial"] = json!(self.settings.partial);
        let statement = body["sql"].as_str().unwrap_or_default().to_owned();
        let (sent, lines) = self.settings.before(&statement);
        body["sql"] = json!(sent);
        let mut writing = self.output.begin(format)?;
        let started = Instant::now();
        let asked = self.connection.ask(Ask::question(&body, self.settings.epoch)).await;
        let mut response = asked.map_err(|error| pointed(error, &statement, lines))?;
        let epoch = response.headers().get(EPOCH).and_then(|epoch| epoch.to_str().ok()).map(str::to_owned);
        let mut footer = None;
        if matches!(format, Format::Table | Format::Markdown) {
            let body = response.bytes().await.context("the connection ended within the answer")?;
            let answer: Answer =
                serde_json::from_slice(&body).map_err(|e| self.connection.wrong_answer(SQL_PATH, e.to_string()))?;
            let (text, left_out) = drawn(&answer.table(), format, self.is_expanded, self.width);
            writing.write(text.as_bytes())?;
            footer = Some(answer.footer(left_out));
        } else {
            let mut ends_line = true;
            while let Some(chunk) = response.chunk().await.context("the answer broke off; it is not whole")? {
                ends_line = chunk.ends_with(b"\n");
                if !writing.write(&chunk)? {
                    return Ok(());
                }
            }
            if !ends_line && !format.is_binary() {
                writing.write(b"\n")?;
            }
        }
        if let Some(written) = writing.end() {
            let epoch = epoch.map(|epoch| format!(", epoch {epoch}")).unwrap_or_default();
            footer = Some(footer.map_or(format!("{written}{epoch}"), |footer| format!("{footer}; {written}")));
        }
        if let Some(footer) = footer {
            eprintln!("{footer}");
        }
        if self.is_timed {
            eprintln!("time: {:.1} ms, there and back", started.elapsed().as_secs_f64() * 1_000.0);
        }
        Ok(())
    }

    async fn command(&mut self, line: &str, pending: Option<String>) -> anyhow::Result<()> {
        let command = command::read(line).map_err(anyhow::Error::msg)?;
        match (&command, pending) {
            (Command::Again | Command::Watch(_) | Command::Edit, Some(pending)) => self.last = Some(pending),
            (_, Some(pending)) => {
                bail!("the statement before \\{line} has no end; write ; after it: {}", first_line(&pending))
            }
            (_, None) => {}
        }
        match command {
            Command::Format(None) => eprintln!("the format is {}", self.format.name()),
            Command::Format(Some(format)) => self.format = format,
            Command::Output(path) => self.output = path.map_or_else(Output::default, Output::file),
            Command::Include(path) => self.include(&path).await?,
            Command::Expanded(value) => {
                self.is_expanded = value.unwrap_or(!self.is_expanded);
                eprintln!("a record a row: {}", if self.is_expanded { "on" } else { "off" });
            }
            Command::Timing(value) => {
                self.is_timed = value.unwrap_or(!self.is_timed);
                eprintln!("timing: {}", if self.is_timed { "on" } else { "off" });
            }
            Command::Watch(every) => self.watch(every).await?,
            Command::Again => {
                let statement = self.last()?;
                self.statement(statement).await?;
            }
            Command::Edit => self.edited = Some(edit(&self.last.clone().unwrap_or_default())?),
            Command::Set(None) => self.tell_settings(),
            Command::Set(Some((name, value))) => self.heed(Setting::named(&name, Some(value))).await?,
            Command::Unset(name) => self.heed(Setting::named(&name, None)).await?,
            Command::Connection => eprintln!("the server is {}", self.connection.url()),
            Command::Help => eprint!("{}", command::help()),
            Command::Quit => self.is_over = true,
            asking => self.browse(&asking).await?,
        }
        Ok(())
    }

    fn last(&self) -> anyhow::Result<String> {
        self.last.clone().context("there is no statement yet")
    }

    /// Answers a command that asks the catalogues, always as a table.
    async fn browse(&mut self, command: &Command) -> anyhow::Result<()> {
        for (index, (sql, values)) in catalogue::questions(command).into_iter().enumerate() {
            let body = json!({ "sql": sql, "params": values });
            let asked = tokio::select! {
                asked = self.connection.ask_json(Ask::question(&body, None)) => asked,
                () = self.interrupts.next() => bail!(Interrupted),
            };
            let answer: Answer = serde_json::from_value(asked?)
                .map_err(|error| self.connection.wrong_answer(SQL_PATH, error.to_string()))?;
            if answer.rows.is_empty() {
                match command {
                    Command::Describe(Some(name)) if index == 0 => {
                        bail!("there is no stream or view {name:?}; \\d lists what there is")
                    }
                    _ if index > 0 => continue,
                    _ => {}
                }
            }
            let (text, left_out) = match index {
                0 => drawn(&answer.table(), Format::Table, false, self.width),
                _ => (format!("\n{}", answer.texts().join("\n") + "\n"), 0),
            };
            let mut writing = self.output.begin(Format::Table)?;
            writing.write(text.as_bytes())?;
            writing.end();
            if index == 0 {
                eprintln!("{}", answer.footer(left_out));
            }
        }
        Ok(())
    }

    /// Asks the last statement again and again.
    async fn watch(&mut self, every: Duration) -> anyhow::Result<()> {
        let statement = self.last()?;
        loop {
            match self.statement(statement.clone()).await {
                Err(error) if error.is::<Interrupted>() => return Ok(()),
                asked => asked?,
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.interrupts.next() => return Ok(()),
            }
            eprintln!();
        }
    }

    async fn include(&mut self, path: &std::path::Path) -> anyhow::Result<()> {
        let shown = path.display();
        anyhow::ensure!(self.includes < INCLUDES_MAX, "{shown}: files run files more than {INCLUDES_MAX} deep");
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        self.includes += 1;
        let ran = Box::pin(self.run(&text)).await;
        self.includes -= 1;
        ran
    }

    /// Heeds a statement about what is set.
    async fn heed(&mut self, setting: Setting) -> anyhow::Result<()> {
        match setting {
            Setting::One { name, value } => {
                let mut settings = self.settings.clone();
                settings.set(&name, value.as_deref())?;
                if let Some(question) = Settings::check(&name, value.as_deref()) {
                    self.check(question).await?;
                }
                self.settings = settings;
                Ok(())
            }
            Setting::ResetAll => {
                self.settings = Settings::default();
                Ok(())
            }
            Setting::Show(name) => self.interruptibly(json!({ "sql": self.settings.shown(&name) })).await,
            Setting::ShowAll => self.interruptibly(json!({ "sql": self.settings.all_shown() })).await,
        }
    }

    /// Lets the server look at a value; that it is busy says nothing about it.
    async fn check(&self, question: Value) -> anyhow::Result<()> {
        let asked = tokio::select! {
            asked = self.connection.ask(Ask::question(&question, None)) => asked,
            () = self.interrupts.next() => bail!(Interrupted),
        };
        match asked {
            Err(ClientError::Refused(problem)) if !is_of_setting(&problem) => Ok(()),
            asked => Ok(asked.map(drop)?),
        }
    }

    fn tell_settings(&self) {
        for (name, value) in self.settings.all() {
            eprintln!("{name} {value}");
        }
        if self.settings.epoch.is_none() {
            eprintln!("without an epoch a statement sees all that was acknowledged");
        }
    }
}

/// The text of an answer, and how many columns it leaves out.
fn drawn(table: &Table, format: Format, is_expanded: bool, width: Option<usize>) -> (String, usize) {
    match format {
        Format::Markdown => (table.markdown(), 0),
        _ if is_expanded => (table.expanded(), 0),
        _ => table.aligned(width),
    }
}

/// The error of a statement, with its place in it if the server says one; so many lines were sent before it.
fn pointed(mut error: ClientError, statement: &str, lines: usize) -> anyhow::Error {
    let place = match &mut error {
        ClientError::Refused(problem) => {
            problem.detail = moved_up(&problem.detail, lines);
            place::shown(statement, &problem.detail)
        }
        _ => None,
    };
    match place {
        Some(place) => anyhow::anyhow!("{error}\n{place}"),
        None => error.into(),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The text as the user's editor leaves it.
fn edit(text: &str) -> anyhow::Result<String> {
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let path = std::env::temp_dir().join(format!("streamgauge-{:032x}.sql", rand::random::<u128>()));
    let edited = (|| {
        std::fs::write(&path, format!("{text}\n")).with_context(|| format!("cannot write {}", path.display()))?;
        // As a shell would: the variable may have arguments.
        let status = Process::new("sh").args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(&path).status();
        let status = status.with_context(|| format!("cannot run {editor}; set VISUAL or EDITOR"))?;
        anyhow::ensure!(status.success(), "{editor} ended with {status}; set VISUAL or EDITOR to what is there");
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    })();
    let _ = std::fs::remove_file(&path); // it may not have come about
    edited.map(|text| text.trim_end().to_owned())
}
