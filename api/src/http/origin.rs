//! Who may use the program from a browser: pages of its own, that were asked for under a name of its own.
//!
//! ```text
//!  a page of evil.example ─▶ asks 127.0.0.1:8080             Origin: http://evil.example        refused, `cross_origin`
//!  evil.example, which now leads to 127.0.0.1 ─▶ asks it      Host: evil.example                 refused, `host_unknown`
//! ```
//!
//! Without authentication, the address is all that protects a program on loopback. A name that somebody else can make lead
//! there does not count as its address. Elsewhere everybody who reaches the port may do everything anyway, so any name is taken.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::Problem;

/// The names under which the program is asked.
#[derive(Clone, Debug)]
pub(crate) enum Hosts {
    /// On loopback: those of loopback, and these.
    Loopback(Arc<[String]>),
    /// Elsewhere: any.
    Any,
}

impl Hosts {
    /// Those of a program that listens at an address; on loopback it has further names.
    pub(crate) fn of(address: SocketAddr, names: &[String]) -> Self {
        match address.ip().to_canonical().is_loopback() {
            true => Hosts::Loopback(names.iter().filter_map(|name| host_name(name)).collect()),
            false => Hosts::Any,
        }
    }

    fn has(&self, host: &str) -> bool {
        let Hosts::Loopback(names) = self else { return true };
        let Some(name) = host_name(host) else { return false };
        let is_loopback = name.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback());
        is_loopback || name == "localhost" || names.contains(&name)
    }

    /// The host that a request names and that is not ours; one that names none is not from a browser.
    fn foreign(&self, request: &Request) -> Option<String> {
        let named = request.headers().get_all(header::HOST).iter();
        let mut named = named.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        let of_target = request.uri().authority().map(ToString::to_string);
        named.find(|host| !self.has(host)).or(of_target.filter(|host| !self.has(host)))
    }
}

/// The name or address in `name[:port]`, in small letters and an address of IPv6 without its brackets; `None` when it is none.
pub(crate) fn host_name(host: &str) -> Option<String> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, port)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let is_whole = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (is_whole && !name.is_empty() && name.chars().all(is_name)).then_some(name)
}

/// Refuses what a browser sends for a page of another site.
pub(super) async fn own_pages(State(hosts): State<Hosts>, request: Request, next: Next) -> Result<Response, Problem> {
    if let Some(host) = hosts.foreign(&request) {
        let detail = format!(
            "{host:?} is not a name of this program, which is on loopback: ask it by its address or as localhost, or list the \
             name in its setting http_hosts (--http-hosts)"
        );
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "host_unknown", detail));
    }
    match foreign_origin(request.headers()) {
        Some(origin) => {
            let detail = format!("a page of {origin} may not use this program");
            Err(Problem::new(StatusCode::FORBIDDEN, "cross_origin", detail))
        }
        None => Ok(next.run(request).await),
    }
}

/// The origin of the page that a browser says it acts for, when it is not our own.
fn foreign_origin(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (origin, host) = (text("origin")?, text("host")?);
    let own = origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host));
    (!own).then(|| origin.to_owned())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn pages_of_other_sites_are_refused() {
        for (origin, foreign) in [
            (None, false),
            (Some("http://127.0.0.1:8080"), false),
            (Some("http://localhost:3000"), true),
            (Some("https://evil.example"), true),
            (Some("null"), true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", "127.0.0.1:8080".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert("origin", origin.parse().unwrap());
            }
            assert_eq!(foreign_origin(&headers).is_some(), foreign, "{origin:?}");
        }
    }

    #[test]
    fn on_loopback_names_are_those_of_loopback_or_listed() {
        let hosts =
            Hosts::of("127.0.0.1:8080".parse().unwrap(), &["SG.example.org".to_owned(), "proxy:443".to_owned()]);
        for host in [
            "localhost",
            "LocalHost:3000",
            "localhost.",
            "127.0.0.1",
            "127.1.2.3:8080",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:1",
            "sg.example.org",
            "Sg.Example.Org:80",
            "proxy",
        ] {
            assert!(hosts.has(host), "{host}");
        }
        for host in [
            "",
            ":8080",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "example.org",
            "10.0.0.1:8080",
            "0.0.0.0",
            "[::2]:8080",
            "[::1",
            "[::1]x",
            "127.0.0.1:http",
            "localhost:8080:8080",
        ] {
            assert!(!hosts.has(host), "{host}");
        }
        assert!(Hosts::of("[::1]:8080".parse().unwrap(), &[]).has("[::1]:8080"));
        assert!(!Hosts::of("[::1]:8080".parse().unwrap(), &[]).has("evil.example"));
        assert!(Hosts::of("0.0.0.0:8080".parse().unwrap(), &[]).has("anything.example"));
    }

    #[test]
    fn every_host_that_a_request_names_counts() {
        let hosts = Hosts::of("127.0.0.1:8080".parse().unwrap(), &[]);
        let foreign = |target: &str, named: &[&str]| {
            let mut request = Request::builder().uri(target);
            for host in named {
                request = request.header("host", *host);
            }
            hosts.foreign(&request.body(Body::empty()).unwrap())
        };
        assert_eq!(foreign("/", &[]), None);
        assert_eq!(foreign("/", &["localhost:8080"]), None);
        assert_eq!(foreign("/", &["localhost", "evil.example"]).as_deref(), Some("evil.example"));
        assert_eq!(foreign("http://evil.example/", &["localhost"]).as_deref(), Some("evil.example"));
    }
}
