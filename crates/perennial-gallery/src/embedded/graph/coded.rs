//! Vectors as a graph holds them: 8-bit codes around the graph's centre and what these stand for.

use super::super::codes::encode;
use super::line::{LINE, Line};
use super::products::Products;

/// Bytes of what the codes stand for, at the end of the last line.
const MEANING: usize = 12;

/// What the codes of a vector stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Meaning {
    /// What a code of 1 stands for.
    pub(super) scale: f32,
    /// The part of a similarity that depends on the vector and the centre alone.
    pub(super) offset: f32,
    /// The sum of the codes.
    pub(super) sum: i32,
}

impl Meaning {
    /// From the lines of a vector.
    #[inline(always)]
    pub(super) fn read(lines: &[Line]) -> Self {
        let empty = [0; MEANING];
        let bytes = lines
            .last()
            .and_then(|line| line.0.last_chunk())
            .unwrap_or(&empty);
        let [scale, offset, sum] = [0, 4, 8].map(|at| std::array::from_fn(|byte| bytes[at + byte]));
        Self {
            scale: f32::from_le_bytes(scale),
            offset: f32::from_le_bytes(offset),
            sum: i32::from_le_bytes(sum),
        }
    }

    /// The similarity that a sum of products of codes stands for, up to a constant of the graph.
    #[inline(always)]
    pub(super) fn score(self, query: &Query, sum: i32) -> f32 {
        sum as f32 * (query.scale * self.scale) + (query.offset + self.offset)
    }
}

/// A vector as a node holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct CodedVector(Vec<Line>);

impl CodedVector {
    /// Lines of a vector: its codes, and behind them what they stand for.
    pub(super) fn lines(dim: usize) -> usize {
        (dim + MEANING).div_ceil(LINE)
    }

    /// **Shapes.** `vector` and `centre` `[dim]`
    pub(super) fn new(vector: &[f32], centre: &[f32]) -> Self {
        let mut codes = Vec::with_capacity(vector.len());
        let coding = encode(vector, centre, &mut codes);
        let sum: i32 = codes.iter().map(|&code| i32::from(code)).sum();
        let mut lines = vec![Line::ZERO; Self::lines(vector.len())];
        for (line, codes) in lines.iter_mut().zip(codes.chunks(LINE)) {
            for (byte, code) in line.0.iter_mut().zip(codes) {
                *byte = *code as u8;
            }
        }
        if let Some(line) = lines.last_mut() {
            let meaning = [
                coding.scale.to_le_bytes(),
                coding.offset.to_le_bytes(),
                sum.to_le_bytes(),
            ];
            line.0[LINE - MEANING..].copy_from_slice(meaning.as_flattened());
        }
        Self(lines)
    }

    pub(super) fn as_lines(&self) -> &[Line] {
        &self.0
    }
}

/// A vector in the form that is compared with nodes: its codes only, as [`Products`] wants them.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) lines: Vec<Line>,
    pub(super) scale: f32,
    pub(super) offset: f32,
}

impl Query {
    pub(super) fn set(&mut self, vector: &[Line], dim: usize, products: Products) {
        let meaning = Meaning::read(vector);
        self.scale = meaning.scale;
        self.offset = meaning.offset;
        self.lines.clear();
        self.lines.extend_from_slice(&vector[..dim.div_ceil(LINE)]);
        let flip = products.flip();
        for line in &mut self.lines {
            line.0.iter_mut().for_each(|byte| *byte ^= flip);
        }
        // What stands behind a vector's codes in its last line must count for nothing.
        if let Some(line) = self.lines.last_mut()
            && !dim.is_multiple_of(LINE)
        {
            line.0[dim % LINE..].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_end_with_what_they_stand_for() {
        for dim in [1, 52, 53, 64, 116, 117, 200] {
            let vector: Vec<f32> = (0..dim).map(|at| (at as f32 - 20.0) / 100.0).collect();
            let coded = CodedVector::new(&vector, &vec![0.01; dim]);
            let lines = coded.as_lines();
            assert_eq!(lines.len(), (dim + 12).div_ceil(64), "{dim}");
            let meaning = Meaning::read(lines);
            let codes = lines.iter().flat_map(|line| line.0).take(dim);
            let codes: Vec<i8> = codes.map(|byte| byte as i8).collect();
            assert_eq!(
                meaning.sum,
                codes.iter().map(|&code| i32::from(code)).sum::<i32>()
            );
            for (code, x) in codes.iter().zip(&vector) {
                assert!((f32::from(*code) * meaning.scale + 0.01 - x).abs() <= meaning.scale);
            }
            let mut query = Query::default();
            query.set(lines, dim, Products::for_dim(dim));
            let behind = query.lines.iter().flat_map(|line| line.0).skip(dim);
            assert!(behind.into_iter().all(|byte| byte == 0));
        }
    }
}
