//! Which form an answer has: that of the body, else that of the address, else the one that `Accept` likes best.

use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use streamgauge_queries::Format;
use utoipa::{IntoParams, ToSchema};

use crate::http::problem::Problem;

/// The form of an answer.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SqlFormat {
    /// One JSON object with columns and rows.
    Json,
    /// One JSON object a row.
    Ndjson,
    /// Comma-separated, with a header.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
    /// A sheet of Excel, up to 1,048,575 rows.
    Xlsx,
}

impl From<SqlFormat> for Format {
    fn from(format: SqlFormat) -> Self {
        match format {
            SqlFormat::Json => Format::Json,
            SqlFormat::Ndjson => Format::Ndjson,
            SqlFormat::Csv => Format::Csv,
            SqlFormat::Arrow => Format::Arrow,
            SqlFormat::Parquet => Format::Parquet,
            SqlFormat::Xlsx => Format::Xlsx,
        }
    }
}

/// What the address of a question may say.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SqlParameters {
    /// The form of the answer; that of the body goes before it, and it before `Accept`.
    #[param(inline)]
    pub(super) format: Option<SqlFormat>,
}

/// The names of a format in `Accept`, beside its own.
fn also(format: Format) -> &'static [&'static str] {
    match format {
        Format::Json => &["text/json"],
        Format::Ndjson => &["application/ndjson", "application/jsonl", "application/x-jsonlines"],
        Format::Arrow => &["application/vnd.apache.arrow"],
        Format::Parquet => &["application/x-parquet"],
        Format::Csv | Format::Xlsx => &[],
    }
}

/// The format that `Accept` likes best; JSON where it has no wish.
pub(super) fn accepted(headers: &HeaderMap) -> Result<Format, Problem> {
    let mut ranges = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        ranges.extend(value.to_str().unwrap_or_default().split(',').filter_map(Range::read));
    }
    if ranges.is_empty() {
        return Ok(Format::Json);
    }
    let liked = |format: &Format| {
        let fits = ranges.iter().filter(|range| range.has(*format));
        fits.max_by_key(|range| range.precision()).map_or(0, |range| range.quality)
    };
    // Of equals the first is taken, in the order in which the client names them, and then in ours.
    let place = |format: &Format| ranges.iter().position(|range| range.precision() == 2 && range.has(*format));
    let rank = |format: &Format| (std::cmp::Reverse(liked(format)), place(format).unwrap_or(usize::MAX));
    let best = Format::ALL.into_iter().min_by_key(rank).filter(|format| liked(format) > 0);
    best.ok_or_else(|| {
        let offered: Vec<&str> = Format::ALL.iter().map(|format| essence(format.content_type())).collect();
        let detail = format!("an answer has none of the types in Accept; ask for {}", offered.join(", "));
        Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail)
    })
}

/// A media type without its parameters.
fn essence(kind: &str) -> &str {
    kind.split(';').next().unwrap_or_default().trim()
}

/// A part of `Accept`.
struct Range {
    kind: String,
    /// In thousandths.
    quality: u32,
}

impl Range {
    fn read(part: &str) -> Option<Self> {
        let kind = essence(part).to_ascii_lowercase();
        let quality = part.split(';').skip(1).find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().ok())?
        });
        let quality = (quality.unwrap_or(1.0).clamp(0.0, 1.0) * 1_000.0) as u32;
        (!kind.is_empty()).then_some(Range { kind, quality })
    }

    fn has(&self, format: Format) -> bool {
        let own = essence(format.content_type());
        let names = || std::iter::once(own).chain(also(format).iter().copied());
        match self.kind.strip_suffix("/*") {
            Some("*") => true,
            Some(family) => names().any(|name| name.split('/').next() == Some(family)),
            None => names().any(|name| name == self.kind),
        }
    }

    /// Of ranges that a format is in, the most precise counts.
    fn precision(&self) -> u8 {
        match self.kind.strip_suffix("/*") {
            Some("*") => 0,
            Some(_) => 1,
            None => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn check(accept: &[&'static str], expected: Option<Format>) {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        let found = accepted(&headers);
        assert_eq!(found.as_ref().ok(), expected.as_ref(), "{accept:?}");
        if let Err(problem) = found {
            assert_eq!((problem.status, problem.code.as_str()), (406, "not_acceptable"));
            assert!(problem.detail.contains("application/vnd.apache.parquet"), "{}", problem.detail);
        }
    }

    #[test]
    fn the_best_liked_format_is_taken() {
        check(&[], Some(Format::Json));
        check(&["*/*"], Some(Format::Json));
        check(&["text/html,application/xhtml+xml,*/*;q=0.8"], Some(Format::Json));
        for format in Format::ALL {
            check(&[format.content_type()], Some(format));
        }
        check(&["text/csv;q=0.5, application/x-ndjson"], Some(Format::Ndjson));
        check(&["text/csv;q=0.5", "application/jsonl;q=0.4"], Some(Format::Csv));
        check(&["application/vnd.apache.parquet, text/csv"], Some(Format::Parquet));
        check(&["text/csv, application/vnd.apache.parquet"], Some(Format::Csv));
        check(&["application/json;q=0, */*"], Some(Format::Ndjson));
        check(&["TEXT/CSV ; charset=utf-8 ; Q=0.9"], Some(Format::Csv));
        check(&["text/html"], None);
        check(&["text/csv;q=0"], None);
        check(&["image/*"], None);
    }
}
