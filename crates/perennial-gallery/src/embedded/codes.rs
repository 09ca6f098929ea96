//! int8 scalar quantization of vectors, with a bound on the error of a similarity computed from codes.
//!
//! A scan over codes reads a quarter of the memory. Every row also carries the norm of its quantization error, so the error
//! of a similarity has a bound (Cauchy-Schwarz). A row whose best case is worse than the worst case of enough others cannot be
//! among the best; comparing all that are left in f32 gives the same answer as comparing every row in f32.
//!
//! Embeddings often lie in a narrow cone, where similarities differ by less than such a bound. So the codes of many rows stand
//! for what the vectors differ by from a common centre `m`: with `x = m + s c + r` and `q = m + t d + p`,
//! `q.x = q.m + m.(x - m) + s t c.d` up to `|q - m| |r| + |p| |s c|`.
//!
//! That holds for any whole numbers `d`, whatever `t` they were rounded by: `p` is what they leave out, and its length is computed
//! from them. So a query may be as coarse as an instruction asks for ([`QueryRange`]); its rows only get wider bounds.

use perennial_core::instructions::arch;

pub(super) use coding::Coding;
use coding::{CODE_MAX, Steps, up};

/// Words of four codes whose products are added up in 16 bits, where there are no instructions that do it in 32.
pub(super) const GROUP_WORDS: usize = 4;
/// Largest sum of a group's positive codes, and of its negative ones: with rows of up to 255, sums of products fit 16 bits.
const GROUP_MAX: f32 = 128.0;

/// Rows and their codes around one centre.
#[derive(Default)]
pub(super) struct CodedRows {
    /// `[dim]`, or empty for the origin.
    centre: Vec<f32>,
    /// `[rows, dim]`
    pub(super) codes: Vec<i8>,
    /// `[rows]`
    pub(super) codings: Vec<Coding>,
}

impl CodedRows {
    /// The codes of vectors around their mean.
    ///
    /// **Shapes.** `vectors` `[rows, dim]`
    pub(super) fn around_mean(vectors: &[f32], dim: usize) -> Self {
        let mut sums = vec![0.0f64; dim];
        arch().dispatch(lanes::AddUp(vectors, &mut sums));
        let rows = vectors.len() / dim;
        let mean = sums.iter().map(|sum| (sum / rows as f64) as f32);
        Self::around(mean.collect(), vectors, dim)
    }

    /// The codes of vectors around the origin, where more may be [pushed](Self::push).
    ///
    /// **Shapes.** `vectors` `[rows, dim]`
    pub(super) fn around_origin(vectors: &[f32], dim: usize) -> Self {
        Self::around(Vec::new(), vectors, dim)
    }

    fn around(centre: Vec<f32>, vectors: &[f32], dim: usize) -> Self {
        let rows = vectors.len() / dim;
        let (mut codes, mut codings) = (vec![0; rows * dim], vec![Coding::default(); rows]);
        arch().dispatch(lanes::Encode {
            dim,
            vectors,
            centre: &centre,
            codes: &mut codes,
            codings: &mut codings,
        });
        Self {
            centre,
            codes,
            codings,
        }
    }

    pub(super) fn is_centred(&self) -> bool {
        !self.centre.is_empty()
    }

    /// Adds a row that was encoded around the origin.
    pub(super) fn push(&mut self, codes: &[i8], coding: Coding) {
        debug_assert!(!self.is_centred());
        self.codes.extend_from_slice(codes);
        self.codings.push(coding);
    }

    pub(super) fn centre(&self) -> &[f32] {
        &self.centre
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.centre) + size_of_val(&*self.codes) + size_of_val(&*self.codings)
    }
}

/// Appends the codes of a vector around a centre, which may be empty: `round(127 * (x - m) / max|x - m|)`.
///
/// **Shapes.** `vector` `[dim]`
pub(super) fn encode(vector: &[f32], centre: &[f32], codes: &mut Vec<i8>) -> Coding {
    let from = codes.len();
    codes.resize(from + vector.len(), 0);
    let mut coding = Coding::default();
    arch().dispatch(lanes::Encode {
        dim: vector.len(),
        vectors: vector,
        centre,
        codes: &mut codes[from..],
        codings: std::slice::from_mut(&mut coding),
    });
    coding
}

/// Which part of a vector has a given reach before it is rounded.
#[derive(Debug, Clone, Copy)]
enum Reach {
    /// The largest value.
    Largest,
    /// The largest sum of a group; see [`largest_of_groups`].
    Groups,
}

/// A query around a centre as whole numbers.
struct Coded {
    /// The difference to the centre.
    apart: Vec<f32>,
    /// Before they become integers of a smaller width.
    values: Vec<i32>,
    /// What a value of 1 stands for.
    scale: f32,
    /// Length of what the values leave out.
    error: f32,
}

impl Coded {
    /// With values whose reach is at most `most`, and none beyond 16 bits, before they are rounded.
    fn new(vector: &[f32], centre: &[f32], most: f32, reach: Reach) -> Self {
        let mut apart = vector.to_vec();
        for (x, m) in apart.iter_mut().zip(centre) {
            *x -= m;
        }
        let blocks = lanes::blocks(&apart);
        let reach = match reach {
            Reach::Largest => arch().dispatch(lanes::Largest(&blocks)),
            Reach::Groups => largest_of_groups(&apart),
        };
        let steps = Steps::of(most, reach);
        let mut values = vec![0; vector.len()];
        let (_, error) = arch().dispatch(lanes::Round {
            vector: &blocks,
            steps,
            values: &mut values,
        });
        Self {
            apart,
            values,
            scale: steps.scale,
            error,
        }
    }
}

/// The largest sum of what is positive, or of what is negative, among values that are multiplied by one group's codes: the first
/// two of each of its words, or the last two.
fn largest_of_groups(values: &[f32]) -> f32 {
    let mut most = 0.0f32;
    for group in values.chunks(4 * GROUP_WORDS) {
        let (mut above, mut below) = ([0.0f32; 4], [0.0f32; 4]);
        let (words, rest) = group.as_chunks::<4>();
        let rest = std::array::from_fn(|at| rest.get(at).copied().unwrap_or(0.0));
        for word in words.iter().chain([&rest]) {
            for at in 0..4 {
                above[at] += word[at].max(0.0);
                below[at] -= word[at].min(0.0);
            }
        }
        for sums in [above, below] {
            most = most.max(sums[0] + sums[1]).max(sums[2] + sums[3]);
        }
    }
    most
}

/// In f64: what it rounds is far below what the bounds leave for rounding.
fn product(a: &[f32], b: &[f32]) -> f32 {
    arch().dispatch(lanes::Product(a, b))
}

fn length(vector: &[f32]) -> f32 {
    up(f64::from(product(vector, vector)), 1)
}

/// How far two sums of the products of a query and a row of unit length can differ in f32, whatever the order of additions.
pub(super) fn rounding(query: &[f32], dim: usize) -> f32 {
    length(query) * (dim as f32 + 32.0) * f32::EPSILON
}

/// How similarities of a query to rows around one centre follow from products of codes.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueryBounds {
    /// What a product of two codes stands for where the row's scale is 1.
    pub(super) scale: f32,
    /// The part of a similarity that depends on the query and the centre alone.
    pub(super) offset: f32,
    per_error: f32,
    per_length: f32,
    constant: f32,
}

impl QueryBounds {
    fn new(query: &[f32], centre: &[f32], coded: &Coded) -> Self {
        // Similarities in f32 are rounded as well: each of 32 partial sums once per addition, their sum a few times more. So are
        // offsets and differences. None of what is rounded is larger than `reach / rounding` times a row's length or the centre's.
        let rounding = (query.len() as f32 / 32.0 + 32.0) * f32::EPSILON;
        let centre_length = length(centre);
        let reach = rounding * (length(query) + 2.0 * centre_length);
        Self {
            scale: coded.scale,
            offset: product(query, centre),
            per_error: length(&coded.apart) + reach,
            per_length: coded.error + reach,
            constant: 2.0 * reach * centre_length,
        }
    }

    /// The similarity to a row as far as codes tell it, from the sum of products of codes.
    #[inline(always)]
    pub(super) fn score(&self, sum: i32, row_scale: f32, row_offset: f32) -> f32 {
        sum as f32 * (self.scale * row_scale) + (self.offset + row_offset)
    }

    /// The largest difference to the similarity in f32.
    #[inline(always)]
    pub(super) fn margin(&self, row_error: f32, row_length: f32) -> f32 {
        self.per_error * row_error + self.per_length * row_length + self.constant
    }
}

/// A query of its own, in integers finer than a row's: the products are computed in 16 bits anyway.
pub(super) struct QueryCodes {
    pub(super) codes: Vec<i16>,
    pub(super) bounds: QueryBounds,
}

impl QueryCodes {
    /// **Shapes.** `query` `[dim]`, `centre` `[dim]` or empty
    pub(super) fn new(query: &[f32], centre: &[f32]) -> Self {
        // The largest sum that the codes can reach still fits 32 bits.
        let limit = (i32::MAX as f32 / 2.0 / (CODE_MAX * query.len().max(1) as f32)).min(32_767.0);
        let coded = Coded::new(query, centre, limit, Reach::Largest);
        Self {
            bounds: QueryBounds::new(query, centre, &coded),
            codes: coded.values.iter().map(|&code| code as i16).collect(),
        }
    }
}

/// How large the codes of one of many queries may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryRange {
    /// 8 bits.
    Bytes,
    /// The sums of a group's products with rows of up to 255 fit 16 bits.
    Groups,
}

/// One of many queries, in 8 bits, four codes to a word.
pub(super) struct QueryWords {
    /// `[dim / 4]`, the last word filled up with zeros.
    pub(super) words: Vec<i32>,
    /// The sum of the codes.
    pub(super) sum: i32,
    pub(super) bounds: QueryBounds,
}

impl QueryWords {
    /// **Shapes.** `query` `[dim]`, `centre` `[dim]` or empty
    pub(super) fn new(query: &[f32], centre: &[f32], range: QueryRange) -> Self {
        let coded = match range {
            QueryRange::Bytes => Coded::new(query, centre, CODE_MAX, Reach::Largest),
            // Rounding adds at most a half to each of two codes a word. No code is larger than its group's sum.
            QueryRange::Groups => {
                let most = GROUP_MAX - GROUP_WORDS as f32;
                Coded::new(query, centre, most, Reach::Groups)
            }
        };
        let word = |values: &[i32]| {
            let code = |at: usize| values.get(at).map_or(0, |&value| value as i8 as u8);
            i32::from_le_bytes(std::array::from_fn(code))
        };
        Self {
            words: coded.values.chunks(4).map(word).collect(),
            sum: coded.values.iter().sum(),
            bounds: QueryBounds::new(query, centre, &coded),
        }
    }
}

mod coding;
mod lanes;
#[cfg(test)]
mod tests;
