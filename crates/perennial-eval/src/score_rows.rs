//! The similarities of each query to whole galleries, in memory bounded by a few rows per thread.

use perennial_core::dot_products;
use rayon::prelude::*;

/// Queries multiplied at a time: each product rearranges the whole gallery first, which costs as much as some dozens of queries.
const QUERY_BLOCK: usize = 512;
/// Similarities that one thread holds at a time (32 MiB).
const SCORES_PER_THREAD: usize = 1 << 23;

/// What is wrong with the arguments of a search.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The dimension is zero.
    #[error("the dimension of the vectors is 0; it must be at least 1")]
    ZeroDimension,
    /// A slice does not hold whole vectors.
    #[error("{side}: {length} values are not a whole number of vectors of dimension {dim}")]
    Shape {
        /// `queries` or `gallery`.
        side: &'static str,
        /// Values in the slice.
        length: usize,
        /// Values per vector.
        dim: usize,
    },
    /// A value is infinite or not a number.
    #[error("{side}: vector {row} holds a value that is not finite")]
    NonFinite {
        /// `queries` or `gallery`.
        side: &'static str,
        /// Position of the vector.
        row: usize,
    },
    /// The gallery has more vectors than positions can be ranked.
    #[error(
        "the gallery holds {rows} vectors; one search handles up to {}",
        u32::MAX
    )]
    GalleryTooLarge {
        /// Vectors in the gallery.
        rows: usize,
    },
}

/// Queries and gallery of one space: whole vectors of finite values.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    /// `[n, dim]`
    pub(crate) queries: &'a [f32],
    /// `[m, dim]`
    pub(crate) gallery: &'a [f32],
    /// At least 1.
    pub(crate) dim: usize,
}

impl<'a> Side<'a> {
    pub(crate) fn new(
        queries: &'a [f32],
        gallery: &'a [f32],
        dim: usize,
    ) -> Result<Self, SearchError> {
        if dim == 0 {
            return Err(SearchError::ZeroDimension);
        }
        for (side, values) in [("queries", queries), ("gallery", gallery)] {
            if !values.len().is_multiple_of(dim) {
                return Err(SearchError::Shape {
                    side,
                    length: values.len(),
                    dim,
                });
            }
            // No early end within a vector: that is what makes it fast.
            let is_odd = |row: &[f32]| {
                !row.iter()
                    .fold(true, |finite, value| finite & value.is_finite())
            };
            if let Some(row) = values.par_chunks_exact(dim).position_first(is_odd) {
                return Err(SearchError::NonFinite { side, row });
            }
        }
        let side = Self {
            queries,
            gallery,
            dim,
        };
        if side.items() > u32::MAX as usize {
            return Err(SearchError::GalleryTooLarge { rows: side.items() });
        }
        Ok(side)
    }

    /// The same queries and another gallery of finite vectors of the same dimension.
    pub(crate) fn against(&self, gallery: &'a [f32]) -> Self {
        Self { gallery, ..*self }
    }

    pub(crate) fn query_count(&self) -> usize {
        self.queries.len() / self.dim
    }

    /// Vectors in the gallery.
    pub(crate) fn items(&self) -> usize {
        self.gallery.len() / self.dim
    }
}

/// Calls `f(state, query, similarities)` for every query, in parallel, and returns its results in the order of the queries. There is
/// one row of similarities per side, each over that side's whole gallery; `init` makes a state that a thread uses for many queries.
///
/// All sides hold the same number of queries.
pub(crate) fn map_score_rows<S, R, I, F>(sides: &[Side<'_>], init: I, f: F) -> Vec<R>
where
    R: Send,
    I: Fn() -> S + Sync,
    F: Fn(&mut S, usize, &[&[f32]]) -> R + Sync,
{
    let query_rows = sides.first().map_or(0, Side::query_count);
    let gallery_rows: Vec<usize> = sides.iter().map(Side::items).collect();
    let in_all = gallery_rows.iter().sum::<usize>().max(1);
    let blocks = Blocks::new(
        query_rows,
        (SCORES_PER_THREAD / in_all).clamp(1, QUERY_BLOCK),
    );
    let results: Vec<Vec<R>> = (0..blocks.count())
        .into_par_iter()
        .map_init(
            || {
                let scores = gallery_rows
                    .iter()
                    .map(|rows| vec![0.0; blocks.rows * rows]);
                (init(), scores.collect::<Vec<Vec<f32>>>())
            },
            |(state, scores), block| {
                let block = blocks.get(block);
                let sides_with_items = sides
                    .iter()
                    .zip(&mut *scores)
                    .filter(|(side, _)| side.items() > 0);
                for (side, scores) in sides_with_items {
                    let queries = &side.queries[block.start * side.dim..block.end() * side.dim];
                    dot_products(queries, side.gallery, side.dim, scores);
                }
                let rows = block.seen..block.rows;
                let of_query = |row: usize| -> Vec<&[f32]> {
                    let sides = scores.iter().zip(&gallery_rows);
                    sides
                        .map(|(scores, rows)| &scores[row * rows..(row + 1) * rows])
                        .collect()
                };
                rows.map(|row| f(state, block.start + row, &of_query(row)))
                    .collect()
            },
        )
        .collect();
    results.into_iter().flatten().collect()
}

/// A range cut into blocks that are all equally long: the last one reaches back into its neighbour. A product of another shape
/// may add in another order, and then equal vectors would get similarities that differ in the last bit.
#[derive(Clone, Copy)]
pub(crate) struct Blocks {
    length: usize,
    /// Rows of every block.
    pub(crate) rows: usize,
}

#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) start: usize,
    pub(crate) rows: usize,
    /// Leading rows that the previous block has covered already.
    pub(crate) seen: usize,
}

impl Blocks {
    /// As few blocks of at most `size` rows as possible, balanced so that the last one hardly reaches back.
    pub(crate) fn new(length: usize, size: usize) -> Self {
        let rows = match length.div_ceil(size) {
            0 => 0,
            blocks => length.div_ceil(blocks),
        };
        Self { length, rows }
    }

    pub(crate) fn count(self) -> usize {
        if self.rows == 0 {
            return 0;
        }
        self.length.div_ceil(self.rows)
    }

    pub(crate) fn get(self, block: usize) -> Block {
        let first = block * self.rows;
        let start = first.min(self.length - self.rows);
        Block {
            start,
            rows: self.rows,
            seen: first - start,
        }
    }
}

impl Block {
    pub(crate) fn end(self) -> usize {
        self.start + self.rows
    }

    pub(crate) fn fresh(self) -> std::ops::Range<usize> {
        self.start + self.seen..self.end()
    }
}
