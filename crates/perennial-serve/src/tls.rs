//! TLS through rustls with the ring provider.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use perennial_core::read_at_most;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificate::not_after;
use crate::config::{Timeouts, TlsFiles};
use crate::connections::LimitedAcceptor;
use crate::durations::seconds;
use crate::error::ServeError;

const MAX_PEM_BYTES: u64 = 1 << 20;

/// The TLS of a service.
#[derive(Clone)]
pub(crate) struct Tls {
    files: TlsFiles,
    config: RustlsConfig,
}

/// A certificate and its key, read but not in use yet.
pub(crate) struct Loaded {
    config: Arc<ServerConfig>,
    expires: SystemTime,
}

impl Tls {
    /// Reads the certificate chain and the key; also returns when the first certificate of the chain expires.
    ///
    /// # Errors
    /// [`ServeError::Config`] for a file that cannot be read, [`ServeError::Tls`] for one that holds no certificate or key, and where the two do not
    /// belong together.
    pub(crate) fn load(files: TlsFiles) -> Result<(Self, SystemTime), ServeError> {
        let Loaded { config, expires } = load(&files)?;
        let config = RustlsConfig::from_config(config);
        Ok((Self { files, config }, expires))
    }

    /// Reads the files again, and changes nothing.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub(crate) fn read_again(&self) -> Result<Loaded, ServeError> {
        load(&self.files)
    }

    /// Uses another certificate for new connections.
    pub(crate) fn replace(&self, loaded: Loaded) {
        self.config.reload_from_config(loaded.config);
    }

    /// TLS over limited connections.
    pub(crate) fn acceptor(
        self,
        limited: LimitedAcceptor,
        timeouts: &Timeouts,
    ) -> RustlsAcceptor<LimitedAcceptor> {
        RustlsAcceptor::new(self.config)
            .handshake_timeout(seconds(timeouts.header_seconds))
            .acceptor(limited)
    }
}

impl Loaded {
    /// When the first certificate of the chain expires.
    pub(crate) fn expires(&self) -> SystemTime {
        self.expires
    }
}

fn load(files: &TlsFiles) -> Result<Loaded, ServeError> {
    let chain = read("tls.certificate", &files.certificate)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|error| refused(&files.certificate, error))?;
    if chain.is_empty() {
        return Err(refused(
            &files.certificate,
            "holds no certificate in PEM form",
        ));
    }
    let mut expires = None;
    for (number, certificate) in (1..).zip(&chain) {
        let end = not_after(certificate).ok_or_else(|| {
            let problem = format!("certificate {number} of the chain is damaged");
            refused(&files.certificate, problem)
        })?;
        expires = Some(expires.map_or(end, |first: SystemTime| first.min(end)));
    }
    let expires = expires.unwrap_or(SystemTime::UNIX_EPOCH);
    if expires <= SystemTime::now() {
        tracing::warn!(
            path = %files.certificate.display(),
            "a certificate of the chain has expired: clients will refuse to connect"
        );
    }
    let key = PrivateKeyDer::from_pem_slice(&read("tls.key", &files.key)?)
        .map_err(|error| refused(&files.key, error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(&files.certificate, error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| {
            let certificate = files.certificate.display();
            refused(&files.key, format!("with {certificate}: {error}"))
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded {
        config: Arc::new(config),
        expires,
    })
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, ServeError> {
    read_at_most(path, MAX_PEM_BYTES).map_err(|error| ServeError::Config {
        key: key.into(),
        problem: error.to_string(),
    })
}

fn refused(path: &Path, problem: impl std::fmt::Display) -> ServeError {
    ServeError::Tls {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}
