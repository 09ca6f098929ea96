//! From a request to hits. Under the state, rows are filtered and ranked, which is work in memory; their records are read from the state's view of
//! the database when it was let go of.

mod graphs;
mod part;

use std::collections::{BTreeSet, HashMap, HashSet};

use perennial_core::SpaceId;
use rayon::prelude::*;

use self::part::{BATCH, Part};
use super::batch_scan::nearest_batch;
use super::conditions::Conditions;
use super::mapped_view::{Ahead, MappedView};
use super::ranking::{Ranked, keep_best};
use super::rows::Rows;
use super::scan::{self, Scanned};
use super::state::{RowsId, Shared, State};
use super::view::View;
use crate::error::GalleryError;
use crate::item::Hit;
use crate::request_checks::check_dim_of_space;
use crate::store::SearchRequest;

/// Products of values, of all queries with all rows, for which the state is held at a time: about a second of two processors.
const HELD: usize = 1 << 36;
/// Queries that are answered at a time in any case.
const FEWEST: usize = 32;
/// Candidates whose records are read before the state is looked at again, where records decide.
const CANDIDATES: usize = 1 << 16;

/// The best items for each query of a request, each as of one moment: of what is stored, or, with the key of a map, of what it gives.
///
/// A partition is searched once, however many of its spaces are named, and what is found in all is merged by score.
pub(super) fn search(
    shared: &Shared,
    request: &SearchRequest<'_>,
    map: Option<&str>,
) -> Result<Vec<Vec<Hit>>, GalleryError> {
    let mut conditions = Conditions::new(request.filter, Some(request.spaces));
    conditions.look_ahead(shared)?;
    let mut search = Search {
        shared,
        request,
        map,
        conditions,
        failed: HashSet::new(),
        ahead: Ahead::default(),
    };
    match search.conditions.read_records() {
        true => search.in_rounds(),
        false => search.at_once(),
    }
}

struct Search<'a> {
    shared: &'a Shared,
    request: &'a SearchRequest<'a>,
    map: Option<&'a str>,
    conditions: Conditions<'a>,
    /// Rows whose records were read and do not pass, which stays so: rows never change.
    failed: HashSet<u64>,
    /// What indexes of mapped vectors lack.
    ahead: Ahead,
}

/// A row that may be a hit.
#[derive(Clone, Copy)]
struct Candidate {
    score: f32,
    row: u64,
}

/// A query whose hits are not all known yet.
struct Open {
    query: usize,
    /// Candidates to be looked at next time.
    wanted: usize,
    /// Hits among those that were looked at, by their rows.
    passed: HashMap<u64, Hit>,
}

impl Search<'_> {
    /// Where every candidate is a hit.
    fn at_once(&mut self) -> Result<Vec<Vec<Hit>>, GalleryError> {
        let (shared, request) = (self.shared, self.request);
        let dim = request.dim;
        let mut found = Vec::with_capacity(request.queries.len() / dim);
        let mut rest = request.queries;
        loop {
            let (ranked, view) = self.hold(|parts| {
                let group = rest.len().min(dim * at_a_time(parts, dim));
                rank(shared, parts, &rest[..group], request)
            })?;
            rest = &rest[ranked.len() * dim..];
            let hits = |candidates: &Vec<Candidate>| self.hits(&view, candidates);
            if ranked.len() < BATCH {
                found.extend(ranked.iter().map(hits).collect::<Result<Vec<_>, _>>()?);
            } else {
                let hits = || ranked.par_iter().map(hits).collect::<Result<Vec<_>, _>>();
                found.extend(shared.pool.install(hits)?);
            }
            if rest.is_empty() {
                return Ok(found);
            }
        }
    }

    fn hits(&self, view: &View, candidates: &[Candidate]) -> Result<Vec<Hit>, GalleryError> {
        let hit = |one: &Candidate| view.hit(one.row, one.score, &self.conditions);
        let hits = candidates.iter().map(hit).filter_map(Result::transpose);
        Ok(best(hits.collect::<Result<_, _>>()?, self.request.limit))
    }

    /// Where records decide: more and more candidates, until enough of them pass. Each round is of one moment and finds what it finds from there;
    /// what is known of rows stays known.
    fn in_rounds(&mut self) -> Result<Vec<Vec<Hit>>, GalleryError> {
        let (shared, request) = (self.shared, self.request);
        let (dim, limit) = (request.dim, request.limit);
        let count = request.queries.len() / dim;
        let mut found = vec![Vec::new(); count];
        let open = |query| Open {
            query,
            wanted: limit,
            passed: HashMap::new(),
        };
        let mut open: Vec<Open> = (0..count).map(open).collect();
        while let Some(first) = open.first() {
            // Queries that want as many come one behind the other.
            let wanted = first.wanted;
            let same = open.partition_point(|one| one.wanted == wanted);
            let most = same.min((CANDIDATES / wanted).max(1));
            let ((ranked, all), view) = self.hold(|parts| {
                let group = &open[..most.min(at_a_time(parts, dim))];
                let available: usize = parts.iter().map(|part| part.available()).sum();
                let query = |one: &Open| &request.queries[one.query * dim..][..dim];
                let of_one = |one: &Open| candidates(parts, query(one), wanted);
                let ranked: Vec<Vec<Candidate>> = match group.len() < BATCH {
                    true => group.iter().map(of_one).collect(),
                    false => {
                        let of_all = || group.par_iter().map(of_one).collect();
                        shared.pool.install(of_all)
                    }
                };
                (ranked, wanted >= available)
            })?;
            let rest = open.split_off(ranked.len());
            let group = std::mem::replace(&mut open, rest);
            for (mut one, candidates) in group.into_iter().zip(ranked) {
                let hits = self.read(&view, &candidates, &mut one)?;
                if all || hits.len() >= limit {
                    found[one.query] = best(hits, limit);
                } else {
                    one.wanted = wanted.saturating_mul(4).min(CANDIDATES);
                    open.push(one);
                }
            }
        }
        Ok(found)
    }

    /// Reads candidates in their order, until there are enough hits.
    fn read(
        &mut self,
        view: &View,
        candidates: &[Candidate],
        open: &mut Open,
    ) -> Result<Vec<Hit>, GalleryError> {
        let mut hits: Vec<Hit> = Vec::new();
        for &Candidate { score, row } in candidates {
            let enough = hits.len() >= self.request.limit;
            if enough && hits.last().is_some_and(|last| score < last.score) {
                break;
            }
            // Another query may have read it meanwhile.
            if self.failed.contains(&row) {
                continue;
            }
            let hit = match open.passed.get(&row) {
                Some(hit) => Some(hit.clone()),
                None => view.hit(row, score, &self.conditions)?,
            };
            match hit {
                Some(hit) => {
                    open.passed.entry(row).or_insert_with(|| hit.clone());
                    hits.push(hit);
                }
                None => {
                    self.failed.insert(row);
                }
            }
        }
        Ok(hits)
    }

    /// Works on what is to be searched as it is at one moment; nothing changes meanwhile, and writers wait. Gives the view that belongs to it.
    fn hold<R>(&mut self, work: impl FnOnce(&[&Part<'_>]) -> R) -> Result<(R, View), GalleryError> {
        let (shared, request) = (self.shared, self.request);
        let state = match self.map {
            Some(key) => self.ahead.hold(shared, request.spaces, key),
            None => shared.state(),
        };
        let view = View::of(&state)?;
        let mapped = match self.map {
            Some(key) => mapped_views(&self.ahead, &state, key, request)?,
            None => Vec::new(),
        };
        let searched = match self.map {
            // There is no graph of what is mapped by the search itself.
            Some(_) => mapped
                .iter()
                .flat_map(|one| [(one.id, one.rows, request.exact), (one.id, one.rest, true)])
                .collect(),
            None => stored_rows(&state, request)?,
        };
        let reads = self.conditions.read_records();
        let applied = self.conditions.as_of(&state)?;
        let mut parts = Vec::new();
        for (id, rows, exact) in searched {
            if rows.live() == 0 {
                continue;
            }
            let part = Part {
                shared,
                id,
                rows,
                allowed: applied.allowed(shared, rows, &self.failed),
                limit: request.limit,
                exact,
                reads,
            };
            if part.available() > 0 {
                parts.push(part);
            }
        }
        let parts: Vec<&Part<'_>> = parts.iter().collect();
        Ok((work(&parts), view))
    }
}

/// The rows of the searched spaces' partitions, each with whether they are all compared.
fn stored_rows<'s>(
    state: &'s State,
    request: &SearchRequest<'_>,
) -> Result<Vec<(RowsId, &'s Rows, bool)>, GalleryError> {
    let mut partitions = BTreeSet::new();
    for space in request.spaces {
        if let Some((partition, shape)) = state.layout.home_of(space.as_str()) {
            check_dim_of_space(request, space, shape.dim())?;
            partitions.insert(partition);
        }
    }
    let rows = partitions.into_iter().filter_map(|number| {
        let rows = state.partitions.get(&number)?;
        Some((RowsId::Partition(number), rows, request.exact))
    });
    Ok(rows.collect())
}

/// The rows that a map gives of the searched spaces.
fn mapped_views<'s>(
    ahead: &'s Ahead,
    state: &'s State,
    key: &str,
    request: &SearchRequest<'_>,
) -> Result<Vec<MappedView<'s>>, GalleryError> {
    let view = |space: &SpaceId| {
        let view = ahead.view(state, space, key);
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
    Ok(views)
}

/// Queries for which the state is held at a time.
fn at_a_time(parts: &[&Part<'_>], dim: usize) -> usize {
    let rows: usize = parts.iter().map(|part| part.rows.slots()).sum();
    (HELD / rows.saturating_mul(dim).max(1)).max(FEWEST)
}

/// The best of all rows for each of some queries, where all that are found are hits.
fn rank(
    shared: &Shared,
    parts: &[&Part<'_>],
    queries: &[f32],
    request: &SearchRequest<'_>,
) -> Vec<Vec<Candidate>> {
    let (dim, limit) = (request.dim, request.limit);
    let mut found = vec![Vec::new(); queries.len() / dim];
    let (scanned, others): (Vec<&Part<'_>>, Vec<&Part<'_>>) =
        parts.iter().partition(|part| part.is_scanned(queries));
    let mut add = |more: Vec<Vec<Candidate>>| {
        for (found, more) in found.iter_mut().zip(more) {
            merge(found, more, limit);
        }
    };
    if !others.is_empty() {
        add(search_each(shared, &others, queries, dim, limit));
    }
    if !scanned.is_empty() {
        add(scan_together(shared, &scanned, queries, dim, limit));
    }
    found
}

/// Compares queries with all rows of some partitions at once: threads need not wait for each other at the end of each, and what one partition
/// says about the best rules out rows of the others.
fn scan_together(
    shared: &Shared,
    parts: &[&Part<'_>],
    queries: &[f32],
    dim: usize,
    limit: usize,
) -> Vec<Vec<Candidate>> {
    let scanned: Vec<Scanned<'_>> = parts.iter().map(|part| part.scanned()).collect();
    let best = |ranked: &Vec<Vec<Ranked>>| best_of_all(parts, ranked, limit);
    shared.pool.install(|| {
        if queries.len() < BATCH * dim {
            let queries = queries.chunks_exact(dim);
            let nearest = |query| best(&scan::nearest(&scanned, query, limit));
            return queries.map(nearest).collect();
        }
        let ranked = nearest_batch(&scanned, queries, dim, limit);
        ranked.par_iter().map(best).collect()
    })
}

/// Searches partitions query by query, by their graphs where they have any.
fn search_each(
    shared: &Shared,
    parts: &[&Part<'_>],
    queries: &[f32],
    dim: usize,
    limit: usize,
) -> Vec<Vec<Candidate>> {
    let search = |query: &[f32]| candidates(parts, query, limit);
    // One query is answered by its caller's thread: waking another one costs more than a search by graph.
    if queries.len() < BATCH * dim {
        return queries.chunks_exact(dim).map(search).collect();
    }
    let queries = queries.par_chunks_exact(dim);
    shared.pool.install(|| queries.map(search).collect())
}

/// The best `wanted` candidates of all parts for a query, and the equals of the last.
fn candidates(parts: &[&Part<'_>], query: &[f32], wanted: usize) -> Vec<Candidate> {
    let ranked: Vec<Vec<Ranked>> = match parts {
        [one] => vec![one.candidates(query, wanted)],
        parts => graphs::candidates(parts, query, wanted),
    };
    best_of_all(parts, &ranked, wanted)
}

/// The best `count` of the candidates of all parts, which are in order for each part, and the equals of the last.
///
/// **Shapes.** `ranked` `[parts]`
fn best_of_all(parts: &[&Part<'_>], ranked: &[Vec<Ranked>], count: usize) -> Vec<Candidate> {
    let mut scores: Vec<Ranked> = ranked.concat();
    keep_best(&mut scores, count);
    let least = scores.iter().max().map(|last| last.score());
    let mut found = Vec::with_capacity(scores.len());
    for (part, ranked) in parts.iter().zip(ranked) {
        let among = ranked.partition_point(|ranked| Some(ranked.score()) >= least);
        found.extend(ranked[..among].iter().map(|ranked| Candidate {
            score: ranked.score(),
            row: part.rows.number(ranked.slot()),
        }));
    }
    if parts.len() > 1 {
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
    }
    found
}

/// Adds the candidates of other partitions, and keeps the best `count` and the equals of the last.
fn merge(found: &mut Vec<Candidate>, more: Vec<Candidate>, count: usize) {
    if found.is_empty() {
        *found = more;
        return;
    }
    found.extend(more);
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    if let Some(least) = found.get(count - 1).map(|last| last.score) {
        found.truncate(found.partition_point(|one| one.score >= least));
    }
}

/// The first `limit` hits, best first, equals in the order of their ids.
fn best(mut hits: Vec<Hit>, limit: usize) -> Vec<Hit> {
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    hits.truncate(limit);
    hits
}
