//! What a session has set: how its questions are asked, and settings that only clients care about.
//!
//! Settings that would change how values are written are kept at what is written here (UTF-8, UTC, ISO dates), so that
//! a client is never told something that is not so.

use std::collections::BTreeMap;
use std::time::Duration;

use streamgauge_queries::asker::{MEMORY, ROWS, TIMEOUT};
use streamgauge_queries::{AskOptions, OwnLimits, postgres};
use streamgauge_schemas::Epoch;

use super::error::PostgresError;

/// Settings beside those of [`postgres::SETTINGS`] that are taken and change nothing.
const HARMLESS: [&str; 22] = [
    "client_min_messages",
    "default_table_access_method",
    "default_tablespace",
    "default_transaction_deferrable",
    "force_parallel_mode",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "jit",
    "lock_timeout",
    "max_parallel_workers_per_gather",
    "plan_cache_mode",
    "quote_all_identifiers",
    "row_security",
    "session_authorization",
    "statement_mem",
    "synchronize_seqscans",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "transaction_timeout",
    "work_mem",
    "xmloption",
];
const EPOCH: &str = "streamgauge.epoch";
const PARTIAL: &str = "streamgauge.partial";
const PUSHDOWN: &str = "streamgauge.pushdown";

/// Whether a setting can be set and shown.
pub(super) fn is_known(name: &str) -> bool {
    let name = name.to_lowercase();
    matches!(name.as_str(), EPOCH | PARTIAL | PUSHDOWN | MEMORY | ROWS)
        || HARMLESS.contains(&name.as_str())
        || name.starts_with("enable_")
        || postgres::setting(&name).is_some()
}

/// What is set back at the end of a transaction.
#[derive(Debug, Default)]
pub(super) struct SetBack {
    /// To these, when it is rolled back.
    before: Option<Settings>,
    /// To these, when it is committed: what was set `LOCAL` in it is not among them.
    without_local: Option<Settings>,
}

impl SetBack {
    /// Whether there is a transaction.
    pub(super) fn is_open(&self) -> bool {
        self.before.is_some()
    }

    /// A transaction begins.
    pub(super) fn begin(&mut self, settings: &Settings) {
        self.before.get_or_insert_with(|| settings.clone());
    }

    /// Something is about to be set, for the transaction alone if `local`.
    pub(super) fn set(&mut self, settings: &Settings, name: &str, value: Option<&str>, local: bool) {
        if local {
            self.without_local.get_or_insert_with(|| settings.clone());
        } else if let Some(lasting) = &mut self.without_local {
            let _ = lasting.set(name, value); // the session's own are set the same way, and say what is wrong
        }
    }

    /// The transaction ends.
    pub(super) fn end(&mut self, settings: &mut Settings, committed: bool) {
        let SetBack { before, without_local } = std::mem::take(self);
        if let Some(to) = if committed { without_local } else { before } {
            *settings = to;
        }
    }
}

/// The settings of one session.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    values: BTreeMap<String, String>,
    /// How its questions are asked.
    pub(super) options: AskOptions,
    /// The bounds of its questions, as far as it has lowered them.
    pub(super) limits: OwnLimits,
    /// For how long a statement may run, if less than a question may; the session ends it, and says so as PostgreSQL does.
    pub(super) timeout: Option<Duration>,
}

impl Settings {
    /// Sets, or with `None` sets back; answers with what the client should be told, if anything.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>) -> Result<Option<&'static str>, PostgresError> {
        let name = name.to_lowercase();
        if !is_known(&name) {
            return Err(PostgresError::new("42704", format!("there is no setting {name:?}")).with_hint(format!(
                "the settings of questions are {EPOCH}, {PARTIAL}, {PUSHDOWN}, {TIMEOUT}, {MEMORY} and {ROWS}; those of PostgreSQL's clients are taken"
            )));
        }
        let wrong = |value: &str, expected: &str| {
            PostgresError::new("22023", format!("{name} must be set to {expected}, and {value:?} is not"))
        };
        let mut told = None;
        match (name.as_str(), value) {
            (EPOCH, value) => {
                let read = |text: &str| text.parse().map(Epoch).map_err(|_| wrong(text, "an epoch from an answer"));
                self.options.min_epoch = value.map(read).transpose()?;
            }
            (PARTIAL, value) => {
                let read = |text: &str| truth(text).ok_or_else(|| wrong(text, "true or false"));
                self.options.partial = value.map(read).transpose()?.unwrap_or_default();
            }
            (PUSHDOWN, value) => {
                let read = |text: &str| truth(text).ok_or_else(|| wrong(text, "true or false"));
                self.options.unpushed = !value.map(read).transpose()?.unwrap_or(true);
            }
            (TIMEOUT | MEMORY | ROWS, value) => {
                let mut limits = OwnLimits { time_max: self.timeout, ..self.limits };
                if let Some(Err(expected)) = limits.set(&name, value) {
                    return Err(wrong(value.unwrap_or_default(), expected));
                }
                self.timeout = limits.time_max.take();
                self.limits = limits;
            }
            ("client_encoding", Some(value)) => {
                let plain: String = value.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
                if !matches!(plain.as_str(), "utf8" | "unicode" | "sqlascii") {
                    return Err(wrong(value, "UTF8, which everything is written in"));
                }
                return Ok(None);
            }
            ("timezone", Some(value)) => {
                let utc = ["utc", "etc/utc", "gmt", "etc/gmt", "z", "0", "+00", "+00:00"];
                return Ok((!utc.contains(&value.to_lowercase().as_str())).then_some("times are written in UTC"));
            }
            ("datestyle", Some(value)) => {
                let iso = value.to_lowercase().contains("iso");
                return Ok((!iso).then_some("dates are written in the style ISO"));
            }
            ("server_version" | "server_version_num" | "server_encoding" | "integer_datetimes" | "is_superuser", _) => {
                return Err(PostgresError::new("55P02", format!("{name} cannot be changed")));
            }
            ("bytea_output" | "intervalstyle" | "standard_conforming_strings", _) => {
                told = Some("it is kept at what values are written in");
            }
            _ => {}
        }
        match value {
            Some(value) if told.is_none() => self.values.insert(name, value.to_owned()),
            _ => self.values.remove(&name),
        };
        Ok(told)
    }

    /// Sets all back.
    pub(super) fn reset(&mut self) {
        *self = Settings::default();
    }

    /// The value of a setting.
    pub(super) fn get(&self, name: &str) -> String {
        let name = name.to_lowercase();
        let own = self.values.get(&name).map(String::as_str);
        let default = match name.as_str() {
            EPOCH | MEMORY | ROWS => "0",
            PARTIAL => "off",
            PUSHDOWN => "on",
            "session_authorization" => postgres::ROLE,
            name => postgres::setting(name).unwrap_or_default(),
        };
        own.unwrap_or(default).to_owned()
    }

    /// All that PostgreSQL's clients know, and ours, with their values.
    pub(super) fn all(&self) -> Vec<(&'static str, String)> {
        let names = postgres::SETTINGS.iter().map(|(name, _)| *name).chain([EPOCH, PARTIAL, PUSHDOWN, MEMORY, ROWS]);
        names.map(|name| (name, self.get(name))).collect()
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Some(true),
        "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_kept_for_the_session() {
        let mut settings = Settings::default();
        settings.set("StreamGauge.Epoch", Some("17")).expect("an epoch");
        settings.set("streamgauge.partial", Some("on")).expect("a truth");
        settings.set("statement_timeout", Some("2s")).expect("a time");
        assert_eq!(settings.options, AskOptions { min_epoch: Some(Epoch(17)), partial: true, ..AskOptions::default() });
        assert_eq!(settings.timeout, Some(Duration::from_secs(2)));
        assert_eq!(
            (settings.get("streamgauge.epoch").as_str(), settings.get("DateStyle").as_str()),
            ("17", "ISO, MDY")
        );
        settings.set("streamgauge.epoch", None).expect("it is set back");
        settings.set("statement_timeout", Some("0")).expect("there is none");
        assert_eq!((settings.options.min_epoch, settings.timeout), (None, None));
        settings.set("streamgauge.rows_max", Some("5")).expect("a number");
        assert_eq!((settings.limits.rows_max, settings.get("streamgauge.rows_max")), (Some(5), "5".into()));
        settings.reset();
        assert!(!settings.options.partial && settings.limits == OwnLimits::default());
    }

    #[test]
    fn a_transaction_sets_back_what_was_set_in_it() {
        for (committed, expected) in [(true, ["20", "3"]), (false, ["10", "1"])] {
            let (mut settings, mut set_back) = (Settings::default(), SetBack::default());
            let set = |set_back: &mut SetBack, settings: &mut Settings, name: &str, value: &str, local: bool| {
                set_back.set(settings, name, Some(value), local);
                settings.set(name, Some(value)).expect(name);
            };
            set(&mut SetBack::default(), &mut settings, "statement_timeout", "10", false);
            set(&mut SetBack::default(), &mut settings, "streamgauge.rows_max", "1", false);
            set_back.begin(&settings);
            set(&mut set_back, &mut settings, "statement_timeout", "20", false);
            set(&mut set_back, &mut settings, "streamgauge.rows_max", "2", true);
            set(&mut set_back, &mut settings, "statement_timeout", "30", true);
            set(&mut set_back, &mut settings, "streamgauge.rows_max", "3", false);
            assert_eq!(settings.get("statement_timeout"), "30");
            set_back.end(&mut settings, committed);
            assert_eq!(["statement_timeout", "streamgauge.rows_max"].map(|name| settings.get(name)), expected);
            assert_eq!(settings.limits.rows_max.map(|rows| rows.to_string()).as_deref(), Some(expected[1]));
        }
    }

    #[test]
    fn what_is_written_otherwise_is_refused_or_said() {
        let mut settings = Settings::default();
        for (name, value, state) in [
            ("streamgauge.epoch", "now", "22023"),
            ("client_encoding", "LATIN1", "22023"),
            ("server_version", "9", "55P02"),
            ("streamgauge.rows_max", "many", "22023"),
            ("statement_timeout", "soon", "22023"),
            ("no_such_thing", "1", "42704"),
        ] {
            assert_eq!(settings.set(name, Some(value)).expect_err(name).state, state);
        }
        assert_eq!(settings.set("TimeZone", Some("Europe/Berlin")), Ok(Some("times are written in UTC")));
        assert_eq!(settings.set("TimeZone", Some("UTC")), Ok(None));
        assert_eq!(
            (settings.set("client_encoding", Some("utf-8")), settings.get("timezone")),
            (Ok(None), "UTC".into())
        );
    }
}
