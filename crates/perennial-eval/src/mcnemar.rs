//! McNemar's test: do two results of the same queries differ by more than chance?

use serde::{Deserialize, Serialize};

/// The exact test of paired right and wrong answers. Only the queries whose answer changed matter: if neither side is better, each of
/// them is as likely to have changed to right as to wrong, so the number of one kind is binomial with probability 1/2.
///
/// **Source.** McNemar 1947; the mid-p variant as in Fagerland, Lydersen and Laake 2013.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Queries that only the new side answered rightly.
    pub positive_flips: u64,
    /// Queries that only the old side answered rightly.
    pub negative_flips: u64,
    /// Probability of flips at least as uneven in either direction, if neither side is better.
    pub exact_two_sided: f64,
    /// The same with the observed split counted half: less cautious, and closer to its nominal level.
    pub mid_p_two_sided: f64,
    /// Probability of at least as many positive flips, if neither side is better. Small values speak for a new side that is not worse.
    pub exact_one_sided_not_worse: f64,
}

impl McNemar {
    /// The test of these counts.
    pub fn new(positive_flips: u64, negative_flips: u64) -> Self {
        let flips = positive_flips.saturating_add(negative_flips);
        let fewer = positive_flips.min(negative_flips);
        let tail = at_most(flips, fewer);
        // At least `positive` of one kind is, by symmetry, at most `negative` of it.
        let one_sided = at_most(flips, negative_flips);
        Self {
            positive_flips,
            negative_flips,
            exact_two_sided: (2.0 * tail).min(1.0),
            mid_p_two_sided: (2.0 * tail - ln_probability(flips, fewer).exp()).clamp(0.0, 1.0),
            exact_one_sided_not_worse: one_sided,
        }
    }
}

/// `P(X <= k)` for the number of heads in `n` tosses of a fair coin, `k <= n`.
fn at_most(n: u64, k: u64) -> f64 {
    if k >= n {
        return 1.0;
    }
    if k > n - k {
        // The complement is the smaller tail of the other side.
        return 1.0 - at_most(n, n - k - 1);
    }
    // Relative to the largest term, which is the last one: each earlier term is smaller by i / (n - i + 1).
    let (mut term, mut sum) = (1.0, 1.0);
    let mut i = k;
    while i > 0 && term > sum * 1e-18 {
        term *= i as f64 / (n - i + 1) as f64;
        sum += term;
        i -= 1;
    }
    (ln_probability(n, k) + f64::ln(sum)).exp().min(1.0)
}

/// `ln P(X = k)` for a fair coin, in the saddle-point form: the logarithms of the large factorials cancel before they are taken, so the
/// result is exact to rounding for any count.
///
/// **Source.** Loader, Fast and Accurate Computation of Binomial Probabilities, 2000.
fn ln_probability(n: u64, k: u64) -> f64 {
    let total = n as f64;
    if k == 0 || k == n {
        return -total * std::f64::consts::LN_2;
    }
    let (heads, tails) = (k as f64, (n - k) as f64);
    let half = total / 2.0;
    let scale = 0.5 * (total / (2.0 * std::f64::consts::PI * heads * tails)).ln();
    stirling_error(total)
        - stirling_error(heads)
        - stirling_error(tails)
        - deviance(heads, half)
        - deviance(tails, half)
        + scale
}

/// `ln n!` less Stirling's formula for it.
fn stirling_error(n: f64) -> f64 {
    if n <= 16.0 {
        let factorial: f64 = (1..=n as u32).map(f64::from).product();
        let stirling = (n + 0.5) * n.ln() - n + 0.5 * (2.0 * std::f64::consts::PI).ln();
        return factorial.ln() - stirling;
    }
    let inverse = 1.0 / (n * n);
    (1.0 / 12.0
        - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - inverse / 1188.0) * inverse) * inverse)
            * inverse)
        / n
}

/// `x ln(x / mean) + mean - x`, without cancellation where `x` is close to the mean.
fn deviance(x: f64, mean: f64) -> f64 {
    let difference = x - mean;
    let v = difference / (x + mean);
    if v.abs() >= 0.1 {
        return x * (x / mean).ln() - difference;
    }
    // ln(x / mean) = 2 artanh(v), whose first term is difference * 2 / (x + mean).
    let square = v * v;
    let mut power = 2.0 * x * v;
    let mut sum = difference * v;
    for j in 1u32.. {
        power *= square;
        let next = sum + power / f64::from(2 * j + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(found: f64, expected: f64, tolerance: f64) -> bool {
        (found - expected).abs() <= tolerance * expected.abs().max(1e-300)
    }

    /// By adding binomial coefficients that fit into a double exactly.
    fn plainly(n: u64, k: u64) -> f64 {
        let mut coefficient = 1.0f64;
        let mut sum = 0.0;
        for i in 0..=k {
            sum += coefficient;
            coefficient = coefficient * (n - i) as f64 / (i + 1) as f64;
        }
        sum / 2f64.powi(n as i32)
    }

    proptest! {
        #[test]
        fn tails_agree_with_adding_up(n in 1u64..52, share in 0.0f64..1.0) {
            let k = (share * n as f64) as u64;
            prop_assert!(near(at_most(n, k), plainly(n, k), 1e-12), "{n} {k}");
        }

        #[test]
        fn both_sides_add_up(positive in 0u64..3000, negative in 0u64..3000) {
            let better = McNemar::new(positive, negative);
            let worse = McNemar::new(negative, positive);
            prop_assert_eq!(better.exact_two_sided, worse.exact_two_sided);
            // Together the one-sided tails count the observed split twice.
            let both = better.exact_one_sided_not_worse + worse.exact_one_sided_not_worse;
            let split = ln_probability(positive + negative, positive).exp();
            prop_assert!((both - 1.0 - split).abs() < 1e-11, "{both} {split}");
            prop_assert!(better.mid_p_two_sided <= better.exact_two_sided);
        }
    }

    #[test]
    fn no_flips_say_nothing() {
        let none = McNemar::new(0, 0);
        assert_eq!(
            (
                none.exact_two_sided,
                none.mid_p_two_sided,
                none.exact_one_sided_not_worse
            ),
            (1.0, 1.0, 1.0)
        );
        assert!((McNemar::new(5, 5).mid_p_two_sided - 1.0).abs() < 1e-12);
    }

    #[test]
    fn large_counts_follow_the_normal_approximation() {
        // 2 standard deviations of a million flips, with continuity correction.
        let found = McNemar::new(501_000, 499_000).exact_two_sided;
        assert!((found - 0.045_608).abs() < 3e-6, "{found}");
        let huge = McNemar::new(500_000_000_000, 499_998_000_000);
        assert!((huge.exact_two_sided - 0.045_5).abs() < 1e-4, "{huge:?}");
        let certain = McNemar::new(4_000_000_000, 3_000_000_000);
        assert_eq!(
            (certain.exact_two_sided, certain.exact_one_sided_not_worse),
            (0.0, 0.0)
        );
        assert_eq!(McNemar::new(0, u64::MAX).exact_one_sided_not_worse, 1.0);
    }
}
