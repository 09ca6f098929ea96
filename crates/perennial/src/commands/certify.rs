//! `perennial certify`: may queries of a new encoder search the stored embeddings of an old one?

use clap::ValueEnum;
use perennial_bridge::{Bridge, Recipe};
use perennial_core::output::check_folder;
use perennial_core::{FileKind, Registry};
use perennial_upgrade::report::certificate_page;
use perennial_upgrade::{
    BridgeRegistry, Certificate, CertificateRequest, DEFAULT_WEIGHT, Finding, Route, Search,
    StoredCertificates, dual_weight,
};

use super::bridge::{IndexArgument, find_bridge};
use crate::arguments::GlobalArguments;
use crate::certificate_text::render;
use crate::evaluation_arguments::{Measuring, MeasuringArguments};
use crate::exit_status::{ExitStatus, usage};
use crate::stored_gallery::{GalleryArguments, StoredGallery};
use crate::terminal::Terminal;

/// How a certificate file is recognised.
const CERTIFICATE: FileKind = FileKind {
    name: "a certificate",
    recognise: |head| String::from_utf8_lossy(head).contains("\"perennial-certificate\""),
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    gallery: GalleryArguments,
    #[command(flatten)]
    certifying: CertifyingArguments,
}

/// All but the stored gallery.
#[derive(Debug, clap::Args)]
pub struct CertifyingArguments {
    #[command(flatten)]
    measuring: MeasuringArguments,
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
    /// Whether stored embeddings are compared as they are, or centred. Galleries and the service compare them as they are: a certificate of a
    /// centred index does not count there
    #[arg(long, value_enum, default_value_t, help_heading = "Bridge")]
    index: IndexArgument,
    /// What an undecided measurement means for the exit code. `migrate plan` and `migrate run`, which write copies, refuse it unless told otherwise
    #[arg(long, value_enum, default_value_t, help_heading = "Demands")]
    undecided: UndecidedArgument,
    /// Store the certificate in the registry, and its bridge if it is not there, where promotions, searches and the service find both. They go
    /// by certificates between known spaces only: of model versions (VERSION@SET:SPLIT, or files with --old-space and --new-space), or of
    /// outside encoders that were registered with canaries (`perennial spaces add`)
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
    certify(&arguments.gallery, &arguments.certifying, global, terminal)
}

/// Measures on a stored gallery.
pub fn certify(
    gallery: &dyn StoredGallery,
    arguments: &CertifyingArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    if arguments.record {
        check_folder(&global.registry)?;
    }
    let Measuring {
        demands,
        documents,
        evaluation,
        pairs,
        ..
    } = arguments
        .measuring
        .load(gallery, CERTIFICATE, true, global, terminal)?;
    let demands = match arguments.record {
        true => demands.to_record(),
        false => demands,
    };
    let data = &evaluation.data;
    let route = arguments
        .route
        .unwrap_or(match (&arguments.bridge, &pairs) {
            (None, None) => RouteArgument::Own,
            _ => RouteArgument::Bridged,
        });
    if route == RouteArgument::Own && (arguments.bridge.is_some() || pairs.is_some()) {
        return Err(usage(
            "--route own uses no bridge: leave out --bridge and --fit-from",
        ));
    }
    if route != RouteArgument::Dual && arguments.weight.is_some() {
        return Err(usage("--weight is for dual queries: add --route dual"));
    }
    let route = match route {
        RouteArgument::Own => Route::Own,
        RouteArgument::Bridged => Route::Bridged,
        RouteArgument::Mapped => Route::Mapped,
        RouteArgument::Dual => Route::Dual {
            weight: DEFAULT_WEIGHT,
        },
    };
    let bridge = match (&arguments.bridge, &pairs) {
        (Some(name), _) => Some(find_bridge(name, global)?),
        (None, Some(pairs)) => {
            if arguments.kind.is_none() {
                terminal.say("choosing the kind of bridge on held-out pairs");
            }
            let seed = arguments.measuring.demands.seed;
            Some(pairs.fit(route, arguments.kind.as_ref(), seed)?)
        }
        _ => None,
    };
    let route = match (route, &bridge) {
        (Route::Dual { .. }, Some(bridge)) => Route::Dual {
            weight: dual_weight(bridge, arguments.weight),
        },
        (route, _) => route,
    };
    let search = Search {
        route,
        index: route.index(arguments.index.into()),
        bridge: bridge.as_ref(),
    };
    terminal.say(format_args!(
        "measuring {} queries on {} items",
        data.queries(),
        data.old_gallery.len()
    ));
    let certificate = CertificateRequest {
        data,
        search,
        demands,
        sources: evaluation.sources.clone(),
        created: perennial_train::now(),
    }
    .run()?;
    let use_stdout = documents.use_stdout();
    if let Some(output) = documents.document {
        certificate.write_to(output)?;
    }
    if let Some(page) = documents.page {
        let context = evaluation.page_context();
        let content = certificate_page(&certificate, data, &search, &context)?;
        page.commit(content.render())?;
    }
    if arguments.record {
        let registry = global.create_registry()?;
        record(&certificate, bridge.as_ref(), &registry, terminal)?;
    }
    match use_stdout {
        true => terminal.say(render(&certificate, false).trim_end()),
        false => terminal.document(
            || Ok(certificate.to_json()),
            |color| render(&certificate, color),
        )?,
    }
    Ok(arguments.judge(&certificate, terminal))
}

/// Stores the certificate, and before it the bridge without which nothing could be searched by it.
fn record(
    certificate: &Certificate,
    bridge: Option<&Bridge>,
    registry: &Registry,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    if let Some(bridge) = bridge {
        let name = BridgeRegistry::of(registry).keep(bridge)?;
        terminal.say(format_args!("the bridge is {name} in the registry"));
    }
    let path = StoredCertificates::add(registry, certificate)?;
    terminal.say(format_args!("recorded as {}", path.display()));
    let mapped = certificate.route == Route::Mapped;
    if mapped {
        terminal.say("`perennial migrate run --mapped` goes by it, for an index in a database");
    }
    match certificate.obstacle() {
        Some(obstacle) => terminal.say(format_args!("no gallery will go by it: {obstacle}")),
        None if mapped => terminal.say(
            "a gallery in a folder, served or not, keeps an index of mapped vectors in memory for it",
        ),
        None => {}
    }
    Ok(())
}

impl CertifyingArguments {
    /// The seed of all that is drawn.
    #[cfg(any(feature = "pgvector", feature = "qdrant"))]
    pub fn seed(&self) -> u64 {
        self.measuring.demands.seed
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
