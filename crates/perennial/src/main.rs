//! `perennial`: train, measure and manage successive model versions whose embeddings stay comparable.
//!
//! Each command is one file below `commands`; the other modules are shared by several commands.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod arguments;
mod certificate_text;
mod command_line;
mod commands;
mod configuration;
mod cost_arguments;
mod database_store;
mod demand_arguments;
mod document_arguments;
mod embedding;
mod embedding_cache;
mod evaluation_arguments;
mod exit_status;
mod gallery_folder;
mod interrupt;
mod left_out;
mod listen_address;
mod log_filter;
mod machine;
mod measurement;
mod model_loading;
mod network_argument;
mod originals_download;
mod outside_publishing;
mod pictures;
mod probe;
mod progress;
mod provenance;
mod resident_memory;
mod resume_command;
mod row_pairs;
mod run_folder;
mod run_record;
mod running_service;
mod service_client;
mod set_argument;
mod stored_gallery;
mod suggestion;
mod terminal;
mod training_run;
mod vector_argument;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use crate::command_line::{Arguments, Command};
use crate::commands::serve::Settings;
use crate::exit_status::ExitStatus;
use crate::log_filter::LogFilter;
use crate::terminal::{LogFormat, Terminal};

/// Feature maps are allocated anew in every step. The system's allocator hands such large blocks back and fetches them again, page
/// by page: 15 % of a profile of training steps was the kernel's paging.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = Arguments::brief_command().get_matches();
    Arguments::refuse_two_galleries(&matches);
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut terminal = Terminal::new(arguments.global.quiet, arguments.global.json);
    let status = match start(&arguments.command, &matches, &mut terminal) {
        Ok(settings) => run(arguments, settings, &terminal),
        Err(error) => Err(error),
    };
    let status = status.unwrap_or_else(|error| {
        terminal.error(&exit_status::one_line(&error));
        ExitStatus::of(&error)
    });
    status.into()
}

/// Starts logging, for a service as its settings say, which are read for that.
fn start(
    command: &Command,
    matches: &ArgMatches,
    terminal: &mut Terminal,
) -> anyhow::Result<Option<Settings>> {
    let Command::Serve(arguments) = command else {
        let filter = LogFilter::from_environment();
        let usable = filter.as_ref().ok().and_then(Option::as_ref);
        terminal.start_logging(LogFormat::Text, usable);
        return filter.map(|_| None);
    };
    if arguments.explain_config {
        return Ok(None);
    }
    let of_command = matches.subcommand_matches("serve").unwrap_or(matches);
    let settings = Settings::resolve(arguments, of_command);
    match &settings {
        Ok(settings) => terminal.start_logging(settings.log_format.into(), settings.log.as_ref()),
        // The error is logged in the format that was asked for.
        Err(_) => terminal.start_logging(arguments.log_format(), None),
    }
    settings.map(Some)
}

fn run(
    Arguments { global, command }: Arguments,
    settings: Option<Settings>,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    match command {
        Command::Demo(arguments) => commands::demo::run(&arguments, &global, terminal),
        Command::Pretrain(arguments) => commands::pretrain::run(&arguments, &global, terminal),
        Command::Train(arguments) => commands::train::run(&arguments, &global, terminal),
        Command::Evaluate(arguments) => commands::evaluate::run(&arguments, &global, terminal),
        Command::FitHead(arguments) => commands::fit_head::run(&arguments, &global, terminal),
        Command::Metrics(arguments) => commands::metrics::run(&arguments, terminal),
        Command::Bridge { action } => commands::bridge::run(&action, &global, terminal),
        Command::Certify(arguments) => commands::certify::run(&arguments, &global, terminal),
        Command::Advise(arguments) => commands::advise::run(&arguments, &global, terminal),
        Command::Migrate { action } => commands::migrate::run(&action, &global, terminal),
        Command::Spaces { action } => commands::spaces::run(&action, &global, terminal),
        Command::Slots { action } => commands::slots::run(&action, &global, terminal),
        Command::Compare(arguments) => commands::compare::run(&arguments, &global, terminal),
        Command::Embed(arguments) => commands::embed::run(&arguments, &global, terminal),
        Command::Models { action } => commands::models::run(&action, &global, terminal),
        Command::Gallery(arguments) => commands::gallery::run(&arguments, &global, terminal),
        Command::Serve(arguments) => {
            commands::serve::run(&arguments, settings.unwrap_or_default(), terminal)
        }
        Command::Data { action } => commands::data::run(&action, &global, terminal),
        Command::Bench(arguments) => commands::bench::run(&arguments, &global, terminal),
        Command::Completions(arguments) => {
            commands::completions::run(&arguments, Arguments::command())
        }
        Command::Man(arguments) => commands::man::run(&arguments, Arguments::command()),
    }
}
