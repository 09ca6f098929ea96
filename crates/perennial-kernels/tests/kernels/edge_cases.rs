//! Kernels of nothing, and of values that are no numbers.

use perennial_kernels::{Convolution, Epilogue, MaxPool, max_pool, max_pool_backward, normalize};

use crate::comparison::values;

#[test]
fn empty_batches_and_maps_are_no_error() {
    let none = Convolution {
        batch: 0,
        in_channels: 16,
        out_channels: 64,
        input: [8, 8],
        kernel: [3, 3],
        stride: 1,
        padding: 1,
        dilation: 1,
        groups: 1,
    };
    let first = Convolution {
        in_channels: 3,
        ..none
    };
    let outside = Convolution {
        batch: 1,
        input: [2, 2],
        padding: 0,
        ..none
    };
    let grouped = Convolution { groups: 4, ..none };
    for g in [none, first, outside, grouped] {
        let (x, w) = (values(g.input_len(), 1), values(g.weight_len(), 2));
        g.forward(&x, &w, None, &mut []);
        let mut x_gradient = vec![9.0; x.len()];
        g.input_gradient(&[], &w, None, &mut x_gradient);
        assert!(x_gradient.iter().all(|&value| value == 0.0));
        let mut w_gradient = vec![9.0; w.len()];
        g.weight_gradient(&x, &[], &mut w_gradient);
        assert!(w_gradient.iter().all(|&value| value == 0.0));
    }
    let pool = MaxPool {
        input: [4, 4],
        kernel: 3,
        stride: 2,
        padding: 1,
    };
    let (output, winners) = max_pool(&pool, &[], 0);
    assert!(output.is_empty() && max_pool_backward(&pool, &output, &winners, 0).is_empty());
}

#[test]
fn nan_passes_through_every_rectifier_and_pool() {
    let ones = [1.0; 1];
    let mut output = [0.0; 2];
    normalize(
        &[f32::NAN, 1.0],
        [&[0.0], &ones, &ones, &[0.0]],
        None,
        true,
        &mut output,
    );
    assert!(output[0].is_nan() && output[1] == 1.0);
    let pointwise = Convolution {
        batch: 2,
        in_channels: 1,
        out_channels: 1,
        input: [1, 1],
        kernel: [1, 1],
        stride: 1,
        padding: 0,
        dilation: 1,
        groups: 1,
    };
    let epilogue = Epilogue {
        shift: &[0.0],
        residual: None,
        relu: true,
    };
    pointwise.forward(&[f32::NAN, -1.0], &ones, Some(epilogue), &mut output);
    assert!(output[0].is_nan() && output[1] == 0.0);
    let pool = MaxPool {
        input: [1, 2],
        kernel: 3,
        stride: 2,
        padding: 1,
    };
    assert!(max_pool(&pool, &[f32::NAN, 1.0], 1).0[0].is_nan());
}
