//! Canaries of imported encoders: embeddings of fixed inputs, recorded at import among the version's own files, which every load on every
//! machine must reproduce. They notice what no checksum does: another build of the runtime, another execution provider, a processor that
//! saturates 8-bit products.

use std::path::Path;

use perennial_core::{ModelVersion, Registry, read_at_most};

use crate::loaded_model::{EncoderLoader, LoadError, LoadedModel};
use crate::probe_file::{Compared, MAX_FILE_BYTES, Probes, TOLERANCE, metadata};

/// The name of their file in a version's folder.
pub const CANARY_FILE: &str = "canaries.safetensors";

const FORMAT: &str = "perennial-canaries";

/// The file of canaries of a model, to be published with it.
///
/// **Errors**: why the fixed inputs have no embeddings.
pub fn canaries_of(model: &LoadedModel) -> Result<Vec<u8>, String> {
    let probes = Probes::generated(model).map_err(|error| error.to_string())?;
    let bytes = probes.to_bytes(FORMAT, model.version.dim, &[]);
    bytes.map_err(|error| error.to_string())
}

impl LoadedModel {
    /// Loads a version, checks that the encoder is the one that `model.toml` describes, and compares it with its canaries where it has some.
    ///
    /// # Errors
    /// [`LoadError`]: from the loader; a network that does not take square images of 1 or 3 channels; canaries that cannot be read;
    /// embeddings that differ from the recorded ones.
    pub fn load(
        loader: &dyn EncoderLoader,
        registry: &Registry,
        version: ModelVersion,
    ) -> Result<Self, LoadError> {
        let model = Self::without_canaries(loader, registry, version)?;
        let files = model.version.outside().map(|outside| &outside.files);
        let mut names = files.into_iter().flatten().map(|file| file.name.as_str());
        if names.any(|name| name == CANARY_FILE) {
            let path = registry.file_path(&model.version, CANARY_FILE);
            compare(&model, &path).map_err(|problem| LoadError {
                version: model.name().to_owned(),
                problem,
            })?;
        }
        Ok(model)
    }
}

/// Compares a model with its canaries.
fn compare(model: &LoadedModel, path: &Path) -> Result<(), String> {
    let bytes = read_at_most(path, MAX_FILE_BYTES)
        .map_err(|error| format!("{CANARY_FILE} cannot be read: {}", error.kind()))?;
    let damaged = |problem: String| format!("{CANARY_FILE} {problem}");
    metadata(&bytes, FORMAT).map_err(damaged)?;
    let canaries = Probes::from_bytes(&bytes, model.version.dim).map_err(damaged)?;
    match canaries.compare(model).map_err(|error| error.to_string())? {
        Compared::Same(_) => Ok(()),
        Compared::Changed { probe, distance } => Err(format!(
            "canary {probe}: the embedding differs by {distance:.1e} from the one recorded at import (limit {TOLERANCE:.0e}); this build, processor or execution provider computes something else"
        )),
    }
}
