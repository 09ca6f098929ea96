//! The loops over a vector's values, several at a time by the processor's widest instructions.
//!
//! Rows of a gallery are encoded within one call of such instructions: what a call costs, and what the sums of few lanes cost where one waits for
//! the other, is as much as the work on a short row.

use super::coding::{CODE_MAX, Coding, Steps, up};

/// Values that the processor works on side by side. What is rounded in f32 is part of the bounds.
const LANES: usize = 32;

/// Values side by side; what a vector lacks is filled up with zeros. Only so do sums stay in registers: none is of some values only.
type Block = [f32; LANES];

/// A vector in blocks.
pub(super) fn blocks(vector: &[f32]) -> Vec<Block> {
    let (whole, rest) = vector.as_chunks();
    let mut blocks = whole.to_vec();
    blocks.extend((!rest.is_empty()).then(|| filled_up(rest)));
    blocks
}

#[inline(always)]
fn filled_up(rest: &[f32]) -> Block {
    let mut block = [0.0; LANES];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// Half with half, so that few additions wait for others; there are no more of them in a row than one after the other would be.
#[inline(always)]
fn total(lanes: Block, join: impl Fn(f32, f32) -> f32) -> f32 {
    let lanes: [f32; 16] = std::array::from_fn(|lane| join(lanes[lane], lanes[lane + 16]));
    let lanes: [f32; 8] = std::array::from_fn(|lane| join(lanes[lane], lanes[lane + 8]));
    let lanes: [f32; 4] = std::array::from_fn(|lane| join(lanes[lane], lanes[lane + 4]));
    join(join(lanes[0], lanes[2]), join(lanes[1], lanes[3]))
}

/// Adds rows to the sums of their columns.
pub(super) struct AddUp<'a>(pub(super) &'a [f32], pub(super) &'a mut [f64]);

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

/// Rows around a centre become codes: `round(127 * (x - m) / max|x - m|)`.
pub(super) struct Encode<'a> {
    pub(super) dim: usize,
    /// `[rows, dim]`
    pub(super) vectors: &'a [f32],
    /// `[dim]`, or empty for the origin.
    pub(super) centre: &'a [f32],
    /// `[rows, dim]`
    pub(super) codes: &'a mut [i8],
    /// `[rows]`
    pub(super) codings: &'a mut [Coding],
}

impl pulp::WithSimd for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let centre = match self.centre {
            [] => vec![[0.0; LANES]; self.dim.div_ceil(LANES)],
            centre => blocks(centre),
        };
        let mut apart = centre.clone();
        let vectors = self.vectors.chunks_exact(self.dim);
        let codes = self.codes.chunks_exact_mut(self.dim);
        for ((vector, codes), coding) in vectors.zip(codes).zip(self.codings) {
            let (offset, reach) = take_centre(vector, &centre, &mut apart);
            let steps = Steps::of(CODE_MAX, reach);
            let (length, error) = round(&apart, steps, codes, |value| value as i8);
            *coding = Coding {
                scale: steps.scale,
                length,
                error,
                offset,
            };
        }
    }
}

/// Puts the difference of a vector and a centre into `apart`; gives the product of difference and centre, and the difference's largest value.
#[inline(always)]
fn take_centre(vector: &[f32], centre: &[Block], apart: &mut [Block]) -> (f32, f32) {
    let (mut products, mut most) = ([0.0; LANES], [0.0; LANES]);
    let mut add = |vector: &Block, centre: &Block, apart: &mut Block| {
        for lane in 0..LANES {
            let x = vector[lane] - centre[lane];
            apart[lane] = x;
            products[lane] += x * centre[lane];
            most[lane] = larger(x.abs(), most[lane]);
        }
    };
    let (whole, rest) = vector.as_chunks();
    for ((vector, centre), apart) in whole.iter().zip(centre).zip(&mut *apart) {
        add(vector, centre, apart);
    }
    if let ([_, ..], Some(centre), Some(apart)) = (rest, centre.last(), apart.last_mut()) {
        add(&filled_up(rest), centre, apart);
    }
    (total(products, |a, b| a + b), total(most, larger))
}

/// The size of the largest value.
pub(super) struct Largest<'a>(pub(super) &'a [Block]);

impl pulp::WithSimd for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f32 {
        let mut most = [0.0; LANES];
        for block in self.0 {
            for lane in 0..LANES {
                most[lane] = larger(block[lane].abs(), most[lane]);
            }
        }
        total(most, larger)
    }
}

/// One instruction, unlike the standard library's, which asks for numbers that are none. There are none here.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// f32 near it are whole numbers: to add it rounds, to even where that is undecided, and makes the bits those of the whole number.
const WHOLE: f32 = 12_582_912.0;

/// Values as whole numbers.
pub(super) struct Round<'a> {
    pub(super) vector: &'a [Block],
    pub(super) steps: Steps,
    /// `[dim]`
    pub(super) values: &'a mut [i32],
}

impl pulp::WithSimd for Round<'_> {
    /// Lengths of what the values stand for and of what they leave out.
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
        round(self.vector, self.steps, self.values, |value| value)
    }
}

#[inline(always)]
fn round<T: Copy>(
    vector: &[Block],
    steps: Steps,
    values: &mut [T],
    narrow: impl Fn(i32) -> T,
) -> (f32, f32) {
    let additions = vector.len() + LANES;
    let (mut lengths, mut errors) = ([0.0; LANES], [0.0; LANES]);
    let mut whole = |block: &Block| -> [T; LANES] {
        std::array::from_fn(|lane| {
            let (value, stands_for) = rounded(block[lane], steps);
            lengths[lane] += stands_for * stands_for;
            errors[lane] += (block[lane] - stands_for) * (block[lane] - stands_for);
            narrow(value)
        })
    };
    let (filled, rest) = values.as_chunks_mut();
    for (values, block) in filled.iter_mut().zip(vector) {
        *values = whole(block);
    }
    if let ([_, ..], Some(block)) = (&*rest, vector.last()) {
        rest.copy_from_slice(&whole(block)[..rest.len()]);
    }
    let [length, error] = [lengths, errors].map(|squares| total(squares, |a, b| a + b));
    (up(length.into(), additions), up(error.into(), additions))
}

/// The whole number of a value, which must be below 2^22, and what it stands for.
#[inline(always)]
fn rounded(x: f32, steps: Steps) -> (i32, f32) {
    let near = x * steps.factor + WHOLE;
    let value = (near.to_bits() as i32).wrapping_sub(WHOLE.to_bits() as i32);
    (value, (near - WHOLE) * steps.scale)
}

/// The product of two vectors of one length.
pub(super) struct Product<'a>(pub(super) &'a [f32], pub(super) &'a [f32]);

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
