//! The optimizer's step, in one pass over memory.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Values that one task changes.
const BLOCK: usize = 1 << 14;

/// `velocity = momentum * velocity + gradient + weight_decay * parameter`, then `parameter -= learning_rate * velocity`.
///
/// # Shapes
///
/// - parameter, velocity (both changed), gradient: the same number of values
/// - rates: momentum, weight decay, learning rate
pub fn sgd_step(
    parameter: &mut [f32],
    velocity: &mut [f32],
    gradient: &[f32],
    [momentum, weight_decay, learning_rate]: [f32; 3],
) {
    assert!(
        parameter.len() == gradient.len() && velocity.len() == gradient.len(),
        "one velocity and one gradient per parameter"
    );
    parameter
        .par_chunks_mut(BLOCK)
        .zip(velocity.par_chunks_mut(BLOCK))
        .zip(gradient.par_chunks(BLOCK))
        .for_each(|((parameter, velocity), gradient)| {
            arch().dispatch(Step {
                parameter,
                velocity,
                gradient,
                rates: [momentum, weight_decay, learning_rate],
            });
        });
}

struct Step<'a> {
    parameter: &'a mut [f32],
    velocity: &'a mut [f32],
    gradient: &'a [f32],
    rates: [f32; 3],
}

impl WithSimd for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let [momentum, weight_decay, learning_rate] = self.rates;
        let values = self.parameter.iter_mut().zip(self.velocity);
        for ((parameter, velocity), gradient) in values.zip(self.gradient) {
            *velocity = *velocity * momentum + (gradient + *parameter * weight_decay);
            *parameter -= *velocity * learning_rate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_equals_the_definition() {
        let count = BLOCK + 3;
        let value = |at: usize, factor: f32| ((at % 101) as f32 - 50.0) * factor;
        let mut parameter: Vec<f32> = (0..count).map(|at| value(at, 0.02)).collect();
        let mut velocity: Vec<f32> = (0..count).map(|at| value(at + 7, 0.3)).collect();
        let gradient: Vec<f32> = (0..count).map(|at| value(at + 31, 1.1)).collect();
        let (before, moved) = (parameter.clone(), velocity.clone());
        sgd_step(&mut parameter, &mut velocity, &gradient, [0.9, 5e-4, 0.1]);
        for at in 0..count {
            let expected = 0.9 * moved[at] + gradient[at] + 5e-4 * before[at];
            assert!((velocity[at] - expected).abs() < 1e-4);
            assert!((parameter[at] - (before[at] - 0.1 * expected)).abs() < 1e-4);
        }
    }
}
