//! The activation of transformers.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::exponential::normal;

/// Values that one task takes.
const TASK: usize = 1 << 13;

/// `output = input * (share of a standard normal distribution below input)`.
///
/// **Source**: Hendrycks and Gimpel, Gaussian Error Linear Units, arXiv 1606.08415, the exact form.
pub fn gelu(input: &[f32], output: &mut [f32]) {
    assert_eq!(input.len(), output.len(), "output length");
    output
        .par_chunks_mut(TASK)
        .zip(input.par_chunks(TASK))
        .for_each(|(output, input)| arch().dispatch(Forward { input, output }));
}

/// Gradient of [`gelu`]: the output's gradient becomes the input's.
pub fn gelu_backward(input: &[f32], gradient: &mut [f32]) {
    assert_eq!(input.len(), gradient.len(), "gradient length");
    gradient
        .par_chunks_mut(TASK)
        .zip(input.par_chunks(TASK))
        .for_each(|(gradient, input)| arch().dispatch(Backward { input, gradient }));
}

struct Forward<'a> {
    input: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (output, input) in self.output.iter_mut().zip(self.input) {
            *output = input * normal(*input)[0];
        }
    }
}

struct Backward<'a> {
    input: &'a [f32],
    gradient: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (gradient, input) in self.gradient.iter_mut().zip(self.input) {
            let [below, density] = normal(*input);
            *gradient *= below + input * density;
        }
    }
}
