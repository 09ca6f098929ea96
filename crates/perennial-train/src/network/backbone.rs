//! What a backbone is, and the one table of those that there are.
//!
//! Everything that names backbones reads the table: configurations, `model.toml`, the command line and its help, the import of
//! checkpoints, error texts, and the benchmark.

use std::fmt;
use std::str::FromStr;

use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::frozen::Stage;
use super::layers::{Mode, Path};
use super::start::Start;
use super::{NetworkConfig, Stem};

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
    fn stages(&self, input: [usize; 2]) -> Vec<Stage>;
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

macro_rules! backbones {
    ($($(#[$about:meta])* $kind:ident($network:ty) = $module:ident,)+) => {
        /// Which backbone a network has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum BackboneKind {
            $($(#[$about])* $kind,)+
        }

        /// Every backbone.
        pub static BACKBONES: &[BackboneEntry] = &[$(super::$module::ENTRY),+];

        /// A backbone with its weights. An enum, because burn derives modules for concrete types only.
        #[derive(Module, Debug)]
        #[allow(
            clippy::large_enum_variant,
            reason = "there is one per network, and burn derives no boxed modules"
        )]
        pub(super) enum Body {
            $($kind($network),)+
        }

        impl Body {
            pub(super) fn new(config: &NetworkConfig, input: [usize; 3], start: &mut Start) -> Self {
                match config.backbone {
                    $(BackboneKind::$kind => Self::$kind(super::$module::new(config, input, start)),)+
                }
            }

            pub(super) fn backbone(&self) -> &dyn Backbone {
                match self {
                    $(Self::$kind(network) => network,)+
                }
            }
        }
    };
}

backbones! {
    /// ResNet-18.
    Resnet18(super::resnet::ResNet) = resnet18,
    /// SENet-18.
    Senet18(super::resnet::ResNet) = senet18,
    /// ResNet-50.
    Resnet50(super::resnet::ResNet) = resnet50,
    /// RegNetY-400MF.
    Regnety400mf(super::regnety400mf::RegNet) = regnety400mf,
    /// The vision transformer of 6 blocks.
    Vit6(super::vit::VisionTransformer) = vit6,
    /// The vision transformer of 12 blocks.
    Vit12(super::vit::VisionTransformer) = vit12,
    /// The four-layer network of the demo.
    Small(super::small::SmallNet) = small,
}

impl BackboneKind {
    /// Its line of the table.
    pub fn entry(self) -> &'static BackboneEntry {
        let found = BACKBONES.iter().find(|entry| entry.kind == self);
        found.expect("the table has a line for every kind, because both come from one list")
    }
}

impl fmt::Display for BackboneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.entry().name)
    }
}

impl FromStr for BackboneKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = BACKBONES.iter().find(|entry| entry.name == name);
        found
            .map(|entry| entry.kind)
            .ok_or_else(|| format!("unknown backbone {name:?}; supported are {}", supported()))
    }
}

impl Serialize for BackboneKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.entry().name)
    }
}

impl<'de> Deserialize<'de> for BackboneKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(de::Error::custom)
    }
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

    fn stem_names(&self) -> String {
        let names: Vec<&str> = self.stems.iter().map(|(stem, _)| stem.name()).collect();
        names.join(" or ")
    }
}

/// The backbones and their stems, for error texts.
pub fn supported() -> String {
    let names = BACKBONES.iter().map(|entry| {
        if entry.has_stems() {
            format!("{} (stem {})", entry.name, entry.stem_names())
        } else {
            entry.name.to_owned()
        }
    });
    names.collect::<Vec<_>>().join(", ")
}

/// What tensors of the backbones are called, for error texts.
pub(crate) fn key_examples() -> String {
    let examples = BACKBONES.iter().map(|entry| {
        let example = entry.keys.requires.unwrap_or(entry.keys.first);
        format!("{example} of {}", entry.name)
    });
    examples.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn every_line_of_the_table_is_true_of_its_network() {
        for entry in BACKBONES {
            assert_eq!(entry.name.parse(), Ok(entry.kind));
            assert!(entry.kind.to_string().starts_with(char::is_alphabetic));
            for &(stem, kernel) in entry.stems {
                let config = NetworkConfig {
                    backbone: entry.kind,
                    stem,
                    width: 2 * entry.width_step,
                };
                config.check().unwrap();
                config.fits([3, 32, 32]).unwrap();
                let body = Body::new(&config, [3, 32, 32], &mut Start::unset(&Device::flex()));
                assert_eq!(body.backbone().features(), config.features(), "{config:?}");
                let shapes = crate::state_dict::shapes(&body);
                let first = &shapes[entry.keys.first];
                assert_eq!(first[1..], [3, kernel, kernel], "{config:?}");
                assert!(
                    entry
                        .keys
                        .requires
                        .is_none_or(|name| shapes.contains_key(name))
                );
                for (name, _) in entry.keys.unlike {
                    assert!(!shapes.contains_key(*name), "{name}");
                }
            }
        }
    }

    #[test]
    fn a_stem_of_another_backbone_is_an_error_and_one_without_choice_is_not_read() {
        let resnet = BackboneKind::Resnet18.entry();
        assert_eq!(resnet.stem(None), Ok(Stem::Imagenet));
        assert_eq!(resnet.stem(Some(Stem::Cifar)), Ok(Stem::Cifar));
        let small = BackboneKind::Small.entry();
        assert_eq!(small.stem(Some(Stem::Cifar)), Ok(Stem::Imagenet));
        let error = "resnet19".parse::<BackboneKind>().unwrap_err();
        assert!(
            error.contains("resnet18 (stem imagenet or cifar), ") && error.ends_with(", small"),
            "{error}"
        );
    }
}
