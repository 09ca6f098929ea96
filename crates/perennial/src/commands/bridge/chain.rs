//! `perennial bridge chain`.

use std::path::PathBuf;

use perennial_bridge::{Bridge, FitRecord};
use serde::Serialize;

use super::apply::find;
use super::keep::keep;
use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folders of the bridges, or their names in the registry, in the order in which they are applied: each must start where the one before
    /// it ends
    #[arg(required = true, num_args = 2..)]
    bridges: Vec<String>,
    /// Folder to write the bridge to [default: a new number in the registry's folder `bridges`]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    #[derive(Serialize)]
    struct Answer {
        bridge: String,
        kind: String,
        sha256: String,
    }
    if let Some(folder) = &arguments.out {
        Bridge::check_target(folder)?;
    }
    let mut chained: Option<Bridge> = None;
    for name in &arguments.bridges {
        let next = find(name, global)?;
        chained = Some(match chained {
            Some(before) => before.then(&next)?,
            None => next,
        });
    }
    let Some(bridge) = chained else {
        return Ok(ExitStatus::WrongUsage);
    };
    let record = FitRecord {
        created: Some(perennial_train::now()),
        ..bridge.fit_record().clone()
    };
    let bridge = bridge.with_fit_record(record)?;
    let answer = Answer {
        bridge: keep(&bridge, arguments.out.as_deref(), global)?,
        kind: bridge.describe(),
        sha256: bridge.sha256(),
    };
    terminal.result(&answer, |_| {
        format!(
            "{}: {} from {} to {}\n",
            answer.bridge,
            answer.kind,
            bridge.from(),
            bridge.to()
        )
    })?;
    Ok(ExitStatus::Done)
}
