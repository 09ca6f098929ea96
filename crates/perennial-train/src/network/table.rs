//! The one table of the backbones that there are.
//!
//! Everything that names backbones reads it: configurations, `model.toml`, the command line and its help, the import of
//! checkpoints, error texts, and the benchmark.

use std::fmt;
use std::str::FromStr;

use burn::module::Module;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::backbone::{Backbone, BackboneEntry, BackboneKind, Plan};
use super::start::Start;

macro_rules! backbones {
    ($($kind:ident($network:ty) = $module:ident,)+) => {
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
            pub(super) fn new(kind: BackboneKind, plan: &Plan, start: &mut Start) -> Self {
                match kind {
                    $(BackboneKind::$kind => Self::$kind(super::$module::new(plan, start)),)+
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
    Resnet18(super::resnet::ResNet) = resnet18,
    Senet18(super::resnet::ResNet) = senet18,
    Resnet50(super::resnet::ResNet) = resnet50,
    Regnety400mf(super::regnety400mf::RegNet) = regnety400mf,
    Vit6(super::vit::VisionTransformer) = vit6,
    Vit12(super::vit::VisionTransformer) = vit12,
    Small(super::small::SmallNet) = small,
}

impl BackboneKind {
    /// Its line of the table.
    pub fn entry(self) -> &'static BackboneEntry {
        let found = BACKBONES.iter().find(|entry| entry.kind == self);
        found.expect("the table has a line for every kind, because `Body::new` has one as well")
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
    use crate::network::{NetworkConfig, Stem};

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
                let plan = Plan {
                    stem,
                    width: config.width,
                    input: [3, 32, 32],
                };
                let mut start = Start::unset(&Device::flex());
                let body = Body::new(entry.kind, &plan, &mut start);
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
