//! Products of many queries with many rows of codes, four bytes of 16 rows by one instruction (AVX-512 VNNI).
//!
//! Rows are unsigned here (code + 128), as the instruction wants it; the sum of a query's codes takes that out again.

/// Rows of a panel.
pub(super) const PANEL: usize = 64;
/// Queries multiplied at a time: their sums fill the registers that the panel's values leave.
pub(super) const QUERIES: usize = 6;
/// Bytes of a register.
const BYTES: usize = 64;
/// Dimensions up to which a sum of products fits 32 bits.
const DIM_MAX: usize = 65_536;

/// Up to 64 rows in the order in which they are multiplied: `[dim / 4]` times four registers of `[16 rows, 4 codes]`.
#[derive(Default)]
pub(super) struct Panel {
    values: Vec<[[u8; BYTES]; 4]>,
}

impl Panel {
    /// Takes over rows of codes.
    ///
    /// **Shapes.** `codes` `[at most 64, dim]`. What the other rows hold then is of no meaning.
    pub(super) fn fill(&mut self, codes: &[i8], dim: usize) {
        self.values.resize(dim.div_ceil(4), [[0; BYTES]; 4]);
        for (row, codes) in codes.chunks_exact(dim).take(PANEL).enumerate() {
            let (register, lane) = (row / 16, row % 16 * 4);
            let (words, rest) = codes.as_chunks::<4>();
            for (values, word) in self.values.iter_mut().zip(words) {
                values[register][lane..lane + 4].copy_from_slice(&word.map(unsigned));
            }
            if let Some(values) = self.values.get_mut(words.len()) {
                for (value, &code) in values[register][lane..].iter_mut().zip(rest) {
                    *value = unsigned(code);
                }
            }
        }
    }
}

fn unsigned(code: i8) -> u8 {
    code as u8 ^ 0x80
}

/// Proof that the processor has the instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByteProduct(());

#[cfg(target_arch = "x86_64")]
impl ByteProduct {
    /// Nothing where the processor lacks the instructions, or sums could overflow.
    pub(super) fn for_dim(dim: usize) -> Option<Self> {
        let able = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        (able && dim <= DIM_MAX).then_some(Self(()))
    }

    /// Sums of (code + 128) times query code, for every query and row of the panel.
    ///
    /// **Shapes.** every query `[dim / 4]`, as many words as the panel has; `sums` `[queries, 64]`.
    pub(super) fn products<const N: usize>(
        self,
        queries: [&[i32]; N],
        panel: &Panel,
        sums: &mut [[i32; PANEL]; N],
    ) {
        // SAFETY: the only way to get a value of this type is `for_dim`, which found all three features.
        unsafe { products(queries, &panel.values, sums) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl ByteProduct {
    pub(super) fn for_dim(_: usize) -> Option<Self> {
        None
    }

    pub(super) fn products<const N: usize>(
        self,
        _: [&[i32]; N],
        _: &Panel,
        _: &mut [[i32; PANEL]; N],
    ) {
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn products<const N: usize>(
    queries: [&[i32]; N],
    panel: &[[[u8; BYTES]; 4]],
    sums: &mut [[i32; PANEL]; N],
) {
    use std::arch::x86_64::{
        __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
        _mm512_storeu_si512,
    };
    // Slices of exactly as many words, so that the loop has no bounds to check.
    let queries = queries.map(|words| &words[..panel.len()]);
    let mut found = [[_mm512_setzero_si512(); 4]; N];
    for (at, values) in panel.iter().enumerate() {
        // SAFETY: each reference is to 64 bytes, which is what is read; no alignment is asked.
        let load = |bytes: &[u8; BYTES]| unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
        let rows: [__m512i; 4] = [
            load(&values[0]),
            load(&values[1]),
            load(&values[2]),
            load(&values[3]),
        ];
        for (found, words) in found.iter_mut().zip(&queries) {
            let word = _mm512_set1_epi32(words[at]);
            for (found, rows) in found.iter_mut().zip(rows) {
                *found = _mm512_dpbusd_epi32(*found, rows, word);
            }
        }
    }
    for (sums, found) in sums.iter_mut().zip(found) {
        for (sums, found) in sums.as_chunks_mut::<16>().0.iter_mut().zip(found) {
            // SAFETY: the reference is to 16 values of four bytes, which is what is written; no alignment is asked.
            unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), found) };
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::codes::QueryWords;
    use super::*;

    #[test]
    fn products_are_those_of_the_codes() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for dim in [1, 3, 4, 63, 64, 130, 512] {
            let Some(product) = ByteProduct::for_dim(dim) else {
                println!("skipped: this processor has no AVX-512 VNNI");
                return;
            };
            let mut panel = Panel::default();
            // Panels are used again, so the second one must not see the first.
            for count in [PANEL, 5] {
                let codes: Vec<i8> = (0..count * dim)
                    .map(|_| random.random_range(-127..=127))
                    .collect();
                panel.fill(&codes, dim);
                let queries: [Vec<f32>; QUERIES] = std::array::from_fn(|_| {
                    let signs = (0..dim).map(|_| random.random_range(-1.0f32..1.0).signum());
                    signs.collect()
                });
                let words = queries.each_ref().map(|query| QueryWords::new(query, &[]));
                let mut sums = [[0; PANEL]; QUERIES];
                product.products(words.each_ref().map(|w| &*w.words), &panel, &mut sums);
                for ((query, words), sums) in queries.iter().zip(&words).zip(&sums) {
                    for (row, codes) in codes.chunks_exact(dim).enumerate() {
                        let expected: i32 = codes
                            .iter()
                            .zip(query)
                            .map(|(&code, &sign)| i32::from(code) * 127 * sign as i32)
                            .sum();
                        assert_eq!(sums[row] - 128 * words.sum, expected, "{dim} {row}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_sums_fit() {
        assert!(DIM_MAX as i64 * 255 * 127 <= i64::from(i32::MAX));
        assert!(ByteProduct::for_dim(DIM_MAX + 1).is_none());
    }
}
