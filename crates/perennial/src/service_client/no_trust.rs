//! In place of `trust` in a build without TLS: nothing that needs it is tried.

use std::path::Path;

use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

use crate::exit_status::usage;

pub fn secure(
    _: ConfigBuilder<AgentScope>,
    _: Option<&Path>,
) -> anyhow::Result<ConfigBuilder<AgentScope>> {
    Err(usage(
        "https:// addresses cannot be reached: this build has no TLS; build with --features tls",
    ))
}

pub fn check(ca: Option<&Path>) -> anyhow::Result<()> {
    match ca {
        None => Ok(()),
        Some(file) => Err(usage(format!(
            "--ca {}: this build has no TLS; build with --features tls",
            file.display()
        ))),
    }
}
