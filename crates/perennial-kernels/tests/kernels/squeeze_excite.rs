//! Squeeze and excitation against its formula in double precision, and its gradients against finite differences.

use perennial_kernels::{GateLayers, SqueezeExcite};
use proptest::prelude::*;

use crate::comparison::{close, values};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn excitation_follows_its_formula_and_its_gradients_the_finite_differences(
        positions in 1..7_usize, batch in 1..6_usize, channels in 1..20_usize, squeezed in 1..5_usize, relu: bool, seed in 0..1000_u64,
    ) {
        let layer = SqueezeExcite { positions, batch, channels, squeezed };
        let len = positions * batch * channels;
        let shapes = [len, channels * squeezed, squeezed, squeezed * channels, channels, len];
        let inputs: Vec<Vec<f32>> = shapes.iter().enumerate().map(|(at, &len)| values(len, seed + at as u64)).collect();
        let weights = values(len, seed + 6);
        // The whole layer in f64, as a function of all its inputs.
        let exact = |inputs: &[Vec<f64>]| -> Vec<f64> {
            let [x, first, first_bias, second, second_bias, residual] = inputs else { unreachable!() };
            let mut y = vec![0.0; len];
            for n in 0..batch {
                let at = |p: usize, c: usize| (p * batch + n) * channels + c;
                let mean: Vec<f64> = (0..channels).map(|c| (0..positions).map(|p| x[at(p, c)]).sum::<f64>() / positions as f64).collect();
                let hidden: Vec<f64> = (0..squeezed)
                    .map(|h| (first_bias[h] + (0..channels).map(|c| mean[c] * first[c * squeezed + h]).sum::<f64>()).max(0.0))
                    .collect();
                for c in 0..channels {
                    let z = second_bias[c] + (0..squeezed).map(|h| hidden[h] * second[h * channels + c]).sum::<f64>();
                    let gate = 1.0 / (1.0 + (-z).exp());
                    for p in 0..positions {
                        let sum = x[at(p, c)] * gate + residual[at(p, c)];
                        y[at(p, c)] = if relu { sum.max(0.0) } else { sum };
                    }
                }
            }
            y
        };
        let wide: Vec<Vec<f64>> = inputs.iter().map(|values| values.iter().map(|&value| f64::from(value)).collect()).collect();
        let layers = GateLayers { first: &inputs[1], first_bias: &inputs[2], second: &inputs[3], second_bias: &inputs[4] };
        let mut y = vec![9.0; len];
        let gates = layer.forward(&inputs[0], layers, Some(&inputs[5]), relu, &mut y);
        close(&y, &exact(&wide), 1e-5)?;
        let found = layer.backward(&inputs[0], &gates, layers, relu.then_some(&y[..]), weights.clone());
        let found = [&found.map, &found.first, &found.first_bias, &found.second, &found.second_bias, &found.residual];
        let weighted = |y: &[f64]| y.iter().zip(&weights).map(|(y, w)| y * f64::from(*w)).sum::<f64>();
        for (input, found) in found.iter().enumerate() {
            prop_assert_eq!(found.len(), shapes[input]);
            for at in [0, found.len() / 2, found.len() - 1] {
                let (mut up, mut down) = (wide.clone(), wide.clone());
                up[input][at] += 1e-6;
                down[input][at] -= 1e-6;
                let (up, down) = (exact(&up), exact(&down));
                // At a kink of a ReLU there is no derivative to compare with.
                if relu && up.iter().zip(&down).any(|(up, down)| (*up > 0.0) != (*down > 0.0)) { continue; }
                let slope = (weighted(&up) - weighted(&down)) / 2e-6;
                prop_assert!((f64::from(found[at]) - slope).abs() < 1e-3 * (1.0 + slope.abs()), "input {}: {} instead of {}", input, found[at], slope);
            }
        }
    }
}
