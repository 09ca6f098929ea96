//! Items in the order of their ids.
//!
//! Servers sort by one field of numbers. Where more points than are wanted have the same number, the next number of the key decides among them, and so
//! on; the points with one number are read as a whole only where the keys are equal as far as there are numbers.

use std::cell::Cell;

use perennial_gallery::{Filter, ItemId, Page, StoredItem};
use serde_json::{Value, json};

use super::order::{MAX_PIECES, field, pieces};
use super::reading;
use super::row::Row;
use super::view::{Conditions, Filled, View};
use crate::failure::{Failure, damaged};
use crate::qdrant::PointId;

/// Points of a group that are read at a time.
const AT_ONCE: usize = 4096;
/// A number with this in its low bits is followed by another one.
const FULL: u64 = 6;

/// Up to `limit` items after an id.
pub(super) fn page(
    view: &View<'_>,
    after: Option<&ItemId>,
    limit: usize,
    filter: &Filter,
    with_embeddings: bool,
) -> Result<Page, Failure> {
    if filter.matches_nothing() {
        return Ok(Page::default());
    }
    let spaces = view.filled(filter);
    let mut found: Vec<(ItemId, usize, PointId)> = Vec::new();
    for (at, space) in spaces.iter().enumerate() {
        let reader = Reader {
            view,
            collection: space.collection(view.server),
            space,
            conditions: view.visible().filter(filter),
            after,
            at_once: Cell::new(usize::MAX),
        };
        let start = after.map(pieces);
        let first = reader.first(0, &[], start.as_deref(), limit + 1)?;
        found.extend(first.into_iter().map(|(id, point)| (id, at, point)));
    }
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let more = found.len() > limit;
    found.truncate(limit);
    let items = in_order(view, &spaces, &found, with_embeddings)?;
    let next = items.last().filter(|_| more);
    Ok(Page {
        next: next.map(|last| last.id.clone()),
        items,
    })
}

/// The items of some points, in their order.
fn in_order(
    view: &View<'_>,
    spaces: &[Filled<'_>],
    found: &[(ItemId, usize, PointId)],
    with_embeddings: bool,
) -> Result<Vec<StoredItem>, Failure> {
    let mut items = Vec::with_capacity(found.len());
    for (at, space) in spaces.iter().enumerate() {
        let of_space = found.iter().filter(|(_, of, _)| *of == at);
        let points: Vec<PointId> = of_space.map(|(_, _, point)| point.clone()).collect();
        items.extend(reading::stored(view, space, &points, with_embeddings)?);
    }
    items.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(items)
}

struct Reader<'a> {
    view: &'a View<'a>,
    collection: String,
    space: &'a Filled<'a>,
    conditions: Conditions,
    after: Option<&'a ItemId>,
    /// How many points the server gives at once, in order, as far as it is known.
    at_once: Cell<usize>,
}

type Found = Vec<(ItemId, PointId)>;

/// Points in the order of a number.
type Ordered = Vec<(ItemId, PointId, u64)>;

impl Reader<'_> {
    /// The first `wanted` ids that begin with some numbers. `start` has the numbers of the id to come after, where it begins with the same.
    fn first(
        &self,
        level: usize,
        prefix: &[u64],
        start: Option<&[u64]>,
        wanted: usize,
    ) -> Result<Found, Failure> {
        let mut found = Vec::new();
        if level >= MAX_PIECES.min(self.space.known.levels) {
            self.whole_group(prefix, &mut found)?;
            found.sort_unstable();
            found.truncate(wanted);
            return Ok(found);
        }
        let mut from = start.map_or(0, |start| start[level]);
        loop {
            let need = wanted - found.len();
            let (rows, asked) = self.ordered(level, prefix, from, need + 1)?;
            let is_all = rows.len() < asked;
            let Some(&(_, _, last)) = rows.last() else {
                break;
            };
            for (id, point, piece) in rows {
                // What has the last number may have more like it, unless it is a whole key.
                if is_all || piece < last || last & 7 != FULL {
                    self.take(id, point, &mut found);
                }
            }
            if is_all {
                break;
            }
            if last & 7 == FULL && found.len() < wanted {
                let prefix = [prefix, &[last]].concat();
                let start = start.filter(|start| start[level] == last);
                found.sort_unstable();
                found.extend(self.first(level + 1, &prefix, start, wanted - found.len())?);
            }
            if found.len() >= wanted {
                break;
            }
            from = last + 1;
        }
        found.sort_unstable();
        found.truncate(wanted);
        Ok(found)
    }

    fn take(&self, id: ItemId, point: PointId, found: &mut Found) {
        if self.after.is_none_or(|after| id > *after) {
            found.push((id, point));
        }
    }

    fn group(&self, prefix: &[u64]) -> Conditions {
        let mut conditions = self.conditions.clone();
        for (level, piece) in prefix.iter().enumerate() {
            conditions = conditions.and(json!({"key": field(level), "match": {"value": piece}}));
        }
        conditions
    }

    /// Up to `limit` points in the order of a number, from one on, each with its id and the number; fewer where the server does not give so many at once.
    /// Also how many were asked for.
    fn ordered(
        &self,
        level: usize,
        prefix: &[u64],
        from: u64,
        limit: usize,
    ) -> Result<(Ordered, usize), Failure> {
        let body = json!({
            "filter": self.group(prefix).json(),
            "order_by": {"key": field(level), "direction": "asc", "start_from": from},
            "with_payload": ["key"],
            "with_vector": false,
        });
        let asked = limit.min(self.at_once.get());
        let mut at_once = asked;
        let page = self
            .view
            .server
            .scroll(&self.collection, body, &mut at_once)?;
        if at_once < asked {
            self.at_once.set(at_once);
        }
        let rows = page.points.into_iter().map(|row: Row| {
            let id = row.item_id()?;
            let piece = pieces(&id).get(level).copied();
            let piece = piece.ok_or_else(|| damaged("a key without its numbers"))?;
            Ok((id, row.id, piece))
        });
        Ok((rows.collect::<Result<_, Failure>>()?, at_once))
    }

    /// Every point of a group.
    fn whole_group(&self, prefix: &[u64], found: &mut Found) -> Result<(), Failure> {
        let body = json!({
            "filter": self.group(prefix).json(), "with_payload": ["key"], "with_vector": false,
        });
        let mut from = Value::Null;
        let mut at_once = AT_ONCE;
        loop {
            let mut body = body.clone();
            if !from.is_null() {
                body["offset"] = from;
            }
            let page = self
                .view
                .server
                .scroll(&self.collection, body, &mut at_once)?;
            for row in page.points {
                self.take(row.item_id()?, row.id, found);
            }
            match page.next_page_offset {
                Some(next) => from = json!(next),
                None => return Ok(()),
            }
        }
    }
}
