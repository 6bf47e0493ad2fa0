//! SCRAM-SHA-256 (RFC 5802, RFC 7677): a client proves that it knows the password without sending it, and is shown
//! that the server knows it too.
//!
//! The password itself is not kept: only what is derived of it with a salt, made anew at each start. Channel binding
//! (`SCRAM-SHA-256-PLUS`) is not offered.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

/// The name of the mechanism.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4_096).expect("it is not zero");
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 18;

/// What is kept of a password.
pub(crate) struct Secret {
    salt: [u8; SALT_BYTES],
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

/// The client has said who it is and is to prove it.
pub(super) struct Challenge<'a> {
    secret: &'a Secret,
    /// The channel binding that the client named, in base64.
    binding: String,
    nonce: String,
    client_first: String,
    server_first: String,
}

impl Secret {
    /// Derives it.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn of(password: &str) -> anyhow::Result<Self> {
        let mut salt = [0; SALT_BYTES];
        random(&mut salt)?;
        let prepared = stringprep::saslprep(password).unwrap_or(password.into()); // as PostgreSQL does
        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, prepared.as_bytes(), &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key).as_ref().to_vec();
        Ok(Secret { salt, stored_key, server_key: sign(&salted, b"Server Key") })
    }

    /// Answers the client's first message; `None` when it cannot be read.
    pub(super) fn challenge(&self, message: &str) -> anyhow::Result<Option<(Challenge<'_>, String)>> {
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce)?;
        Ok(self.challenge_with(message, &STANDARD.encode(nonce)))
    }

    fn challenge_with(&self, message: &str, nonce: &str) -> Option<(Challenge<'_>, String)> {
        // `n` and `y` go without channel binding; `p=…` asks for one.
        let (flag, rest) = message.split_once(',')?;
        let (identity, bare) = rest.split_once(',')?;
        if !matches!(flag, "n" | "y") {
            return None;
        }
        let client_nonce = bare.split(',').find_map(|part| part.strip_prefix("r="))?;
        let nonce = format!("{client_nonce}{nonce}");
        let server_first = format!("r={nonce},s={},i={ITERATIONS}", STANDARD.encode(self.salt));
        let challenge = Challenge {
            secret: self,
            binding: STANDARD.encode(format!("{flag},{identity},")),
            nonce,
            client_first: bare.to_owned(),
            server_first: server_first.clone(),
        };
        Some((challenge, server_first))
    }
}

impl Challenge<'_> {
    /// Checks the client's proof; answers with the server's, or `None` when the password is another.
    pub(super) fn check(&self, message: &str) -> Option<String> {
        let (without_proof, proof) = message.rsplit_once(",p=")?;
        let mut parts = without_proof.split(',');
        let (binding, nonce) = (parts.next()?.strip_prefix("c=")?, parts.next()?.strip_prefix("r=")?);
        if binding != self.binding || nonce != self.nonce {
            return None;
        }
        let signed = format!("{},{},{without_proof}", self.client_first, self.server_first);
        let signature = sign(&self.secret.stored_key, signed.as_bytes());
        let proof = STANDARD.decode(proof).ok().filter(|proof| proof.len() == signature.len())?;
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        // Both are digests, so how long their comparison takes tells nothing of the password.
        (stored_key.as_ref() == self.secret.stored_key)
            .then(|| format!("v={}", STANDARD.encode(sign(&self.secret.server_key, signed.as_bytes()))))
    }
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

/// Fills with randomness of the system.
pub(super) fn random(bytes: &mut [u8]) -> anyhow::Result<()> {
    SystemRandom::new().fill(bytes).map_err(|_| anyhow::anyhow!("the system has no randomness"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange that RFC 7677 gives as its example, from the password `pencil`.
    fn of_the_rfc() -> Secret {
        let salt: [u8; SALT_BYTES] = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, b"pencil", &mut salted);
        let stored_key = digest::digest(&digest::SHA256, &sign(&salted, b"Client Key")).as_ref().to_vec();
        Secret { salt, stored_key, server_key: sign(&salted, b"Server Key") }
    }

    #[test]
    fn the_example_of_the_rfc() {
        let secret = of_the_rfc();
        let (challenge, first) =
            secret.challenge_with("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
        assert_eq!(first, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(challenge.check(last).as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        let wrong = last.replace("dHzb", "eHzb");
        assert_eq!(challenge.check(&wrong), None);
        assert_eq!(challenge.check(&last.replace("c=biws", "c=eSws")), None);
        assert_eq!(challenge.check("c=biws"), None);
        assert!(secret.challenge_with("p=tls-server-end-point,,n=,r=x", "y").is_none());
    }
}
