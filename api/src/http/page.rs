//! The web page, built into the program.

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use super::problem::Problem;

#[derive(RustEmbed)]
#[folder = "../dashboard/dist"]
#[allow_missing = true]
struct Page;

/// Serves a file of the page, and the page itself for every path that is not a file or an interface.
pub(crate) async fn serve(uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path.starts_with("api/") || path.starts_with("v1/") {
        return Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is nothing at /{path}; /docs lists what there is"),
        )
        .into_response();
    }
    match (Page::get(path), Page::get("index.html")) {
        (Some(file), _) => {
            // Names of built assets carry a hash of their content, so they never change.
            let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
            let kind = file.metadata.mimetype().to_owned();
            ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, cache.into())], file.data).into_response()
        }
        (None, Some(index)) if !path.contains('.') => {
            ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")], index.data)
                .into_response()
        }
        (None, Some(_)) => {
            Problem::new(StatusCode::NOT_FOUND, "not_found", format!("there is no file /{path}")).into_response()
        }
        (None, None) => {
            let detail = "the page was not built into this program; build it with `make page`, then the program again; the API works, see /docs";
            Problem::new(StatusCode::NOT_FOUND, "page_not_built", detail).into_response()
        }
    }
}
