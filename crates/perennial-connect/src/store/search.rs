//! Searches: every vector compared, or the candidates of an index, always with the vectors' own inner products.

use std::collections::BTreeSet;

use perennial_gallery::request_checks::check_dim_of_space;
use perennial_gallery::{Hit, SearchRequest};
use tokio_postgres::types::ToSql;

use super::filter::Conditions;
use super::row::{self, COLUMNS};
use super::session::Session;
use super::spaces::{KnownSpace, Spaces};
use crate::failure::Failure;
use crate::postgres::VectorValue;

/// The most dimensions that pgvector indexes with 32 bits a value; beyond it, the index has 16 bits.
pub(super) const MAX_INDEXED_IN_FULL: usize = 2000;
/// The most candidates that a graph of pgvector looks at.
const MAX_CANDIDATES: usize = 1000;
/// Candidates beyond twice the hits that are wanted.
const SPARE: usize = 16;

/// The expression that an index of a space is over. No exact search has it, so none goes through an index.
pub(super) fn indexed_expression(dim: usize) -> String {
    let kind = match dim {
        ..=MAX_INDEXED_IN_FULL => "vector",
        _ => "halfvec",
    };
    format!("(embedding::{kind}({dim}))")
}

pub(super) fn search(
    session: &Session,
    request: &SearchRequest<'_>,
) -> Result<Vec<Vec<Hit>>, Failure> {
    let spaces = Spaces::read(session)?;
    let named: BTreeSet<&str> = request.spaces.iter().map(|space| space.as_str()).collect();
    let (mut compared, mut indexed) = (Vec::new(), Vec::new());
    for known in named.into_iter().filter_map(|name| spaces.get(name)) {
        check_dim_of_space(request, &known.space.id, known.space.dim)?;
        match known.indexed && !request.exact {
            true => indexed.push(known),
            false => compared.push(known.number),
        }
    }
    let queries: Vec<VectorValue<'_>> = request
        .queries
        .chunks_exact(request.dim)
        .map(VectorValue)
        .collect();
    if request.filter.matches_nothing() {
        return Ok(vec![Vec::new(); queries.len()]);
    }
    let search = Search {
        session,
        spaces: &spaces,
        request,
    };
    let mut found = match compared.is_empty() {
        true => vec![Vec::new(); queries.len()],
        false => search.exact(&queries, compared)?,
    };
    for known in indexed {
        for (hits, more) in found.iter_mut().zip(search.nearest(&queries, known)?) {
            hits.extend(more);
            hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
            hits.truncate(request.limit);
        }
    }
    Ok(found)
}

struct Search<'a> {
    session: &'a Session,
    spaces: &'a Spaces,
    request: &'a SearchRequest<'a>,
}

impl Search<'_> {
    /// The best items of some spaces, each compared.
    fn exact(
        &self,
        queries: &[VectorValue<'_>],
        numbers: Vec<i32>,
    ) -> Result<Vec<Vec<Hit>>, Failure> {
        let mut conditions = Conditions::after(2);
        conditions.add("space = ANY({})", numbers);
        conditions.filter(self.request.filter, self.spaces);
        let sql = format!(
            "SELECT {COLUMNS}, embedding <#> $1::vector AS distance FROM perennial_items{} ORDER BY distance, key LIMIT $2",
            conditions.sql()
        );
        let limit = self.request.limit as i64;
        let lists: Vec<Vec<&(dyn ToSql + Sync)>> = queries
            .iter()
            .map(|query| conditions.parameters(&[query, &limit]))
            .collect();
        self.run(&sql, &lists)
    }

    /// The best of an index's candidates, by their own vectors.
    fn nearest(
        &self,
        queries: &[VectorValue<'_>],
        known: &KnownSpace,
    ) -> Result<Vec<Vec<Hit>>, Failure> {
        let wanted = self.request.limit;
        let candidates = (2 * wanted + SPARE).min(MAX_CANDIDATES.max(wanted));
        let settings = self
            .session
            .hnsw_settings(candidates.clamp(40, MAX_CANDIDATES));
        self.session.batch(&settings)?;
        let mut conditions = Conditions::after(3);
        conditions.add("space = {}", known.number);
        conditions.filter(self.request.filter, self.spaces);
        let dim = known.space.dim;
        let expression = indexed_expression(dim);
        let query = expression.replace("embedding", "$1::vector");
        let sql = format!(
            "SELECT {COLUMNS}, embedding <#> $1::vector AS distance FROM \
             (SELECT {COLUMNS}, embedding FROM perennial_items{} ORDER BY {expression} <#> {query} LIMIT $2) AS candidates \
             ORDER BY distance, key LIMIT $3",
            conditions.sql()
        );
        let (candidates, limit) = (candidates as i64, wanted as i64);
        let lists: Vec<Vec<&(dyn ToSql + Sync)>> = queries
            .iter()
            .map(|query| conditions.parameters(&[query, &candidates, &limit]))
            .collect();
        let mut found = self.run(&sql, &lists)?;
        // A filter may have left fewer candidates than hits are wanted.
        let short: Vec<usize> = (0..found.len())
            .filter(|&at| found[at].len() < wanted && (found[at].len() as u64) < known.items)
            .collect();
        if !short.is_empty() {
            let again: Vec<VectorValue<'_>> = short.iter().map(|&at| queries[at]).collect();
            let complete = self.exact(&again, vec![known.number])?;
            for (at, hits) in short.into_iter().zip(complete) {
                found[at] = hits;
            }
        }
        Ok(found)
    }

    fn run(&self, sql: &str, lists: &[Vec<&(dyn ToSql + Sync)>]) -> Result<Vec<Vec<Hit>>, Failure> {
        let answers = self.session.query_each(sql, lists)?;
        let hits = answers.iter().map(|rows| {
            let hits = rows.iter().map(|row| row::hit(row, self.spaces));
            hits.collect()
        });
        hits.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_vectors_are_indexed_in_16_bits() {
        assert_eq!(indexed_expression(2000), "(embedding::vector(2000))");
        assert_eq!(indexed_expression(2001), "(embedding::halfvec(2001))");
    }
}
