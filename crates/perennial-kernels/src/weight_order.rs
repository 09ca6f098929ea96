//! Convolution weights from the usual order, output channels outermost, into that of the kernels, and back.

use rayon::prelude::*;

use crate::buffers;
use crate::rows::transpose;

/// A weight as the kernels read it.
///
/// # Shapes
///
/// - weight: `[outputs, inputs, taps]`, and so are the numbers
/// - result: `[taps, inputs, outputs]`
pub fn taps_first(weight: &[f32], [outputs, inputs, taps]: [usize; 3]) -> Vec<f32> {
    let rows = transpose(weight, outputs, inputs * taps);
    if taps <= 1 || inputs <= 1 {
        return rows;
    }
    let result = exchanged(&rows, [inputs, taps, outputs]);
    buffers::recycle(rows);
    result
}

/// A weight in the usual order: what [`taps_first`] was made from.
///
/// # Shapes
///
/// - weight: `[taps, inputs, outputs]`, sizes: outputs, inputs, taps
/// - result: `[outputs, inputs, taps]`
pub fn channels_first(weight: &[f32], [outputs, inputs, taps]: [usize; 3]) -> Vec<f32> {
    if taps <= 1 || inputs <= 1 {
        return transpose(weight, inputs * taps, outputs);
    }
    let rows = exchanged(weight, [taps, inputs, outputs]);
    let result = transpose(&rows, inputs * taps, outputs);
    buffers::recycle(rows);
    result
}

/// `[a, b, row]` as `[b, a, row]`.
fn exchanged(values: &[f32], [a, b, row]: [usize; 3]) -> Vec<f32> {
    assert_eq!(values.len(), a * b * row, "as many values as the sizes say");
    let mut result = buffers::buffer(values.len());
    if row > 0 {
        let rows = result.par_chunks_mut(row).enumerate();
        rows.for_each(|(at, result)| {
            let from = (at % a * b + at / a) * row;
            result.copy_from_slice(&values[from..from + row]);
        });
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_has_its_place(outputs in 0_usize..20, inputs in 0_usize..20, taps in 0_usize..10) {
            let sizes = [outputs, inputs, taps];
            let usual: Vec<f32> = (0..outputs * inputs * taps).map(|at| at as f32).collect();
            let found = taps_first(&usual, sizes);
            for (at, value) in found.iter().enumerate() {
                let (tap, input, output) =
                    (at / (inputs * outputs), at / outputs % inputs, at % outputs);
                prop_assert_eq!(*value, usual[(output * inputs + input) * taps + tap]);
            }
            prop_assert_eq!(channels_first(&found, sizes), usual);
        }
    }
}
