//! Trusted CA certificates of a client: those of this machine, and those in the file of `--ca`.

use std::path::Path;

use perennial_encode::endpoint::trust::{certificates, tls_config};
use ureq::config::ConfigBuilder;
#[cfg(feature = "fetch")]
use ureq::tls::TlsConfig;
use ureq::typestate::AgentScope;

use crate::exit_status::usage;

/// Prepares a client for TLS that trusts the platform's roots and the certificates of `--ca`.
pub fn secure(
    client: ConfigBuilder<AgentScope>,
    ca: Option<&Path>,
) -> anyhow::Result<ConfigBuilder<AgentScope>> {
    let tls = tls_config(ca).map_err(|error| usage(format!("--ca: {error}")))?;
    Ok(client.tls_config(tls))
}

/// Checks the file of `--ca` where the connection needs no TLS.
pub fn check(ca: Option<&Path>) -> anyhow::Result<()> {
    match certificates(ca) {
        Ok(_) => Ok(()),
        Err(error) => Err(usage(format!("--ca: {error}"))),
    }
}

/// The TLS of commands without `--ca`; a variable may name the file.
#[cfg(feature = "fetch")]
pub fn of_process() -> anyhow::Result<TlsConfig> {
    let file = std::env::var_os("PERENNIAL_CA");
    tls_config(file.as_deref().map(Path::new))
        .map_err(|error| usage(format!("environment variable PERENNIAL_CA: {error}")))
}
