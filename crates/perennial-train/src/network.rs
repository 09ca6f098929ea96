//! Encoder networks: a backbone, and for simplex methods the embedding layer that maps its features to `d = K - 1`.

mod frozen;
mod layers;
mod resnet;
mod small;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use perennial_kernels::{Convolution, FrozenConvolution, transpose};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::classifier::LinearClassifier;

pub use frozen::FrozenNetwork;
pub(crate) use layers::linear;
pub use layers::{Mode, Path};
pub use resnet::ResNet18;
pub use small::SmallNet;

/// Which backbone a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackboneKind {
    /// ResNet-18.
    Resnet18,
    /// The four-layer network of the demo.
    Small,
}

/// How a ResNet begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// 7x7 convolution of stride 2 and a max-pooling: the published recipe, also on 32x32 images.
    #[default]
    Imagenet,
    /// 3x3 convolution of stride 1: sees small images at full size, at about four times the cost.
    Cifar,
}

/// The `[network]` table of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Which backbone.
    pub backbone: BackboneKind,
    /// How a ResNet begins; without meaning for `small`.
    #[serde(default)]
    pub stem: Stem,
    /// Channels after the stem; features have `8 * width`.
    #[serde(default = "default_width")]
    pub width: usize,
}

fn default_width() -> usize {
    64
}

impl NetworkConfig {
    /// Length of the backbone's features.
    pub fn features(&self) -> usize {
        8 * self.width
    }

    /// Validates the values.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        if (1..=1024).contains(&self.width) {
            return Ok(());
        }
        let problem = format!("{} is not between 1 and 1024", self.width);
        Err(TrainError::config("network.width", &problem))
    }
}

/// An encoder being trained or used.
#[derive(Module, Debug)]
pub struct Network {
    backbone: Backbone,
    fc1: Option<EmbeddingLayer>,
    fc2: Option<LinearClassifier>,
}

#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one per network, and burn derives no boxed modules"
)]
enum Backbone {
    Resnet18(ResNet18),
    Small(SmallNet),
}

/// Bias-free linear map from features to the simplex's space; the name `fc1` is the released checkpoints'.
#[derive(Module, Debug)]
struct EmbeddingLayer {
    weight: Param<Tensor<2>>,
}

impl EmbeddingLayer {
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
        };
        FrozenConvolution::new(
            geometry,
            &transpose(&layers::values(weight), out_channels, in_channels),
            vec![0.0; out_channels],
            false,
        )
    }
}

impl Network {
    /// Random weights from the seed: the same on every device and with any number of threads.
    ///
    /// `embedding_dim` is `Some(K - 1)` for simplex methods and `None` where the features are the embedding.
    pub fn new(
        config: &NetworkConfig,
        in_channels: usize,
        embedding_dim: Option<usize>,
        seed: u64,
        device: &Device,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let backbone = match config.backbone {
            BackboneKind::Resnet18 => Backbone::Resnet18(ResNet18::new(
                config.stem,
                config.width,
                in_channels,
                &mut rng,
                device,
            )),
            BackboneKind::Small => {
                Backbone::Small(SmallNet::new(config.width, in_channels, &mut rng, device))
            }
        };
        let fc1 = embedding_dim.map(|dim| EmbeddingLayer {
            weight: Param::from_tensor(uniform_linear([dim, config.features()], &mut rng, device)),
        });
        Self {
            backbone,
            fc1,
            fc2: None,
        }
    }

    /// The same network with a linear classifier of at least `classes` rows: fresh, or its own grown.
    pub fn with_classifier(mut self, classes: usize, seed: u64) -> Self {
        let features = self.features();
        self.fc2 = Some(match self.fc2.take() {
            Some(classifier) => classifier.grow(classes, seed),
            None => LinearClassifier::new(classes, features, seed, &self.devices()[0]),
        });
        self
    }

    /// Length of the backbone's features.
    fn features(&self) -> usize {
        match &self.backbone {
            Backbone::Resnet18(net) => net.features(),
            Backbone::Small(net) => net.features(),
        }
    }

    /// The same network without its linear classifier.
    pub fn without_classifier(mut self) -> Self {
        self.fc2 = None;
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
        let features = match &self.backbone {
            Backbone::Resnet18(net) => net.forward(images, mode, path),
            Backbone::Small(net) => net.forward(images, mode, path),
        };
        match &self.fc1 {
            Some(layer) => linear(features, layer.weight.val(), None),
            None => features,
        }
    }
}

/// Weights `[outputs, inputs]` uniform in `±1/sqrt(inputs)`, PyTorch's default for a linear layer.
pub(crate) fn uniform_linear(
    [outputs, inputs]: [usize; 2],
    rng: &mut ChaCha8Rng,
    device: &Device,
) -> Tensor<2> {
    let bound = 1.0 / (inputs as f32).sqrt();
    let values: Vec<f32> = (0..outputs * inputs)
        .map(|_| rng.random_range(-bound..bound))
        .collect();
    Tensor::from_data(TensorData::new(values, [outputs, inputs]), device)
}
