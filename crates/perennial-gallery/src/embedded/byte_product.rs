//! Products of many queries with many rows of codes: four bytes of 16 rows by one instruction (AVX-512 VNNI), of 8 rows by one
//! (AVX-VNNI), or of 8 rows by two and a half on average (AVX2), which adds up pairs of products in 16 bits before it widens them.
//!
//! Rows are unsigned here (code + 128), as the instructions want it; the sum of a query's codes takes that out again.

use perennial_core::instructions::Instructions;

#[cfg(target_arch = "x86_64")]
use super::codes::GROUP_WORDS;
use super::codes::QueryRange;

/// Rows of a panel.
pub(super) const PANEL: usize = 64;
/// Queries multiplied at a time: their sums fill the registers that the panel's values leave.
pub(super) const QUERIES: usize = 6;
/// Bytes of the values that lie together: one register of AVX-512, two of AVX2.
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

/// Products by instructions that the processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteProduct(Instructions);

impl ByteProduct {
    /// By the fastest instructions. Nothing where the processor has none of them, or sums could overflow.
    pub(super) fn for_dim(dim: usize) -> Option<Self> {
        let usable = |product: &Self| product.0.usable();
        Self::present(dim).filter(usable).last()
    }

    /// By each set of instructions that the processor has.
    pub(super) fn present(dim: usize) -> impl Iterator<Item = Self> {
        let able = move |of: &Instructions| dim <= DIM_MAX && of.present();
        Instructions::ALL.into_iter().filter(able).map(Self)
    }

    /// How large the codes of a query may be.
    pub(super) fn range(self) -> QueryRange {
        match self.0 {
            Instructions::Avx2 => QueryRange::Groups,
            Instructions::AvxVnni | Instructions::Avx512 => QueryRange::Bytes,
        }
    }

    /// Sums of (code + 128) times query code, for every query and row of the panel.
    ///
    /// **Shapes.** every query `[dim / 4]`, as many words as the panel has; `sums` `[6, 64]`.
    pub(super) fn products(
        self,
        queries: [&[i32]; QUERIES],
        panel: &Panel,
        sums: &mut [[i32; PANEL]; QUERIES],
    ) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the only way to get a value of this type is `present`, which found the features.
        unsafe {
            match self.0 {
                Instructions::Avx512 => avx512(queries, &panel.values, sums),
                Instructions::AvxVnni => avx_vnni(queries, &panel.values, sums),
                Instructions::Avx2 => avx2(queries, &panel.values, sums),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (queries, panel, sums);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn avx512(
    queries: [&[i32]; QUERIES],
    panel: &[[[u8; BYTES]; 4]],
    sums: &mut [[i32; PANEL]; QUERIES],
) {
    use std::arch::x86_64::{
        __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512,
        _mm512_storeu_si512,
    };
    // Slices of exactly as many words, so that the loop has no bounds to check.
    let queries = queries.map(|words| &words[..panel.len()]);
    let mut found = [[_mm512_setzero_si512(); 4]; QUERIES];
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

/// Rows by rows of 16: all of a panel's do not fit the registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avxvnni")]
fn avx_vnni(
    queries: [&[i32]; QUERIES],
    panel: &[[[u8; BYTES]; 4]],
    sums: &mut [[i32; PANEL]; QUERIES],
) {
    use std::arch::x86_64::{_mm256_dpbusd_avx_epi32, _mm256_set1_epi32, _mm256_setzero_si256};
    let queries = queries.map(|words| &words[..panel.len()]);
    for tile in 0..4 {
        let mut found = [[_mm256_setzero_si256(); 2]; QUERIES];
        for (at, values) in panel.iter().enumerate() {
            let rows = halves(&values[tile]);
            for (found, words) in found.iter_mut().zip(&queries) {
                let word = _mm256_set1_epi32(words[at]);
                for (found, rows) in found.iter_mut().zip(rows) {
                    *found = _mm256_dpbusd_avx_epi32(*found, rows, word);
                }
            }
        }
        for (sums, found) in sums.iter_mut().zip(found) {
            store(&mut sums.as_chunks_mut().0[tile], found);
        }
    }
}

/// Rows by rows of 16, half of the queries at a time: besides the sums of 32 bits, those of 16 bits have to fit the registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(
    queries: [&[i32]; QUERIES],
    panel: &[[[u8; BYTES]; 4]],
    sums: &mut [[i32; PANEL]; QUERIES],
) {
    use std::arch::x86_64::{
        _mm256_add_epi16, _mm256_add_epi32, _mm256_madd_epi16, _mm256_maddubs_epi16,
        _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256,
    };
    const TOGETHER: usize = 3;
    let queries = queries.map(|words| &words[..panel.len()]);
    let ones = _mm256_set1_epi16(1);
    for tile in 0..4 {
        let (queries, sums) = (
            queries.as_chunks::<TOGETHER>().0,
            sums.as_chunks_mut::<TOGETHER>().0,
        );
        for (queries, sums) in queries.iter().zip(sums) {
            let mut found = [[_mm256_setzero_si256(); 2]; TOGETHER];
            let (groups, rest) = panel.as_chunks::<GROUP_WORDS>();
            for (group, values) in groups.iter().enumerate() {
                let mut pairs = [[_mm256_setzero_si256(); 2]; TOGETHER];
                for (at, values) in values.iter().enumerate() {
                    let rows = halves(&values[tile]);
                    for (pairs, words) in pairs.iter_mut().zip(queries) {
                        let word = _mm256_set1_epi32(words[group * GROUP_WORDS + at]);
                        for (pairs, rows) in pairs.iter_mut().zip(rows) {
                            *pairs = _mm256_add_epi16(*pairs, _mm256_maddubs_epi16(rows, word));
                        }
                    }
                }
                for (found, pairs) in found
                    .as_flattened_mut()
                    .iter_mut()
                    .zip(pairs.as_flattened())
                {
                    *found = _mm256_add_epi32(*found, _mm256_madd_epi16(*pairs, ones));
                }
            }
            let first = panel.len() - rest.len();
            for (at, values) in rest.iter().enumerate() {
                let rows = halves(&values[tile]);
                for (found, words) in found.iter_mut().zip(queries) {
                    let word = _mm256_set1_epi32(words[first + at]);
                    for (found, rows) in found.iter_mut().zip(rows) {
                        let pairs = _mm256_maddubs_epi16(rows, word);
                        *found = _mm256_add_epi32(*found, _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            for (sums, found) in sums.iter_mut().zip(found) {
                store(&mut sums.as_chunks_mut().0[tile], found);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn halves(values: &[u8; BYTES]) -> [std::arch::x86_64::__m256i; 2] {
    let (low, high) = (&values[..32], &values[32..]);
    // SAFETY: each reference is to 32 bytes, which is what is read; no alignment is asked.
    [low, high].map(|half| unsafe { std::arch::x86_64::_mm256_loadu_si256(half.as_ptr().cast()) })
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn store(sums: &mut [i32; 16], found: [std::arch::x86_64::__m256i; 2]) {
    for (sums, found) in sums.as_chunks_mut::<8>().0.iter_mut().zip(found) {
        // SAFETY: the reference is to 8 values of four bytes, which is what is written; no alignment is asked.
        unsafe { std::arch::x86_64::_mm256_storeu_si256(sums.as_mut_ptr().cast(), found) };
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::codes::QueryWords;
    use super::*;

    /// Codes of a query as the words hold them.
    fn codes(words: &[i32]) -> impl Iterator<Item = i32> {
        let bytes = |word: &i32| word.to_le_bytes().map(|byte| i32::from(byte as i8));
        words.iter().flat_map(bytes)
    }

    #[test]
    fn products_are_those_of_the_codes() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for dim in [1, 3, 4, 15, 16, 17, 63, 64, 130, 512] {
            for product in ByteProduct::present(dim) {
                let mut panel = Panel::default();
                // Panels are used again, so the second one must not see the first.
                for (count, extremes) in [(PANEL, true), (PANEL, false), (5, false)] {
                    // The largest codes, with the signs of the first query and against them: sums come as far as they can.
                    let signs: Vec<f32> = (0..dim)
                        .map(|_| random.random_range(-1.0f32..1.0).signum())
                        .collect();
                    let code = |at: usize, random: &mut ChaCha8Rng| match (extremes, at / dim % 2) {
                        (true, 0) => (127.0 * signs[at % dim]) as i8,
                        (true, _) => (-127.0 * signs[at % dim]) as i8,
                        (false, _) => random.random_range(-127..=127),
                    };
                    let rows: Vec<i8> = (0..count * dim).map(|at| code(at, &mut random)).collect();
                    panel.fill(&rows, dim);
                    // Flat ones, those of few large values, and those between.
                    let queries: [Vec<f32>; QUERIES] = std::array::from_fn(|query| {
                        let value = |sign: &f32| {
                            sign * random.random_range(0.1f32..1.0).powi(5 * query as i32)
                        };
                        signs.iter().map(value).collect()
                    });
                    let words = queries
                        .each_ref()
                        .map(|query| QueryWords::new(query, &[], product.range()));
                    let mut sums = [[0; PANEL]; QUERIES];
                    product.products(words.each_ref().map(|w| &*w.words), &panel, &mut sums);
                    for (words, sums) in words.iter().zip(&sums) {
                        assert!(codes(&words.words).any(|code| code.abs() > 10));
                        for (row, rows) in rows.chunks_exact(dim).enumerate() {
                            let pairs = codes(&words.words).zip(rows);
                            let expected: i32 = pairs.map(|(a, &b)| a * i32::from(b)).sum();
                            assert_eq!(
                                sums[row] - 128 * words.sum,
                                expected,
                                "{product:?} {dim} {row}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_sums_fit() {
        assert!(DIM_MAX as i64 * 255 * 127 <= i64::from(i32::MAX));
        assert_eq!(ByteProduct::present(DIM_MAX + 1).count(), 0);
    }
}
