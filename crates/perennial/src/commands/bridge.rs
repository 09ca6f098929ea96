//! `perennial bridge`: maps between embedding spaces.

mod apply;
mod chain;
mod fit;
mod fold;
mod keep;
mod show;

pub use apply::{IndexArgument, find as find_bridge, weight};
pub use keep::keep as keep_bridge;

use clap::Subcommand;

use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Fit a map from one embedding space to another
    Fit(Box<fit::Arguments>),
    /// Map a file of embeddings, or write dual queries
    Apply(apply::Arguments),
    /// Compose bridges into one: new to middle, middle to old
    Chain(chain::Arguments),
    /// Fold a bridge into a model version's embedding layer: a new version that embeds into the bridge's target space
    Fold(fold::Arguments),
    /// List the bridges of the registry
    List,
    /// Show a bridge: spaces, kind, what it was fitted on, what was tried
    Show(show::Arguments),
}

pub fn run(
    action: &Action,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    match action {
        Action::Fit(arguments) => fit::run(arguments, global, terminal),
        Action::Apply(arguments) => apply::run(arguments, global, terminal),
        Action::Chain(arguments) => chain::run(arguments, global, terminal),
        Action::Fold(arguments) => fold::run(arguments, global, terminal),
        Action::List => show::list(global, terminal),
        Action::Show(arguments) => show::run(arguments, global, terminal),
    }
}
