//! `perennial`: train, measure and manage successive model versions whose embeddings stay comparable.
//!
//! Each command is one file below `commands`; the other modules are shared by several commands.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod arguments;
mod commands;
mod configuration;
mod embedding;
mod embedding_cache;
mod exit_status;
mod gallery_folder;
mod interrupt;
mod machine;
mod measurement;
mod model_loading;
mod progress;
mod provenance;
mod resume_command;
mod run_folder;
mod run_record;
mod set_argument;
mod suggestion;
mod terminal;
mod training_run;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::exit_status::ExitStatus;
use crate::terminal::{LogFormat, Terminal};

/// Feature maps are allocated anew in every step. The system's allocator hands such large blocks back and fetches them again, page
/// by page: 15 % of a profile of training steps was the kernel's paging.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Arguments { global, command } = Arguments::parse();
    let mut terminal = Terminal::new(global.quiet, global.json);
    terminal.start_logging(match &command {
        Command::Serve(arguments) => arguments.log_format(),
        _ => LogFormat::Text,
    });
    let ended = match command {
        Command::Demo(arguments) => commands::demo::run(&arguments, &global, &terminal),
        Command::Pretrain(arguments) => commands::pretrain::run(&arguments, &global, &terminal),
        Command::Train(arguments) => commands::train::run(&arguments, &global, &terminal),
        Command::Evaluate(arguments) => commands::evaluate::run(&arguments, &global, &terminal),
        Command::Metrics(arguments) => commands::metrics::run(&arguments, &terminal),
        Command::Embed(arguments) => commands::embed::run(&arguments, &global, &terminal),
        Command::Models { action } => commands::models::run(&action, &global, &terminal),
        Command::Gallery(arguments) => commands::gallery::run(&arguments, &global, &terminal),
        Command::Serve(arguments) => commands::serve::run(&arguments, &global, &terminal),
        Command::Data { action } => commands::data::run(&action, &global, &terminal),
        Command::Bench(arguments) => commands::bench::run(&arguments, &global, &terminal),
        Command::Completions(arguments) => commands::completions::run(&arguments),
        Command::Man(arguments) => commands::man::run(&arguments),
    };
    let status = ended.unwrap_or_else(|error| {
        terminal.error(&exit_status::one_line(&error));
        ExitStatus::of(&error)
    });
    status.into()
}
