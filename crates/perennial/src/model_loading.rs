//! How commands and the service get their encoders from a registry: networks that were trained here, on the device of this program, and encoders
//! of other programs and embedding services.

use std::sync::Arc;

use perennial_core::{ModelVersion, OutsideEncoder, Registry};
use perennial_encode::endpoint::EndpointEncoder;
use perennial_encode::{Encoder, GraphRuntime};
use perennial_train::{Device, TrainedEncoder};
use perennial_upgrade::{EncoderLoader, LoadError};

use crate::arguments::GlobalArguments;
use crate::resident_memory::give_back;

/// Loads versions.
#[derive(Clone)]
pub struct VersionLoader {
    /// Where networks compute that were trained here.
    device: Device,
    /// What runs the graphs of other programs' encoders.
    #[cfg_attr(
        not(feature = "onnx"),
        allow(dead_code, reason = "a build without them loads none")
    )]
    runtime: GraphRuntime,
}

impl VersionLoader {
    pub fn new(device: Device, runtime: GraphRuntime) -> Self {
        Self { device, runtime }
    }

    /// As the options of a command say.
    pub fn of(global: &GlobalArguments) -> anyhow::Result<Self> {
        let runtime = global.onnxruntime.clone().into();
        Ok(Self::new(global.device.open()?, runtime))
    }
}

impl EncoderLoader for VersionLoader {
    fn load(
        &self,
        registry: &Registry,
        version: ModelVersion,
    ) -> Result<Arc<dyn Encoder>, LoadError> {
        let name = version.name.clone();
        let endpoint = version.outside().and_then(|it| it.endpoint.as_deref());
        let loaded = match (endpoint, version.outside()) {
            (Some(endpoint), _) => EndpointEncoder::new(&name, version.dim, endpoint)
                .map(|encoder| Arc::new(encoder) as Arc<dyn Encoder>),
            (None, Some(outside)) => load_outside(registry, &version, outside, &self.runtime),
            (None, None) => TrainedEncoder::load(registry, version, &self.device)
                .map(|encoder| Arc::new(encoder) as Arc<dyn Encoder>)
                .map_err(|error| error.to_string()),
        };
        // What reading the files took.
        give_back();
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
    runtime: &GraphRuntime,
) -> Result<Arc<dyn Encoder>, String> {
    let folder = registry
        .verified_folder(version)
        .map_err(|error| error.to_string())?;
    let (name, dim) = (&version.name, version.dim);
    match perennial_encode::OutsideModel::load(name, dim, outside, &folder, runtime) {
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
    _: &GraphRuntime,
) -> Result<Arc<dyn Encoder>, String> {
    Err("it has the encoder of another program, which needs a program that was built with the feature `onnx` (cargo build --features onnx)".to_owned())
}
