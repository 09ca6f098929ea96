//! The kernels against direct sums, over random geometries.

use perennial_kernels::{
    Convolution, Epilogue, FrozenConvolution, MaxPool, Rectified, batch_statistics, max_pool,
    max_pool_backward, normalize, normalize_backward,
};
use proptest::prelude::*;

use crate::comparison::{close, values};

fn geometry() -> impl Strategy<Value = Convolution> {
    let sizes = (
        1..=9_usize,
        1..=9_usize,
        1..=70_usize,
        1..=11_usize,
        1..=40_usize,
    );
    let groups = prop_oneof![3 => Just(1_usize), 2 => 2..=5_usize];
    (
        (sizes, groups),
        1..=4_usize,
        1..=4_usize,
        1..=3_usize,
        0..=3_usize,
        1..=2_usize,
    )
        .prop_map(
            |(
                ((height, width, batch, inputs, outputs), groups),
                kernel_y,
                kernel_x,
                stride,
                padding,
                dilation,
            )| {
                Convolution {
                    batch: batch.div_ceil(groups),
                    in_channels: inputs * groups,
                    out_channels: outputs * groups,
                    input: [height, width],
                    kernel: [kernel_y, kernel_x],
                    stride,
                    padding,
                    dilation,
                    groups,
                }
            },
        )
        .prop_filter("the kernel fits the map", |geometry| {
            geometry.output().iter().all(|&side| side > 0)
        })
}

/// Calls `each(input index, weight index, output index)` for every product that the convolution sums.
fn products(g: &Convolution, mut each: impl FnMut(usize, usize, usize)) {
    let [out_height, out_width] = g.output();
    for oy in 0..out_height {
        for ox in 0..out_width {
            for ky in 0..g.kernel[0] {
                for kx in 0..g.kernel[1] {
                    let (y, x) = (
                        oy * g.stride + ky * g.dilation,
                        ox * g.stride + kx * g.dilation,
                    );
                    if y < g.padding
                        || x < g.padding
                        || y - g.padding >= g.input[0]
                        || x - g.padding >= g.input[1]
                    {
                        continue;
                    }
                    let slab = (y - g.padding) * g.input[1] + x - g.padding;
                    for n in 0..g.batch {
                        for o in 0..g.out_channels {
                            let of_group = g.in_channels / g.groups;
                            let first = o / (g.out_channels / g.groups) * of_group;
                            for i in 0..of_group {
                                let weight =
                                    ((ky * g.kernel[1] + kx) * of_group + i) * g.out_channels + o;
                                let output =
                                    ((oy * out_width + ox) * g.batch + n) * g.out_channels + o;
                                let input = (slab * g.batch + n) * g.in_channels + first + i;
                                each(input, weight, output);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Maps and channels of a size at which Winograd's transform takes over, in whole and in cut tiles.
fn transformed_geometry() -> impl Strategy<Value = Convolution> {
    let channels = prop_oneof![
        Just([64, 64]),
        Just([128, 64]),
        Just([64, 128]),
        Just([96, 32]),
        Just([32, 96])
    ];
    (12..=13_usize, 10..=13_usize, 6..=8_usize, channels).prop_map(
        |(height, width, batch, [in_channels, out_channels])| Convolution {
            batch,
            in_channels,
            out_channels,
            input: [height, width],
            kernel: [3, 3],
            stride: 1,
            padding: 1,
            dilation: 1,
            groups: 1,
        },
    )
}

fn equals_the_direct_sums(g: &Convolution, seed: u64, tolerance: f64) -> Result<(), TestCaseError> {
    let (x, w, gradient) = (
        values(g.input_len(), seed),
        values(g.weight_len(), seed + 1),
        values(g.output_len(), seed + 2),
    );
    let mut y = vec![0.0; g.output_len()];
    let mut x_gradient = vec![0.0; g.input_len()];
    let mut w_gradient = vec![0.0; g.weight_len()];
    products(g, |i, k, o| {
        y[o] += f64::from(x[i]) * f64::from(w[k]);
        x_gradient[i] += f64::from(gradient[o]) * f64::from(w[k]);
        w_gradient[k] += f64::from(gradient[o]) * f64::from(x[i]);
    });
    // Buffers that are used again hold NaN from here on: what is not written over shows.
    let poison = |len: usize| vec![f32::NAN; len];
    let (mut nx, mut nw, mut ny) = (poison(x.len()), poison(w.len()), poison(gradient.len()));
    g.forward(&nx.clone(), &nw.clone(), None, &mut ny);
    g.input_gradient(&ny, &nw, None, &mut nx);
    g.weight_gradient(&nx, &ny, &mut nw);
    let mut found = vec![9.0; g.output_len()];
    g.forward(&x, &w, None, &mut found);
    close(&found, &y, tolerance)?;

    let (shift, residual) = (
        values(g.out_channels, seed + 3),
        values(g.output_len(), seed + 4),
    );
    let with_epilogue: Vec<f64> = y
        .iter()
        .enumerate()
        .map(|(at, y)| {
            (y + f64::from(shift[at % g.out_channels]) + f64::from(residual[at])).max(0.0)
        })
        .collect();
    g.forward(
        &x,
        &w,
        Some(Epilogue {
            shift: &shift,
            residual: Some(&residual),
            relu: true,
        }),
        &mut found,
    );
    close(&found, &with_epilogue, tolerance)?;

    let mut found = vec![9.0; g.input_len()];
    g.input_gradient(&gradient, &w, None, &mut found);
    close(&found, &x_gradient, tolerance)?;
    let earlier = values(g.input_len(), seed + 5);
    for (sum, earlier) in x_gradient.iter_mut().zip(&earlier) {
        *sum += f64::from(*earlier);
    }
    found.fill(9.0);
    g.input_gradient(&gradient, &w, Some(&earlier), &mut found);
    close(&found, &x_gradient, tolerance)?;
    let mut found = vec![9.0; g.weight_len()];
    g.weight_gradient(&x, &gradient, &mut found);
    close(&found, &w_gradient, tolerance.max(1e-4))?;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn large_convolutions_and_both_gradients_equal_the_direct_sums(g in transformed_geometry(), seed in 0..1000_u64) {
        // Values here deviate by 8 to 12 and are sums of over 500 products; transforms add roundings. The bound is 3e-5 of that deviation, also
        // for sums that come out near 0.
        equals_the_direct_sums(&g, seed, 3e-4)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn convolutions_of_2x2_maps_equal_the_direct_sums(
        batch in 32..=80_usize, inputs in 1..=3_usize, outputs in 1..=3_usize, seed in 0..1000_u64,
    ) {
        let g = Convolution {
            batch,
            in_channels: 32 * inputs,
            out_channels: 32 * outputs,
            input: [2, 2],
            kernel: [3, 3],
            stride: 1,
            padding: 1,
            dilation: 1,
            groups: 1,
        };
        prop_assert!(g.operations().forward < g.operations().direct / 2.0);
        equals_the_direct_sums(&g, seed, 5e-5)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn convolution_and_both_gradients_equal_the_direct_sums(g in geometry(), seed in 0..1000_u64) {
        equals_the_direct_sums(&g, seed, 2e-5)?;
    }

    #[test]
    fn normalisation_follows_its_formula_and_its_gradient_the_finite_differences(
        rows in 2..600_usize, channels in 1..20_usize, relu: bool, seed in 0..1000_u64,
    ) {
        let x: Vec<f32> = values(rows * channels, seed);
        let (gamma, beta) = (values(channels, seed + 1), values(channels, seed + 2));
        let residual = values(x.len(), seed + 3);
        let gradient = values(x.len(), seed + 4);
        // The whole layer in f64, as a function of its input.
        let exact = |x: &[f64]| -> (Vec<f64>, Vec<f64>, Vec<f64>) {
            let mut mean = vec![0.0; channels];
            let mut variance = vec![0.0; channels];
            for (at, x) in x.iter().enumerate() { mean[at % channels] += x / rows as f64; }
            for (at, x) in x.iter().enumerate() { variance[at % channels] += (x - mean[at % channels]).powi(2) / rows as f64; }
            let y = x.iter().enumerate().map(|(at, x)| {
                let c = at % channels;
                let y = (x - mean[c]) / (variance[c] + 1e-5).sqrt() * f64::from(gamma[c]) + f64::from(beta[c]) + f64::from(residual[at]);
                if relu { y.max(0.0) } else { y }
            }).collect();
            (y, mean, variance)
        };
        let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let (y, mean, variance) = exact(&wide);
        let (found_mean, found_variance) = batch_statistics(&x, channels);
        close(&found_mean, &mean, 1e-5)?;
        close(&found_variance, &variance, 1e-5)?;
        let inverse: Vec<f32> = found_variance.iter().map(|v| 1.0 / (v + 1e-5).sqrt()).collect();
        let mut output = vec![0.0; x.len()];
        normalize(&x, [&found_mean, &inverse, &gamma, &beta], Some(&residual), relu, &mut output);
        // Two rows can be so alike that the deviation vanishes and amplifies rounding.
        if variance.iter().any(|&variance| variance < 1e-3) { return Ok(()); }
        close(&output, &y, 1e-3)?;

        let rectified = if relu { Rectified::Output(&output) } else { Rectified::Nowhere };
        let found = normalize_backward(&x, [&found_mean, &inverse, &gamma], rectified, gradient.clone(), true);
        let weighted = |y: &[f64]| y.iter().zip(&gradient).map(|(y, g)| y * f64::from(*g)).sum::<f64>();
        for at in [0, x.len() / 2, x.len() - 1] {
            let mut moved = wide.clone();
            let step = 1e-6;
            moved[at] += step;
            let up = exact(&moved).0;
            moved[at] -= 2.0 * step;
            let down = exact(&moved).0;
            // At a kink of the ReLU there is no derivative to compare with.
            if relu && up.iter().zip(&down).any(|(up, down)| (*up > 0.0) != (*down > 0.0)) { continue; }
            let slope = (weighted(&up) - weighted(&down)) / (2.0 * step);
            let error = (f64::from(found.values[at]) - slope).abs();
            prop_assert!(error < 5e-3 * (1.0 + slope.abs()), "{} instead of {}", found.values[at], slope);
        }
        let residual = found.residual.clone().unwrap_or_default();
        prop_assert_eq!(residual.len(), gradient.len());
        for (at, masked) in residual.iter().enumerate() {
            let expected = if relu && output[at] <= 0.0 { 0.0 } else { gradient[at] };
            prop_assert_eq!(*masked, expected);
        }
        let summed: Vec<f64> = (0..channels).map(|c| residual.iter().skip(c).step_by(channels).map(|&g| f64::from(g)).sum()).collect();
        close(&found.beta, &summed, 1e-4)?;

        // Where nothing is added, the norm computed again says where the ReLU was shut: to the bit what the output says.
        normalize(&x, [&found_mean, &inverse, &gamma, &beta], None, relu, &mut output);
        let backward = |rectified| normalize_backward(&x, [&found_mean, &inverse, &gamma], rectified, gradient.clone(), true);
        let (by_output, by_shift) = (backward(Rectified::Output(&output)), backward(Rectified::Shift(&beta)));
        if relu {
            prop_assert_eq!(by_output.residual, by_shift.residual);
            prop_assert_eq!(by_output.values, by_shift.values);
        }
    }

    #[test]
    fn pooling_takes_the_largest_and_sends_gradients_back_to_it(
        height in 1..9_usize, width in 1..9_usize, slab in 1..20_usize, seed in 0..1000_u64,
    ) {
        let pool = MaxPool { input: [height, width], kernel: 3, stride: 2, padding: 1 };
        let x = values(height * width * slab, seed);
        let (y, winners) = max_pool(&pool, &x, slab);
        let gradient = values(y.len(), seed + 1);
        let mut expected_gradient = vec![0.0_f64; x.len()];
        let [out_height, out_width] = pool.output();
        for oy in 0..out_height {
            for ox in 0..out_width {
                for s in 0..slab {
                    let window = (0..9).filter_map(|k| {
                        let (y, x) = (oy * 2 + k / 3, ox * 2 + k % 3);
                        (y >= 1 && x >= 1 && y <= height && x <= width).then(|| ((y - 1) * width + x - 1) * slab + s)
                    });
                    let best = window.fold(None, |best: Option<usize>, at| match best {
                        Some(best) if x[best] >= x[at] => Some(best),
                        _ => Some(at),
                    }).unwrap();
                    let out = (oy * out_width + ox) * slab + s;
                    prop_assert_eq!(y[out], x[best]);
                    expected_gradient[best] += f64::from(gradient[out]);
                }
            }
        }
        close(&max_pool_backward(&pool, &gradient, &winners, slab), &expected_gradient, 1e-5)?;
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let small = Convolution {
        batch: 70,
        in_channels: 5,
        out_channels: 37,
        input: [6, 5],
        kernel: [3, 3],
        stride: 1,
        padding: 1,
        dilation: 1,
        groups: 1,
    };
    let large = Convolution {
        batch: 40,
        in_channels: 64,
        out_channels: 64,
        input: [9, 8],
        ..small
    };
    let first = Convolution {
        in_channels: 3,
        stride: 2,
        ..small
    };
    let grouped = Convolution {
        in_channels: 48,
        out_channels: 48,
        groups: 6,
        ..small
    };
    let two_by_two = Convolution {
        input: [2, 2],
        ..large
    };
    for g in [small, large, first, grouped, two_by_two] {
        let (x, w) = (values(g.input_len(), 1), values(g.weight_len(), 2));
        let run = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
                .install(|| {
                    let mut y = vec![0.0; g.output_len()];
                    g.forward(&x, &w, None, &mut y);
                    let mut gradients = [vec![0.0; g.weight_len()], vec![0.0; g.input_len()]];
                    g.weight_gradient(&x, &y, &mut gradients[0]);
                    g.input_gradient(&y, &w, None, &mut gradients[1]);
                    let statistics = batch_statistics(&y, g.out_channels);
                    (y, gradients, statistics)
                })
        };
        assert_eq!(run(1), run(3));
    }
}

#[test]
fn a_frozen_convolution_gives_an_image_the_same_values_in_any_batch() {
    let tapped = Convolution {
        batch: 7,
        in_channels: 64,
        out_channels: 128,
        input: [9, 7],
        kernel: [3, 3],
        stride: 1,
        padding: 0,
        dilation: 1,
        groups: 1,
    };
    let transformed = Convolution {
        out_channels: 64,
        input: [9, 8],
        padding: 1,
        ..tapped
    };
    let first = Convolution {
        in_channels: 3,
        kernel: [7, 7],
        stride: 2,
        padding: 3,
        ..tapped
    };
    let grouped = Convolution {
        out_channels: 64,
        groups: 8,
        stride: 2,
        ..tapped
    };
    let two_by_two = Convolution {
        batch: 40,
        input: [2, 2],
        padding: 1,
        ..tapped
    };
    for g in [tapped, transformed, first, grouped, two_by_two] {
        let (x, w) = (values(g.input_len(), 1), values(g.weight_len(), 2));
        let (shift, residual) = (values(g.out_channels, 3), values(g.output_len(), 4));
        let frozen = FrozenConvolution::new(g, &w, shift.clone(), true);
        let found = frozen.forward(g.batch, &x, Some(&residual));
        let mut expected = vec![0.0; g.output_len()];
        let epilogue = Epilogue {
            shift: &shift,
            residual: Some(&residual),
            relu: true,
        };
        g.forward(&x, &w, Some(epilogue), &mut expected);
        assert_eq!(found, expected);
        for image in [0, 6] {
            let alone = |values: &[f32], channels: usize| -> Vec<f32> {
                let images = values.chunks_exact(channels).skip(image).step_by(g.batch);
                images.flatten().copied().collect()
            };
            let residual = alone(&residual, g.out_channels);
            let found = frozen.forward(1, &alone(&x, g.in_channels), Some(&residual));
            assert_eq!(found, alone(&expected, g.out_channels));
        }
    }
}
