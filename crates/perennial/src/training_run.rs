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

/// The largest configuration that is read again, in bytes.
const MAX_CONFIGURATION: u64 = 1 << 20;

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
        explained: false,
        start: None,
        replacement: false,
    };
    let outcome = config.execute(&places, arguments.resume, &mut watcher);
    let (mut record, begun) = watcher.end();

    record.stop(status_of(&outcome), &stopwatch);
    let finished_before = arguments.resume && !begun && matches!(outcome, Ok(Outcome::Finished(_)));
    match &outcome {
        // Another process holds the folder, or another run does.
        Err(TrainError::RunFolder { .. }) => {
            if arguments.resume {
                refuse_other_configuration::<C>(&folder, &to_toml(&config)?, global)?;
            }
        }
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

/// Names the keys by which a configuration is not that of the run that it is to resume, if there are any.
fn refuse_other_configuration<C: Runnable>(
    folder: &RunFolder,
    text: &str,
    global: &GlobalArguments,
) -> anyhow::Result<()> {
    let of_run = perennial_core::read_text_at_most(folder.configuration_path(), MAX_CONFIGURATION)?;
    let differences = differences(&toml::from_str(&of_run)?, &toml::from_str(text)?);
    if differences.is_empty() {
        return Ok(());
    }
    Err(usage(format!(
        "{}: the configuration differs from the one that this run began with: {}; `{}` resumes the run as it began, and a changed one needs another --name",
        folder.path().display(),
        differences.join(", "),
        resume_command(C::COMMAND, folder.path(), global)
    )))
}

/// The keys with other values, and both values.
fn differences(of_run: &toml::Table, now: &toml::Table) -> Vec<String> {
    let mut keys: Vec<&String> = of_run.keys().chain(now.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut found = Vec::new();
    for key in keys {
        match (of_run.get(key), now.get(key)) {
            (Some(toml::Value::Table(of_run)), Some(toml::Value::Table(now))) => {
                let below = differences(of_run, now);
                found.extend(below.into_iter().map(|below| format!("{key}.{below}")));
            }
            (of_run, now) if of_run != now => {
                let text = |value: Option<&toml::Value>| {
                    value.map_or_else(|| "not set".to_owned(), ToString::to_string)
                };
                found.push(format!("{key} was {} and is {}", text(of_run), text(now)));
            }
            _ => {}
        }
    }
    found
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

/// The share of the softmax at vertices that no image of the task has, where it leaves an accuracy that looks as if nothing were learned.
fn lost_to_other_vertices(record: &EpochRecord) -> Option<f64> {
    let shares = record.softmax.as_ref()?;
    let others = shares.pretrained + shares.unused;
    (record.accuracy < 0.01 && others > 0.5).then_some(others)
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
    /// Whether it was said why the accuracy is near 0.
    explained: bool,
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
        if let Some(share) = lost_to_other_vertices(record)
            && self.start.is_some()
            && !std::mem::replace(&mut self.explained, true)
        {
            self.terminal.say(format_args!(
                "the accuracy in training is over all vertices, and those without images in this task hold {:.0} % of the softmax \
                 (docs/methods.md); what counts is how the embeddings are found: `perennial evaluate` measures it",
                100.0 * share
            ));
        }
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

#[cfg(test)]
mod tests {
    use perennial_train::SoftmaxShares;

    use super::*;

    fn record(accuracy: f64, pretrained: f64, unused: f64) -> EpochRecord {
        EpochRecord {
            task: 0,
            epoch: 0,
            loss: 3.0,
            accuracy,
            learning_rate: 0.1,
            images_per_second: 100.0,
            seconds: 1.0,
            data_wait: 0.0,
            softmax: Some(SoftmaxShares {
                embedding_norm: 4.0,
                concentration: 0.8,
                right: 0.01,
                new: 0.99 - pretrained - unused,
                old: 0.0,
                pretrained,
                unused,
            }),
        }
    }

    #[test]
    fn an_accuracy_near_0_is_explained_where_other_vertices_hold_the_softmax() {
        assert_eq!(
            lost_to_other_vertices(&record(0.001, 0.25, 0.5)),
            Some(0.75)
        );
        assert_eq!(lost_to_other_vertices(&record(0.4, 0.25, 0.5)), None);
        assert_eq!(lost_to_other_vertices(&record(0.001, 0.1, 0.2)), None);
    }

    #[test]
    fn differing_keys_are_named_with_both_values() {
        let of_run = "name = \"a\"\nalias = \"b\"\n[training]\nepochs = 5\nbatch_size = 8\n";
        let now = "name = \"a\"\nseed = 2\n[training]\nepochs = 6\nbatch_size = 8\n";
        let [of_run, now] = [of_run, now].map(|text| toml::from_str(text).unwrap());
        assert_eq!(
            differences(&of_run, &now),
            [
                "alias was \"b\" and is not set",
                "seed was not set and is 2",
                "training.epochs was 5 and is 6"
            ]
        );
        assert!(differences(&now, &now).is_empty());
    }
}
