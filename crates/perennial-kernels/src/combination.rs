//! Sums of slices, each times a factor.

use pulp::{Simd, WithSimd};

/// Vectors that are summed at a time.
const BLOCK: usize = 4;

/// `target = sum of factor * source`; whole vectors.
pub(crate) struct Combination<'a> {
    pub sources: &'a [(f32, &'a [f32])],
    pub target: &'a mut [f32],
}

impl WithSimd for Combination<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (vectors, rest) = S::as_mut_simd_f32s(self.target);
        assert!(rest.is_empty(), "whole vectors");
        let (blocks, rest) = vectors.as_chunks_mut::<BLOCK>();
        let whole = blocks.len() * BLOCK;
        for (block, target) in blocks.iter_mut().enumerate() {
            let mut sums = [simd.splat_f32s(0.0); BLOCK];
            for (factor, source) in self.sources {
                let factor = simd.splat_f32s(*factor);
                let source = &S::as_simd_f32s(source).0[block * BLOCK..][..BLOCK];
                for (sum, value) in sums.iter_mut().zip(source) {
                    *sum = simd.mul_add_e_f32s(factor, *value, *sum);
                }
            }
            *target = sums;
        }
        for (at, target) in rest.iter_mut().enumerate() {
            let mut sum = simd.splat_f32s(0.0);
            for (factor, source) in self.sources {
                let value = S::as_simd_f32s(source).0[whole + at];
                sum = simd.mul_add_e_f32s(simd.splat_f32s(*factor), value, sum);
            }
            *target = sum;
        }
    }
}
