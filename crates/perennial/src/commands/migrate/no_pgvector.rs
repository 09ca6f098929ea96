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

pub fn run(_: &Action, _: &GlobalArguments, _: &Terminal) -> anyhow::Result<ExitStatus> {
    Err(usage(
        "this build knows no databases; build with --features pgvector",
    ))
}
