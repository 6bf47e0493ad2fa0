//! What a statement is to a session: something about the session itself, or a question for the engine.

use super::copy::CopyForm;
use super::error::PostgresError;
use super::text::{Word, located, words};

/// A statement, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// For the engine, as it stands.
    Ask(String),
    /// `COPY … TO STDOUT`: the question whose rows are copied.
    Copy {
        question: String,
        form: CopyForm,
    },
    Begin {
        tag: &'static str,
    },
    Commit,
    Rollback,
    /// `SAVEPOINT` and `RELEASE`: nothing to do, as nothing is written.
    Savepoint {
        tag: &'static str,
    },
    RollbackToSavepoint,
    Set {
        name: String,
        value: Option<String>,
        /// Until the end of the transaction.
        local: bool,
    },
    /// `SET TRANSACTION …` and the like: all transactions only read.
    SetTransaction,
    Reset {
        name: Option<String>,
    },
    Show {
        name: String,
    },
    ShowAll,
    DiscardAll,
    Deallocate {
        name: Option<String>,
    },
    Declare {
        cursor: String,
        question: String,
    },
    Fetch {
        cursor: String,
        rows_max: usize,
    },
    CloseCursor {
        name: Option<String>,
    },
    /// `UNLISTEN`, and other clean-up of what there is not.
    Nothing {
        tag: &'static str,
    },
}

/// Words enough to know a statement by.
const WORDS_MOST: usize = 64;

/// Sorts a statement.
pub(super) fn sorted(statement: &str) -> Result<Command, PostgresError> {
    let found = words(statement, WORDS_MOST);
    let is = |place: usize, word: &str| found.get(place).is_some_and(|found| found.is(word));
    let first = match found.first() {
        Some(Word::Plain(word)) => word.to_uppercase(),
        _ => return Ok(Command::Ask(statement.to_owned())),
    };
    Ok(match first.as_str() {
        "BEGIN" => Command::Begin { tag: "BEGIN" },
        "START" if is(1, "TRANSACTION") => Command::Begin { tag: "START TRANSACTION" },
        "COMMIT" | "END" => Command::Commit,
        "ROLLBACK" if is(1, "TO") || is(2, "TO") => Command::RollbackToSavepoint,
        "ROLLBACK" | "ABORT" => Command::Rollback,
        "SAVEPOINT" => Command::Savepoint { tag: "SAVEPOINT" },
        "RELEASE" => Command::Savepoint { tag: "RELEASE" },
        "SET" => set(&found[1..])?,
        "RESET" if is(1, "ALL") => Command::Reset { name: None },
        "RESET" if found.len() == 2 => Command::Reset { name: Some(found[1].name()) },
        "SHOW" if is(1, "ALL") && found.len() == 2 => Command::ShowAll,
        "SHOW" => match show(&found[1..]) {
            Some(name) => Command::Show { name },
            None => Command::Ask(statement.to_owned()),
        },
        "DISCARD" if is(1, "ALL") => Command::DiscardAll,
        "DISCARD" => Command::Nothing { tag: "DISCARD" },
        "DEALLOCATE" => {
            let place = if is(1, "PREPARE") { 2 } else { 1 };
            let name = found.get(place).ok_or_else(|| unfinished("DEALLOCATE"))?;
            Command::Deallocate { name: (!name.is("ALL")).then(|| name.name()) }
        }
        "UNLISTEN" => Command::Nothing { tag: "UNLISTEN" },
        "DECLARE" => declare(statement)?,
        "FETCH" => fetch(&found[1..])?,
        "CLOSE" => {
            let name = found.get(1).ok_or_else(|| unfinished("CLOSE"))?;
            Command::CloseCursor { name: (!name.is("ALL")).then(|| name.name()) }
        }
        "COPY" => super::copy::read(statement)?,
        _ => Command::Ask(statement.to_owned()),
    })
}

fn unfinished(what: &str) -> PostgresError {
    PostgresError::new("42601", format!("{what} ends too early"))
}

/// `SET [SESSION | LOCAL] name { = | TO } value`, `SET TIME ZONE value`, `SET TRANSACTION …`.
fn set(found: &[Word<'_>]) -> Result<Command, PostgresError> {
    let scoped = found.first().is_some_and(|word| word.is("SESSION") || word.is("LOCAL"));
    let local = scoped && found[0].is("LOCAL");
    let found = if scoped { &found[1..] } else { found };
    let is = |place: usize, word: &str| found.get(place).is_some_and(|found: &Word<'_>| found.is(word));
    if is(0, "TRANSACTION") || is(0, "CHARACTERISTICS") {
        return Ok(Command::SetTransaction);
    }
    let (name, rest) = match found {
        _ if is(0, "TIME") && is(1, "ZONE") => ("timezone".to_owned(), &found[2..]),
        _ if is(0, "NAMES") => ("client_encoding".to_owned(), &found[1..]),
        [name, sign, ..] if sign.is("=") || sign.is("TO") => (name.name(), &found[2..]),
        _ => return Err(PostgresError::new("42601", "SET is written SET name = value")),
    };
    if rest.is_empty() {
        return Err(unfinished("SET"));
    }
    let value: String = match rest {
        [value] if value.is("DEFAULT") => return Ok(Command::Set { name, value: None, local }),
        values => values.iter().map(|word| if word.is(",") { ", ".to_owned() } else { word.text() }).collect(),
    };
    Ok(Command::Set { name, value: Some(value), local })
}

/// The setting that is to be shown, if it is one of the session.
fn show(found: &[Word<'_>]) -> Option<String> {
    let is = |place: usize, word: &str| found.get(place).is_some_and(|found: &Word<'_>| found.is(word));
    match found {
        [name] => {
            let name = name.name();
            super::settings::is_known(&name).then_some(name)
        }
        _ if is(0, "TIME") && is(1, "ZONE") => Some("timezone".to_owned()),
        _ if is(0, "TRANSACTION") && is(1, "ISOLATION") => Some("transaction_isolation".to_owned()),
        _ if is(0, "SESSION") && is(1, "AUTHORIZATION") => Some("session_authorization".to_owned()),
        _ => None,
    }
}

/// `DECLARE name [BINARY] [INSENSITIVE] [[NO] SCROLL] CURSOR [WITH HOLD | WITHOUT HOLD] FOR question`.
fn declare(statement: &str) -> Result<Command, PostgresError> {
    let found = located(statement, WORDS_MOST);
    let (Some((name, _)), Some((_, end))) = (found.get(1), found.iter().find(|(word, _)| word.is("FOR"))) else {
        return Err(PostgresError::new("42601", "a cursor is written DECLARE name CURSOR FOR SELECT …"));
    };
    Ok(Command::Declare { cursor: name.name(), question: statement[*end..].to_owned() })
}

/// `FETCH [FORWARD] [NEXT | ALL | n] [FROM | IN] name`.
fn fetch(found: &[Word<'_>]) -> Result<Command, PostgresError> {
    let mut rows_max = 1;
    let Some((name, before)) = found.split_last() else { return Err(unfinished("FETCH")) };
    for word in before {
        match word {
            word if word.is("FORWARD") || word.is("NEXT") || word.is("FROM") || word.is("IN") => {}
            word if word.is("ALL") => rows_max = 0,
            word => {
                let refuse = || {
                    PostgresError::new("0A000", format!("FETCH {} is not answered here", word.text()))
                        .with_hint("a cursor only goes forward: FETCH FORWARD n FROM name")
                };
                rows_max = word.text().parse::<usize>().ok().filter(|count| *count > 0).ok_or_else(refuse)?;
            }
        }
    }
    Ok(Command::Fetch { cursor: name.name(), rows_max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_sorted() {
        let set = |name: &str, value: &str| Command::Set { name: name.into(), value: Some(value.into()), local: false };
        for (sql, expected) in [
            ("begin isolation level repeatable read", Command::Begin { tag: "BEGIN" }),
            ("START TRANSACTION READ ONLY", Command::Begin { tag: "START TRANSACTION" }),
            ("ROLLBACK TO SAVEPOINT a", Command::RollbackToSavepoint),
            ("ROLLBACK", Command::Rollback),
            ("SET extra_float_digits = 3", set("extra_float_digits", "3")),
            ("SET SESSION search_path TO public, \"$user\"", set("search_path", "public, $user")),
            ("set DateStyle='ISO'", set("datestyle", "ISO")),
            ("SET TIME ZONE 'UTC'", set("timezone", "UTC")),
            ("SET NAMES 'UTF8'", set("client_encoding", "UTF8")),
            ("SET x TO DEFAULT", Command::Set { name: "x".into(), value: None, local: false }),
            (
                "SET LOCAL statement_timeout = E'5\\x73'",
                Command::Set { name: "statement_timeout".into(), value: Some("5s".into()), local: true },
            ),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Command::SetTransaction),
            ("SHOW transaction isolation level", Command::Show { name: "transaction_isolation".into() }),
            ("SHOW server_version", Command::Show { name: "server_version".into() }),
            ("SHOW TABLES", Command::Ask("SHOW TABLES".into())),
            ("DEALLOCATE PREPARE \"S_1\"", Command::Deallocate { name: Some("S_1".into()) }),
            ("DEALLOCATE ALL", Command::Deallocate { name: None }),
            (
                "DECLARE c NO SCROLL CURSOR WITHOUT HOLD FOR SELECT 1",
                Command::Declare { cursor: "c".into(), question: " SELECT 1".into() },
            ),
            ("FETCH FORWARD 100 FROM c", Command::Fetch { cursor: "c".into(), rows_max: 100 }),
            ("FETCH ALL IN c", Command::Fetch { cursor: "c".into(), rows_max: 0 }),
            ("(SELECT 1)", Command::Ask("(SELECT 1)".into())),
        ] {
            assert_eq!(sorted(sql), Ok(expected), "{sql}");
        }
        for (sql, state) in [("SET x", "42601"), ("FETCH BACKWARD 1 FROM c", "0A000"), ("DECLARE c", "42601")] {
            assert_eq!(sorted(sql).expect_err(sql).state, state, "{sql}");
        }
    }
}
