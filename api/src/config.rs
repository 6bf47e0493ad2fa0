//! What can be set about the server: flags before environment before file before defaults.
//!
//! # Layout
//!
//! - `settings`: all of it as a list, for `system.settings`.

mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use clap::{ArgMatches, Args};
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use streamgauge_queries::QueryLimits;
use streamgauge_queries::system::Setting;
use streamgauge_schemas::Duration;

use settings::Sources;

/// The settings of `streamgauge serve`; each may stand in the file of `--config` under its name with underscores.
#[derive(Args, Debug, Default, Serialize)]
pub(crate) struct ServeArgs {
    /// A TOML file with settings, such as `http = "127.0.0.1:8080"`.
    #[arg(long, env = "STREAMGAUGE_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Where the log and the embedded ClickHouse keep their data [default: ./data]
    #[arg(long, env = "STREAMGAUGE_DATA_DIR", value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// Where to listen for HTTP; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "STREAMGAUGE_HTTP", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<SocketAddr>,
    /// Where to listen for clients of PostgreSQL, such as psql and BI tools: an address, or `off` [default: 127.0.0.1:5433]
    #[arg(long, env = "STREAMGAUGE_PG", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pg: Option<PgAddress>,
    /// The password that clients of PostgreSQL must know; better given by the environment or the file than by the
    /// flag. Without one, --pg is on loopback only.
    #[arg(long, env = "STREAMGAUGE_PG_PASSWORD", value_name = "TEXT", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pg_password: Option<String>,
    /// A certificate in PEM, with those that vouch for it after it, for clients of PostgreSQL that ask for TLS.
    #[arg(long, env = "STREAMGAUGE_PG_TLS_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pg_tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(long, env = "STREAMGAUGE_PG_TLS_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pg_tls_key: Option<PathBuf>,
    /// Clients of PostgreSQL that are connected at a time; beyond it, they are told so [default: 100]
    #[arg(long, env = "STREAMGAUGE_PG_CONNECTIONS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pg_connections_max: Option<usize>,
    /// Where to listen for clients of Arrow Flight SQL, such as ADBC: an address, or `off` [default: 127.0.0.1:50051]
    #[arg(long, env = "STREAMGAUGE_FLIGHT", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    flight: Option<PgAddress>,
    /// The password that clients of Flight SQL must know, under any user name; better given by the environment or the
    /// file than by the flag. Without one, --flight is on loopback only.
    #[arg(long, env = "STREAMGAUGE_FLIGHT_PASSWORD", value_name = "TEXT", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    flight_password: Option<String>,
    /// A certificate in PEM, with those that vouch for it after it; with it, clients of Flight SQL must use TLS.
    #[arg(long, env = "STREAMGAUGE_FLIGHT_TLS_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    flight_tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(long, env = "STREAMGAUGE_FLIGHT_TLS_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    flight_tls_key: Option<PathBuf>,
    /// Connections of Flight SQL clients at a time; beyond it, they are told so [default: 100]
    #[arg(long, env = "STREAMGAUGE_FLIGHT_CONNECTIONS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    flight_connections_max: Option<usize>,
    /// Allow to listen on more than loopback, although there is no authentication: everybody who reaches the port may
    /// do everything.
    #[arg(long, env = "STREAMGAUGE_ALLOW_REMOTE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_remote: Option<bool>,
    /// Timely workers [default: half of the processors, at most 4]
    #[arg(long, env = "STREAMGAUGE_WORKERS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<usize>,
    /// Use this ClickHouse server, such as http://127.0.0.1:8123, instead of the embedded one.
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_URL", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    clickhouse_url: Option<String>,
    /// The user at that server [default: default]
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_USER", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    clickhouse_user: Option<String>,
    /// The user's password; better given by the environment or the file than by the flag.
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_PASSWORD", value_name = "TEXT", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    clickhouse_password: Option<String>,
    /// The database to use, in whichever ClickHouse [default: streamgauge_default]
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_DATABASE", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    clickhouse_database: Option<String>,
    /// The library of the embedded ClickHouse [default: where `make` puts it]
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_LIBRARY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    clickhouse_library: Option<PathBuf>,
    /// Run this official ClickHouse program instead of the library.
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_BINARY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    clickhouse_binary: Option<PathBuf>,
    /// The port of the embedded ClickHouse on 127.0.0.1 [default: a free one]
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_PORT", value_name = "PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    clickhouse_port: Option<u16>,
    /// Memory that the embedded ClickHouse may use [default: 4294967296]
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_MEMORY_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    clickhouse_memory_bytes_max: Option<u64>,
    /// The largest request body, unpacked [default: 67108864]
    #[arg(long, env = "STREAMGAUGE_BODY_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    body_bytes_max: Option<usize>,
    /// How far ahead of now an event's time may lie [default: 10m]
    #[arg(long, env = "STREAMGAUGE_SKEW_MAX", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    skew_max: Option<Duration>,
    /// Events in memory that ClickHouse does not have; beyond it, ingest is answered with 503 [default: 1073741824]
    #[arg(long, env = "STREAMGAUGE_PENDING_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_bytes_max: Option<usize>,
    /// Memory of the rows of views, about; beyond it, ingest is answered with 503 [default: 2147483648]
    #[arg(long, env = "STREAMGAUGE_STATE_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    state_bytes_max: Option<usize>,
    /// As long as the rows of views take less, rows that changed lately stay in memory, so that questions about recent time
    /// need not wait for ClickHouse; 0: none [default: 268435456]
    #[arg(long, env = "STREAMGAUGE_RECENT_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    recent_bytes_max: Option<usize>,
    /// Memory for answers of ClickHouse about what does not change any more, to give again; 0: none [default: 67108864]
    #[arg(long, env = "STREAMGAUGE_CACHE_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_bytes_max: Option<usize>,
    /// The log on disk; beyond it, ingest is answered with 503 until ClickHouse has taken its events [default: 8589934592]
    #[arg(long, env = "STREAMGAUGE_LOG_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_bytes_max: Option<u64>,
    /// A segment of the log that would become longer than this is followed by a new one; the log is removed by whole
    /// segments, never the newest [default: 67108864]
    #[arg(long, env = "STREAMGAUGE_LOG_SEGMENT_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_segment_bytes_max: Option<u64>,
    /// Bodies of open requests together; beyond it, they are answered with 429 [default: 536870912]
    #[arg(long, env = "STREAMGAUGE_INFLIGHT_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    inflight_bytes_max: Option<usize>,
    /// Requests with events that are open at a time, and as many others, and live connections; beyond it, they are answered with 429 [default: 1024]
    #[arg(long, env = "STREAMGAUGE_REQUESTS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_max: Option<usize>,
    /// For how long a request with an Idempotency-Key, or with a producer and a sequence number, is known [default: 1d]
    #[arg(long, env = "STREAMGAUGE_IDEMPOTENCY_WINDOW", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_window: Option<Duration>,
    /// How many such requests are known at most [default: 1000000]
    #[arg(long, env = "STREAMGAUGE_IDEMPOTENCY_KEYS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_keys_max: Option<usize>,
    /// Distinct series (name with dimensions) in all [default: 1000000]
    #[arg(long, env = "STREAMGAUGE_SERIES_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    series_max: Option<usize>,
    /// How long a query may run [default: 60s]
    #[arg(long, env = "STREAMGAUGE_QUERY_TIMEOUT", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    query_timeout: Option<Duration>,
    /// Memory that queries may use together [default: 1073741824]
    #[arg(long, env = "STREAMGAUGE_QUERY_MEMORY_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    query_memory_bytes_max: Option<usize>,
    /// Of it, what the queries of one user may use [default: three quarters]
    #[arg(long, env = "STREAMGAUGE_USER_QUERY_MEMORY_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_query_memory_bytes_max: Option<usize>,
    /// Rows of a SQL answer in any form; an answer with more ends with an error [default: no bound]
    #[arg(long, env = "STREAMGAUGE_QUERY_ROWS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    query_rows_max: Option<usize>,
    /// Queries that run at a time; others wait for a moment, and are then answered with 429 [default: 16]
    #[arg(long, env = "STREAMGAUGE_QUERIES_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    queries_max: Option<usize>,
    /// Of them, those of one user [default: three quarters]
    #[arg(long, env = "STREAMGAUGE_USER_QUERIES_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_queries_max: Option<usize>,
    /// Rows of a SQL answer in the form json; the other forms have no such limit [default: 100000]
    #[arg(long, env = "STREAMGAUGE_ROWS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rows_max: Option<usize>,
    /// How long a graceful stop may take to flush [default: 30s]
    #[arg(long, env = "STREAMGAUGE_STOP_TIMEOUT", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<Duration>,
    /// Sync the log before an acknowledgement; `false` may lose acknowledged events, and is for measurements only [default: true]
    #[arg(long, env = "STREAMGAUGE_LOG_SYNC", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_sync: Option<bool>,
    /// What to print: a level, or a filter such as `info,streamgauge_sinks=debug` [default: info]
    #[arg(long, env = "STREAMGAUGE_LOG", value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// How to print it: text or json [default: text]
    #[arg(long, env = "STREAMGAUGE_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
    /// Where those that were given came from.
    #[arg(skip)]
    #[serde(skip)]
    sources: Sources,
}

/// The log is removed by whole segments, never the newest; with fewer than so many it would often be full.
const LOG_SEGMENTS_LEAST: u64 = 4;
const LOG_SEGMENT_BYTES_LEAST: u64 = 4 << 10;
const MANY: usize = 1_000_000;
const IDEMPOTENCY_WINDOW_MOST: Duration = streamgauge_schemas::stream::BUILT_IN_RETENTION;

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

    /// Notes where the settings of a command line came from.
    pub(crate) fn given_by(self, matches: Option<&ArgMatches>) -> Self {
        ServeArgs { sources: matches.map(Sources::of).unwrap_or_default(), ..self }
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

    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!((1..=64).contains(&self.workers), "workers = {}: use 1 to 64", self.workers);
        anyhow::ensure!(
            self.allow_remote || self.http.ip().is_loopback(),
            "http = {}: without authentication the program listens on loopback only; put a proxy that authenticates in \
             front, or say --allow-remote if everybody who reaches the port may do everything",
            self.http
        );
        if let PgAddress::At(address) = self.pg {
            let password = self.pg_password.as_deref();
            anyhow::ensure!(password != Some(""), "pg_password is empty: give one, or leave it out");
            anyhow::ensure!(
                password.is_some() || address.ip().is_loopback(),
                "pg = {address}: without a password clients of PostgreSQL are served on loopback only; set one with \
                 STREAMGAUGE_PG_PASSWORD, or say --pg off"
            );
        }
        anyhow::ensure!(
            self.pg_tls_cert.is_some() == self.pg_tls_key.is_some(),
            "pg_tls_cert and pg_tls_key belong together: give both, or neither"
        );
        anyhow::ensure!(
            (1..=MANY).contains(&self.pg_connections_max),
            "pg_connections_max = {}: use 1 to {MANY}",
            self.pg_connections_max
        );
        self.check_flight()?;
        for (name, queries_max) in [("queries_max", self.queries_max), ("user_queries_max", self.user_queries_max())] {
            anyhow::ensure!((1..=MANY).contains(&queries_max), "{name} = {queries_max}: use 1 to {MANY}");
        }
        anyhow::ensure!(self.query_rows_max != Some(0), "query_rows_max = 0: use at least 1, or leave it out");
        anyhow::ensure!(
            self.inflight_bytes_max >= self.body_bytes_max,
            "inflight_bytes_max = {}: it must be at least body_bytes_max, which is {}, or the largest body would never fit",
            self.inflight_bytes_max,
            self.body_bytes_max
        );
        anyhow::ensure!(
            self.log_segment_bytes_max >= LOG_SEGMENT_BYTES_LEAST,
            "log_segment_bytes_max = {}: use at least {LOG_SEGMENT_BYTES_LEAST}",
            self.log_segment_bytes_max
        );
        let log_bytes_least = self.log_segment_bytes_max.saturating_mul(LOG_SEGMENTS_LEAST);
        anyhow::ensure!(
            self.log_bytes_max >= log_bytes_least,
            "log_bytes_max = {}: use at least {log_bytes_least}, four segments of the log",
            self.log_bytes_max
        );
        anyhow::ensure!(
            (1..=MANY).contains(&self.requests_max),
            "requests_max = {}: use 1 to {MANY}",
            self.requests_max
        );
        anyhow::ensure!(
            self.idempotency_window <= IDEMPOTENCY_WINDOW_MOST,
            "idempotency_window = {}: use at most {IDEMPOTENCY_WINDOW_MOST}, since requests are kept that long",
            self.idempotency_window
        );
        anyhow::ensure!(self.idempotency_keys_max >= 1, "idempotency_keys_max = 0: use at least 1");
        let ways = [self.clickhouse_url.is_some(), self.clickhouse_library.is_some(), self.clickhouse_binary.is_some()];
        let ways = ways.into_iter().filter(|way| *way).count();
        anyhow::ensure!(ways <= 1, "choose one of clickhouse_url, clickhouse_library and clickhouse_binary");
        Ok(())
    }

    fn check_flight(&self) -> anyhow::Result<()> {
        if let PgAddress::At(address) = self.flight {
            let password = self.flight_password.as_deref();
            anyhow::ensure!(password != Some(""), "flight_password is empty: give one, or leave it out");
            anyhow::ensure!(
                password.is_some() || address.ip().is_loopback(),
                "flight = {address}: without a password clients of Flight SQL are served on loopback only; set one with \
                 STREAMGAUGE_FLIGHT_PASSWORD, or say --flight off"
            );
        }
        anyhow::ensure!(
            self.flight_tls_cert.is_some() == self.flight_tls_key.is_some(),
            "flight_tls_cert and flight_tls_key belong together: give both, or neither"
        );
        anyhow::ensure!(
            (1..=MANY).contains(&self.flight_connections_max),
            "flight_connections_max = {}: use 1 to {MANY}",
            self.flight_connections_max
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests;
