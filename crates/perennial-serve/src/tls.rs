//! TLS through rustls with the ring provider.

use std::path::Path;
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use perennial_core::read_at_most;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsFiles;
use crate::error::ServeError;

const MAX_PEM_BYTES: u64 = 1 << 20;

/// Reads the certificate chain and the key.
///
/// # Errors
/// [`ServeError::Tls`] for a file that cannot be read, holds no certificate or key, or where the two do not belong together.
pub(crate) fn load(files: &TlsFiles) -> Result<RustlsConfig, ServeError> {
    let chain = read(&files.certificate)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|error| refused(&files.certificate, error))?;
    if chain.is_empty() {
        return Err(refused(
            &files.certificate,
            "holds no certificate in PEM form",
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| refused(&files.key, error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(&files.certificate, error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| refused(&files.key, error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

fn read(path: &Path) -> Result<Vec<u8>, ServeError> {
    read_at_most(path, MAX_PEM_BYTES).map_err(|error| refused(path, error))
}

fn refused(path: &Path, problem: impl std::fmt::Display) -> ServeError {
    ServeError::Tls {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}
