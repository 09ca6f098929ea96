//! Encoder networks: a backbone, and for simplex methods the embedding layer that maps its features to `d = K - 1`.

mod backbone;
mod config;
mod folded;
mod frozen;
mod layers;
mod regnety400mf;
mod resnet;
mod resnet18;
mod resnet50;
mod senet18;
mod small;
mod squeeze_excite;
mod stage;
mod start;
mod stem;
mod table;
mod trace;
mod transformer;
mod vit;
mod vit12;
mod vit6;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use perennial_core::EmbeddingSource;
use perennial_kernels::{Convolution, FrozenConvolution, transpose};

use crate::classifier::LinearClassifier;
use backbone::Plan;
use stage::Stage;
use table::Body;

pub use backbone::{BackboneEntry, BackboneKind, Keys};
pub use config::NetworkConfig;
pub use frozen::FrozenNetwork;
pub(crate) use layers::linear;
pub use layers::{Mode, Path};
pub(crate) use start::{Start, linear_bound};
pub use stem::Stem;
pub(crate) use table::key_examples;
pub use table::{BACKBONES, supported};

/// An encoder being trained or used.
#[derive(Module, Debug)]
pub struct Network {
    backbone: Body,
    fc1: Option<EmbeddingLayer>,
    fc2: Option<LinearClassifier>,
}

/// Linear map from features to the simplex's space, as published without a bias; the name `fc1` is the released checkpoints'.
#[derive(Module, Debug)]
struct EmbeddingLayer {
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
}

/// The numbers of an embedding layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LayerWeights {
    /// `[dim, features]`, row-major.
    pub weight: Vec<f32>,
    /// `[dim]`
    pub bias: Option<Vec<f32>>,
}

impl EmbeddingLayer {
    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }

    /// The bias on the host.
    fn bias_values(&self) -> Option<Vec<f32>> {
        let bias = self.bias()?.without_autodiff();
        Some(layers::values(bias))
    }

    /// As a convolution over one position.
    fn frozen(&self) -> FrozenConvolution {
        let weight = self.weight.val().without_autodiff();
        let [out_channels, in_channels] = weight.dims();
        let geometry = Convolution {
            batch: 0,
            in_channels,
            out_channels,
            input: [1, 1],
            kernel: [1, 1],
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
        };
        FrozenConvolution::new(
            geometry,
            &transpose(&layers::values(weight), out_channels, in_channels),
            self.bias_values()
                .unwrap_or_else(|| vec![0.0; out_channels]),
            false,
        )
    }
}

impl Network {
    /// Random weights from the seed: the same on every device and with any number of threads. For images of the given channels, height and
    /// width.
    ///
    /// `embedding_dim` is `Some(K - 1)` for simplex methods and `None` where the features are the embedding.
    pub fn new(
        config: &NetworkConfig,
        input: [usize; 3],
        embedding_dim: Option<usize>,
        seed: u64,
        device: &Device,
    ) -> Self {
        Self::build(
            config,
            input,
            embedding_dim,
            &mut Start::random(seed, device),
        )
    }

    /// The same without weights yet; see [`Start::unset`].
    pub(crate) fn unset(
        config: &NetworkConfig,
        input: [usize; 3],
        embedding_dim: Option<usize>,
        device: &Device,
    ) -> Self {
        Self::build(config, input, embedding_dim, &mut Start::unset(device))
    }

    fn build(
        config: &NetworkConfig,
        input: [usize; 3],
        embedding_dim: Option<usize>,
        start: &mut Start,
    ) -> Self {
        let plan = Plan {
            stem: config.stem,
            width: config.width,
            input,
        };
        let backbone = Body::new(config.backbone, &plan, start);
        let features = backbone.backbone().features();
        let bound = linear_bound(features);
        let fc1 = embedding_dim.map(|dim| EmbeddingLayer {
            weight: start.uniform([dim, features], bound),
            bias: None,
        });
        Self {
            backbone,
            fc1,
            fc2: None,
        }
    }

    /// The same network with a linear classifier of at least `classes` rows over its embeddings: fresh, or its own grown.
    pub fn with_classifier(mut self, classes: usize, seed: u64) -> Self {
        let dim = self.dim();
        self.fc2 = Some(match self.fc2.take() {
            Some(classifier) => classifier.grow(classes, seed),
            None => LinearClassifier::new(classes, dim, seed, &self.devices()[0]),
        });
        self
    }

    /// Length of the backbone's features.
    pub(crate) fn features(&self) -> usize {
        self.backbone.backbone().features()
    }

    /// Length of an embedding: what the embedding layer gives, or the features.
    fn dim(&self) -> usize {
        let layer = self.fc1.as_ref();
        layer.map_or_else(|| self.features(), |layer| layer.weight.lazy_shape()[0])
    }

    /// Multiplications and additions of a forward pass of one image, padding counted as if it were pixels: twice the number of
    /// multiply-adds that is usually quoted. Folds the weights, so it is not for hot paths.
    pub fn operations(&self, [_, height, width]: [usize; 3]) -> f64 {
        let stages = self.backbone.backbone().stages([height, width]);
        let head = self.fc1.as_ref().map(EmbeddingLayer::frozen);
        let of_head = head.as_ref().map_or(0.0, FrozenConvolution::operations);
        stages.iter().map(Stage::operations).sum::<f64>() + of_head
    }

    /// The geometries of the backbone's convolutions, in the order in which they are computed; their batches do not count. Folds the
    /// weights, so it is not for hot paths.
    pub fn convolutions(&self, [_, height, width]: [usize; 3]) -> Vec<Convolution> {
        let mut found = Vec::new();
        for stage in self.backbone.backbone().stages([height, width]) {
            stage.convolutions(&mut found);
        }
        found
    }

    /// The same network without its linear classifier.
    pub fn without_classifier(mut self) -> Self {
        self.fc2 = None;
        self
    }

    /// The embedding layer; none where the features are the embedding.
    pub(crate) fn embedding_layer(&self) -> Option<LayerWeights> {
        let layer = self.fc1.as_ref()?;
        Some(LayerWeights {
            weight: layers::values(layer.weight.val().without_autodiff()),
            bias: layer.bias_values(),
        })
    }

    /// The same network with this embedding layer in the place of its own, if it has one.
    pub(crate) fn with_embedding_layer(mut self, layer: LayerWeights) -> Self {
        let features = self.features();
        let LayerWeights { weight, bias } = layer;
        let dim = weight.len() / features;
        let device = self.devices()[0].clone();
        let weight = Tensor::from_data(TensorData::new(weight, [dim, features]), &device);
        let bias = bias.map(|bias| Tensor::from_data(TensorData::new(bias, [dim]), &device));
        self.fc1 = Some(EmbeddingLayer {
            weight: Param::from_tensor(weight),
            bias: bias.map(Param::from_tensor),
        });
        self
    }

    /// Whether there is an embedding layer with a bias.
    pub(crate) fn has_embedding_bias(&self) -> bool {
        self.fc1.as_ref().is_some_and(|layer| layer.bias.is_some())
    }

    /// The same network with a bias in its embedding layer: zeros where it had none. A network without such a layer stays as it is.
    pub fn with_embedding_bias(mut self) -> Self {
        let device = self.devices()[0].clone();
        if let Some(layer) = &mut self.fc1
            && layer.bias.is_none()
        {
            let dim = layer.weight.lazy_shape()[0];
            layer.bias = Some(Param::from_tensor(Tensor::zeros([dim], &device)));
        }
        self
    }

    /// The network whose output is a version's embedding: without the embedding layer where the features are.
    pub(crate) fn that_embeds_by(mut self, source: EmbeddingSource) -> Self {
        if source == EmbeddingSource::Features {
            self.fc1 = None;
        }
        self
    }

    /// Its trained classifier, if it has one.
    pub fn classifier(&self) -> Option<&LinearClassifier> {
        self.fc2.as_ref()
    }

    /// Images to embeddings, not normalised.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, height, width]`
    /// - result: `[batch, dim]`
    pub fn forward(&self, images: Tensor<4>, mode: Mode, path: Path) -> Tensor<2> {
        let features = self.backbone.backbone().forward(images, mode, path);
        match &self.fc1 {
            Some(layer) => linear(features, layer.weight.val(), layer.bias()),
            None => features,
        }
    }
}
