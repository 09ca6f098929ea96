//! Doing what is missing: every training and measurement is a process of its own, so that its memory is its own and a crash ends nothing else.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use perennial_core::{Registry, write_atomically};
use perennial_eval::{Bootstrap, Compatibility, TieRule};
use perennial_train::config::EvaluationConfig;
use perennial_train::{PretrainConfig, pretrained_difference};
use serde::Serialize;

use super::plan::{DEFAULT_SEED, Plan, RouteTest, Run, Training, Work, is_set};
use super::record::Record;
use super::records;
use crate::arguments::GlobalArguments;
use crate::commands::evaluate::{REPORT_FILE, routes};
use crate::configuration::to_toml;
use crate::exit_status::{ExitStatus, InterruptedError, usage};
use crate::interrupt::Interrupt;
use crate::run_record::RunRecord;
use crate::terminal::Terminal;
use crate::training_run::Runnable;

/// How often a running process is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Configuration keys in the environment: a benchmark's settings come from its files alone.
const SETTINGS_PREFIX: &str = "PERENNIAL__";
/// Threads of a process that computes.
const THREADS: &str = "RAYON_NUM_THREADS";
/// Of a log, this much is searched for the error at its end.
const LOG_END_BYTES: u64 = 64 << 10;

/// A benchmark at work.
pub struct Worker<'a> {
    /// What there is to do.
    pub plan: &'a Plan,
    /// Where models and data are.
    pub global: &'a GlobalArguments,
    /// Where progress is told.
    pub terminal: &'a Terminal,
    /// Ctrl-C.
    pub interrupt: Interrupt,
    /// Processes at once.
    pub jobs: usize,
}

/// Work that failed.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// The name of the run or pre-training.
    pub name: String,
    /// Why.
    pub problem: String,
}

/// How a piece of work ended.
enum Ended {
    Done,
    /// Another process has it.
    Elsewhere,
}

impl Worker<'_> {
    /// Does what is missing of the runs at `chosen`: first the pre-trainings that they need, then the runs.
    ///
    /// # Errors
    /// Ctrl-C. What fails is returned, after everything else was done.
    pub fn work(&self, chosen: &[usize]) -> anyhow::Result<Vec<Failure>> {
        let mut open = Vec::new();
        for &place in chosen {
            let run = &self.plan.runs[place];
            match records::find(run, self.plan)? {
                Some(record) => records::keep(&record, run, self.plan)?,
                None => open.push(place),
            }
        }
        let needed: BTreeSet<usize> = open
            .iter()
            .flat_map(|&place| &self.plan.runs[place].needs)
            .copied()
            .collect();
        let needed: Vec<usize> = needed.into_iter().collect();
        let mut failures = self.each(&needed, |place| {
            let made = &self.plan.pretrainings[place];
            (made.config.name.as_str(), self.pretrain(made))
        });
        self.interrupt.check()?;
        let failed: BTreeSet<String> = failures.iter().map(|one| one.name.clone()).collect();
        let startable: Vec<usize> = open
            .iter()
            .copied()
            .filter(|&place| {
                let needs = self.plan.runs[place].needs.iter();
                let missing = needs.map(|&need| self.plan.pretrainings[need].config.name.as_str());
                !missing.into_iter().any(|name| failed.contains(name))
            })
            .collect();
        for &place in open.iter().filter(|place| !startable.contains(place)) {
            failures.push(Failure {
                name: self.plan.runs[place].work.config.name.clone(),
                problem: "a model that it starts from is missing".to_owned(),
            });
        }
        failures.extend(self.each(&startable, |place| {
            let run = &self.plan.runs[place];
            (run.work.config.name.as_str(), self.run(run))
        }));
        self.interrupt.check()?;
        Ok(failures)
    }

    /// Works through a list with so many threads, each of which waits for one process.
    fn each<'a>(
        &self,
        places: &[usize],
        one: impl Fn(usize) -> (&'a str, anyhow::Result<Ended>) + Sync,
    ) -> Vec<Failure> {
        let next = AtomicUsize::new(0);
        let failures = Mutex::new(Vec::new());
        let step = || {
            while !self.interrupt.pressed() {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let Some(&place) = places.get(turn) else {
                    return;
                };
                let (name, ended) = one(place);
                let of = places.len();
                match ended {
                    Ok(Ended::Done) => {
                        self.terminal
                            .say(format_args!("{name}: done ({} of {of})", turn + 1));
                    }
                    Ok(Ended::Elsewhere) => self
                        .terminal
                        .say(format_args!("{name}: another process works on it")),
                    Err(error) if error.chain().any(|cause| cause.is::<InterruptedError>()) => {}
                    Err(error) => {
                        let problem = crate::exit_status::one_line(&error);
                        self.terminal.error(&format!("{name}: {problem}"));
                        let failure = Failure {
                            name: name.to_owned(),
                            problem,
                        };
                        match failures.lock() {
                            Ok(mut failures) => failures.push(failure),
                            Err(poisoned) => poisoned.into_inner().push(failure),
                        }
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.jobs.min(places.len()) {
                scope.spawn(step);
            }
            step();
        });
        failures
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Makes a model, or finds it made.
    fn pretrain(&self, made: &Work<PretrainConfig>) -> anyhow::Result<Ended> {
        let (name, alias) = (made.config.name.as_str(), made.config.alias());
        // Of a model that is there, whoever made it, `model.toml` must say that it was made by these settings, as far as it has them.
        let registered = || -> anyhow::Result<bool> {
            let registry = Registry::open(&self.global.registry).ok();
            let Some(registry) = registry.filter(|registry| registry.resolve(alias).is_ok()) else {
                return Ok(false);
            };
            match pretrained_difference(&made.config, &registry.get(alias)?) {
                None => Ok(true),
                Some(difference) => Err(usage(format!(
                    "the model {alias} of the registry {} was made by other settings ({difference}); use another registry, or change the alias",
                    self.global.registry.display()
                ))),
            }
        };
        let mut told = false;
        // Runs cannot start without it, so another process that makes it is waited for.
        let _lock = loop {
            match made.lock()? {
                Some(lock) if !made.is_training() => break lock,
                _ => {}
            }
            if !std::mem::replace(&mut told, true) {
                self.terminal.say(format_args!(
                    "{name}: waiting for another process that makes it"
                ));
            }
            self.interrupt.check()?;
            std::thread::sleep(POLL);
        };
        match made.training()? {
            Training::Finished if registered()? => return Ok(Ended::Done),
            Training::Finished => anyhow::bail!(
                "{} is finished, but the registry {} has no model {alias}; use the registry of that run, or move its folder away",
                made.folder.display(),
                self.global.registry.display()
            ),
            Training::Missing if registered()? => {
                self.terminal
                    .say(format_args!("{name}: the registry has {alias} already"));
                return Ok(Ended::Done);
            }
            Training::Missing | Training::Begun => {}
        }
        self.train(made, &self.global.runs)?;
        Ok(Ended::Done)
    }

    /// Trains and measures a run, from wherever it got to.
    fn run(&self, run: &Run) -> anyhow::Result<Ended> {
        let name = run.work.config.name.as_str();
        let Some(_lock) = run.work.lock()? else {
            return Ok(Ended::Elsewhere);
        };
        if run.work.is_training() {
            return Ok(Ended::Elsewhere);
        }
        // Another process may have finished it since.
        if records::find(run, self.plan)?.is_some() {
            return Ok(Ended::Done);
        }
        if run.work.training()? != Training::Finished {
            self.train(&run.work, &self.plan.folder)?;
        }
        let begun = Instant::now();
        let folder = &run.work.folder;
        let versions = RunRecord::read(folder)?.map(|record| record.versions());
        let versions = versions.unwrap_or_default();
        let Some(evaluation) = &run.work.config.evaluation else {
            anyhow::bail!("its configuration has no [evaluation]");
        };
        // Whether all of the measurement is this call's, so that its time is known.
        let mut whole = true;
        if measured(folder, &versions, evaluation) {
            whole = false;
        } else {
            self.terminal.say(format_args!("{name}: measuring"));
            self.process(name, &["evaluate".into(), folder.clone().into_os_string()])?;
        }
        for test in &run.tests {
            if tested(test, folder, &versions, evaluation) {
                whole = false;
            } else {
                self.measure_routes(name, test, folder)?;
            }
        }
        let seconds = whole.then(|| begun.elapsed().as_secs_f64());
        let record = Record::collect(run, self.plan, seconds)?;
        records::write(&record, run, self.plan)?;
        Ok(Ended::Done)
    }

    fn measure_routes(&self, name: &str, test: &RouteTest, folder: &Path) -> anyhow::Result<()> {
        let out = test.folder(folder);
        let what = out.file_name().unwrap_or_default().to_string_lossy();
        self.terminal
            .say(format_args!("{name}: measuring routes ({what})"));
        // Left by an interrupted measurement, or of other routes than are asked for now.
        let stale = out.join(routes::FILE);
        if stale.is_file() {
            fs_err::remove_file(stale)?;
        }
        let mut words: Vec<std::ffi::OsString> = vec!["evaluate".into(), folder.into()];
        words.push("--routes".into());
        for route in &test.routes {
            words.push(route.as_argument().into());
        }
        let mut option = |name: &str, value: String| {
            words.extend([name.into(), value.into()]);
        };
        option("--kind", test.kind.to_string());
        if let Some(kind) = test.mapped_kind {
            option("--mapped-kind", kind.to_string());
        }
        option("--weight", test.weight.to_string());
        if let Some(set) = &test.fit_set {
            option("--fit-set", set.clone());
        }
        if let Some(pairs) = test.fit_pairs {
            option("--fit-pairs", pairs.to_string());
        }
        if let Some(copies) = test.altered {
            option("--altered", copies.to_string());
        }
        words.extend(["--out".into(), out.into()]);
        self.process(name, &words)
    }

    /// Begins a training or goes on from its checkpoint.
    fn train<C: Runnable + PartialEq>(&self, work: &Work<C>, runs: &Path) -> anyhow::Result<()> {
        let name = work.config.name();
        let begun = work.training()? == Training::Begun;
        let how = if begun { "resuming" } else { "training" };
        self.terminal.say(format_args!("{name}: {how}"));
        let configurations = self.plan.folder.join("configurations");
        fs_err::create_dir_all(&configurations)?;
        let configuration = configurations.join(format!("{name}.toml"));
        write_atomically(&configuration, to_toml(&work.config)?)?;
        let mut words = vec![C::COMMAND.into(), configuration.into_os_string()];
        if begun {
            words.push("--resume".into());
        }
        words.extend(["--runs".into(), runs.into()]);
        self.process(name, &words)
    }

    /// Runs this program with arguments and waits for it. Ctrl-C is passed on, so that it can write its checkpoint.
    fn process(&self, name: &str, words: &[std::ffi::OsString]) -> anyhow::Result<()> {
        let log = self.log_path(name);
        if let Some(folder) = log.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let mut options = fs_err::OpenOptions::new();
        let file = options.create(true).append(true).open(&log)?.into_file();
        let begun_at = file.metadata()?.len();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(words);
        let global = self.global;
        command.arg("--device").arg(global.device.to_string());
        command.arg("--registry").arg(&global.registry);
        command.arg("--data").arg(&global.data);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(SETTINGS_PREFIX) {
                command.env_remove(name);
            }
        }
        if self.jobs > 1 && std::env::var_os(THREADS).is_none() {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            command.env(THREADS, (cores / self.jobs).max(1).to_string());
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let mut child = in_own_group(&mut command).spawn()?;
        let mut told = false;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if self.interrupt.pressed() && !std::mem::replace(&mut told, true) {
                interrupt(&child);
            }
            std::thread::sleep(POLL);
        };
        if status.success() {
            return Ok(());
        }
        // A process that ended by itself for another reason has failed, whatever was pressed meanwhile.
        if self.interrupt.pressed() && status.code().is_none_or(|code| code == 130) {
            return Err(InterruptedError.into());
        }
        let problem = last_error(&log, begun_at).unwrap_or_else(|| status.to_string());
        Err(anyhow::anyhow!("{problem} (log: {})", log.display()))
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.plan.folder.join("logs").join(format!("{name}.log"))
    }
}

/// The exit status of work with these failures.
pub fn status(failures: &[Failure]) -> ExitStatus {
    if failures.is_empty() {
        ExitStatus::Done
    } else {
        ExitStatus::Failed
    }
}

/// Whether the matrix of these versions on this evaluation set is there, by the tie rule and the resamples that the call of `evaluate` has. A report of an earlier program lacks intervals and is made again.
fn measured(folder: &Path, versions: &[String], evaluation: &EvaluationConfig) -> bool {
    Compatibility::read(&folder.join(REPORT_FILE)).is_ok_and(|report| {
        report.versions() == versions
            && report.metric_intervals().is_some()
            && report.tie_rule() == TieRule::Strict
            && report.bootstrap() == Bootstrap::new(DEFAULT_SEED)
            && is_set(report.queries(), &evaluation.queries)
            && is_set(report.gallery(), &evaluation.gallery)
    })
}

fn tested(
    test: &RouteTest,
    folder: &Path,
    versions: &[String],
    evaluation: &EvaluationConfig,
) -> bool {
    let path = test.folder(folder).join(routes::FILE);
    routes::Document::read(&path).is_ok_and(|found| test.is_of(&found, versions, evaluation))
}

/// Ctrl-C in a terminal reaches a whole group of processes. In a group of its own, a process gets it once, from here.
#[cfg(unix)]
fn in_own_group(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    command.process_group(0)
}

/// Ctrl-C in a console reaches every process there.
#[cfg(not(unix))]
fn in_own_group(command: &mut Command) -> &mut Command {
    command
}

/// Asks a process to write its checkpoint and end.
#[cfg(unix)]
fn interrupt(child: &Child) {
    // The standard library has no signals but the one that ends a process at once.
    let sent = Command::new("sh")
        .args(["-c", "kill -INT \"$0\"", &child.id().to_string()])
        .status();
    if !sent.is_ok_and(|status| status.success()) {
        tracing::warn!("could not interrupt process {}", child.id());
    }
}

#[cfg(not(unix))]
fn interrupt(_child: &Child) {}

/// The last line of a log that tells of an error, from a byte on: what stands before it is of earlier processes.
fn last_error(log: &Path, begun_at: u64) -> Option<String> {
    let mut file = std::fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    let from = length.saturating_sub(LOG_END_BYTES).max(begun_at);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut last = None;
    for line in BufReader::new(file.take(LOG_END_BYTES)).split(b'\n') {
        let line = String::from_utf8_lossy(&line.ok()?).into_owned();
        if let Some(problem) = line.strip_prefix("error: ") {
            last = Some(problem.to_owned());
        }
    }
    last
}
