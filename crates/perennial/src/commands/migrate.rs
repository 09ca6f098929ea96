//! `perennial migrate`: an index in a database that others own moves to a new encoder.

mod advise;
mod certify;
mod clean;
mod database_arguments;
mod database_gallery;
mod expectation;
mod export;
mod failure;
mod follow;
mod index_evaluation;
mod mapped_arguments;
mod plan;
mod run;
mod standing_text;
mod switch;
mod verify;

use clap::Subcommand;

use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Write rows of an index to a file of vectors, for the new encoder, bridge fit, and measurements on files
    Export(Box<export::Arguments>),
    /// Measure every way to handle the upgrade on rows of the database, and say which one pays
    Advise(Box<advise::Arguments>),
    /// Measure on rows of the database whether queries of a new encoder may search it
    Certify(Box<certify::Arguments>),
    /// Count, and estimate disk and time, before anything is written
    Plan(Box<plan::Arguments>),
    /// Write new embeddings beside the old ones; run again to continue and to catch up
    Run(Box<run::Arguments>),
    /// Count copies, compare a sample, measure the recall of the new index, and ask the database your evaluation set
    Verify(Box<verify::Arguments>),
    /// Make a view, or an alias, show the new vectors, in one step
    Switch(switch::Arguments),
    /// Make the view or alias show the old vectors again
    Rollback(switch::RollbackArguments),
    /// Remove the new embeddings and everything else of a migration
    Clean(clean::Arguments),
}

pub fn run(
    action: &Action,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    match action {
        Action::Export(arguments) => export::run(arguments, terminal),
        Action::Advise(arguments) => advise::run(arguments, global, terminal),
        Action::Certify(arguments) => certify::run(arguments, global, terminal),
        Action::Plan(arguments) => plan::run(arguments, global, terminal),
        Action::Run(arguments) => run::run(arguments, global, terminal),
        Action::Verify(arguments) => verify::run(arguments, global, terminal),
        Action::Switch(arguments) => switch::run(arguments, terminal),
        Action::Rollback(arguments) => switch::rollback(arguments, terminal),
        Action::Clean(arguments) => clean::run(arguments, terminal),
    }
}
