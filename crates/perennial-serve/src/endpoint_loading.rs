//! Loading versions for a service, whose requests end after a time that their embedding services must keep.

use std::sync::Arc;

use perennial_core::{ModelVersion, Registry};
use perennial_encode::Encoder;
use perennial_upgrade::{EncoderLoader, LoadError};

/// A loader that refuses versions whose embedding service may take longer than the requests that wait for it: those would end with no word about
/// it, and a service that hangs would never be put aside.
pub(crate) struct InTime {
    loader: Arc<dyn EncoderLoader>,
    request_seconds: f64,
}

impl InTime {
    /// `request_seconds` is the time that a client's request may take.
    pub(crate) fn new(loader: Arc<dyn EncoderLoader>, request_seconds: f64) -> Self {
        Self {
            loader,
            request_seconds,
        }
    }
}

impl EncoderLoader for InTime {
    fn load(
        &self,
        registry: &Registry,
        version: ModelVersion,
    ) -> Result<Arc<dyn Encoder>, LoadError> {
        let endpoint = version.outside().and_then(|it| it.endpoint.as_deref());
        if let Some(endpoint) = endpoint
            && endpoint.timeout_seconds >= self.request_seconds
        {
            let problem = format!(
                "encoder.endpoint: timeout_seconds must be below the service's timeouts.request_seconds ({}), got {}; lower it in the version's \
                 model.toml, or raise timeouts.request_seconds",
                self.request_seconds, endpoint.timeout_seconds
            );
            let version = version.name;
            return Err(LoadError { version, problem });
        }
        self.loader.load(registry, version)
    }
}
