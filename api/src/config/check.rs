//! Which settings make sense, alone and together.

use streamgauge_schemas::Duration;

use super::{Config, PgAddress};
use crate::http::host_name;

/// The log is removed by whole segments, never the newest; with fewer than so many it would often be full.
const LOG_SEGMENTS_LEAST: u64 = 4;
const LOG_SEGMENT_BYTES_LEAST: u64 = 4 << 10;
const MANY: usize = 1_000_000;
const IDEMPOTENCY_WINDOW_MOST: Duration = streamgauge_schemas::stream::BUILT_IN_RETENTION;

impl Config {
    /// # Errors
    /// Which setting makes no sense, and what would.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!((1..=64).contains(&self.workers), "workers = {}: use 1 to 64", self.workers);
        anyhow::ensure!(
            self.allow_remote || self.http.ip().is_loopback(),
            "http = {}: without authentication the program listens on loopback only; put a proxy that authenticates in \
             front, or say --allow-remote if everybody who reaches the port may do everything",
            self.http
        );
        for name in &self.http_hosts {
            anyhow::ensure!(
                host_name(name).is_some(),
                "http_hosts has {name:?}, which is no name of a host: write such as sg.example.org, with commas between them"
            );
        }
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
        anyhow::ensure!(self.backfill_step_events > 0, "backfill_step_events = 0: use at least 1");
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
