//! The `[network]` table of a configuration.

use serde::{Deserialize, Serialize};

use super::backbone::BackboneKind;
use super::stem::Stem;
use crate::TrainError;

/// The most patches of an image: every one is compared with every other.
const MAX_PATCHES: usize = 4096;

/// The `[network]` table of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NetworkTable")]
pub struct NetworkConfig {
    /// Which backbone.
    pub backbone: BackboneKind,
    /// How it begins; without meaning where [`BackboneEntry::stems`](super::BackboneEntry::stems) leaves no choice.
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
