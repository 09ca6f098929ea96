//! The model versions of the registry, each read once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use perennial_core::{ModelVersion, Registry, RegistryError};

use crate::error::ApiError;

/// Versions by their names. They never change, so they are kept once they were read.
pub(crate) struct Versions {
    registry: Arc<Registry>,
    known: RwLock<HashMap<String, Arc<ModelVersion>>>,
}

impl Versions {
    pub(crate) fn of(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            known: RwLock::default(),
        }
    }

    /// A version by its name or an alias; blocks.
    ///
    /// # Errors
    /// 422 for a name that the registry does not know, since it came inside a body.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<ModelVersion>, ApiError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = known.get(name) {
            return Ok(Arc::clone(version));
        }
        drop(known);
        let version = match self.registry.get(name) {
            Ok(version) => Arc::new(version),
            Err(error @ RegistryError::Unknown { .. }) => {
                let error = ApiError::from(error);
                return Err(ApiError::unprocessable(format!(
                    "model_version: {}",
                    error.message
                )));
            }
            Err(error) => return Err(error.into()),
        };
        // An alias moves, so only the version's own name may be remembered.
        if version.name == name {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.insert(name.to_owned(), Arc::clone(&version));
        }
        Ok(version)
    }
}
