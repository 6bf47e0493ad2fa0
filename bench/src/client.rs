//! Talking to the program, and to its ClickHouse behind its back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::workload::Body;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A client; a clone shares its connections.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    clickhouse: PathBuf,
}

impl Client {
    /// A client of the program that listens at `address` and keeps its data in `data`.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub(crate) fn new(address: &str, data: &Path) -> Result<Self> {
        let base = format!("http://{address}");
        Ok(Client { http: http()?, base, clickhouse: data.join("clickhouse") })
    }

    /// The same, over a connection of its own.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub(crate) fn apart(&self) -> Result<Self> {
        Ok(Client { http: http()?, ..self.clone() })
    }

    /// Whether the program takes requests.
    pub(crate) async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.base)).send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    /// Posts events of `metrics` until they are acknowledged; answers how often the program pushed back.
    ///
    /// # Errors
    /// When the program refuses for another reason than being busy, or accepts only a part.
    pub(crate) async fn post(&self, body: &Body) -> Result<u64> {
        let mut pushed_back = 0;
        loop {
            let request = self.http.post(format!("{}/api/v1/streams/metrics/events", self.base));
            let request = request.header("content-type", "application/x-ndjson").body(body.bytes.clone());
            let answer = request.send().await.context("post events")?;
            if matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                pushed_back += 1;
                tokio::time::sleep(retry_after(&answer)).await;
                continue;
            }
            let answer = json_of(answer).await.context("post events")?;
            if answer["accepted"] != json!(body.events) {
                bail!("of {} events only {} were accepted: {}", body.events, answer["accepted"], answer["rejected"]);
            }
            return Ok(pushed_back);
        }
    }

    /// Asks a question over SQL that has one row, and answers it.
    ///
    /// # Errors
    /// When the program refuses, or there is not exactly one row.
    pub(crate) async fn sql_row(&self, sql: &str) -> Result<Vec<Value>> {
        let request = self.http.post(format!("{}/api/v1/sql", self.base));
        let answer = request.json(&json!({"sql": sql, "format": "json"})).send().await.context("ask over SQL")?;
        let mut answer = json_of(answer).await.with_context(|| sql.to_owned())?;
        match answer["rows"].take() {
            Value::Array(mut rows) if rows.len() == 1 => match rows.remove(0) {
                Value::Array(row) => Ok(row),
                other => bail!("{sql}: a row is an array, not {other}"),
            },
            other => bail!("{sql}: expected one row, found {other}"),
        }
    }

    /// The size of the program's log.
    ///
    /// # Errors
    /// When the program does not say.
    pub(crate) async fn log_bytes(&self) -> Result<u64> {
        let answer =
            self.http.get(format!("{}/api/v1/status", self.base)).send().await.context("ask for the status")?;
        json_of(answer).await?["log_bytes"].as_u64().context("the status has no log_bytes")
    }

    /// The `count` points of one series of a metric in `[start, end)`; nothing when no event is visible.
    ///
    /// # Errors
    /// When the program refuses.
    pub(crate) async fn is_visible(&self, metric: &str, start: &str, end: &str) -> Result<bool> {
        let query = format!("start_time={start}&end_time={end}&granularity=1s&aggregation=count");
        let request = self.http.get(format!("{}/api/v1/metrics/{metric}/data?{query}", self.base));
        let answer = request.send().await.context("ask the data endpoint")?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(false); // the metric itself is not visible yet
        }
        let answer = json_of(answer).await.context("ask the data endpoint")?;
        Ok(answer["series"].as_array().is_some_and(|series| !series.is_empty()))
    }

    /// Makes a stream; answers its number.
    ///
    /// # Errors
    /// When the program refuses.
    pub(crate) async fn create_stream(&self, definition: &Value) -> Result<u64> {
        let request = self.http.post(format!("{}/api/v1/streams", self.base)).json(definition);
        let answer = json_of(request.send().await.context("make a stream")?).await.context("make a stream")?;
        answer["id"].as_u64().context("a stream has no number")
    }

    /// Posts lines of JSON to a stream, once.
    ///
    /// # Errors
    /// When the program refuses any of them.
    pub(crate) async fn post_to(&self, stream: &str, lines: String) -> Result<()> {
        let request = self.http.post(format!("{}/api/v1/streams/{stream}/events", self.base));
        let request = request.header("content-type", "application/x-ndjson").body(lines);
        let answer = json_of(request.send().await.context("post events")?).await.context("post events")?;
        if answer["rejected"] != json!([]) {
            bail!("events for {stream} were rejected: {answer}");
        }
        Ok(())
    }

    /// Asks over SQL, and reads the answer as Arrow; answers its size in bytes.
    ///
    /// # Errors
    /// When the program refuses.
    pub(crate) async fn sql_arrow(&self, sql: &str) -> Result<usize> {
        let request = self.http.post(format!("{}/api/v1/sql", self.base));
        let answer = request.json(&json!({"sql": sql, "format": "arrow"})).send().await.context("ask over SQL")?;
        size_of(answer, sql).await
    }

    /// Asks ClickHouse itself, and reads the answer as Arrow; answers its size in bytes.
    ///
    /// # Errors
    /// When ClickHouse refuses.
    pub(crate) async fn clickhouse_arrow(&self, sql: &str) -> Result<usize> {
        let answer = self.clickhouse("ArrowStream")?.body(sql.to_owned()).send().await.context("ask ClickHouse")?;
        size_of(answer, sql).await
    }

    /// Has ClickHouse itself do something.
    ///
    /// # Errors
    /// When ClickHouse refuses.
    pub(crate) async fn clickhouse_execute(&self, sql: &str) -> Result<()> {
        let answer = self.clickhouse("Null")?.body(sql.to_owned()).send().await.context("ask ClickHouse")?;
        size_of(answer, sql).await.map(|_| ())
    }

    /// Asks ClickHouse itself a question that has one number as its answer.
    ///
    /// # Errors
    /// When ClickHouse does not answer, or not with a number.
    pub(crate) async fn clickhouse_number(&self, sql: &str) -> Result<u64> {
        let request = self.clickhouse("TabSeparated")?;
        let answer = request.body(sql.to_owned()).send().await.context("ask ClickHouse")?;
        let (status, text) = (answer.status(), answer.text().await.context("ask ClickHouse")?);
        let number = text.trim().parse().ok().filter(|_| status.is_success());
        number.with_context(|| format!("ClickHouse answered {sql} with {status}: {text}"))
    }

    fn clickhouse(&self, format: &str) -> Result<reqwest::RequestBuilder> {
        let config = self.clickhouse.join("config.xml");
        let text = std::fs::read_to_string(&config).with_context(|| format!("read {}", config.display()))?;
        let port = text.split_once("<http_port>").and_then(|(_, rest)| rest.split_once("</http_port>"));
        let (port, _) = port.with_context(|| format!("{} names no http_port", config.display()))?;
        let password =
            std::fs::read_to_string(self.clickhouse.join("password")).context("read ClickHouse's password")?;
        let request = self.http.post(format!("http://127.0.0.1:{port}/?default_format={format}"));
        let request = request.header("x-clickhouse-user", "streamgauge").header("x-clickhouse-key", password.trim());
        Ok(request.header("x-clickhouse-database", "streamgauge_default"))
    }
}

fn http() -> Result<reqwest::Client> {
    let builder = reqwest::Client::builder().timeout(TIMEOUT).tcp_nodelay(true).no_proxy();
    builder.build().context("make an HTTP client")
}

fn retry_after(answer: &Response) -> Duration {
    let seconds = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.1_f64).clamp(0.01, 5.0))
}

async fn size_of(answer: Response, asked: &str) -> Result<usize> {
    let (status, bytes) = (answer.status(), answer.bytes().await?);
    if !status.is_success() {
        bail!("{asked}: {status}: {}", String::from_utf8_lossy(&bytes));
    }
    Ok(bytes.len())
}

async fn json_of(answer: Response) -> Result<Value> {
    let (status, text) = (answer.status(), answer.text().await?);
    if !status.is_success() {
        bail!("{status}: {text}");
    }
    serde_json::from_str(&text).with_context(|| format!("the answer is not JSON: {text}"))
}
