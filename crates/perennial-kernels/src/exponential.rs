//! Exponentials and what is made of them, in forms that the compiler turns into vector code.

/// `e^x` to within a relative 4e-7; results below 1e-37 and above 1e38 stay there. NaN passes through.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LEAST: f32 = -87.0;
    const MOST: f32 = 88.0;
    /// Adding it rounds to whole numbers, which then are the lowest bits.
    const ROUNDING: f32 = 12_582_912.0;
    let x = if x < LEAST { LEAST } else { x };
    let x = if x > MOST { MOST } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDING;
    let power = shifted - ROUNDING;
    // In two parts, so that the difference is exact.
    let rest = x - power * 0.693_359_4 + power * 2.121_944_4e-4;
    let mut series = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        series = series * rest + coefficient;
    }
    let mantissa = series * rest * rest + rest + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUNDING.to_bits() as i32);
    mantissa * f32::from_bits(((exponent.wrapping_add(127)) << 23) as u32)
}

/// The share of a standard normal distribution below `x`, to within 4e-7, and its density there.
///
/// **Source**: Abramowitz and Stegun, 7.1.26.
#[inline(always)]
pub(crate) fn normal(x: f32) -> [f32; 2] {
    const TERMS: [f32; 5] = [
        1.061_405_4,
        -1.453_152,
        1.421_413_7,
        -0.284_496_74,
        0.254_829_6,
    ];
    let decay = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
    let mut series = 0.0;
    for term in TERMS {
        series = (series + term) * t;
    }
    let beyond = 0.5 * series * decay;
    let below = if x < 0.0 { beyond } else { 1.0 - beyond };
    // 1 / sqrt(2 pi)
    [below, 0.398_942_3 * decay]
}

/// Values that sums are kept in side by side: the order of a sum does not depend on the processor.
pub(crate) const SIDE_BY_SIDE: usize = 16;

/// Sum over `[f(0), f(1), ...]` of equally long slices.
#[inline(always)]
pub(crate) fn sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0; SIDE_BY_SIDE];
    let (whole_a, rest_a) = a.as_chunks::<SIDE_BY_SIDE>();
    let (whole_b, rest_b) = b.as_chunks::<SIDE_BY_SIDE>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f(*a, *b);
        }
    }
    let mut total = 0.0;
    for (a, b) in rest_a.iter().zip(rest_b) {
        total += f(*a, *b);
    }
    for sum in sums {
        total += sum;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_and_normal_shares_are_close_to_the_exact_ones() {
        for at in -8600..8700 {
            let x = at as f32 / 100.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) / exact - 1.0).abs();
            assert!(error < 4e-7, "e^{x}: {error}");
        }
        // Known values of the normal distribution.
        for (x, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746),
            (-1.0, 0.158_655_254),
            (2.5, 0.993_790_335),
            (-4.0, 3.167_124e-5),
        ] {
            let [below, density] = normal(x);
            assert!((f64::from(below) - expected).abs() < 4e-7, "{x}: {below}");
            let exact = (-0.5 * f64::from(x) * f64::from(x)).exp() / std::f64::consts::TAU.sqrt();
            assert!((f64::from(density) - exact).abs() < 1e-7, "{x}: {density}");
        }
        assert!(exp(f32::NAN).is_nan() && normal(f32::NAN)[0].is_nan());
        assert!(exp(-1e30) < 1e-37 && exp(1e30) > 1e38);
    }
}
