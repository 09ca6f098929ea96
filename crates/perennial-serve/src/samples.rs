//! Samples of the stored vectors, by which the similarities of several spaces are put on one scale.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use perennial_core::SpaceId;
use perennial_gallery::{GalleryError, VectorMap, VectorStore};
use perennial_upgrade::{
    CertifiedWay, PlannedPart, SAMPLE_SEED, SAMPLE_VECTORS, ScoreCalibration, Stored,
};

/// A sample per space, kept until a fifth of the space's items has changed: by their number, or because they were stored again.
#[derive(Default)]
pub(crate) struct Samples {
    /// By space, and by the key of the map where the vectors are mapped.
    kept: RwLock<BTreeMap<(SpaceId, Option<String>), Sample>>,
}

#[derive(Clone)]
struct Sample {
    /// `[m, dim]`
    vectors: Arc<Vec<f32>>,
    /// Items of the space when the sample was drawn.
    items: u64,
    /// Items that were stored in the space since, new ones and replaced ones.
    stored: u64,
}

impl Sample {
    /// Whether it still stands for this number of items.
    fn holds(&self, items: u64) -> bool {
        // Items that were added are in both figures.
        let changed = self.items.abs_diff(items).max(self.stored);
        changed.saturating_mul(5) < self.items.max(1)
    }
}

impl Samples {
    /// What similarities of a query are usual among the items of a part, each space by its number of items; blocks where a sample must be
    /// drawn.
    ///
    /// **Shapes**: `query` is `[search_dim]`, the part's.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn calibration(
        &self,
        store: &dyn VectorStore,
        stored: &Stored,
        part: &PlannedPart,
        query: &[f32],
    ) -> Result<ScoreCalibration, GalleryError> {
        let mut parts = Vec::with_capacity(part.spaces.len());
        for space in &part.spaces {
            let items = stored.per_version.get(space.as_str()).copied();
            let items = items.unwrap_or(0);
            let vectors = self.vectors(store, space, items, part)?;
            parts.push((ScoreCalibration::of(query, &vectors), items));
        }
        Ok(ScoreCalibration::over_spaces(&parts))
    }

    fn vectors(
        &self,
        store: &dyn VectorStore,
        space: &SpaceId,
        items: u64,
        part: &PlannedPart,
    ) -> Result<Arc<Vec<f32>>, GalleryError> {
        let map = match &part.way {
            CertifiedWay::Mapped(map) => Some(map.key().to_owned()),
            _ => None,
        };
        let key = (space.clone(), map);
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sample) = kept.get(&key).filter(|sample| sample.holds(items)) {
            return Ok(Arc::clone(&sample.vectors));
        }
        drop(kept);
        // Searches that come here at once draw the same sample, which does no harm.
        let stored = store.sample(space, SAMPLE_VECTORS, SAMPLE_SEED)?;
        let vectors = Arc::new(part.compared(&stored).into_owned());
        let sample = Sample {
            vectors: Arc::clone(&vectors),
            items,
            stored: 0,
        };
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.insert(key, sample);
        Ok(vectors)
    }

    /// Notes that items were stored in a space, so that its sample is drawn anew once enough of them were.
    pub(crate) fn wrote(&self, space: &str, items: u64) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let samples = kept.iter_mut();
        for (_, sample) in samples.filter(|((id, _), _)| id.as_str() == space) {
            sample.stored = sample.stored.saturating_add(items);
        }
    }

    /// Lets go the samples of spaces that have no items any more.
    pub(crate) fn forget_emptied(&self, stored: &Stored) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(space, _), _| stored.per_version.contains_key(space.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_holds_until_a_fifth_has_changed() {
        let sample = Sample {
            vectors: Arc::default(),
            items: 100,
            stored: 0,
        };
        assert!(sample.holds(100) && sample.holds(119) && sample.holds(81));
        assert!(!sample.holds(120) && !sample.holds(80));
        let replaced = |stored| Sample {
            stored,
            ..sample.clone()
        };
        assert!(replaced(19).holds(100) && !replaced(20).holds(100));
        // 15 of them are those by which the number has grown.
        assert!(replaced(15).holds(115) && !replaced(15).holds(120));
        assert!(!replaced(u64::MAX).holds(100));
        let empty = Sample { items: 0, ..sample };
        assert!(empty.holds(0) && !empty.holds(1));
    }
}
