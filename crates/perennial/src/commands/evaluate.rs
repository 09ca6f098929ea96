//! `perennial evaluate`: the compatibility of every pair of versions.

mod files;
pub mod routes;
pub mod without_embedding;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{ArgGroup, ValueEnum};
use perennial_core::output::check_folder;
use perennial_core::{ModelVersion, Output, Registry, read_text_at_most};
use perennial_eval::{Bootstrap, Compatibility, Provenance, TieRule, html, report, table};
use perennial_train::config::EvaluationConfig;
use perennial_train::{SetConfig, TrainError};
use perennial_upgrade::Demands;
use toml::Table;

use crate::arguments::GlobalArguments;
use crate::embedding_cache::EmbeddingCache;
use crate::exit_status::{ExitStatus, usage};
use crate::interrupt::Interrupt;
use crate::measurement::{Judgement, Measurement};
use crate::probe::Probe;
use crate::provenance;
use crate::run_folder::RunFolder;
use crate::run_record::RunRecord;
use crate::set_argument::SetArgument;
use crate::terminal::Terminal;

pub const REPORT_FILE: &str = "compatibility.json";
const PAGE_FILE: &str = "report.html";
/// Where a run's folder keeps embeddings.
const EMBEDDINGS_FOLDER: &str = "embeddings";

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("measured").required(true).args(["run", "versions", "embeddings", "query_embeddings"]))]
pub struct Arguments {
    /// Run whose versions are measured: its name, or its folder
    run: Option<PathBuf>,
    /// Registered versions to compare, oldest first, on the evaluation set of --queries and --gallery; the result of every pair
    /// is recorded in the registry
    #[arg(long, value_name = "VERSION", num_args = 1.., requires_all = ["queries", "gallery"])]
    versions: Vec<String>,
    /// Query images of the evaluation set [default: those of the run's configuration]
    #[arg(long, value_name = "SET:SPLIT", conflicts_with_all = ["embeddings", "query_embeddings"])]
    queries: Option<SetArgument>,
    /// Gallery images of the evaluation set [default: those of the run's configuration]
    #[arg(long, value_name = "SET:SPLIT", conflicts_with_all = ["embeddings", "query_embeddings"])]
    gallery: Option<SetArgument>,
    #[command(flatten)]
    files: files::FileArguments,
    #[command(flatten)]
    routes: routes::RouteArguments,
    /// Folder for compatibility.json and report.html [default: the run's folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Whether AC and ACA count a pair whose cross-test equals the old self-test exactly
    #[arg(long, value_enum, default_value_t, conflicts_with = "routes")]
    tie: TieArgument,
    /// Number of bootstrap resamples for each 95 % interval, at most 1000000
    #[arg(long, default_value_t = Bootstrap::DEFAULT_RESAMPLES, value_parser = resamples)]
    resamples: usize,
    /// Seed of the bootstrap resamples
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Exit with code 3 if average compatibility (AC) is below this fraction [default: no gate]
    #[arg(long, value_name = "FRACTION", value_parser = fraction, conflicts_with = "routes")]
    min_ac: Option<f64>,
    /// Exit with code 3 if average accuracy (AA) is below this fraction [default: no gate]
    #[arg(long, value_name = "FRACTION", value_parser = fraction, conflicts_with = "routes")]
    min_aa: Option<f64>,
}

/// [`TieRule`] on the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum TieArgument {
    /// Not compatible: the cross-test must be higher
    #[default]
    Strict,
    /// Compatible: the cross-test must not be lower
    TiesCount,
}

impl From<TieArgument> for TieRule {
    fn from(argument: TieArgument) -> Self {
        match argument {
            TieArgument::Strict => Self::Strict,
            TieArgument::TiesCount => Self::TiesCount,
        }
    }
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let interrupt = Interrupt::listen()?;
    if arguments.routes.wanted() {
        return measure_routes(arguments, global, terminal, interrupt);
    }
    if let Some(folder) = &arguments.out {
        check_report(folder)?;
    }
    let (report, provenance, folder) = match &arguments.run {
        Some(run) => {
            let folder = RunFolder::find(run, &global.runs)?;
            if arguments.out.is_none() {
                check_report(folder.path())?;
            }
            // Where embeddings and the result are kept for later.
            check_folder(&folder.path().join(EMBEDDINGS_FOLDER))?;
            check_folder(global.open_registry()?.root())?;
            let subject = subject_of_run(arguments, &folder, global)?;
            let report = measure(&subject, arguments, global, terminal, interrupt)?;
            let provenance = provenance::of_names(
                RunRecord::read(folder.path())?.as_ref(),
                Some(&global.open_registry()?),
                report.versions(),
            );
            let out = arguments.out.clone();
            (
                report,
                provenance,
                Some(out.unwrap_or_else(|| folder.path().to_owned())),
            )
        }
        None if !arguments.versions.is_empty() => {
            let subject = subject_of_versions(arguments, global)?;
            let report = measure(&subject, arguments, global, terminal, interrupt)?;
            let provenance = provenance::of_names(None, Some(&subject.registry), report.versions());
            (report, provenance, Some(subject.folder))
        }
        None => {
            let report =
                files::measure_files(&arguments.files, judgement(arguments), terminal, interrupt)?;
            let provenance = provenance::of_names(None, None, report.versions());
            (report, provenance, arguments.out.clone())
        }
    };
    if let Some(folder) = folder {
        write_report(&report, &provenance, &folder)?;
        terminal.say(format_args!(
            "wrote compatibility.json and report.html to {}",
            folder.display()
        ));
    }
    terminal.document(
        || Ok(report.to_json()),
        |color| table::render(&report, &provenance, color),
    )?;
    Ok(judge(arguments, &report, terminal))
}

fn judgement(arguments: &Arguments) -> Judgement {
    Judgement {
        tie_rule: arguments.tie.into(),
        bootstrap: Bootstrap {
            resamples: arguments.resamples,
            seed: arguments.seed,
        },
    }
}

/// Registered versions and the evaluation set on which they are measured.
struct Subject {
    registry: Registry,
    versions: Vec<ModelVersion>,
    queries: Probe,
    gallery: Probe,
    /// For the result and for embeddings.
    folder: PathBuf,
}

impl Subject {
    fn measurement<'a>(
        &'a self,
        global: &'a GlobalArguments,
        terminal: &'a Terminal,
        interrupt: Interrupt,
    ) -> Measurement<'a> {
        Measurement {
            registry: &self.registry,
            global,
            cache: EmbeddingCache::new(self.folder.join(EMBEDDINGS_FOLDER)),
            terminal,
            interrupt,
        }
    }
}

/// Measures a chain of versions by several routes.
fn measure_routes(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
    interrupt: Interrupt,
) -> anyhow::Result<ExitStatus> {
    let subject = match &arguments.run {
        Some(run) => subject_of_run(arguments, &RunFolder::find(run, &global.runs)?, global)?,
        None if !arguments.versions.is_empty() => subject_of_versions(arguments, global)?,
        None => {
            return Err(usage(
                "--routes measures registered versions; name a run or --versions. For files, use `perennial certify` and `perennial advise`",
            ));
        }
    };
    let folder = arguments.out.as_ref().unwrap_or(&subject.folder);
    check_folder(folder)?;
    fs_err::create_dir_all(folder)?;
    let output = Output::prepare(folder.join(routes::FILE))?;
    let demands = Demands {
        bootstrap: judgement(arguments).bootstrap,
        ..Demands::new(arguments.seed)
    };
    let measurement = subject.measurement(global, terminal, interrupt);
    let sets = [&subject.queries, &subject.gallery];
    arguments.routes.run(
        &measurement,
        &subject.versions,
        sets,
        demands,
        &global.data,
        output,
    )?;
    Ok(ExitStatus::Done)
}

/// The versions of a run and its evaluation set.
fn subject_of_run(
    arguments: &Arguments,
    folder: &RunFolder,
    global: &GlobalArguments,
) -> anyhow::Result<Subject> {
    let registry = global.open_registry()?;
    let versions = versions_of(folder, &registry)?;
    let configured = configured_probes(folder)?;
    let choose = |argument: &Option<SetArgument>, configured: Option<SetConfig>, name: &str| {
        let chosen = argument
            .as_ref()
            .map(|argument| argument.0.clone())
            .or(configured);
        let config = chosen.ok_or_else(|| {
            usage(format!(
                "{} has no [evaluation.{name}]; pass --{name} SET:SPLIT, such as --{name} cifar10:test",
                folder.configuration_path().display()
            ))
        })?;
        let place = format!("evaluation.{name}");
        let own = argument.is_none();
        Probe::load_for(&config, &global.data, &versions).map_err(|error| {
            match error.downcast::<TrainError>() {
                Ok(error) if own => error.of_set(&place).into(),
                Ok(error) => error.into(),
                Err(other) => other,
            }
        })
    };
    let (queries, gallery) = configured
        .map(|probes| (probes.queries, probes.gallery))
        .unzip();
    let queries = choose(&arguments.queries, queries, "queries")?;
    let gallery = choose(&arguments.gallery, gallery, "gallery")?;
    Ok(Subject {
        registry,
        versions,
        queries,
        gallery,
        folder: folder.path().to_owned(),
    })
}

/// Measures registered versions and records the result in the registry.
fn measure(
    subject: &Subject,
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
    interrupt: Interrupt,
) -> anyhow::Result<Compatibility> {
    let measurement = subject.measurement(global, terminal, interrupt);
    let judgement = judgement(arguments);
    measurement.recorded(
        &subject.versions,
        &subject.queries,
        &subject.gallery,
        judgement,
    )
}

/// Registered versions of any origin. The folder is that for the report, which also keeps the embeddings for the next time.
fn subject_of_versions(arguments: &Arguments, global: &GlobalArguments) -> anyhow::Result<Subject> {
    let registry = global.open_registry()?;
    let mut versions: Vec<ModelVersion> = Vec::new();
    for name in &arguments.versions {
        let version = registry.get(name)?;
        if versions.iter().any(|known| known.name == version.name) {
            return Err(usage(format!(
                "--versions: {name} is version {}, which is already in the list; name each version once",
                version.name
            )));
        }
        versions.push(version);
    }
    if versions.len() < 2 {
        return Err(usage("--versions: name at least two versions"));
    }
    let (Some(SetArgument(queries)), Some(SetArgument(gallery))) =
        (&arguments.queries, &arguments.gallery)
    else {
        return Err(usage("--versions needs --queries and --gallery"));
    };
    let names: Vec<&str> = versions
        .iter()
        .map(|version| version.name.as_str())
        .collect();
    let folder = arguments.out.clone().unwrap_or_else(|| {
        let name = format!("evaluation-{}", names.join("-"));
        global.runs.join(name)
    });
    check_report(&folder)?;
    check_folder(registry.root())?;
    let queries = Probe::load_for(queries, &global.data, &versions)?;
    let gallery = Probe::load_for(gallery, &global.data, &versions)?;
    Ok(Subject {
        registry,
        versions,
        queries,
        gallery,
        folder,
    })
}

fn versions_of(folder: &RunFolder, registry: &Registry) -> anyhow::Result<Vec<ModelVersion>> {
    let record = RunRecord::read(folder.path())?.ok_or_else(|| {
        usage(format!(
            "{} does not exist, so the run's versions are unknown",
            RunRecord::path_in(folder.path()).display()
        ))
    })?;
    let names = record.versions();
    if names.is_empty() {
        return Err(usage(format!(
            "run {} has no finished task yet; resume it with `perennial {} --resume {}`",
            record.name,
            record.command,
            folder.path().display()
        )));
    }
    Ok(names
        .iter()
        .map(|name| registry.get(name))
        .collect::<Result<_, _>>()?)
}

/// Largest configuration that is read.
const MAX_CONFIGURATION_BYTES: u64 = 16 << 20;

/// The `evaluation` table of a run's configuration, which a pre-training does not have.
fn configured_probes(folder: &RunFolder) -> anyhow::Result<Option<EvaluationConfig>> {
    let path = folder.configuration_path();
    let text = read_text_at_most(&path, MAX_CONFIGURATION_BYTES)?;
    let mut table: Table = text
        .parse()
        .with_context(|| format!("{} is damaged", path.display()))?;
    let probes = table.remove("evaluation").map(toml::Value::try_into);
    probes
        .transpose()
        .with_context(|| format!("{}: key `evaluation`", path.display()))
}

/// Checks before hours of work that [`write_report`] will be able to write. Reports of an earlier
/// evaluation are replaced, other files are not.
fn check_report(folder: &Path) -> anyhow::Result<()> {
    check_folder(folder)?;
    if folder.exists() {
        Output::prepare_kind(folder.join(REPORT_FILE), report::FILE_KIND)?;
        Output::prepare_kind(folder.join(PAGE_FILE), html::FILE_KIND)?;
    }
    Ok(())
}

/// Writes the report as JSON and as HTML.
pub fn write_report(
    report: &Compatibility,
    provenance: &Provenance,
    folder: &Path,
) -> anyhow::Result<()> {
    fs_err::create_dir_all(folder)?;
    report.write(&folder.join(REPORT_FILE))?;
    let page = html::render(report, provenance);
    perennial_core::write_atomically(folder.join(PAGE_FILE), page)?;
    Ok(())
}

/// Checks the report against the `--min-...` thresholds.
fn judge(arguments: &Arguments, report: &Compatibility, terminal: &Terminal) -> ExitStatus {
    let metrics = report.metrics();
    let mut status = ExitStatus::Done;
    for (name, option, found, least) in [
        (
            "AC",
            "--min-ac",
            metrics.average_compatibility,
            arguments.min_ac,
        ),
        (
            "AA",
            "--min-aa",
            Some(metrics.average_accuracy),
            arguments.min_aa,
        ),
    ] {
        let Some(least) = least else { continue };
        let problem = match found {
            Some(found) if found >= least => continue,
            Some(found) => format!("{name} {found:.4} is below {option} {least}"),
            None => format!("{option} {least}: one version has no {name}"),
        };
        terminal.error(&format!("quality gate missed: {problem}"));
        status = ExitStatus::GateMissed;
    }
    status
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        Ok(value) if (1.0..=100.0).contains(&value) => {
            Err(format!("write it as a fraction: {}", value / 100.0))
        }
        _ => Err("not a fraction between 0 and 1".to_owned()),
    }
}

fn resamples(text: &str) -> Result<usize, String> {
    let most = Bootstrap::MAX_RESAMPLES;
    match text.parse() {
        Ok(value) if (1..=most).contains(&value) => Ok(value),
        _ => Err(format!("not a whole number from 1 to {most}")),
    }
}
