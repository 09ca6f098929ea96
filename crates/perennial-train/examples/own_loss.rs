//! A loss of one's own: a network is trained, frozen, and a second one is trained against it.
//!
//! `docs/tasks/add-a-loss.md` explains the objective; a test runs this example.

use burn::module::Module;
use burn::tensor::Tensor;
use perennial_core::VertexEnd;
use perennial_data::{Batch, GeneratedConfig, Preprocessing};
use perennial_train::class_scores::{ClassifierSpec, SimplexClassifier, TaskClasses};
use perennial_train::config::TrainingConfig;
use perennial_train::earlier::EarlierModel;
use perennial_train::losses::unit_rows;
use perennial_train::network::{BackboneKind, FrozenNetwork, Network, NetworkConfig, Stem};
use perennial_train::objective::{Objective, Reference, Refers, Step};
use perennial_train::{DeviceChoice, Learner, StepSums};

/// Cross-entropy on a simplex of 16 vertices, and the mean of 1 minus the cosine to the earlier model's embedding.
#[derive(Debug)]
struct Cosine {
    weight: f64,
}

impl Objective for Cosine {
    fn classifier(&self) -> ClassifierSpec {
        ClassifierSpec::Simplex(SimplexClassifier::published(16))
    }

    fn refers(&self) -> Option<Refers> {
        Some(Refers {
            to: Reference::Deployed,
            same_dim: true,
            class_centres: false,
        })
    }

    fn loss(&self, step: &Step<'_>) -> Tensor<1> {
        let classification = step.classification.clone();
        let Some(earlier) = &step.earlier else {
            return classification;
        };
        let new = unit_rows(step.embeddings.clone());
        let cosine = (new * unit_rows(earlier.embeddings())).sum_dim(1).mean();
        classification + (cosine.neg() + 1.0).mul_scalar(self.weight)
    }
}

/// Mean loss per image of the first and of the last step.
fn train(
    seed: u64,
    weight: f64,
    earlier: Option<&EarlierModel>,
) -> Result<(Learner, [f64; 2]), Box<dyn std::error::Error>> {
    let device = DeviceChoice::Cpu.open()?.autodiff();
    let config = NetworkConfig {
        backbone: BackboneKind::Small,
        stem: Stem::Imagenet,
        width: 4,
    };
    let network = Network::new(&config, [3, 32, 32], Some(15), seed, &device);
    let mut learner = Learner::new(
        network,
        Box::new(Cosine { weight }),
        TaskClasses::first_task(VertexEnd::Back, 4),
        &TrainingConfig::default(),
        device,
    );
    let set = perennial_data::generate(&GeneratedConfig {
        classes: 4,
        images_per_class: 8,
        ..GeneratedConfig::default()
    })?;
    let all: Vec<usize> = (0..set.len()).collect();
    let mut pixels = Vec::new();
    Preprocessing::CIFAR100.normalize(&set, &all, &mut pixels)?;
    let batch = Batch {
        pixels,
        other_view: None,
        labels: set.labels().to_vec(),
        images: set.len(),
    };
    let mut losses = Vec::new();
    for _ in 0..20 {
        let mut sums = StepSums::default();
        learner.step(&batch, set.shape(), earlier, 0.02, &mut sums);
        let totals = sums.take()?;
        losses.push(totals.loss / totals.images as f64);
    }
    let ends = [losses[0], losses[losses.len() - 1]];
    Ok((learner, ends))
}

/// Trains both models and prints the losses.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (first, [from, to]) = train(1, 0.0, None)?;
    println!("first model, without an earlier one: loss {from:.3} -> {to:.3}");

    let device = DeviceChoice::Cpu.open()?;
    let frozen = FrozenNetwork::new(first.network().valid(), [3, 32, 32], &device);
    let earlier = EarlierModel::new(frozen);
    let (_, [from, to]) = train(2, 3.0, Some(&earlier))?;
    println!("second model, against the first: loss {from:.3} -> {to:.3}");
    if to >= from {
        return Err("the loss did not fall".into());
    }
    Ok(())
}
