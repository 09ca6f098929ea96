//! The kernels of transformers against their formulas in double precision, and their gradients against finite differences.

use perennial_kernels::{
    Attention, channel_sums, gelu, gelu_backward, layer_norm, layer_norm_backward,
};
use proptest::prelude::*;

use crate::comparison::{close, values};

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Compares some of the gradients of `weights . exact(inputs)` with finite differences.
fn slopes(
    inputs: &[Vec<f32>],
    weights: &[f32],
    exact: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    found: &[&[f32]],
) -> Result<(), TestCaseError> {
    let inputs: Vec<Vec<f64>> = inputs.iter().map(|values| wide(values)).collect();
    let weighted = |y: Vec<f64>| {
        y.iter()
            .zip(weights)
            .map(|(y, w)| y * f64::from(*w))
            .sum::<f64>()
    };
    for (input, found) in found.iter().enumerate() {
        prop_assert_eq!(found.len(), inputs[input].len());
        for at in [0, found.len() / 3, found.len() / 2, found.len() - 1] {
            let moved = |step: f64| {
                let mut moved = inputs.clone();
                moved[input][at] += step;
                weighted(exact(&moved))
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let error = (f64::from(found[at]) - slope).abs();
            prop_assert!(
                error < 2e-4 * (1.0 + slope.abs()),
                "input {} at {}: {} instead of {}",
                input,
                at,
                found[at],
                slope
            );
        }
    }
    Ok(())
}

fn exact_attention(g: &Attention, x: &[f64]) -> Vec<f64> {
    let of_head = g.dim / g.heads;
    let mut y = vec![0.0; g.tokens * g.batch * g.dim];
    for n in 0..g.batch {
        for h in 0..g.heads {
            let at = |t: usize, which: usize, c: usize| {
                x[(t * g.batch + n) * 3 * g.dim + which * g.dim + h * of_head + c]
            };
            for i in 0..g.tokens {
                let scores: Vec<f64> = (0..g.tokens)
                    .map(|j| {
                        (0..of_head).map(|c| at(i, 0, c) * at(j, 1, c)).sum::<f64>()
                            / (of_head as f64).sqrt()
                    })
                    .collect();
                let total: f64 = scores.iter().map(|score| score.exp()).sum();
                for c in 0..of_head {
                    y[(i * g.batch + n) * g.dim + h * of_head + c] = (0..g.tokens)
                        .map(|j| scores[j].exp() / total * at(j, 2, c))
                        .sum();
                }
            }
        }
    }
    y
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn attention_follows_its_formula_and_its_gradient_the_finite_differences(
        tokens in 1..21_usize, batch in 1..4_usize, heads in 1..4_usize, of_head in 1..20_usize, seed in 0..1000_u64,
    ) {
        let g = Attention { tokens, batch, heads, dim: heads * of_head };
        let x: Vec<f32> = values(tokens * batch * 3 * g.dim, seed).iter().map(|value| 2.0 * value).collect();
        let weights = values(tokens * batch * g.dim, seed + 1);
        let mut y = vec![f32::NAN; weights.len()];
        let paid = g.forward(&x, &mut y);
        close(&y, &exact_attention(&g, &wide(&x)), 1e-5)?;
        let mut again = vec![f32::NAN; weights.len()];
        g.apply(&x, &mut again);
        prop_assert_eq!(&again, &y);
        let found = g.backward(&x, &paid, &weights);
        slopes(&[x], &weights, |inputs| exact_attention(&g, &inputs[0]), &[&found])?;
    }

    #[test]
    fn layer_norm_follows_its_formula_and_its_gradients_the_finite_differences(
        rows in 1..600_usize, dim in 2..40_usize, seed in 0..1000_u64,
    ) {
        let inputs = [values(rows * dim, seed), values(dim, seed + 1), values(dim, seed + 2)];
        let weights = values(rows * dim, seed + 3);
        let exact = |inputs: &[Vec<f64>]| -> Vec<f64> {
            let normalized = inputs[0].chunks_exact(dim).flat_map(|row| {
                let mean = row.iter().sum::<f64>() / dim as f64;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / dim as f64;
                row.iter().map(|x| (x - mean) / (variance + 1e-2).sqrt()).collect::<Vec<_>>()
            });
            normalized.enumerate().map(|(at, x)| x * inputs[1][at % dim] + inputs[2][at % dim]).collect()
        };
        let mut y = vec![f32::NAN; rows * dim];
        let statistics = layer_norm(&inputs[0], [&inputs[1], &inputs[2]], 1e-2, &mut y);
        let expected: Vec<Vec<f64>> = inputs.iter().map(|values| wide(values)).collect();
        close(&y, &exact(&expected), 1e-5)?;
        let found = layer_norm_backward(&inputs[0], &statistics, &inputs[1], &weights);
        slopes(&inputs, &weights, exact, &[&found.values, &found.gamma, &found.beta])?;
    }
}

/// The share of a standard normal distribution below `x`, by its series.
fn normal(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / (2.0 * f64::from(n));
        sum += term / (2.0 * f64::from(n) + 1.0);
    }
    0.5 + sum / std::f64::consts::TAU.sqrt()
}

#[test]
fn gelu_follows_its_formula_and_its_gradient_the_finite_differences() {
    let x: Vec<f32> = (-500..=500).map(|at| at as f32 / 100.0).collect();
    let mut y = vec![0.0; x.len()];
    gelu(&x, &mut y);
    let mut gradient = vec![2.0; x.len()];
    gelu_backward(&x, &mut gradient);
    for ((x, y), gradient) in x.iter().zip(&y).zip(&gradient) {
        let x = f64::from(*x);
        assert!((f64::from(*y) - x * normal(x)).abs() < 2e-6, "{x}: {y}");
        let slope = ((x + 1e-5) * normal(x + 1e-5) - (x - 1e-5) * normal(x - 1e-5)) / 1e-5;
        assert!(
            (f64::from(*gradient) - slope).abs() < 1e-5,
            "{x}: {gradient} instead of {slope}"
        );
    }
    let mut y = [0.0];
    gelu(&[f32::NAN], &mut y);
    assert!(y[0].is_nan());
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let g = Attention {
        tokens: 17,
        batch: 5,
        heads: 2,
        dim: 32,
    };
    let x = values(17 * 5 * 96, 1);
    let gradient = values(17 * 5 * 32, 2);
    let run = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(|| {
                let mut y = vec![0.0; gradient.len()];
                let paid = g.forward(&x, &mut y);
                let back = g.backward(&x, &paid, &gradient);
                let long = values(1000 * 32, 3);
                let mut normalized = vec![0.0; long.len()];
                let statistics = layer_norm(&long, [&x[..32], &x[32..64]], 1e-6, &mut normalized);
                let gradients = layer_norm_backward(&long, &statistics, &x[..32], &normalized);
                (
                    y,
                    back,
                    channel_sums(&long, 32),
                    gradients.values,
                    gradients.gamma,
                    gradients.beta,
                )
            })
    };
    assert_eq!(run(1), run(3));
}
