//! What a task starts from: the version to train on, the frozen reference, and the lineage of the result.

use perennial_core::{ModelVersion, VertexMap};

use super::Run;
use crate::TrainError;
use crate::config::{MethodConfig, Reference};
use crate::encoder::load_network;
use crate::learner::Learner;
use crate::network::{FrozenNetwork, Network};
use crate::seeds::{Purpose, seed_for};
use crate::state_dict::{StateDict, WeightsError, load_state_dict};
use crate::versions::Lineage;

impl<'a> Run<'a> {
    pub(super) fn replacement(&self, task: usize) -> Option<&'a str> {
        let config = self.config;
        config
            .replacements
            .iter()
            .find(|replacement| replacement.before_task == task)
            .map(|r| r.model.as_str())
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
    fn deployed(&self, task: usize) -> Result<Option<ModelVersion>, TrainError> {
        let progress = &self.progress;
        let name = match task {
            0 => progress.starts.get(&0),
            _ => progress.versions.get(task - 1),
        };
        Ok(name
            .map(|name| self.places.registry.get(name))
            .transpose()?)
    }

    /// The frozen earlier model of the contrastive term.
    pub(super) fn reference(
        &self,
        task: usize,
        start: Option<&ModelVersion>,
    ) -> Result<Option<FrozenNetwork>, TrainError> {
        let MethodConfig::Hoc { reference, .. } = self.config.method else {
            return Ok(None);
        };
        let deployed = match reference {
            Reference::Deployed => self.deployed(task)?,
            Reference::Initial => start.cloned(),
        };
        let Some(version) = deployed else {
            return Ok(None);
        };
        let network = load_network(self.places.registry, &version, self.places.device)?;
        let input = version.architecture.input;
        Ok(Some(FrozenNetwork::new(network, input, self.places.device)))
    }

    pub(super) fn learner(
        &mut self,
        task: usize,
        start: Option<&ModelVersion>,
    ) -> Result<Learner, TrainError> {
        let config = self.config;
        let device = self.places.device.clone().autodiff();
        let simplex = config.method.simplex()?;
        let mut network = match start {
            Some(version) => {
                let network = load_network(self.places.registry, version, &device)?;
                // A replacement's classifier knows other classes than the ones trained here.
                let continues = task > 0 && self.replacement(task).is_none();
                if continues {
                    network
                } else {
                    network.without_classifier()
                }
            }
            None => {
                let seed = seed_for(config.seed, Purpose::Weights, 0, 0);
                let dim = simplex.map(|simplex| simplex.dim());
                let input = self.sets[0].shape();
                config.network.fits(input)?;
                Network::new(&config.network, input, dim, seed, &device)
            }
        };
        if simplex.is_none() {
            let seed = seed_for(config.seed, Purpose::Classifier, task, 0);
            network = network.with_classifier(self.scenario.classes_after(task), seed);
        }
        let map = simplex.map(|simplex| {
            (
                simplex,
                VertexMap {
                    vertices: simplex.vertices(),
                    end: self.vertex_end,
                },
            )
        });
        let (weights, velocity) = self.restored.take().unzip();
        if let Some(weights) = weights {
            if let Some(velocity) = &velocity {
                check_velocity(&weights, velocity)?;
            }
            network = load_state_dict(network, weights)?;
        }
        let mut learner = Learner::new(
            network,
            config.method,
            map,
            &config.training,
            device.clone(),
        );
        if let Some(velocity) = velocity {
            learner.sgd.restore(velocity, &device);
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
            input: self.sets[0].shape(),
            task,
            classes: self.scenario.classes_after(task),
            start: start.cloned(),
            deployed: self.deployed(task)?,
            replacement: self.replacement(task).is_some(),
        })
    }
}

/// Every velocity in a checkpoint must belong to a parameter, and be of its shape.
fn check_velocity(weights: &StateDict, velocity: &StateDict) -> Result<(), TrainError> {
    for (name, tensor) in velocity {
        let expected = weights.get(name).map(|weight| weight.shape.clone());
        if expected.as_ref() != Some(&tensor.shape) {
            return Err(TrainError::Weights(WeightsError::Shape {
                name: format!("velocity of {name}"),
                expected: expected.unwrap_or_default(),
                found: tensor.shape.clone(),
            }));
        }
    }
    Ok(())
}
