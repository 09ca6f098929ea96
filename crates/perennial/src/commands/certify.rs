//! `perennial certify`: may queries of a new encoder search the stored embeddings of an old one?

use std::path::PathBuf;

use clap::ValueEnum;
use perennial_bridge::{Bridge, Index, Pairs, Recipe, fit};
use perennial_core::{FileKind, Output};
use perennial_eval::Bootstrap;
use perennial_upgrade::report::certificate_page;
use perennial_upgrade::{
    Certificate, CertificateRequest, DEFAULT_WEIGHT, Demands, Finding, Route, Search,
    StoredCertificates, select,
};

use super::bridge::{IndexArgument, find_bridge};
use crate::arguments::GlobalArguments;
use crate::certificate_text::render;
use crate::evaluation_arguments::{
    Evaluation, EvaluationArguments, FitArguments, FitRows, page_context,
};
use crate::exit_status::{ExitStatus, usage};
use crate::interrupt::Interrupt;
use crate::terminal::Terminal;
use crate::vector_argument::VectorLoader;

/// How a certificate file is recognised.
const CERTIFICATE: FileKind = FileKind {
    name: "a certificate",
    recognise: |head| String::from_utf8_lossy(head).contains("\"perennial-certificate\""),
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    evaluation: EvaluationArguments,
    #[command(flatten)]
    fit: FitArguments,
    /// Folder of a bridge, or its name in the registry
    #[arg(
        long,
        value_name = "BRIDGE",
        conflicts_with = "fit_from",
        help_heading = "Bridge"
    )]
    bridge: Option<String>,
    /// Kind of the bridge that is fitted on --fit-from and --fit-to [default: chosen by retrieval on held-out pairs]
    #[arg(
        long,
        value_name = "KIND",
        requires = "fit_from",
        help_heading = "Bridge"
    )]
    kind: Option<Recipe>,
    /// How queries are searched [default: bridged with a bridge, own without]
    #[arg(long, value_enum, help_heading = "Bridge")]
    route: Option<RouteArgument>,
    /// Share of the old query in a dual query, from 0 to 1 [default: the weight that was chosen when the bridge was fitted, else 0.5]
    #[arg(long, value_name = "W", value_parser = super::bridge::weight, help_heading = "Bridge")]
    weight: Option<f64>,
    /// Whether stored embeddings are compared as they are, or centred
    #[arg(long, value_enum, default_value_t, help_heading = "Bridge")]
    index: IndexArgument,
    /// The smallest margin over the old self-test, a difference of fractions
    #[arg(
        long,
        default_value_t = 0.0,
        allow_negative_numbers = true,
        help_heading = "Gates"
    )]
    min_margin: f64,
    /// The largest share of queries that may be right before and wrong after
    #[arg(long, value_name = "FRACTION", help_heading = "Gates")]
    max_negative_flips: Option<f64>,
    /// Error probability of the intervals: 0.1, 0.05 or 0.01
    #[arg(long, default_value_t = 0.05, help_heading = "Gates")]
    alpha: f64,
    /// What an undecided measurement means for the exit code
    #[arg(long, value_enum, default_value_t, help_heading = "Gates")]
    undecided: UndecidedArgument,
    /// Bootstrap resamples of each interval
    #[arg(long, default_value_t = Bootstrap::DEFAULT_RESAMPLES)]
    resamples: usize,
    /// Seed of resamples and of held-out pairs
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// File for the certificate, JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// File for a page with the verdict, the figures and what they rest on
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Store the certificate in the registry, where promotions and the service find it
    #[arg(long)]
    record: bool,
}

/// A route on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RouteArgument {
    /// The new queries as they are
    Own,
    /// The new queries through a bridge into the old space
    Bridged,
    /// Old and bridged new query in one vector
    Dual,
    /// The new queries on stored embeddings that a bridge mapped into the new space
    Mapped,
}

/// The meaning of an undecided measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum UndecidedArgument {
    /// Exit code 0, with a warning
    #[default]
    Warn,
    /// Exit code 3
    Refuse,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let demands = demands(
        arguments.min_margin,
        arguments.max_negative_flips,
        arguments.alpha,
        arguments.resamples,
        arguments.seed,
    )?;
    let output = arguments
        .out
        .as_ref()
        .map(|file| Output::prepare_kind(file, CERTIFICATE))
        .transpose()?;
    let page = arguments.html.as_ref().map(Output::prepare).transpose()?;
    let loader = VectorLoader {
        global,
        terminal,
        interrupt: Interrupt::listen()?,
    };
    let Evaluation {
        data,
        mut sources,
        ids,
    } = arguments.evaluation.load(&loader, terminal)?;
    let pairs = arguments
        .fit
        .load(&loader, &arguments.evaluation, &mut sources)?;
    let route = arguments
        .route
        .unwrap_or(match (&arguments.bridge, &pairs) {
            (None, None) => RouteArgument::Own,
            _ => RouteArgument::Bridged,
        });
    let fitted = match (&arguments.bridge, &pairs) {
        (Some(name), _) => Some((find_bridge(name, global)?, None)),
        (None, Some(pairs)) if route != RouteArgument::Own => {
            Some(arguments.fit_bridge(pairs, route, terminal)?)
        }
        _ => None,
    };
    let chosen = fitted
        .as_ref()
        .and_then(|(bridge, chosen)| chosen.or(bridge.fit_record().dual_weight));
    let route = match route {
        RouteArgument::Own => Route::Own,
        RouteArgument::Bridged => Route::Bridged,
        RouteArgument::Mapped => Route::Mapped,
        RouteArgument::Dual => Route::Dual {
            weight: arguments.weight.or(chosen).unwrap_or(DEFAULT_WEIGHT),
        },
    };
    let search = Search {
        route,
        index: match route {
            Route::Own => Index::Raw,
            Route::Mapped => Index::Centred,
            _ => arguments.index.into(),
        },
        bridge: fitted.as_ref().map(|(bridge, _)| bridge),
    };
    terminal.say(format_args!(
        "measuring {} queries on {} items",
        data.queries(),
        data.old_gallery.len()
    ));
    let certificate = CertificateRequest {
        data: &data,
        search,
        fit: pairs.as_ref().map(|pairs| [&pairs.new, &pairs.old]),
        demands,
        sources,
        created: perennial_train::now(),
    }
    .run()?;
    if let Some(output) = output {
        certificate.write_to(output)?;
    }
    if let Some(page) = page {
        let content = certificate_page(&certificate, &data, &search, &page_context(ids))?;
        page.commit(content.render())?;
    }
    if arguments.record {
        let path = StoredCertificates::add(&global.create_registry()?, &certificate)?;
        terminal.say(format_args!("recorded as {}", path.display()));
    }
    terminal.document(
        || Ok(certificate.to_json()),
        |color| render(&certificate, color),
    )?;
    Ok(arguments.judge(&certificate, terminal))
}

/// Demands from options.
pub fn demands(
    min_margin: f64,
    max_negative_flips: Option<f64>,
    alpha: f64,
    resamples: usize,
    seed: u64,
) -> anyhow::Result<Demands> {
    let confidence = Bootstrap::CONFIDENCES
        .into_iter()
        .find(|confidence| (1.0 - confidence - alpha).abs() < 1e-9)
        .ok_or_else(|| usage(format!("--alpha {alpha}: use 0.1, 0.05 or 0.01")))?;
    if !(-1.0..=1.0).contains(&min_margin) {
        return Err(usage(format!(
            "--min-margin {min_margin}: use a difference of fractions, from -1 to 1"
        )));
    }
    if max_negative_flips.is_some_and(|limit| !(0.0..=1.0).contains(&limit)) {
        return Err(usage("--max-negative-flips: use a fraction from 0 to 1"));
    }
    if resamples == 0 {
        return Err(usage("--resamples: use at least 1; 2000 is usual"));
    }
    Ok(Demands {
        min_margin,
        confidence,
        max_negative_flips,
        bootstrap: Bootstrap { resamples, seed },
    })
}

impl Arguments {
    /// Fits a bridge in the route's direction. Also returns the weight of dual queries, where labels chose one.
    fn fit_bridge(
        &self,
        pairs: &FitRows,
        route: RouteArgument,
        terminal: &Terminal,
    ) -> anyhow::Result<(Bridge, Option<f64>)> {
        let (from, to) = match route {
            RouteArgument::Mapped => (&pairs.old, &pairs.new),
            _ => (&pairs.new, &pairs.old),
        };
        let Some(recipe) = &self.kind else {
            terminal.say("choosing the kind of bridge on held-out pairs");
            let found = select(from, to, pairs.labels.as_deref(), self.seed)?;
            let weight = found.labelled.then_some(found.weight);
            return Ok((found.bridge, weight));
        };
        let rows = Pairs::new(&from.values, from.dim, &to.values, to.dim)?;
        Ok((
            fit(&rows, recipe, from.space.clone(), to.space.clone())?,
            None,
        ))
    }

    fn judge(&self, certificate: &Certificate, terminal: &Terminal) -> ExitStatus {
        match certificate.finding {
            Finding::Compatible => ExitStatus::Done,
            Finding::Undecided if self.undecided == UndecidedArgument::Warn => {
                terminal.say(
                    "undecided: the interval contains the required margin; more queries may decide",
                );
                ExitStatus::Done
            }
            _ => ExitStatus::GateMissed,
        }
    }
}
