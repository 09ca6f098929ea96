//! The checks of a run before training starts.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use perennial_core::{EmbeddingSource, RegistryError, VertexEnd, check_disjoint, sha256_hex};
use perennial_data::ImageSet;

use super::{Run, RunPlaces};
use crate::TrainError;
use crate::checkpoint::{Checkpoint, Progress, path_in};
use crate::config::ExperimentConfig;
use crate::encoder::{load_network, network_config, preprocessing_of, trained_network};
use crate::metrics_log;
use crate::objective::Reference;
use crate::scenario::Scenario;
use crate::versions::architecture;

/// Pixels on a side of the images that a replacement may take: each batch is scaled to it in memory.
const MAX_SIDE: usize = 512;

impl<'a> Run<'a> {
    pub(super) fn prepare(
        config: &'a ExperimentConfig,
        vertex_end: VertexEnd,
        set: ImageSet,
        places: &'a RunPlaces<'a>,
        resume: bool,
        config_sha256: String,
    ) -> Result<Self, TrainError> {
        let folder = |path: PathBuf, problem: &str| TrainError::RunFolder {
            path,
            problem: problem.to_owned(),
        };
        let lock = lock(places.folder)?;
        // Checkpoints that a killed training was writing; a large network's take hundreds of megabytes.
        if let Some(checkpoints) = path_in(places.folder).parent() {
            perennial_core::remove_partial_files(checkpoints);
        }
        let checkpoint = Checkpoint::read(places.folder)?;
        let (progress, restored) = match (checkpoint, resume) {
            (None, true) => {
                return Err(folder(
                    path_in(places.folder),
                    "there is no checkpoint to resume from; start the run first",
                ));
            }
            (Some(_), false) => {
                return Err(folder(
                    places.folder.to_owned(),
                    "a run of this name already exists; continue it with --resume, or use another name",
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
            (None, false) => (
                Progress {
                    config_sha256,
                    ..Default::default()
                },
                None,
            ),
        };
        let scenario = Scenario::new(&config.scenario, &set, config.seed)?;
        check_tasks(config, &scenario)?;
        let mut run = Self {
            config,
            places,
            vertex_end,
            skipped_vertices: 0,
            sets: [set].into(),
            scenario,
            progress,
            restored,
            _lock: lock,
        };
        let inputs_sha256 = run.inputs_sha256()?;
        if resume {
            run.check_progress(&inputs_sha256)?;
        } else {
            run.progress.starts = run.resolve_starts()?;
            run.progress.inputs_sha256 = inputs_sha256;
        }
        run.skipped_vertices = run.place_classes()?;
        run.check_versions()?;
        metrics_log::truncate(places.folder, &run.progress)?;
        // From here on the folder belongs to this configuration.
        if !resume {
            Checkpoint {
                progress: run.progress.clone(),
                learner: None,
            }
            .write(places.folder)?;
        }
        Ok(run)
    }

    /// The versions that aliases point to now: an alias that moves during the run must not change what it trains.
    fn resolve_starts(&self) -> Result<BTreeMap<usize, String>, TrainError> {
        let initial = self.config.initial_model.iter().map(|name| (0, name));
        let replacements = &self.config.replacements;
        let replacements = replacements.iter().map(|r| (r.before_task, &r.model));
        let resolved = initial.chain(replacements).map(|(task, name)| {
            let version = self.places.registry.resolve(name);
            let version = version.map_err(|error| match error {
                RegistryError::Unknown { .. } | RegistryError::DanglingAlias { .. } => {
                    TrainError::config(&self.start_key(task), &error.to_string())
                }
                other => other.into(),
            });
            Ok((task, version?))
        });
        resolved.collect()
    }

    /// Hash of the images and their local labels.
    fn inputs_sha256(&self) -> Result<String, TrainError> {
        let set = &self.sets[0];
        let labels: Vec<u32> = set
            .labels()
            .iter()
            .map(|&class| self.scenario.local_label(class))
            .collect();
        let inputs = (set.content_sha256(), labels);
        Ok(sha256_hex(
            &serde_json::to_vec(&inputs).map_err(std::io::Error::from)?,
        ))
    }

    /// Whether a checkpoint fits the scenario and the images that it is to go on with.
    fn check_progress(&self, inputs_sha256: &str) -> Result<(), TrainError> {
        let progress = &self.progress;
        let refuse = |problem: &str| TrainError::RunFolder {
            path: path_in(self.places.folder),
            problem: problem.to_owned(),
        };
        if progress.inputs_sha256 != inputs_sha256 {
            return Err(refuse(
                "the training images or the class order differ from those that this run began with; restore them, or start a run under another name",
            ));
        }
        let within = progress.task <= self.scenario.tasks().len()
            && progress.epoch <= self.config.training.epochs
            && progress.versions.len() == progress.task
            && progress
                .memory
                .iter()
                .all(|&image| image < self.sets[0].len());
        if !within {
            return Err(refuse(
                "the checkpoint contradicts the configuration; remove the run's folder to start it anew",
            ));
        }
        Ok(())
    }

    /// Finds every version that the run will start from, before training begins, and the vertices they need.
    pub(super) fn check_versions(&self) -> Result<(), TrainError> {
        let simplex = self.config.method.simplex()?;
        let preprocessing = self.config.preprocessing.record();
        if !self.progress.starts.contains_key(&0) {
            self.config.network.fits(self.sets[0].shape())?;
        }
        let mut pretrained = 0;
        for (task, name) in &self.progress.starts {
            let version = self.places.registry.get(name)?;
            let network = network_config(&version)?;
            let described = trained_network(&version)?;
            let key = self.start_key(*task);
            let problem = |problem: String| TrainError::Version {
                version: version.name.clone(),
                problem: format!("{problem} (configuration key `{key}`)"),
            };
            let bridge = if *task == 0 {
                ""
            } else {
                "; with entry = \"bridged\" in its table any model can replace another"
            };
            let bridged = self.is_bridged(*task);
            if bridged {
                // Whatever its classifier is, it is left behind.
            } else if let Some(simplex) = simplex {
                if described.classifier.vertices != Some(simplex.vertices()) {
                    let (found, remedy) = match described.classifier.vertices {
                        Some(count) => {
                            (count.to_string(), format!("set method.vertices = {count}"))
                        }
                        None => (
                            "no".to_owned(),
                            "use a version that was pre-trained with a method on the simplex"
                                .to_owned(),
                        ),
                    };
                    return Err(problem(format!(
                        "its classifier has {found} vertices, method.vertices is {}: {remedy}{bridge}",
                        simplex.vertices()
                    )));
                }
            } else if described.classifier.vertices.is_some() {
                return Err(problem(format!(
                    "it was trained with a simplex, method.kind is {}, which has none: use a method on the simplex, or a version that was pre-trained without one",
                    self.config.method.name()
                )));
            }
            if let Some(old) = self.deployed_dim(*task)?
                && simplex.is_none()
                && old != version.dim
            {
                return Err(problem(format!(
                    "its embeddings have {} dimensions, those of the version that it replaces have {old}, and method.kind {} compares the two: use a replacement of the same width",
                    version.dim,
                    self.config.method.name()
                )));
            }
            let (own, given) = (described.architecture.input, self.sets[0].shape());
            if own != given && (own[0] != given[0] || own[1] != own[2] || own[1] > MAX_SIDE) {
                return Err(problem(format!(
                    "its images are {own:?} (channels, height, width), the training set's are {given:?}: images are scaled to squares of up to {MAX_SIDE} pixels a side, of as many channels"
                )));
            }
            if *task == 0 && described.preprocessing != preprocessing {
                return Err(problem(format!(
                    "its images are normalised with mean {:?} and std {:?}: set preprocessing.mean and preprocessing.std to these",
                    described.preprocessing.mean, described.preprocessing.std
                )));
            }
            preprocessing_of(&version)?;
            if *task == 0
                && architecture(&network, [0; 3]) != architecture(&self.config.network, [0; 3])
            {
                let own = &described.architecture;
                let stem = match own.stem.as_str() {
                    "" => String::new(),
                    stem => format!(", stem = {stem:?}"),
                };
                return Err(problem(format!(
                    "its network is another one: write backbone = {:?}, width = {}{stem} below [network]",
                    own.backbone, own.width
                )));
            }
            if self.config.embedding.source == EmbeddingSource::Features && *task > 0 {
                let (own, old) = (network.features(), self.features_before(*task)?);
                if own != old {
                    return Err(problem(format!(
                        "it has {own} features, the network that it replaces has {old}, and by embedding.source = \"features\" they are what is compared: use a replacement of the same width, or remove embedding.source"
                    )));
                }
            }
            // Damaged weights of a replacement would be found hours later.
            if *task >= self.progress.task {
                let network = load_network(self.places.registry, &version, self.places.device)?;
                // Methods without a simplex have no such key, and a layer at all only where a bridge was folded into the start.
                if simplex.is_some() && network.has_embedding_bias() && !self.config.embedding.bias
                {
                    return Err(problem(
                        "its embedding layer has a bias, and embedding.bias is false: set embedding.bias = true".to_owned(),
                    ));
                }
            }
            if bridged {
                // Its classes are at no vertex of this simplex.
                continue;
            }
            if described.classifier.vertex_end == Some(VertexEnd::Back) {
                return Err(problem(
                    "its own classes already take the vertices at the back that this run's classes need: start from a pre-trained version".to_owned(),
                ));
            }
            let classifier = &described.classifier;
            pretrained = pretrained
                .max(classifier.pretrained_classes)
                .max(classifier.classes);
        }
        let local = self.scenario.classes_after(self.scenario.tasks().len() - 1);
        if let Some(simplex) = simplex {
            check_disjoint(
                simplex.vertices(),
                pretrained,
                local + self.skipped_vertices,
            )?;
        }
        Ok(())
    }
}

impl Run<'_> {
    /// The configuration's key that names what a task starts from.
    fn start_key(&self, task: usize) -> String {
        let replacements = &self.config.replacements;
        let place = replacements
            .iter()
            .position(|replacement| replacement.before_task == task);
        place.map_or("initial_model".to_owned(), |place| {
            format!("replacements.{place}.model")
        })
    }

    /// Dimensions of the version that is deployed before a task, for an objective that compares embeddings with it.
    fn deployed_dim(&self, task: usize) -> Result<Option<usize>, TrainError> {
        let refers = self.config.method.objective().refers();
        let compares =
            refers.is_some_and(|refers| refers.same_dim && refers.to == Reference::Deployed);
        if task == 0 || !compares {
            return Ok(None);
        }
        // An update keeps the dimensions of what it starts from.
        let before = self.progress.starts.range(..task).next_back();
        let dim = match before {
            Some((_, name)) => self.places.registry.get(name)?.dim,
            None => self.config.network.features(),
        };
        Ok(Some(dim))
    }

    /// Length of the features of the network that was deployed before a task.
    fn features_before(&self, task: usize) -> Result<usize, TrainError> {
        match self.progress.starts.range(..task).next_back() {
            Some((_, name)) => Ok(network_config(&self.places.registry.get(name)?)?.features()),
            None => Ok(self.config.network.features()),
        }
    }
}

/// Checks the configured tasks against the scenario's tasks.
fn check_tasks(config: &ExperimentConfig, scenario: &Scenario) -> Result<(), TrainError> {
    let tasks = scenario.tasks();
    let mut replacements = config.replacements.iter().enumerate();
    let beyond = replacements.find(|(_, replacement)| replacement.before_task >= tasks.len());
    if let Some((at, replacement)) = beyond {
        return Err(TrainError::config(
            &format!("replacements.{at}.before_task"),
            &format!(
                "{} is beyond the last of {} tasks (0-based)",
                replacement.before_task,
                tasks.len()
            ),
        ));
    }
    if let Some(task) = tasks.iter().position(|task| task.images.len() < 2) {
        return Err(TrainError::config(
            "data",
            &format!(
                "task {task} has fewer than the 2 images that batch norm needs: select more images per class"
            ),
        ));
    }
    Ok(())
}

/// Takes the run's folder for this process, until the file is closed.
fn lock(folder: &Path) -> Result<File, TrainError> {
    fs_err::create_dir_all(folder)?;
    let path = folder.join(".lock");
    let mut options = fs_err::OpenOptions::new();
    // The content of the file is kept.
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)?;
    let file = file.into_file();
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrainError::RunFolder {
            path: folder.to_owned(),
            problem: "another process is using this run; wait for it or stop it".to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}
