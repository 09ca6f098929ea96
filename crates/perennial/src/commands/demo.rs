//! `perennial demo`: the whole idea on generated images, told in the terminal.
//!
//! Two products deploy a model, update it, and replace it by a better one. Nobody embeds the stored gallery again. One
//! product has an ordinary classifier, the other the fixed simplex. Everything that is said about them is computed first.

mod contrast;
mod service;

use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial_core::output::check_folder;
use perennial_core::{ModelVersion, Registry};
use perennial_eval::{Bootstrap, Compatibility, TieRule, table};
use perennial_serve::ServeConfig;
use perennial_train::{
    EpochRecord, ExperimentConfig, Observer, Outcome, PretrainConfig, RunPlaces, StepReport,
};
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::commands::serve::PROBES_FOLDER;
use crate::configuration::{Layers, to_toml};
use crate::embedding_cache::EmbeddingCache;
use crate::exit_status::{ExitStatus, InterruptedError, usage};
use crate::interrupt::Interrupt;
use crate::measurement::{Judgement, Measurement, Probe};
use crate::progress::TrainingProgress;
use crate::run_folder::RunFolder;
use crate::run_record::{RunRecord, Status, TaskRecord};
use crate::terminal::Terminal;
use crate::training_run::Runnable;
use contrast::Crossing;
use service::Stock;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Keep models, runs, reports and the simplex gallery in this new folder, instead of a temporary one
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Seed of everything random in training
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    seed: i64,
    /// Afterwards, serve the simplex gallery and print the address
    #[arg(long)]
    serve: bool,
    /// Where to serve it [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDRESS", requires = "serve")]
    listen: Option<std::net::SocketAddr>,
}

/// A configuration in the program: where it comes from, and its text.
type Embedded = (&'static str, &'static str);

/// The configurations of one product.
struct Product {
    title: &'static str,
    pretrainings: [Embedded; 2],
    tasks: Embedded,
}

macro_rules! configuration {
    ($name:literal) => {
        (
            concat!("experiments/demo/", $name, ".toml"),
            include_str!(concat!("../../../../experiments/demo/", $name, ".toml")),
        )
    };
}

const ORDINARY: Product = Product {
    title: "ordinary classifier",
    pretrainings: [configuration!("weak-er"), configuration!("better-er")],
    tasks: configuration!("tasks-er"),
};

const SIMPLEX: Product = Product {
    title: "simplex classifier",
    pretrainings: [
        configuration!("weak-simplex"),
        configuration!("better-simplex"),
    ],
    tasks: configuration!("tasks-hoc"),
};

/// Between the seeds of two demos; more than the configurations differ by.
const SEED_STEP: i64 = 10;

/// What `--json` prints.
#[derive(Serialize)]
struct Answer {
    seed: i64,
    seconds: f64,
    /// Accuracy of guessing: one over the number of gallery classes.
    chance: f64,
    ordinary: Measured,
    simplex: Measured,
    /// Whether the replacement broke the ordinary gallery and not the simplex one.
    contrast_holds: bool,
}

/// One product's outcome.
#[derive(Serialize)]
struct Measured {
    crossing: Crossing,
    compatibility: Compatibility,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let begun = std::time::Instant::now();
    let interrupt = Interrupt::listen()?;
    let temporary = tempfile::Builder::new()
        .prefix("perennial-demo-")
        .tempdir()?;
    let folder = match &arguments.keep {
        Some(folder) => new_folder(folder)?,
        None => temporary.path(),
    };
    let workshop = Workshop {
        folder,
        registry: Registry::create(folder.join("registry"))?,
        seed: arguments.seed,
        global,
        terminal,
        interrupt,
    };

    terminal.tell(INTRODUCTION)?;
    let (ordinary, _) = workshop.make(&ORDINARY)?;
    let (simplex, stock) = workshop.make(&SIMPLEX)?;
    let answer = Answer {
        seed: arguments.seed,
        seconds: begun.elapsed().as_secs_f64(),
        chance: ordinary.crossing.chance,
        contrast_holds: ordinary.crossing.is_broken() && simplex.crossing.is_kept(),
        ordinary,
        simplex,
    };
    terminal.result(&answer, |color| conclusion(&answer, arguments, color))?;
    let stocked = (arguments.keep.is_some() || arguments.serve)
        .then(|| stock.lay_out(folder, &workshop.registry))
        .transpose()?;
    if let Some(stocked) = stocked.filter(|_| arguments.serve) {
        let config = ServeConfig {
            listen: arguments.listen.unwrap_or(ServeConfig::default().listen),
            gallery: Some(folder.join("gallery")),
            snapshots: Some(folder.join("snapshots")),
            probes: Some(folder.join("gallery").join(PROBES_FOLDER)),
            ..ServeConfig::default()
        };
        let device = global.device.open()?;
        service::run(stocked, workshop.registry, config, device, terminal)?;
    }
    Ok(if answer.contrast_holds {
        ExitStatus::Done
    } else {
        ExitStatus::Failed
    })
}

const INTRODUCTION: &str = "\
A search service embeds its gallery once, with the model of the day. Later models only embed queries: embedding a
large gallery again costs too much. This works for as long as new queries find what old models have stored.

This demo builds two such services on generated images. Each deploys a first model, fine-tunes it on four tasks of
new classes, and before the third task replaces it by a better model that was trained separately. Their galleries are
never embedded again. The classes in gallery and queries are in nobody's training data.
";

/// The folder to keep everything in: new, so that nothing is overwritten.
fn new_folder(folder: &Path) -> anyhow::Result<&Path> {
    check_folder(folder).context("--keep")?;
    // A folder that cannot be listed may hold anything.
    if folder.exists() && fs_err::read_dir(folder)?.next().is_some() {
        return Err(usage(format!(
            "--keep {}: it is not empty; name a new folder",
            folder.display()
        )));
    }
    fs_err::create_dir_all(folder)?;
    Ok(folder)
}

/// Where the demo works.
struct Workshop<'a> {
    folder: &'a Path,
    registry: Registry,
    seed: i64,
    global: &'a GlobalArguments,
    terminal: &'a Terminal,
    interrupt: Interrupt,
}

impl Workshop<'_> {
    /// Trains a product's models and measures every pair of its versions.
    fn make(&self, product: &Product) -> anyhow::Result<(Measured, Stock)> {
        self.terminal
            .say(format_args!("the service with the {}", product.title));
        for (source, text) in product.pretrainings {
            self.train(&self.configuration::<PretrainConfig>(source, text)?)?;
        }
        let (source, text) = product.tasks;
        let config = self.configuration::<ExperimentConfig>(source, text)?;
        let (run, versions) = self.train(&config)?;

        let probes = config.evaluation.as_ref();
        let probes = probes.with_context(|| format!("{source} has no evaluation"))?;
        let queries = Probe::load(&probes.queries, &self.global.data)?;
        let gallery = Probe::load(&probes.gallery, &self.global.data)?;
        let measurement = Measurement {
            registry: &self.registry,
            device: self.global.device,
            cache: EmbeddingCache::new(run.path().join("embeddings")),
            terminal: self.terminal,
            interrupt: self.interrupt,
        };
        let judgement = Judgement {
            tie_rule: TieRule::Strict,
            bootstrap: Bootstrap::new(0),
        };
        let compatibility = measurement.recorded(&versions, &queries, &gallery, judgement)?;
        super::evaluate::write_report(&compatibility, run.path())?;
        let replaced = config
            .replacements
            .first()
            .map(|replacement| replacement.before_task);
        let replaced = replaced.with_context(|| format!("{source} has no replacement"))?;
        let crossing = Crossing::of(compatibility.matrix(), replaced, gallery.set.labels());
        let stock = Stock {
            embeddings: versions
                .iter()
                .map(|version| measurement.embeddings(version, &gallery))
                .collect::<anyhow::Result<_>>()?,
            versions,
            images: gallery.set,
            compatibility: compatibility.clone(),
        };
        let measured = Measured {
            crossing,
            compatibility,
        };
        Ok((measured, stock))
    }

    /// A configuration under this demo's seed. The files have different seeds, and they stay different.
    fn configuration<C: Runnable>(&self, source: &str, text: &str) -> anyhow::Result<C> {
        let written: C = Layers::parse(source, text)?.resolve()?;
        let seed =
            i64::try_from(written.seed())?.saturating_add(self.seed.saturating_mul(SEED_STEP));
        Layers::parse(source, text)?
            .option("seed", Some(seed))?
            .resolve()
    }

    /// Runs a configuration to its end.
    fn train<C: Runnable>(&self, config: &C) -> anyhow::Result<(RunFolder, Vec<ModelVersion>)> {
        let path = self.folder.join("runs").join(config.name());
        let folder = RunFolder::begin(path)?;
        folder.write_configuration(&to_toml(config)?)?;
        let device = self.global.device.open()?;
        let mut record = RunRecord::new(C::COMMAND, config.name(), config.seed());
        let stopwatch = record.start(
            false,
            [self.global.device.to_string(), format!("{device:?}")],
        );
        let places = RunPlaces {
            folder: folder.path(),
            registry: &self.registry,
            data_root: &self.global.data,
            device: &device,
        };
        let mut watcher = Watcher {
            progress: TrainingProgress::new(self.terminal, config.name(), config.epochs()),
            interrupt: self.interrupt,
        };
        let Outcome::Finished(names) = config.execute(&places, false, &mut watcher)? else {
            return Err(InterruptedError.into());
        };
        drop(watcher);
        for (task, version) in names.iter().enumerate() {
            record.finish_task(TaskRecord {
                task,
                start: None,
                replacement: false,
                version: version.clone(),
            });
        }
        record.stop(Status::Finished, &stopwatch);
        record.write(folder.path())?;
        self.terminal.say(format_args!(
            "{}: {:.0} s",
            config.name(),
            stopwatch.seconds()
        ));
        let versions = names.iter().map(|name| self.registry.get(name));
        Ok((folder, versions.collect::<Result<_, _>>()?))
    }
}

struct Watcher {
    progress: TrainingProgress,
    interrupt: Interrupt,
}

impl Observer for Watcher {
    fn step(&mut self, report: &StepReport) {
        self.progress.step(report);
    }

    fn epoch(&mut self, record: &EpochRecord) {
        self.progress.epoch(record);
    }

    fn interrupted(&self) -> bool {
        self.interrupt.pressed()
    }
}

fn conclusion(answer: &Answer, arguments: &Arguments, color: bool) -> String {
    let mut text = String::new();
    for (product, measured) in [(&ORDINARY, &answer.ordinary), (&SIMPLEX, &answer.simplex)] {
        let report = &measured.compatibility;
        text.push_str(&format!(
            "\nThe service with the {}. Rows: the model that embeds the queries; columns: the model that\n\
             embedded the gallery; cells: fraction of {} queries answered right (guessing: {:.2}).\n\n",
            product.title,
            report.queries().count,
            answer.chance
        ));
        text.push_str(&table::render_matrix(
            report.matrix(),
            report.metrics(),
            report.tie_rule(),
            report.versions(),
            color,
        ));
        text.push_str(&format!("\n{}\n", measured.crossing.describe()));
    }
    text.push_str(if answer.contrast_holds {
        "\nThe ordinary replacement made the stored gallery useless; with the simplex it stayed in use.\n"
    } else {
        "\nThe expected contrast did not appear with this seed: see the numbers above.\n"
    });
    text.push_str(&next_steps(answer, arguments));
    text
}

fn next_steps(answer: &Answer, arguments: &Arguments) -> String {
    let mut text = format!("\nThis took {:.0} s. What to do next:\n", answer.seconds);
    match &arguments.keep {
        Some(folder) => {
            let folder = folder.display();
            text.push_str(&format!(
                "  perennial models list --registry {folder}/registry\n  \
                   perennial serve --registry {folder}/registry --gallery {folder}/gallery\n  \
                   open {folder}/runs/demo-hoc/report.html\n"
            ));
        }
        None => text
            .push_str("  perennial demo --keep demo        keeps the models, the gallery and an HTML report\n"),
    }
    text.push_str(
        "  perennial data fetch cifar100     real images for the experiments in experiments/\n  \
         perennial metrics MATRIX.csv      the same metrics for your own models\n",
    );
    text
}
