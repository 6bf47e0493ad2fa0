//! The settings as a list, each with its value and where that came from. Descriptions are those of the command line, so no
//! setting is forgotten. What is secret is not shown.

use std::collections::HashMap;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use figment::Figment;
use serde_json::Value;
use streamgauge_queries::system::Setting;

use super::{Config, ServeArgs};

/// Settings that are secret.
const SECRETS: [&str; 3] = ["pg_password", "flight_password", "clickhouse_password"];

/// Where settings of a command line came from, by their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources(HashMap<String, &'static str>);

impl Sources {
    pub(super) fn of(matches: &ArgMatches) -> Self {
        let source = |id: &clap::Id| {
            let source = match matches.value_source(id.as_str())? {
                ValueSource::CommandLine => "flag",
                ValueSource::EnvVariable => "env",
                _ => return None,
            };
            Some((id.to_string(), source))
        };
        Sources(matches.ids().filter_map(source).collect())
    }
}

/// All settings; `file` has those of the configuration file.
pub(super) fn list(config: &Config, args: &ServeArgs, file: &Figment) -> Vec<Setting> {
    let (values, defaults) = (json(config), json(&Config::default()));
    let setting = |arg: &Arg| {
        let name = arg.get_id().to_string();
        let value = match name.as_str() {
            "config" => args.config.as_ref().map(|path| path.display().to_string()),
            "user_query_memory_bytes_max" => Some(config.user_query_memory_bytes_max().to_string()),
            "user_queries_max" => Some(config.user_queries_max().to_string()),
            name => shown(name, &values[name]),
        };
        let source = match args.sources.0.get(&name) {
            Some(source) => *source,
            None if file.contains(&name) => "file",
            None => "default",
        };
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let description = help.split(" [default: ").next().unwrap_or_default().to_owned();
        Setting {
            value,
            default: shown(&name, &defaults[&name]),
            source,
            flag: arg.get_long().map(|flag| format!("--{flag}")).unwrap_or_default(),
            variable: arg.get_env().map(|variable| variable.to_string_lossy().into_owned()).unwrap_or_default(),
            description,
            name,
        }
    };
    let command = ServeArgs::augment_args(Command::new("serve"));
    command.get_arguments().filter(|arg| arg.get_env().is_some()).map(setting).collect()
}

fn json(config: &Config) -> Value {
    serde_json::to_value(config).expect("settings are names with plain values")
}

fn shown(name: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => {
            let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            Some(texts.join(","))
        }
        _ if SECRETS.contains(&name) => Some("***".to_owned()),
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::super::tests::Cli;
    use super::*;

    #[test]
    fn each_setting_says_where_it_came_from_and_secrets_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("streamgauge.toml");
        std::fs::write(
            &file,
            "skew_max = \"1h\"\nqueries_max = 8\nclickhouse_password = \"secret\"\nflight_password = \"x\"\n",
        )
        .unwrap();
        let arguments = ["serve", "--config", file.to_str().unwrap(), "--workers", "2"];
        let matches = Cli::command().get_matches_from(arguments);
        let cli = Cli::from_arg_matches(&matches).unwrap();
        let config = cli.serve.given_by(Some(&matches)).resolve().unwrap();
        let found = |name: &str| {
            let setting = config.settings.iter().find(|setting| setting.name == name).expect(name);
            (setting.value.as_deref(), setting.default.as_deref(), setting.source)
        };
        let default_workers = Config::default().workers.to_string();
        assert_eq!(found("workers"), (Some("2"), Some(default_workers.as_str()), "flag"));
        assert_eq!(found("skew_max"), (Some("1h"), Some("10m"), "file"));
        assert_eq!(found("queries_max"), (Some("8"), Some("16"), "file"));
        assert_eq!(found("user_queries_max"), (Some("6"), None, "default"));
        assert_eq!(found("query_timeout"), (Some("1m"), Some("1m"), "default"));
        assert_eq!(found("clickhouse_password"), (Some("***"), None, "file"));
        assert_eq!(found("flight_password"), (Some("***"), None, "file"));
        assert_eq!(found("pg_password"), (None, None, "default"));
        assert_eq!(found("config"), (file.to_str(), None, "flag"));
        let all = serde_json::to_value(Config::default()).unwrap();
        let names: Vec<&str> = config.settings.iter().map(|setting| setting.name.as_str()).collect();
        for name in all.as_object().unwrap().keys() {
            assert!(names.contains(&name.as_str()), "{name}");
        }
        let described = |setting: &Setting| {
            !setting.description.is_empty()
                && setting.flag.starts_with("--")
                && setting.variable.starts_with("STREAMGAUGE_")
        };
        assert!(config.settings.iter().all(described), "{:?}", config.settings);
        let pg = config.settings.iter().find(|setting| setting.name == "http").unwrap();
        assert_eq!(pg.description, "Where to listen for HTTP; port 0 takes a free one");
    }
}
