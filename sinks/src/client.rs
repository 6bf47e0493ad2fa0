//! [`ClickHouse`]: the one small interface over the official client.
//!
//! A handle is a connection pool and a database. Everything that is written or read goes through four calls:
//! [`execute`](ClickHouse::execute), [`query_arrow`](ClickHouse::query_arrow), [`insert_arrow`](ClickHouse::insert_arrow)
//! and [`begin_insert`](ClickHouse::begin_insert). Retrying is the caller's business; errors say whether it may help.
//!
//! Bodies are compressed only when the server is on another machine: over loopback it costs more than it saves.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use clickhouse::Compression;
use clickhouse_ext_arrow::{ArrowClientExt, ArrowInsert, ArrowQueryExt};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use crate::SinkError;
use crate::sql::sql_name;

/// The oldest ClickHouse whose SQL is enough.
pub const VERSION_MIN: (u32, u32) = (24, 8);

/// The most rows of one insert: fewer than make two blocks, so an insert is one block, with one token.
pub const INSERT_ROWS_MAX: usize = 1_000_000;

/// How long a statement may take.
pub(crate) const EXECUTE_TIMEOUT: Duration = Duration::from_secs(60);
const INSERT_TIMEOUT: Duration = Duration::from_secs(120);

/// How queries are asked.
pub(crate) const READ_SETTINGS: [(&str, &str); 4] = [
    ("readonly", "2"), // cancelling on a closed connection is only for queries that cannot write
    ("cancel_http_readonly_queries_on_client_close", "1"),
    ("output_format_arrow_string_as_string", "1"),
    ("output_format_arrow_low_cardinality_as_dictionary", "0"),
];

/// A handle to a database of a ClickHouse server; clones share the connections.
#[derive(Clone)]
pub struct ClickHouse {
    client: clickhouse::Client,
    http: reqwest::Client,
    url: Arc<str>,
    user: Arc<str>,
    password: Arc<str>,
    database: Arc<str>,
}

impl std::fmt::Debug for ClickHouse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClickHouse({}, {})", self.url, self.database)
    }
}

impl ClickHouse {
    /// A handle; nothing is sent yet.
    ///
    /// # Errors
    /// [`SinkError::Url`] when `url` is not `http://host:port`.
    pub fn new(url: &str, user: &str, password: &str, database: &str) -> Result<Self, SinkError> {
        let host = check_url(url)?;
        let loopback = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
        let client = clickhouse::Client::default()
            .with_url(url)
            .with_user(user)
            .with_password(password)
            .with_compression(if loopback { Compression::None } else { Compression::Lz4 })
            .with_product_info("streamgauge", env!("CARGO_PKG_VERSION"))
            .with_setting("async_insert", "0");
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.map_err(|error| SinkError::Url { url: url.to_owned(), reason: chain(&error) })?;
        let (url, user, password, database) = (url.into(), user.into(), password.into(), database.into());
        Ok(ClickHouse { client, http, url, user, password, database })
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        ClickHouse { database: database.into(), ..self.clone() }
    }

    /// The database's plain name.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Where the server is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The quoted, full name of a table of the database.
    #[must_use]
    pub fn table(&self, name: &str) -> String {
        format!("{}.{}", sql_name(&self.database), sql_name(name))
    }

    /// Asks the server, as the user, whether it works; returns its version.
    ///
    /// # Errors
    /// [`SinkError::Away`], [`SinkError::Access`], or [`SinkError::Timeout`] after `bound`.
    pub async fn ping(&self, bound: Duration) -> Result<String, SinkError> {
        let query = self.client.query("SELECT version()").fetch_one::<String>();
        self.bounded("SELECT version()", bound, query).await
    }

    /// The server's version, if it is new enough.
    ///
    /// # Errors
    /// [`SinkError::TooOld`], or as [`ping`](ClickHouse::ping).
    pub async fn version(&self) -> Result<String, SinkError> {
        let found = self.ping(Duration::from_secs(10)).await?;
        let mut numbers = found.split('.').map_while(|part| part.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version < VERSION_MIN {
            let needed = format!("{}.{}", VERSION_MIN.0, VERSION_MIN.1);
            return Err(SinkError::TooOld { url: self.url.to_string(), found, needed });
        }
        Ok(found)
    }

    /// Runs a statement that answers nothing, within a minute.
    ///
    /// # Errors
    /// [`SinkError::Statement`] when it is refused; any error of the connection.
    pub async fn execute(&self, sql: &str) -> Result<(), SinkError> {
        self.execute_within(sql, EXECUTE_TIMEOUT).await
    }

    /// Runs a statement that answers nothing, within `bound`.
    ///
    /// # Errors
    /// As [`execute`](ClickHouse::execute).
    pub async fn execute_within(&self, sql: &str, bound: Duration) -> Result<(), SinkError> {
        self.bounded(sql, bound, self.client.query_raw(sql).execute()).await
    }

    /// Runs a statement that changes a table, within `bound`; recovery knows it by its id, as it knows an insert.
    pub(crate) async fn change(&self, table: &str, sql: &str, bound: Duration) -> Result<(), SinkError> {
        let query = self.client.query_raw(sql).with_setting("query_id", self.write_id(table));
        self.bounded(sql, bound, query.execute()).await
    }

    /// Runs a query and streams its answer.
    ///
    /// The query cannot write. Texts are `Utf8`, also those of `LowCardinality`; a `Map` is an Arrow map; `DateTime64(6)`
    /// is a timestamp in µs; `UInt128` is sixteen bytes. An answer without rows is one empty batch with the schema.
    /// Dropping the stream cancels the query in ClickHouse. There is no time limit here: put one into the statement.
    ///
    /// # Errors
    /// As [`execute`](ClickHouse::execute), before the first batch or as an item of the stream at any later point.
    pub async fn query_arrow(
        &self,
        sql: &str,
    ) -> Result<BoxStream<'static, Result<RecordBatch, SinkError>>, SinkError> {
        let fail = {
            let (this, sql) = (self.clone(), sql.to_owned());
            move |error| this.explain(&sql, error)
        };
        let query = self.client.query_raw(sql);
        let query = READ_SETTINGS.iter().fold(query, |query, (name, value)| query.with_setting(*name, *value));
        let mut cursor = query.fetch_arrow().map_err(&fail)?;
        let first = match cursor.next().await.map_err(&fail)? {
            Some(batch) => Some(batch),
            None => cursor.schema().map(RecordBatch::new_empty),
        };
        let rest =
            stream::try_unfold(
                cursor,
                |mut cursor| async move { Ok(cursor.next().await?.map(|batch| (batch, cursor))) },
            );
        Ok(stream::iter(first.map(Ok)).chain(rest.map_err(fail)).boxed())
    }

    /// Runs a query and collects its answer, within a minute; for answers that are known to be small.
    ///
    /// # Errors
    /// As [`query_arrow`](ClickHouse::query_arrow), or [`SinkError::Timeout`].
    pub async fn query_batches(&self, sql: &str) -> Result<Vec<RecordBatch>, SinkError> {
        let collect = async { self.query_arrow(sql).await?.try_collect().await };
        tokio::time::timeout(EXECUTE_TIMEOUT, collect).await.map_err(|_| timeout(sql, EXECUTE_TIMEOUT))?
    }

    /// Inserts batches of one schema, at most [`INSERT_ROWS_MAX`] rows together, in one request.
    ///
    /// All rows arrive or none. The same `token` for the same table arrives once, however often it is sent.
    ///
    /// # Errors
    /// As [`execute`](ClickHouse::execute); after an error the rows may have arrived or not.
    pub async fn insert_arrow(
        &self,
        table: &str,
        batches: &[RecordBatch],
        token: Option<&str>,
    ) -> Result<(), SinkError> {
        let Some(first) = batches.first() else { return Ok(()) };
        let columns = first.schema();
        let columns: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
        let mut insert = self.begin_insert(table, &columns, token);
        for batch in batches {
            insert.write(batch).await?;
        }
        insert.end().await
    }

    /// Begins an insert whose batches are made one after another; see [`insert_arrow`](ClickHouse::insert_arrow).
    #[must_use]
    pub fn begin_insert(&self, table: &str, columns: &[&str], token: Option<&str>) -> Insert {
        let names: Vec<String> = columns.iter().map(|column| sql_name(column)).collect();
        let sql = format!("INSERT INTO {} ({}) FORMAT ArrowStream", self.table(table), names.join(", "));
        let mut client = (self.client.clone())
            .with_setting("query_id", self.write_id(table))
            .with_setting("max_insert_block_size", "1048576")
            .with_setting("min_insert_block_size_rows", "1048576")
            .with_setting("min_insert_block_size_bytes", "0")
            .with_setting("optimize_on_insert", "0"); // merging does it anyway; here it would cost three times the time
        if let Some(token) = token {
            client = client.with_setting("insert_deduplicate", "1").with_setting("insert_deduplication_token", token);
        }
        Insert { insert: client.insert_arrow_with(&sql), clickhouse: self.clone(), sql, deadline: None, rows: 0 }
    }

    /// What the query id of every write into the database, or into one table of it, begins with.
    pub(crate) fn write_id_prefix(&self, table: Option<&str>) -> String {
        let database = &self.database;
        table.map_or_else(
            || format!("streamgauge-write-{database}-"),
            |table| format!("streamgauge-write-{database}-{table}-"),
        )
    }

    fn write_id(&self, table: &str) -> String {
        format!("{}{:016x}", self.write_id_prefix(Some(table)), rand::random::<u64>())
    }

    /// A request of our own, where the official client has none.
    pub(crate) fn request(&self, settings: &[(String, &str)]) -> reqwest::RequestBuilder {
        let settings = form_urlencoded::Serializer::new(String::new()).extend_pairs(settings).finish();
        let request = self.http.post(format!("{}/?{settings}", self.url.trim_end_matches('/')));
        request.header("X-ClickHouse-User", &*self.user).header("X-ClickHouse-Key", &*self.password)
    }

    async fn bounded<T>(
        &self,
        sql: &str,
        bound: Duration,
        work: impl Future<Output = Result<T, clickhouse::error::Error>>,
    ) -> Result<T, SinkError> {
        match tokio::time::timeout(bound, work).await {
            Ok(result) => result.map_err(|error| self.explain(sql, error)),
            Err(_) => Err(timeout(sql, bound)),
        }
    }

    /// Turns the client's error into one that says what happened.
    fn explain(&self, sql: &str, error: clickhouse::error::Error) -> SinkError {
        use clickhouse::error::Error;
        let url = || self.url.to_string();
        match error {
            Error::Network(cause) => SinkError::Away { url: url(), reason: chain(cause.as_ref()) },
            Error::TimedOut => timeout(sql, EXECUTE_TIMEOUT),
            Error::InvalidParams(cause) => SinkError::Url { url: url(), reason: chain(cause.as_ref()) },
            Error::Unsupported(reason) => SinkError::Url { url: url(), reason },
            Error::BadResponse(text) => self.explain_response(sql, &text),
            other => SinkError::Data { operation: shorten(sql), reason: chain(&other) },
        }
    }

    pub(crate) fn explain_response(&self, sql: &str, text: &str) -> SinkError {
        let url = self.url.to_string();
        let code = (text.split_once("Code: "))
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        match code {
            // unknown user, wrong password, authentication failed
            Some(192..=194 | 516) => SinkError::Access { url, user: self.user.to_string() },
            Some(code) => {
                let message = text.split_once("DB::Exception: ").map_or(text, |(_, rest)| rest);
                let message = message.rsplit_once(" (version ").map_or(message, |(rest, _)| rest);
                SinkError::Statement { operation: shorten(sql), code, message: message.chars().take(1_000).collect() }
            }
            None if ["408", "429", "502", "503", "504"].iter().any(|status| text.starts_with(status)) => {
                SinkError::Away { url, reason: text.to_owned() }
            }
            None => {
                SinkError::Statement { operation: shorten(sql), code: 0, message: text.chars().take(1_000).collect() }
            }
        }
    }
}

/// One insert under way. Nothing arrives unless [`end`](Insert::end) succeeds; dropping it aborts.
pub struct Insert {
    insert: ArrowInsert,
    clickhouse: ClickHouse,
    sql: String,
    deadline: Option<tokio::time::Instant>,
    rows: usize,
}

impl Insert {
    /// Sends a batch.
    ///
    /// # Errors
    /// Any error of the connection, and [`SinkError::Timeout`] when the whole insert takes too long.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.rows += batch.num_rows();
        debug_assert!(self.rows <= INSERT_ROWS_MAX, "an insert is one block");
        let deadline = *self.deadline.get_or_insert_with(|| tokio::time::Instant::now() + INSERT_TIMEOUT);
        let write = self.insert.write(batch);
        let result = tokio::time::timeout_at(deadline, write).await.map_err(|_| timeout(&self.sql, INSERT_TIMEOUT))?;
        result.map_err(|error| self.clickhouse.explain(&self.sql, error))
    }

    /// Waits for ClickHouse to have the rows, on disk.
    ///
    /// # Errors
    /// As [`write`](Insert::write), or [`SinkError::Statement`] when ClickHouse refuses the rows.
    pub async fn end(self) -> Result<(), SinkError> {
        let Some(deadline) = self.deadline else { return Ok(()) };
        let end = tokio::time::timeout_at(deadline, self.insert.end());
        let result = end.await.map_err(|_| timeout(&self.sql, INSERT_TIMEOUT))?;
        result.map_err(|error| self.clickhouse.explain(&self.sql, error))
    }
}

/// Checks the form `http://host[:port][/path]` and returns the host.
fn check_url(url: &str) -> Result<&str, SinkError> {
    let wrong = |reason: &str| {
        let shown = url.rsplit_once('@').map_or(url, |(_, after)| after); // what is before an @ may be a password
        Err(SinkError::Url { url: shown.to_owned(), reason: reason.to_owned() })
    };
    let Some(rest) = url.strip_prefix("http://") else {
        return wrong("it must begin with http://");
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return wrong("give user and password on their own, not inside it");
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => match port.parse::<u16>() {
            Ok(_) => host,
            Err(_) => return wrong("its port is not a number"),
        },
        _ => authority,
    };
    if host.is_empty() { wrong("it names no host") } else { Ok(host) }
}

fn timeout(sql: &str, bound: Duration) -> SinkError {
    SinkError::Timeout { operation: shorten(sql), seconds: bound.as_secs() }
}

/// The beginning of a statement on one line, for messages.
fn shorten(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(120) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// An error with its causes, outermost first, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, host) in [
            ("http://127.0.0.1:8123", Some("127.0.0.1")),
            ("http://ch.example/", Some("ch.example")),
            ("http://[::1]:8123/x", Some("[::1]")),
            ("http://[::1]", Some("[::1]")),
            ("https://ch.example", None),
            ("ch.example:8123", None),
            ("http://user:secret@ch.example", None),
            ("http://ch.example:port", None),
            ("http://", None),
        ] {
            let found = check_url(url);
            assert_eq!(found.as_ref().ok().copied(), host, "{url}");
            assert!(found.is_ok() || !found.unwrap_err().to_string().contains("secret"));
        }
    }

    #[test]
    fn responses_are_told_apart() {
        let clickhouse = ClickHouse::new("http://127.0.0.1:1", "me", "secret", "d").unwrap();
        let explain = |text: &str| clickhouse.explain_response("SELECT  1", text);
        let denied = explain("Code: 516. DB::Exception: me: Authentication failed (AUTHENTICATION_FAILED)");
        assert!(matches!(denied, SinkError::Access { .. }) && !denied.is_retryable());
        let busy = explain("Code: 252. DB::Exception: Too many parts. (TOO_MANY_PARTS) (version 26.7.2.1)");
        assert!(busy.is_retryable());
        assert_eq!(busy.to_string(), "ClickHouse refused SELECT 1 with code 252: Too many parts. (TOO_MANY_PARTS)");
        assert!(!explain("Code: 60. DB::Exception: Unknown table").is_retryable());
        assert!(matches!(explain("502 Bad Gateway"), SinkError::Away { .. }));
        assert!(matches!(explain("hello"), SinkError::Statement { code: 0, .. }));
    }
}
