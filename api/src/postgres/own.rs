//! What belongs to a session and its questions look at too: its number, and what it has set.
//!
//! A question sets by `set_config(…)` while it runs, on a thread of its own; the session heeds what is set from its next statement on.

use std::time::Duration;

use parking_lot::Mutex;
use streamgauge_queries::{AskOptions, ClientSession, OwnLimits, SessionNumber};

use super::error::PostgresError;
use super::settings::{SetBack, Settings};

/// See the module.
#[derive(Debug)]
pub(super) struct Own {
    number: SessionNumber,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    settings: Settings,
    /// What is set back at the end of the transaction.
    set_back: SetBack,
}

impl Own {
    pub(super) fn new(number: SessionNumber) -> Self {
        Own { number, kept: Mutex::default() }
    }

    /// A transaction begins.
    pub(super) fn begin(&self) {
        let Kept { settings, set_back } = &mut *self.kept.lock();
        set_back.begin(settings);
    }

    /// The transaction ends.
    pub(super) fn end(&self, committed: bool) {
        let Kept { settings, set_back } = &mut *self.kept.lock();
        set_back.end(settings, committed);
    }

    /// Sets, or with `None` sets back, as [`Settings::set`] does; for the transaction alone if `local`.
    pub(super) fn set(
        &self,
        name: &str,
        value: Option<&str>,
        local: bool,
    ) -> Result<Option<&'static str>, PostgresError> {
        let Kept { settings, set_back } = &mut *self.kept.lock();
        set_back.set(settings, name, value, local);
        settings.set(name, value)
    }

    /// Sets all back.
    pub(super) fn reset(&self) {
        self.kept.lock().settings.reset();
    }

    /// The value of a setting.
    pub(super) fn get(&self, name: &str) -> String {
        self.kept.lock().settings.get(name)
    }

    /// All settings with their values.
    pub(super) fn all(&self) -> Vec<(&'static str, String)> {
        self.kept.lock().settings.all()
    }

    /// How its questions are asked.
    pub(super) fn options(&self) -> AskOptions {
        self.kept.lock().settings.options
    }

    /// The bounds of its questions, as far as it has lowered them.
    pub(super) fn limits(&self) -> OwnLimits {
        self.kept.lock().settings.limits
    }

    /// For how long a statement may run, if less than a question may.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.kept.lock().settings.timeout
    }
}

impl ClientSession for Own {
    fn number(&self) -> SessionNumber {
        self.number
    }

    fn setting(&self, name: &str) -> Option<String> {
        super::settings::is_known(name).then(|| self.get(name))
    }

    fn set(&self, name: &str, value: Option<&str>, local: bool) -> Result<(), String> {
        let Kept { settings, set_back } = &mut *self.kept.lock();
        if local && !set_back.is_open() {
            // It would be set back at once, with the end of this statement; only whether it could be set matters.
            return settings.clone().set(name, value).map(drop).map_err(told);
        }
        set_back.set(settings, name, value, local);
        settings.set(name, value).map(drop).map_err(told)
    }
}

/// An error as a question tells it: what is wrong, and what would help.
fn told(error: PostgresError) -> String {
    match error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_question_sets_ends_with_the_transaction_as_what_a_statement_sets() {
        let own = Own::new(SessionNumber::nth(0));
        let set = |value: &str, local| ClientSession::set(&own, "statement_timeout", Some(value), local);
        assert_eq!((set("5s", true), own.timeout()), (Ok(()), None), "there is no transaction");
        assert_eq!((set("5s", false), own.timeout()), (Ok(()), Some(Duration::from_secs(5))));
        own.begin();
        assert_eq!((set("6s", true), own.timeout()), (Ok(()), Some(Duration::from_secs(6))));
        own.end(true);
        assert_eq!(own.setting("Statement_Timeout").as_deref(), Some("5s"));
        own.begin();
        assert_eq!(set("7s", false), Ok(()));
        own.end(false);
        assert_eq!(own.timeout(), Some(Duration::from_secs(5)));
        assert!(set("soon", true).unwrap_err().contains("a time such as"));
        let unknown = ClientSession::set(&own, "my.thing", Some("1"), false).unwrap_err();
        assert!(unknown.contains("no setting \"my.thing\"; the settings of questions are"), "{unknown}");
        assert_eq!(own.setting("my.thing"), None);
    }
}
