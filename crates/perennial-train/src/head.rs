//! Training a linear embedding layer on features that do not change: those of any encoder, or of a file.
//!
//! The layer has no bias and takes features at unit length, so it can stand behind an encoder that scales its embeddings or not, be folded
//! into the embedding layer of a network that was trained here, and be a bridge.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use perennial_bridge::{BridgeError, Whitening};
use perennial_core::{SimilarityError, Simplex, VertexEnd, VertexMap, normalize_rows};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::TrainError;
use crate::batches::epoch_plans;
use crate::class_scores::TaskClasses;
use crate::earlier::Earlier;
use crate::learner::StepSums;
use crate::network::{Start, linear, linear_bound};
use crate::objective::{Hoc, Objective, Step, progress};
use crate::seeds::{Purpose, seed_for};
use crate::sgd::{Sgd, cosine_learning_rate};
use crate::state_dict::data;

/// Momentum of the optimizer, as in the published recipe.
const MOMENTUM: f64 = 0.9;
/// The learning rate falls to this share of the first one.
const LAST_RATE: f64 = 0.01;
/// Steps of an epoch at least, as long as a step has [`LEAST_BATCH`] rows: a small set needs steps as well.
const STEPS: usize = 16;
/// Rows of a step below which its gradient is mostly noise.
const LEAST_BATCH: usize = 32;

/// How a layer is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadConfig {
    /// The loss, with the simplex: cross-entropy, and with a reference the contrastive term. Its choice of an earlier model has no meaning here:
    /// [`HeadRows::reference`] is the earlier model.
    pub loss: Hoc,
    /// The end of the simplex at which class 0 has its vertex.
    pub end: VertexEnd,
    /// Vertices at the back that belong to others; 0 at the front.
    pub skipped: usize,
    /// Passes over the rows.
    pub epochs: usize,
    /// Rows of a step; fewer where there would be less than 16 steps an epoch, down to 32.
    pub batch_size: usize,
    /// Of the first epoch; it falls to a hundredth of this along half a cosine.
    pub learning_rate: f64,
    /// Added to the gradient, times the whitened weights.
    pub weight_decay: f64,
    /// Of the whitening of features ([`Whitening`]), above 0 and at most 1.
    pub shrinkage: f64,
    /// Decides the first weights and the order of rows.
    pub seed: u64,
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self {
            loss: Hoc::default(),
            end: VertexEnd::Front,
            skipped: 0,
            epochs: 20,
            batch_size: 256,
            learning_rate: 0.05,
            weight_decay: 5e-4,
            shrinkage: 0.1,
            seed: 0,
        }
    }
}

/// What a layer is trained on.
#[derive(Clone, Debug)]
pub struct HeadRows<'a> {
    /// `[n, dim]`, of any length above 0.
    pub features: Vec<f32>,
    /// The length of a row of features.
    pub dim: usize,
    /// The class of each row.
    pub labels: &'a [u32],
    /// `[n, vertices - 1]`: what the gallery's version made of the same inputs, for the contrastive term.
    pub reference: Option<&'a [f32]>,
}

/// The progress of a training after an epoch.
#[derive(Clone, Copy, Debug)]
pub struct HeadEpoch {
    /// Epoch (0-based).
    pub epoch: usize,
    /// Mean loss.
    pub loss: f64,
    /// Fraction of the rows whose highest score was that of their class, each at the time of its step.
    pub accuracy: f64,
}

/// Watches a training.
pub trait HeadObserver {
    /// After a step, with the rows that it took.
    fn step(&mut self, _rows: usize) {}
    /// After an epoch.
    fn epoch(&mut self, _epoch: &HeadEpoch) {}
    /// Asked after every step; `true` ends the training with [`HeadError::Interrupted`].
    fn interrupted(&self) -> bool {
        false
    }
}

/// Why a layer cannot be trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Features or reference embeddings without a direction, or no whole rows.
    #[error("{what}: {source}")]
    Rows {
        /// Features or reference.
        what: &'static str,
        /// The row and its problem.
        source: SimilarityError,
    },
    /// Another number of labels or reference rows than of features.
    #[error("there are {count} {what} for {rows} rows of features; give one for each")]
    Count {
        /// Labels, or rows of the reference.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// Rows of features.
        rows: usize,
    },
    /// A label for which the simplex has no vertex.
    #[error(
        "label {label} of row {row} has no vertex: a simplex of {vertices} vertices has places for {places} classes here, 0 to {}; number the \
         classes from 0, or use a larger simplex, whose embeddings need a bridge to the present ones",
        places.saturating_sub(1)
    )]
    NoVertex {
        /// The label.
        label: u32,
        /// The row, from 0.
        row: usize,
        /// Vertices of the simplex.
        vertices: usize,
        /// Classes that have a place.
        places: usize,
    },
    /// A reference of another simplex.
    #[error(
        "the reference has {dim} dimensions, but a simplex of {vertices} vertices has {}; use {} vertices, or a bridge",
        vertices - 1,
        dim + 1
    )]
    ReferenceDim {
        /// Dimensions of the reference.
        dim: usize,
        /// Vertices of the simplex.
        vertices: usize,
    },
    /// Nothing to tell apart.
    #[error("the rows to train on have {classes} classes; at least 2 are needed")]
    TooFewClasses {
        /// Classes.
        classes: usize,
    },
    /// The loss or a weight became NaN or infinite.
    #[error("the training diverged in epoch {epoch}: use a lower learning rate")]
    Diverged {
        /// Epoch (0-based).
        epoch: usize,
    },
    /// The observer asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// An option with an invalid value, or a device that does not answer.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Features that cannot be whitened.
    #[error("features: {0}")]
    Whitening(#[from] BridgeError),
}

/// The layer in training.
#[derive(Module, Debug)]
struct Layer {
    /// `[vertices - 1, dim]`, for whitened features.
    fc1: Param<Tensor<2>>,
}

/// Rows to keep out of a training: of each class the given share, rounded down, drawn at random. Ascending.
///
/// The draw depends on the seed and on the rows of each class, so a class that is added later changes nothing for the others.
pub fn held_out_rows(labels: &[u32], share: f64, seed: u64) -> Vec<usize> {
    let mut members = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for (row, &label) in labels.iter().enumerate() {
        members.entry(label).or_default().push(row);
    }
    let mut held_out = Vec::new();
    for (label, mut rows) in members {
        let seed = seed_for(seed, Purpose::Memory, label as usize, 0);
        rows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        rows.truncate((rows.len() as f64 * share) as usize);
        held_out.extend(rows);
    }
    held_out.sort_unstable();
    held_out
}

/// Trains a linear layer from features onto a simplex: `[vertices - 1, dim]`, row-major, for features at unit length.
///
/// With a reference the loss is that of [`Hoc`], against these embeddings in the place of an earlier model's; without, it is the
/// cross-entropy alone. Features are whitened for the training, which is folded into the layer in the end, so that one learning rate suits
/// features of any encoder. The result depends on the rows, the configuration and the kind of device only.
///
/// **Source**: arXiv 2405.02581, the embedding layer and L_HOC, here on features that do not change.
///
/// # Errors
///
/// See [`HeadError`].
pub fn fit_head(
    config: &HeadConfig,
    rows: HeadRows<'_>,
    device: &Device,
    observer: &mut dyn HeadObserver,
) -> Result<Vec<f32>, HeadError> {
    let HeadRows {
        mut features,
        dim,
        labels,
        reference,
    } = rows;
    let simplex = config.check(&features, dim, labels, reference)?;
    let whitening = Whitening::fit(&features, dim, config.shrinkage)?;
    whitening.apply(&mut features)?;

    let plain = device.clone().without_autodiff();
    let device = plain.clone().autodiff();
    let mut start = Start::random(seed_for(config.seed, Purpose::Weights, 0, 0), &device);
    let mut layer = Layer {
        fc1: start.uniform([simplex.dim(), dim], linear_bound(dim)),
    };
    let mut sgd = Sgd::new(MOMENTUM, config.weight_decay);
    let spec = config.loss.classifier();
    let classes = TaskClasses {
        end: config.end,
        skipped: config.skipped,
        pretrained: 0,
        old: 0,
        seen: labels.iter().max().map_or(0, |&label| label as usize + 1),
    };
    let all: Vec<usize> = (0..labels.len()).collect();
    let matrix = |values: &[f32], width: usize, rows: &[usize]| {
        let mut chosen = vec![0.0; rows.len() * width];
        chosen
            .par_chunks_exact_mut(width)
            .zip(rows)
            .for_each(|(target, &row)| target.copy_from_slice(&values[row * width..][..width]));
        Tensor::<2>::from_data(TensorData::new(chosen, [rows.len(), width]), &plain)
    };
    let batch_size = config.batch_size.min((all.len() / STEPS).max(LEAST_BATCH));
    for epoch in 0..config.epochs {
        let rate = config.learning_rate;
        let rate = cosine_learning_rate(epoch, config.epochs, rate, rate * LAST_RATE);
        let mut sums = StepSums::default();
        let seed = seed_for(config.seed, Purpose::Batches, 0, epoch);
        for plan in epoch_plans(&all, &[], batch_size, seed, |row| labels[row]) {
            let rows: Vec<usize> = plan.sources.iter().map(|&(_, row)| row).collect();
            let batch = Tensor::from_inner(matrix(&features, dim, &rows));
            let embeddings = linear(batch, layer.fc1.val(), None);
            let earlier = reference
                .map(|values| Earlier::from_embeddings(matrix(values, simplex.dim(), &rows)));
            let (step, correct) =
                Step::of_batch(&spec, classes, None, embeddings, &plan.labels, earlier);
            let step = Step {
                progress: progress(epoch, config.epochs),
                ..step
            };
            let loss = config.loss.loss(&step);
            let mut gradients = loss.backward();
            sums.add(loss.inner(), correct, rows.len());
            layer = sgd.step(layer, &mut gradients, rate);
            observer.step(rows.len());
            if observer.interrupted() {
                return Err(HeadError::Interrupted);
            }
        }
        let totals = sums.take()?;
        let count = totals.images.max(1) as f64;
        if !totals.loss.is_finite() {
            return Err(HeadError::Diverged { epoch });
        }
        observer.epoch(&HeadEpoch {
            epoch,
            loss: totals.loss / count,
            accuracy: totals.correct / count,
        });
    }
    let weight = data(layer.fc1.val().without_autodiff());
    let weight = weight.convert::<f32>().try_into_vec::<f32>();
    let weight = weight.map_err(|error| TrainError::Device {
        name: format!("{plain:?}"),
        problem: format!("the layer could not be read ({error:?})"),
    })?;
    let last = config.epochs.saturating_sub(1);
    if weight.iter().any(|value| !value.is_finite()) {
        return Err(HeadError::Diverged { epoch: last });
    }
    Ok(whitening.fold(&weight)?)
}

impl HeadConfig {
    /// Where classes have their vertices.
    pub fn vertex_map(&self) -> VertexMap {
        VertexMap {
            vertices: self.loss.vertices,
            end: self.end,
            skipped: self.skipped,
        }
    }

    /// Checks options and rows against one another, before the work.
    fn check(
        &self,
        features: &[f32],
        dim: usize,
        labels: &[u32],
        reference: Option<&[f32]>,
    ) -> Result<Simplex, HeadError> {
        self.loss.check()?;
        self.loss.classifier().check()?;
        let simplex = Simplex::new(self.loss.vertices).map_err(TrainError::from)?;
        let positive = |key: &str, value: f64, highest: f64| {
            if value > 0.0 && value <= highest {
                return Ok(());
            }
            let problem = format!("must be above 0 and at most {highest}, got {value}");
            Err(HeadError::Train(TrainError::config(key, &problem)))
        };
        positive("epochs", self.epochs as f64, 1e6)?;
        positive("batch_size", self.batch_size as f64, 65_536.0)?;
        positive("learning_rate", self.learning_rate, 1e3)?;
        positive("shrinkage", self.shrinkage, 1.0)?;
        if !(0.0..=1.0).contains(&self.weight_decay) {
            let problem = format!("must be within [0, 1], got {}", self.weight_decay);
            return Err(TrainError::config("weight_decay", &problem).into());
        }
        check_rows("features", features, dim)?;
        let count = features.len() / dim;
        let same = |what, found: usize| match found == count {
            true => Ok(()),
            false => Err(HeadError::Count {
                what,
                count: found,
                rows: count,
            }),
        };
        same("labels", labels.len())?;
        if let Some(reference) = reference {
            if reference.len() != count * simplex.dim() {
                if count > 0 && reference.len().is_multiple_of(count) {
                    return Err(HeadError::ReferenceDim {
                        dim: reference.len() / count,
                        vertices: simplex.vertices(),
                    });
                }
                same("rows of the reference", reference.len() / simplex.dim())?;
            }
            check_rows("reference embeddings", reference, simplex.dim())?;
        }
        let map = self.vertex_map();
        let without = |&(_, &label): &(usize, &u32)| {
            map.vertex(label as usize)
                .is_none_or(|vertex| vertex >= simplex.vertices())
        };
        if let Some((row, &label)) = labels.iter().enumerate().find(without) {
            return Err(HeadError::NoVertex {
                label,
                row,
                vertices: simplex.vertices(),
                places: simplex.vertices().saturating_sub(self.skipped),
            });
        }
        let mut distinct = labels.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < 2 {
            return Err(HeadError::TooFewClasses {
                classes: distinct.len(),
            });
        }
        Ok(simplex)
    }
}

/// Whether all rows have a direction.
fn check_rows(what: &'static str, rows: &[f32], dim: usize) -> Result<(), HeadError> {
    if dim == 0 || !rows.len().is_multiple_of(dim) {
        let length = rows.len();
        let source = SimilarityError::PartialRow { length, dim };
        return Err(HeadError::Rows { what, source });
    }
    let bad = |(row, values): (usize, &[f32])| {
        let source = match normalize_rows(&mut values.to_vec(), dim) {
            Ok(()) => return None,
            Err(SimilarityError::Zero { .. }) => SimilarityError::Zero { row },
            Err(_) => SimilarityError::NonFinite { row },
        };
        Some((row, source))
    };
    let lowest = rows
        .par_chunks_exact(dim)
        .enumerate()
        .filter_map(bad)
        .min_by_key(|(row, _)| *row);
    match lowest {
        None => Ok(()),
        Some((_, source)) => Err(HeadError::Rows { what, source }),
    }
}

#[cfg(test)]
mod tests;
