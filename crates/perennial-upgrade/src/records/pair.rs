//! The two spaces of a decision, as the registry knows them.

use perennial_core::{CompatibilityRecord, Registry, SpaceId, SpaceRef};

use crate::certification::NotCertified;
use crate::public_text::in_registry;
use crate::remedy::Remedy;

/// One end of a pair: a model version, or a registered space of an outside encoder.
pub(super) struct End {
    /// As items carry it.
    pub(super) name: String,
    pub(super) space: SpaceRef,
    /// SHA-256 of a version's weights; none of an outside encoder.
    pub(super) weights: Option<String>,
}

impl End {
    /// What the registry has under this very name. An alias is no name of stored items.
    ///
    /// # Errors
    /// Why nothing can be compared with its name, as everybody may read it.
    pub(super) fn of(registry: &Registry, name: &str) -> Result<Self, String> {
        let problem = match registry.get(name) {
            Ok(version) if version.name == name => {
                return Ok(Self {
                    name: name.to_owned(),
                    space: version.space(),
                    weights: Some(version.weights_sha256),
                });
            }
            Ok(version) => format!("{name} is an alias of {}", version.name),
            Err(error) => in_registry(&error.to_string(), registry),
        };
        let spec = SpaceId::new(name)
            .ok()
            .and_then(|id| registry.space(&id).ok());
        match spec {
            Some(spec) => Ok(Self {
                name: name.to_owned(),
                space: spec.reference(),
                weights: None,
            }),
            None => Err(format!(
                "the weights of {name} cannot be compared with certificates and compatibility records: {problem}"
            )),
        }
    }
}

/// The two ends of a decision.
pub(super) struct Pair {
    pub(super) query: End,
    pub(super) gallery: End,
}

impl Pair {
    /// Whether both compute the same embeddings.
    pub(super) fn is_one_model(&self) -> bool {
        let (query, gallery) = (&self.query.space, &self.gallery.space);
        query.fingerprint.is_some() && query.fingerprint == gallery.fingerprint
    }

    /// Whether both are model versions, which compatibility records are about.
    pub(super) fn are_versions(&self) -> bool {
        self.query.weights.is_some() && self.gallery.weights.is_some()
    }

    pub(super) fn is_measured_by(&self, record: &CompatibilityRecord) -> bool {
        self.are_versions()
            && record.query_weights == self.query.weights
            && record.gallery_weights == self.gallery.weights
    }

    pub(super) fn refused(&self, reason: String, remedy: Option<Remedy>) -> NotCertified {
        NotCertified {
            query_version: self.query.name.clone(),
            gallery_version: self.gallery.name.clone(),
            reason,
            remedy,
        }
    }
}
