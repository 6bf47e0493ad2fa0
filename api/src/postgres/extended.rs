//! Statements in steps: prepared, given values, described, and run, a number of rows at a time.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use streamgauge_queries::Parameters;
use streamgauge_queries::postgres::types;
use tokio::time::Instant;

use super::command::{Command, sorted};
use super::error::PostgresError;
use super::message::{Bind, Form, Target, form_at};
use super::parameter;
use super::rows::{self, Answer, Writing};
use super::session::{Failure, Session, tag};
use super::text::statements;

/// Statements that a session may keep.
const PREPARED_MAX: usize = 1_000;
/// Portals that a session may keep.
const PORTALS_MAX: usize = 100;
/// The texts of all those statements, and the values of all those portals.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// A statement that is kept.
#[derive(Debug)]
pub(super) struct Prepared {
    sql: Arc<str>,
    /// What it is; `None` of an empty text.
    command: Option<Command>,
    /// The number of the type of each parameter, as the client was told, and the type in the question.
    parameters: Vec<(u32, DataType)>,
    /// The columns of a question's answer.
    columns: Option<SchemaRef>,
}

/// A statement with its values, and how far it is.
pub(super) struct Portal {
    prepared: Arc<Prepared>,
    values: Parameters,
    /// What the values take, about.
    bytes: usize,
    forms: Vec<Form>,
    state: State,
    /// It outlives transactions: a cursor that was declared outside of one.
    pub(super) held: bool,
}

enum State {
    Ready,
    Running { answer: Box<Answer>, deadline: Instant },
    Done,
    Overdue(Duration),
}

impl Portal {
    /// A cursor over a question.
    pub(super) fn cursor(sql: &str, columns: Option<SchemaRef>, held: bool) -> Self {
        let command = Some(Command::Ask(sql.to_owned()));
        let prepared = Arc::new(Prepared { sql: sql.into(), command, parameters: Vec::new(), columns });
        let bytes = sql.len();
        Portal { prepared, values: Parameters::default(), bytes, forms: Vec::new(), state: State::Ready, held }
    }

    /// The columns of its question.
    pub(super) fn columns(&self) -> Option<SchemaRef> {
        self.prepared.columns.clone()
    }

    /// Until when the rest of its answer may wait.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Running { deadline, .. } => Some(*deadline),
            _ => None,
        }
    }

    /// Drops its question if it waited for too long.
    pub(super) fn end_overdue(&mut self, time_max: Duration) {
        if self.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            self.state = State::Overdue(time_max);
        }
    }
}

impl Session {
    /// Keeps a statement.
    pub(super) async fn parse(&mut self, name: String, sql: &str, kinds: &[u32]) -> Result<(), Failure> {
        if !name.is_empty() && self.prepared.contains_key(&name) {
            return Err(PostgresError::new("42P05", format!("prepared statement {name:?} already exists")).into());
        }
        if self.prepared.len() >= PREPARED_MAX && !self.prepared.contains_key(&name) {
            let message = format!("the session keeps {PREPARED_MAX} prepared statements, as many as it may");
            return Err(PostgresError::new("54000", message).with_hint("DEALLOCATE those that are not needed").into());
        }
        if name.is_empty() {
            self.prepared.remove("");
        }
        let kept: usize = self.prepared.values().map(|prepared| prepared.sql.len()).sum();
        if kept + sql.len() > KEPT_BYTES_MAX {
            return Err(too_long("prepared statements", "DEALLOCATE those that are not needed").into());
        }
        let found = statements(sql);
        let command = match found[..] {
            [] => None,
            [one] => Some(sorted(one)?),
            _ => {
                return Err(
                    PostgresError::new("42601", "cannot insert multiple commands into a prepared statement").into()
                );
            }
        };
        let mut prepared = Prepared { sql: sql.into(), command, parameters: Vec::new(), columns: None };
        if let Some(Command::Ask(sql)) = &prepared.command {
            self.check_transaction()?;
            let given: Vec<Option<DataType>> = kinds.iter().map(|kind| types::arrow_of(*kind)).collect();
            let limits = self.limits();
            let described = limits.hold(self.queries().describe(sql, &given)).await?;
            let described = described.map_err(|error| PostgresError::of(error, sql))?;
            let told = |(place, arrow): (usize, DataType)| {
                let given = kinds.get(place).copied().filter(|kind| *kind != 0 && types::arrow_of(*kind).is_some());
                (given.unwrap_or_else(|| types::oid_of(&arrow)), arrow)
            };
            prepared.parameters = described.parameters.into_iter().enumerate().map(told).collect();
            prepared.columns = described.columns;
        }
        self.prepared.insert(name, Arc::new(prepared));
        self.connection.out.plain(b'1');
        Ok(())
    }

    /// Gives a statement its values.
    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), Failure> {
        let Some(prepared) = self.prepared.get(&bind.statement).cloned() else {
            return Err(unknown_statement(&bind.statement).into());
        };
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(PostgresError::new("42P03", format!("portal {:?} already exists", bind.portal)).into());
        }
        let (given, wanted) = (bind.values.len(), prepared.parameters.len());
        if given != wanted || (bind.formats.len() > 1 && bind.formats.len() != given) {
            let message = format!("{given} values were given, and the statement has {wanted} parameters");
            return Err(PostgresError::new("08P01", message).into());
        }
        let columns = prepared.columns.as_ref().map_or(0, |columns| columns.fields().len());
        if bind.results.len() > 1 && prepared.columns.is_some() && bind.results.len() != columns {
            let message = format!("{} formats were given for {columns} columns", bind.results.len());
            return Err(PostgresError::new("08P01", message).into());
        }
        let values = bind.values.iter().zip(&prepared.parameters).enumerate();
        let values = values.map(|(place, (value, (kind, arrow)))| {
            parameter::read(value.as_deref(), form_at(&bind.formats, place), *kind, arrow)
        });
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let values = Parameters::from_arrays(&values).map_err(|error| PostgresError::of(error, &prepared.sql))?;
        let bytes = bind.values.iter().flatten().map(Vec::len).sum();
        let portal = Portal { prepared, values, bytes, forms: bind.results, state: State::Ready, held: false };
        self.keep(bind.portal, portal)?;
        self.connection.out.plain(b'2');
        Ok(())
    }

    /// Keeps a portal, or a cursor.
    pub(super) fn keep(&mut self, name: String, portal: Portal) -> Result<(), PostgresError> {
        if self.portals.len() >= PORTALS_MAX && !self.portals.contains_key(&name) {
            let message = format!("the session keeps {PORTALS_MAX} portals, as many as it may");
            return Err(PostgresError::new("54000", message).with_hint("close those that are not needed"));
        }
        let kept: usize =
            self.portals.iter().filter(|(other, _)| **other != name).map(|(_, portal)| portal.bytes).sum();
        if kept + portal.bytes > KEPT_BYTES_MAX {
            return Err(too_long("portals", "close those that are not needed"));
        }
        self.portals.insert(name, portal);
        Ok(())
    }

    /// Says what a statement or a portal answers.
    pub(super) fn describe(&mut self, what: Target, name: &str) -> Result<(), Failure> {
        let (prepared, forms) = match what {
            Target::Statement => {
                let prepared = self.prepared.get(name).ok_or_else(|| unknown_statement(name))?.clone();
                let kinds: Vec<u32> = prepared.parameters.iter().map(|(kind, _)| *kind).collect();
                self.connection.out.parameters(&kinds);
                (prepared, Vec::new())
            }
            Target::Portal => {
                let portal = self.portals.get(name).ok_or_else(|| unknown_portal(name))?;
                (portal.prepared.clone(), portal.forms.clone())
            }
        };
        let columns = match &prepared.command {
            Some(Command::Ask(_)) => prepared.columns.clone(),
            Some(command) => self.columns_of(command),
            None => None,
        };
        match columns {
            Some(columns) => self.connection.out.columns(&rows::columns(&columns, &forms)),
            None => self.connection.out.plain(b'n'),
        }
        Ok(())
    }

    /// Runs a portal, or goes on with it.
    pub(super) async fn execute(&mut self, name: &str, rows_max: usize) -> Result<(), Failure> {
        // It is taken out, so that an error ends it.
        let mut portal = self.portals.remove(name).ok_or_else(|| unknown_portal(name))?;
        let prepared = portal.prepared.clone();
        match &prepared.command {
            None => self.connection.out.plain(b'I'),
            Some(Command::Ask(sql)) if prepared.columns.is_none() => {
                self.check_transaction()?;
                let limits = self.limits();
                self.change(sql, &limits).await?;
            }
            Some(Command::Ask(sql)) => {
                self.check_transaction()?;
                let forms = std::mem::take(&mut portal.forms);
                let (count, more) = self.fetch(&mut portal, Writing::Rows(&forms), rows_max).await?;
                portal.forms = forms;
                match more {
                    true => self.connection.out.plain(b's'),
                    false => self.connection.out.complete(&tag(sql, count)),
                }
            }
            Some(command) => {
                let limits = self.limits();
                let forms = portal.forms.clone();
                self.carry_out(command, false, &forms, &limits).await?;
            }
        }
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    /// Writes the next rows of a portal, all when `rows_max` is zero; how many there were, and whether there may be
    /// more.
    pub(super) async fn fetch(
        &mut self,
        portal: &mut Portal,
        form: Writing<'_>,
        rows_max: usize,
    ) -> Result<(usize, bool), Failure> {
        let limits = self.limits();
        if matches!(portal.state, State::Ready) {
            let (sql, told) = (portal.prepared.question(), portal.prepared.columns.as_deref());
            let answer = self.begin(sql, portal.values.clone(), told, &limits).await?;
            portal.state = State::Running { answer: Box::new(answer), deadline: self.portal_deadline() };
        }
        let answer = match &mut portal.state {
            State::Running { answer, .. } => answer,
            State::Overdue(time_max) => {
                let message = format!("the rest of the answer was dropped: it waited for longer than {time_max:?}");
                return Err(PostgresError::new("57014", message).with_hint("fetch rows sooner, or ask again").into());
            }
            State::Ready | State::Done => return Ok((0, false)),
        };
        let most = if rows_max == 0 { usize::MAX } else { rows_max };
        let mut wanted = most;
        let more = self.write(answer, form, &mut wanted, &limits).await?;
        if !more {
            portal.state = State::Done;
        }
        Ok((most - wanted, more))
    }

    /// Forgets a statement or a portal; it need not be there.
    pub(super) fn close(&mut self, what: Target, name: &str) {
        match what {
            Target::Statement => {
                if let Some(closed) = self.prepared.remove(name) {
                    self.portals.retain(|_, portal| !Arc::ptr_eq(&portal.prepared, &closed)); // they end with it
                }
            }
            Target::Portal => {
                self.portals.remove(name);
            }
        }
        self.connection.out.plain(b'3');
    }
}

impl Prepared {
    /// The text of its question.
    fn question(&self) -> &str {
        match &self.command {
            Some(Command::Ask(sql)) => sql,
            _ => &self.sql,
        }
    }
}

fn too_long(what: &str, hint: &str) -> PostgresError {
    let message = format!("the session's {what} would be longer than {KEPT_BYTES_MAX} bytes, the bound");
    PostgresError::new("54000", message).with_hint(hint)
}

fn unknown_statement(name: &str) -> PostgresError {
    PostgresError::new("26000", format!("prepared statement {name:?} does not exist"))
}

pub(super) fn unknown_portal(name: &str) -> PostgresError {
    PostgresError::new("34000", format!("portal {name:?} does not exist"))
}
