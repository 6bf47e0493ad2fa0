//! A client of the program, and of its ClickHouse behind its back.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::plain;

/// NDJSON as a content type.
pub(crate) const NDJSON: &str = "application/x-ndjson";
/// JSON as a content type.
pub(crate) const JSON: &str = "application/json";

/// A client of one program.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    address: String,
    clickhouse: PathBuf,
}

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// A header as text; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as JSON of an answer that has this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Checks that this is a problem of RFC 9457 with that status and code; answers its detail.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> String {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!((&problem["type"], &problem["status"]), (&json!("about:blank"), &json!(status)), "{problem}");
        assert_eq!(problem["code"], code, "{problem}");
        assert!(problem["title"].is_string(), "{problem}");
        problem["detail"].as_str().unwrap_or_else(|| panic!("no detail: {problem}")).to_owned()
    }
}

impl Client {
    /// A client of the program that listens at `address` and keeps its data in `data_dir`.
    pub(crate) fn new(address: &str, data_dir: &Path) -> Self {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build().unwrap();
        Client { http, address: address.to_owned(), clickhouse: data_dir.join("clickhouse") }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether the program takes requests.
    pub(crate) async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("http://{}/readyz", self.address)).send().await;
        answer.is_ok_and(|answer| answer.status().as_u16() == 200)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Answer { status, headers, body: answer.bytes().await?.to_vec() })
    }

    /// Sends a request as it is given.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        self.try_request(method, path, headers, body).await.unwrap()
    }

    /// Sends a request as it is given, to a program that may die meanwhile.
    pub(crate) async fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Result<Answer, reqwest::Error> {
        let request = self.http.request(method.parse().unwrap(), format!("http://{}{path}", self.address));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.send(request.body(body)).await
    }

    /// Gets a path.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], "").await
    }

    /// Posts a body.
    pub(crate) async fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.request("POST", path, &[("content-type", content_type)], body).await
    }

    /// Posts JSON.
    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.post(path, JSON, body.to_string()).await
    }

    /// Posts a body compressed with gzip.
    pub(crate) async fn post_gzip(&self, path: &str, content_type: &str, body: &str) -> Answer {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(body.as_bytes()).unwrap();
        let headers = [("content-type", content_type), ("content-encoding", "gzip")];
        self.request("POST", path, &headers, packer.finish().unwrap()).await
    }

    /// Posts NDJSON to a stream while the program may die: the answer, or `None` when there was none.
    pub(crate) async fn try_post(&self, stream: &str, body: String) -> Option<Answer> {
        let path = format!("/api/v1/streams/{stream}/events");
        self.try_request("POST", &path, &[("content-type", NDJSON)], body).await.ok()
    }

    /// The rows of a SQL answer, numbers as floats.
    pub(crate) async fn sql(&self, sql: &str) -> Value {
        let answer = self.post_json("/api/v1/sql", &json!({"sql": sql})).await;
        assert_eq!(answer.status, 200, "{sql}\n{}", answer.text());
        plain(answer.json()["rows"].take())
    }

    /// The series of a metric, sorted by their dimensions, numbers as floats.
    pub(crate) async fn data(&self, metric: &str, query: &str) -> Value {
        let answer = self.get(&format!("/api/v1/metrics/{metric}/data?{query}")).await;
        assert_eq!(answer.status, 200, "{metric} {query}\n{}", answer.text());
        let Value::Array(mut series) = plain(answer.json()["series"].take()) else { panic!("{}", answer.text()) };
        series.sort_by_key(|one| one["dimensions"].to_string());
        Value::Array(series)
    }

    /// The rows that ClickHouse itself answers, numbers as floats; or the text of its error, such as that a table is
    /// not there (yet).
    pub(crate) async fn clickhouse(&self, sql: &str) -> Value {
        let answer = self.ask_clickhouse(sql).await.unwrap();
        if answer.status == 200 { plain(answer.json()["data"].take()) } else { json!(answer.text()) }
    }

    /// What ClickHouse itself answers, in the form that the statement names (JSON without one).
    pub(crate) async fn ask_clickhouse(&self, sql: &str) -> Result<Answer, reqwest::Error> {
        let config = fs::read_to_string(self.clickhouse.join("config.xml")).unwrap();
        let (_, rest) = config.split_once("<http_port>").unwrap();
        let (port, _) = rest.split_once("</http_port>").unwrap();
        let password = fs::read_to_string(self.clickhouse.join("password")).unwrap();
        let settings = "default_format=JSONCompact&output_format_json_quote_64bit_integers=0";
        let request = self.http.post(format!("http://127.0.0.1:{port}/?database=streamgauge_default&{settings}"));
        let request = request.header("x-clickhouse-user", "streamgauge").header("x-clickhouse-key", password.trim());
        self.send(request.body(sql.to_owned())).await
    }

    /// Changes something in ClickHouse itself, as an operator would.
    pub(crate) async fn change_clickhouse(&self, sql: &str) {
        let answer = self.ask_clickhouse(sql).await.unwrap();
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
    }
}

/// Checks that every event of a request was accepted; answers their epoch.
#[track_caller]
pub(crate) fn accepted(answer: &Answer, events: usize) -> u64 {
    let body = answer.expect(200);
    assert_eq!((&body["accepted"], &body["rejected"]), (&json!(events), &json!([])), "{body}");
    body["epoch"].as_u64().unwrap_or_else(|| panic!("no epoch: {body}"))
}
