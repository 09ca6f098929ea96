//! In place of `migrate` in a build without databases.

use std::ffi::OsString;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::terminal::Terminal;

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Whatever was asked for
    #[command(external_subcommand)]
    Any(Vec<OsString>),
}

pub fn run(action: &Action, _: &GlobalArguments, _: &Terminal) -> anyhow::Result<ExitStatus> {
    let Action::Any(words) = action;
    let first = words.first().map(|word| word.to_string_lossy());
    Err(usage(format!(
        "migrate {}: this build knows no databases; build with --features pgvector or qdrant",
        first.unwrap_or_default()
    )))
}
