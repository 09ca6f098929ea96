//! Which certificates a client of other services trusts: those of this machine, and those in a file.

use std::path::Path;

use thiserror::Error;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

const MAX_PEM_BYTES: u64 = 8 << 20;

/// A file of CA certificates that cannot be used.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct TrustError(String);

/// TLS that trusts the platform's roots, which `SSL_CERT_FILE` and `SSL_CERT_DIR` may replace, and those in the file `ca` (PEM) beside them.
///
/// # Errors
/// A file that cannot be read or holds no certificate.
pub fn tls_config(ca: Option<&Path>) -> Result<TlsConfig, TrustError> {
    let mut roots = certificates(ca)?;
    let platform = rustls_native_certs::load_native_certs();
    for error in &platform.errors {
        tracing::warn!("a CA certificate of this machine cannot be read: {error}");
    }
    let found = platform.certs.iter();
    roots.extend(found.map(|found| Certificate::from_der(found).to_owned()));
    let roots = if roots.is_empty() {
        // A machine without CA certificates, such as a minimal container.
        RootCerts::WebPki
    } else {
        RootCerts::from(roots)
    };
    Ok(TlsConfig::builder().root_certs(roots).build())
}

/// The certificates in a PEM file; at least one if there is a file.
///
/// # Errors
/// A file that cannot be read or holds no certificate.
pub fn certificates(file: Option<&Path>) -> Result<Vec<Certificate<'static>>, TrustError> {
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let bytes = perennial_core::read_at_most(file, MAX_PEM_BYTES)
        .map_err(|error| TrustError(error.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(TrustError(format!("{}: {error}", file.display()))),
        }
    }
    if found.is_empty() {
        return Err(TrustError(format!(
            "{} holds no certificate in PEM form",
            file.display()
        )));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(certificates(None).unwrap().is_empty());
        for content in [
            "",
            "no PEM",
            "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, content).unwrap();
            let error = certificates(Some(&path)).unwrap_err().to_string();
            assert!(error.contains("ca.pem"), "{error}");
        }
        let missing = folder.path().join("missing.pem");
        let error = certificates(Some(&missing)).unwrap_err().to_string();
        assert!(error.contains("missing.pem"), "{error}");
    }
}
