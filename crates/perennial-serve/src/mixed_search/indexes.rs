//! Whether the indexes of mapped vectors are there that a plan goes through.

use perennial_core::SpaceId;
use perennial_upgrade::{Need, PlannedPart, SearchPlan};

use crate::gallery::Gallery;

/// Whether a plan goes through an index of mapped vectors that is not there.
pub(super) fn lacks_index(gallery: &Gallery, plan: &SearchPlan) -> bool {
    plan.parts
        .iter()
        .any(|part| missing(gallery, part).is_some())
}

/// The space whose mapped vectors a part searches, where their index is not there.
pub(super) fn missing<'p>(gallery: &Gallery, part: &'p PlannedPart) -> Option<&'p SpaceId> {
    let mut spaces = part.spaces.iter();
    spaces.find(|space| match part.way.need(space.as_str()) {
        Some(need @ Need::MappedIndex { .. }) => !gallery.is_mapped(need),
        Some(Need::OldEncoder(_)) | None => false,
    })
}
