//! What `train` and `pretrain` have in common: resolve the configuration, lock the run's folder, run or resume, and report the
//! outcome.

use std::path::{Path, PathBuf};

use perennial_core::ModelVersion;
use perennial_core::output::check_folder;
use perennial_data::ImageSet;
use perennial_train::objective::OBJECTIVES;
use perennial_train::{EpochRecord, Observer, Outcome, RunPlaces, StepReport, TrainError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::GlobalArguments;
use crate::configuration::{Layers, process_environment, to_toml};
use crate::exit_status::{ExitStatus, usage};
use crate::interrupt::Interrupt;
use crate::progress::TrainingProgress;
use crate::resume_command::resume_command;
use crate::run_folder::{NewRegistry, RunFolder};
use crate::run_record::{DataRecord, FilesRecord, RunRecord, Status, TaskRecord};
use crate::terminal::Terminal;

/// Arguments of both commands.
#[derive(Debug, clap::Args)]
#[command(after_long_help = methods())]
pub struct Arguments {
    /// Configuration file; with --resume also the run's folder
    #[arg(value_name = "EXPERIMENT.toml")]
    config: PathBuf,
    /// Continue the run from its last checkpoint
    #[arg(long)]
    resume: bool,
    /// Name of the run; overrides the configuration
    #[arg(long)]
    name: Option<String>,
    /// Random seed; overrides the configuration
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..))]
    seed: Option<i64>,
    /// Set a configuration key, such as training.epochs=5 or replacements.0.model=v0007; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the resolved configuration and exit
    #[arg(long)]
    print_config: bool,
}

/// The methods, for the end of the long help.
fn methods() -> String {
    let mut text = String::from(
        "Methods (`method.kind` in the configuration; docs/methods.md has their options):",
    );
    for entry in OBJECTIVES {
        text.push_str(&format!("\n  {:<8} {}", entry.name, entry.summary));
    }
    text
}

/// A configuration that can be run.
pub trait Runnable: Serialize + DeserializeOwned {
    /// The command that runs it.
    const COMMAND: &'static str;
    fn name(&self) -> &str;
    fn seed(&self) -> u64;
    /// With values in the place of keys that a configuration written by hand leaves out.
    fn completed(self) -> Self {
        self
    }
    /// Epochs of one task.
    fn epochs(&self) -> usize;
    /// The alias that its result gets, if any.
    fn alias(&self) -> Option<&str>;
    /// The training images, in words.
    fn images(&self) -> String;
    fn check(&self) -> Result<(), TrainError>;
    fn execute(
        &self,
        places: &RunPlaces<'_>,
        resume: bool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError>;
}

/// Result of a finished run.
#[derive(Serialize)]
struct Finished<'a> {
    status: Status,
    run: &'a Path,
    versions: &'a [String],
    /// Only where it points to the run's last version.
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<&'a str>,
    /// Whether the run had finished before it was resumed, so that nothing was done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    finished_before: bool,
    seconds: f64,
}

/// Result of an interrupted run.
#[derive(Serialize)]
struct Stopped<'a> {
    status: Status,
    run: &'a Path,
    resume: &'a str,
}

pub fn run<C: Runnable>(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let config: C = resolve(arguments)?;
    let text = to_toml(&config)?;
    if arguments.print_config {
        terminal.result(&serde_json::json!({ "config": config }), |_| text)?;
        return Ok(ExitStatus::Done);
    }

    let interrupt = Interrupt::listen()?;
    let device = global.device.open()?;
    check_folder(&global.registry)?;
    let folder = if arguments.resume {
        folder_to_resume(arguments, global, config.name())?
    } else {
        RunFolder::begin(global.runs.join(config.name()))?
    };
    if arguments.resume && !folder.has_begun() {
        return Err(usage(format!(
            "{}: there is no checkpoint to resume from; start the run without --resume",
            folder.path().display()
        )));
    }
    let new_registry = NewRegistry::create(&global.registry)?;
    let registry = &new_registry.registry;
    let mut record = RunRecord::read(folder.path())?
        .unwrap_or_else(|| RunRecord::new(C::COMMAND, config.name(), config.seed()));
    let stopwatch = record.start(
        arguments.resume,
        [global.device.to_string(), format!("{device:?}")],
    );
    let places = RunPlaces {
        folder: folder.path(),
        registry,
        data_root: &global.data,
        device: &device,
    };
    let mut watcher = Watcher {
        terminal,
        interrupt,
        progress: TrainingProgress::new(terminal, config.name(), config.epochs()),
        folder: &folder,
        configuration: (!arguments.resume || !folder.configuration_path().is_file())
            .then_some(text),
        record,
        images: config.images(),
        begun: false,
        start: None,
        replacement: false,
    };
    let outcome = config.execute(&places, arguments.resume, &mut watcher);
    let (mut record, begun) = watcher.end();

    record.stop(status_of(&outcome), &stopwatch);
    let finished_before = arguments.resume && !begun && matches!(outcome, Ok(Outcome::Finished(_)));
    match &outcome {
        // Another process holds the folder, or another run does.
        Err(TrainError::RunFolder { .. }) => {}
        Err(_) if !begun => folder.abandon_unless_begun(&new_registry),
        _ => record.write(folder.path())?,
    }
    match outcome? {
        Outcome::Finished(versions) => {
            let aliases = registry.aliases()?;
            let target = config.alias().and_then(|alias| aliases.get(alias));
            let finished = Finished {
                status: Status::Finished,
                run: folder.path(),
                versions: &versions,
                alias: config.alias().filter(|_| target == versions.last()),
                finished_before,
                seconds: stopwatch.seconds(),
            };
            if let (None, Some(alias), Some(target)) = (finished.alias, config.alias(), target) {
                terminal.say(format!(
                    "the alias {alias} has been moved to {target}, and stays there"
                ));
            }
            terminal.result(&finished, |_| describe(&finished))?;
            Ok(ExitStatus::Done)
        }
        Outcome::Interrupted => {
            let command = resume_command(C::COMMAND, folder.path(), global);
            terminal.say("interrupted; the checkpoint is saved, and this command resumes the run:");
            let stopped = Stopped {
                status: Status::Interrupted,
                run: folder.path(),
                resume: &command,
            };
            terminal.result(&stopped, |_| command.clone())?;
            Ok(ExitStatus::Interrupted)
        }
    }
}

/// The configuration: from the run's folder when that is what `--resume` was given, otherwise from all layers.
fn resolve<C: Runnable>(arguments: &Arguments) -> anyhow::Result<C> {
    if !(arguments.resume && arguments.config.is_dir()) {
        return Layers::read(&arguments.config)?
            .environment(process_environment()?)?
            .set(&arguments.set)?
            .option("name", arguments.name.clone())?
            .option("seed", arguments.seed)?
            .resolve_checked(C::check, key_of)
            .map(C::completed);
    }
    if arguments.name.is_some() || arguments.seed.is_some() || !arguments.set.is_empty() {
        return Err(usage(
            "a resumed run keeps its original configuration; remove --name, --seed and --set",
        ));
    }
    let folder = RunFolder::find(&arguments.config, Path::new(""))?;
    if let Some(record) = RunRecord::read(folder.path())?
        && record.command != C::COMMAND
    {
        return Err(usage(format!(
            "{} is a run of `perennial {}`; resume it with that command",
            folder.path().display(),
            record.command
        )));
    }
    Layers::read(&folder.configuration_path())?.resolve_checked(C::check, key_of)
}

/// The key that a check found wrong.
pub fn key_of(error: &TrainError) -> Option<String> {
    match error {
        TrainError::Config { key, .. } => Some(key.clone()),
        _ => None,
    }
}

fn folder_to_resume(
    arguments: &Arguments,
    global: &GlobalArguments,
    name: &str,
) -> anyhow::Result<RunFolder> {
    if arguments.config.is_dir() {
        return RunFolder::find(&arguments.config, &global.runs);
    }
    RunFolder::of_name(name, &global.runs)
}

fn status_of(outcome: &Result<Outcome, TrainError>) -> Status {
    match outcome {
        Ok(Outcome::Finished(_)) => Status::Finished,
        Ok(Outcome::Interrupted) => Status::Interrupted,
        Err(_) => Status::Failed,
    }
}

fn describe(finished: &Finished<'_>) -> String {
    let versions = finished.versions.join(" ");
    let mut text = match finished.finished_before {
        true => format!("{}: had finished, {versions}", finished.run.display()),
        false => format!(
            "{}: {versions} in {:.0} s",
            finished.run.display(),
            finished.seconds
        ),
    };
    if let Some(alias) = finished.alias {
        text.push_str(&format!(", alias {alias}"));
    }
    text
}

/// Shows the run's progress and keeps its record.
struct Watcher<'a> {
    terminal: &'a Terminal,
    interrupt: Interrupt,
    progress: TrainingProgress,
    folder: &'a RunFolder,
    /// The resolved configuration, until it is written to the folder.
    configuration: Option<String>,
    record: RunRecord,
    /// The training images, in words.
    images: String,
    /// Whether a task was started. From then on the folder belongs to this run.
    begun: bool,
    start: Option<String>,
    replacement: bool,
}

impl Watcher<'_> {
    /// Ends the display; gives back the record, and whether the run got to its first task.
    fn end(self) -> (RunRecord, bool) {
        (self.record, self.begun)
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        if let Some(configuration) = self.configuration.take() {
            // Only now: of two runs of one name that begin at once, one gets here.
            self.folder.write_configuration(&configuration)?;
        }
        self.record.write(self.folder.path())
    }
}

impl Observer for Watcher<'_> {
    fn images(&mut self, set: &ImageSet) {
        self.record.data = Some(DataRecord {
            set: self.images.clone(),
            images: set.len(),
            sha256: set.content_sha256(),
            files: FilesRecord::of(set),
        });
    }

    fn step(&mut self, report: &StepReport) {
        self.progress.step(report);
    }

    fn epoch(&mut self, record: &EpochRecord) {
        self.progress.epoch(record);
    }

    fn task(&mut self, task: usize, start: Option<&str>, replacement: bool) {
        if !std::mem::replace(&mut self.begun, true)
            && let Err(error) = self.begin()
        {
            tracing::warn!("{error:#}");
        }
        self.start = start.map(str::to_owned);
        self.replacement = replacement;
        let from = start.unwrap_or("random weights");
        let how = if replacement { ", a replacement" } else { "" };
        self.terminal
            .say(format_args!("task {} starts from {from}{how}", task + 1));
    }

    fn version(&mut self, task: usize, version: &ModelVersion) {
        self.terminal
            .say(format_args!("task {} done: {}", task + 1, version.name));
        self.record.finish_task(TaskRecord {
            task,
            start: self.start.clone(),
            replacement: self.replacement,
            version: version.name.clone(),
        });
        // The registry has the version; a record that cannot be written now is written at the end, or fails there.
        if let Err(error) = self.record.write(self.folder.path()) {
            tracing::warn!("{error:#}");
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.pressed()
    }
}
