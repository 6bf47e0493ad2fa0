//! TLS, when a certificate is given.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, version};

/// What the server shows to clients that ask for TLS.
#[derive(Clone)]
pub(crate) struct Identity(pub(super) TlsAcceptor);

impl Identity {
    /// Reads a certificate, with those that vouch for it after it, and its key.
    ///
    /// # Errors
    /// When a file cannot be read, or the two do not belong together.
    pub(crate) fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let config = tls_config(certificate, key, "pg")?;
        Ok(Identity(TlsAcceptor::from(Arc::new(config))))
    }
}

/// How a server with such a certificate speaks TLS; the settings that name its files begin with `setting`.
///
/// # Errors
/// When a file cannot be read, or the two do not belong together.
pub(crate) fn tls_config(certificate: &Path, key: &Path, setting: &str) -> anyhow::Result<ServerConfig> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("{setting}_tls_cert: {} has no certificates in PEM", certificate.display()))?;
    anyhow::ensure!(
        !certificates.is_empty(),
        "{setting}_tls_cert: {} has no certificates in PEM",
        certificate.display()
    );
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("{setting}_tls_key: {} has no private key in PEM", key.display()))?;
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .and_then(|config| config.with_no_client_auth().with_single_cert(certificates, private))
        .with_context(|| format!("{} and {} do not belong together", certificate.display(), key.display()))
}
