//! Encoder networks: a backbone, and for simplex methods the embedding layer that maps its features to `d = K - 1`.

mod backbone;
mod frozen;
mod layers;
mod regnety400mf;
mod resnet;
mod resnet18;
mod resnet50;
mod senet18;
mod small;
mod squeeze_excite;
mod start;
mod transformer;
mod vit;
mod vit12;
mod vit6;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use perennial_kernels::{Convolution, FrozenConvolution, transpose};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::classifier::LinearClassifier;
use backbone::Body;

pub(crate) use backbone::key_examples;
pub use backbone::{BACKBONES, BackboneEntry, BackboneKind, Keys, supported};
pub use frozen::FrozenNetwork;
pub(crate) use layers::linear;
pub use layers::{Mode, Path};
pub(crate) use start::Start;

/// How a network begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// As published, for large images: a ResNet's 7x7 convolution of stride 2 and max-pooling. The published recipe takes it for 32x32
    /// images as well.
    #[default]
    Imagenet,
    /// 3x3 convolution of stride 1: sees small images at full size, at about four times the cost.
    Cifar,
    /// Patches of 4x4 pixels.
    Patch4,
    /// Patches of 8x8 pixels.
    Patch8,
    /// Patches of 16x16 pixels.
    Patch16,
}

impl Stem {
    /// Every stem.
    pub const ALL: [Self; 5] = [
        Self::Imagenet,
        Self::Cifar,
        Self::Patch4,
        Self::Patch8,
        Self::Patch16,
    ];

    /// Its name in configurations, in `model.toml` and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Imagenet => "imagenet",
            Self::Cifar => "cifar",
            Self::Patch4 => "patch4",
            Self::Patch8 => "patch8",
            Self::Patch16 => "patch16",
        }
    }

    /// What it is, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Imagenet => "As published: stride 2, then a ResNet's pooling",
            Self::Cifar => "3x3 convolution of stride 1",
            Self::Patch4 => "Patches of 4x4 pixels",
            Self::Patch8 => "Patches of 8x8 pixels",
            Self::Patch16 => "Patches of 16x16 pixels",
        }
    }
}

impl std::str::FromStr for Stem {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|stem| stem.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("unknown stem {name:?}; there are {names}")
        })
    }
}

/// The most patches of an image: every one is compared with every other.
const MAX_PATCHES: usize = 4096;

/// The `[network]` table of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NetworkTable")]
pub struct NetworkConfig {
    /// Which backbone.
    pub backbone: BackboneKind,
    /// How it begins; without meaning where [`BackboneEntry::stems`] leaves no choice.
    pub stem: Stem,
    /// Channels after the stem, or numbers per patch; the backbone says how many [`features`](Self::features) follow from it.
    pub width: usize,
}

/// The table as it is written: what is left out follows from the backbone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkTable {
    backbone: BackboneKind,
    stem: Option<Stem>,
    width: Option<usize>,
}

impl TryFrom<NetworkTable> for NetworkConfig {
    type Error = String;

    fn try_from(table: NetworkTable) -> Result<Self, String> {
        let entry = table.backbone.entry();
        Ok(Self {
            backbone: table.backbone,
            stem: entry
                .stem(table.stem)
                .map_err(|problem| format!("stem: {problem}"))?,
            width: table.width.unwrap_or(entry.default_width),
        })
    }
}

impl NetworkConfig {
    /// Length of the backbone's features.
    pub fn features(&self) -> usize {
        (self.backbone.entry().features)(self.width)
    }

    /// Validates the values.
    ///
    /// # Errors
    ///
    /// The key and the problem of a value that does not suit the backbone.
    pub fn check(&self) -> Result<(), TrainError> {
        let entry = self.backbone.entry();
        let wrong = |key: &str, problem: String| Err(TrainError::config(key, &problem));
        if let Err(problem) = entry.stem(Some(self.stem)) {
            return wrong("network.stem", problem);
        }
        if !(1..=1024).contains(&self.width) {
            return wrong(
                "network.width",
                format!("{} is not between 1 and 1024", self.width),
            );
        }
        if !self.width.is_multiple_of(entry.width_step) {
            let (width, step) = (self.width, entry.width_step);
            let problem = format!(
                "{width} is not a multiple of {step}, as {} needs",
                entry.name
            );
            return wrong("network.width", problem);
        }
        Ok(())
    }

    /// Whether it can take images of the given channels, height and width.
    ///
    /// # Errors
    ///
    /// A backbone that divides images into patches, and images that are not whole patches or far too many.
    pub fn fits(&self, [_, height, width]: [usize; 3]) -> Result<(), TrainError> {
        let entry = self.backbone.entry();
        let begins = entry.stems.iter().find(|(stem, _)| *stem == self.stem);
        let (Some(_), Some(&(_, side))) = (entry.positions, begins) else {
            return Ok(());
        };
        let whole = height.is_multiple_of(side) && width.is_multiple_of(side);
        let problem = if !whole {
            format!("images of {height}x{width} pixels are not whole patches of {side}x{side}")
        } else if (height / side).saturating_mul(width / side) > MAX_PATCHES {
            format!(
                "images of {height}x{width} pixels have more than {MAX_PATCHES} patches of {side}x{side}"
            )
        } else {
            return Ok(());
        };
        let problem = format!("{problem}: choose another stem or image size");
        Err(TrainError::config("network.stem", &problem))
    }
}

/// An encoder being trained or used.
#[derive(Module, Debug)]
pub struct Network {
    backbone: Body,
    fc1: Option<EmbeddingLayer>,
    fc2: Option<LinearClassifier>,
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
            groups: 1,
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
        let backbone = Body::new(config, input, start);
        let features = backbone.backbone().features();
        let bound = linear_bound(features);
        let fc1 = embedding_dim.map(|dim| EmbeddingLayer {
            weight: start.uniform([dim, features], bound),
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
        self.backbone.backbone().features()
    }

    /// Multiplications and additions of a forward pass of one image, padding counted as if it were pixels: twice the number of
    /// multiply-adds that is usually quoted. Prepares the frozen weights, so it is not for hot paths.
    pub fn operations(&self, [_, height, width]: [usize; 3]) -> f64 {
        let stages = self.backbone.backbone().stages([height, width]);
        let head = self.fc1.as_ref().map(EmbeddingLayer::frozen);
        let of_head = head.as_ref().map_or(0.0, FrozenConvolution::operations);
        stages.iter().map(frozen::Stage::operations).sum::<f64>() + of_head
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
        let features = self.backbone.backbone().forward(images, mode, path);
        match &self.fc1 {
            Some(layer) => linear(features, layer.weight.val(), None),
            None => features,
        }
    }
}

/// PyTorch's default for a linear layer of so many inputs: weights are uniform in plus or minus this.
pub(crate) fn linear_bound(inputs: usize) -> f32 {
    1.0 / (inputs as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NetworkConfig, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_table_leaves_out_follows_from_the_backbone() {
        let found = read("backbone = \"resnet18\"").unwrap();
        assert_eq!((found.stem, found.width), (Stem::Imagenet, 64));
        let found = read("backbone = \"regnety400mf\"\nstem = \"cifar\"").unwrap();
        assert_eq!((found.stem, found.width), (Stem::Cifar, 32));
        assert_eq!(found.features(), 440);
        let found = read("backbone = \"vit6\"\nwidth = 128").unwrap();
        assert_eq!((found.stem, found.features()), (Stem::Patch4, 128));
        // Where there is no choice, a stem has no meaning.
        let found = read("backbone = \"small\"\nstem = \"cifar\"\nwidth = 3").unwrap();
        assert_eq!((found.stem, found.features()), (Stem::Imagenet, 24));
        let again: NetworkConfig = read(&toml::to_string(&found).unwrap()).unwrap();
        assert_eq!(again, found);
    }

    #[test]
    fn what_does_not_suit_a_backbone_is_refused_by_name() {
        for (text, expected) in [
            ("backbone = \"resnet19\"", "supported are resnet18"),
            (
                "backbone = \"resnet18\"\nstem = \"patch4\"",
                "use imagenet or cifar",
            ),
            ("backbone = \"small\"\ndepth = 3", "depth"),
            ("width = 3", "backbone"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let vit = read("backbone = \"vit6\"").unwrap();
        assert!(vit.fits([3, 30, 32]).is_err() && vit.fits([3, 32, 64]).is_ok());
        for (backbone, width) in [("vit6", 100), ("small", 0), ("resnet50", 2000)] {
            let text = format!("backbone = \"{backbone}\"\nwidth = {width}");
            let error = read(&text).unwrap().check().unwrap_err().to_string();
            assert!(error.contains("network.width"), "{error}");
        }
    }
}
