//! Grouped convolutions: every group of output channels reads a group of input channels of its own.
//!
//! One group is often narrower than a register tile. Neighbouring groups are therefore bundled until they fill one, as a block-diagonal
//! matrix that goes through the products of ordinary convolutions; a value that is not finite can reach the other groups of its
//! bundle. Sums are in a fixed order, as everywhere.

use std::ops::Range;

use perennial_core::instructions::arch;
use rayon::prelude::*;

use crate::buffers;
use crate::gather_product::Epilogue;
use crate::gather_product::{ApplyEpilogue, Row, Source, Task, Term};
use crate::geometry::Convolution;
use crate::packed_weights::PackedWeights;
use crate::weight_gradient::SlabProducts;

/// Rows that one task computes, of all channels.
const TASK_ROWS: usize = 24;

/// The weights of some neighbouring groups, and where their channels begin.
pub(crate) struct Bundle {
    weights: PackedWeights,
    /// First channel that is read.
    first: usize,
}

/// Groups whose written channels, `width` each, fill a tile, in order.
fn bundles(groups: usize, width: usize) -> impl Iterator<Item = Range<usize>> {
    let tile = crate::tile_columns(1);
    let size = (tile / width.max(1)).max(1);
    (0..groups)
        .step_by(size)
        .map(move |first| first..(first + size).min(groups))
}

impl Convolution {
    /// Channels of one group, read and written.
    fn group(&self) -> [usize; 2] {
        [
            self.in_channels / self.groups,
            self.out_channels / self.groups,
        ]
    }

    /// The weights for the forward product, from `[taps, in_channels / groups, out_channels]`.
    pub(crate) fn bundled(&self, weight: &[f32], used: &[usize]) -> Vec<Bundle> {
        let ([inputs, outputs], channels) = (self.group(), self.out_channels);
        let bundle = |groups: Range<usize>| {
            let shape = [groups.len() * inputs, groups.len() * outputs];
            let weights = PackedWeights::new(shape, used.len(), |first, tap, packed| {
                let columns = packed.len() / shape[0];
                packed.fill(0.0);
                let last = (first + columns).min(shape[1]);
                for column in first..last {
                    let group = column / outputs;
                    for input in 0..inputs {
                        let from = (used[tap] * inputs + input) * channels
                            + groups.start * outputs
                            + column;
                        packed[(group * inputs + input) * columns + column - first] = weight[from];
                    }
                }
            });
            Bundle {
                weights,
                first: groups.start * inputs,
            }
        };
        bundles(self.groups, outputs).map(bundle).collect()
    }

    /// The weights for the input gradient, from the same.
    fn bundled_transposed(&self, weight: &[f32], used: &[usize]) -> Vec<Bundle> {
        let ([inputs, outputs], channels) = (self.group(), self.out_channels);
        let bundle = |groups: Range<usize>| {
            let shape = [groups.len() * outputs, groups.len() * inputs];
            let weights = PackedWeights::new(shape, used.len(), |first, tap, packed| {
                let columns = packed.len() / shape[0];
                packed.fill(0.0);
                let last = (first + columns).min(shape[1]);
                for column in first..last {
                    let (group, input) = (column / inputs, column % inputs);
                    for output in 0..outputs {
                        let from = (used[tap] * inputs + input) * channels
                            + (groups.start + group) * outputs
                            + output;
                        packed[(group * outputs + output) * columns + column - first] =
                            weight[from];
                    }
                }
            });
            Bundle {
                weights,
                first: groups.start * outputs,
            }
        };
        bundles(self.groups, inputs).map(bundle).collect()
    }

    /// [`forward`](Self::forward) with more than one group.
    pub(crate) fn grouped_forward(
        &self,
        input: &[f32],
        weight: &[f32],
        epilogue: Option<Epilogue<'_>>,
        output: &mut [f32],
    ) {
        let (terms, used) = self.terms();
        let bundles = self.bundled(weight, &used);
        product(
            Source::dense(input, self.batch, self.in_channels),
            self.batch,
            &terms,
            &bundles,
            epilogue,
            output,
        );
    }

    /// [`input_gradient`](Self::input_gradient) with more than one group.
    pub(crate) fn grouped_input_gradient(
        &self,
        output_gradient: &[f32],
        weight: &[f32],
        epilogue: Option<Epilogue<'_>>,
        input_gradient: &mut [f32],
    ) {
        let (terms, used) = self.transposed_terms();
        let bundles = self.bundled_transposed(weight, &used);
        product(
            Source::dense(output_gradient, self.batch, self.out_channels),
            self.batch,
            &terms,
            &bundles,
            epilogue,
            input_gradient,
        );
    }

    /// [`weight_gradient`](Self::weight_gradient) with more than one group.
    pub(crate) fn grouped_weight_gradient(
        &self,
        input: &[f32],
        output_gradient: &[f32],
        weight_gradient: &mut [f32],
    ) {
        let ([inputs, outputs], channels) = (self.group(), self.out_channels);
        let connections = self.connections();
        let source = Source::dense(input, self.batch, self.in_channels);
        weight_gradient.fill(0.0);
        let parts: Vec<(Range<usize>, Vec<Vec<f32>>)> = bundles(self.groups, outputs)
            .collect::<Vec<_>>()
            .into_par_iter()
            .map(|groups| {
                let width = groups.len() * outputs;
                let tile = crate::tile_columns(width);
                let columns = width.next_multiple_of(tile);
                let gradient = columns_of(
                    output_gradient,
                    channels,
                    groups.start * outputs..groups.end * outputs,
                    columns,
                );
                let of_taps = connections.iter().map(|connection| {
                    let mut result = vec![0.0; groups.len() * inputs * columns];
                    arch().dispatch(SlabProducts {
                        source,
                        gradient: &gradient,
                        gradient_stride: self.batch * columns,
                        batch: self.batch,
                        first_channel: groups.start * inputs,
                        columns,
                        tile,
                        pairs: &connection.pairs,
                        together: 1,
                        fresh: true,
                        result: &mut result,
                    });
                    result
                });
                let of_taps = of_taps.collect();
                buffers::recycle(gradient);
                (groups, of_taps)
            })
            .collect();
        for (groups, of_taps) in parts {
            for (connection, result) in connections.iter().zip(of_taps) {
                let columns = result.len() / (groups.len() * inputs);
                for (row, values) in result.chunks_exact(columns).enumerate() {
                    let (group, input) = (row / inputs, row % inputs);
                    let to = (connection.tap * inputs + input) * channels
                        + (groups.start + group) * outputs;
                    weight_gradient[to..to + outputs]
                        .copy_from_slice(&values[group * outputs..(group + 1) * outputs]);
                }
            }
        }
    }
}

/// Some columns of `[rows, channels]` as rows of their own, filled up with zeros.
fn columns_of(values: &[f32], channels: usize, range: Range<usize>, columns: usize) -> Vec<f32> {
    let mut taken = buffers::buffer(values.len() / channels * columns);
    let rows = values.chunks_exact(channels);
    for (row, taken) in rows.zip(taken.chunks_exact_mut(columns)) {
        taken[..range.len()].copy_from_slice(&row[range.clone()]);
        taken[range.len()..].fill(0.0);
    }
    taken
}

/// As the product of ordinary convolutions, for every bundle of its own input channels.
pub(crate) fn product(
    source: Source<'_>,
    batch: usize,
    terms: &[Vec<Term>],
    bundles: &[Bundle],
    epilogue: Option<Epilogue<'_>>,
    output: &mut [f32],
) {
    let width: usize = bundles.iter().map(|bundle| bundle.weights.outputs).sum();
    if width == 0 || batch == 0 || terms.is_empty() {
        return;
    }
    // Rows that sum over the same taps share tiles.
    let taps = |slab: usize| terms[slab].iter().map(|term| term.tap);
    let mut order: Vec<usize> = (0..terms.len()).collect();
    order.sort_by(|&a, &b| taps(a).cmp(taps(b)).then(a.cmp(&b)));
    let mut rows: Vec<Option<&mut [f32]>> = output.chunks_exact_mut(width).map(Some).collect();
    let mut tasks: Vec<Vec<(usize, usize, &mut [f32])>> = Vec::new();
    let mut last = None;
    for &slab in &order {
        let same = last.is_some_and(|last| taps(last).eq(taps(slab)));
        last = Some(slab);
        for image in 0..batch {
            let Some(values) = rows[slab * batch + image].take() else {
                continue;
            };
            let begins = image == 0 && !same;
            match tasks.last_mut() {
                Some(task) if !begins && task.len() < TASK_ROWS => task.push((slab, image, values)),
                _ => tasks.push(vec![(slab, image, values)]),
            }
        }
    }
    tasks.into_par_iter().for_each(|task| {
        let mut of_bundles: Vec<Vec<Row<'_>>> = bundles.iter().map(|_| Vec::new()).collect();
        for (slab, image, mut values) in task {
            let mut start = (slab * batch + image) * width;
            for (rows, bundle) in of_bundles.iter_mut().zip(bundles) {
                let (now, rest) = std::mem::take(&mut values).split_at_mut(bundle.weights.outputs);
                values = rest;
                rows.push(Row {
                    terms: &terms[slab],
                    image,
                    start,
                    values: now,
                });
                start += bundle.weights.outputs;
            }
        }
        let mut channel = 0;
        for (rows, bundle) in of_bundles.iter_mut().zip(bundles) {
            arch().dispatch(Task {
                source: Source {
                    values: source.values.get(bundle.first..).unwrap_or_default(),
                    ..source
                },
                weights: &bundle.weights,
                first_panel: 0,
                rows,
            });
            if let Some(epilogue) = epilogue {
                arch().dispatch(ApplyEpilogue {
                    epilogue,
                    channel,
                    rows,
                });
            }
            channel += bundle.weights.outputs;
        }
    });
}

impl Bundle {
    /// The same in memory of its own, for weights that last.
    pub(crate) fn lasting(self) -> Self {
        Self {
            weights: self.weights.lasting(),
            ..self
        }
    }
}
