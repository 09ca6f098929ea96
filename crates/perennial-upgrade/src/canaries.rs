//! Canaries: embeddings of a few fixed inputs, by which a change of an outside encoder is noticed.

use perennial_core::{ItemId, Registry, RegistryError, SimilarityError, SpaceSpec, normalize_rows};
use perennial_formats::{FormatError, VectorSet};
use thiserror::Error;

/// Largest distance between a canary's embedding and the one that was registered, both of length 1.
pub const CANARY_TOLERANCE: f64 = 0.01;

/// The registered canaries of a space.
#[derive(Debug, Clone)]
pub struct Canaries {
    set: VectorSet,
}

/// Canaries that cannot be read or compared.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CanaryError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The file.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A vector without a direction.
    #[error(transparent)]
    Similarity(#[from] SimilarityError),
    /// The file could not be written aside.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Other inputs than those registered.
    #[error(
        "there are {found} vectors of {found_dim} dimensions, but {known} of {dim} are registered; embed the same inputs in the same order"
    )]
    Shape {
        /// Vectors given.
        found: usize,
        /// Their dimension.
        found_dim: usize,
        /// Vectors registered.
        known: usize,
        /// Their dimension.
        dim: usize,
    },
}

impl Canaries {
    /// The canaries of a registered space, verified against its fingerprint; none where the space has none.
    ///
    /// # Errors
    /// A file that is missing, was changed or cannot be read.
    pub fn of(registry: &Registry, spec: &SpaceSpec) -> Result<Option<Self>, CanaryError> {
        let Some(bytes) = registry.canaries(spec)? else {
            return Ok(None);
        };
        // Readers take files, since most formats are told by their content.
        let file = tempfile::NamedTempFile::new()?;
        fs_err::write(file.path(), bytes)?;
        let set = perennial_formats::read(file.path())?;
        Ok(Some(Self { set }))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The names of the inputs, where they were registered with the embeddings.
    pub fn ids(&self) -> Option<&[ItemId]> {
        self.set.ids()
    }

    /// The largest distance between a fresh embedding and the registered one, both of length 1. Above [`CANARY_TOLERANCE`], the encoder
    /// has changed.
    ///
    /// **Shapes**: `fresh` `[n, dim]`, of any length above 0, in the order of the registered ones.
    ///
    /// # Errors
    /// Another number of vectors or values, or a vector without a direction.
    pub fn largest_distance(&self, fresh: &[f32], dim: usize) -> Result<f64, CanaryError> {
        let found = fresh.len().checked_div(dim).unwrap_or(0);
        if (found, dim) != (self.len(), self.set.dim()) || found * dim != fresh.len() {
            return Err(CanaryError::Shape {
                found,
                found_dim: dim,
                known: self.len(),
                dim: self.set.dim(),
            });
        }
        let mut fresh = fresh.to_vec();
        normalize_rows(&mut fresh, dim)?;
        let distance = |(row, fresh): (usize, &[f32])| {
            let pairs = self.set.row(row).iter().zip(fresh);
            let squares = pairs.map(|(one, other)| f64::from(one - other).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let distances = fresh.chunks_exact(dim).enumerate().map(distance);
        Ok(distances.fold(0.0, f64::max))
    }
}

#[cfg(test)]
mod tests {
    use perennial_core::{Metric, Modality, Output, SpaceId};
    use perennial_formats::{Format, Header, create};

    use super::*;

    #[test]
    fn distances_are_those_of_unit_vectors() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path().join("registry")).unwrap();
        let path = folder.path().join("canaries.safetensors");
        let header = Header {
            dim: 2,
            rows: Some(2),
            space: None,
            format: Format::Safetensors,
        };
        let set = VectorSet::new(2, vec![1.0, 0.0, 0.0, 1.0]).unwrap();
        let mut writer = create(
            Output::prepare(&path).unwrap(),
            Format::Safetensors,
            &header,
        )
        .unwrap();
        writer.write(&set).unwrap();
        writer.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let spec = |name: &str| {
            SpaceSpec::new(
                SpaceId::new(name).unwrap(),
                2,
                Metric::Cosine,
                Modality::Text,
                String::new(),
                "2026-11-25T00:00:00Z".to_owned(),
            )
        };
        let with = registry.add_space(spec("with"), Some(&bytes)).unwrap();
        let without = registry.add_space(spec("without"), None).unwrap();
        assert!(Canaries::of(&registry, &without).unwrap().is_none());
        let canaries = Canaries::of(&registry, &with).unwrap().unwrap();
        assert_eq!(
            canaries.largest_distance(&[3.0, 0.0, 0.0, 2.0], 2).unwrap(),
            0.0
        );
        let turned = canaries.largest_distance(&[1.0, 0.0, 1.0, 0.0], 2).unwrap();
        assert!((turned - 2_f64.sqrt()).abs() < 1e-6, "{turned}");
        for (fresh, dim) in [(&[1.0, 0.0][..], 2), (&[1.0; 4], 4), (&[1.0; 4], 0)] {
            let error = canaries.largest_distance(fresh, dim).unwrap_err();
            assert!(
                error.to_string().contains("2 of 2 are registered"),
                "{error}"
            );
        }
        assert!(canaries.largest_distance(&[0.0; 4], 2).is_err());
    }
}
