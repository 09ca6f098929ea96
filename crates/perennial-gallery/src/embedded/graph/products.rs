//! Sums of products of codes, one query with one node after the other.

#[cfg(target_arch = "x86_64")]
use perennial_core::instructions::Instructions;
use perennial_core::instructions::arch;

#[cfg(target_arch = "x86_64")]
use super::line::LINE;
use super::line::Line;

/// How the processor multiplies codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Products {
    /// In 8 bits, four products an instruction and lane (AVX-512 VNNI). Only [`for_dim`](Self::for_dim) makes it.
    #[cfg(target_arch = "x86_64")]
    Bytes(Proof),
    /// In 16 or 32 bits, as the compiler sees fit.
    Widened,
}

/// That the processor has the instructions.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof(());

/// Dimensions up to which a sum of products of bytes fits 32 bits.
#[cfg(target_arch = "x86_64")]
const DIM_MAX: usize = 65_536;

impl Products {
    pub(super) fn for_dim(dim: usize) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if Instructions::Avx512.usable() && dim <= DIM_MAX {
                return Self::Bytes(Proof(()));
            }
        }
        let _ = dim;
        Self::Widened
    }

    /// What the bytes of a query's codes are combined with: the instruction wants one side without signs (code + 128).
    pub(super) fn flip(self) -> u8 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Bytes(_) => 0x80,
            Self::Widened => 0,
        }
    }

    /// The sum of the products of a query's and a node's codes.
    ///
    /// **Shapes.** `query` `[dim / 64]`, `node` at least as many; `node_sum` is the sum of the node's codes.
    #[inline(always)]
    pub(super) fn sum(self, query: &[Line], node: &[Line], node_sum: i32) -> i32 {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: only `for_dim` makes a `Proof`, after it found all three features.
            Self::Bytes(_) => {
                unsafe { sum_of_bytes(query, node) }.wrapping_sub(node_sum.wrapping_mul(128))
            }
            Self::Widened => {
                let _ = node_sum;
                arch().dispatch(Widened(query, node))
            }
        }
    }

    /// The sums of a query with several nodes, which `found` gets in turn with the node's lines; `node_sum` knows the sum of a node's codes.
    #[inline(always)]
    pub(super) fn sums<'a>(
        self,
        query: &[Line],
        nodes: impl Iterator<Item = &'a [Line]>,
        node_sum: impl Fn(&[Line]) -> i32,
        mut found: impl FnMut(&'a [Line], i32),
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Bytes(_) => {
                let found = |node: &'a [Line], sum: i32| {
                    found(node, sum.wrapping_sub(node_sum(node).wrapping_mul(128)));
                };
                // SAFETY: only `for_dim` makes a `Proof`, after it found all three features.
                unsafe { sums_of_bytes(query, nodes, found) }
            }
            Self::Widened => {
                let _ = &node_sum;
                for node in nodes {
                    found(node, self.sum(query, node, 0));
                }
            }
        }
    }
}

/// One function for all nodes, so that there is no call for each.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sums_of_bytes<'a>(
    query: &[Line],
    nodes: impl Iterator<Item = &'a [Line]>,
    mut found: impl FnMut(&'a [Line], i32),
) {
    for node in nodes {
        found(node, sum_of_bytes(query, node));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sum_of_bytes(query: &[Line], node: &[Line]) -> i32 {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_reduce_add_epi32,
        _mm512_setzero_si512,
    };
    const { assert!(size_of::<__m512i>() == LINE && align_of::<Line>() == LINE) };
    // SAFETY: a line has the 64 bytes that are read, and lies at a multiple of 64.
    let load = |line: &Line| unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) };
    let mut sums = [_mm512_setzero_si512(); 2];
    let (query_pairs, query_rest) = query.as_chunks::<2>();
    let (node_pairs, node_rest) = node[..query.len()].as_chunks::<2>();
    for (query, node) in query_pairs.iter().zip(node_pairs) {
        for (sum, (query, node)) in sums.iter_mut().zip(query.iter().zip(node)) {
            *sum = _mm512_dpbusd_epi32(*sum, load(query), load(node));
        }
    }
    for (query, node) in query_rest.iter().zip(node_rest) {
        sums[0] = _mm512_dpbusd_epi32(sums[0], load(query), load(node));
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
}

struct Widened<'a>(&'a [Line], &'a [Line]);

impl pulp::WithSimd for Widened<'_> {
    type Output = i32;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> i32 {
        let mut sum = 0i32;
        for (a, b) in self.0.iter().zip(self.1) {
            let pairs = a.0.iter().zip(&b.0);
            sum += pairs
                .map(|(&a, &b)| i32::from(a as i8) * i32::from(b as i8))
                .sum::<i32>();
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::coded::{CodedVector, Meaning, Query};
    use super::*;

    #[test]
    fn both_ways_give_the_same_sum() {
        for dim in [1, 40, 52, 60, 64, 65, 120, 130, 512, 1023] {
            let vector =
                |step: f32| -> Vec<f32> { (0..dim).map(|at| (at as f32 * step).sin()).collect() };
            let centre = vec![0.02; dim];
            let (a, b) = (
                CodedVector::new(&vector(0.7), &centre),
                CodedVector::new(&vector(1.9), &centre),
            );
            let codes = |coded: &CodedVector| -> Vec<i32> {
                let bytes = coded.as_lines().iter().flat_map(|line| line.0);
                bytes.take(dim).map(|byte| i32::from(byte as i8)).collect()
            };
            let expected: i32 = codes(&a).iter().zip(codes(&b)).map(|(a, b)| a * b).sum();
            for products in [Products::for_dim(dim), Products::Widened] {
                let mut query = Query::default();
                query.set(a.as_lines(), dim, products);
                let node_sum = Meaning::read(b.as_lines()).sum;
                assert_eq!(
                    products.sum(&query.lines, b.as_lines(), node_sum),
                    expected,
                    "{dim} {products:?}"
                );
                let mut found = Vec::new();
                let own = a.as_lines();
                products.sums(
                    &query.lines,
                    [b.as_lines(), own, b.as_lines()].into_iter(),
                    |lines| Meaning::read(lines).sum,
                    |lines, sum| found.push((lines == own, sum)),
                );
                let square: i32 = codes(&a).iter().map(|a| a * a).sum();
                let wanted = [(a == b, expected), (true, square), (a == b, expected)];
                assert_eq!(found, wanted, "{dim} {products:?}");
            }
        }
    }
}
