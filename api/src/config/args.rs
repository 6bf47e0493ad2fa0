//! The settings of `streamgauge serve` as flags and variables, with their descriptions.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgMatches, Args};
use serde::Serialize;
use streamgauge_schemas::Duration;

use super::settings::Sources;
use super::{LogFormat, PgAddress};

/// The settings of `streamgauge serve`; each may stand in the file of `--config` under its name with underscores.
#[derive(Args, Debug, Default, Serialize)]
pub(crate) struct ServeArgs {
    /// A TOML file with settings, such as `http = "127.0.0.1:8080"`.
    #[arg(long, env = "STREAMGAUGE_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub(super) config: Option<PathBuf>,
    /// Where the log and the embedded ClickHouse keep their data [default: ./data]
    #[arg(long, env = "STREAMGAUGE_DATA_DIR", value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data_dir: Option<PathBuf>,
    /// Where to listen for HTTP; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "STREAMGAUGE_HTTP", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http: Option<SocketAddr>,
    /// Where to listen for clients of PostgreSQL, such as psql and BI tools: an address, or `off` [default: 127.0.0.1:5433]
    #[arg(long, env = "STREAMGAUGE_PG", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pg: Option<PgAddress>,
    /// The password that clients of PostgreSQL must know; better given by the environment or the file than by the
    /// flag. Without one, --pg is on loopback only.
    #[arg(long, env = "STREAMGAUGE_PG_PASSWORD", value_name = "TEXT", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pg_password: Option<String>,
    /// A certificate in PEM, with those that vouch for it after it, for clients of PostgreSQL that ask for TLS.
    #[arg(long, env = "STREAMGAUGE_PG_TLS_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pg_tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(long, env = "STREAMGAUGE_PG_TLS_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pg_tls_key: Option<PathBuf>,
    /// Clients of PostgreSQL that are connected at a time; beyond it, they are told so [default: 100]
    #[arg(long, env = "STREAMGAUGE_PG_CONNECTIONS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pg_connections_max: Option<usize>,
    /// Where to listen for clients of Arrow Flight SQL, such as ADBC: an address, or `off` [default: 127.0.0.1:50051]
    #[arg(long, env = "STREAMGAUGE_FLIGHT", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flight: Option<PgAddress>,
    /// The password that clients of Flight SQL must know, under any user name; better given by the environment or the
    /// file than by the flag. Without one, --flight is on loopback only.
    #[arg(long, env = "STREAMGAUGE_FLIGHT_PASSWORD", value_name = "TEXT", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flight_password: Option<String>,
    /// A certificate in PEM, with those that vouch for it after it; with it, clients of Flight SQL must use TLS.
    #[arg(long, env = "STREAMGAUGE_FLIGHT_TLS_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flight_tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    #[arg(long, env = "STREAMGAUGE_FLIGHT_TLS_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flight_tls_key: Option<PathBuf>,
    /// Connections of Flight SQL clients at a time; beyond it, they are told so [default: 100]
    #[arg(long, env = "STREAMGAUGE_FLIGHT_CONNECTIONS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flight_connections_max: Option<usize>,
    /// Names under which HTTP is reached on loopback beside `localhost` and the addresses, such as the one that a proxy in front is
    /// asked by, with commas between them. A request with another name in `Host` is refused there: a page of another site
    /// whose name leads here must not use the program.
    #[arg(long, env = "STREAMGAUGE_HTTP_HOSTS", value_name = "NAMES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http_hosts: Option<Vec<String>>,
    /// Allow to listen on more than loopback, although there is no authentication: everybody who reaches the port may
    /// do everything.
    #[arg(long, env = "STREAMGAUGE_ALLOW_REMOTE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow_remote: Option<bool>,
    /// Timely workers [default: half of the processors, at most 4]
    #[arg(long, env = "STREAMGAUGE_WORKERS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workers: Option<usize>,
    /// Use this ClickHouse server, such as http://127.0.0.1:8123, instead of the embedded one.
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_URL", value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clickhouse_url: Option<String>,
    /// The user at that server [default: default]
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_USER", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clickhouse_user: Option<String>,
    /// The user's password; better given by the environment or the file than by the flag.
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_PASSWORD", value_name = "TEXT", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clickhouse_password: Option<String>,
    /// The database to use, in whichever ClickHouse [default: streamgauge_default]
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_DATABASE", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clickhouse_database: Option<String>,
    /// The library of the embedded ClickHouse [default: where `make` puts it]
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_LIBRARY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clickhouse_library: Option<PathBuf>,
    /// Run this official ClickHouse program instead of the library.
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_BINARY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clickhouse_binary: Option<PathBuf>,
    /// The port of the embedded ClickHouse on 127.0.0.1 [default: a free one]
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_PORT", value_name = "PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clickhouse_port: Option<u16>,
    /// Memory that the embedded ClickHouse may use [default: 4294967296]
    #[arg(long, env = "STREAMGAUGE_CLICKHOUSE_MEMORY_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clickhouse_memory_bytes_max: Option<u64>,
    /// The largest request body, unpacked [default: 67108864]
    #[arg(long, env = "STREAMGAUGE_BODY_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_bytes_max: Option<usize>,
    /// How far ahead of now an event's time may lie [default: 10m]
    #[arg(long, env = "STREAMGAUGE_SKEW_MAX", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) skew_max: Option<Duration>,
    /// Events in memory that ClickHouse does not have; beyond it, ingest is answered with 503 [default: 1073741824]
    #[arg(long, env = "STREAMGAUGE_PENDING_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pending_bytes_max: Option<usize>,
    /// Memory of the rows of views, about; beyond it, ingest is answered with 503 [default: 2147483648]
    #[arg(long, env = "STREAMGAUGE_STATE_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state_bytes_max: Option<usize>,
    /// As long as the rows of a view take less than its share of this, its rows that changed lately stay in memory, so that questions
    /// about recent time need not wait for ClickHouse; 0: none [default: 268435456]
    #[arg(long, env = "STREAMGAUGE_RECENT_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recent_bytes_max: Option<usize>,
    /// Memory for answers of ClickHouse about what does not change any more, to give again; 0: none [default: 67108864]
    #[arg(long, env = "STREAMGAUGE_CACHE_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_bytes_max: Option<usize>,
    /// About how many events a step of a view's back-fill reads; so many groups at most it holds in memory, and so much is
    /// done again after a crash [default: 500000]
    #[arg(long, env = "STREAMGAUGE_BACKFILL_STEP_EVENTS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backfill_step_events: Option<usize>,
    /// The log on disk; beyond it, ingest is answered with 503 until ClickHouse has taken its events [default: 8589934592]
    #[arg(long, env = "STREAMGAUGE_LOG_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_bytes_max: Option<u64>,
    /// A segment of the log that would become longer than this is followed by a new one; the log is removed by whole
    /// segments, never the newest [default: 67108864]
    #[arg(long, env = "STREAMGAUGE_LOG_SEGMENT_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_segment_bytes_max: Option<u64>,
    /// Bodies of open requests together; beyond it, they are answered with 429 [default: 536870912]
    #[arg(long, env = "STREAMGAUGE_INFLIGHT_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inflight_bytes_max: Option<usize>,
    /// Requests with events that are open at a time, and as many others, and live connections; beyond it, they are answered with 429 [default: 1024]
    #[arg(long, env = "STREAMGAUGE_REQUESTS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests_max: Option<usize>,
    /// For how long a request with an Idempotency-Key, or with a producer and a sequence number, is known [default: 1d]
    #[arg(long, env = "STREAMGAUGE_IDEMPOTENCY_WINDOW", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idempotency_window: Option<Duration>,
    /// How many such requests are known at most [default: 1000000]
    #[arg(long, env = "STREAMGAUGE_IDEMPOTENCY_KEYS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idempotency_keys_max: Option<usize>,
    /// Distinct series (name with dimensions) in all [default: 1000000]
    #[arg(long, env = "STREAMGAUGE_SERIES_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) series_max: Option<usize>,
    /// How long a query may run [default: 60s]
    #[arg(long, env = "STREAMGAUGE_QUERY_TIMEOUT", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) query_timeout: Option<Duration>,
    /// Memory that queries may use together [default: 1073741824]
    #[arg(long, env = "STREAMGAUGE_QUERY_MEMORY_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) query_memory_bytes_max: Option<usize>,
    /// Of it, what the queries of one user may use [default: three quarters]
    #[arg(long, env = "STREAMGAUGE_USER_QUERY_MEMORY_BYTES_MAX", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_query_memory_bytes_max: Option<usize>,
    /// Rows of a SQL answer in any form; an answer with more ends with an error [default: no bound]
    #[arg(long, env = "STREAMGAUGE_QUERY_ROWS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) query_rows_max: Option<usize>,
    /// Queries that run at a time; others wait for a moment, and are then answered with 429 [default: 16]
    #[arg(long, env = "STREAMGAUGE_QUERIES_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queries_max: Option<usize>,
    /// Of them, those of one user [default: three quarters]
    #[arg(long, env = "STREAMGAUGE_USER_QUERIES_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_queries_max: Option<usize>,
    /// Rows of a SQL answer in the form json; the other forms have no such limit [default: 100000]
    #[arg(long, env = "STREAMGAUGE_ROWS_MAX", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rows_max: Option<usize>,
    /// How long a graceful stop may take to flush [default: 30s]
    #[arg(long, env = "STREAMGAUGE_STOP_TIMEOUT", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stop_timeout: Option<Duration>,
    /// Sync the log before an acknowledgement; `false` may lose acknowledged events, and is for measurements only [default: true]
    #[arg(long, env = "STREAMGAUGE_LOG_SYNC", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_sync: Option<bool>,
    /// What to print: a level, or a filter such as `info,streamgauge_sinks=debug` [default: info]
    #[arg(long, env = "STREAMGAUGE_LOG", value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<String>,
    /// How to print it: text or json [default: text]
    #[arg(long, env = "STREAMGAUGE_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_format: Option<LogFormat>,
    /// Where those that were given came from.
    #[arg(skip)]
    #[serde(skip)]
    pub(super) sources: Sources,
}

impl ServeArgs {
    /// Notes where the settings of a command line came from.
    pub(crate) fn given_by(self, matches: Option<&ArgMatches>) -> Self {
        ServeArgs { sources: matches.map(Sources::of).unwrap_or_default(), ..self }
    }
}
