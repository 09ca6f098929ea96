//! The command line: the list of commands.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, Parser, Subcommand};

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
    /// Embed a set of images with a model version
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
