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

/// The largest code.
const CODE_MAX: f32 = 127.0;
/// Words of four codes whose products are added up in 16 bits, where there are no instructions that do it in 32.
pub(super) const GROUP_WORDS: usize = 4;
/// Largest sum of a group's positive codes, and of its negative ones: with rows of up to 255, sums of products fit 16 bits.
const GROUP_MAX: f32 = 128.0;

/// What the codes of a row stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Coding {
    /// What a code of 1 stands for.
    pub(super) scale: f32,
    /// Length of what the codes stand for.
    pub(super) length: f32,
    /// Norm of the quantization error.
    pub(super) error: f32,
    /// The part of a similarity that depends on the row and the centre alone.
    pub(super) offset: f32,
}

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
        arch().dispatch(AddUp(vectors, &mut sums));
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
        let (mut codes, mut codings) = (vec![0; rows * dim], Vec::with_capacity(rows));
        let mut coded = Coded::default();
        for (vector, codes) in vectors.chunks_exact(dim).zip(codes.chunks_exact_mut(dim)) {
            codings.push(encode_into(vector, &centre, &mut coded, codes));
        }
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
    encode_into(vector, centre, &mut Coded::default(), &mut codes[from..])
}

/// The same, in memory that is used again for the next vector.
fn encode_into(vector: &[f32], centre: &[f32], coded: &mut Coded, codes: &mut [i8]) -> Coding {
    coded.set(vector, centre, CODE_MAX, Reach::Largest);
    arch().dispatch(Narrow(&coded.values, codes));
    Coding {
        scale: coded.scale,
        length: coded.length,
        error: coded.error,
        offset: coded.offset,
    }
}

/// Which part of a vector has a given reach before it is rounded.
#[derive(Debug, Clone, Copy)]
enum Reach {
    /// The largest value.
    Largest,
    /// The largest sum of a group; see [`largest_of_groups`].
    Groups,
}

/// A vector around a centre as whole numbers.
#[derive(Default)]
struct Coded {
    /// The difference to the centre.
    apart: Vec<f32>,
    /// Before they become integers of a smaller width.
    values: Vec<i32>,
    /// What a value of 1 stands for.
    scale: f32,
    /// Length of what the values stand for.
    length: f32,
    /// Length of what they leave out.
    error: f32,
    /// The product of the difference and the centre.
    offset: f32,
}

impl Coded {
    fn new(vector: &[f32], centre: &[f32], most: f32, reach: Reach) -> Self {
        let mut coded = Self::default();
        coded.set(vector, centre, most, reach);
        coded
    }

    /// With values whose reach is at most `most`, and none beyond 16 bits, before they are rounded.
    fn set(&mut self, vector: &[f32], centre: &[f32], most: f32, reach: Reach) {
        self.apart.clear();
        self.apart.extend_from_slice(vector);
        self.values.resize(vector.len(), 0);
        self.offset = match centre {
            [] => 0.0,
            centre => arch().dispatch(TakeCentre {
                vector: &mut self.apart,
                centre,
            }),
        };
        let reach = match reach {
            Reach::Largest => arch().dispatch(Largest(&self.apart)),
            Reach::Groups => largest_of_groups(&self.apart),
        };
        // Infinite for zeros and what hardly differs from them: those are all error.
        let factor = most / reach;
        let (factor, scale) = if factor.is_finite() {
            (factor, reach / most)
        } else {
            (0.0, 0.0)
        };
        self.scale = scale;
        (self.length, self.error) = arch().dispatch(Round {
            vector: &self.apart,
            factor,
            scale,
            values: &mut self.values,
        });
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

/// Sums that the processor adds to side by side. What is rounded in f32 is part of the bounds.
const LANES: usize = 32;

/// Adds rows to the sums of their columns.
struct AddUp<'a>(&'a [f32], &'a mut [f64]);

impl pulp::WithSimd for AddUp<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for vector in self.0.chunks_exact(self.1.len()) {
            for (sum, x) in self.1.iter_mut().zip(vector) {
                *sum += f64::from(*x);
            }
        }
    }
}

struct TakeCentre<'a> {
    vector: &'a mut [f32],
    /// Of the same length.
    centre: &'a [f32],
}

impl pulp::WithSimd for TakeCentre<'_> {
    /// The product of differences and centre.
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f32 {
        let mut products = [0.0f32; LANES];
        let (blocks, rest) = self.vector.as_chunks_mut::<LANES>();
        let (centres, centre_rest) = self.centre.as_chunks::<LANES>();
        for (block, centre) in blocks.iter_mut().zip(centres) {
            for lane in 0..LANES {
                block[lane] -= centre[lane];
                products[lane] += block[lane] * centre[lane];
            }
        }
        for (lane, (x, m)) in rest.iter_mut().zip(centre_rest).enumerate() {
            *x -= m;
            products[lane] += *x * m;
        }
        products.iter().sum()
    }
}

struct Largest<'a>(&'a [f32]);

impl pulp::WithSimd for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f32 {
        let mut largest = [0.0f32; LANES];
        let (blocks, rest) = self.0.as_chunks::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                let size = block[lane].abs();
                largest[lane] = if size > largest[lane] {
                    size
                } else {
                    largest[lane]
                };
            }
        }
        let rest = rest.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        largest.into_iter().fold(rest, f32::max)
    }
}

/// f32 near it are whole numbers: to add it rounds, to even where that is undecided, and makes the bits those of the whole number.
const WHOLE: f32 = 12_582_912.0;

struct Round<'a> {
    vector: &'a [f32],
    factor: f32,
    scale: f32,
    values: &'a mut [i32],
}

impl pulp::WithSimd for Round<'_> {
    /// Lengths of what the values stand for and of what they leave out.
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
        let (mut lengths, mut errors) = ([0.0f32; LANES], [0.0f32; LANES]);
        let (blocks, rest) = self.vector.as_chunks::<LANES>();
        let (values, values_rest) = self.values.as_chunks_mut::<LANES>();
        for (block, values) in blocks.iter().zip(values) {
            for lane in 0..LANES {
                let (value, stands_for) = rounded(block[lane], self.factor, self.scale);
                values[lane] = value;
                lengths[lane] += stands_for * stands_for;
                errors[lane] += (block[lane] - stands_for) * (block[lane] - stands_for);
            }
        }
        for (lane, (x, whole)) in rest.iter().zip(values_rest).enumerate() {
            let (value, stands_for) = rounded(*x, self.factor, self.scale);
            *whole = value;
            lengths[lane] += stands_for * stands_for;
            errors[lane] += (x - stands_for) * (x - stands_for);
        }
        let additions = self.vector.len() / LANES + LANES;
        let [length, error] = [lengths, errors].map(|squares| squares.iter().sum::<f32>());
        (up(length.into(), additions), up(error.into(), additions))
    }
}

/// The whole number of a value, which must be below 2^22, and what it stands for.
#[inline(always)]
fn rounded(x: f32, factor: f32, scale: f32) -> (i32, f32) {
    let near = x * factor + WHOLE;
    let value = (near.to_bits() as i32).wrapping_sub(WHOLE.to_bits() as i32);
    (value, (near - WHOLE) * scale)
}

struct Narrow<'a>(&'a [i32], &'a mut [i8]);

impl pulp::WithSimd for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for (code, value) in self.1.iter_mut().zip(self.0) {
            *code = *value as i8;
        }
    }
}

struct Product<'a>(&'a [f32], &'a [f32]);

impl pulp::WithSimd for Product<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f32 {
        let mut sums = [0.0f64; LANES];
        let (a_blocks, a_rest) = self.0.as_chunks::<LANES>();
        let (b_blocks, b_rest) = self.1.as_chunks::<LANES>();
        for (a, b) in a_blocks.iter().zip(b_blocks) {
            for lane in 0..LANES {
                sums[lane] += f64::from(a[lane]) * f64::from(b[lane]);
            }
        }
        let rest = a_rest
            .iter()
            .zip(b_rest)
            .map(|(a, b)| f64::from(*a) * f64::from(*b));
        (sums.iter().sum::<f64>() + rest.sum::<f64>()) as f32
    }
}

/// In f64: what it rounds is far below what the bounds leave for rounding.
fn product(a: &[f32], b: &[f32]) -> f32 {
    arch().dispatch(Product(a, b))
}

fn length(vector: &[f32]) -> f32 {
    up(f64::from(product(vector, vector)), 1)
}

/// The root of a sum of squares with so many additions in f32, rounded up, so that a bound stays one. What such a sum lacks of squares that f32 cannot
/// tell apart is at most 1e-45 for each of [`MAX_DIM`](crate::limits::MAX_DIM) values, and the root of that is below 1e-19.
fn up(square: f64, additions: usize) -> f32 {
    let rounding = 1e-5 + additions as f64 * f64::from(f32::EPSILON);
    (square.sqrt() * (1.0 + rounding)) as f32 + 1e-19
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

#[cfg(test)]
mod tests;
