//! The images of an evaluation set.

use perennial_core::ModelVersion;
use perennial_data::ImageSet;
use perennial_eval::ProbeSet;
use perennial_train::{SetConfig, TrainError};

use crate::set_argument::SetArgument;

/// A set for certain versions: pictures are scaled to the largest side that one of them takes, where the set names no other.
pub fn load_set(
    config: &SetConfig,
    data_root: &std::path::Path,
    versions: &[ModelVersion],
) -> Result<ImageSet, TrainError> {
    let sizes = versions.iter().filter_map(ModelVersion::picture_size);
    match sizes.flatten().max() {
        Some(side) => config.load_sized(data_root, side),
        None => config.load(data_root),
    }
}

/// The query images or the gallery images of an evaluation set.
pub struct Probe {
    pub set: ImageSet,
    pub description: ProbeSet,
}

impl Probe {
    pub fn load(config: &SetConfig, data_root: &std::path::Path) -> anyhow::Result<Self> {
        Self::of(config, config.load(data_root)?)
    }

    /// The same for certain versions.
    pub fn load_for(
        config: &SetConfig,
        data_root: &std::path::Path,
        versions: &[ModelVersion],
    ) -> anyhow::Result<Self> {
        Self::of(config, load_set(config, data_root, versions)?)
    }

    /// Images that no name stands for.
    pub fn made(set: ImageSet, name: String) -> Self {
        let description = ProbeSet {
            name,
            argument: None,
            count: set.len(),
            sha256: set.content_sha256(),
        };
        Self { set, description }
    }

    fn of(config: &SetConfig, set: ImageSet) -> anyhow::Result<Self> {
        let mut name = config.describe();
        if let Some(completeness) = set.completeness().filter(|found| found.is_partial()) {
            name.push_str(&format!(" ({completeness})"));
        }
        let description = ProbeSet {
            name,
            argument: Some(SetArgument(config.clone()).to_string()),
            count: set.len(),
            sha256: set.content_sha256(),
        };
        Ok(Self { set, description })
    }
}
