//! Replacement by any network: a map onto the run's simplex, as its embedding layer.

use burn::module::Module;
use burn::tensor::Device;
use perennial_bridge::{Pairs, Recipe, fit_uncentred};
use perennial_core::SpaceRef;
use perennial_data::Pipeline;

use super::Run;
use crate::TrainError;
use crate::encoder::{input_of, load_network};
use crate::folding::identity;
use crate::image_embeddings::{chosen_rows, embeddings, have_direction};
use crate::network::{FrozenNetwork, LayerWeights, Network};

impl Run<'_> {
    /// A network whose embedding layer leads to the space of the deployed version: the orthogonal map between the embeddings that both give
    /// to the images of the task that begins, folded into the network's embedding layer, or as its embedding layer where the features are the
    /// embedding. No label is used.
    ///
    /// Images of which either gives zeros alone are left out.
    ///
    /// The layer is scaled so that embeddings are as long as the deployed version's on average: the logits of a simplex classifier grow
    /// with that length, and training would otherwise begin with another temperature.
    ///
    /// **Source**: the orthogonal Procrustes problem; that a replacement may be any model is claimed by arXiv 2405.02581, section 3, whose
    /// released code needs one that was pre-trained on the simplex.
    ///
    /// # Errors
    /// Embeddings without direction.
    pub(super) fn bridged(&self, task: usize, network: Network) -> Result<Network, TrainError> {
        let Some(deployed) = self.deployed(task)? else {
            return Ok(network);
        };
        let images = self.training_images(task);
        let plain = self.places.device.clone().without_autodiff();
        let embed = |network: Network, input: [usize; 3], pipeline: &Pipeline| {
            // A network without gradients stays as it is.
            let autodiff = network.devices().iter().any(Device::is_autodiff);
            let network = if autodiff { network.valid() } else { network };
            let frozen = FrozenNetwork::new(network, input, &plain);
            embeddings(&frozen, &self.sets[0], &images, pipeline, &plain)
        };
        let target = load_network(self.places.registry, &deployed, &plain)?;
        let (to, to_dim) = embed(target, input_of(&deployed)?, &self.view_of(&deployed)?)?;
        let own = self.view(task)?;
        let input = self.input(task)?;
        let (from, from_dim) = embed(network.clone(), input, &own)?;
        let refused = |problem: String| TrainError::Version {
            version: deployed.name.clone(),
            problem: format!("a replacement cannot be bridged to it: {problem}"),
        };
        let known: Vec<bool> = have_direction(&from, from_dim)
            .into_iter()
            .zip(have_direction(&to, to_dim))
            .map(|(from, to)| from && to)
            .collect();
        let left_out = known.iter().filter(|known| !**known).count();
        if left_out > 0 {
            tracing::warn!(
                "{left_out} of {} images have an embedding of zeros alone and are left out of the map from the replacement to {}",
                known.len(),
                deployed.name
            );
        }
        let fit_from = chosen_rows(&from, from_dim, &known);
        let fit_to = chosen_rows(&to, to_dim, &known);
        let pairs = Pairs::new(&fit_from, from_dim, &fit_to, to_dim)
            .map_err(|error| refused(error.to_string()))?;
        let bridge = fit_uncentred(
            &pairs,
            &Recipe::Orthogonal,
            SpaceRef::unnamed(from_dim),
            SpaceRef::unnamed(to_dim),
        )
        .map_err(|error| refused(error.to_string()))?;
        let layer = network.embedding_layer().unwrap_or_else(|| LayerWeights {
            weight: identity(from_dim),
            bias: None,
        });
        let (weight, bias) = bridge
            .fold(&layer.weight, layer.bias.as_deref())
            .map_err(|error| refused(error.to_string()))?;
        let mut layer = LayerWeights { weight, bias };
        let mapped = embed(
            network.clone().with_embedding_layer(layer.clone()),
            input,
            &own,
        )?
        .0;
        let scale = mean_length(&to, to_dim) / mean_length(&mapped, to_dim);
        if !scale.is_normal() {
            return Err(refused("an embedding has no direction".to_owned()));
        }
        for value in layer
            .weight
            .iter_mut()
            .chain(layer.bias.iter_mut().flatten())
        {
            *value *= scale as f32;
        }
        Ok(network.with_embedding_layer(layer))
    }
}

/// The mean length of rows.
fn mean_length(rows: &[f32], dim: usize) -> f64 {
    let lengths = rows.chunks_exact(dim).map(|row| {
        let squares = row.iter().map(|&value| f64::from(value).powi(2));
        squares.sum::<f64>().sqrt()
    });
    lengths.sum::<f64>() / (rows.len() / dim).max(1) as f64
}
