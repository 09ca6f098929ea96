//! `perennial bridge fold`.

use serde::Serialize;

use super::apply::find;
use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::outside_publishing::publish_layered;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder of a bridge that was fitted with --uncentred, or its name in the registry
    bridge: String,
    /// Version name or alias: the bridge's source
    version: String,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    #[derive(Serialize)]
    struct Answer<'a> {
        version: &'a str,
        parent: &'a str,
        dim: usize,
    }
    let bridge = find(&arguments.bridge, global)?;
    let registry = global.open_registry()?;
    let parent = registry.get(&arguments.version)?;
    let (draft, weights) = perennial_train::fold(&registry, &parent, &bridge)?;
    let version = publish_layered(&registry, &parent, draft, &weights, global)?;
    let answer = Answer {
        version: &version.name,
        parent: &parent.name,
        dim: version.dim,
    };
    terminal.result(&answer, |_| {
        format!(
            "{}: {} with {} folded in, {} dimensions; certify it before it is used\n",
            version.name,
            parent.name,
            bridge.describe(),
            version.dim
        )
    })?;
    Ok(ExitStatus::Done)
}
