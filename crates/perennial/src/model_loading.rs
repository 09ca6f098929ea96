//! How commands and the service get their encoders from a registry: networks that were trained here, on the device of this program, and encoders
//! of other programs.

use std::sync::Arc;

use perennial_core::{ModelVersion, OutsideEncoder, Registry};
use perennial_encode::Encoder;
use perennial_train::{Device, TrainedEncoder};
use perennial_upgrade::{EncoderLoader, LoadError};

/// Loads versions; networks that were trained here go onto this device.
pub struct VersionLoader(pub Device);

impl EncoderLoader for VersionLoader {
    fn load(
        &self,
        registry: &Registry,
        version: ModelVersion,
    ) -> Result<Arc<dyn Encoder>, LoadError> {
        let name = version.name.clone();
        let loaded = match version.outside() {
            Some(outside) => load_outside(registry, &version, outside),
            None => TrainedEncoder::load(registry, version, &self.0)
                .map(|encoder| Arc::new(encoder) as Arc<dyn Encoder>)
                .map_err(|error| error.to_string()),
        };
        loaded.map_err(|problem| LoadError {
            version: name,
            problem,
        })
    }
}

/// **Errors**: files that are damaged or that the runtime refuses.
#[cfg(feature = "onnx")]
fn load_outside(
    registry: &Registry,
    version: &ModelVersion,
    outside: &OutsideEncoder,
) -> Result<Arc<dyn Encoder>, String> {
    let folder = registry
        .verified_folder(version)
        .map_err(|error| error.to_string())?;
    let model = perennial_encode::OutsideModel::load(&version.name, version.dim, outside, &folder);
    match model {
        Ok(model) => Ok(Arc::new(model)),
        Err(error) => Err(error.to_string()),
    }
}

/// **Errors**: always, in this build.
#[cfg(not(feature = "onnx"))]
fn load_outside(
    _: &Registry,
    _: &ModelVersion,
    _: &OutsideEncoder,
) -> Result<Arc<dyn Encoder>, String> {
    Err("it has the encoder of another program, which needs a program that was built with the feature `onnx` (cargo build --features onnx)".to_owned())
}
