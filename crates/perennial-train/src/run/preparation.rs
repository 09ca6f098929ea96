//! Everything that is checked before a run spends its first second of training.

use std::path::PathBuf;

use perennial_core::{VertexEnd, check_disjoint};
use perennial_data::{ImageSet, Pipeline};

use super::{Run, RunPlaces};
use crate::TrainError;
use crate::checkpoint::{Checkpoint, Progress, path_in};
use crate::config::ExperimentConfig;
use crate::encoder::network_config;
use crate::metrics_log;
use crate::scenario::Scenario;

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
            (None, false) => (
                Progress {
                    config_sha256,
                    ..Default::default()
                },
                None,
            ),
        };
        let scenario = Scenario::new(&config.scenario, &set, config.seed)?;
        let pipeline = Pipeline {
            preprocessing: config.preprocessing.build()?,
            augmentation: config.augmentation.into(),
        };
        let tasks = scenario.tasks().len();
        if let Some(replacement) = config
            .replacements
            .iter()
            .find(|replacement| replacement.before_task >= tasks)
        {
            return Err(TrainError::config(
                "replacements.before_task",
                &format!(
                    "{} is beyond the last of {tasks} tasks (0-based)",
                    replacement.before_task
                ),
            ));
        }
        let run = Self {
            config,
            places,
            vertex_end,
            sets: [set].into(),
            scenario,
            pipeline,
            progress,
            restored,
        };
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

    /// Finds every version that the run will start from before hours are spent, and the vertices they need.
    pub(super) fn check_versions(&self) -> Result<(), TrainError> {
        let simplex = self.config.method.simplex()?;
        let names = self
            .config
            .initial_model
            .iter()
            .chain(self.config.replacements.iter().map(|r| &r.model));
        let mut pretrained = 0;
        for name in names {
            let version = self.places.registry.get(name)?;
            network_config(&version)?;
            let problem = |problem: String| TrainError::Version {
                version: version.name.clone(),
                problem,
            };
            if let Some(simplex) = simplex {
                if version.classifier.vertices != Some(simplex.vertices()) {
                    return Err(problem(format!(
                        "its classifier has {} vertices, method.vertices is {}",
                        version
                            .classifier
                            .vertices
                            .map_or("no".to_owned(), |count| count.to_string()),
                        simplex.vertices()
                    )));
                }
            } else if version.classifier.vertices.is_some() {
                return Err(problem(
                    "it was trained with a simplex, method.kind is er".to_owned(),
                ));
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
}
