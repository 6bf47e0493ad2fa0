//! Statements about the session itself, carried out: transactions, settings, cursors, copies.

use arrow::datatypes::SchemaRef;
use streamgauge_queries::Parameters;

use super::command::Command;
use super::copy::{BINARY_END, BINARY_HEAD, CopyForm};
use super::error::{PostgresError, notice};
use super::extended::{Portal, unknown_portal};
use super::message::{Form, Transaction};
use super::rows::{self, Writing, text_columns};
use super::session::{Failure, Limits, Session};

/// The columns of `SHOW ALL`.
const SHOW_ALL: [&str; 3] = ["name", "setting", "description"];

impl Session {
    /// The columns that a statement about the session answers, if it does.
    pub(super) fn columns_of(&self, command: &Command) -> Option<SchemaRef> {
        match command {
            Command::Show { name } => Some(text_columns(&[name])),
            Command::ShowAll => Some(text_columns(&SHOW_ALL)),
            Command::Fetch { cursor, .. } => self.portals.get(cursor).and_then(Portal::columns),
            _ => None,
        }
    }

    /// Carries out a statement about the session; says its columns first if `describes`.
    pub(super) async fn carry_out(
        &mut self,
        command: &Command,
        describes: bool,
        forms: &[Form],
        limits: &Limits,
    ) -> Result<(), Failure> {
        if !matches!(command, Command::Commit | Command::Rollback | Command::RollbackToSavepoint) {
            self.check_transaction()?;
        }
        if describes && let Some(columns) = self.columns_of(command) {
            self.connection.out.columns(&rows::columns(&columns, forms));
        }
        match command {
            Command::Ask(_) => {
                return Err(PostgresError::new("XX000", "a question is not about the session").into());
            }
            Command::Copy { question, form } => return self.copy(question, form, limits).await,
            Command::Begin { tag } => {
                self.transaction = Transaction::Open;
                self.own.begin();
                self.connection.out.complete(tag);
            }
            Command::Commit => {
                let tag = if self.transaction == Transaction::Failed { "ROLLBACK" } else { "COMMIT" };
                self.end_transaction(tag);
            }
            Command::Rollback => self.end_transaction("ROLLBACK"),
            Command::Savepoint { tag } | Command::Nothing { tag } => self.connection.out.complete(tag),
            Command::RollbackToSavepoint => {
                if self.transaction == Transaction::Failed {
                    self.transaction = Transaction::Open;
                }
                self.connection.out.complete("ROLLBACK");
            }
            Command::Set { name, value, local } => self.set(name, value.as_deref(), *local, "SET")?,
            Command::SetTransaction => self.connection.out.complete("SET"),
            Command::Reset { name: Some(name) } => self.set(name, None, false, "RESET")?,
            Command::Reset { name: None } => {
                self.own.reset();
                self.connection.out.complete("RESET");
            }
            Command::Show { name } => {
                let value = self.own.get(name);
                self.connection.out.texts(&[&value]);
                self.connection.out.complete("SHOW");
            }
            Command::ShowAll => {
                for (name, value) in self.own.all() {
                    self.connection.out.texts(&[name, &value, ""]);
                }
                self.connection.out.complete("SHOW");
            }
            Command::DiscardAll => {
                self.own.reset();
                self.prepared.clear();
                self.portals.clear();
                self.connection.out.complete("DISCARD ALL");
            }
            Command::Deallocate { name: None } => {
                self.prepared.clear();
                self.connection.out.complete("DEALLOCATE ALL");
            }
            Command::Deallocate { name: Some(name) } => {
                if self.prepared.remove(name).is_none() {
                    let message = format!("prepared statement {name:?} does not exist");
                    return Err(PostgresError::new("26000", message).into());
                }
                self.connection.out.complete("DEALLOCATE");
            }
            Command::Declare { cursor, question } => self.declare(cursor, question, limits).await?,
            Command::Fetch { cursor, rows_max } => {
                let mut portal = self.portals.remove(cursor).ok_or_else(|| unknown_portal(cursor))?;
                let (count, _) = self.fetch(&mut portal, Writing::Rows(forms), *rows_max).await?;
                self.portals.insert(cursor.clone(), portal);
                self.connection.out.complete(&format!("FETCH {count}"));
            }
            Command::CloseCursor { name: None } => {
                self.portals.clear();
                self.connection.out.complete("CLOSE CURSOR ALL");
            }
            Command::CloseCursor { name: Some(name) } => {
                self.portals.remove(name).ok_or_else(|| unknown_portal(name))?;
                self.connection.out.complete("CLOSE CURSOR");
            }
        }
        Ok(())
    }

    fn end_transaction(&mut self, tag: &str) {
        self.transaction = Transaction::None;
        self.own.end(tag == "COMMIT");
        self.end_portals();
        self.connection.out.complete(tag);
    }

    fn set(&mut self, name: &str, value: Option<&str>, local: bool, tag: &str) -> Result<(), PostgresError> {
        if local && self.transaction == Transaction::None {
            notice(&mut self.connection.out, "SET LOCAL can only be used in transaction blocks");
            self.connection.out.complete(tag);
            return Ok(());
        }
        if let Some(told) = self.own.set(name, value, local)? {
            notice(&mut self.connection.out, told);
        } else if name.eq_ignore_ascii_case("application_name") {
            self.connection.out.parameter("application_name", value.unwrap_or_default());
        }
        self.connection.out.complete(tag);
        Ok(())
    }

    async fn declare(&mut self, cursor: &str, question: &str, limits: &Limits) -> Result<(), Failure> {
        if self.portals.contains_key(cursor) {
            return Err(PostgresError::new("42P03", format!("cursor {cursor:?} already exists")).into());
        }
        let described = limits.hold(self.queries().describe(question, &[])).await?;
        let described = described.map_err(|error| PostgresError::of(error, question))?;
        let held = self.transaction == Transaction::None;
        self.keep(cursor.to_owned(), Portal::cursor(question, described.columns, held))?;
        self.connection.out.complete("DECLARE CURSOR");
        Ok(())
    }

    /// Writes the rows of a question as lines, or in binary.
    async fn copy(&mut self, question: &str, form: &CopyForm, limits: &Limits) -> Result<(), Failure> {
        let answer = self.begin(question, Parameters::default(), None, limits).await?;
        let names: Vec<String> = answer.columns().fields().iter().map(|field| field.name().clone()).collect();
        let out = &mut self.connection.out;
        match form {
            CopyForm::Binary => out.copy_out(names.len(), Form::Binary),
            CopyForm::Lines(lines) => {
                out.copy_out(names.len(), Form::Text);
                if lines.header {
                    out.message(b'd', |out| lines.line(names.iter().map(|name| Some(name.as_str())), out));
                }
            }
        }
        let count = self.write_all(answer, Writing::Copy(form), limits).await?;
        if matches!(form, CopyForm::Binary) {
            self.connection.out.message(b'd', |out| {
                out.extend_from_slice(if count == 0 { BINARY_HEAD } else { &[] }); // it is before the first row otherwise
                out.extend_from_slice(BINARY_END);
            });
        }
        self.connection.out.plain(b'c');
        self.connection.out.complete(&format!("COPY {count}"));
        Ok(())
    }
}
