//! Trusted CA certificates of a client: those of this machine, and those in the file of `--ca`.

use std::path::Path;

use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::AgentScope;

use crate::exit_status::usage;

const MAX_PEM_BYTES: u64 = 8 << 20;

/// Prepares a client for TLS that trusts the platform's roots and the certificates of `--ca`.
pub fn secure(
    client: ConfigBuilder<AgentScope>,
    ca: Option<&Path>,
) -> anyhow::Result<ConfigBuilder<AgentScope>> {
    Ok(client.tls_config(tls_config(ca)?))
}

/// Checks the file of `--ca` where the connection needs no TLS.
pub fn check(ca: Option<&Path>) -> anyhow::Result<()> {
    certificates(ca).map(drop)
}

/// The TLS of commands without `--ca`; a variable may name the file.
#[cfg(feature = "fetch")]
pub fn of_process() -> anyhow::Result<TlsConfig> {
    let file = std::env::var_os("PERENNIAL_CA");
    tls_config(file.as_deref().map(Path::new))
}

/// TLS that trusts the platform's roots, which `SSL_CERT_FILE` and `SSL_CERT_DIR` may replace, and `ca` beside them.
fn tls_config(ca: Option<&Path>) -> anyhow::Result<TlsConfig> {
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
fn certificates(file: Option<&Path>) -> anyhow::Result<Vec<Certificate<'static>>> {
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let refused = |problem: &dyn std::fmt::Display| usage(format!("--ca: {problem}"));
    let bytes =
        perennial_core::read_at_most(file, MAX_PEM_BYTES).map_err(|error| refused(&error))?;
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => {
                return Err(refused(&format!("{}: {error}", file.display())));
            }
        }
    }
    if found.is_empty() {
        return Err(refused(&format!(
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
