//! From a request to hits: filtering, ranking and reading the rows.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use perennial_core::SpaceId;
use rayon::prelude::*;

use super::batch_scan::nearest_batch;
use super::graph::Graph;
use super::mapped::MappedView;
use super::ranking::Ranked;
use super::record::Record;
use super::rows::{Rows, SlotSet};
use super::scan;
use super::state::{RowsId, Shared, State};
use crate::error::GalleryError;
use crate::filter::Filter;
use crate::id_key::id_key;
use crate::item::{Hit, StoredItem};
use crate::payload::fingerprint;
use crate::request_checks::check_dim_of_space;
use crate::store::SearchRequest;

/// A filter that leaves less than this share of the rows is answered by comparing with all of them: a graph search would
/// wander through rows that do not count.
const SELECTIVE: usize = 20;
/// A graph that lacks more than this share of the rows is left alone until it has caught up.
const TAIL_SHARE: usize = 4;
/// From so many queries on, rows are compared with all of them at once.
const BATCH: usize = 4;
/// Rows asked of the graph beyond those wanted, since it compares in 8 bits.
const GRAPH_SPARE: usize = 6;

/// The rows that a search may find; `None` for all slots.
pub(super) type Allowed<'a> = Option<Cow<'a, SlotSet>>;

/// The rows of a partition, of some spaces or of all, that may pass a filter. Its payload conditions are only fingerprints here:
/// [`passes_payload`] decides.
pub(super) fn allowed<'a>(
    shared: &Shared,
    state: &'a State,
    rows: &'a Rows,
    spaces: Option<&[SpaceId]>,
    filter: &Filter,
) -> Result<Allowed<'a>, GalleryError> {
    let names = state.layout.names();
    let searched: Vec<bool> = match spaces {
        None => vec![true; names.len()],
        Some(spaces) => {
            let named: HashSet<&str> = spaces.iter().map(SpaceId::as_str).collect();
            let is_named = |name: &String| named.contains(name.as_str());
            names.iter().map(is_named).collect()
        }
    };
    let mut items = rows.per_version().iter().zip(&searched);
    let all_searched = items.all(|(&items, &searched)| searched || items == 0);
    if filter.is_empty() && all_searched {
        let all_alive = rows.live() == rows.slots();
        return Ok((!all_alive).then(|| Cow::Borrowed(rows.alive())));
    }
    if filter.matches_nothing() {
        return Ok(Some(Cow::Owned(SlotSet::default())));
    }
    let wanted = filter.model_versions.as_ref();
    let of_version = |(name, searched): (&String, bool)| {
        searched && wanted.is_none_or(|wanted| wanted.contains(name))
    };
    let versions: Vec<bool> = names.iter().zip(searched).map(of_version).collect();
    let pairs = filter.payload.as_ref().map_or(0, fingerprint);
    let passes = |segment: &super::rows::Segment, row: usize| {
        versions[segment.versions[row] as usize]
            && segment.fingerprints[row] & pairs == pairs
            && filter
                .labels
                .as_ref()
                .is_none_or(|l| l.matches(segment.label(row)))
    };
    let Some(ids) = &filter.ids else {
        return Ok(Some(Cow::Owned(
            shared.pool.install(|| rows.select(passes)),
        )));
    };
    let mut set = SlotSet::default();
    for id in ids {
        let row = state.reader()?.row(&id_key(id))?;
        if let Some(slot) = row.and_then(|row| rows.slot(row)) {
            let (segment, at) = rows.place(slot);
            if rows.alive().contains(slot) && passes(segment, at) {
                set.insert(slot);
            }
        }
    }
    Ok(Some(Cow::Owned(set)))
}

/// Whether a record meets the payload conditions for certain.
pub(super) fn passes_payload(filter: &Filter, record: &Record<'_>) -> Result<bool, String> {
    Ok(filter.payload.is_none() || filter.matches_payload(&record.payload()?))
}

/// The best items for each query of a request, whose spaces have the queries' dimension.
///
/// A partition is searched once, however many of its spaces are named, and the partitions' hits are merged by their score.
pub(super) fn search(
    shared: &Shared,
    state: &State,
    request: &SearchRequest<'_>,
) -> Result<Vec<Vec<Hit>>, GalleryError> {
    let mut found = vec![Vec::new(); request.queries.len() / request.dim];
    let homes = request.spaces.iter();
    let homes = homes.filter_map(|space| state.layout.home_of(space.as_str()));
    let partitions: BTreeSet<u32> = homes.map(|(partition, _)| partition).collect();
    // One after the other: a scan uses all threads anyway, and waking one costs more than a search in a graph.
    for number in partitions {
        let Some(rows) = state.partitions.get(&number).filter(|rows| rows.live() > 0) else {
            continue;
        };
        let part = Part {
            shared,
            state,
            id: RowsId::Partition(number),
            rows,
            filter: request.filter,
            limit: request.limit,
            exact: request.exact,
        };
        let hits = part.search(request.queries, request.spaces)?;
        for (found, hits) in found.iter_mut().zip(hits) {
            merge(found, hits, request.limit);
        }
    }
    Ok(found)
}

/// The same by mapped vectors, of one map.
pub(super) fn search_mapped(
    shared: &Shared,
    state: &State,
    key: &str,
    request: &SearchRequest<'_>,
) -> Result<Vec<Vec<Hit>>, GalleryError> {
    let mut found = vec![Vec::new(); request.queries.len() / request.dim];
    for space in request.spaces {
        let view = MappedView::of(shared, state, space, key);
        let view = view.ok_or_else(|| GalleryError::NotMapped {
            space: space.to_string(),
        })?;
        check_dim_of_space(request, space, view.rows.dim())?;
        for (rows, exact) in [(view.rows, request.exact), (&view.rest, true)] {
            if rows.live() == 0 {
                continue;
            }
            let part = Part {
                shared,
                state,
                id: view.id,
                rows,
                filter: request.filter,
                limit: request.limit,
                exact,
            };
            let hits = part.search(request.queries, std::slice::from_ref(space))?;
            for (found, hits) in found.iter_mut().zip(hits) {
                merge(found, hits, request.limit);
            }
        }
    }
    Ok(found)
}

/// Adds the hits of another partition.
fn merge(found: &mut Vec<Hit>, more: Vec<Hit>, limit: usize) {
    if found.is_empty() {
        *found = more;
        return;
    }
    found.extend(more);
    sort(found);
    found.truncate(limit);
}

/// Best first, equals in the order of their ids.
fn sort(hits: &mut [Hit]) {
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
}

/// One partition as a search sees it.
struct Part<'a> {
    shared: &'a Shared,
    state: &'a State,
    id: RowsId,
    rows: &'a Rows,
    filter: &'a Filter,
    limit: usize,
    exact: bool,
}

impl Part<'_> {
    fn search(&self, queries: &[f32], spaces: &[SpaceId]) -> Result<Vec<Vec<Hit>>, GalleryError> {
        let dim = self.rows.dim();
        let allowed = allowed(
            self.shared,
            self.state,
            self.rows,
            Some(spaces),
            self.filter,
        )?;
        let allowed = allowed.as_deref();
        let few = queries.len() < BATCH * dim;
        if few || self.filter.payload.is_some() {
            let queries = queries.chunks_exact(dim);
            return queries
                .map(|query| self.search_among(query, allowed))
                .collect();
        }
        if !self.exact && self.usable_graph().is_some() {
            let queries = queries.par_chunks_exact(dim);
            let search = || {
                queries
                    .map(|query| self.search_among(query, allowed))
                    .collect()
            };
            return self.shared.pool.install(search);
        }
        let scan = || nearest_batch(self.rows, queries, self.limit, allowed);
        let ranked = self.shared.pool.install(scan);
        ranked.iter().map(|ranked| self.hits(ranked)).collect()
    }

    fn search_among(
        &self,
        query: &[f32],
        allowed: Option<&SlotSet>,
    ) -> Result<Vec<Hit>, GalleryError> {
        let available = allowed.map_or(self.rows.live(), SlotSet::count);
        let mut wanted = self.limit;
        loop {
            let ranked = self.candidates(query, wanted, allowed)?;
            let hits = self.hits(&ranked)?;
            // Only payload conditions can drop candidates; the graph may also find fewer than there are.
            if hits.len() >= self.limit || wanted >= available || self.filter.payload.is_none() {
                return Ok(hits);
            }
            wanted = wanted.saturating_mul(4).min(available);
        }
    }

    /// The graph, where it covers most of the rows, and the first slot that it does not cover.
    fn usable_graph(&self) -> Option<(Arc<Graph>, usize)> {
        let graph = self.shared.graph(self.id)?;
        let rows = self.rows;
        let tail = rows.first_slot_from(graph.covered());
        let missing = rows.slots() - tail;
        (missing * TAIL_SHARE <= rows.slots()).then_some((graph, tail))
    }

    /// At least `wanted` candidates in order, fewer only where there are no more; similarities in f32.
    fn candidates(
        &self,
        query: &[f32],
        wanted: usize,
        allowed: Option<&SlotSet>,
    ) -> Result<Vec<Ranked>, GalleryError> {
        let (rows, pool) = (self.rows, &self.shared.pool);
        let count = allowed.map_or(rows.live(), SlotSet::count);
        if count == 0 {
            return Ok(Vec::new());
        }
        let scan = || Ok(pool.install(|| scan::nearest(rows, query, wanted, allowed)));
        // With few rows left, or most of them wanted, nothing is faster than looking at each.
        if self.exact || count <= 4 * wanted + 32 || count < rows.live() / SELECTIVE {
            return scan();
        }
        if let Some((graph, tail)) = self.usable_graph() {
            let passes = |number: u64| {
                let slot = rows.slot(number).filter(|&slot| slot < tail);
                slot.is_some_and(|slot| allowed.unwrap_or(rows.alive()).contains(slot))
            };
            let all_pass = allowed.is_none() && graph.len() == tail && tail == rows.slots();
            let passes: Option<&(dyn Fn(u64) -> bool + Sync)> =
                if all_pass { None } else { Some(&passes) };
            let asked = wanted + wanted / 2 + GRAPH_SPARE;
            let found = graph.search(query, asked, passes);
            // Rows that the graph does not cover yet are few; they all count as candidates.
            let rest =
                (tail..rows.slots()).filter(|&slot| allowed.unwrap_or(rows.alive()).contains(slot));
            let slots = found.into_iter().filter_map(|number| rows.slot(number));
            let ranked = scan::rescored(rows, query, wanted, slots.chain(rest));
            if ranked.len() >= wanted {
                return Ok(ranked);
            }
            // A graph whose parts are cut off from each other by dead rows may find too few.
        }
        scan()
    }

    /// The first `limit` of the candidates that pass, equals in the order of their ids.
    fn hits(&self, ranked: &[Ranked]) -> Result<Vec<Hit>, GalleryError> {
        let reader = self.state.reader()?;
        let mut hits: Vec<Hit> = Vec::with_capacity(ranked.len().min(self.limit));
        for candidate in ranked {
            let score = candidate.score();
            if hits.len() >= self.limit && hits.last().is_some_and(|last| score < last.score) {
                break;
            }
            let number = self.rows.number(candidate.slot());
            let hit = reader.record(number, |record| {
                if !passes_payload(self.filter, &record)? {
                    return Ok(None);
                }
                Ok(Some(Hit {
                    id: record.id()?,
                    score,
                    model_version: version(self.state, record.version)?,
                    label: record.label,
                    payload: record.payload()?,
                }))
            })?;
            hits.extend(hit.flatten());
        }
        sort(&mut hits);
        hits.truncate(self.limit);
        Ok(hits)
    }
}

/// The item of a row.
pub(super) fn item(
    state: &State,
    row: u64,
    with_embedding: bool,
) -> Result<Option<StoredItem>, GalleryError> {
    state.reader()?.record(row, |record| {
        Ok(StoredItem {
            id: record.id()?,
            model_version: version(state, record.version)?,
            label: record.label,
            payload: record.payload()?,
            embedding: with_embedding.then(|| record.embedding().collect()),
        })
    })
}

fn version(state: &State, number: u32) -> Result<String, String> {
    state
        .layout
        .names()
        .get(number as usize)
        .cloned()
        .ok_or_else(|| format!("version {number} has no name"))
}
