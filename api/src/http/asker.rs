//! Who asks over HTTP: the name that bounds of a user hold for.
//!
//! There is no authentication here. A proxy that authenticates says in `X-Streamgauge-User` whom it lets through; without
//! that, a client goes by its address.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use streamgauge_queries::Asker;

use super::problem::Problem;

/// The header that names a user.
pub(crate) const USER_HEADER: &str = "x-streamgauge-user";
/// The longest name, in bytes.
const USER_BYTES_MAX: usize = 128;

/// See the module.
pub(crate) struct AskedBy(pub(crate) Asker);

impl<S: Send + Sync> FromRequestParts<S> for AskedBy {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let client = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| *address);
        asker(&parts.headers, client).map(AskedBy)
    }
}

/// Who asks, by the header, and otherwise by the address.
pub(crate) fn asker(headers: &HeaderMap, client: Option<SocketAddr>) -> Result<Asker, Problem> {
    let address: Option<Arc<str>> = client.map(|client| client.ip().to_string().into());
    let user = match headers.get(USER_HEADER) {
        Some(value) => Some(named(value.to_str().unwrap_or_default())?),
        None => address.clone(),
    };
    let nobody = Asker::default();
    let user = user.unwrap_or(nobody.user);
    Ok(Asker { user, client: address, protocol: "http", ..Asker::default() })
}

fn named(name: &str) -> Result<Arc<str>, Problem> {
    let name = name.trim();
    if name.is_empty() || name.len() > USER_BYTES_MAX {
        let detail = format!("header X-Streamgauge-User: a name has 1 to {USER_BYTES_MAX} letters of ASCII");
        return Err(Problem::bad_request("bad_user", detail));
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_header_goes_before_the_address() {
        let client = Some(SocketAddr::from(([10, 0, 0, 7], 40_000)));
        let asked = |name: Option<&'static str>, client| {
            let mut headers = HeaderMap::new();
            name.map(|name| headers.insert(USER_HEADER, name.parse().unwrap()));
            asker(&headers, client).map(|asker| (asker.user.to_string(), asker.client.map(|client| client.to_string())))
        };
        let at = Some("10.0.0.7".to_owned());
        assert_eq!(asked(Some(" grafana"), client).unwrap(), ("grafana".into(), at.clone()));
        assert_eq!(asked(None, client).unwrap(), ("10.0.0.7".into(), at));
        assert_eq!(asked(None, None).unwrap(), ("anonymous".into(), None));
        assert_eq!(asked(Some(""), client).unwrap_err().code, "bad_user");
    }
}
