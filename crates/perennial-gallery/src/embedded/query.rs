//! From a request to hits: filtering, ranking and reading the rows.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use perennial_core::SpaceId;
use rayon::prelude::*;

use super::batch_scan::nearest_batch;
use super::graph::Graph;
use super::mapping::MappedView;
use super::ranking::{Ranked, keep_best};
use super::record::Record;
use super::rows::{Rows, SlotSet};
use super::scan::{self, Scanned};
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
    let homes = request.spaces.iter();
    let homes = homes.filter_map(|space| state.layout.home_of(space.as_str()));
    let partitions: BTreeSet<u32> = homes.map(|(partition, _)| partition).collect();
    let rows = partitions.into_iter().filter_map(|number| {
        let rows = state.partitions.get(&number)?;
        Some((RowsId::Partition(number), rows, request.exact))
    });
    search_rows(shared, state, rows, request)
}

/// The best of some rows, each with whether they are all compared.
fn search_rows<'a>(
    shared: &'a Shared,
    state: &'a State,
    all: impl IntoIterator<Item = (RowsId, &'a Rows, bool)>,
    request: &SearchRequest<'_>,
) -> Result<Vec<Vec<Hit>>, GalleryError> {
    let mut found = vec![Vec::new(); request.queries.len() / request.dim];
    let (mut scanned, mut others) = (Vec::new(), Vec::new());
    for (id, rows, exact) in all {
        if rows.live() == 0 {
            continue;
        }
        let (spaces, filter) = (Some(request.spaces), request.filter);
        let part = Part {
            shared,
            state,
            id,
            rows,
            allowed: allowed(shared, state, rows, spaces, filter)?,
            filter,
            limit: request.limit,
            exact,
        };
        if part.available() == 0 {
            continue;
        }
        if part.is_scanned(request.queries) {
            scanned.push(part);
        } else {
            others.push(part);
        }
    }
    let mut add = |hits: Vec<Vec<Hit>>| {
        for (found, hits) in found.iter_mut().zip(hits) {
            merge(found, hits, request.limit);
        }
    };
    if !others.is_empty() {
        add(search_each(shared, &others, request)?);
    }
    if !scanned.is_empty() {
        add(scan_together(shared, &scanned, request)?);
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
    let view = |space: &SpaceId| {
        let view = MappedView::of(shared, state, space, key);
        let view = view.ok_or_else(|| GalleryError::NotMapped {
            space: space.to_string(),
        })?;
        check_dim_of_space(request, space, view.rows.dim())?;
        Ok(view)
    };
    let views = request.spaces.iter().map(view);
    let mut views = views.collect::<Result<Vec<MappedView<'_>>, GalleryError>>()?;
    // A space that is named twice is searched once.
    views.sort_by_key(|view| view.id);
    views.dedup_by_key(|view| view.id);
    let rows = views.iter().flat_map(|view| {
        let mapped = (view.id, view.rows, request.exact);
        // There is no graph of what is mapped by the search itself.
        [mapped, (view.id, &view.rest, true)]
    });
    search_rows(shared, state, rows, request)
}

/// Compares queries with all rows of some partitions at once: threads need not wait for each other at the end of each, and what one partition
/// says about the best rules out rows of the others.
fn scan_together(
    shared: &Shared,
    parts: &[Part<'_>],
    request: &SearchRequest<'_>,
) -> Result<Vec<Vec<Hit>>, GalleryError> {
    let (queries, dim, limit) = (request.queries, request.dim, request.limit);
    let scanned: Vec<Scanned<'_>> = parts.iter().map(Part::scanned).collect();
    let hits = |ranked: &Vec<Vec<Ranked>>| best_hits(parts, ranked, limit, limit);
    if queries.len() < BATCH * dim {
        let nearest = |query| {
            shared
                .pool
                .install(|| scan::nearest(&scanned, query, limit))
        };
        let queries = queries.chunks_exact(dim);
        return queries.map(|query| hits(&nearest(query))).collect();
    }
    shared.pool.install(|| {
        let ranked = nearest_batch(&scanned, queries, dim, limit);
        ranked.par_iter().map(hits).collect()
    })
}

/// Searches partitions query by query, by their graphs where they have any.
fn search_each(
    shared: &Shared,
    parts: &[Part<'_>],
    request: &SearchRequest<'_>,
) -> Result<Vec<Vec<Hit>>, GalleryError> {
    let (queries, dim) = (request.queries, request.dim);
    let search = |query: &[f32]| search_one(parts, query, request);
    // One query is answered by its caller's thread: waking another one costs more than a search by graph.
    if queries.len() < BATCH * dim || request.filter.payload.is_some() {
        return queries.chunks_exact(dim).map(search).collect();
    }
    let queries = queries.par_chunks_exact(dim);
    shared.pool.install(|| queries.map(search).collect())
}

fn search_one(
    parts: &[Part<'_>],
    query: &[f32],
    request: &SearchRequest<'_>,
) -> Result<Vec<Hit>, GalleryError> {
    let available: usize = parts.iter().map(Part::available).sum();
    let mut wanted = request.limit;
    loop {
        // Each graph is walked through with the whole breadth. One walk over all of them, with one list of the nearest, was tried: it leaves a
        // graph whose nodes on the levels above are not near enough, and kept from that it looks at as many nodes for the same recall.
        let ranked = parts.iter().map(|part| part.candidates(query, wanted));
        let ranked: Vec<Vec<Ranked>> = ranked.collect();
        let hits = best_hits(parts, &ranked, wanted, request.limit)?;
        // Only payload conditions can drop candidates.
        let all_count = request.filter.payload.is_none();
        if hits.len() >= request.limit || wanted >= available || all_count {
            return Ok(hits);
        }
        wanted = wanted.saturating_mul(4).min(available);
    }
}

/// The first `limit` hits among the best `count` candidates of all parts, which are in order for each part.
///
/// **Shapes.** `ranked` `[parts]`
fn best_hits(
    parts: &[Part<'_>],
    ranked: &[Vec<Ranked>],
    count: usize,
    limit: usize,
) -> Result<Vec<Hit>, GalleryError> {
    let mut scores: Vec<Ranked> = ranked.concat();
    keep_best(&mut scores, count);
    let least = scores.iter().max().map(|last| last.score());
    let mut found = Vec::new();
    for (part, ranked) in parts.iter().zip(ranked) {
        // Only the best of all partitions are read from the store.
        let among = ranked.partition_point(|ranked| Some(ranked.score()) >= least);
        merge(&mut found, part.hits(&ranked[..among])?, limit);
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
    allowed: Allowed<'a>,
    filter: &'a Filter,
    limit: usize,
    exact: bool,
}

impl Part<'_> {
    fn scanned(&self) -> Scanned<'_> {
        Scanned {
            rows: self.rows,
            allowed: self.allowed.as_deref(),
        }
    }

    /// Rows that a search may find.
    fn available(&self) -> usize {
        let allowed = self.allowed.as_deref();
        allowed.map_or(self.rows.live(), SlotSet::count)
    }

    /// Whether queries are best compared with all rows, and all that are found are hits.
    fn is_scanned(&self, queries: &[f32]) -> bool {
        let few = queries.len() < BATCH * self.rows.dim();
        let all_rows = self.exact || few && self.is_short(self.limit);
        self.filter.payload.is_none() && (all_rows || self.usable_graph().is_none())
    }

    /// Whether nothing is faster than looking at each row: with few rows left, or most of them wanted.
    fn is_short(&self, wanted: usize) -> bool {
        let available = self.available();
        available <= 4 * wanted + 32 || available < self.rows.live() / SELECTIVE
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
    fn candidates(&self, query: &[f32], wanted: usize) -> Vec<Ranked> {
        let (rows, allowed) = (self.rows, self.allowed.as_deref());
        let scan = || {
            let nearest = || scan::nearest(&[self.scanned()], query, wanted);
            self.shared.pool.install(nearest).pop().unwrap_or_default()
        };
        if self.exact || self.is_short(wanted) {
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
                return ranked;
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
