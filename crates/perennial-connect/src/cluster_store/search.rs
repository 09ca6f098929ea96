//! Searches: every vector of the spaces compared by the server, or the candidates of its index where there is one and the search need not be exact.

use std::collections::{BTreeSet, HashMap};

use perennial_gallery::request_checks::check_dim_of_space;
use perennial_gallery::{Hit, ItemId, SearchRequest};
use serde_json::{Value, json};

use super::row::Row;
use super::view::{Filled, View};
use crate::failure::{Failure, damaged};
use crate::qdrant::PointId;

/// Queries of one request.
const AT_ONCE: usize = 32;
/// Hits beyond those that are wanted, so that equal scores at the end are seen.
const SPARE: usize = 8;
/// Candidates of an index that are looked at, at least.
const LEAST_CANDIDATES: usize = 128;
/// The most hits that are fetched to find the smallest ids among equal scores. Beyond it, any of them may be the last hits.
const MOST_EQUALS: usize = 100_000;

/// A hit that is not read yet.
struct Near {
    score: f32,
    id: ItemId,
    space: usize,
    point: PointId,
}

pub(super) fn search(
    view: &View<'_>,
    request: &SearchRequest<'_>,
) -> Result<Vec<Vec<Hit>>, Failure> {
    let named: BTreeSet<&str> = request.spaces.iter().map(|space| space.as_str()).collect();
    for space in request.spaces {
        if let Some(known) = view.state.spaces.get(space.as_str()) {
            check_dim_of_space(request, space, known.dim)?;
        }
    }
    let queries: Vec<&[f32]> = request.queries.chunks_exact(request.dim).collect();
    if request.filter.matches_nothing() {
        return Ok(queries.iter().map(|_| Vec::new()).collect());
    }
    let mut spaces = view.filled(request.filter);
    spaces.retain(|space| named.contains(space.name));
    let mut found: Vec<Vec<Near>> = queries.iter().map(|_| Vec::new()).collect();
    for (at, space) in spaces.iter().enumerate() {
        let search = Search {
            view,
            request,
            space,
            collection: space.collection(view.server),
            filter: view.visible().filter(request.filter).json(),
        };
        for (some, lists) in queries.chunks(AT_ONCE).zip(found.chunks_mut(AT_ONCE)) {
            for (list, rows) in lists.iter_mut().zip(search.nearest(some)?) {
                for row in rows {
                    list.push(Near {
                        // Not -0.0, which would come after 0.0.
                        score: row.score + 0.0,
                        id: row.item_id()?,
                        space: at,
                        point: row.id,
                    });
                }
            }
        }
    }
    for list in &mut found {
        list.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        list.truncate(request.limit);
    }
    read(view, &spaces, &found)
}

/// The items of hits.
fn read(
    view: &View<'_>,
    spaces: &[Filled<'_>],
    found: &[Vec<Near>],
) -> Result<Vec<Vec<Hit>>, Failure> {
    let mut rows: HashMap<(usize, PointId), Row> = HashMap::new();
    for (at, space) in spaces.iter().enumerate() {
        let of_space = found.iter().flatten().filter(|near| near.space == at);
        let points: BTreeSet<PointId> = of_space.map(|near| near.point.clone()).collect();
        let points: Vec<PointId> = points.into_iter().collect();
        let read = view
            .server
            .retrieve(&space.collection(view.server), &points, false)?;
        rows.extend(read.into_iter().map(|row| ((at, row.id.clone()), row)));
    }
    let hits = found.iter().map(|list| {
        let hits = list.iter().map(|near| {
            let row = rows.get(&(near.space, near.point.clone()));
            let row = row.ok_or_else(|| damaged("a hit is gone"))?;
            row.hit(spaces[near.space].name, near.score)
        });
        hits.collect()
    });
    hits.collect()
}

struct Search<'a> {
    view: &'a View<'a>,
    request: &'a SearchRequest<'a>,
    space: &'a Filled<'a>,
    collection: String,
    filter: Value,
}

impl Search<'_> {
    /// The best points of each query, and those of the same score as the last one that is wanted.
    fn nearest(&self, queries: &[&[f32]]) -> Result<Vec<Vec<Row>>, Failure> {
        let wanted = self.request.limit;
        if !self.space.known.indexed || self.request.exact {
            return self.exact(queries);
        }
        let candidates = (2 * wanted + SPARE).max(LEAST_CANDIDATES);
        let params = json!({"exact": false, "hnsw_ef": candidates});
        let mut found = self.ask(queries, candidates, &params)?;
        // A filter may have left fewer candidates than hits are wanted.
        for (query, rows) in queries.iter().zip(&mut found) {
            if rows.len() < wanted && (rows.len() as u64) < self.space.known.items {
                *rows = self.exact(&[*query])?.pop().unwrap_or_default();
            }
        }
        Ok(found)
    }

    fn exact(&self, queries: &[&[f32]]) -> Result<Vec<Vec<Row>>, Failure> {
        let wanted = self.request.limit;
        let params = json!({"exact": true});
        let mut found = self.ask(queries, wanted + SPARE, &params)?;
        for (query, rows) in queries.iter().zip(&mut found) {
            let mut asked = wanted + SPARE;
            // The server orders equal scores as it likes, so all of them are looked at.
            while rows.len() == asked && is_cut_within_equals(rows, wanted) && asked < MOST_EQUALS {
                asked = (8 * asked).min(MOST_EQUALS);
                *rows = self
                    .ask(&[*query], asked, &params)?
                    .pop()
                    .unwrap_or_default();
            }
        }
        Ok(found)
    }

    fn ask(
        &self,
        queries: &[&[f32]],
        limit: usize,
        params: &Value,
    ) -> Result<Vec<Vec<Row>>, Failure> {
        let searches = queries.iter().map(|query| {
            json!({
                "query": query,
                "limit": limit,
                "filter": self.filter,
                "params": params,
                "with_payload": ["key"],
                "with_vector": false,
            })
        });
        let searches: Vec<Value> = searches.collect();
        self.view.server.query(&self.collection, &searches)
    }
}

/// Whether the last row has the score of the last one that is wanted.
fn is_cut_within_equals(rows: &[Row], wanted: usize) -> bool {
    match (rows.get(wanted - 1), rows.last()) {
        (Some(wanted), Some(last)) => wanted.score == last.score,
        _ => false,
    }
}
