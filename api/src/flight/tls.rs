//! TLS, when a certificate is given.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use crate::postgres;

/// What the server shows to its clients, all of which must speak TLS then.
#[derive(Clone)]
pub(crate) struct Identity(pub(super) TlsAcceptor);

impl Identity {
    /// Reads a certificate, with those that vouch for it after it, and its key.
    ///
    /// # Errors
    /// When a file cannot be read, or the two do not belong together.
    pub(crate) fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let mut config = postgres::tls_config(certificate, key, "flight")?;
        config.alpn_protocols = vec![b"h2".to_vec()]; // clients of gRPC insist on being told
        Ok(Identity(TlsAcceptor::from(Arc::new(config))))
    }
}
