//! A run: the plain loop over tasks, epochs and batches, with checkpoints in between.

mod bridged_replacement;
mod preparation;
mod slots;
mod task_start;

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::tensor::Device;
use perennial_core::{Registry, VertexEnd, sha256_hex};
use perennial_data::{ImageSet, Prefetcher};
use serde::Serialize;

use crate::batches::{epoch_plans, remember};
use crate::checkpoint::{Checkpoint, LearnerState, Progress};
use crate::config::{ExperimentConfig, PretrainConfig, ScenarioConfig};
use crate::earlier::EarlierModel;
use crate::error::{GoodCheckpoint, TrainError};
use crate::learner::{Learner, StepSums};
use crate::metrics_log;
use crate::observer::{EpochRecord, Observer, StepReport};
use crate::scenario::Scenario;
use crate::seeds::{Purpose, seed_for};
use crate::softmax_shares::SoftmaxShares;
use crate::state_dict::{StateDict, load_state_dict, state_dict};
use crate::versions::publish;

/// Steps between two reads of the loss; on a GPU a read waits for the device.
const REPORT_STEPS: usize = 10;

/// The inputs and outputs of a run.
pub struct RunPlaces<'a> {
    /// The run's own folder.
    pub folder: &'a FilePath,
    /// The registry that versions are read from and published to.
    pub registry: &'a Registry,
    /// The folder that holds the data sets.
    pub data_root: &'a FilePath,
    /// A device without gradient tracking.
    pub device: &'a Device,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All tasks are done; the registry names of their versions, in task order.
    Finished(Vec<String>),
    /// The observer asked to stop, and a checkpoint was written.
    Interrupted,
}

/// Runs an experiment from its beginning or, with `resume`, from its last checkpoint.
///
/// # Errors
///
/// See [`TrainError`]. Whatever fails, the last checkpoint and all published versions stay valid.
pub fn train(
    config: &ExperimentConfig,
    places: &RunPlaces<'_>,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    config.check()?;
    // A run that has begun goes on whatever it is to be measured on.
    if let Some(evaluation) = config.evaluation.as_ref().filter(|_| !resume) {
        evaluation.check()?;
    }
    let set = config.data.load(places.data_root)?;
    observer.images(&set);
    Run::prepare(
        config,
        VertexEnd::Back,
        set,
        places,
        resume,
        config_hash(config)?,
    )?
    .run(observer)
}

/// Pre-trains one model and points the configured alias at it. Of a run that had finished before it was resumed, the alias stays where it is,
/// since it may have been moved; it is set if it is missing.
///
/// # Errors
///
/// See [`TrainError`].
pub fn pretrain(
    config: &PretrainConfig,
    places: &RunPlaces<'_>,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    config.check()?;
    let set = config.data.load(places.data_root)?;
    observer.images(&set);
    let mut classes = set.labels().to_vec();
    classes.sort_unstable();
    classes.dedup();
    let experiment = ExperimentConfig {
        name: config.name.clone(),
        seed: config.seed,
        initial_model: None,
        slot: None,
        recipe: None,
        data: config.data.clone(),
        network: config.network,
        method: config.method,
        scenario: ScenarioConfig {
            initial_classes: classes.len(),
            increment: 1,
            tasks: Some(1),
            class_order: Default::default(),
        },
        memory: crate::config::MemoryConfig {
            images_per_class: 0,
        },
        training: config.training,
        augmentation: config.augmentation,
        preprocessing: config.preprocessing,
        embedding: config.embedding,
        replacements: Vec::new(),
        evaluation: None,
    };
    let run = Run::prepare(
        &experiment,
        VertexEnd::Front,
        set,
        places,
        resume,
        config_hash(config)?,
    )?;
    let finished_before = run.progress.task >= run.scenario.tasks().len();
    let outcome = run.run(observer)?;
    if let Outcome::Finished(versions) = &outcome
        && let Some(version) = versions.last()
        && !(finished_before && places.registry.aliases()?.contains_key(config.alias()))
    {
        places.registry.set_alias(config.alias(), version)?;
    }
    Ok(outcome)
}

fn config_hash(config: &impl Serialize) -> Result<String, TrainError> {
    Ok(sha256_hex(
        &serde_json::to_vec(config).map_err(std::io::Error::from)?,
    ))
}

struct Run<'a> {
    config: &'a ExperimentConfig,
    places: &'a RunPlaces<'a>,
    /// Local classes' end of the simplex; `Front` only for pre-training.
    vertex_end: VertexEnd,
    /// Vertices at the back that belong to other slots.
    skipped_vertices: usize,
    sets: Arc<[ImageSet]>,
    scenario: Scenario,
    progress: Progress,
    restored: Option<LearnerState>,
    _lock: std::fs::File,
}

/// Time since the last count, and the part of it spent waiting for batches.
struct Clock {
    since: Instant,
    waited: Duration,
}

impl Clock {
    fn start() -> Self {
        Self {
            since: Instant::now(),
            waited: Duration::ZERO,
        }
    }

    fn waiting<T>(&mut self, next: impl FnOnce() -> T) -> T {
        let asked = Instant::now();
        let given = next();
        self.waited += asked.elapsed();
        given
    }
}

impl<'a> Run<'a> {
    fn run(mut self, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        while self.progress.task < self.scenario.tasks().len() {
            let task = self.progress.task;
            let start = self.start_version(task)?;
            observer.task(
                task,
                start.as_ref().map(|version| version.name.as_str()),
                self.replacement(task).is_some(),
            );
            let earlier = self.earlier(task)?;
            let mut learner = self.learner(task, start.as_ref())?;

            if !self.fit(task, &mut learner, earlier.as_ref(), observer)? {
                self.checkpoint(Some(&learner))?;
                return Ok(Outcome::Interrupted);
            }

            let mut network = learner.network().valid();
            self.check_finite(&state_dict(&network))?;
            if let Some(average) = learner.average() {
                self.check_finite(&average)?;
                network = load_state_dict(network, average)?;
            }
            let network = self.with_start_share(task, start.as_ref(), network)?;
            let mut state = state_dict(&network);
            self.keep_mean(task, network, &mut state)?;
            let lineage = self.lineage(task, start.as_ref())?;
            let version = publish(
                self.places.registry,
                &state,
                lineage,
                &self.progress.versions,
            )?;
            observer.version(task, &version);
            self.finish_task(task, version.name);
            self.checkpoint(None)?;
        }
        Ok(Outcome::Finished(self.progress.versions))
    }

    /// Trains the current task to its end; `false` if the observer asked to stop before that.
    fn fit(
        &mut self,
        task: usize,
        learner: &mut Learner,
        earlier: Option<&EarlierModel>,
        observer: &mut dyn Observer,
    ) -> Result<bool, TrainError> {
        let training = self.config.training;
        let shape = self.input(task)?;
        let pipeline = self.augmented(self.view(task)?);
        let other = self.other_view(task)?.map(|view| self.augmented(view));
        while self.progress.epoch < training.epochs {
            let epoch = self.progress.epoch;
            let learning_rate = training.learning_rate_in(epoch);
            let plans = self.plans(task, epoch);
            let steps = plans.len();
            let last = plans.last().cloned();
            let mut counted = self.progress.step;
            let skipped = self.progress.step;
            let mut batches = Prefetcher::new(
                Arc::clone(&self.sets),
                pipeline,
                other,
                plans.into_iter().skip(skipped),
            )?;
            learner.begin_epoch(epoch);
            let mut sums = StepSums::default();
            let mut clock = Clock::start();
            while let Some(batch) = clock.waiting(|| batches.next()).transpose()? {
                learner.step(&batch, shape, earlier, learning_rate, &mut sums);
                batches.recycle(batch);
                self.progress.step += 1;
                let interrupted = observer.interrupted();
                if self.progress.step.is_multiple_of(REPORT_STEPS)
                    || self.progress.step == steps
                    || interrupted
                {
                    let totals = sums.take()?;
                    let broken = totals.not_finite.map(|step| counted + step);
                    self.count(task, epoch, totals, broken, &mut clock)?;
                    counted = self.progress.step;
                    observer.step(&self.report(task, epoch, steps));
                }
                if interrupted {
                    return Ok(false);
                }
            }
            let softmax = self.softmax_shares(task, learner, last)?;
            let record = self.finish_epoch(task, epoch, learning_rate, softmax)?;
            observer.epoch(&record);
            let done = self.progress.epoch;
            if done.is_multiple_of(training.checkpoint_epochs) || done == training.epochs {
                self.checkpoint(Some(learner))?;
            }
        }
        Ok(true)
    }

    /// Of an epoch's last batch, which is made again: a run that stopped after its step has it no longer.
    fn softmax_shares(
        &self,
        task: usize,
        learner: &Learner,
        plan: Option<perennial_data::BatchPlan>,
    ) -> Result<Option<SoftmaxShares>, TrainError> {
        let pipeline = self.augmented(self.view(task)?);
        let mut batches = Prefetcher::new(Arc::clone(&self.sets), pipeline, None, plan)?;
        let Some(batch) = batches.next().transpose()? else {
            return Ok(None);
        };
        Ok(Some(learner.softmax_shares(&batch, self.input(task)?)?))
    }

    fn plans(&self, task: usize, epoch: usize) -> Vec<perennial_data::BatchPlan> {
        let seed = seed_for(self.config.seed, Purpose::Batches, task, epoch);
        let label = |image| self.scenario.local_label(self.sets[0].label(image));
        let new = &self.scenario.tasks()[task].images;
        epoch_plans(
            new,
            &self.progress.memory,
            self.config.training.batch_size,
            seed,
            label,
        )
    }

    fn finish_task(&mut self, task: usize, version: String) {
        let label = |image| self.scenario.local_label(self.sets[0].label(image));
        let seed = seed_for(self.config.seed, Purpose::Memory, task, 0);
        let images = &self.scenario.tasks()[task].images;
        let kept = remember(images, self.config.memory.images_per_class, seed, label);
        self.progress.memory.extend(kept);
        self.progress.versions.push(version);
        self.progress.task += 1;
        self.progress.epoch = 0;
    }

    fn count(
        &mut self,
        task: usize,
        epoch: usize,
        totals: crate::learner::Totals,
        broken: Option<usize>,
        clock: &mut Clock,
    ) -> Result<(), TrainError> {
        if !totals.loss.is_finite() {
            // Made again: the seed fixes which images meet in a batch.
            let plan = broken.and_then(|step| self.plans(task, epoch).into_iter().nth(step));
            let sources = plan.map(|plan| plan.sources);
            let images = sources.iter().flatten().map(|&(_, image)| image);
            return Err(TrainError::Diverged {
                task,
                epoch,
                what: format!("the loss became {}", totals.loss),
                step: broken,
                images: images.collect(),
                checkpoint: self.last_good(),
            });
        }
        self.progress.loss_sum += totals.loss;
        self.progress.correct += totals.correct;
        self.progress.images += totals.images;
        self.progress.seconds += clock.since.elapsed().as_secs_f64();
        self.progress.data_wait_seconds += clock.waited.as_secs_f64();
        *clock = Clock::start();
        Ok(())
    }

    fn finish_epoch(
        &mut self,
        task: usize,
        epoch: usize,
        learning_rate: f64,
        softmax: Option<SoftmaxShares>,
    ) -> Result<EpochRecord, TrainError> {
        let images = self.progress.images.max(1) as f64;
        let record = EpochRecord {
            task,
            epoch,
            loss: self.progress.loss_sum / images,
            accuracy: self.progress.correct / images,
            learning_rate,
            images_per_second: images / self.progress.seconds.max(1e-9),
            seconds: self.progress.seconds,
            data_wait: self.progress.data_wait_seconds / self.progress.seconds.max(1e-9),
            softmax,
        };
        metrics_log::append(self.places.folder, &record)?;
        self.progress = Progress {
            task,
            epoch: epoch + 1,
            step: 0,
            loss_sum: 0.0,
            correct: 0.0,
            images: 0,
            seconds: 0.0,
            data_wait_seconds: 0.0,
            ..std::mem::take(&mut self.progress)
        };
        Ok(record)
    }

    fn report(&self, task: usize, epoch: usize, steps: usize) -> StepReport {
        let images = self.progress.images.max(1) as f64;
        let epochs = self.config.training.epochs;
        let per_epoch = |task: usize| {
            let new = self.scenario.tasks()[task].images.len();
            let memory = if task == 0 {
                0
            } else {
                self.scenario.classes_after(task - 1)
            };
            // The memory never holds more than there is, whatever the configuration allows.
            let memory = memory.saturating_mul(self.config.memory.images_per_class);
            (new.saturating_add(memory) / self.config.training.batch_size).max(1) as u64
        };
        let before: u64 = (0..task).map(|task| per_epoch(task) * epochs as u64).sum();
        let total = (0..self.scenario.tasks().len())
            .map(|task| per_epoch(task) * epochs as u64)
            .sum();
        StepReport {
            done: before + (epoch * steps + self.progress.step) as u64,
            total,
            task: [task, self.scenario.tasks().len()],
            epoch: [epoch, epochs],
            loss: self.progress.loss_sum / images,
            accuracy: self.progress.correct / images,
            images_per_second: images / self.progress.seconds.max(1e-9),
        }
    }

    fn checkpoint(&self, learner: Option<&Learner>) -> Result<(), TrainError> {
        let learner = learner.map(|learner| LearnerState {
            network: state_dict(&learner.network().valid()),
            velocity: learner.sgd.state(),
            average: learner.average(),
        });
        if let Some(state) = &learner {
            let average = state.average.iter();
            for tensors in [&state.network, &state.velocity].into_iter().chain(average) {
                self.check_finite(tensors)?;
            }
        }
        Checkpoint {
            progress: self.progress.clone(),
            learner,
        }
        .write(self.places.folder)
    }

    /// Rejects NaN and infinite weights before they reach the checkpoint or the registry.
    fn check_finite(&self, state: &StateDict) -> Result<(), TrainError> {
        let broken = state
            .values()
            .flat_map(|tensor| &tensor.values)
            .find(|value| !value.is_finite());
        // Between two epochs the one before has been counted already.
        let Progress { epoch, step, .. } = self.progress;
        let epoch = epoch.saturating_sub(usize::from(step == 0));
        broken.map_or(Ok(()), |value| {
            Err(TrainError::Diverged {
                task: self.progress.task,
                epoch,
                what: format!("a weight became {value}"),
                step: None,
                images: Vec::new(),
                checkpoint: self.last_good(),
            })
        })
    }

    /// The checkpoint that the run's folder has. One that cannot be read is none: this is asked on the way to another error.
    fn last_good(&self) -> Option<GoodCheckpoint> {
        let checkpoint = Checkpoint::read(self.places.folder).ok().flatten()?;
        Some(GoodCheckpoint {
            path: crate::checkpoint::path_in(self.places.folder),
            task: checkpoint.progress.task,
            epochs: checkpoint.progress.epoch,
        })
    }
}
