//! What a task starts from: the version to train on, the frozen reference, and the lineage of the result.

use burn::tensor::Device;
use perennial_core::ModelVersion;
use perennial_data::Pipeline;

use super::Run;
use crate::TrainError;
use crate::centring;
use crate::class_scores::TaskClasses;
use crate::config::{Entry, ReplacementConfig};
use crate::earlier::{ClassCentres, EarlierClassifier, EarlierModel};
use crate::encoder::{input_of, load_network, preprocessing_of};
use crate::image_embeddings::known_unit_embeddings;
use crate::learner::Learner;
use crate::network::{FrozenNetwork, Network};
use crate::objective::Reference;
use crate::seeds::{Purpose, seed_for};
use crate::state_dict::{StateDict, WeightsError, load_state_dict, state_dict};
use crate::versions::{Lineage, inherited_classes};

impl<'a> Run<'a> {
    pub(super) fn replacement(&self, task: usize) -> Option<&'a ReplacementConfig> {
        let config = self.config;
        config
            .replacements
            .iter()
            .find(|replacement| replacement.before_task == task)
    }

    /// Whether a task starts from a replacement that knows nothing of the run's simplex.
    pub(super) fn is_bridged(&self, task: usize) -> bool {
        self.replacement(task)
            .is_some_and(|replacement| replacement.entry() == Entry::Bridged)
    }

    /// What a task starts from: a replacement, the version of the task before, or the initial model.
    pub(super) fn start_version(&self, task: usize) -> Result<Option<ModelVersion>, TrainError> {
        let progress = &self.progress;
        let before = (task > 0).then(|| progress.versions[task - 1].as_str());
        let name = progress.starts.get(&task).map(String::as_str).or(before);
        Ok(name
            .map(|name| self.places.registry.get(name))
            .transpose()?)
    }

    /// The version that was deployed when the task began.
    pub(super) fn deployed(&self, task: usize) -> Result<Option<ModelVersion>, TrainError> {
        let progress = &self.progress;
        let name = match task {
            0 => progress.starts.get(&0),
            _ => progress.versions.get(task - 1),
        };
        Ok(name
            .map(|name| self.places.registry.get(name))
            .transpose()?)
    }

    /// The version outside of this run that the network of a task descends from: the last replacement, or the initial model.
    fn ancestor(&self, task: usize) -> Result<Option<ModelVersion>, TrainError> {
        let last = self.progress.starts.range(..=task).next_back();
        Ok(last
            .map(|(_, name)| self.places.registry.get(name))
            .transpose()?)
    }

    /// Channels, height and width of the images that the network of a task takes; a replacement brings its own size along.
    pub(super) fn input(&self, task: usize) -> Result<[usize; 3], TrainError> {
        match self.ancestor(task)? {
            Some(version) => input_of(&version),
            None => Ok(self.sets[0].shape()),
        }
    }

    /// How the network of a task sees images, without augmentation: in the size and normalisation that it has learned.
    pub(super) fn view(&self, task: usize) -> Result<Pipeline, TrainError> {
        match self.ancestor(task)? {
            Some(version) => self.view_of(&version),
            None => Ok(Pipeline::plain(self.config.preprocessing.build()?, None)),
        }
    }

    /// How a version sees the run's images, without augmentation.
    pub(super) fn view_of(&self, version: &ModelVersion) -> Result<Pipeline, TrainError> {
        let input = input_of(version)?;
        let side = (input != self.sets[0].shape()).then_some(input[1]);
        Ok(Pipeline::plain(preprocessing_of(version)?, side))
    }

    /// The same with the run's augmentation, as training sees images.
    pub(super) fn augmented(&self, view: Pipeline) -> Pipeline {
        Pipeline {
            augmentation: self.config.augmentation.into(),
            ..view
        }
    }

    /// The version that the objective refers to in a task.
    fn referred(&self, task: usize) -> Result<Option<ModelVersion>, TrainError> {
        let refers = self.config.method.objective().refers();
        match refers.map(|refers| refers.to) {
            Some(Reference::Deployed) => self.deployed(task),
            Some(Reference::Initial) => self.start_version(task),
            None => Ok(None),
        }
    }

    /// How the version that the objective refers to sees images, where this differs from what the network of the task sees.
    pub(super) fn other_view(&self, task: usize) -> Result<Option<Pipeline>, TrainError> {
        let Some(version) = self.referred(task)? else {
            return Ok(None);
        };
        let own = self.view_of(&version)?;
        Ok((own != self.view(task)?).then_some(own))
    }

    /// The frozen earlier model that the objective refers to, with what it asks about it.
    pub(super) fn earlier(&self, task: usize) -> Result<Option<EarlierModel>, TrainError> {
        let refers = self.config.method.objective().refers();
        let (Some(refers), Some(version)) = (refers, self.referred(task)?) else {
            return Ok(None);
        };
        let device = self.places.device;
        let input = input_of(&version)?;
        let mut network = load_network(self.places.registry, &version, device)?;
        if refers.to == Reference::Initial && self.is_bridged(task) {
            network = self.bridged(task, network.without_classifier())?;
        }
        // The classes of a version from outside this run are others.
        let own = self.progress.versions.contains(&version.name);
        let classifier = (own && network.classifier().is_some())
            .then(|| EarlierClassifier::of_state(&state_dict(&network), device))
            .flatten();
        let frozen = FrozenNetwork::new(network, input, device);
        let other_view = self.other_view(task)?.map(|_| input);
        let model = EarlierModel::new(frozen)
            .with_classifier(classifier)
            .with_other_view(other_view);
        let own = self.view_of(&version)?;
        let centres = refers
            .class_centres
            .then(|| self.class_centres(task, model.network(), &own))
            .transpose()?;
        Ok(Some(model.with_centres(centres)))
    }

    /// Where a network embeds the classes of a task's images. Images of which it gives zeros alone are left out.
    fn class_centres(
        &self,
        task: usize,
        network: &FrozenNetwork,
        view: &Pipeline,
    ) -> Result<ClassCentres, TrainError> {
        let images = self.training_images(task);
        let set = &self.sets[0];
        let found = known_unit_embeddings(network, set, &images, view, self.places.device)?;
        let labels: Vec<u32> = images
            .iter()
            .zip(&found.known)
            .filter(|(_, known)| **known)
            .map(|(&image, _)| self.scenario.local_label(set.label(image)))
            .collect();
        Ok(ClassCentres::new(&found.rows, found.dim, &labels))
    }

    /// The images that a task trains on: new ones, then remembered ones.
    pub(super) fn training_images(&self, task: usize) -> Vec<usize> {
        let new = &self.scenario.tasks()[task].images;
        new.iter().chain(&self.progress.memory).copied().collect()
    }

    /// With `embedding.centre`, keeps the mean of a trained network's embeddings of the images that the task trained on.
    pub(super) fn keep_mean(
        &self,
        task: usize,
        network: Network,
        state: &mut StateDict,
    ) -> Result<(), TrainError> {
        if !self.config.embedding.centre {
            return Ok(());
        }
        let network = network.that_embeds_by(self.config.embedding.source);
        let frozen = FrozenNetwork::new(network, self.input(task)?, self.places.device);
        let found = known_unit_embeddings(
            &frozen,
            &self.sets[0],
            &self.training_images(task),
            &self.view(task)?,
            self.places.device,
        )?;
        centring::keep_mean(state, &found.rows, found.dim)
    }

    /// The classes of a task, as the classifier sees them.
    fn classes(
        &self,
        task: usize,
        start: Option<&ModelVersion>,
    ) -> Result<TaskClasses, TrainError> {
        // The classes of a bridged replacement are at no vertex.
        let start = start.filter(|_| !self.is_bridged(task));
        let pretrained = inherited_classes([start, self.deployed(task)?.as_ref()]);
        Ok(TaskClasses {
            end: self.vertex_end,
            skipped: self.skipped_vertices,
            pretrained,
            old: task
                .checked_sub(1)
                .map_or(0, |before| self.scenario.classes_after(before)),
            seen: self.scenario.classes_after(task),
        })
    }

    /// The network that a task starts from, without a new classifier.
    fn start_network(
        &self,
        task: usize,
        start: Option<&ModelVersion>,
        device: &Device,
    ) -> Result<Network, TrainError> {
        let config = self.config;
        let network = match start {
            Some(version) => {
                let network = load_network(self.places.registry, version, device)?;
                // A replacement's classifier knows other classes than the ones trained here.
                let continues = task > 0 && self.replacement(task).is_none();
                if continues {
                    network
                } else if self.is_bridged(task) {
                    self.bridged(task, network.without_classifier())?
                } else {
                    network.without_classifier()
                }
            }
            None => {
                let seed = seed_for(config.seed, Purpose::Weights, 0, 0);
                let dim = config.method.simplex()?.map(|simplex| simplex.dim());
                let input = self.sets[0].shape();
                config.network.fits(input)?;
                Network::new(&config.network, input, dim, seed, device)
            }
        };
        Ok(match config.embedding.bias {
            true => network.with_embedding_bias(),
            false => network,
        })
    }

    /// With `training.start_share`, a trained network whose weights and running statistics are drawn back to those that the task started from;
    /// tensors that the start does not have in the same shape, such as a classifier that has grown, stay as trained.
    ///
    /// **Source**: interpolation of weights before and after fine-tuning, arXiv 2109.01903.
    pub(super) fn with_start_share(
        &self,
        task: usize,
        start: Option<&ModelVersion>,
        network: Network,
    ) -> Result<Network, TrainError> {
        let share = self.config.training.start_share.unwrap_or(0.0);
        if share == 0.0 || start.is_none() {
            return Ok(network);
        }
        let device = self.places.device.clone().without_autodiff();
        let begun = state_dict(&self.start_network(task, start, &device)?);
        let mut state = state_dict(&network);
        for (name, trained) in &mut state {
            let Some(begun) = begun.get(name).filter(|begun| begun.shape == trained.shape) else {
                continue;
            };
            for (value, begun) in trained.values.iter_mut().zip(&begun.values) {
                *value = (f64::from(*value) * (1.0 - share) + f64::from(*begun) * share) as f32;
            }
        }
        Ok(load_state_dict(network, state)?)
    }

    pub(super) fn learner(
        &mut self,
        task: usize,
        start: Option<&ModelVersion>,
    ) -> Result<Learner, TrainError> {
        let config = self.config;
        let device = self.places.device.clone().autodiff();
        let simplex = config.method.simplex()?;
        let mut network = self.start_network(task, start, &device)?;
        if simplex.is_none() {
            let seed = seed_for(config.seed, Purpose::Classifier, task, 0);
            network = network.with_classifier(self.scenario.classes_after(task), seed);
        }
        let mut kept = None;
        if let Some(restored) = self.restored.take() {
            let file = crate::checkpoint::path_in(self.places.folder);
            let of_file = |problem: WeightsError| problem.of(file.display().to_string());
            check_fit("velocity", &restored.network, &restored.velocity).map_err(of_file)?;
            if let Some(average) = &restored.average {
                check_fit("average", &restored.network, average).map_err(of_file)?;
            }
            network = load_state_dict(network, restored.network).map_err(of_file)?;
            kept = Some((restored.velocity, restored.average));
        }
        let mut learner = Learner::new(
            network,
            config.method.boxed(),
            self.classes(task, start)?,
            &config.training,
            device.clone(),
        );
        if let Some((velocity, average)) = kept {
            learner.restore(velocity, average);
        }
        Ok(learner)
    }

    pub(super) fn lineage(
        &self,
        task: usize,
        start: Option<&ModelVersion>,
    ) -> Result<Lineage<'a>, TrainError> {
        Ok(Lineage {
            config: self.config,
            vertex_end: self.vertex_end,
            skipped_vertices: self.skipped_vertices,
            input: self.input(task)?,
            task,
            classes: self.scenario.classes_after(task),
            start: start.cloned(),
            deployed: self.deployed(task)?,
            replacement: self.replacement(task).map(ReplacementConfig::entry),
        })
    }
}

/// Every velocity or average in a checkpoint must belong to a parameter, and be of its shape.
fn check_fit(what: &str, weights: &StateDict, kept: &StateDict) -> Result<(), WeightsError> {
    for (name, tensor) in kept {
        let expected = weights.get(name).map(|weight| weight.shape.clone());
        if expected.as_ref() != Some(&tensor.shape) {
            return Err(WeightsError::Shape {
                name: format!("{what} of {name}"),
                expected: expected.unwrap_or_default(),
                found: tensor.shape.clone(),
            });
        }
    }
    Ok(())
}
