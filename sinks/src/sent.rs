//! Queries over tables of ours: rows that are sent along with a query, and are gone when it ends.
//!
//! The official client has no such queries. They are one request with a part for each table, whose rows are Arrow.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use reqwest::multipart::{Form, Part};

use crate::client::{READ_SETTINGS, chain};
use crate::{ClickHouse, SinkError};

/// A table that is sent along with a query.
#[derive(Clone, Debug)]
pub struct SentTable {
    /// Its name in the query.
    pub name: String,
    /// Its columns in ClickHouse's SQL, such as `ts DateTime64(6, 'UTC'), x Nullable(Int64)`.
    pub structure: String,
    /// Its rows, at least one batch, with columns of these names.
    pub batches: Vec<RecordBatch>,
}

/// An answer as it comes.
struct Answer {
    clickhouse: ClickHouse,
    sql: String,
    response: reqwest::Response,
    decoder: StreamDecoder,
    rest: Buffer,
    /// What came last: when ClickHouse fails in the middle of an answer, it says so there and breaks off.
    last: Bytes,
}

impl ClickHouse {
    /// Runs a query over its tables and ours, and streams its answer as [`query_arrow`](ClickHouse::query_arrow) does; one without rows has no
    /// batch.
    ///
    /// # Errors
    /// As [`query_arrow`](ClickHouse::query_arrow).
    pub async fn query_arrow_with(
        &self,
        sql: &str,
        tables: &[SentTable],
    ) -> Result<BoxStream<'static, Result<RecordBatch, SinkError>>, SinkError> {
        let away = |error: reqwest::Error| SinkError::Away { url: self.url().to_owned(), reason: chain(&error) };
        let mut form = Form::new();
        let mut settings: Vec<(String, &str)> =
            READ_SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        settings.push(("query".to_owned(), sql));
        settings.push(("default_format".to_owned(), "ArrowStream"));
        for table in tables {
            settings.push((format!("{}_format", table.name), "ArrowStream"));
            settings.push((format!("{}_structure", table.name), table.structure.as_str()));
            let rows =
                written(&table.batches).map_err(|error| SinkError::data("sending rows along with a query", error))?;
            form = form.part(table.name.clone(), Part::bytes(rows).file_name(table.name.clone()));
        }
        let request = self.request(&settings).multipart(form);
        let response = request.send().await.map_err(away)?;
        if !response.status().is_success() {
            let text = response.text().await.map_err(away)?;
            return Err(self.explain_response(sql, &text));
        }
        let (clickhouse, sql) = (self.clone(), sql.to_owned());
        let (decoder, rest) = (StreamDecoder::new(), Buffer::from(Vec::<u8>::new()));
        let answer = Answer { clickhouse, sql, response, decoder, rest, last: Bytes::new() };
        let next = |mut answer: Answer| async move { Ok(answer.next().await?.map(|batch| (batch, answer))) };
        let mut batches = stream::try_unfold(answer, next).boxed();
        let first = batches.try_next().await?;
        Ok(stream::iter(first.map(Ok)).chain(batches).boxed())
    }
}

impl Answer {
    async fn next(&mut self) -> Result<Option<RecordBatch>, SinkError> {
        loop {
            match self.decoder.decode(&mut self.rest) {
                Ok(Some(batch)) => return Ok(Some(batch)),
                Ok(None) => {}
                Err(error) => return Err(self.failed(SinkError::data("reading an answer of ClickHouse", error))),
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => {
                    self.last = bytes.clone();
                    self.rest = Buffer::from(bytes);
                }
                Ok(None) => {
                    let end = self.decoder.finish();
                    return end
                        .map(|()| None)
                        .map_err(|error| SinkError::data("reading an answer of ClickHouse", error));
                }
                Err(error) => {
                    let url = self.clickhouse.url().to_owned();
                    return Err(self.failed(SinkError::Away { url, reason: chain(&error) }));
                }
            }
        }
    }

    /// What ClickHouse says about its failure, or else `error`.
    fn failed(&self, error: SinkError) -> SinkError {
        let text = String::from_utf8_lossy(&self.last);
        let code = text.find("DB::Exception: ").and_then(|at| text[..at].rfind("Code: "));
        code.map_or(error, |code| self.clickhouse.explain_response(&self.sql, &text[code..]))
    }
}

fn written(batches: &[RecordBatch]) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let mut writer = StreamWriter::try_new(Vec::new(), &first.schema())?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.into_inner()
}
