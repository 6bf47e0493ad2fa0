//! Who may call: whoever shows the password, or a token that was given for it.
//!
//! A token is a time, a user's name and a signature over both with a key that is made at each start, so nothing is kept
//! of tokens that were given, and none outlives the program. Without a password everybody who reaches the port may call.
//! Names are not checked: one password is for all.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::SystemRandom;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::connection::Standing;

/// A token is good for so long; then its client shows the password again.
const TOKEN_MAX: Duration = Duration::from_secs(24 * 3_600);
const TIME_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 32;
/// The longest name of a user, in bytes.
const USER_BYTES_MAX: usize = 128;

/// The name that a caller gave, if he gave one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Caller(pub(super) Option<Arc<str>>);

/// Lets calls in; clones share what they know.
#[derive(Clone)]
pub(crate) struct Access(Arc<Keys>);

struct Keys {
    key: hmac::Key,
    /// What is kept of the password.
    password: Option<hmac::Tag>,
}

impl Access {
    /// Of those who know the password, or of all when there is none.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn new(password: Option<&str>) -> anyhow::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
        let password = password.map(|password| hmac::sign(&key, password.as_bytes()));
        Ok(Access(Arc::new(Keys { key, password })))
    }

    /// A token for a caller, as the header `authorization` holds it.
    pub(super) fn token(&self, caller: &Caller, now: SystemTime) -> MetadataValue<Ascii> {
        let until = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + TOKEN_MAX;
        let user = caller.0.as_deref().unwrap_or_default();
        let mut token = [&until.as_secs().to_be_bytes(), user.as_bytes()].concat();
        token.extend_from_slice(hmac::sign(&self.0.key, &token).as_ref());
        let header = format!("Bearer {}", URL_SAFE_NO_PAD.encode(token));
        MetadataValue::try_from(header).expect("base64 makes a header")
    }

    /// Who calls; without a password, whoever he says he is.
    fn check(&self, headers: &MetadataMap, now: SystemTime) -> Result<Caller, &'static str> {
        let shown = self.shown(headers, now);
        if self.0.password.is_none() { Ok(shown.unwrap_or_default()) } else { shown }
    }

    fn shown(&self, headers: &MetadataMap, now: SystemTime) -> Result<Caller, &'static str> {
        let given = headers.get("authorization").ok_or("a password is needed, and the call has none")?;
        let (scheme, given) = given.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
        if scheme.eq_ignore_ascii_case("basic") {
            let given = STANDARD.decode(given.trim()).unwrap_or_default();
            let colon = given.iter().position(|byte| *byte == b':').ok_or("the user and password cannot be read")?;
            if let Some(password) = &self.0.password {
                hmac::verify(&self.0.key, &given[colon + 1..], password.as_ref())
                    .map_err(|_| "the password is wrong")?;
            }
            return Ok(named(&given[..colon]));
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err("authorization is neither Basic, with user and password, nor Bearer, with a token");
        }
        self.of_token(given.trim(), now)
    }

    fn of_token(&self, token: &str, now: SystemTime) -> Result<Caller, &'static str> {
        const UNKNOWN: &str = "the token is none of this server, or was given before it started; log in again";
        let token = URL_SAFE_NO_PAD.decode(token).map_err(|_| UNKNOWN)?;
        let signed = token.len().checked_sub(SIGNATURE_BYTES).filter(|signed| *signed >= TIME_BYTES).ok_or(UNKNOWN)?;
        let (signed, signature) = token.split_at(signed);
        hmac::verify(&self.0.key, signed, signature).map_err(|_| UNKNOWN)?;
        let (time, user) = signed.split_at(TIME_BYTES);
        let until = u64::from_be_bytes(time.try_into().map_err(|_| UNKNOWN)?);
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if now < until { Ok(named(user)) } else { Err("the token has expired; log in again") }
    }
}

fn named(user: &[u8]) -> Caller {
    let user = String::from_utf8_lossy(user);
    let user = &user[..user.floor_char_boundary(USER_BYTES_MAX)];
    Caller((!user.is_empty()).then(|| user.into()))
}

impl Interceptor for Access {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let standing = request.extensions().get::<Arc<Standing>>().cloned();
        let standing = standing.ok_or_else(|| Status::internal("the connection of a call is not known"))?;
        if let Some(reason) = &standing.refusal {
            metrics::counter!("streamgauge_refused_total", "bound" => "flight_connections").increment(1);
            return Err(Status::resource_exhausted(reason));
        }
        let caller = self.check(request.metadata(), SystemTime::now()).map_err(Status::unauthenticated)?;
        standing.admit();
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(authorization: &str) -> MetadataMap {
        let mut headers = MetadataMap::new();
        headers.insert("authorization", authorization.parse().unwrap());
        headers
    }

    fn basic(text: &str) -> MetadataMap {
        with(&format!("Basic {}", STANDARD.encode(text)))
    }

    #[test]
    fn only_the_password_and_tokens_for_it_let_calls_in() {
        let (access, now) = (Access::new(Some("p:é")).unwrap(), SystemTime::now());
        let somebody = Caller(Some("somebody".into()));
        assert_eq!(access.check(&basic("somebody:p:é"), now), Ok(somebody.clone()));
        assert_eq!(access.check(&basic(":p:é"), now), Ok(Caller(None)));
        for (headers, says) in [
            (MetadataMap::new(), "the call has none"),
            (basic("anybody:p:e"), "is wrong"),
            (basic("anybody:"), "is wrong"),
            (basic("anybody"), "cannot be read"),
            (with("Basic ???"), "cannot be read"),
            (with("Digest x"), "neither Basic"),
            (with("x"), "neither Basic"),
            (with("Bearer x"), "none of this server"),
            (with("Bearer "), "none of this server"),
        ] {
            let reason = access.check(&headers, now).unwrap_err();
            assert!(reason.contains(says), "{headers:?}: {reason}");
        }
        let open = Access::new(None).unwrap();
        assert_eq!(open.check(&MetadataMap::new(), now), Ok(Caller(None)));
        assert_eq!(open.check(&basic("somebody:"), now), Ok(somebody));
        assert_eq!(open.check(&with("Bearer of bad news"), now), Ok(Caller(None)));
    }

    #[test]
    fn tokens_expire_and_cannot_be_made() {
        let (access, now) = (Access::new(Some("p")).unwrap(), SystemTime::now());
        let caller = Caller(Some("é".repeat(USER_BYTES_MAX / 2).into()));
        let token = access.token(&caller, now);
        let text = token.to_str().unwrap();
        assert_eq!(access.check(&with(text), now), Ok(caller));
        assert_eq!(access.check(&with(text), now + TOKEN_MAX), Err("the token has expired; log in again"));
        let token = URL_SAFE_NO_PAD.decode(&text["Bearer ".len()..]).unwrap();
        for place in [0, TIME_BYTES, token.len() - 1] {
            let mut changed = token.clone();
            changed[place] ^= 1;
            let changed = with(&format!("Bearer {}", URL_SAFE_NO_PAD.encode(changed)));
            assert!(access.check(&changed, now).unwrap_err().contains("none of this server"), "at {place}");
        }
        assert!(Access::new(Some("p")).unwrap().check(&with(text), now).is_err(), "of another start");
    }
}
