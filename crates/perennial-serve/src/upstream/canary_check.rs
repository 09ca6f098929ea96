//! The inputs of an upstream's canaries, and what their embeddings were when the space was registered.

use std::sync::Mutex;
use std::time::Duration;

use perennial_core::{Registry, SpaceSpec};
use perennial_upgrade::{Canaries, CanaryInputs};

use super::settings::UpstreamConfig;
use crate::durations::seconds;

/// The canaries of one upstream, and what was found last.
pub(super) struct CanaryCheck {
    pub(super) inputs: Vec<String>,
    pub(super) registered: Canaries,
    pub(super) every: Duration,
    /// What is wrong, if anything.
    pub(super) problem: Mutex<Option<String>>,
}

impl CanaryCheck {
    /// Reads the inputs and the registered embeddings; none where no file of inputs is set.
    ///
    /// # Errors
    /// The problem: a file that cannot be read, or another number of inputs than of embeddings.
    pub(super) fn new(
        config: &UpstreamConfig,
        spec: &SpaceSpec,
        registry: &Registry,
    ) -> Result<Option<Self>, String> {
        let Some(path) = &config.canary_inputs else {
            return Ok(None);
        };
        let registered = Canaries::of(registry, spec)
            .map_err(|error| error.to_string())?
            .ok_or_else(|| {
                format!(
                    "space {} was registered without canaries; register it with `perennial spaces add --canaries FILE`",
                    spec.name
                )
            })?;
        let inputs = CanaryInputs::read(path)
            .and_then(|inputs| inputs.of_space(&spec.name, &registered))
            .map_err(|error| error.to_string())?;
        Ok(Some(Self {
            inputs,
            registered,
            every: seconds(config.canary_seconds),
            problem: Mutex::default(),
        }))
    }
}
