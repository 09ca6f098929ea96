//! How networks begin.

use serde::{Deserialize, Serialize};

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
