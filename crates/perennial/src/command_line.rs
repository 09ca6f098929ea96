//! The command line: the list of commands.

use std::collections::BTreeSet;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, Id, Parser, Subcommand};

use crate::arguments::GlobalArguments;
use crate::commands;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 a gate refused (a --min-... \
                          threshold, or a missing certificate), 130 interrupted.\nLogs and progress go to stderr, results to stdout.";

/// Upgrade the model, keep the index: train model versions whose embeddings stay comparable, and measure that they do.
#[derive(Debug, Parser)]
#[command(name = "perennial", version, about, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    pub global: GlobalArguments,
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// The command line with the global options in the help of the program only: in that of every command they would be a third of all lines.
    pub fn brief_command() -> clap::Command {
        let mut whole = Self::command();
        let global: BTreeSet<Id> = whole
            .get_arguments()
            .filter(|argument| argument.is_global_set())
            .map(|argument| argument.get_id().clone())
            .collect();
        // Only now do commands have the options of those above them.
        whole.build();
        for command in whole.get_subcommands_mut() {
            hide(command, &global);
        }
        whole
    }

    /// Ends the process where both a folder and a service are named as the gallery.
    pub fn refuse_two_galleries(matches: &ArgMatches) {
        if let Some(("gallery", gallery)) = matches.subcommand()
            && gallery.value_source("gallery") == Some(ValueSource::CommandLine)
            && gallery.value_source("server").is_some()
        {
            // A service has a gallery of its own. clap's conflicts would also count PERENNIAL_GALLERY.
            let problem = "--gallery names a folder, and --server a running service with a gallery of its own; pass only one of the two";
            Self::command()
                .error(ErrorKind::ArgumentConflict, problem)
                .exit();
        }
    }
}

const GLOBAL_OPTIONS: &str = "Global options (--registry, --data, --runs, --device, --onnxruntime, --json, --quiet): see `perennial --help`.";

/// Hides arguments from the help of a command and of all below it, with one line that says where they are explained.
fn hide(command: &mut clap::Command, hidden: &BTreeSet<Id>) {
    for below in command.get_subcommands_mut() {
        hide(below, hidden);
    }
    let after = match command.get_after_help() {
        Some(own) => format!("{own}\n{GLOBAL_OPTIONS}"),
        None => GLOBAL_OPTIONS.to_owned(),
    };
    let whole = std::mem::take(command);
    let whole = whole.mut_args(|argument| match hidden.contains(argument.get_id()) {
        true => argument.hide(true),
        false => argument,
    });
    *command = whole.after_help(after);
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show in two minutes, on generated images, what a model replacement does to a stored gallery
    Demo(commands::demo::Arguments),
    /// Train one model on one data set, for use as a replacement in an experiment
    Pretrain(commands::pretrain::Arguments),
    /// Train successive model versions: tasks, updates and replacements
    Train(commands::train::Arguments),
    /// Measure the compatibility of every pair of model versions
    Evaluate(Box<commands::evaluate::Arguments>),
    /// Fit, apply and show maps between embedding spaces
    Bridge {
        #[command(subcommand)]
        action: commands::bridge::Action,
    },
    /// Train a linear layer onto the simplex behind any encoder, from embeddings and labels: a new model version, or a bridge
    FitHead(Box<commands::fit_head::Arguments>),
    /// Measure whether queries of a new encoder may search stored embeddings of an old one
    Certify(Box<commands::certify::Arguments>),
    /// Measure every way to handle an encoder upgrade on your own data, and say which one pays
    Advise(Box<commands::advise::Arguments>),
    /// Move an index in PostgreSQL or Qdrant to a new encoder, beside the old vectors
    #[cfg_attr(
        not(any(feature = "pgvector", feature = "qdrant")),
        doc = "(this build knows no databases; build with --features pgvector or qdrant)"
    )]
    Migrate {
        #[command(subcommand)]
        action: commands::migrate::Action,
    },
    /// Register and check the embedding spaces of outside encoders
    Spaces {
        #[command(subcommand)]
        action: commands::spaces::Action,
    },
    /// Allocate the vertices of a simplex to teams and tasks, list them, and grow an unused simplex
    Slots {
        #[command(subcommand)]
        action: commands::slots::Action,
    },
    /// Compute all metrics of a compatibility matrix, from any tool
    Metrics(commands::metrics::Arguments),
    /// Compare runs of several methods and seeds, beside the published figures, and certificates
    Compare(commands::compare::Arguments),
    /// Embed images, or a table of texts, with a model version, into a file
    Embed(commands::embed::Arguments),
    /// List, show, import, export, alias and promote model versions
    Models {
        #[command(subcommand)]
        action: commands::models::Action,
    },
    /// Store, search, count and delete embeddings
    Gallery(commands::gallery::Arguments),
    /// Run the search service over HTTP; models are updated and replaced without downtime
    Serve(Box<commands::serve::Arguments>),
    /// Download and inspect data sets
    Data {
        #[command(subcommand)]
        action: commands::data::Action,
    },
    /// Measure how fast this build is on this machine, or how compatible the versions of every method are
    Bench(Box<commands::bench::Arguments>),
    /// Print a shell's completion script
    Completions(commands::completions::Arguments),
    /// Print the manual page
    Man(commands::man::Arguments),
}
