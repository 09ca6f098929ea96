//! The earlier model that a loss refers to: frozen, with what the loss may ask about it.

use burn::tensor::{Device, Tensor, TensorData};
use perennial_core::normalize_rows;
use perennial_data::Batch;

use crate::network::{FrozenNetwork, linear};
use crate::state_dict::StateDict;

/// An earlier model, for the whole of a task.
#[derive(Debug)]
pub struct EarlierModel {
    network: FrozenNetwork,
    /// Channels, height and width of the images that it takes from a batch's other view.
    other_view: Option<[usize; 3]>,
    classifier: Option<EarlierClassifier>,
    centres: Option<ClassCentres>,
}

impl EarlierModel {
    /// A model of which only embeddings are known.
    pub fn new(network: FrozenNetwork) -> Self {
        Self {
            network,
            other_view: None,
            classifier: None,
            centres: None,
        }
    }

    /// The same for a model that takes images in another size or normalisation than the network in training: from the batches'
    /// [`other_view`](Batch::other_view), of so many channels, height and width.
    pub fn with_other_view(self, shape: Option<[usize; 3]>) -> Self {
        Self {
            other_view: shape,
            ..self
        }
    }

    /// The same with the classifier of its classes, which are the first of this run's.
    pub fn with_classifier(self, classifier: Option<EarlierClassifier>) -> Self {
        Self { classifier, ..self }
    }

    /// The same with the centres of its classes.
    pub fn with_centres(self, centres: Option<ClassCentres>) -> Self {
        Self { centres, ..self }
    }

    pub(crate) fn network(&self) -> &FrozenNetwork {
        &self.network
    }

    /// The images of a batch as it takes them, on the device without gradients; none where it takes those of the network in training.
    ///
    /// # Panics
    ///
    /// If the batch has no such view.
    pub(crate) fn own_images(&self, batch: &Batch, device: &Device) -> Option<Tensor<4>> {
        let shape = self.other_view?;
        let pixels = batch.other_view.clone();
        let pixels = pixels.expect("batches are made with the view that the earlier model takes");
        Some(on_device(pixels, batch.images, shape, device))
    }

    /// What it says about a batch: images as it takes them, `[batch, channels, height, width]`, on the device without gradients.
    pub(crate) fn of_images(&self, images: Tensor<4>) -> Earlier<'_> {
        Earlier {
            source: Source::Images(&self.network, images),
            classifier: self.classifier.as_ref(),
            centres: self.centres.as_ref(),
        }
    }
}

/// Pixels as a tensor without gradients.
///
/// **Shapes**: the result is `[images, channels, height, width]`.
pub(crate) fn on_device(
    pixels: Vec<f32>,
    images: usize,
    [channels, height, width]: [usize; 3],
    device: &Device,
) -> Tensor<4> {
    let pixels = TensorData::new(pixels, [images, channels, height, width]);
    Tensor::from_data(pixels, &device.clone().without_autodiff())
}

/// An earlier model's view of one batch. Nothing of it has a gradient.
#[derive(Debug)]
pub struct Earlier<'a> {
    source: Source<'a>,
    classifier: Option<&'a EarlierClassifier>,
    centres: Option<&'a ClassCentres>,
}

#[derive(Debug)]
enum Source<'a> {
    Images(&'a FrozenNetwork, Tensor<4>),
    Embeddings(Tensor<2>),
}

impl<'a> Earlier<'a> {
    /// From embeddings that are known already, `[batch, dim]`, on a device without gradients.
    pub fn from_embeddings(embeddings: Tensor<2>) -> Self {
        Self {
            source: Source::Embeddings(embeddings),
            classifier: None,
            centres: None,
        }
    }

    /// The same with a classifier.
    pub fn with_classifier(self, classifier: &'a EarlierClassifier) -> Self {
        Self {
            classifier: Some(classifier),
            ..self
        }
    }

    /// The same with class centres.
    pub fn with_centres(self, centres: &'a ClassCentres) -> Self {
        Self {
            centres: Some(centres),
            ..self
        }
    }

    /// Its embeddings of the batch's images, `[batch, its dim]`, not normalised. Each call is a forward pass.
    pub fn embeddings(&self) -> Tensor<2> {
        Tensor::from_inner(match &self.source {
            Source::Images(network, images) => network.forward(images.clone()),
            Source::Embeddings(embeddings) => embeddings.clone(),
        })
    }

    /// Its classifier; `None` where its classes are not those of this run, as those of a pre-trained model.
    pub fn classifier(&self) -> Option<&'a EarlierClassifier> {
        self.classifier
    }

    /// Its class centres, for an objective that asked for them.
    pub fn centres(&self) -> Option<&'a ClassCentres> {
        self.centres
    }
}

/// A linear classifier that no longer learns.
#[derive(Debug)]
pub struct EarlierClassifier {
    weight: Tensor<2>,
    bias: Tensor<1>,
}

impl EarlierClassifier {
    /// **Shapes**: weight `[classes, dim]`, bias `[classes]`, on a device without gradients.
    pub fn new(weight: Tensor<2>, bias: Tensor<1>) -> Self {
        Self { weight, bias }
    }

    /// That of a network; `None` if it has no linear classifier.
    pub(crate) fn of_state(state: &StateDict, device: &Device) -> Option<Self> {
        let (weight, bias) = (state.get("fc2.weight")?, state.get("fc2.bias")?);
        let data = TensorData::new(weight.values.clone(), weight.shape.clone());
        Some(Self {
            weight: Tensor::from_data(data, device),
            bias: Tensor::from_data(
                TensorData::new(bias.values.clone(), bias.shape.clone()),
                device,
            ),
        })
    }

    /// Classes it tells apart: local labels below this.
    pub fn classes(&self) -> usize {
        self.weight.dims()[0]
    }

    /// **Shapes**: embeddings `[batch, dim]`; the result is `[batch, classes]`. Gradients flow into the embeddings.
    pub fn logits(&self, embeddings: Tensor<2>) -> Tensor<2> {
        let weight = Tensor::from_inner(self.weight.clone());
        let bias = Tensor::from_inner(self.bias.clone());
        linear(embeddings, weight, Some(bias))
    }
}

/// Where an earlier model embeds each class, as far as there are images: the unit mean of its unit embeddings, and the lowest cosine of
/// an image to it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassCentres {
    dim: usize,
    /// By local label; empty where the class has no images.
    centres: Vec<Vec<f32>>,
    radii: Vec<f32>,
}

impl ClassCentres {
    /// **Shapes**: embeddings `[labels.len(), dim]` of unit length, row by row; `dim` above 0.
    ///
    /// # Panics
    ///
    /// With `dim` 0.
    pub fn new(embeddings: &[f32], dim: usize, labels: &[u32]) -> Self {
        let classes = labels.iter().max().map_or(0, |&label| label as usize + 1);
        let mut sums = vec![Vec::new(); classes];
        for (row, &label) in embeddings.chunks_exact(dim).zip(labels) {
            let sum: &mut Vec<f64> = &mut sums[label as usize];
            sum.resize(dim, 0.0);
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
        let centre = |sum: Vec<f64>| {
            let mut centre: Vec<f32> = sum.into_iter().map(|value| value as f32).collect();
            // Embeddings that cancel one another have no direction, and the class no centre.
            match normalize_rows(&mut centre, dim) {
                Ok(()) => centre,
                Err(_) => Vec::new(),
            }
        };
        let centres: Vec<Vec<f32>> = sums.into_iter().map(centre).collect();
        let mut radii = vec![1.0f32; classes];
        for (row, &label) in embeddings.chunks_exact(dim).zip(labels) {
            let label = label as usize;
            if !centres[label].is_empty() {
                let cosine = perennial_core::dot(row, &centres[label]);
                radii[label] = radii[label].min(cosine);
            }
        }
        Self {
            dim,
            centres,
            radii,
        }
    }

    fn centre(&self, label: u32) -> Option<&Vec<f32>> {
        let centre = self.centres.get(label as usize)?;
        (!centre.is_empty()).then_some(centre)
    }

    /// Whether each label has a centre.
    pub fn known(&self, labels: &[u32]) -> Vec<bool> {
        let known = |&label: &u32| self.centre(label).is_some();
        labels.iter().map(known).collect()
    }

    /// The centre of each label, `[labels.len(), dim]`; zeros where there is none.
    pub fn rows(&self, labels: &[u32]) -> Vec<f32> {
        let mut rows = vec![0.0; labels.len() * self.dim];
        for (row, &label) in rows.chunks_exact_mut(self.dim.max(1)).zip(labels) {
            if let Some(centre) = self.centre(label) {
                row.copy_from_slice(centre);
            }
        }
        rows
    }

    /// The lowest cosine of each label's images to its centre; 1 where there is no centre.
    pub fn radii(&self, labels: &[u32]) -> Vec<f32> {
        let radius = |&label: &u32| self.radii.get(label as usize).copied().unwrap_or(1.0);
        labels.iter().map(radius).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_model_sees_the_view_of_a_batch_that_it_takes() {
        let device = crate::DeviceChoice::Cpu.open().unwrap().without_autodiff();
        let config = toml::from_str("backbone = \"small\"\nwidth = 2").unwrap();
        let model = |shape| {
            let network = crate::network::Network::new(&config, shape, None, 7, &device);
            FrozenNetwork::new(network, shape, &device)
        };
        let values = |count: usize, step: usize| {
            (0..count)
                .map(|place| (place * step % 19) as f32 / 10.0 - 1.0)
                .collect::<Vec<f32>>()
        };
        let (own, training) = ([3, 48, 48], [3, 32, 32]);
        let batch = Batch {
            pixels: values(2 * 3 * 32 * 32, 5),
            other_view: Some(values(2 * 3 * 48 * 48, 7)),
            labels: vec![0, 1],
            images: 2,
        };
        let other = EarlierModel::new(model(own)).with_other_view(Some(own));
        let images = other.own_images(&batch, &device).unwrap();
        let found = other.of_images(images).embeddings().inner();
        let expected = on_device(batch.other_view.clone().unwrap(), 2, own, &device);
        let expected = model(own).forward(expected);
        assert_eq!(found.into_data(), expected.into_data());
        let same = EarlierModel::new(model(training)).with_other_view(None);
        assert!(same.own_images(&batch, &device).is_none());
    }

    #[test]
    fn centres_are_unit_means_and_radii_lowest_cosines() {
        let half = 0.5f32.sqrt();
        let rows = [1.0, 0.0, 0.0, 1.0, half, half, 1.0, 0.0, -1.0, 0.0];
        let centres = ClassCentres::new(&rows, 2, &[2, 2, 2, 0, 3]);
        assert_eq!(
            centres.known(&[0, 1, 2, 3, 9]),
            [true, false, true, true, false]
        );
        let found = centres.rows(&[2, 1, 0]);
        for (found, expected) in found.iter().zip([half, half, 0.0, 0.0, 1.0, 0.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        assert!((centres.radii(&[2])[0] - half).abs() < 1e-6);
        assert_eq!(centres.radii(&[1, 9]), [1.0, 1.0]);
        let cancelling = ClassCentres::new(&rows[6..], 2, &[0, 0]);
        assert_eq!(cancelling.known(&[0]), [false]);
    }
}
