//! How the service gets its encoders: trained networks from a registry, on the device of this program.

use std::sync::Arc;

use perennial_core::{Encoder, ModelVersion, Registry};
use perennial_train::{Device, TrainedEncoder};
use perennial_upgrade::{EncoderLoader, LoadError};

/// Loads versions onto one device.
pub struct TrainedLoader(pub Device);

impl EncoderLoader for TrainedLoader {
    fn load(
        &self,
        registry: &Registry,
        version: ModelVersion,
    ) -> Result<Arc<dyn Encoder>, LoadError> {
        let name = version.name.clone();
        let encoder = TrainedEncoder::load(registry, version, &self.0);
        let encoder = encoder.map_err(|error| LoadError {
            version: name,
            problem: error.to_string(),
        })?;
        Ok(Arc::new(encoder))
    }
}
