//! Ingest: `POST /api/v1/ingest`, `/v1/metrics`, `/api/v1/metrics` and `/api/v1/streams/{stream}/events`.
//!
//! ```text
//!  admitted? ─▶ body, bounded ─▶ name known? ── yes ─▶ the first answer again
//!                                    └─ no ─▶ decode ─▶ engine (log, dataflow) ─▶ answer with the epoch
//! ```

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use streamgauge_engine::decode::{self, DecodeError, DecodeLimits, Decoded, Format};
use streamgauge_engine::{Claimed, Ingest, Ingested, KnownRequest, RequestName, requests};
use streamgauge_schemas::stream::METRICS;
use streamgauge_schemas::{Epoch, Reject, time};
use utoipa::{IntoParams, ToSchema};

use super::body::HeldBody;
use super::problem::Problem;
use super::sql::EPOCH_HEADER;
use super::{Ready, Running, body};

/// The header that names a request, so that a repeat of it is known.
const KEY_HEADER: &str = "idempotency-key";
/// The header that names the producer of a numbered request.
const PRODUCER_HEADER: &str = "x-streamgauge-producer";
/// The header with the number of a request among those of its producer.
const SEQUENCE_HEADER: &str = "x-streamgauge-sequence";
/// The header of an answer that was given before.
const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotency-replayed");
const NAME_BYTES_MAX: usize = 255;

/// What became of the events of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IngestAnswer {
    /// How many events were accepted: they are durable, and every later query sees them.
    accepted: u64,
    /// The epoch of what the request brought, rejects included; null when that is nothing.
    #[schema(value_type = Option<u64>)]
    epoch: Option<Epoch>,
    /// The events that were not accepted.
    #[schema(value_type = Vec<RejectedEvent>)]
    rejected: Vec<Reject>,
}

/// An event that was not accepted.
#[derive(ToSchema)]
#[allow(dead_code)] // describes `Reject` in OpenAPI
pub(crate) struct RejectedEvent {
    /// Its position in the request, from 0.
    index: u64,
    /// What was wrong with it, and where.
    reason: String,
}

/// When a request is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Acknowledge {
    /// Once its events are on disk, and every query that begins later sees them.
    #[default]
    Durable,
    /// Once they are in the views too, so that no query has to wait for that.
    Visible,
}

/// What happens to events that are not accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rejects {
    /// They are kept in the stream `rejects`.
    #[default]
    Keep,
    /// They are in the answer only.
    Report,
}

/// The parameters of every ingest request.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngestParameters {
    /// When the request is acknowledged; `durable` by default.
    #[serde(default)]
    #[param(inline)]
    ack: Acknowledge,
    /// Whether events that are not accepted are kept; `keep` by default.
    #[serde(default)]
    #[param(inline)]
    rejects: Rejects,
}

/// The headers of every ingest request, for OpenAPI.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)] // read from the headers by `name`
pub(crate) struct IngestHeaders {
    /// A name for this one request, of 1 to 255 visible ASCII characters: a repeat is answered as the first time.
    #[param(rename = "Idempotency-Key")]
    key: Option<String>,
    /// Instead of a key: who sends, with a number that rises from request to request.
    #[param(rename = "X-Streamgauge-Producer")]
    producer: Option<String>,
    /// See the producer.
    #[param(rename = "X-Streamgauge-Sequence")]
    sequence: Option<u64>,
}

/// An answer with its headers.
type Answer = Result<(HeaderMap, Json<IngestAnswer>), Problem>;

/// Bodies larger than this are decoded where they do not hold up other requests.
const BLOCKING_BYTES_MIN: usize = 64 << 10;

/// What a request says about itself, besides its events.
struct Envelope {
    parameters: IngestParameters,
    name: Option<RequestName>,
}

impl Envelope {
    fn read(uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        let parameters = Query::<IngestParameters>::try_from_uri(uri)
            .map_err(|error| Problem::bad_request("bad_parameter", error.body_text()))?;
        Ok(Envelope { parameters: parameters.0, name: name(headers)? })
    }

    /// Who sends, as far as the headers say. Events of `metrics` have a source of their own, which a reject keeps as it
    /// would have been, so that it can be sent again as it was; there the producer is in `requests`.
    fn source(&self) -> &str {
        match &self.name {
            Some(RequestName::Sequence { producer, .. }) => producer,
            _ => "",
        }
    }
}

/// What the producer calls its request.
fn name(headers: &HeaderMap) -> Result<Option<RequestName>, Problem> {
    let text = |header: &'static str| -> Result<Option<&str>, Problem> {
        let Some(value) = headers.get(header) else { return Ok(None) };
        let text = value.to_str().ok().filter(|text| {
            (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        });
        let detail = || format!("the header {header} must be 1 to {NAME_BYTES_MAX} visible ASCII characters");
        text.map(Some).ok_or_else(|| Problem::bad_request("bad_name", detail()))
    };
    match (text(KEY_HEADER)?, text(PRODUCER_HEADER)?, text(SEQUENCE_HEADER)?) {
        (None, None, None) => Ok(None),
        (Some(key), None, None) => Ok(Some(RequestName::Key(key.into()))),
        (None, Some(producer), Some(sequence)) => {
            let sequence = sequence.parse().ok().filter(|sequence| *sequence <= i64::MAX as u64);
            let detail = format!("the header {SEQUENCE_HEADER} must be a whole number up to {}", i64::MAX);
            let sequence = sequence.ok_or_else(|| Problem::bad_request("bad_name", detail))?;
            Ok(Some(RequestName::Sequence { producer: producer.into(), sequence }))
        }
        _ => {
            let detail = format!(
                "name a request either with {KEY_HEADER}, or with both {PRODUCER_HEADER} and {SEQUENCE_HEADER}"
            );
            Err(Problem::bad_request("bad_name", detail))
        }
    }
}

/// Looks the request's name up, decodes its body, appends its events, and answers.
async fn ingest(
    running: &Running,
    stream: &str,
    envelope: &Envelope,
    body: HeldBody,
    decode: impl FnOnce(&[u8], &DecodeLimits) -> Result<Decoded, DecodeError> + Send + 'static,
) -> Answer {
    let body = Arc::new(body);
    let bytes = body.bytes();
    let claim = match &envelope.name {
        None => None,
        Some(name) => match running.engine.claim(name, requests::body_hash(stream, bytes)).await? {
            Claimed::New(claim) => Some(claim),
            Claimed::Repeat(known) => {
                metrics::counter!("streamgauge_ingest_repeated_total", "stream" => stream.to_owned()).increment(1);
                settle(running, envelope).await;
                return Ok(repeat(known));
            }
        },
    };
    let now = time::wall_clock();
    let limits = DecodeLimits { now, ..running.decode_limits };
    let decoded = if bytes.len() < BLOCKING_BYTES_MIN {
        decode(bytes, &limits)?
    } else {
        let body = body.clone(); // with its claim on memory, also if nobody waits for the answer any more
        running.decoders.run(move || decode(body.bytes(), &limits)).await??
    };
    let ingested = running.engine.ingest(Ingest {
        stream,
        at: now,
        body: bytes,
        decoded,
        source: if stream == METRICS { "" } else { envelope.source() },
        keep_rejects: envelope.parameters.rejects == Rejects::Keep,
        claim,
    });
    let ingested = ingested.await?;
    settle(running, envelope).await;
    count(stream, &ingested, bytes.len());
    Ok(answer(&ingested))
}

/// Waits for the views, if that was asked for. The events are durable by now: whatever happens here, they were taken.
async fn settle(running: &Running, envelope: &Envelope) {
    if envelope.parameters.ack == Acknowledge::Visible
        && let Err(error) = running.engine.settled().await
    {
        tracing::warn!(%error, "an acknowledgement did not wait for the views");
    }
}

fn count(stream: &str, ingested: &Ingested, bytes: usize) {
    let labels = [("stream", stream.to_owned())];
    metrics::counter!("streamgauge_ingest_rejected_total", &labels).increment(ingested.rejected.len() as u64);
    if ingested.accepted > 0 {
        metrics::counter!("streamgauge_ingest_events_total", &labels).increment(ingested.accepted);
        metrics::counter!("streamgauge_ingest_bytes_total", &labels).increment(bytes as u64);
    }
}

fn answer(ingested: &Ingested) -> (HeaderMap, Json<IngestAnswer>) {
    let Ingested { epoch, accepted, rejected } = ingested;
    let headers = epoch.map(|epoch| (HeaderName::from_static(EPOCH_HEADER), HeaderValue::from(epoch.0)));
    let answer = IngestAnswer { accepted: *accepted, epoch: *epoch, rejected: rejected.to_vec() };
    (headers.into_iter().collect(), Json(answer))
}

/// The first answer, once more.
fn repeat(known: KnownRequest) -> (HeaderMap, Json<IngestAnswer>) {
    let KnownRequest { epoch, accepted, rejected, .. } = known;
    let (mut headers, answer) = answer(&Ingested { epoch: Some(epoch), accepted, rejected });
    headers.insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
    (headers, answer)
}

/// Post data points of one source.
#[utoipa::path(
    post, path = "/api/v1/ingest", tag = "ingest", params(IngestParameters, IngestHeaders),
    request_body(content = serde_json::Value, description = "`{\"source_id\", \"data_points\": [{\"metric\", \"timestamp\", \"value\", \"dimensions\"}]}`"),
    responses((status = 200, body = IngestAnswer), (status = 400, body = Problem), (status = 409, body = Problem), (status = 413, body = Problem),
        (status = 415, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn data_points(Ready(running): Ready, uri: Uri, headers: HeaderMap, body: Body) -> Answer {
    let envelope = Envelope::read(&uri, &headers)?;
    body::format(&headers)?;
    let body = body::read_events(body, &running).await?;
    ingest(&running, METRICS, &envelope, body, decode::decode_ingest).await
}

/// Post one metric, or an array of them.
#[utoipa::path(
    post, path = "/api/v1/metrics", tag = "ingest", params(IngestParameters, IngestHeaders),
    request_body(content = serde_json::Value, description = "`{\"timestamp\", \"name\", \"value\", \"dimensions\"?}` or an array; also at `/v1/metrics`"),
    responses((status = 200, body = IngestAnswer), (status = 400, body = Problem), (status = 409, body = Problem), (status = 413, body = Problem),
        (status = 415, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn points(Ready(running): Ready, uri: Uri, headers: HeaderMap, body: Body) -> Answer {
    let envelope = Envelope::read(&uri, &headers)?;
    let format = body::format(&headers)?;
    let body = body::read_events(body, &running).await?;
    ingest(&running, METRICS, &envelope, body, move |bytes, limits| match format {
        Format::Ndjson => decode::decode_metrics(bytes, format, limits),
        _ => decode::decode_points(bytes, limits),
    })
    .await
}

/// Post events to a stream, as NDJSON or a JSON array.
#[utoipa::path(
    post, path = "/api/v1/streams/{stream}/events", tag = "ingest",
    params(("stream" = String, Path, description = "`metrics`, or a stream of your own"), IngestParameters, IngestHeaders),
    request_body(content = serde_json::Value, content_type = "application/x-ndjson", description = "one object a line, or a JSON array of objects; keys are column names"),
    responses((status = 200, body = IngestAnswer), (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 413, body = Problem), (status = 415, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn events(
    Ready(running): Ready,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let envelope = Envelope::read(&uri, &headers)?;
    let format = body::format(&headers)?;
    if name == METRICS {
        let body = body::read_events(body, &running).await?;
        return ingest(&running, METRICS, &envelope, body, move |bytes, limits| {
            decode::decode_metrics(bytes, format, limits)
        })
        .await;
    }
    let stream = running.engine.stream(&name).ok_or_else(|| super::streams::unknown(&running, &name))?;
    if stream.id.is_built_in() {
        let detail = format!("the stream {name} is kept by the program and takes no events");
        return Err(Problem::new(StatusCode::CONFLICT, "built_in", detail));
    }
    let body = body::read_events(body, &running).await?;
    ingest(&running, &name, &envelope, body, move |bytes, limits| decode::decode_table(bytes, format, &stream, limits))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(headers: &[(&'static str, &str)]) -> Result<Option<RequestName>, Problem> {
        name(&headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect())
    }

    #[test]
    fn a_request_has_one_name_or_none() {
        assert_eq!(name_of(&[]).unwrap(), None);
        assert_eq!(name_of(&[(KEY_HEADER, "a-1")]).unwrap(), Some(RequestName::Key("a-1".into())));
        let numbered = [(PRODUCER_HEADER, "p"), (SEQUENCE_HEADER, "7")];
        assert_eq!(name_of(&numbered).unwrap(), Some(RequestName::Sequence { producer: "p".into(), sequence: 7 }));
        for wrong in [
            &[(KEY_HEADER, "")][..],
            &[(KEY_HEADER, "a b")],
            &[(KEY_HEADER, &"x".repeat(256))],
            &[(PRODUCER_HEADER, "p")],
            &[(SEQUENCE_HEADER, "7")],
            &[(PRODUCER_HEADER, "p"), (SEQUENCE_HEADER, "-7")],
            &[(PRODUCER_HEADER, "p"), (SEQUENCE_HEADER, "9223372036854775808")],
            &[(KEY_HEADER, "a"), (PRODUCER_HEADER, "p"), (SEQUENCE_HEADER, "7")],
        ] {
            assert_eq!(name_of(wrong).unwrap_err().code, "bad_name", "{wrong:?}");
        }
    }

    #[test]
    fn parameters_are_checked() {
        let read = |uri: &'static str| Envelope::read(&Uri::from_static(uri), &HeaderMap::new());
        assert_eq!(read("/e").unwrap_or_else(|p| panic!("{}", p.detail)).parameters.ack, Acknowledge::Durable);
        let both = read("/e?ack=visible&rejects=report").unwrap_or_else(|p| panic!("{}", p.detail)).parameters;
        assert_eq!((both.ack, both.rejects), (Acknowledge::Visible, Rejects::Report));
        for wrong in ["/e?ack=soon", "/e?rejects=", "/e?akc=visible"] {
            assert_eq!(read(wrong).err().map(|problem| problem.code).as_deref(), Some("bad_parameter"), "{wrong}");
        }
    }
}
