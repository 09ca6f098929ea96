//! Items by id, samples, and everything.

use std::collections::{BTreeSet, HashMap};

use perennial_core::SpaceId;
use perennial_gallery::{Filter, ItemId, StoredItem};
use serde_json::{Value, json};

use super::order::{key, place};
use super::row::Row;
use super::view::{Filled, View};
use crate::failure::Failure;
use crate::qdrant::PointId;

/// Keys of one condition.
pub(super) const KEYS: usize = 1000;
/// Points that are read at a time, with everything or without.
const WHOLE: usize = 1000;
const BARE: usize = 4096;

/// The items of these ids, in this order.
pub(super) fn items(
    view: &View<'_>,
    ids: &[ItemId],
    with_embeddings: bool,
) -> Result<Vec<StoredItem>, Failure> {
    let keys: BTreeSet<String> = ids.iter().map(key).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    let everything = Filter::everything();
    let mut found: HashMap<ItemId, StoredItem> = HashMap::with_capacity(keys.len());
    for space in view.filled(&everything) {
        for some in keys.chunks(KEYS) {
            let conditions = view.visible().keys(some).json();
            let mut points = Vec::new();
            scan(view, &space, &conditions, false, |row| {
                points.push(row.id);
                Ok(())
            })?;
            for item in stored(view, &space, &points, with_embeddings)? {
                found.insert(item.id.clone(), item);
            }
        }
    }
    // An id may be asked for more than once.
    Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect())
}

/// The items of some points of a space, in any order.
pub(super) fn stored(
    view: &View<'_>,
    space: &Filled<'_>,
    points: &[PointId],
    with_embeddings: bool,
) -> Result<Vec<StoredItem>, Failure> {
    if points.is_empty() {
        return Ok(Vec::new());
    }
    let collection = space.collection(view.server);
    let rows = view.server.retrieve(&collection, points, with_embeddings)?;
    let rows = rows.into_iter();
    rows.map(|row| row.item(space.name, space.known.dim, with_embeddings))
        .collect()
}

/// Calls `take` with every point of a space that meets the conditions: with all of it, or with its id alone.
pub(super) fn scan(
    view: &View<'_>,
    space: &Filled<'_>,
    conditions: &Value,
    whole: bool,
    mut take: impl FnMut(Row) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let collection = space.collection(view.server);
    let mut at_once = if whole { WHOLE } else { BARE };
    let mut from: Option<PointId> = None;
    loop {
        let mut body = json!({"filter": conditions, "with_payload": whole, "with_vector": whole});
        if let Some(from) = &from {
            body["offset"] = json!(from);
        }
        let page = view.server.scroll(&collection, body, &mut at_once)?;
        for row in page.points {
            take(row)?;
        }
        match page.next_page_offset {
            None => return Ok(()),
            next => from = next,
        }
    }
}

/// The vectors that follow a place, drawn by the seed, in the random order of a space, from its start again at its end.
pub(super) fn sample(
    view: &View<'_>,
    name: &SpaceId,
    limit: usize,
    seed: u64,
) -> Result<Vec<f32>, Failure> {
    let everything = Filter::everything();
    let spaces = view.filled(&everything);
    let Some(space) = spaces.iter().find(|space| space.name == name.as_str()) else {
        return Ok(Vec::new());
    };
    let start = place(&seed.to_le_bytes());
    let mut points = in_random_order(view, space, start, limit)?;
    if points.len() < limit {
        let mut again = in_random_order(view, space, 0, limit)?;
        again.retain(|(place, _)| *place < start);
        again.truncate(limit - points.len());
        points.extend(again);
    }
    let ids: Vec<PointId> = points.into_iter().map(|(_, point)| point).collect();
    let rows = view
        .server
        .retrieve(&space.collection(view.server), &ids, true)?;
    let mut by_id: HashMap<PointId, Row> =
        rows.into_iter().map(|row| (row.id.clone(), row)).collect();
    let mut vectors = Vec::with_capacity(ids.len() * space.known.dim);
    for id in &ids {
        if let Some(row) = by_id.get_mut(id) {
            vectors.extend(row.take_vector(space.known.dim)?);
        }
    }
    Ok(vectors)
}

/// Up to `limit` points from a place on, with their places.
fn in_random_order(
    view: &View<'_>,
    space: &Filled<'_>,
    start: u64,
    limit: usize,
) -> Result<Vec<(u64, PointId)>, Failure> {
    let collection = space.collection(view.server);
    let conditions = view.visible().json();
    let mut found: BTreeSet<(u64, PointId)> = BTreeSet::new();
    let mut from = start;
    while found.len() < limit {
        let mut at_once = BARE.min(limit - found.len() + 1);
        let body = json!({
            "filter": conditions,
            "order_by": {"key": "place", "direction": "asc", "start_from": from},
            "with_payload": ["key"],
            "with_vector": false,
        });
        let page = view.server.scroll(&collection, body, &mut at_once)?;
        let (read, before) = (page.points.len(), found.len());
        for row in page.points {
            let place = place(key(&row.item_id()?).as_bytes());
            from = from.max(place);
            found.insert((place, row.id));
        }
        // The last one of a page is the first one of the next.
        if read < at_once || found.len() == before {
            break;
        }
    }
    Ok(found.into_iter().take(limit).collect())
}
