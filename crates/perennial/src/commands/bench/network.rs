//! The network: training step, forward pass, and image files to embeddings.

use perennial_core::{
    Classifier, ClassifierKind, ModelVersion, Registry, Role, Simplex, TrainedNetwork,
    VersionDraft, VersionEncoder, VertexEnd,
};
use perennial_data::{Batch, GeneratedConfig, ImageSet, Preprocessing};
use perennial_encode::{DecodeLimits, Encoder, Input, Prepared};
use perennial_train::class_scores::TaskClasses;
use perennial_train::config::TrainingConfig;
use perennial_train::network::{Network, NetworkConfig};
use perennial_train::objective::SimplexOnly;
use perennial_train::state_dict::{state_dict, to_safetensors};
use perennial_train::{Device, Learner, StepSums, TrainedEncoder};
use rayon::prelude::*;

use super::peaks::Peaks;
use super::timing::{Measurement, measure};

/// Images as the networks of the recipe take them.
pub const INPUT: [usize; 3] = [3, 32, 32];

/// A network to measure, and how.
pub struct Subject {
    pub config: NetworkConfig,
    pub vertices: usize,
    pub batch: usize,
    pub samples: usize,
    pub device: Device,
    pub peaks: Peaks,
}

impl Subject {
    pub fn title(&self, what: &str, batch: usize) -> String {
        let NetworkConfig {
            backbone,
            stem,
            width,
        } = self.config;
        let entry = backbone.entry();
        let stem = if entry.has_stems() {
            format!(" {} stem,", stem.name())
        } else {
            String::new()
        };
        let title = entry.title;
        format!("{what}, {title},{stem} width {width}, batch {batch}")
    }

    fn simplex(&self) -> anyhow::Result<Simplex> {
        Ok(Simplex::new(self.vertices)?)
    }

    /// One step of SGD with the simplex method: forward, loss, backward, update.
    pub fn step(&self) -> anyhow::Result<Measurement> {
        let simplex = self.simplex()?;
        let network = Network::new(
            &self.config,
            INPUT,
            Some(simplex.dim()),
            0,
            &self.device.clone().autodiff(),
        );
        let objective = SimplexOnly {
            vertices: self.vertices,
            ..SimplexOnly::default()
        };
        let mut learner = Learner::new(
            network,
            Box::new(objective),
            TaskClasses::first_task(VertexEnd::Front, self.vertices),
            &TrainingConfig::default(),
            self.device.clone().autodiff(),
        );
        let set = images(self.batch)?;
        let batch = Batch {
            pixels: pixels(&set)?,
            other_view: None,
            labels: (0..self.batch as u32)
                .map(|at| at % self.vertices as u32)
                .collect(),
            images: self.batch,
        };
        let mut sums = StepSums::default();
        let mut failed = None;
        let measured = measure(
            self.title("training step", self.batch),
            self.samples,
            || {
                learner.step(&batch, INPUT, None, 1e-3, &mut sums);
                // Reading the loss waits for a device that works on its own.
                failed = sums.take().err().or(failed.take());
            },
        );
        if let Some(error) = failed {
            return Err(error.into());
        }
        let operations = 3.0 * self.operations()? * self.batch as f64;
        Ok(measured
            .per_call(self.batch, "images")
            .operations(operations, self.peaks.gemm_per_second))
    }

    /// Pixels to unit embeddings, for the whole batch and for one image.
    pub fn forward(&self, encoder: &TrainedEncoder) -> anyhow::Result<Vec<Measurement>> {
        let set = images(self.batch)?;
        let prepared = (0..set.len()).map(|at| {
            let (pixels, shape) = (set.image(at), set.shape());
            encoder.prepare(Input::Pixels { pixels, shape })
        });
        let prepared: Vec<Prepared> = prepared.collect::<Result<_, _>>()?;
        let operations = self.operations()?;
        let mut found = Vec::new();
        for batch in [self.batch, 1] {
            let input = &prepared[..batch];
            encoder.encode(input)?;
            let measured = measure(self.title("forward", batch), self.samples, || {
                encoder.encode(input)
            });
            found.push(
                measured
                    .per_call(batch, "images")
                    .operations(operations * batch as f64, self.peaks.gemm_per_second),
            );
        }
        Ok(found)
    }

    /// PNG files in memory to unit embeddings.
    pub fn embed(&self, encoder: &TrainedEncoder) -> anyhow::Result<Measurement> {
        let set = images(self.batch)?;
        let files = (0..set.len())
            .map(|at| {
                let image = set.image(at);
                Ok(perennial_encode::encode_png(image, INPUT)?)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let work = || -> anyhow::Result<Vec<f32>> {
            let prepared = files.par_iter().map(|file| {
                encoder.prepare(Input::Picture {
                    file,
                    limits: DecodeLimits::UNTRUSTED,
                })
            });
            let prepared = prepared.collect::<Result<Vec<Prepared>, _>>()?;
            Ok(encoder.encode(&prepared)?)
        };
        work()?;
        let measured = measure(
            self.title("embed PNG files", self.batch),
            self.samples,
            work,
        );
        Ok(measured.per_call(self.batch, "images"))
    }

    /// The network with random weights as a version of a registry.
    pub fn publish(&self, registry: &Registry, seed: u64) -> anyhow::Result<ModelVersion> {
        let simplex = self.simplex()?;
        let network = Network::new(&self.config, INPUT, Some(simplex.dim()), seed, &self.device);
        let weights = to_safetensors(&state_dict(&network), None)?;
        let draft = VersionDraft {
            dim: simplex.dim(),
            encoder: VersionEncoder::Network(TrainedNetwork {
                architecture: perennial_train::architecture(&self.config, INPUT),
                preprocessing: perennial_core::Preprocessing {
                    mean: Preprocessing::CIFAR100.mean.to_vec(),
                    std: Preprocessing::CIFAR100.std.to_vec(),
                },
                classifier: Classifier {
                    kind: ClassifierKind::Simplex,
                    vertices: Some(self.vertices),
                    vertex_end: Some(VertexEnd::Front),
                    skipped_vertices: 0,
                    classes: 0,
                    pretrained_classes: 0,
                },
            }),
            centred: false,
            parent: None,
            role: Role::Imported,
            method: "simplex".to_owned(),
            data: "nothing: random weights".to_owned(),
            seed,
            created: perennial_train::now(),
        };
        Ok(registry.publish(draft, &weights)?)
    }

    pub fn encoder(&self, registry: &Registry) -> anyhow::Result<TrainedEncoder> {
        let version = self.publish(registry, 0)?;
        Ok(TrainedEncoder::load(registry, version, &self.device)?)
    }

    /// Multiplications and additions of one forward pass of one image.
    fn operations(&self) -> anyhow::Result<f64> {
        let dim = self.simplex()?.dim();
        let network = Network::new(&self.config, INPUT, Some(dim), 0, &self.device);
        Ok(network.operations(INPUT))
    }
}

fn images(count: usize) -> anyhow::Result<ImageSet> {
    Ok(perennial_data::generate(&GeneratedConfig {
        classes: 1,
        images_per_class: count,
        ..GeneratedConfig::default()
    })?)
}

fn pixels(set: &ImageSet) -> anyhow::Result<Vec<f32>> {
    let mut pixels = Vec::new();
    let all: Vec<usize> = (0..set.len()).collect();
    Preprocessing::CIFAR100.normalize(set, &all, &mut pixels)?;
    Ok(pixels)
}
