//! What the shell's session has set. Over HTTP nothing outlives a statement, so it is sent before each; the epoch and whether
//! answers may be partial go beside it.
//!
//! What a value may be is the server's to say, which is asked when one is set.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use streamgauge_queries::asker::{MEMORY, ROWS, TIMEOUT};

use crate::client::error::Problem;
use crate::postgres::{Word, words};

const EPOCH: &str = "streamgauge.epoch";
const PARTIAL: &str = "streamgauge.partial";
const PUSHDOWN: &str = "streamgauge.pushdown";
/// What begins the names of most.
const OURS: &str = "streamgauge.";

/// The settings that there are, each with what it is when nobody set it.
const DEFAULTS: [(&str, &str); 6] =
    [(EPOCH, "0"), (PARTIAL, "false"), (PUSHDOWN, "true"), (TIMEOUT, "0"), (MEMORY, "0"), (ROWS, "0")];
/// Statements that are carried out, before which there are no settings.
const BARE: [&str; 4] = ["CREATE", "DROP", "ALTER", "SHOW"];

/// A statement about what is set; anything else is the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// Set, or with `None` set back.
    One {
        name: String,
        value: Option<String>,
    },
    /// `RESET ALL`.
    ResetAll,
    Show(String),
    ShowAll,
}

impl Setting {
    /// Reads `SET [SESSION] name { = | TO } value`, `RESET name`, `SHOW name` and the same of `ALL`.
    pub(super) fn read(statement: &str) -> Option<Self> {
        let found = words(statement, 16);
        let is = |place: usize, word: &str| found.get(place).is_some_and(|found: &Word<'_>| found.is(word));
        let one = |name: &Word<'_>, value| Some(Setting::One { name: name.name(), value });
        match &found[..] {
            [_, _] if is(0, "RESET") && is(1, "ALL") => Some(Setting::ResetAll),
            [_, name] if is(0, "RESET") => one(name, None),
            [_, _] if is(0, "SHOW") && is(1, "ALL") => Some(Setting::ShowAll),
            [_, name] if is(0, "SHOW") && default(&name.name()).is_some() => Some(Setting::Show(name.name())),
            [_, rest @ ..] if is(0, "SET") => Setting::set(if is(1, "SESSION") { &rest[1..] } else { rest }),
            _ => None,
        }
    }

    /// Reads `name { = | TO } value`.
    fn set(found: &[Word<'_>]) -> Option<Self> {
        let to = found.iter().position(|word| word.is("=") || word.is("TO"))?;
        let (name, value) = (&found[..to], &found[to + 1..]);
        let is_name = to == 1 || (to == 3 && name[1].is(".")); // in quotes, a part at a time
        let name = name.iter().map(Word::name).collect();
        match value {
            [] => None,
            _ if !is_name => None,
            [only] if only.is("DEFAULT") => Some(Setting::One { name, value: None }),
            parts => Some(Setting::One { name, value: Some(parts.iter().map(Word::text).collect()) }),
        }
    }

    /// What `\set` and `\unset` name: what begins all names can be left out there.
    pub(super) fn named(name: &str, value: Option<String>) -> Self {
        let name = name.to_lowercase();
        let full = format!("{OURS}{name}");
        let name = if default(&full).is_some() { full } else { name };
        Setting::One { name, value }
    }
}

/// The names that `\set` takes.
pub(super) fn names() -> impl Iterator<Item = String> {
    DEFAULTS.iter().map(|(name, _)| name.strip_prefix(OURS).unwrap_or(name).to_owned())
}

fn default(name: &str) -> Option<&'static str> {
    DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    values: BTreeMap<String, String>,
    /// Every answer has everything up to this epoch.
    pub(super) epoch: Option<u64>,
    /// Whether an answer from memory alone is better than none.
    pub(super) partial: bool,
}

impl Settings {
    /// Sets, or with `None` sets back.
    ///
    /// # Errors
    /// What an epoch or a truth is, of one that is not, and what can be set back; other values are looked at by the server.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) -> anyhow::Result<()> {
        match (name, value.map(str::to_lowercase).as_deref()) {
            (EPOCH, None) => self.epoch = None,
            (EPOCH, Some(value)) => {
                let wrong = || format!("epoch is a whole number from an acknowledgement, and {value} is not");
                self.epoch = Some(value.parse().ok().with_context(wrong)?);
            }
            (PARTIAL, None | Some("false" | "off")) => self.partial = false,
            (PARTIAL, Some("true" | "on")) => self.partial = true,
            (PARTIAL, Some(value)) => bail!("partial is true or false, and {value} is not"),
            (name, None) if default(name).is_none() => {
                let known: Vec<&str> = DEFAULTS.iter().map(|(known, _)| *known).collect();
                bail!("there is no setting {name:?}; there are {}", known.join(", "))
            }
            _ => {}
        }
        match value {
            Some(value) => self.values.insert(name.to_owned(), value.to_owned()),
            None => self.values.remove(name),
        };
        Ok(())
    }

    /// The question by which the server looks at a value, unless it need not.
    pub(super) fn check(name: &str, value: Option<&str>) -> Option<Value> {
        let value = value.filter(|_| ![EPOCH, PARTIAL].contains(&name))?;
        Some(json!({ "sql": format!("{} SELECT 1", assignment(name, value)) }))
    }

    /// A statement with what is set before it, on lines of its own: so many.
    pub(super) fn before(&self, statement: &str) -> (String, usize) {
        let sent: Vec<String> = self
            .values
            .iter()
            .filter(|(name, _)| ![EPOCH, PARTIAL].contains(&name.as_str()))
            .map(|(name, value)| assignment(name, value))
            .collect();
        let is_bare = words(statement, 1).first().is_some_and(|first| BARE.iter().any(|word| first.is(word)));
        if is_bare || sent.is_empty() {
            return (statement.to_owned(), 0);
        }
        (
            format!("{}\n{statement}", sent.join(" ")),
            1 + sent.iter().map(|set| set.matches('\n').count()).sum::<usize>(),
        )
    }

    fn value(&self, name: &str) -> &str {
        self.values.get(name).map(String::as_str).or_else(|| default(name)).unwrap_or_default()
    }

    /// A question that answers the value of a setting, so that it is shown as answers are.
    pub(super) fn shown(&self, name: &str) -> String {
        format!("SELECT {} AS \"{name}\"", literal(self.value(name)))
    }

    /// A question that answers all names with their values.
    pub(super) fn all_shown(&self) -> String {
        let row = |(name, value): (&str, &str)| format!("({}, {})", literal(name), literal(value));
        let rows: Vec<String> = self.all().map(row).collect();
        format!("SELECT * FROM (VALUES {}) AS settings (name, setting)", rows.join(", "))
    }

    /// All names with their values.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        DEFAULTS.iter().map(|(name, _)| (*name, self.value(name)))
    }
}

/// Whether a refusal is one of the value that was set, and not of the question after it.
pub(super) fn is_of_setting(problem: &Problem) -> bool {
    ["setting_unknown", "parameter_invalid", "sql_invalid"].contains(&problem.code.as_str())
}

/// A message of the server about a text before which lines were put, as if they had not been.
pub(super) fn moved_up(message: &str, lines: usize) -> String {
    const LINE: &str = "Line: ";
    let mut parts = message.split(LINE);
    let mut moved = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        match part[..digits].parse::<usize>() {
            Ok(line) if line > lines => moved += &format!("{LINE}{}{}", line - lines, &part[digits..]),
            _ => moved += &format!("{LINE}{part}"),
        }
    }
    moved
}

fn assignment(name: &str, value: &str) -> String {
    format!("SET {name} = {};", literal(value))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_settings_are_read() {
        let one = |name: &str, value: Option<&str>| {
            Some(Setting::One { name: name.to_owned(), value: value.map(str::to_owned) })
        };
        for (statement, expected) in [
            ("SET statement_timeout = '5s'", one(TIMEOUT, Some("5s"))),
            ("-- less\nset session Streamgauge.Rows_Max to 10", one(ROWS, Some("10"))),
            ("SET streamgauge.pushdown=false", one(PUSHDOWN, Some("false"))),
            ("SET streamgauge.rows_max = -1", one(ROWS, Some("-1"))),
            ("SET datafusion.x = 1", one("datafusion.x", Some("1"))),
            ("SET statement_timeout TO DEFAULT", one(TIMEOUT, None)),
            ("SET \"streamgauge\".\"rows_max\" = 3", one(ROWS, Some("3"))),
            ("RESET streamgauge.epoch", one(EPOCH, None)),
            ("RESET ALL", Some(Setting::ResetAll)),
            ("SHOW Statement_Timeout", Some(Setting::Show(TIMEOUT.to_owned()))),
            ("SHOW ALL", Some(Setting::ShowAll)),
            ("SHOW TABLES", None),
            ("SET TIME ZONE 'UTC'", None),
            ("SET LOCAL statement_timeout = 5", None),
            ("SET", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(Setting::read(statement), expected, "{statement}");
        }
        assert_eq!(Some(Setting::named("rows_max", Some("3".into()))), one(ROWS, Some("3")));
        assert_eq!(Some(Setting::named("Statement_timeout", None)), one(TIMEOUT, None));
    }

    #[test]
    fn what_is_set_stands_before_questions() {
        let mut settings = Settings::default();
        assert_eq!(settings.before("SELECT 1"), ("SELECT 1".to_owned(), 0));
        for (name, value) in [(EPOCH, "5"), (TIMEOUT, "it's"), (PUSHDOWN, "false")] {
            settings.set(name, Some(value)).unwrap();
        }
        let expected = "SET statement_timeout = 'it''s'; SET streamgauge.pushdown = 'false';\nSELECT 1";
        assert_eq!(settings.before("SELECT 1"), (expected.to_owned(), 1));
        assert_eq!(settings.before("/* new */ drop stream x"), ("/* new */ drop stream x".to_owned(), 0));
        assert_eq!(settings.epoch, Some(5));
        assert!(settings.set(EPOCH, Some("soon")).is_err() && settings.set(PARTIAL, Some("maybe")).is_err());
        assert_eq!(settings.shown(TIMEOUT), "SELECT 'it''s' AS \"statement_timeout\"");
        settings.set(TIMEOUT, None).unwrap();
        assert!(settings.all().any(|all| all == (TIMEOUT, "0")) && settings.all().any(|all| all == (EPOCH, "5")));
    }

    #[test]
    fn places_are_those_of_the_statement_as_it_was_written() {
        let message = "no field at Line: 3, Column: 8 (see Line: 1)";
        assert_eq!(moved_up(message, 1), "no field at Line: 2, Column: 8 (see Line: 1)");
        assert_eq!(moved_up(message, 0), message);
    }
}
