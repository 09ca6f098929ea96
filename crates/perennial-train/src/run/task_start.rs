//! What a task starts from: the version to train on, the frozen reference, and the lineage of the result.

use burn::tensor::Device;
use perennial_core::ModelVersion;
use perennial_data::{Pipeline, Preprocessing};

use super::Run;
use crate::TrainError;
use crate::centring;
use crate::class_scores::TaskClasses;
use crate::config::{Entry, ReplacementConfig};
use crate::earlier::{ClassCentres, EarlierClassifier, EarlierModel};
use crate::encoder::{load_network, preprocessing_of, trained_network};
use crate::image_embeddings::unit_embeddings;
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

    /// How the images of a task are normalised: as the network that it starts from has learned, which a replacement brings along.
    pub(super) fn preprocessing(&self, task: usize) -> Result<Preprocessing, TrainError> {
        match self.progress.starts.range(..=task).next_back() {
            Some((_, name)) => preprocessing_of(&self.places.registry.get(name)?),
            None => self.config.preprocessing.build(),
        }
    }

    /// What makes the batches of a task.
    pub(super) fn pipeline(&self, task: usize) -> Result<Pipeline, TrainError> {
        Ok(Pipeline {
            preprocessing: self.preprocessing(task)?,
            augmentation: self.config.augmentation.into(),
        })
    }

    /// The frozen earlier model that the objective refers to, with what it asks about it.
    pub(super) fn earlier(
        &self,
        task: usize,
        start: Option<&ModelVersion>,
    ) -> Result<Option<EarlierModel>, TrainError> {
        let Some(refers) = self.config.method.objective().refers() else {
            return Ok(None);
        };
        let version = match refers.to {
            Reference::Deployed => self.deployed(task)?,
            Reference::Initial => start.cloned(),
        };
        let Some(version) = version else {
            return Ok(None);
        };
        let device = self.places.device;
        let input = trained_network(&version)?.architecture.input;
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
        let own = preprocessing_of(&version)?;
        let model = EarlierModel::new(frozen)
            .with_classifier(classifier)
            .with_preprocessing(&own, &self.preprocessing(task)?);
        let centres = refers
            .class_centres
            .then(|| self.class_centres(task, model.network(), &own))
            .transpose()?;
        Ok(Some(model.with_centres(centres)))
    }

    /// Where a network embeds the classes of a task's images.
    fn class_centres(
        &self,
        task: usize,
        network: &FrozenNetwork,
        preprocessing: &Preprocessing,
    ) -> Result<ClassCentres, TrainError> {
        let images = self.training_images(task);
        let set = &self.sets[0];
        let labels: Vec<u32> = images
            .iter()
            .map(|&image| self.scenario.local_label(set.label(image)))
            .collect();
        let (embeddings, dim) = self.unit_embeddings(network, &images, preprocessing)?;
        Ok(ClassCentres::new(&embeddings, dim, &labels))
    }

    /// The images that a task trains on: new ones, then remembered ones.
    pub(super) fn training_images(&self, task: usize) -> Vec<usize> {
        let new = &self.scenario.tasks()[task].images;
        new.iter().chain(&self.progress.memory).copied().collect()
    }

    fn unit_embeddings(
        &self,
        network: &FrozenNetwork,
        images: &[usize],
        preprocessing: &Preprocessing,
    ) -> Result<(Vec<f32>, usize), TrainError> {
        unit_embeddings(
            network,
            &self.sets[0],
            images,
            preprocessing,
            self.places.device,
        )
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
        let frozen = FrozenNetwork::new(network, self.sets[0].shape(), self.places.device);
        let (embeddings, dim) = self.unit_embeddings(
            &frozen,
            &self.training_images(task),
            &self.preprocessing(task)?,
        )?;
        centring::keep_mean(state, &embeddings, dim)
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
        match start {
            Some(version) => {
                let network = load_network(self.places.registry, version, device)?;
                // A replacement's classifier knows other classes than the ones trained here.
                let continues = task > 0 && self.replacement(task).is_none();
                if continues {
                    Ok(network)
                } else if self.is_bridged(task) {
                    self.bridged(task, network.without_classifier())
                } else {
                    Ok(network.without_classifier())
                }
            }
            None => {
                let seed = seed_for(config.seed, Purpose::Weights, 0, 0);
                let dim = config.method.simplex()?.map(|simplex| simplex.dim());
                let input = self.sets[0].shape();
                config.network.fits(input)?;
                Ok(Network::new(&config.network, input, dim, seed, device))
            }
        }
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
            check_fit("velocity", &restored.network, &restored.velocity)?;
            if let Some(average) = &restored.average {
                check_fit("average", &restored.network, average)?;
            }
            network = load_state_dict(network, restored.network)?;
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
            input: self.sets[0].shape(),
            task,
            classes: self.scenario.classes_after(task),
            start: start.cloned(),
            deployed: self.deployed(task)?,
            replacement: self.replacement(task).map(ReplacementConfig::entry),
        })
    }
}

/// Every velocity or average in a checkpoint must belong to a parameter, and be of its shape.
fn check_fit(what: &str, weights: &StateDict, kept: &StateDict) -> Result<(), TrainError> {
    for (name, tensor) in kept {
        let expected = weights.get(name).map(|weight| weight.shape.clone());
        if expected.as_ref() != Some(&tensor.shape) {
            return Err(TrainError::Weights(WeightsError::Shape {
                name: format!("{what} of {name}"),
                expected: expected.unwrap_or_default(),
                found: tensor.shape.clone(),
            }));
        }
    }
    Ok(())
}
