//! What moved while the parts of a gallery were searched. Each part is searched by itself, so an item that moves from one to another meanwhile may be
//! found in both, or in neither. Most of what is written does not move: a store that counts moves says so, and for others every write may be one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use perennial_core::SpaceId;
use perennial_gallery::{ItemId, Moves};
use perennial_upgrade::{PartHits, SearchPlan, Stored};

use crate::blocking::blocking;
use crate::error::ApiError;
use crate::gallery::Gallery;
use crate::writes::Over;

/// A moment before parts are searched.
pub(super) struct Before {
    over: Over,
    /// The moves until then, where the store counts them.
    moves: Option<Moves>,
    /// What the gallery held then, where other processes write to it as well, and items move from part to part.
    stored: Option<Arc<Stored>>,
}

/// What is to be searched again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Again {
    Nothing,
    /// These parts of the plan.
    Parts(Vec<usize>),
    /// Everything, by another plan: a space has items that the plan does not know.
    Plan,
}

impl Before {
    /// This moment.
    pub(super) fn now(gallery: &Gallery) -> Self {
        Self {
            over: gallery.writes.over(),
            moves: gallery.store.moves(),
            stored: None,
        }
    }

    /// The same moment, for a search by a plan that was made of `stored`.
    pub(super) fn of(mut self, gallery: &Gallery, stored: &Arc<Stored>, plan: &SearchPlan) -> Self {
        let watched = gallery.store.is_shared() && plan.parts.len() > 1;
        self.stored = watched.then(|| Arc::clone(stored));
        self
    }

    /// The spaces into which items may have moved since, and this moment; blocks where other processes write as well. A write of theirs is noticed by the
    /// number of items that a space has after it.
    fn moved(&self, gallery: &Gallery) -> (BTreeSet<String>, Self) {
        let mut now = Self::now(gallery);
        if let Some((before, moves)) = self.moves.as_ref().zip(now.moves.as_ref()) {
            return (moves.since(before), now);
        }
        let mut written = gallery.writes.since(&self.over);
        now.stored = self.stored.clone();
        if let Some(before) = &self.stored {
            match Stored::of(&*gallery.store) {
                Ok(counted) => {
                    let counts = counted.per_version.iter();
                    let grown = counts
                        .filter(|(space, count)| before.per_version.get(*space) != Some(count));
                    written.extend(grown.map(|(space, _)| space.clone()));
                    now.stored = Some(Arc::new(counted));
                }
                Err(error) => {
                    tracing::warn!(%error, "the gallery could not be counted after a search")
                }
            }
        }
        (written, now)
    }
}

/// The spaces into which items may have moved since a moment, and the present one.
///
/// # Errors
/// 500 where the service ends.
pub(super) async fn moved_since(
    before: Before,
    gallery: &Arc<Gallery>,
) -> Result<(BTreeSet<String>, Before), ApiError> {
    if before.stored.is_none() {
        return Ok(before.moved(gallery));
    }
    let gallery = Arc::clone(gallery);
    blocking(move || Ok(before.moved(&gallery))).await
}

/// What is to be searched again after items came into some spaces. `among` are the only versions that are searched, where there are such.
pub(super) fn again(
    plan: &SearchPlan,
    among: Option<&[String]>,
    spaces: &BTreeSet<String>,
) -> Again {
    let mut places = BTreeSet::new();
    for space in spaces {
        let is_it = |one: &SpaceId| one.as_str() == space;
        let place = plan
            .parts
            .iter()
            .position(|part| part.spaces.iter().any(is_it));
        let left_out = plan.not_searched.iter().any(|left| is_it(&left.space))
            || among.is_some_and(|among| !among.contains(space));
        match place {
            Some(place) => {
                places.insert(place);
            }
            None if left_out => {}
            None => return Again::Plan,
        }
    }
    // One search has one view of everything that it searches.
    match places.is_empty() || plan.parts.len() == 1 {
        true => Again::Nothing,
        false => Again::Parts(places.into_iter().collect()),
    }
}

/// The parts in which there is an item that another one has as well: it was deleted from one and then stored in the other, which is no move.
pub(super) fn found_twice(parts: &BTreeMap<usize, PartHits>) -> Vec<usize> {
    let mut first: HashMap<&ItemId, usize> = HashMap::new();
    let mut places = BTreeSet::new();
    for (&place, part) in parts {
        for hit in &part.hits {
            let before = *first.entry(&hit.id).or_insert(place);
            if before != place {
                places.extend([before, place]);
            }
        }
    }
    places.into_iter().collect()
}

/// Puts parts that were searched again in the place of what they gave before. What they found is no longer where other parts found it.
pub(super) fn take_in(parts: &mut BTreeMap<usize, PartHits>, again: BTreeMap<usize, PartHits>) {
    let moved: HashSet<ItemId> = again
        .values()
        .flat_map(|part| part.hits.iter().map(|hit| hit.id.clone()))
        .collect();
    for (place, part) in parts.iter_mut() {
        if !again.contains_key(place) {
            part.hits.retain(|hit| !moved.contains(&hit.id));
        }
    }
    parts.extend(again);
}

#[cfg(test)]
mod tests {
    use perennial_gallery::Hit;
    use perennial_upgrade::{
        CertifiedWay, LeftOutCause, NotSearched, PartScale, PlannedPart, ScoreCalibration,
    };

    use super::*;

    fn space(name: &str) -> SpaceId {
        SpaceId::new(name).unwrap()
    }

    fn plan(parts: &[&[&str]]) -> SearchPlan {
        let part = |spaces: &&[&str]| PlannedPart {
            spaces: spaces.iter().map(|name| space(name)).collect(),
            dim: 3,
            way: CertifiedWay::Own,
            basis: String::new(),
            undecided: false,
            items: 1,
            thresholds: None,
            merge: None,
            expected: Vec::new(),
            fallback: None,
        };
        SearchPlan {
            parts: parts.iter().map(part).collect(),
            not_searched: vec![NotSearched {
                space: space("v0009"),
                items: 1,
                cause: LeftOutCause::NotCertified,
                reason: String::new(),
            }],
            ..SearchPlan::default()
        }
    }

    #[test]
    fn only_what_was_written_to_is_searched_again() {
        let two = plan(&[&["v0001", "v0002"], &["v0003"]]);
        let after = |plan: &SearchPlan, among: Option<&[String]>, written: &[&str]| {
            let written = written.iter().map(|space| (*space).to_owned()).collect();
            again(plan, among, &written)
        };
        assert_eq!(after(&two, None, &[]), Again::Nothing);
        assert_eq!(after(&two, None, &["v0003"]), Again::Parts(vec![1]));
        let all = &["v0001", "v0002", "v0003"];
        assert_eq!(after(&two, None, all), Again::Parts(vec![0, 1]));
        // Left out before and after.
        assert_eq!(after(&two, None, &["v0009"]), Again::Nothing);
        assert_eq!(after(&two, None, &["v0003", "v0004"]), Again::Plan);
        let among = ["v0001".to_owned()];
        assert_eq!(after(&two, Some(&among), &["v0004"]), Again::Nothing);
        let one = plan(&[&["v0001", "v0002"]]);
        assert_eq!(after(&one, None, &["v0002"]), Again::Nothing);
        assert_eq!(after(&one, None, &["v0004"]), Again::Plan);
    }

    #[test]
    fn what_was_found_later_counts() {
        let part = |ids: &[u64]| PartHits {
            hits: ids
                .iter()
                .map(|&id| Hit {
                    id: id.into(),
                    score: 0.5,
                    model_version: "v0001".to_owned(),
                    label: None,
                    payload: serde_json::Map::new(),
                })
                .collect(),
            calibration: ScoreCalibration::default(),
            scale: PartScale::Usual,
        };
        let mut parts = BTreeMap::from([(0, part(&[1, 2])), (1, part(&[3])), (2, part(&[4]))]);
        assert!(found_twice(&parts).is_empty());
        let twice = [(0, part(&[1, 2])), (1, part(&[3])), (2, part(&[4, 2]))];
        assert_eq!(found_twice(&BTreeMap::from(twice)), [0, 2]);
        take_in(&mut parts, BTreeMap::from([(1, part(&[2, 3]))]));
        let ids: Vec<Vec<String>> = parts
            .values()
            .map(|part| part.hits.iter().map(|hit| hit.id.to_string()).collect())
            .collect();
        assert_eq!(ids, [vec!["1"], vec!["2", "3"], vec!["4"]]);
    }
}
