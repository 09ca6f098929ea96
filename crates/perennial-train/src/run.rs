//! A run: the plain loop over tasks, epochs and batches, with checkpoints in between.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use perennial_core::{ModelVersion, Registry, VertexEnd, VertexMap, check_disjoint, sha256_hex};
use perennial_data::{ImageSet, Pipeline, Prefetcher};
use serde::Serialize;

use crate::TrainError;
use crate::batches::{epoch_plans, remember};
use crate::checkpoint::{Checkpoint, Progress, path_in};
use crate::config::{ExperimentConfig, MethodConfig, PretrainConfig, Reference, ScenarioConfig};
use crate::encoder::{load_network, network_config};
use crate::learner::{Learner, StepSums};
use crate::network::Network;
use crate::observer::{EpochRecord, Observer, StepReport};
use crate::scenario::Scenario;
use crate::seeds::{Purpose, seed_for};
use crate::sgd::cosine_learning_rate;
use crate::state_dict::{load_state_dict, state_dict};
use crate::versions::{Lineage, publish};

/// Steps between two looks at the loss, which on a GPU wait for the device.
const REPORT_STEPS: usize = 10;

/// Where a run reads and writes.
pub struct RunPlaces<'a> {
    /// The run's own folder.
    pub folder: &'a FilePath,
    /// Where versions come from and go to.
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
    let set = config.data.load(places.data_root)?;
    Run::prepare(config, VertexEnd::Back, set, places, resume, config_hash(config)?)?.run(observer)
}

/// Pre-trains one model and points the configured alias at it.
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
    let mut classes = set.labels().to_vec();
    classes.sort_unstable();
    classes.dedup();
    let experiment = ExperimentConfig {
        name: config.name.clone(),
        seed: config.seed,
        initial_model: None,
        data: config.data.clone(),
        network: config.network,
        method: config.method,
        scenario: ScenarioConfig {
            initial_classes: classes.len(),
            increment: 1,
            tasks: Some(1),
            class_order: Default::default(),
        },
        memory: crate::config::MemoryConfig { images_per_class: 0 },
        training: config.training,
        augmentation: config.augmentation,
        preprocessing: config.preprocessing,
        replacements: Vec::new(),
        evaluation: None,
    };
    let run = Run::prepare(&experiment, VertexEnd::Front, set, places, resume, config_hash(config)?)?;
    let outcome = run.run(observer)?;
    if let Outcome::Finished(versions) = &outcome
        && let Some(version) = versions.last()
    {
        places.registry.set_alias(config.alias(), version)?;
    }
    Ok(outcome)
}

fn config_hash(config: &impl Serialize) -> Result<String, TrainError> {
    Ok(sha256_hex(&serde_json::to_vec(config).map_err(std::io::Error::from)?))
}

struct Run<'a> {
    config: &'a ExperimentConfig,
    places: &'a RunPlaces<'a>,
    /// Local classes' end of the simplex; `Front` only for pre-training.
    vertex_end: VertexEnd,
    sets: Arc<[ImageSet]>,
    scenario: Scenario,
    pipeline: Pipeline,
    progress: Progress,
    restored: Option<(crate::StateDict, crate::StateDict)>,
}

impl<'a> Run<'a> {
    fn prepare(
        config: &'a ExperimentConfig,
        vertex_end: VertexEnd,
        set: ImageSet,
        places: &'a RunPlaces<'a>,
        resume: bool,
        config_sha256: String,
    ) -> Result<Self, TrainError> {
        let folder = |path: PathBuf, problem: &str| TrainError::RunFolder { path, problem: problem.to_owned() };
        let checkpoint = Checkpoint::read(places.folder)?;
        let (progress, restored) = match (checkpoint, resume) {
            (None, true) => {
                return Err(folder(path_in(places.folder), "there is no checkpoint to resume from; start the run first"));
            }
            (Some(_), false) => {
                return Err(folder(
                    places.folder.to_owned(),
                    "a run is already here; continue it with --resume, or give the new one another name",
                ));
            }
            (Some(checkpoint), true) => {
                if checkpoint.progress.config_sha256 != config_sha256 {
                    return Err(folder(
                        path_in(places.folder),
                        "the configuration differs from the one that this run began with; give the new one another name",
                    ));
                }
                (checkpoint.progress, checkpoint.learner)
            }
            (None, false) => (Progress { config_sha256, ..Default::default() }, None),
        };
        let scenario = Scenario::new(&config.scenario, &set, config.seed)?;
        let pipeline =
            Pipeline { preprocessing: config.preprocessing.build()?, augmentation: config.augmentation.into() };
        let tasks = scenario.tasks().len();
        if let Some(replacement) = config.replacements.iter().find(|replacement| replacement.before_task >= tasks) {
            return Err(TrainError::config(
                "replacements.before_task",
                &format!("{} is beyond the last of {tasks} tasks (0-based)", replacement.before_task),
            ));
        }
        let run =
            Self { config, places, vertex_end, sets: [set].into(), scenario, pipeline, progress, restored };
        run.check_versions()?;
        truncate_metrics(places.folder, &run.progress)?;
        // From here on the folder belongs to this configuration.
        if !resume {
            Checkpoint { progress: run.progress.clone(), learner: None }.write(places.folder)?;
        }
        Ok(run)
    }

    /// Finds every version that the run will start from before hours are spent, and the vertices they need.
    fn check_versions(&self) -> Result<(), TrainError> {
        let simplex = self.config.method.simplex()?;
        let names = self.config.initial_model.iter().chain(self.config.replacements.iter().map(|r| &r.model));
        let mut pretrained = 0;
        for name in names {
            let version = self.places.registry.get(name)?;
            network_config(&version)?;
            let problem = |problem: String| TrainError::Version { version: version.name.clone(), problem };
            if let Some(simplex) = simplex {
                if version.classifier.vertices != Some(simplex.vertices()) {
                    return Err(problem(format!(
                        "its classifier has {} vertices, method.vertices is {}",
                        version.classifier.vertices.map_or("no".to_owned(), |count| count.to_string()),
                        simplex.vertices()
                    )));
                }
            } else if version.classifier.vertices.is_some() {
                return Err(problem("it was trained with a simplex, method.kind is er".to_owned()));
            }
            if version.architecture.input != self.sets[0].shape() {
                return Err(problem(format!(
                    "its images are {:?}, the training set's are {:?}",
                    version.architecture.input,
                    self.sets[0].shape()
                )));
            }
            pretrained = pretrained.max(version.classifier.pretrained_classes);
        }
        let local = self.scenario.classes_after(self.scenario.tasks().len() - 1);
        if let Some(simplex) = simplex {
            check_disjoint(simplex.vertices(), pretrained, local)?;
        }
        Ok(())
    }

    fn run(mut self, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        while self.progress.task < self.scenario.tasks().len() {
            let task = self.progress.task;
            let start = self.start_version(task)?;
            observer.task(task, start.as_ref().map(|version| version.name.as_str()), self.replacement(task).is_some());
            let reference = self.reference(task, start.as_ref())?;
            let mut learner = self.learner(task, start.as_ref())?;

            if !self.fit(task, &mut learner, reference.as_ref(), observer)? {
                self.checkpoint(Some(&learner))?;
                return Ok(Outcome::Interrupted);
            }

            let version = publish(
                self.places.registry,
                &state_dict(&learner.network.valid()),
                self.lineage(task, start.as_ref())?,
            )?;
            observer.version(task, &version);
            self.finish_task(task, version.name);
            self.checkpoint(None)?;
        }
        Ok(Outcome::Finished(self.progress.versions))
    }

    /// Trains the task in work to its end; `false` if the observer asked to stop before that.
    fn fit(
        &mut self,
        task: usize,
        learner: &mut Learner,
        reference: Option<&Network>,
        observer: &mut dyn Observer,
    ) -> Result<bool, TrainError> {
        let training = self.config.training;
        let shape = self.sets[0].shape();
        while self.progress.epoch < training.epochs {
            let epoch = self.progress.epoch;
            let learning_rate =
                cosine_learning_rate(epoch, training.epochs, training.learning_rate, training.final_learning_rate);
            let plans = self.plans(task, epoch);
            let steps = plans.len();
            let skipped = self.progress.step;
            let mut batches =
                Prefetcher::new(Arc::clone(&self.sets), self.pipeline, plans.into_iter().skip(skipped))?;
            let mut sums = StepSums::default();
            let mut clock = Instant::now();
            while let Some(batch) = batches.next().transpose()? {
                learner.step(&batch, shape, reference, learning_rate, &mut sums);
                batches.recycle(batch);
                self.progress.step += 1;
                let interrupted = observer.interrupted();
                if self.progress.step.is_multiple_of(REPORT_STEPS) || self.progress.step == steps || interrupted {
                    self.count(task, epoch, sums.take(), &mut clock)?;
                    observer.step(&self.report(task, epoch, steps));
                }
                if interrupted {
                    return Ok(false);
                }
            }
            let record = self.finish_epoch(task, epoch, learning_rate)?;
            observer.epoch(&record);
            if self.progress.epoch.is_multiple_of(training.checkpoint_epochs) {
                self.checkpoint(Some(learner))?;
            }
        }
        Ok(true)
    }

    fn plans(&self, task: usize, epoch: usize) -> Vec<perennial_data::BatchPlan> {
        let seed = seed_for(self.config.seed, Purpose::Batches, task, epoch);
        let label = |image| self.scenario.local_label(self.sets[0].label(image));
        let new = &self.scenario.tasks()[task].images;
        epoch_plans(new, &self.progress.memory, self.config.training.batch_size, seed, label)
    }

    fn replacement(&self, task: usize) -> Option<&'a str> {
        let config = self.config;
        config.replacements.iter().find(|replacement| replacement.before_task == task).map(|r| r.model.as_str())
    }

    /// What a task starts from: a replacement, the version of the task before, or the initial model.
    fn start_version(&self, task: usize) -> Result<Option<ModelVersion>, TrainError> {
        let deployed = if task == 0 {
            self.config.initial_model.as_deref()
        } else {
            self.progress.versions.get(task - 1).map(String::as_str)
        };
        let name = self.replacement(task).or(deployed);
        Ok(name.map(|name| self.places.registry.get(name)).transpose()?)
    }

    /// The frozen earlier model of the contrastive term.
    fn reference(&self, task: usize, start: Option<&ModelVersion>) -> Result<Option<Network>, TrainError> {
        let MethodConfig::Hoc { reference, .. } = self.config.method else { return Ok(None) };
        let deployed = match (reference, task) {
            (Reference::Deployed, 1..) => Some(self.places.registry.get(&self.progress.versions[task - 1])?),
            _ => start.cloned(),
        };
        deployed.map(|version| load_network(self.places.registry, &version, self.places.device)).transpose()
    }

    fn learner(&mut self, task: usize, start: Option<&ModelVersion>) -> Result<Learner, TrainError> {
        let config = self.config;
        let device = self.places.device.clone().autodiff();
        let simplex = config.method.simplex()?;
        let mut network = match start {
            Some(version) => {
                let network = load_network(self.places.registry, version, &device)?;
                // A replacement's classifier knows other classes than the ones trained here.
                let continues = task > 0 && self.replacement(task).is_none();
                if continues { network } else { network.without_classifier() }
            }
            None => {
                let seed = seed_for(config.seed, Purpose::Weights, 0, 0);
                let dim = simplex.map(|simplex| simplex.dim());
                Network::new(&config.network, self.sets[0].channels(), dim, seed, &device)
            }
        };
        if simplex.is_none() {
            let seed = seed_for(config.seed, Purpose::Classifier, task, 0);
            network = network.with_classifier(self.scenario.classes_after(task), seed);
        }
        let map = simplex.map(|simplex| {
            (simplex, VertexMap { vertices: simplex.vertices(), end: self.vertex_end })
        });
        let restored = self.restored.take();
        let (weights, velocity) = restored.unzip();
        if let Some(weights) = weights {
            network = load_state_dict(network, weights)?;
        }
        let mut learner = Learner::new(network, config.method, map, &config.training, device.clone());
        if let Some(velocity) = velocity {
            learner.sgd.restore(velocity, &device);
        }
        Ok(learner)
    }

    fn lineage(&self, task: usize, start: Option<&ModelVersion>) -> Result<Lineage<'a>, TrainError> {
        let deployed = if task == 0 {
            self.config.initial_model.as_deref()
        } else {
            self.progress.versions.get(task - 1).map(String::as_str)
        };
        Ok(Lineage {
            config: self.config,
            vertex_end: self.vertex_end,
            input: self.sets[0].shape(),
            task,
            classes: self.scenario.classes_after(task),
            start: start.cloned(),
            deployed: deployed.map(|name| self.places.registry.get(name)).transpose()?,
            replacement: self.replacement(task).is_some(),
        })
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
        clock: &mut Instant,
    ) -> Result<(), TrainError> {
        if !totals.loss.is_finite() {
            return Err(TrainError::Diverged { task, epoch, loss: totals.loss });
        }
        self.progress.loss_sum += totals.loss;
        self.progress.correct += totals.correct;
        self.progress.images += totals.images;
        self.progress.seconds += clock.elapsed().as_secs_f64();
        *clock = Instant::now();
        Ok(())
    }

    fn finish_epoch(&mut self, task: usize, epoch: usize, learning_rate: f64) -> Result<EpochRecord, TrainError> {
        let images = self.progress.images.max(1) as f64;
        let record = EpochRecord {
            task,
            epoch,
            loss: self.progress.loss_sum / images,
            accuracy: self.progress.correct / images,
            learning_rate,
            images_per_second: images / self.progress.seconds.max(1e-9),
            seconds: self.progress.seconds,
        };
        append_metrics(self.places.folder, &record)?;
        let Progress { memory, versions, config_sha256, .. } = std::mem::take(&mut self.progress);
        self.progress = Progress { task, epoch: epoch + 1, memory, versions, config_sha256, ..Default::default() };
        Ok(record)
    }

    fn report(&self, task: usize, epoch: usize, steps: usize) -> StepReport {
        let images = self.progress.images.max(1) as f64;
        let epochs = self.config.training.epochs;
        let per_epoch = |task: usize| {
            let new = self.scenario.tasks()[task].images.len();
            let memory = if task == 0 { 0 } else { self.scenario.classes_after(task - 1) } * self.config.memory.images_per_class;
            ((new + memory) / self.config.training.batch_size).max(1) as u64
        };
        let before: u64 = (0..task).map(|task| per_epoch(task) * epochs as u64).sum();
        let total = (0..self.scenario.tasks().len()).map(|task| per_epoch(task) * epochs as u64).sum();
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
        let learner = learner.map(|learner| (state_dict(&learner.network.valid()), learner.sgd.state()));
        Checkpoint { progress: self.progress.clone(), learner }.write(self.places.folder)
    }
}

fn metrics_path(folder: &FilePath) -> PathBuf {
    folder.join("metrics.jsonl")
}

fn append_metrics(folder: &FilePath, record: &EpochRecord) -> Result<(), TrainError> {
    use std::io::Write;
    let mut file = fs_err::OpenOptions::new().create(true).append(true).open(metrics_path(folder))?;
    let mut line = serde_json::to_vec(record).map_err(std::io::Error::from)?;
    line.push(b'\n');
    file.write_all(&line)?;
    Ok(())
}

/// Drops records of epochs that a resumed run will do again, and a torn last line.
fn truncate_metrics(folder: &FilePath, progress: &Progress) -> Result<(), TrainError> {
    let path = metrics_path(folder);
    if !path.exists() {
        return Ok(());
    }
    let text = fs_err::read_to_string(&path)?;
    let kept: String = text
        .lines()
        .filter(|line| {
            serde_json::from_str::<EpochRecord>(line)
                .is_ok_and(|record| (record.task, record.epoch) < (progress.task, progress.epoch))
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    if kept != text {
        perennial_core::write_atomically(&path, kept)?;
    }
    Ok(())
}
