//! What a backbone is.

use burn::tensor::Tensor;

use super::folded::FoldedConvolution;
use super::layers::{Mode, Path};
use super::stage::Stage;
use super::stem::Stem;

/// Which backbone a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackboneKind {
    /// ResNet-18.
    Resnet18,
    /// SENet-18.
    Senet18,
    /// ResNet-50.
    Resnet50,
    /// RegNetY-400MF.
    Regnety400mf,
    /// The vision transformer of 6 blocks.
    Vit6,
    /// The vision transformer of 12 blocks.
    Vit12,
    /// The four-layer network of the demo.
    Small,
}

/// A network from images to features.
pub trait Backbone {
    /// Images to features.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, height, width]`
    /// - result: `[batch, features]`
    fn forward(&self, images: Tensor<4>, mode: Mode, path: Path) -> Tensor<2>;

    /// Length of the features.
    fn features(&self) -> usize;

    /// Its parts for embedding alone, for images of the given height and width; the mean over the positions of the last part's map are
    /// the features.
    fn stages(&self, input: [usize; 2]) -> Vec<Stage<FoldedConvolution>>;
}

/// What is known of a backbone without building it.
#[derive(Debug)]
pub struct BackboneEntry {
    /// Which one it is.
    pub kind: BackboneKind,
    /// Its name in configurations, in `model.toml` and on the command line.
    pub name: &'static str,
    /// Its name in sentences and tables.
    pub title: &'static str,
    /// The ways in which it can begin, the default first, with the side of the first convolution's kernel. One alone is no choice: then
    /// `stem` has no meaning.
    pub stems: &'static [(Stem, usize)],
    /// Its width if nothing else is said.
    pub default_width: usize,
    /// Widths are multiples of this.
    pub width_step: usize,
    /// Length of the features by width.
    pub features: fn(usize) -> usize,
    /// The tensor `[1, 1 + patches, width]` of a backbone that has weights for every patch of an image, and so takes images of one size.
    pub positions: Option<&'static str>,
    /// How its tensors are called in the checkpoints of the tools that are most used with it.
    pub keys: Keys,
}

/// Names of a backbone's tensors, as they are in its official checkpoints and in a version's weights.
#[derive(Debug)]
pub struct Keys {
    /// Beginnings of names that show where such a network lies in a file; `#` stands for a number.
    pub places: &'static [&'static str],
    /// A tensor that other backbones with the same beginnings lack.
    pub requires: Option<&'static str>,
    /// Tensors that it lacks, and of which network they are a sign.
    pub unlike: &'static [(&'static str, &'static str)],
    /// The first convolution's weights.
    pub first: &'static str,
    /// Parts of names that other programs use, and what they are called here.
    pub aliases: &'static [(&'static str, &'static str)],
    /// How the linear classifier behind it is called.
    pub heads: &'static [&'static str],
}

impl BackboneEntry {
    /// Whether there is more than one way to begin.
    pub fn has_stems(&self) -> bool {
        self.stems.len() > 1
    }

    /// The stem that counts: the one given, if it applies; the only one where there is no choice.
    ///
    /// # Errors
    ///
    /// A stem of other backbones, with those that apply.
    pub fn stem(&self, given: Option<Stem>) -> Result<Stem, String> {
        let applies = |stem: Stem| self.stems.iter().any(|(own, _)| *own == stem);
        match given {
            Some(stem) if self.has_stems() && applies(stem) => Ok(stem),
            Some(stem) if self.has_stems() => Err(format!(
                "{} does not apply to {}: use {}",
                stem.name(),
                self.name,
                self.stem_names()
            )),
            _ => Ok(self.stems[0].0),
        }
    }

    pub(super) fn stem_names(&self) -> String {
        let names: Vec<&str> = self.stems.iter().map(|(stem, _)| stem.name()).collect();
        names.join(" or ")
    }
}

/// What a backbone is built for.
pub(super) struct Plan {
    /// How it begins.
    pub stem: Stem,
    /// Its width, as in [`NetworkConfig`](super::NetworkConfig).
    pub width: usize,
    /// Channels, height and width of images.
    pub input: [usize; 3],
}
