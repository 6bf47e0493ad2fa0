//! One client, from its start to its end: what it says is heeded in turn.
//!
//! A statement runs until its rows are written, its time is over, it is cancelled, or the client is gone. In each case
//! the question is dropped, and with it what it reads in ClickHouse.
//!
//! Transactions are taken and mean little: nothing is written, and every statement sees its own, newest snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use streamgauge_queries::{Asker, ClientSession, Parameters, QueryEngine};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cancel::Place;
use super::command::{Command, sorted};
use super::connection::{Connection, Gone};
use super::error::{PostgresError, notice};
use super::extended::{Portal, Prepared};
use super::message::{Frontend, Transaction};
use super::own::Own;
use super::rows::{self, Answer, Progress, Writing};
use super::text::{statements, words};

/// See the module.
pub(super) struct Session {
    pub(super) connection: Connection,
    queries: Arc<QueryEngine>,
    asker: Asker,
    /// Its number and what it has set, which its questions look at too.
    pub(super) own: Arc<Own>,
    pub(super) transaction: Transaction,
    pub(super) prepared: HashMap<String, Arc<Prepared>>,
    pub(super) portals: HashMap<String, Portal>,
    place: Place,
    stopping: CancellationToken,
    /// After an error, messages are passed over until the client has seen it.
    skipping: bool,
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client is told.
    Error(PostgresError),
    /// There is nobody to be told.
    Gone,
}

impl From<PostgresError> for Failure {
    fn from(error: PostgresError) -> Self {
        Failure::Error(error)
    }
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        Failure::Gone
    }
}

/// What ends a statement before its time.
pub(super) struct Limits {
    cancelled: CancellationToken,
    gone: CancellationToken,
    deadline: Option<Instant>,
}

impl Limits {
    /// Does some of the work on a statement.
    pub(super) async fn hold<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => {
                Err(PostgresError::new("57014", "canceling statement due to user request").into())
            }
            () = self.gone.cancelled() => Err(Failure::Gone),
            () = deadline => Err(PostgresError::new("57014", "canceling statement due to statement timeout").into()),
            done = work => Ok(done),
        }
    }
}

impl Session {
    /// Greets the client, with what it has set at its start; `None` when that is wrong.
    pub(super) async fn open(
        connection: Connection,
        queries: Arc<QueryEngine>,
        asker: Asker,
        place: Place,
        stopping: CancellationToken,
        parameters: &[(String, String)],
    ) -> Option<Self> {
        let mut session = Session {
            connection,
            queries,
            asker,
            own: Arc::new(Own::new(place.number)),
            transaction: Transaction::None,
            prepared: HashMap::new(),
            portals: HashMap::new(),
            place,
            stopping,
            skipping: false,
        };
        if let Err(error) = session.set_at_start(parameters) {
            PostgresError { fatal: true, ..error }.write(&mut session.connection.out);
            session.connection.close().await;
            return None;
        }
        let out = &mut session.connection.out;
        out.authentication(0, &[]);
        for (name, value) in session.own.all() {
            if REPORTED.contains(&name) {
                out.parameter(name, &value);
            }
        }
        out.key(session.place.number.get(), session.place.key);
        out.ready(Transaction::None);
        Some(session)
    }

    fn set_at_start(&mut self, parameters: &[(String, String)]) -> Result<(), PostgresError> {
        for (name, value) in parameters {
            match name.as_str() {
                "user" | "database" => {}
                "replication" if !matches!(value.as_str(), "false" | "off" | "no" | "0") => {
                    return Err(PostgresError::new("0A000", "there is no replication over this protocol"));
                }
                "replication" => {}
                "options" => {
                    for option in options(value) {
                        let (name, value) = option.split_once('=').unwrap_or((&option, ""));
                        self.own.set(name, Some(value), false)?;
                    }
                }
                name if name.starts_with("_pq_.") => {}
                // Clients set what they know; what is not known here is theirs.
                name => match self.own.set(name, Some(value), false) {
                    Err(error) if error.state != "42704" => return Err(error),
                    Ok(_) | Err(_) => {}
                },
            }
        }
        Ok(())
    }

    /// Serves the client until the end.
    pub(super) async fn run(mut self) {
        loop {
            let next = tokio::select! {
                biased;
                next = self.connection.next() => next,
                () = self.stopping.cancelled() => {
                    let error = PostgresError::fatal("57P01", "terminating connection: the program is stopping");
                    error.write(&mut self.connection.out);
                    break;
                }
                () = overdue(&self.portals) => {
                    self.end_overdue();
                    continue;
                }
            };
            let message = match next {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => {
                    error.write(&mut self.connection.out);
                    break;
                }
                Ok(None) | Err(Gone) => return,
            };
            if self.heed(message).await.is_err() {
                return;
            }
        }
        self.connection.close().await;
    }

    /// Heeds a message.
    async fn heed(&mut self, message: Frontend) -> Result<(), Gone> {
        if self.skipping && !matches!(message, Frontend::Sync) {
            return Ok(());
        }
        let done = match message {
            Frontend::Query(text) => {
                let done = self.simple(&text).await;
                self.settle(done)?;
                self.portals.remove("");
                self.end_portals();
                self.connection.out.ready(self.transaction);
                return Ok(());
            }
            Frontend::Sync => {
                self.skipping = false;
                self.end_portals();
                self.connection.out.ready(self.transaction);
                return Ok(());
            }
            Frontend::Flush => return self.connection.flush().await,
            Frontend::Terminate => return Err(Gone),
            Frontend::Copy => return Ok(()), // of a COPY that was refused
            Frontend::Password(_) => {
                let error = PostgresError::fatal("08P01", "a password came, and none was asked for");
                error.write(&mut self.connection.out);
                let _ = self.connection.flush().await; // the connection ends in any case
                return Err(Gone);
            }
            Frontend::Call => {
                let error = PostgresError::new("0A000", "functions are not called by their numbers here");
                self.settle(Err(error.with_hint("write SELECT function(…)").into()))?;
                self.connection.out.ready(self.transaction);
                return Ok(());
            }
            Frontend::NotUtf8 { simple } => {
                let error = PostgresError::new("22021", "a text of the message is not UTF-8");
                self.skipping = !self.settle(Err(error.into()))? && !simple;
                if simple {
                    self.connection.out.ready(self.transaction);
                }
                return Ok(());
            }
            Frontend::Parse { name, sql, kinds } => self.parse(name, &sql, &kinds).await,
            Frontend::Bind(bind) => self.bind(bind),
            Frontend::Describe { what, name } => self.describe(what, &name),
            Frontend::Execute { portal, rows_max } => self.execute(&portal, rows_max).await,
            Frontend::Close { what, name } => {
                self.close(what, &name);
                Ok(())
            }
        };
        self.skipping = !self.settle(done)?;
        Ok(())
    }

    /// Tells an error, if it is one; whether it was none.
    fn settle(&mut self, done: Result<(), Failure>) -> Result<bool, Gone> {
        match done {
            Ok(()) => Ok(true),
            Err(Failure::Gone) => Err(Gone),
            Err(Failure::Error(error)) => {
                error.write(&mut self.connection.out);
                if self.transaction == Transaction::Open {
                    self.transaction = Transaction::Failed;
                }
                Ok(false)
            }
        }
    }

    /// Runs the statements of a text, up to the first that fails.
    async fn simple(&mut self, text: &str) -> Result<(), Failure> {
        let found = statements(text);
        if found.is_empty() {
            self.connection.out.plain(b'I');
        }
        for statement in found {
            let command = sorted(statement)?;
            let limits = self.limits();
            match command {
                Command::Ask(sql) => self.ask(&sql, &limits).await?,
                command => self.carry_out(&command, true, &[], &limits).await?,
            }
        }
        Ok(())
    }

    /// What the session asks of.
    pub(super) fn queries(&self) -> QueryEngine {
        let (limits, session) = (self.own.limits(), Some(self.own.clone() as Arc<dyn ClientSession>));
        self.queries.asked_by(Asker { limits, session, ..self.asker.clone() })
    }

    /// Begins a statement.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            cancelled: self.place.statement(),
            gone: self.connection.gone.clone(),
            deadline: self.own.timeout().map(|timeout| Instant::now() + timeout),
        }
    }

    /// After an error in a transaction, only its end is heeded.
    pub(super) fn check_transaction(&self) -> Result<(), PostgresError> {
        match self.transaction {
            Transaction::Failed => Err(PostgresError::new(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            )
            .with_hint("end it with ROLLBACK")),
            Transaction::None | Transaction::Open => Ok(()),
        }
    }

    /// Asks a question and writes its whole answer.
    async fn ask(&mut self, sql: &str, limits: &Limits) -> Result<(), Failure> {
        self.check_transaction()?;
        if does_something(sql) {
            return self.change(sql, limits).await;
        }
        let answer = self.begin(sql, Parameters::default(), None, limits).await?;
        self.connection.out.columns(&rows::columns(answer.columns(), &[]));
        let count = self.write_all(answer, Writing::Rows(&[]), limits).await?;
        self.connection.out.complete(&tag(sql, count));
        Ok(())
    }

    /// Carries out a statement that answers with a word, which is told beside its tag.
    pub(super) async fn change(&mut self, sql: &str, limits: &Limits) -> Result<(), Failure> {
        use arrow::array::AsArray;
        use futures::StreamExt;

        let answer = limits.hold(self.queries().sql(sql, self.own.options())).await?;
        let mut answer = answer.map_err(|error| PostgresError::of(error, sql))?;
        while let Some(batch) = limits.hold(answer.next()).await? {
            let batch = batch.map_err(|error| PostgresError::of(error, sql))?;
            let texts = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            if let (Some(names), Some(results)) = (texts("view"), texts("result")) {
                for (name, result) in names.iter().zip(results) {
                    let (name, result) = (name.unwrap_or_default(), result.unwrap_or_default());
                    notice(&mut self.connection.out, &format!("view {name:?} {result}"));
                }
            }
        }
        self.connection.out.complete(&tag(sql, 0));
        Ok(())
    }

    /// Begins to answer a question.
    pub(super) async fn begin(
        &mut self,
        sql: &str,
        parameters: Parameters,
        told: Option<&arrow::datatypes::Schema>,
        limits: &Limits,
    ) -> Result<Answer, Failure> {
        let started = std::time::Instant::now();
        let stream = limits.hold(self.queries().sql_with(sql, parameters, self.own.options())).await?;
        let stream = stream.map_err(|error| PostgresError::of(error, sql))?;
        metrics::histogram!("streamgauge_query_seconds", "kind" => "pg").record(started.elapsed().as_secs_f64());
        if let Some(partial) = &stream.partial {
            crate::http::note_partial(partial);
            notice(&mut self.connection.out, &partial.missing());
        }
        Ok(Answer::new(stream, told, sql.into())?)
    }

    /// Writes an answer to its end; answers how many rows it has.
    pub(super) async fn write_all(
        &mut self,
        mut answer: Answer,
        form: Writing<'_>,
        limits: &Limits,
    ) -> Result<usize, Failure> {
        let mut wanted = usize::MAX;
        self.write(&mut answer, form, &mut wanted, limits).await?;
        Ok(usize::MAX - wanted)
    }

    /// Writes rows, as many as are wanted; whether there may be more.
    pub(super) async fn write(
        &mut self,
        answer: &mut Answer,
        form: Writing<'_>,
        wanted: &mut usize,
        limits: &Limits,
    ) -> Result<bool, Failure> {
        loop {
            match limits.hold(answer.write(form, wanted, &mut self.connection.out)).await?? {
                Progress::Full => limits.hold(self.connection.flush()).await??, // invariant 1 of the protocol
                Progress::Enough => return Ok(true),
                Progress::End => return Ok(false),
            }
        }
    }

    /// Portals end with their transaction, those that were held apart.
    pub(super) fn end_portals(&mut self) {
        if self.transaction == Transaction::None {
            self.portals.retain(|_, portal| portal.held);
        }
    }

    /// Drops the questions of portals that wait for longer than a question may take.
    fn end_overdue(&mut self) {
        let time_max = self.queries.limits().time_max;
        self.portals.values_mut().for_each(|portal| portal.end_overdue(time_max));
    }

    /// Until when a portal that begins now may wait.
    pub(super) fn portal_deadline(&self) -> Instant {
        Instant::now() + self.queries.limits().time_max
    }
}

/// Done when a portal has waited for too long.
async fn overdue(portals: &HashMap<String, Portal>) {
    match portals.values().filter_map(Portal::deadline).min() {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Settings that clients are told about at the start.
const REPORTED: [&str; 11] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "standard_conforming_strings",
    "TimeZone",
];

/// The settings within the parameter `options`: `-c name=value` or `--name=value`, with `\ ` for a blank.
fn options(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => found.last_mut().expect("there is one").extend(characters.next()),
            ' ' => found.push(String::new()),
            other => found.last_mut().expect("there is one").push(other),
        }
    }
    let plain = |option: String| {
        let option = option.strip_prefix("--").or_else(|| option.strip_prefix("-c")).unwrap_or(&option).to_owned();
        (!option.is_empty()).then_some(option)
    };
    found.into_iter().filter_map(plain).collect()
}

/// Whether a statement does something, and answers with a word.
pub(super) fn does_something(sql: &str) -> bool {
    words(sql, 1).first().is_some_and(|word| ["CREATE", "DROP", "ALTER"].iter().any(|known| word.is(known)))
}

/// What a client is told at the end of a statement.
pub(super) fn tag(sql: &str, rows: usize) -> String {
    let found = words(sql, 5);
    let is = |place: usize, word: &str| found.get(place).is_some_and(|found| found.is(word));
    let first = found.iter().find(|word| !word.is("(")).map(|word| word.text().to_uppercase()).unwrap_or_default();
    match first.as_str() {
        "CREATE" | "DROP" | "ALTER" => {
            // CREATE [OR REPLACE] MATERIALIZED VIEW …; a stream may be called so, too.
            let is_view = (1..4).any(|place| is(place, "MATERIALIZED") && is(place + 1, "VIEW")) && !is(1, "STREAM");
            format!("{first} {}", if is_view { "MATERIALIZED VIEW" } else { "STREAM" })
        }
        "SHOW" | "EXPLAIN" | "DESCRIBE" => first,
        _ => format!("SELECT {rows}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_at_the_start() {
        assert_eq!(
            options("-c statement_timeout=5s --streamgauge.partial=on -csearch_path=a\\ b"),
            ["statement_timeout=5s", "streamgauge.partial=on", "search_path=a b"]
        );
    }

    #[test]
    fn tags() {
        for (sql, expected) in [
            ("select 1", "SELECT 3"),
            ("(SELECT 1)", "SELECT 3"),
            ("WITH a AS (SELECT 1) SELECT * FROM a", "SELECT 3"),
            ("SHOW TABLES", "SHOW"),
            ("create or replace materialized view v as select 1", "CREATE MATERIALIZED VIEW"),
            ("DROP MATERIALIZED VIEW v", "DROP MATERIALIZED VIEW"),
            ("CREATE STREAM IF NOT EXISTS s (a int)", "CREATE STREAM"),
            ("create stream materialized (view int)", "CREATE STREAM"),
            ("DROP STREAM materialized", "DROP STREAM"),
        ] {
            assert_eq!(tag(sql, 3), expected);
        }
    }
}
