//! What can be set about the server: flags before environment before file before defaults.
//!
//! # Layout
//!
//! - `args`: flags and variables; `check`: what makes sense.
//! - `settings`: all of it as a list, for `system.settings`.

mod args;
mod check;
mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use streamgauge_queries::QueryLimits;
use streamgauge_queries::system::Setting;
use streamgauge_schemas::Duration;

pub(crate) use args::ServeArgs;

/// Where to listen for clients of PostgreSQL, or of Flight SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum PgAddress {
    /// Here.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl FromStr for PgAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(PgAddress::Off),
            address => address
                .parse()
                .map(PgAddress::At)
                .map_err(|_| format!("{address:?} is neither an address with a port, such as 127.0.0.1:5433, nor off")),
        }
    }
}

impl TryFrom<String> for PgAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PgAddress> for String {
    fn from(address: PgAddress) -> Self {
        match address {
            PgAddress::At(address) => address.to_string(),
            PgAddress::Off => "off".to_owned(),
        }
    }
}

/// How log lines are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings, each with a value.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) http: SocketAddr,
    pub(crate) http_hosts: Vec<String>,
    pub(crate) pg: PgAddress,
    pub(crate) pg_password: Option<String>,
    pub(crate) pg_tls_cert: Option<PathBuf>,
    pub(crate) pg_tls_key: Option<PathBuf>,
    pub(crate) pg_connections_max: usize,
    pub(crate) flight: PgAddress,
    pub(crate) flight_password: Option<String>,
    pub(crate) flight_tls_cert: Option<PathBuf>,
    pub(crate) flight_tls_key: Option<PathBuf>,
    pub(crate) flight_connections_max: usize,
    pub(crate) allow_remote: bool,
    pub(crate) workers: usize,
    pub(crate) clickhouse_url: Option<String>,
    pub(crate) clickhouse_user: String,
    pub(crate) clickhouse_password: String,
    pub(crate) clickhouse_database: String,
    pub(crate) clickhouse_library: Option<PathBuf>,
    pub(crate) clickhouse_binary: Option<PathBuf>,
    pub(crate) clickhouse_port: Option<u16>,
    pub(crate) clickhouse_memory_bytes_max: u64,
    pub(crate) body_bytes_max: usize,
    pub(crate) skew_max: Duration,
    pub(crate) pending_bytes_max: usize,
    pub(crate) state_bytes_max: usize,
    pub(crate) recent_bytes_max: usize,
    pub(crate) cache_bytes_max: usize,
    pub(crate) backfill_step_events: usize,
    pub(crate) log_bytes_max: u64,
    pub(crate) log_segment_bytes_max: u64,
    pub(crate) inflight_bytes_max: usize,
    pub(crate) requests_max: usize,
    pub(crate) idempotency_window: Duration,
    pub(crate) idempotency_keys_max: usize,
    pub(crate) series_max: usize,
    pub(crate) query_timeout: Duration,
    pub(crate) query_memory_bytes_max: usize,
    pub(crate) user_query_memory_bytes_max: Option<usize>,
    pub(crate) query_rows_max: Option<usize>,
    pub(crate) queries_max: usize,
    pub(crate) user_queries_max: Option<usize>,
    pub(crate) rows_max: usize,
    pub(crate) stop_timeout: Duration,
    pub(crate) log_sync: bool,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    /// All of these, as `system.settings` shows them.
    #[serde(skip)]
    pub(crate) settings: Vec<Setting>,
}

impl Default for Config {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Config {
            data_dir: "./data".into(),
            http: SocketAddr::from(([127, 0, 0, 1], 8080)),
            http_hosts: Vec::new(),
            pg: PgAddress::At(SocketAddr::from(([127, 0, 0, 1], 5433))),
            pg_password: None,
            pg_tls_cert: None,
            pg_tls_key: None,
            pg_connections_max: 100,
            flight: PgAddress::At(SocketAddr::from(([127, 0, 0, 1], 50_051))),
            flight_password: None,
            flight_tls_cert: None,
            flight_tls_key: None,
            flight_connections_max: 100,
            allow_remote: false,
            workers: (processors / 2).clamp(1, 4),
            clickhouse_url: None,
            clickhouse_user: "default".into(),
            clickhouse_password: String::new(),
            clickhouse_database: streamgauge_sinks::DEFAULT_DATABASE.into(),
            clickhouse_library: None,
            clickhouse_binary: None,
            clickhouse_port: None,
            clickhouse_memory_bytes_max: 4 << 30,
            body_bytes_max: 64 << 20,
            skew_max: Duration::from_secs(600),
            pending_bytes_max: 1 << 30,
            state_bytes_max: 2 << 30,
            recent_bytes_max: 256 << 20,
            cache_bytes_max: 64 << 20,
            backfill_step_events: 500_000,
            log_bytes_max: 8 << 30,
            log_segment_bytes_max: 64 << 20,
            inflight_bytes_max: 512 << 20,
            requests_max: 1_024,
            idempotency_window: Duration::from_secs(86_400),
            idempotency_keys_max: 1_000_000,
            series_max: 1_000_000,
            query_timeout: Duration::from_secs(60),
            query_memory_bytes_max: 1 << 30,
            user_query_memory_bytes_max: None,
            query_rows_max: None,
            queries_max: 16,
            user_queries_max: None,
            rows_max: 100_000,
            stop_timeout: Duration::from_secs(30),
            log_sync: true,
            log: "info".into(),
            log_format: LogFormat::Text,
            settings: Vec::new(),
        }
    }
}

impl ServeArgs {
    /// Puts the settings together and checks them.
    pub(crate) fn resolve(self) -> anyhow::Result<Config> {
        let defaults = Figment::from(Serialized::defaults(Config::default()));
        let mut file = Figment::new();
        if let Some(path) = &self.config {
            anyhow::ensure!(path.is_file(), "the configuration file {} is not there", path.display());
            file = file.merge(Toml::file_exact(path));
        }
        let figment = defaults.merge(&file).merge(Serialized::defaults(&self));
        let config: Config = figment.extract().context("the settings do not make sense")?;
        config.check()?;
        let settings = settings::list(&config, &self, &file);
        Ok(Config { settings, ..config })
    }
}

impl Config {
    /// The memory that the queries of one user may use.
    pub(crate) fn user_query_memory_bytes_max(&self) -> usize {
        self.user_query_memory_bytes_max.unwrap_or(QueryLimits::share(self.query_memory_bytes_max))
    }

    /// The queries of one user that may run at a time.
    pub(crate) fn user_queries_max(&self) -> usize {
        self.user_queries_max.unwrap_or(QueryLimits::share(self.queries_max))
    }
}

#[cfg(test)]
mod tests;
